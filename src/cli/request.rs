//! `tidegate request`: show the plan, ask, send, and wait if that is wanted.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    output::Ui,
    text, view, wait,
};
use crate::{
    broker::view::{PlanView, RequestView},
    domain::{
        decision::Verdict,
        request::RequestState,
        time::{Timestamp, Ttl},
    },
};

/// Ask for access
#[derive(Debug, Default, Args)]
pub struct RequestArgs {
    /// What to ask for; `tidegate search` finds names
    #[arg(required = true, value_name = "ENTITLEMENT")]
    pub entitlements: Vec<String>,
    /// What the access is to be like.
    #[command(flatten)]
    pub wish: Wish,
    /// When it is to start: an instant (RFC 3339), or how long from now
    #[arg(long, value_name = "WHEN")]
    pub start: Option<String>,
    /// Ask for somebody else: name or id of who will hold it
    #[arg(long, value_name = "IDENTITY")]
    pub on_behalf: Option<String>,
    /// Say that it is an emergency; everybody concerned is told
    #[arg(long)]
    pub emergency: bool,
    /// Only show what would happen
    #[arg(long)]
    pub dry_run: bool,
    /// Send it without asking
    #[arg(short, long)]
    pub yes: bool,
    /// Open the request in a browser once it is sent
    #[arg(long)]
    pub open: bool,
    /// Wait for the decision, and for the access to be there
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub wait: Option<String>,
}

/// What access is to be like, wherever it is asked for.
#[derive(Debug, Clone, Default, Args)]
pub struct Wish {
    /// How long, from activation: 30m, 1h30m, seconds
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Option<Ttl>,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Ticket reference
    #[arg(long, value_name = "TICKET")]
    pub ticket: Option<String>,
}

impl Wish {
    /// The body of `POST /v1/requests`.
    pub fn body(&self, entitlements: &[String]) -> Value {
        let mut body = json!({"entitlements": entitlements, "reason": self.reason.clone().unwrap_or_default()});
        set(&mut body, "duration", self.duration);
        set(&mut body, "ticket", self.ticket.as_ref());
        body
    }
}

fn set<T: serde::Serialize>(body: &mut Value, key: &str, value: Option<T>) {
    if let (Some(map), Some(value)) = (body.as_object_mut(), value.and_then(|v| serde_json::to_value(v).ok())) {
        map.insert(key.to_owned(), value);
    }
}

/// An instant, or a distance from now.
fn instant(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    if let Ok(ttl) = text.parse::<Ttl>() {
        return Ok(now.plus(ttl));
    }
    text.parse().map_err(|e| Failure::usage(format!("--start: {e}, or a duration like `2h`")))
}

/// Run it.
pub async fn run(args: RequestArgs, cx: &Cx) -> Done {
    let bound = args.wait.as_deref().map(|text| wait::bound(text, cx)).transpose()?;
    let mut body = args.wish.body(&args.entitlements);
    let start = args.start.as_deref().map(|text| instant(text, cx.ui.now())).transpose()?;
    set(&mut body, "start_at", start);
    set(&mut body, "on_behalf_of", args.on_behalf.as_ref());
    if args.emergency {
        body = emergency(body);
    }
    if args.dry_run {
        let (raw, plan) = planned(&body, cx).await?;
        cx.ui.show(&raw, || view::plan(args.on_behalf.as_deref(), &plan))?;
        return Ok(if plan.verdict == Verdict::Denied { Exit::Denied } else { Exit::Ok });
    }
    if !args.yes {
        agree(&body, args.on_behalf.as_deref(), cx).await?;
    }
    let (raw, request) = send(&body, cx).await?;
    if args.open {
        open(&request.id, cx)?;
    }
    let Some(bound) = bound else {
        cx.ui.show(&raw, || summary(&cx.ui, &request))?;
        hint(cx, &request);
        return Ok(Exit::Ok);
    };
    if request.state == RequestState::Pending {
        cx.ui.note(&summary(&cx.ui, &request));
    }
    let (exit, raw, request) = wait::follow(&request.id, bound, cx, false).await?;
    cx.ui.show(&raw, || summary(&cx.ui, &request))?;
    hint(cx, &request);
    Ok(exit)
}

