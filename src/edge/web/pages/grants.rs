//! `/grants`: what is open and scheduled, on a line of 24 hours; one grant with its proof; what can be done with it.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};

use crate::{
    broker::{
        input::{AuditQuery, Extend, GrantQuery, Paging},
        view::{LockView, LogEntry},
    },
    domain::{grant::GrantState, id::GrantId, time::Ttl},
    edge::{
        inbound::{call::carry_through, path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page, see_other},
            marks::{GrantCard, happening, pretty},
            timeline::{self, Lane, Tick},
            visit::{Fields, Posted, Visitor},
            words,
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 50;
/// States to look for among what is live, in words.
const STATES: [(&str, &str); 5] = [
    ("scheduled", "scheduled"),
    ("activating", "being opened"),
    ("active", "open"),
    ("revoking", "being taken away"),
    ("quarantined", "could not be taken away"),
];

#[derive(Template)]
#[template(path = "grants.html")]
struct Page {
    frame: Frame,
    cards: Vec<(GrantCard, Option<Lane>)>,
    ticks: Vec<Tick>,
    minutes: u32,
    minute: u32,
    over: bool,
    state: String,
    states: &'static [(&'static str, &'static str)],
    next: Option<String>,
    locks: Vec<LockView>,
    sees_all: bool,
}

/// `GET /grants`.
pub async fn list(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let over = given.get("show") == Some("over");
    let state = given.get("state").and_then(GrantState::parse);
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let query = GrantQuery {
        state,
        holder: None,
        live: !over,
        over,
        page: Paging { after: given.get("after").map(str::to_owned), limit: Some(ROWS) },
    };
    let first = query.page.after.is_none();
    let found = broker.grants(ctx, query).await?;
    // What could not be taken away stands above everything else, however old it is.
    let pinned = if first && !over && state.is_none() {
        let page = Paging { after: None, limit: Some(ROWS) };
        let stuck = GrantQuery { state: Some(GrantState::Quarantined), live: true, page, ..GrantQuery::default() };
        broker.grants(ctx, stuck).await?.items
    } else {
        Vec::new()
    };
    let (now, policy) = (broker.now(), broker.policy());
    let cards: Vec<(GrantCard, Option<Lane>)> = pinned
        .iter()
        .chain(found.items.iter().filter(|g| pinned.iter().all(|p| p.id != g.id)))
        .map(|g| {
            let card = GrantCard::of(g, &policy, ctx, now);
            let lane = if over { None } else { timeline::lane(now, card.bar.0, card.bar.1) };
            (card, lane)
        })
        .collect();
    let page_of = Page {
        frame: visitor.frame("Grants", "/grants").await?,
        cards,
        ticks: timeline::ticks(now),
        minutes: timeline::MINUTES,
        minute: timeline::minute(now),
        over,
        state: state.map_or("", GrantState::as_str).to_owned(),
        states: &STATES,
        next: found.next,
        locks: if ctx.sees_everything() { broker.locks(ctx).await?.items } else { Vec::new() },
        sees_all: ctx.sees_everything(),
    };
    page(&page_of)
}

#[derive(Template)]
#[template(path = "grant.html")]
struct One {
    frame: Frame,
    card: GrantCard,
    entries: Vec<(LogEntry, &'static str, &'static str, words::When, String)>,
}

/// `GET /grants/{id}`.
pub async fn one(State(edge): State<Edge>, visitor: Visitor, PathId(id): PathId<GrantId>) -> Result<Response, Problem> {
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let view = broker.grant(ctx, id).await?;
    let (now, policy) = (broker.now(), broker.policy());
    let log = broker.log_of(ctx, AuditQuery { grant: Some(id), ..AuditQuery::default() }).await?;
    let entries = log.entries.into_iter().map(|entry| {
        let (what, icon) = happening(&entry.action);
        let (at, facts) = (words::when_of(now, &entry.at), pretty(&entry.details));
        (entry, what, icon, at, facts)
    });
    let card = GrantCard::of(&view, &policy, ctx, now);
    let title = format!("{}: {}", card.short, card.title);
    let page_of = One { entries: entries.collect(), card, frame: visitor.frame(&title, "/grants").await? };
    page(&page_of)
}

/// `POST /grants/{id}/release`: its holder gives it back.
pub async fn release(
    State(edge): State<Edge>,
    PathId(id): PathId<GrantId>,
    posted: Posted,
) -> Result<Response, Problem> {
    carry_through(async move { edge.broker.release(&posted.visitor.ctx, id).await }).await?;
    see_other(&format!("/grants/{id}?said=released"))
}

/// `POST /grants/{id}/extend`.
pub async fn extend(
    State(edge): State<Edge>,
    PathId(id): PathId<GrantId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let duration = fields.parsed::<Ttl>("duration")?.ok_or_else(|| Problem::input("duration", "say by how long"))?;
    let extend = Extend { duration, reason: fields.text("reason"), from: fields.parsed("from")?, idempotency: None };
    carry_through(async move { edge.broker.extend(&visitor.ctx, id, extend).await }).await?;
    see_other(&format!("/grants/{id}?said=extended"))
}

/// `POST /grants/{id}/revoke`: an administrator takes it away, and names the target to be sure.
pub async fn revoke(
    State(edge): State<Edge>,
    PathId(id): PathId<GrantId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let view = edge.broker.grant(&visitor.ctx, id).await?;
    if fields.get("target") != Some(view.target.as_str()) {
        return Err(Problem::input("target", "type the name of the target as it stands there; nothing was changed"));
    }
    let reason = fields.text("reason");
    carry_through(async move { edge.broker.revoke(&visitor.ctx, id, reason).await }).await?;
    see_other(&format!("/grants/{id}?said=revoked"))
}

/// `POST /grants/{id}/attest`.
pub async fn attest(
    State(edge): State<Edge>,
    PathId(id): PathId<GrantId>,
    posted: Posted,
) -> Result<Response, Problem> {
    let Posted { visitor, fields } = posted;
    let reason = fields.text("reason");
    carry_through(async move { edge.broker.attest(&visitor.ctx, id, reason).await }).await?;
    see_other(&format!("/grants/{id}?said=attested"))
}
