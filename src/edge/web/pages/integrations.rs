//! `/integrations`: what was told to whom outside, what they answered, and telling it again.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use crate::{
    broker::{input::Paging, view::DeliveryView},
    domain::id::MessageId,
    edge::{
        inbound::{call::carry_through, path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page, see_other},
            visit::{Fields, Posted, Visitor},
            words::{self, When},
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 50;

/// A receiver, as the deliveries of this page show it.
struct Receiver {
    name: String,
    waiting: usize,
    failed: Option<String>,
}

struct Row {
    view: DeliveryView,
    at: When,
    next: Option<When>,
    label: &'static str,
    tone: &'static str,
    icon: &'static str,
}

#[derive(Template)]
#[template(path = "integrations.html")]
struct Page {
    frame: Frame,
    slack: Option<String>,
    receivers: Vec<Receiver>,
    rows: Vec<Row>,
    next: Option<String>,
    admin: bool,
}

/// `GET /integrations`.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let now = broker.now();
    let found =
        broker.deliveries(ctx, Paging { after: given.get("after").map(str::to_owned), limit: Some(ROWS) }).await?;
    let receivers = broker.settings().notifiers.iter().map(|name| {
        let theirs = || found.items.iter().filter(|d| d.notifier == *name);
        Receiver {
            name: name.clone(),
            waiting: theirs().filter(|d| d.state == "waiting").count(),
            failed: theirs().find_map(|d| d.last_error.clone()),
        }
    });
    let slack = broker.settings().slack.as_ref().map(|s| {
        let first = match &s.on_call_group {
            Some(group) => format!("Members of {group} are asked at once by direct message"),
            None => "Small groups are asked at once by direct message".to_owned(),
        };
        let span = |d: std::time::Duration| words::span(d.as_secs());
        format!(
            "{first}; everybody who may decide after {}; nobody more often than every {}; {} never.",
            span(s.escalate_after),
            span(s.remind_every),
            s.quiet.len()
        )
    });
    let receivers: Vec<Receiver> = receivers.collect();
    let row = |view: DeliveryView| {
        let (label, tone, icon) = match view.state.as_str() {
            "delivered" => ("Delivered", "green", "check"),
            "waiting" => ("Waiting", "amber", "clock"),
            _ => ("Given up", "coral", "cross"),
        };
        let at = words::when_of(now, &view.at);
        Row { at, next: view.next_try.as_deref().map(|t| words::when_of(now, t)), label, tone, icon, view }
    };
    let page_of = Page {
        frame: visitor.frame("Integrations", "/integrations").await?,
        slack,
        receivers,
        rows: found.items.into_iter().map(row).collect(),
        next: found.next,
        admin: ctx.is_admin(),
    };
    page(&page_of)
}

/// `POST /integrations/{id}/replay`.
pub async fn replay(
    State(edge): State<Edge>,
    PathId(id): PathId<MessageId>,
    posted: Posted,
) -> Result<Response, Problem> {
    carry_through(async move { edge.broker.replay_delivery(&posted.visitor.ctx, id).await }).await?;
    see_other("/integrations?said=told-again")
}
