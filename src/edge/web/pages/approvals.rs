//! `/approvals`: what waits for me, the most urgent first.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use super::request::shorter_than;
use crate::{
    broker::{input::Paging, view::RequestView},
    edge::{
        inbound::{problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            marks::{About, RequestCard, Taken},
            visit::{Fields, Visitor},
            words,
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 15;

struct Row {
    card: RequestCard,
    about: Option<About>,
    taken: Option<Taken>,
    /// It is mine, or I have decided already, or policy wants somebody else.
    mine: bool,
    shorter: Vec<(u32, String)>,
}

#[derive(Template)]
#[template(path = "approvals.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
    /// How long a decision usually takes; for an empty inbox.
    usual_wait: Option<String>,
}

/// `GET /approvals`.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let (now, policy) = (broker.now(), broker.policy());
    let paging = Paging { after: given.get("after").map(str::to_owned), limit: Some(ROWS) };
    let found = broker.urgent(ctx, paging).await?;
    let row = |view: &RequestView| {
        let card = RequestCard::of(view, &policy, now);
        Row {
            about: view.context.as_ref().map(About::of),
            taken: view.taken_up.as_ref().map(|t| Taken::of(t, ctx, now)),
            mine: view.can_decide != Some(true),
            shorter: shorter_than(card.seconds),
            card,
        }
    };
    let wait = if found.items.is_empty() { broker.usual_wait(ctx).await? } else { None };
    let page_of = Page {
        usual_wait: wait.map(|wait| words::span(wait.as_secs().max(1))),
        rows: found.items.iter().map(row).collect(),
        next: found.next,
        frame: visitor.frame("Approvals", "/approvals").await?,
    };
    page(&page_of)
}
