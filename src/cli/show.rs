//! `tidegate show`: everything about one request, grant or identity.

use std::fmt::Write as _;

use clap::Args;
use serde_json::Value;

use super::{
    client::typed,
    exit::{Done, Exit},
    global::Cx,
    text::clean,
    view,
};
use crate::{
    broker::view::{EventView, GrantView, IdentityView, RequestView, TimelineEntry},
    domain::{
        id::{GrantId, RequestId},
        request::RequestState,
    },
};

/// Show a request, grant or identity in full
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Id of a request or grant, or id or name of an identity
    pub id: String,
    /// Also why policy answered as it did
    #[arg(long)]
    pub trace: bool,
}

/// Run it.
pub async fn run(args: ShowArgs, cx: &Cx) -> Done {
    if args.id.parse::<RequestId>().is_ok() {
        request(&args, cx).await
    } else if args.id.parse::<GrantId>().is_ok() {
        grant(&args, cx).await
    } else {
        let (raw, it) = cx.client()?.get_as::<IdentityView>(&["v1", "identities", &args.id]).await?;
        cx.ui.show(&raw, || view::identity(&it, &cx.ui))?;
        Ok(Exit::Ok)
    }
}

async fn request(args: &ShowArgs, cx: &Cx) -> Done {
    let (raw, r) = cx.client()?.get_as::<RequestView>(&["v1", "requests", &args.id]).await?;
    cx.ui.show(&raw, || {
        let mut text = view::request(&cx.ui, &r);
        if args.trace {
            let _ = write!(text, "\n\nPolicy {}", clean(&r.policy_version));
            for line in view::reasons(r.trace.as_deref().unwrap_or_default()) {
                let _ = write!(text, "\n  {line}");
            }
        }
        if let Some(timeline) = r.timeline.as_deref().filter(|t| !t.is_empty()) {
            let _ = write!(text, "\n\n{}", view::timeline(&cx.ui, timeline));
        }
        text
    })?;
    if r.state == RequestState::Pending {
        let id = clean(&r.id);
        cx.ui.note(&if r.can_decide == Some(true) {
            format!("next: tidegate approve {id}   or: tidegate deny {id}")
        } else {
            format!("next: tidegate wait {id}")
        });
    }
    Ok(Exit::Ok)
}

async fn grant(args: &ShowArgs, cx: &Cx) -> Done {
    let (raw, g) = cx.client()?.get_as::<GrantView>(&["v1", "grants", &args.id]).await?;
    // The log is a second thing to ask for: without the right to read it, the grant alone is shown.
    let query = [("grant", args.id.clone())];
    let events = cx.client()?.list(&["v1", "audit"], &query, 100).await.unwrap_or_default();
    let mut entries: Vec<TimelineEntry> =
        events.into_iter().filter_map(|e| typed(e).ok().map(|(_, e)| entry(&e))).collect();
    // The request's own timeline has names where the log has ids.
    let request = cx.client()?.get_as::<RequestView>(&["v1", "requests", &g.request]).await.ok().map(|(_, r)| r);
    let named = request.as_ref().and_then(|r| r.timeline.as_deref()).unwrap_or_default();
    for entry in &mut entries {
        if let Some(known) = named.iter().find(|n| n.event == entry.event) {
            entry.actor.clone_from(&known.actor);
        }
    }
    let trace = request.as_ref().filter(|_| args.trace).and_then(|r| r.trace.as_deref()).unwrap_or_default();
    cx.ui.show(&raw, || {
        let mut text = view::grant(&cx.ui, &g);
        for line in view::reasons(trace) {
            let _ = write!(text, "\n  {line}");
        }
        if !entries.is_empty() {
            let _ = write!(text, "\n\n{}", view::timeline(&cx.ui, &entries));
        }
        text
    })?;
    if !g.state.is_terminal() {
        cx.ui.note(&format!("end it: tidegate end {}", clean(&g.id)));
    }
    Ok(Exit::Ok)
}

/// An event of the log as an entry of a timeline.
fn entry(e: &EventView) -> TimelineEntry {
    let text = |key: &str| e.event.get(key).and_then(Value::as_str).map(str::to_owned);
    TimelineEntry {
        event: text("id").unwrap_or_default(),
        at: text("at").unwrap_or_default(),
        action: text("action").unwrap_or_default(),
        actor: text("actor"),
        details: e.event.get("details").cloned().unwrap_or_default(),
    }
}
