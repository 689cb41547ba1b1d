//! `tidegate wait`: follow a request until it is decided and its access is there. Only looks; a broken wait loses nothing.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    output::Ui,
    text::clean,
    view,
};
use crate::{
    broker::view::{ApprovalView, GrantView, RequestView},
    domain::{grant::GrantState, request::RequestState, time::Ttl},
};

/// Wait until a request is decided and its access is there
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// The request
    pub request: String,
}

/// Run it.
pub async fn run(args: WaitArgs, cx: &Cx) -> Done {
    let bound = cx.global.timeout.map(Ttl::as_std);
    let (exit, _, request) = follow(&args.request, bound, cx, true).await?;
    if !cx.ui.json() {
        cx.ui.data(&super::request::summary(&cx.ui, &request))?;
    }
    Ok(exit)
}

/// How long `--wait[=DURATION]` says; `None` for as long as it takes.
pub fn bound(text: &str, cx: &Cx) -> Result<Option<Duration>, Failure> {
    match text {
        "" => Ok(cx.global.timeout.map(Ttl::as_std)),
        text => text.parse::<Ttl>().map(|t| Some(t.as_std())).map_err(|e| Failure::usage(format!("--wait: {e}"))),
    }
}

/// Follow a request to its end: its exit code, raw and read. With `lines`, JSON is one line for each change.
pub async fn follow(
    id: &str,
    bound: Option<Duration>,
    cx: &Cx,
    lines: bool,
) -> Result<(Exit, Value, RequestView), Failure> {
    let mut watch = Watch { cx, lines, bar: spinner(&cx.ui), seen: BTreeMap::new() };
    let outcome = match bound {
        Some(bound) => match tokio::time::timeout(bound, watch.run(id)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(Exit::Expired, "it was not decided in time")
                .kept("The request stands; nothing was withdrawn.")
                .next(format!("tidegate wait {}", clean(id)))),
        },
        None => watch.run(id).await,
    };
    if let Some(bar) = watch.bar.take() {
        bar.finish_and_clear();
    }
    outcome
}

struct Watch<'a> {
    cx: &'a Cx,
    lines: bool,
    bar: Option<ProgressBar>,
    /// The last state of each thing, so that changes alone are told.
    seen: BTreeMap<String, String>,
}

impl Watch<'_> {
    async fn run(&mut self, id: &str) -> Result<(Exit, Value, RequestView), Failure> {
        let mut pause = Duration::from_millis(250);
        let mut lost = false;
        loop {
            match self.cx.client()?.get(&["v1", "requests", id], &[]).await {
                Ok(raw) => {
                    lost = false;
                    let (raw, request) = typed::<RequestView>(raw)?;
                    self.tell(&raw, &request)?;
                    if let Some(exit) = outcome(&request) {
                        return Ok((exit?, raw, request));
                    }
                }
                // Waiting outlives a restart of the server.
                Err(failure) if failure.exit == Exit::Unreachable && !self.seen.is_empty() => {
                    if !std::mem::replace(&mut lost, true) {
                        self.say(&format!("{}; still trying", failure.what));
                    }
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(2));
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.cx.ui.note(text)),
            None => self.cx.ui.note(text),
        }
    }

    /// Tell what has changed since the last look.
    fn tell(&mut self, raw: &Value, request: &RequestView) -> Result<(), Failure> {
        let mut changes = Vec::new();
        let votes = format!("{} {}/{}", request.state.as_str(), request.approvals.have, request.approvals.needed);
        let known = self.seen.insert(request.id.clone(), votes.clone());
        // Whoever has just asked was told already what is needed.
        let told = known.is_none() && !self.lines && request.state == RequestState::Pending;
        if known.as_ref() != Some(&votes) && !told {
            changes.push((sentence(&self.cx.ui, request), raw.clone()));
        }
        for (g, raw) in request.grants.iter().zip(raw.get("grants").and_then(Value::as_array).into_iter().flatten()) {
            let state = g.state.as_str().to_owned();
            if self.seen.insert(g.id.clone(), state.clone()).as_ref() != Some(&state) {
                let end = g.not_after.as_deref().filter(|_| !g.state.is_terminal());
                let end = end.map_or_else(String::new, |t| format!(", ends {}", self.cx.ui.until(t)));
                changes.push((format!("{} {}{end}", clean(&g.entitlement), g.state.as_str()), raw.clone()));
            }
        }
        for (text, value) in changes {
            if self.lines && self.cx.ui.json() {
                // The whole of what changed: `--json=id,state` picks.
                self.cx.ui.json_line(&value)?;
            } else {
                self.say(&text);
            }
        }
        if let Some(bar) = &self.bar {
            let pending = request.state == RequestState::Pending;
            bar.set_message(if pending { "waiting for approval..." } else { "waiting for the access to be there..." });
        }
        Ok(())
    }
}

