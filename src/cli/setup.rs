//! `tidegate setup`: what other programs need in their configuration to call the helpers here.
//!
//! Prints it; or writes it after showing the difference and asking. In somebody else's file only what stands between
//! our two marks is touched.

mod place;
mod snippets;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::{
    place::Place,
    snippets::{Known, Snippet},
};
use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::clean,
};
use crate::{
    broker::view::{EntitlementView, TargetView},
    domain::decision::Verdict,
};

/// Show or write what other programs need in their configuration to get their credentials from here
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Which program
    pub tool: Tool,
    /// For this target or entitlement; for all that fit if not given. May be given several times
    #[arg(long, value_name = "TARGET")]
    pub target: Vec<String>,
    /// Which host it is for (git, ssh)
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only show it; so it is without --write
    #[arg(long, conflicts_with = "write")]
    pub print: bool,
    /// Write it, after showing the difference
    #[arg(long)]
    pub write: bool,
    /// Write without asking
    #[arg(short, long, requires = "write")]
    pub yes: bool,
}

/// A program that takes credentials from helpers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// Profiles of the AWS command line and SDKs
    Aws,
    /// Users of a kubeconfig
    Kube,
    /// A credential helper for one host
    Git,
    /// A certificate in the ssh-agent before logging in
    Ssh,
    /// Commands that open psql on a target
    Psql,
}

impl Tool {
    /// The kind of target that it is for.
    const fn kind(self) -> &'static str {
        match self {
            Self::Aws => "aws_sts",
            Self::Kube | Self::Git => "token",
            Self::Ssh => "ssh",
            Self::Psql => "postgres",
        }
    }
}

/// Run it.
pub async fn run(args: SetupArgs, cx: &Cx) -> Done {
    let names = if args.target.is_empty() { fitting(args.tool, cx).await? } else { args.target.clone() };
    let host = args.host.as_deref();
    if host.is_some() != matches!(args.tool, Tool::Git | Tool::Ssh) {
        let what =
            if host.is_some() { "--host is for git and ssh" } else { "--host is missing: which host is it for?" };
        return Err(Failure::usage(what));
    }
    let known = Known::new(&names, host, cx)?;
    let Snippet { text, next } = known.snippet(args.tool)?;
    let place = Place::of(args.tool)?;
    let file = place.path.display().to_string();
    if !args.write {
        cx.ui.show(&json!({"file": file, "text": text}), || text.trim_end().to_owned())?;
        cx.ui.note(&format!("it belongs into {}; with --write it is put there", clean(&file)));
        cx.ui.note(&next);
        return Ok(Exit::Ok);
    }
    let change = place.change(&text)?;
    if let Some(difference) = change.difference() {
        cx.ui.say(&difference);
        cx.ui.confirm(&format!("Write {}?", clean(&file)), args.yes, "-y").await?;
        change.write()?;
        cx.ui.note(&format!("written: {}", clean(&file)));
    } else {
        cx.ui.note(&format!("{} says so already", clean(&file)));
    }
    cx.ui.note(&next);
    cx.ui.show(&json!({"file": file, "text": text}), String::new)?;
    Ok(Exit::Ok)
}

/// Everything of that kind that I could ask for.
async fn fitting(tool: Tool, cx: &Cx) -> Result<Vec<String>, Failure> {
    let mut targets = Vec::new();
    for row in cx.client()?.whole(&["v1", "targets"]).await? {
        let (_, target) = typed::<TargetView>(row)?;
        if target.kind == tool.kind() {
            targets.push(target.id);
        }
    }
    let mut names = Vec::new();
    for row in cx.client()?.whole(&["v1", "entitlements"]).await? {
        let (_, e) = typed::<EntitlementView>(row)?;
        if targets.contains(&e.target) && e.verdict != Verdict::Denied {
            names.push(e.id);
        }
    }
    if names.is_empty() {
        let what = format!("there is nothing of kind `{}` that you could ask for", tool.kind());
        return Err(Failure::new(Exit::NotFound, what).next("name it with --target"));
    }
    Ok(names)
}
