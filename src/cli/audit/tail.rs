//! `tidegate audit tail`: the newest events, and those that come.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use serde_json::Value;

use super::TailArgs;
use crate::{
    broker::view::EventView,
    cli::{
        client::typed,
        exit::{Done, Exit, Failure},
        global::Cx,
        text::{Tone, clean, toned},
    },
};

/// Run it.
pub async fn run(args: TailArgs, cx: &Cx) -> Done {
    let client = cx.client()?;
    let mut query = Vec::new();
    query.extend(args.grant.clone().map(|id| ("grant", id)));
    query.extend(args.request.clone().map(|id| ("request", id)));
    query.extend(args.correlation.clone().map(|id| ("correlation", id)));
    let keep = usize::try_from(args.lines).unwrap_or(usize::MAX);
    let mut after = start(&args, query.is_empty(), cx).await;
    let mut newest = VecDeque::new();
    loop {
        let (rows, next) = client.page(&["v1", "audit"], &query, after.as_deref(), 200).await?;
        after = last(&rows).or(after);
        newest.extend(rows);
        newest.drain(..newest.len().saturating_sub(keep));
        if next.is_none() {
            break;
        }
    }
    for row in newest {
        show(row, cx)?;
    }
    let mut lost = false;
    if !args.follow {
        return Ok(Exit::Ok);
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        match client.page(&["v1", "audit"], &query, after.as_deref(), 200).await {
            Ok((rows, _)) => {
                lost = false;
                after = last(&rows).or(after);
                for row in rows {
                    show(row, cx)?;
                }
            }
            // Following outlives a restart of the server.
            Err(failure) if failure.exit == Exit::Unreachable => {
                if !std::mem::replace(&mut lost, true) {
                    cx.ui.note(&format!("{}; still trying", failure.what));
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Where to begin so that not the whole log is read for its last lines: a cursor is the last sequence number seen. From
/// the start where the log is filtered or its size is not for this caller to know.
async fn start(args: &TailArgs, whole: bool, cx: &Cx) -> Option<String> {
    let note = if whole { cx.client().ok()?.text(&["v1", "audit", "checkpoint"]).await.ok()? } else { return None };
    let size: u64 = note.lines().nth(1)?.parse().ok()?;
    let before = size.checked_sub(u64::from(args.lines))?.checked_sub(1)?;
    Some(before.to_string())
}

fn last(rows: &[Value]) -> Option<String> {
    rows.last()?.get("seq")?.as_u64().map(|seq| seq.to_string())
}

fn show(row: Value, cx: &Cx) -> Result<(), Failure> {
    if cx.ui.json() {
        return cx.ui.json_line(&row);
    }
    let (_, row) = typed::<EventView>(row)?;
    let text = |key: &str| row.event.get(key).and_then(Value::as_str);
    let details = row.event.get("details").filter(|d| d.as_object().is_some_and(|d| !d.is_empty()));
    let mut line = format!(
        "{:>6}  {}  {}",
        row.seq,
        text("at").map(|t| cx.ui.at(t)).unwrap_or_default(),
        toned(Tone::Strong, &clean(text("action").unwrap_or_default()))
    );
    for part in ["actor", "subject", "request", "grant", "target"].into_iter().filter_map(|key| Some((key, text(key)?)))
    {
        let _ = write!(line, "  {}={}", part.0, clean(part.1));
    }
    if let Some(details) = details {
        let _ = write!(line, "  {}", toned(Tone::Dim, &clean(&details.to_string())));
    }
    cx.ui.data(&line)
}
