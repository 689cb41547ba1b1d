//! `/`: what I hold now, what waits, what was.

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::State, response::Response};

use crate::{
    broker::input::{Paging, RequestQuery, Role},
    domain::request::RequestState,
    edge::{
        inbound::{problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            marks::{GrantCard, RequestCard, title_of},
            visit::Visitor,
        },
    },
};

/// Rows of each list.
const ROWS: u32 = 12;
/// Suggestions when nothing is held.
const SUGGESTIONS: usize = 3;

#[derive(Template)]
#[template(path = "my_access.html")]
struct Page {
    frame: Frame,
    grants: Vec<GrantCard>,
    pending: Vec<RequestCard>,
    recent: Vec<RequestCard>,
    suggestions: Vec<(String, String)>,
}

/// `GET /`.
pub async fn handler(State(edge): State<Edge>, visitor: Visitor) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let now = broker.now();
    let policy = broker.policy();
    let me = broker.me(ctx).await?;
    let grants = me.grants.iter().map(|g| GrantCard::of(g, &policy, ctx, now)).collect();
    let query =
        |state| RequestQuery { state, role: Some(Role::Requester), page: Paging { after: None, limit: Some(ROWS) } };
    let pending = broker.requests(ctx, query(Some(RequestState::Pending))).await?.items;
    let all = broker.requests(ctx, query(None)).await?.items;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for id in all.iter().flat_map(|r| &r.entitlements) {
        *counts.entry(id.as_str()).or_default() += 1;
    }
    let mut often: Vec<(&str, usize)> = counts.into_iter().collect();
    often.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let page_of = Page {
        frame: visitor.frame("My access", "/").await?,
        grants,
        pending: pending.iter().map(|r| RequestCard::of(r, &policy, now)).collect(),
        recent: all
            .iter()
            .filter(|r| r.state != RequestState::Pending)
            .map(|r| RequestCard::of(r, &policy, now))
            .collect(),
        suggestions: often.iter().take(SUGGESTIONS).map(|(id, _)| ((*id).to_owned(), title_of(&policy, id))).collect(),
    };
    page(&page_of)
}
