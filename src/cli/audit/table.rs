//! The log as a table for a spreadsheet: one event a line, CSV (RFC 4180).
//!
//! For reading, not for proving: what verifies is the export in lines of JSON.

use crate::{cli::exit::Failure, domain::audit::Event};

/// The columns.
const HEAD: [&str; 12] =
    ["seq", "at", "action", "actor", "via", "subject", "request", "grant", "target", "correlation", "cause", "details"];

/// The line that names the columns.
pub fn head() -> Result<String, Failure> {
    line(HEAD.map(str::to_owned))
}

/// One event.
pub fn row(seq: u64, event: &Event) -> Result<String, Failure> {
    let text = |id: Option<String>| id.unwrap_or_default();
    line([
        seq.to_string(),
        event.at.to_string(),
        event.action.clone(),
        text(event.actor.map(|id| id.to_string())),
        event.via.clone(),
        text(event.subject.map(|id| id.to_string())),
        text(event.request.map(|id| id.to_string())),
        text(event.grant.map(|id| id.to_string())),
        text(event.target.clone()),
        event.correlation.to_string(),
        text(event.cause.map(|id| id.to_string())),
        event.details.to_string(),
    ])
}

/// A spreadsheet takes a cell that begins like a formula for one: such a cell gets an apostrophe, which it does not show.
fn harmless(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

fn line(cells: [String; 12]) -> Result<String, Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure::local(format!("a line could not be written: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(cells.map(harmless)).map_err(|e| broken(&e))?;
    let bytes = writer.into_inner().map_err(|e| broken(&e))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::tests::event;

    #[test]
    fn an_event_is_a_line_that_no_spreadsheet_runs() {
        assert!(head().unwrap().starts_with("seq,at,action,"));
        let mut said = event("grant.ended", serde_json::json!({"reason": "a \"quoted\", one"}));
        said.target = Some("=HYPERLINK(\"http://evil\")".into());
        let text = row(7, &said).unwrap();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!((record.len(), &record[0], &record[2]), (12, "7", "grant.ended"));
        assert_eq!(&record[8], "'=HYPERLINK(\"http://evil\")");
        assert_eq!(&record[11], r#"{"reason":"a \"quoted\", one"}"#);
    }
}