/// The same body, said to be an emergency.
pub fn emergency(mut body: Value) -> Value {
    set(&mut body, "emergency", Some(true));
    body
}

/// Its page of the portal, in a browser.
fn open(request: &str, cx: &Cx) -> Result<(), Failure> {
    let mut url = cx.client()?.url().clone();
    url.path_segments_mut()
        .map_err(|()| Failure::usage("--server: not a usable URL"))?
        .pop_if_empty()
        .extend(["requests", request]);
    cx.ui.note(&format!("opened: {url}"));
    super::login::open_browser(url.as_str());
    Ok(())
}

/// Show the plan on stderr and get a yes.
pub async fn agree(body: &Value, who: Option<&str>, cx: &Cx) -> Result<(), Failure> {
    plan(body, who, cx).await?;
    cx.ui.confirm("Send it?", false, "-y").await
}

/// Show the plan on stderr. What policy denies goes no further.
pub async fn plan(body: &Value, who: Option<&str>, cx: &Cx) -> Result<(), Failure> {
    let (_, plan) = planned(body, cx).await?;
    cx.ui.say(&view::plan(who, &plan));
    if plan.verdict == Verdict::Denied {
        return Err(Failure::new(Exit::Denied, "policy does not allow this").kept("Nothing was sent."));
    }
    Ok(())
}

/// Send it.
pub async fn send(body: &Value, cx: &Cx) -> Result<(Value, RequestView), Failure> {
    let (raw, request) = typed::<RequestView>(cx.client()?.post_once(&["v1", "requests"], body).await?)?;
    Ok((raw, request))
}

async fn planned(body: &Value, cx: &Cx) -> Result<(Value, PlanView), Failure> {
    let mut body = body.clone();
    set(&mut body, "dry_run", Some(true));
    typed(cx.client()?.post(&["v1", "requests"], &body).await?)
}

/// One line for the request and one for each grant.
pub fn summary(ui: &Ui, r: &RequestView) -> String {
    let mut text = format!("{}  {}", text::clean(&r.id), super::output::state(r.state.as_str()));
    if r.state == RequestState::Pending {
        let _ = write!(text, "  needs {}", view::needs(&r.approvals));
        if let Some(at) = &r.lapses_at {
            let _ = write!(text, "  lapses {}", ui.until(at));
        }
    }
    for g in &r.grants {
        let _ = write!(
            text,
            "\n{}  {}  {}",
            text::clean(&g.id),
            text::clean(&g.entitlement),
            super::output::state(g.state.as_str())
        );
        if let Some(at) = g.not_after.as_deref().filter(|_| !g.state.is_terminal()) {
            let _ = write!(text, "  ends {}", ui.until(at));
        }
    }
    text
}

/// What to do next.
pub fn hint(cx: &Cx, r: &RequestView) {
    if r.state == RequestState::Pending {
        cx.ui.note(&format!("next: tidegate wait {}", text::clean(&r.id)));
    }
    for g in r.grants.iter().filter(|g| !g.state.is_terminal()) {
        let id = text::clean(&g.id);
        if g.claimable {
            cx.ui.note(&format!("use it: tidegate exec {} -- COMMAND", text::shell_word(&text::clean(&g.entitlement))));
        }
        cx.ui.note(&format!("end it: tidegate end {id}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_says_only_what_was_given() {
        let wish = Wish { duration: "30m".parse().ok(), reason: Some("fix".into()), ticket: None };
        assert_eq!(wish.body(&["a".into()]), json!({"entitlements": ["a"], "reason": "fix", "duration": 1800}));
        assert_eq!(Wish::default().body(&["a".into()]), json!({"entitlements": ["a"], "reason": ""}));
    }

    #[test]
    fn a_start_is_an_instant_or_a_distance() {
        let now: Timestamp = "2026-01-31T14:00:00Z".parse().unwrap();
        assert_eq!(instant("2h", now).unwrap().to_string(), "2026-01-31T16:00:00Z");
        assert_eq!(instant("2026-02-01T08:00:00+01:00", now).unwrap().to_string(), "2026-02-01T07:00:00Z");
        assert_eq!(instant("soon", now).unwrap_err().exit, Exit::Usage);
    }
}
