//! `GET /audit/export`: the log, or what fits of it, to take away: as it is hashed, as a table, or for a SIEM. Read in
//! steps as it is sent, so that a log of any length costs no memory.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};

use super::audit::Asked;
use crate::{
    broker::{Ctx, view::EventView},
    domain::{
        audit::Event,
        export::{Header, checkpoint_line, event_line},
        merkle::Frontier,
        ocsf,
    },
    edge::{
        inbound::{problem::Problem, state::Edge},
        web::visit::{Fields, Visitor},
    },
};

/// How events are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Jsonl,
    Csv,
    Ocsf,
}

impl Format {
    fn read(given: &Fields) -> Result<Self, Problem> {
        match given.get("format").unwrap_or("jsonl") {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "ocsf" => Ok(Self::Ocsf),
            _ => Err(Problem::input("format", "is `jsonl`, `csv` or `ocsf`")),
        }
    }

    const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            _ => "application/x-ndjson",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Jsonl => "attachment; filename=\"tidegate-audit.jsonl\"",
            Self::Csv => "attachment; filename=\"tidegate-audit.csv\"",
            Self::Ocsf => "attachment; filename=\"tidegate-audit-ocsf.jsonl\"",
        }
    }

    fn line(self, stored: &EventView) -> String {
        if self == Self::Jsonl {
            return event_line(stored.seq, &stored.leaf) + "\n";
        }
        let Ok(event) = serde_json::from_str::<Event>(&stored.leaf) else { return String::new() };
        match self {
            Self::Csv => row(stored, &event),
            _ => ocsf::map(&event, Some(stored.seq)).to_string() + "\n",
        }
    }
}

const COLUMNS: &str = "seq,at,action,actor,subject,via,request,grant,target,correlation,hash,details\n";

/// A line of the table. What a spreadsheet would take for a formula is text.
fn row(stored: &EventView, event: &Event) -> String {
    let text = |value: Option<String>| {
        let value = value.unwrap_or_default();
        if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{value}") } else { value }
    };
    let cells = [
        stored.seq.to_string(),
        event.at.to_string(),
        text(Some(event.action.clone())),
        text(event.actor.map(|i| i.to_string())),
        text(event.subject.map(|i| i.to_string())),
        text(Some(event.via.clone())),
        text(event.request.map(|i| i.to_string())),
        text(event.grant.map(|i| i.to_string())),
        text(event.target.clone()),
        event.correlation.to_string(),
        stored.hash.clone(),
        event.details.to_string(),
    ];
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    let written = writer.write_record(&cells).is_ok() && writer.flush().is_ok();
    let bytes = if written { writer.into_inner().unwrap_or_default() } else { Vec::new() };
    String::from_utf8(bytes).unwrap_or_default()
}

/// Where the export is.
struct Export {
    edge: Edge,
    ctx: Ctx,
    asked: Asked,
    format: Format,
    /// Next event; nothing at the end.
    from: Option<u64>,
    size: u64,
    /// What comes before and after the events.
    before: String,
    after: String,
}

impl Export {
    async fn step(mut self) -> Result<Option<(Bytes, Self)>, Problem> {
        let Some(from) = self.from else { return Ok(None) };
        let (found, next) = self.edge.broker.log_export(&self.ctx, &self.asked.query, from, self.size).await?;
        let mut text = std::mem::take(&mut self.before);
        for stored in &found {
            text.push_str(&self.format.line(stored));
        }
        if next.is_none() {
            text.push_str(&self.after);
        }
        self.from = next;
        Ok(Some((Bytes::from(text), self)))
    }
}

/// The download.
pub async fn handler(
    State(edge): State<Edge>,
    visitor: Visitor,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let given = Fields::parse(query.unwrap_or_default().as_bytes());
    let (format, asked) = (Format::read(&given)?, Asked::read(&given)?);
    let (note, size) = edge.broker.signed_head(&visitor.ctx).await?;
    // Only the whole log can be verified by whoever has nothing else.
    let whole = format == Format::Jsonl && asked.text.trim().is_empty();
    let (before, after) = match format {
        Format::Jsonl if whole => {
            let key = edge.broker.log_key();
            let header = Header::new(key.name(), &Frontier::default(), Some(key.clone()), edge.broker.now());
            (header.line() + "\n", checkpoint_line(&note) + "\n")
        }
        Format::Csv => (COLUMNS.to_owned(), String::new()),
        _ => (String::new(), String::new()),
    };
    // What is wrong with the question is said before anything is sent.
    edge.broker.log_export(&visitor.ctx, &asked.query, 0, 0).await?;
    let export =
        Export { edge: Arc::clone(&edge), ctx: visitor.ctx, asked, format, from: Some(0), size, before, after };
    let stream = futures::stream::try_unfold(export, async |export| {
        export.step().await.map_err(|problem| std::io::Error::other(problem.detail().to_owned()))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(format.media_type())),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static(format.file())),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        let event = Event {
            target: Some("=HYPERLINK(\"x\")".to_owned()),
            ..crate::domain::audit::tests::event("grant.ended", serde_json::json!({"a": "x,y"}))
        };
        let stored = EventView { seq: 7, leaf: event.leaf(), hash: "ab".to_owned(), event: serde_json::Value::Null };
        let line = row(&stored, &event);
        assert!(line.contains(",\"'=HYPERLINK(\"\"x\"\")\",") && line.starts_with("7,2026-"), "{line}");
        assert!(line.ends_with(",ab,\"{\"\"a\"\":\"\"x,y\"\"}\"\n"), "{line}");
    }
}
