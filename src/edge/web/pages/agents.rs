//! `/agents`: workloads and agents, who answers for them, what they hold, and the kill switch.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use futures::future::{try_join_all, try_join3};

use crate::{
    broker::{
        BrokerError, Ctx,
        input::{GrantQuery, LogQuery, Paging},
        view::{IdentityView, LockView, LogEntry},
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
/// Latest claims that are looked through…
const LOOKED_AT: u32 = 100;
/// …and of workloads and agents are shown.
const MINTED: usize = 10;

struct Row {
    who: IdentityView,
    kind: &'static str,
    tokens: usize,
    tokens_until: Option<words::When>,
    /// When one of its secrets was used last.
    used: Option<words::When>,
    grants: usize,
    /// Requests of the last day.
    asked: u32,
    /// Its accountable person is gone.
    orphaned: bool,
    lock: Option<LockView>,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    feed: Vec<(LogEntry, words::When)>,
    next: Option<String>,
    admin: bool,
}

async fn row(edge: &Edge, ctx: &Ctx, who: IdentityView, locks: &[LockView]) -> Result<Row, BrokerError> {
    let broker = &edge.broker;
    let now = broker.now();
    let holder = who.id.parse().ok();
    let query =
        GrantQuery { holder, live: true, page: Paging { after: None, limit: Some(100) }, ..GrantQuery::default() };
    let (tokens, grants, asked) =
        try_join3(broker.tokens(ctx, &who.id), broker.grants(ctx, query), broker.asked_today(ctx, &who.id)).await?;
    let orphaned = match &who.owner {
        None => true,
        Some(owner) if ctx.sees_everything() => !broker.identity(ctx, &owner.id).await?.active,
        Some(_) => false,
    };
    let used = tokens.iter().filter_map(|t| t.last_used_at.as_deref()).max();
    Ok(Row {
        kind: if who.kind == IdentityKind::Agent { "AI agent" } else { "Workload" },
        tokens_until: tokens.iter().map(|t| t.expires_at.as_str()).max().map(|t| words::when_of(now, t)),
        used: used.map(|t| words::when_of(now, t)),
        tokens: tokens.len(),
        grants: grants.items.len(),
        asked,
        orphaned,
        lock: locks.iter().find(|l| l.value == who.id).cloned(),
        who,
    })
}

/// What the workloads and agents of this page claimed, of the latest claims.
async fn minted(edge: &Edge, ctx: &Ctx, rows: &[Row]) -> Result<Vec<(LogEntry, words::When)>, BrokerError> {
    let query = LogQuery { action: Some("grant.claimed".to_owned()), ..LogQuery::default() };
    let now = edge.broker.now();
    let found = edge.broker.log_page(ctx, &query, None, LOOKED_AT).await?.entries.into_iter();
    let theirs = found.filter(|e| rows.iter().any(|r| Some(&r.who.name) == e.actor.as_ref())).take(MINTED);
    let at = |e: LogEntry| {
        let when = words::when_of(now, &e.at);
        (e, when)
    };
    Ok(theirs.map(at).collect())
}

/// `GET /agents`.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let after = given.get("after").map(str::to_owned);
    let found = broker.workloads(ctx, Paging { after, limit: Some(ROWS) }).await?;
    let locks = if ctx.sees_everything() { broker.locks(ctx).await?.items } else { Vec::new() };
    let rows = try_join_all(found.items.into_iter().map(|who| row(&edge, ctx, who, &locks))).await?;
    let feed = if ctx.sees_everything() { minted(&edge, ctx, &rows).await? } else { Vec::new() };
    let page_of =
        Page { frame: visitor.frame("Agents", "/agents").await?, rows, feed, next: found.next, admin: ctx.is_admin() };
    page(&page_of)
}
