//! `/audit` and `/audit/{id}`: the log, the newest first, looked through; and the proof of one event.

use askama::Template;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::Value;

use crate::{
    broker::{
        input::{AuditQuery, LogQuery},
        view::{LogCheck, LogEntry},
    },
    domain::{id::EventId, time::Timestamp},
    edge::{
        inbound::{path::PathId, problem::Problem, state::Edge},
        web::{
            filters,
            frame::{Frame, page_with},
            marks::{happening, pretty},
            visit::{Fields, Visitor},
            words::{self, When},
        },
    },
};

/// Rows of a page.
const ROWS: u32 = 50;

/// What was asked of the log: words of the form `field:value`, or an id by itself.
#[derive(Default)]
pub struct Asked {
    /// As it was typed.
    pub text: String,
    /// About one request, grant or call.
    pub about: Option<String>,
    /// Of the whole log.
    pub query: LogQuery,
}

impl Asked {
    /// From the words of the query bar, and from `about`, which other pages lead here with.
    pub fn read(given: &Fields) -> Result<Self, Problem> {
        let mut asked = Self { text: given.text("q"), about: given.get("about").map(str::to_owned), ..Self::default() };
        let (text, query) = (asked.text.clone(), &mut asked.query);
        for word in text.split_whitespace() {
            let (field, value) = word.split_once(':').filter(|(_, v)| !v.is_empty()).unwrap_or(("about", word));
            let value = value.to_owned();
            match field {
                "action" => query.action = Some(value),
                "actor" | "by" => query.actor = Some(value),
                "subject" => query.subject = Some(value),
                "via" => query.via = Some(value),
                "target" => query.target = Some(value),
                "since" => query.since = Some(instant("since", &value)?),
                "until" => query.until = Some(instant("until", &value)?),
                "about" => asked.about = Some(value),
                _ => {
                    return Err(Problem::input(
                        "q",
                        "write `action:`, `by:`, `subject:`, `target:`, `via:`, `since:` or `until:` before what you look for, or an id",
                    ));
                }
            }
        }
        Ok(asked)
    }

    /// Nothing in particular.
    fn is_everything(&self) -> bool {
        self.text.trim().is_empty() && self.about.is_none()
    }
}

/// A day, or an instant in UTC.
fn instant(field: &'static str, text: &str) -> Result<Timestamp, Problem> {
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        _ => text.to_owned(),
    };
    whole.parse().map_err(|e| Problem::input(field, e))
}

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
    text: String,
    everything: bool,
    trouble: Option<String>,
    intact: bool,
    facets: Vec<(String, u64)>,
    check: Option<LogCheck>,
    sees_all: bool,
    checkpoint: String,
    key: String,
}

/// `GET /audit`.
pub async fn list(State(edge): State<Edge>, visitor: Visitor, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (ctx, broker) = (&visitor.ctx, &edge.broker);
    let now = broker.now();
    let found = match Asked::read(&given) {
        Err(problem) => Err(problem),
        Ok(asked) => match &asked.about {
            Some(about) => {
                let query = AuditQuery {
                    request: about.parse().ok(),
                    grant: about.parse().ok(),
                    correlation: about.starts_with("cor_").then(|| about.clone()),
                    ..AuditQuery::default()
                };
                if query.request.is_none() && query.grant.is_none() && query.correlation.is_none() {
                    let words = "is the id of a request (`req_…`), grant (`grt_…`) or call (`cor_…`)";
                    Err(Problem::input("about", words))
                } else {
                    broker.log_of(ctx, query).await.map(Some).map_err(Problem::from)
                }
            }
            None if ctx.sees_everything() => {
                let found = broker.log_page(ctx, &asked.query, given.parsed("before")?, ROWS).await;
                found.map(Some).map_err(Problem::from)
            }
            None => Ok(None),
        }
        .map(|log| log.map(|log| (log, asked.is_everything()))),
    };
    let (status, log, trouble) = match found {
        Ok(log) => (http::StatusCode::OK, log, None),
        Err(problem)
            if problem.kind().status().is_client_error() && problem.kind().status() != http::StatusCode::NOT_FOUND =>
        {
            (problem.kind().status(), None, Some(problem.detail().to_owned()))
        }
        Err(problem) => return Err(problem),
    };
    let (log, everything) = log.map_or((None, false), |(log, everything)| (Some(log), everything));
    let check =
        if ctx.sees_everything() && given.get("verify").is_some() { Some(broker.check_log(ctx).await?) } else { None };
    let row = |entry: LogEntry| {
        let (what, icon) = happening(&entry.action);
        Row { what, icon, at: words::when_of(now, &entry.at), facts: pretty(&entry.details), entry }
    };
    let text = match given.text("q") {
        empty if empty.is_empty() => given.text("about"),
        text => text,
    };
    let size = log.as_ref().map_or(0, |l| l.size);
    let page_of = Page {
        frame: visitor.frame("Audit", "/audit").await?,
        older: log.as_ref().and_then(|l| l.older),
        intact: log.as_ref().is_none_or(|l| l.intact),
        facets: log.as_ref().map_or_else(Vec::new, |l| l.facets.clone()),
        rows: log.map_or_else(Vec::new, |l| l.entries).into_iter().map(row).collect(),
        size,
        text,
        everything,
        trouble,
        check,
        sees_all: ctx.sees_everything(),
        checkpoint: broker.checkpoint(ctx).await.unwrap_or_default(),
        key: broker.verifier_key(),
    };
    page_with(status, &page_of)
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
    page_with(http::StatusCode::OK, &page_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Asked, Problem> {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", text).finish();
        Asked::read(&Fields::parse(query.as_bytes()))
    }

    #[test]
    fn the_query_bar_takes_words() {
        let found = asked("action:grant. by:ana since:2026-11-01 until:2026-11-02T08:30 target:prod-db").unwrap();
        assert_eq!(found.query.action.as_deref(), Some("grant."));
        assert_eq!(found.query.actor.as_deref(), Some("ana"));
        assert_eq!(found.query.target.as_deref(), Some("prod-db"));
        assert_eq!(found.query.since.unwrap().to_string(), "2026-11-01T00:00:00Z");
        assert_eq!(found.query.until.unwrap().to_string(), "2026-11-02T08:30:00Z");
        assert_eq!(asked("req_01").unwrap().about.as_deref(), Some("req_01"));
        assert!(asked("colour:blue").is_err() && asked("since:yesterday").is_err());
        assert!(asked("").unwrap().is_everything() && !asked("by:ana").unwrap().is_everything());
    }
}
