//! `/agents`: workloads and agents, who answers for them, what they hold, and the kill switch.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use crate::{
    broker::{
        input::{GrantQuery, Paging},
        view::{IdentityView, LockView},
    },
    domain::identity::IdentityKind,
    edge::{
        inbound::{problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            visit::{Fields, Visitor},
            words,
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 25;

struct Row {
    who: IdentityView,
    kind: &'static str,
    tokens: usize,
    tokens_until: Option<words::When>,
    grants: usize,
    /// Its accountable person is gone.
    orphaned: bool,
    lock: Option<LockView>,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    next: Option<String>,
    admin: bool,
}

/// `GET /agents`.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let now = broker.now();
    let after = given.get("after").map(str::to_owned);
    let found = broker.workloads(ctx, Paging { after, limit: Some(ROWS) }).await?;
    let locks = if ctx.sees_everything() { broker.locks(ctx).await?.items } else { Vec::new() };
    let mut rows = Vec::with_capacity(found.items.len());
    for who in found.items {
        let tokens = broker.tokens(ctx, &who.id).await?;
        let holder = who.id.parse().ok();
        let query =
            GrantQuery { holder, live: true, page: Paging { after: None, limit: Some(100) }, ..GrantQuery::default() };
        let grants = broker.grants(ctx, query).await?.items.len();
        let orphaned = match &who.owner {
            None => true,
            Some(owner) if ctx.sees_everything() => !broker.identity(ctx, &owner.id).await?.active,
            Some(_) => false,
        };
        rows.push(Row {
            kind: if who.kind == IdentityKind::Agent { "AI agent" } else { "Workload" },
            tokens_until: tokens.iter().map(|t| t.expires_at.as_str()).max().map(|t| words::when_of(now, t)),
            tokens: tokens.len(),
            grants,
            orphaned,
            lock: locks.iter().find(|l| l.value == who.id).cloned(),
            who,
        });
    }
    let page_of =
        Page { frame: visitor.frame("Agents", "/agents").await?, rows, next: found.next, admin: ctx.is_admin() };
    page(&page_of)
}
