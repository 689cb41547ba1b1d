//! `tidegate audit prove`: proofs that stand on their own, one a line, checked before they are written.

use super::{ProveArgs, proof};
use crate::{
    broker::view::EventView,
    cli::{
        client::typed,
        exit::{Done, Exit, Failure},
        global::Cx,
    },
    domain::{
        export::{Growth, verify_growth, verify_proof},
        id::{EventId, GrantId, RequestId},
    },
};

/// Run it.
pub async fn run(args: ProveArgs, cx: &Cx) -> Done {
    let Some(id) = args.id else {
        return grew(args.from.unwrap_or(0), args.to, cx).await;
    };
    let events = if id.parse::<EventId>().is_ok() {
        vec![id.clone()]
    } else {
        let query = if id.parse::<GrantId>().is_ok() {
            [("grant", id.clone())]
        } else if id.parse::<RequestId>().is_ok() {
            [("request", id.clone())]
        } else {
            return Err(Failure::usage("give the id of an event (evt_…), a grant (grt_…) or a request (req_…)"));
        };
        let mut events = Vec::new();
        for row in cx.client()?.list(&["v1", "audit"], &query, u32::MAX).await? {
            let (_, row) = typed::<EventView>(row)?;
            events.extend(row.event.get("id").and_then(|id| id.as_str()).map(str::to_owned));
        }
        events
    };
    if events.is_empty() {
        return Err(Failure::new(Exit::NotFound, "there are no events about it, or you may not see them"));
    }
    for event in &events {
        let proof = proof(event, cx).await?;
        let keys: Vec<_> = proof.verifier_key.iter().cloned().collect();
        if !keys.is_empty() {
            verify_proof(&proof, &keys)
                .map_err(|e| Failure::local(format!("the server's proof of {event} does not hold: {e}")))?;
        }
        let line = serde_json::to_string(&proof).map_err(|e| Failure::local(e.to_string()))?;
        cx.ui.data(&line)?;
    }
    cx.ui.note(&format!(
        "{} proven; check them anywhere: tidegate audit verify FILE",
        super::super::text::count(u32::try_from(events.len()).unwrap_or(u32::MAX), "event",)
    ));
    Ok(Exit::Ok)
}

/// That the log at one size begins with what it was at another.
async fn grew(from: u64, to: Option<u64>, cx: &Cx) -> Done {
    let mut query = vec![("from", from.to_string())];
    query.extend(to.map(|to| ("to", to.to_string())));
    let (_, growth) = typed::<Growth>(cx.client()?.get(&["v1", "audit", "consistency"], &query).await?)?;
    let keys: Vec<_> = growth.verifier_key.iter().cloned().collect();
    if !keys.is_empty() {
        verify_growth(&growth, &keys).map_err(|e| Failure::local(format!("the server's proof does not hold: {e}")))?;
    }
    let line = serde_json::to_string(&growth).map_err(|e| Failure::local(e.to_string()))?;
    cx.ui.data(&line)?;
    cx.ui.note("the log only grew; check it anywhere: tidegate audit verify FILE --key KEY");
    Ok(Exit::Ok)
}
