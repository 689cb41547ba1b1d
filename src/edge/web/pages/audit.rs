//! `/audit` and `/audit/{id}`: the log, the newest first, and the proof of one event.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::Value;

use crate::{
    broker::{input::AuditQuery, view::LogEntry},
    domain::id::EventId,
    edge::{
        inbound::{path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page},
            marks::{happening, pretty},
            visit::{Fields, Visitor},
            words::{self, When},
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 50;

struct Row {
    entry: LogEntry,
    what: &'static str,
    icon: &'static str,
    at: When,
    facts: String,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    size: u64,
    older: Option<u64>,
    about: String,
    sees_all: bool,
    checkpoint: String,
    key: String,
}

/// `GET /audit`.
pub async fn list(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let now = broker.now();
    let about = given.text("about");
    let log = if about.is_empty() {
        if ctx.sees_everything() { Some(broker.log_page(ctx, given.parsed("before")?, ROWS).await?) } else { None }
    } else {
        let query = AuditQuery {
            request: about.parse().ok(),
            grant: about.parse().ok(),
            correlation: about.starts_with("cor_").then(|| about.clone()),
            ..AuditQuery::default()
        };
        if query.request.is_none() && query.grant.is_none() && query.correlation.is_none() {
            return Err(Problem::input("about", "is the id of a request (`req_…`), grant (`grt_…`) or call (`cor_…`)"));
        }
        Some(broker.log_of(ctx, query).await?)
    };
    let (entries, size, older) = log.map_or((Vec::new(), 0, None), |l| (l.entries, l.size, l.older));
    let row = |entry: LogEntry| {
        let (what, icon) = happening(&entry.action);
        Row { what, icon, at: words::when_of(now, &entry.at), facts: pretty(&entry.details), entry }
    };
    let page_of = Page {
        frame: visitor.frame("Audit", "/audit").await?,
        rows: entries.into_iter().map(row).collect(),
        size,
        older,
        about,
        sees_all: ctx.sees_everything(),
        checkpoint: broker.checkpoint(ctx).await.unwrap_or_default(),
        key: broker.verifier_key(),
    };
    page(&page_of)
}

#[derive(Template)]
#[template(path = "event.html")]
struct One {
    frame: Frame,
    index: u64,
    size: u64,
    leaf: String,
    steps: usize,
    proof: String,
    checkpoint: String,
}

/// `GET /audit/{id}`.
pub async fn one(State(edge): State<Edge>, visitor: Visitor, PathId(id): PathId<EventId>) -> Result<Response, Problem> {
    let proof = edge.broker.proof(&visitor.ctx, id).await?;
    let text = |name: &str| proof.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |name: &str| proof.get(name).and_then(Value::as_u64).unwrap_or_default();
    let leaf = text("leaf");
    let readable = serde_json::from_str::<Value>(&leaf).map_or(leaf, |v| pretty(&v));
    let page_of = One {
        frame: visitor.frame("Event", "/audit").await?,
        index: number("index"),
        size: number("size"),
        leaf: readable,
        steps: proof.get("path").and_then(Value::as_array).map_or(0, Vec::len),
        checkpoint: text("checkpoint"),
        proof: pretty(&proof),
    };
    page(&page_of)
}