fn sentence(ui: &Ui, r: &RequestView) -> String {
    if r.state == RequestState::Pending {
        let lapses = r.lapses_at.as_deref().map_or_else(String::new, |t| format!(", lapses {}", ui.until(t)));
        return format!("pending: needs {}{lapses}", view::needs(&r.approvals));
    }
    let voice = |d: &ApprovalView| match d.comment.as_str() {
        "" => clean(&d.approver.name),
        comment => format!("{} ({})", clean(&d.approver.name), clean(comment)),
    };
    let by: Vec<String> = r.decisions.iter().flatten().map(voice).collect();
    if by.is_empty() { r.state.as_str().to_owned() } else { format!("{} by {}", r.state.as_str(), by.join(", ")) }
}

/// How it ended; `None` while it has not.
fn outcome(request: &RequestView) -> Option<Result<Exit, Failure>> {
    match request.state {
        RequestState::Pending => return None,
        RequestState::Denied | RequestState::Cancelled => return Some(Ok(Exit::Denied)),
        RequestState::Lapsed => return Some(Ok(Exit::Expired)),
        RequestState::Approved => {}
    }
    if request.grants.is_empty() || request.grants.iter().any(|g| g.state == GrantState::Activating) {
        return None;
    }
    let never_there = |g: &&GrantView| match g.state {
        GrantState::Failed => true,
        GrantState::Revoking | GrantState::Quarantined => g.applied.is_none(),
        _ => false,
    };
    let Some(failed) = request.grants.iter().find(never_there) else { return Some(Ok(Exit::Ok)) };
    let why = failed.last_error.as_deref().map_or_else(String::new, |e| format!(": {}", clean(e)));
    Some(Err(Failure::local(format!("{} could not be opened{why}", clean(&failed.entitlement)))
        .kept("Whatever had been opened for it is taken back.")
        .next(format!("tidegate show {}", clean(&failed.id)))))
}

fn spinner(ui: &Ui) -> Option<ProgressBar> {
    if !ui.can_animate() {
        return None;
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{spinner} {msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    bar.set_style(style);
    bar.set_message("waiting...");
    bar.enable_steady_tick(Duration::from_millis(120));
    Some(bar)
}

/// A grant that is to be gone: wait until the target has confirmed it.
pub async fn until_ended(id: &str, cx: &Cx) -> Result<(Value, GrantView), Failure> {
    let look = async {
        let mut pause = Duration::from_millis(250);
        loop {
            let (raw, grant) = cx.client()?.get_as::<GrantView>(&["v1", "grants", id]).await?;
            if grant.state.is_terminal() {
                return Ok((raw, grant));
            }
            if grant.state == GrantState::Quarantined {
                let why = grant.last_error.as_deref().map_or_else(String::new, |e| format!(": {}", clean(e)));
                return Err(Failure::new(Exit::Error, format!("the target has not confirmed that it is gone{why}"))
                    .kept("The server goes on trying, and has raised an alert.")
                    .next(format!("tidegate show {}", clean(id))));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 3 / 2).min(Duration::from_secs(2));
        }
    };
    let bound = cx.global.timeout.map_or(Duration::from_mins(2), Ttl::as_std);
    tokio::time::timeout(bound, look).await.unwrap_or_else(|_| {
        Err(Failure::new(Exit::Expired, "it was not verified in time")
            .kept("The server goes on ending it.")
            .next(format!("tidegate show {}", clean(id))))
    })
}
