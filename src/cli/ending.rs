//! `tidegate extend`, `release`, `revoke` and `attest`: what can still be done with a grant.

use clap::Args;
use serde_json::{Value, json};

use super::{
    access::{self, Found},
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::clean,
    view, wait,
};
use crate::{broker::view::GrantView, domain::time::Ttl};

/// Prolong a grant; policy decides anew
#[derive(Debug, Args)]
pub struct ExtendArgs {
    /// The grant, or the entitlement or target that you hold one on
    #[arg(value_name = "GRANT|ENTITLEMENT|TARGET")]
    pub grant: String,
    /// By how long
    #[arg(long = "for", value_name = "DURATION")]
    pub duration: Ttl,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub reason: String,
}

/// Give back what you hold
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The grant, or the entitlement or target that you hold one on
    #[arg(value_name = "GRANT|ENTITLEMENT|TARGET")]
    pub grant: String,
    /// Wait until the target has confirmed that it is gone
    #[arg(long)]
    pub wait: bool,
}

/// Take a grant away from its holder
#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// The grant
    pub grant: String,
    /// Why, for the holder and the record
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Wait until the target has confirmed that it is gone
    #[arg(long)]
    pub wait: bool,
    /// Revoke without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Answer with your name that a quarantined grant is gone
#[derive(Debug, Args)]
pub struct AttestArgs {
    /// The grant
    pub grant: String,
    /// How you know, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Attest without being asked
    #[arg(short, long)]
    pub yes: bool,
}

/// Extend.
pub async fn extend(args: ExtendArgs, cx: &Cx) -> Done {
    let body = json!({"duration": args.duration, "reason": args.reason});
    send(cx, &mine(&args.grant, cx).await?, "extend", &body, false).await
}

/// The grant of that id, or my live one under that name.
async fn mine(name: &str, cx: &Cx) -> Result<String, Failure> {
    if name.starts_with("grt_") {
        return Ok(name.to_owned());
    }
    match access::find(name, cx).await? {
        Found::Live(grant) => Ok(grant.id),
        Found::Waiting(request) => Err(access::pending(&request)),
        Found::Nothing => Err(access::nothing(name)),
    }
}

/// Release.
pub async fn release(args: ReleaseArgs, cx: &Cx) -> Done {
    send(cx, &mine(&args.grant, cx).await?, "release", &json!({}), args.wait).await
}

/// Revoke.
pub async fn revoke(args: RevokeArgs, cx: &Cx) -> Done {
    terms(cx, &args.grant).await?;
    cx.ui.confirm("Take it away now?", args.yes, "-y").await?;
    send(cx, &args.grant, "revoke", &json!({"reason": args.reason}), args.wait).await
}

/// Attest.
pub async fn attest(args: AttestArgs, cx: &Cx) -> Done {
    terms(cx, &args.grant).await?;
    cx.ui.confirm("Attest that it is gone?", args.yes, "-y").await?;
    send(cx, &args.grant, "attest", &json!({"reason": args.reason}), false).await
}

async fn terms(cx: &Cx, id: &str) -> Result<(), super::exit::Failure> {
    let (_, grant) = cx.client()?.get_as::<GrantView>(&["v1", "grants", id]).await?;
    cx.ui.note(&view::grant(&cx.ui, &grant));
    Ok(())
}

async fn send(cx: &Cx, id: &str, verb: &str, body: &Value, wait: bool) -> Done {
    let (mut raw, mut grant) = typed::<GrantView>(cx.client()?.post(&["v1", "grants", id, verb], body).await?)?;
    if wait {
        (raw, grant) = wait::until_ended(id, cx).await?;
    }
    cx.ui.show(&raw, || view::grant(&cx.ui, &grant))?;
    if grant.state == crate::domain::grant::GrantState::Revoking {
        cx.ui.note(&format!("It is being taken away; `tidegate show {}` shows the proof.", clean(id)));
    }
    Ok(Exit::Ok)
}
