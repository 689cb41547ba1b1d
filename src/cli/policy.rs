//! `tidegate policy`: test, lint, explain and compare a directory of policies, without a server.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::{clean, count},
    view,
};
use crate::{
    broker::view::SimulationView,
    domain::time::Ttl,
    policy::{
        Files, LoadError, PolicySet, Problem, UncheckedTargets, explain, identities, lint, matrix, ordinary, test,
    },
};

/// Test and explain policies
#[derive(Debug, Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Run the cases of a directory; every rule must be determined by one
    Test(DirArgs),
    /// Look for rules that never apply, entitlements that nobody can get, and the like
    Lint(DirArgs),
    /// Show rule by rule why an identity would or would not get an entitlement
    Explain(ExplainArgs),
    /// Print the table of who may do what, for review
    Matrix(DirArgs),
}

#[derive(Debug, Args)]
struct DirArgs {
    /// The directory
    #[arg(long, value_name = "DIR", default_value = "policies")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    /// Who: an identity of the case files; with --live, of the server
    identity: String,
    /// What
    entitlement: String,
    /// For how long; the entitlement's default if not given
    #[arg(long = "for", value_name = "DURATION")]
    duration: Option<Ttl>,
    /// With this ticket
    #[arg(long, value_name = "TICKET")]
    ticket: Option<String>,
    /// Without a reason
    #[arg(long)]
    no_reason: bool,
    /// As an emergency
    #[arg(long)]
    emergency: bool,
    /// Ask the server, with the facts of now
    #[arg(long, conflicts_with = "dir")]
    live: bool,
    /// The directory
    #[arg(long, value_name = "DIR", default_value = "policies")]
    dir: PathBuf,
}

/// Run it.
pub async fn run(args: PolicyArgs, cx: &Cx) -> Done {
    match args.command {
        PolicyCommand::Test(args) => run_test(&args.dir, cx),
        PolicyCommand::Lint(args) => run_lint(&args.dir, cx),
        PolicyCommand::Matrix(args) => {
            let set = load(&args.dir)?;
            let text = matrix(&set, &identities(&set));
            cx.ui.show(&json!({"matrix": text}), || text.trim_end().to_owned())?;
            Ok(Exit::Ok)
        }
        PolicyCommand::Explain(args) if args.live => run_simulate(&args, cx).await,
        PolicyCommand::Explain(args) => run_explain(&args, cx),
    }
}

fn unusable(error: &LoadError) -> Failure {
    let mut failure = Failure::local("the policies cannot be used");
    failure.details = lines(&error.problems);
    failure.next("set them right, or name another directory with --dir")
}

fn lines(problems: &[Problem]) -> Vec<String> {
    problems.iter().flat_map(|p| p.to_string().lines().map(clean).collect::<Vec<_>>()).collect()
}

fn load(dir: &Path) -> Result<PolicySet, Failure> {
    Files::read(dir).and_then(|files| PolicySet::build(files, &UncheckedTargets)).map_err(|e| unusable(&e))
}

fn run_test(dir: &Path, cx: &Cx) -> Done {
    let report = test(dir, &UncheckedTargets).map_err(|e| unusable(&e))?;
    let value = json!({
        "ok": report.ok(), "passed": report.passed, "failures": report.failures, "undetermined": report.undetermined,
    });
    cx.ui.show(&value, || report.to_string())?;
    Ok(if report.ok() { Exit::Ok } else { Exit::Error })
}

fn run_lint(dir: &Path, cx: &Cx) -> Done {
    let problems = lint(dir, &UncheckedTargets);
    cx.ui.show(&json!({"ok": problems.is_empty(), "problems": problems}), || {
        if problems.is_empty() { "nothing to complain about".to_owned() } else { lines(&problems).join("\n") }
    })?;
    Ok(if problems.is_empty() { Exit::Ok } else { Exit::Error })
}

fn run_explain(args: &ExplainArgs, cx: &Cx) -> Done {
    let set = load(&args.dir)?;
    let everybody = identities(&set);
    let subject = everybody.iter().find(|s| s.identity.name.eq_ignore_ascii_case(&args.identity)).ok_or_else(|| {
        let names: Vec<&str> = everybody.iter().map(|s| s.identity.name.as_str()).collect();
        Failure::new(Exit::NotFound, format!("the case files have no identity `{}`", clean(&args.identity)))
            .next(format!("use one of {}, or ask the server with --live", names.join(", ")))
    })?;
    let known = &set.catalog().entitlements;
    let entitlement = known.values().find(|e| *e.id == *args.entitlement).ok_or_else(|| {
        let names: Vec<&str> = known.values().map(|e| &*e.id).collect();
        Failure::new(Exit::NotFound, format!("the catalog has no entitlement `{}`", clean(&args.entitlement)))
            .next(format!("use one of {}", names.join(", ")))
    })?;
    let mut inputs = ordinary(entitlement);
    inputs.ttl = args.duration.unwrap_or(inputs.ttl);
    inputs.ticket.clone_from(&args.ticket);
    inputs.has_reason = !args.no_reason;
    inputs.emergency = args.emergency;
    let text = explain(&set, subject, entitlement, &inputs);
    let decision = set.decide(subject, entitlement, &inputs);
    let value = serde_json::to_value(&decision).map_err(|e| Failure::local(e.to_string()))?;
    cx.ui.show(&value, || text.trim_end().to_owned())?;
    Ok(Exit::Ok)
}

async fn run_simulate(args: &ExplainArgs, cx: &Cx) -> Done {
    let body = json!({
        "identity": args.identity, "entitlement": args.entitlement, "duration": args.duration,
        "ticket": args.ticket, "emergency": args.emergency,
        "reason": (!args.no_reason).then_some("what if"),
    });
    let answer = cx.client()?.post(&["v1", "policy", "simulate"], &body).await?;
    let (raw, s) = typed::<SimulationView>(answer)?;
    cx.ui.show(&raw, || {
        let groups: Vec<String> = s.approvers.iter().map(|g| clean(g)).collect();
        let mut text = format!("{}   (policy {})", view::verdict(s.verdict), clean(&s.policy_version));
        if s.approvals > 0 {
            let _ = write!(text, "\nneeds {} from {}", count(u32::from(s.approvals), "approval"), groups.join(" or "));
        }
        for line in view::conditions(&s.conditions).into_iter().chain(view::reasons(&s.reasons)) {
            let _ = write!(text, "\n  {line}");
        }
        text
    })?;
    Ok(Exit::Ok)
}
