//! `tidegate sync`: accounts in applications, sources of truth, and what is to be done by hand.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::typed,
    exit::{Done, Exit},
    global::Cx,
    output::sheet,
    text::clean,
};
use crate::broker::sync_view::{Action, ExplainView, ReadingReport, Report, RunView, SyncView, TaskView};

/// Keep applications aligned with the directory, and the directory with its sources
#[derive(Debug, Args)]
pub struct SyncArgs {
    #[command(subcommand)]
    command: SyncCommand,
}

#[derive(Debug, Subcommand)]
enum SyncCommand {
    /// List applications and sources, and how they stand
    Ls,
    /// Accept that so many people of a source leave
    Accept {
        /// The source
        name: String,
        /// Do not ask
        #[arg(short = 'y', long)]
        yes: bool,
    },
    /// Show what `apply` would do, and why
    Plan {
        /// The application or source
        name: String,
    },
    /// Bring the accounts of an application, or the directory, to what they should be
    Apply {
        /// The application or source
        name: String,
        /// Also if a great many people would be deactivated
        #[arg(long)]
        accept: bool,
        /// Apply without being asked
        #[arg(short, long)]
        yes: bool,
    },
    /// Read every account back
    Verify {
        /// The application
        name: String,
    },
    /// Show what differs and what is nobody's
    Drift {
        /// The application
        name: String,
    },
    /// Show why somebody has, or has not, an account in an application
    Explain {
        /// The application
        name: String,
        /// Whose, by name or id
        identity: String,
    },
    /// List what is to be done by hand
    Tasks,
    /// Say that something was done by hand, and what shows it
    Done {
        /// Id of the task
        task: String,
        /// What shows it; goes to the audit log
        #[arg(long, value_name = "TEXT")]
        evidence: String,
    },
}

/// Run it.
pub async fn run(args: SyncArgs, cx: &Cx) -> Done {
    match args.command {
        SyncCommand::Ls => ls(cx).await,
        SyncCommand::Accept { name, yes } => super::review::accept(&name, yes, cx).await,
        SyncCommand::Plan { name } => go(&name, "plan", json!({}), cx).await,
        SyncCommand::Apply { name, accept, yes } => {
            let question = format!("Apply to {}? `tidegate sync plan` shows what is done", clean(&name));
            cx.ui.confirm(&question, yes, "--yes").await?;
            go(&name, "apply", json!({"accept": accept}), cx).await
        }
        SyncCommand::Verify { name } => go(&name, "verify", json!({}), cx).await,
        SyncCommand::Drift { name } => go(&name, "drift", json!({}), cx).await,
        SyncCommand::Explain { name, identity } => explain(&name, &identity, cx).await,
        SyncCommand::Tasks => tasks(cx).await,
        SyncCommand::Done { task, evidence } => {
            let body = json!({"evidence": evidence});
            let answer = cx.client()?.post(&["v1", "sync", "tasks", &task, "done"], &body).await?;
            let (raw, task) = typed::<TaskView>(answer)?;
            cx.ui.show(&raw, || {
                format!("{} {} for {}: done", clean(&task.application), clean(&task.what), clean(&task.name))
            })?;
            Ok(Exit::Ok)
        }
    }
}

async fn explain(name: &str, identity: &str, cx: &Cx) -> Done {
    let path = ["v1", "sync", name, "explain", identity];
    let (raw, it) = typed::<ExplainView>(cx.client()?.get(&path, &[]).await?)?;
    cx.ui.show(&raw, || {
        let state = it.state.map_or_else(|| "no account".to_owned(), |s| s.as_str().replace('_', " "));
        let mut text = sheet(&[
            ("account", Some(format!("{} in {} ({})", clean(&it.name), clean(&it.application), clean(&it.kind)))),
            ("should be", Some(clean(&it.should_be))),
            ("stands", Some(state)),
            ("error", it.error.as_deref().map(clean)),
        ]);
        for reason in &it.reasons {
            text.push_str("\n  ");
            text.push_str(&clean(reason));
        }
        text
    })?;
    Ok(Exit::Ok)
}

fn counts(counts: &std::collections::BTreeMap<String, u64>) -> String {
    let each = counts.iter().map(|(name, n)| format!("{n} {}", clean(name).replace('_', " ")));
    each.collect::<Vec<_>>().join(", ")
}

async fn ls(cx: &Cx) -> Done {
    let rows = cx.client()?.whole(&["v1", "sync"]).await?;
    let list = rows.iter().map(|row| typed::<SyncView>(row.clone()).map(|(_, s)| s)).collect::<Result<Vec<_>, _>>()?;
    cx.ui.show_all(&rows, || {
        let row = |s: &SyncView| {
            let last = s.last_run.as_ref().map_or_else(
                || "never".to_owned(),
                |r| format!("{} {}, {}", clean(&r.verb), clean(&r.state), cx.ui.at(&r.started_at)),
            );
            let stands = match s.open_tasks {
                0 => counts(&s.accounts),
                n => format!("{}; {n} tasks", counts(&s.accounts)),
            };
            vec![clean(&s.id), clean(&s.role), clean(&s.kind), stands, last, clean(&s.health)]
        };
        cx.ui.table(&["NAME", "ROLE", "KIND", "ACCOUNTS", "LAST RUN", "HEALTH"], list.iter().map(row).collect())
    })?;
    Ok(Exit::Ok)
}

async fn go(name: &str, verb: &str, body: Value, cx: &Cx) -> Done {
    let answer = cx.client()?.post(&["v1", "sync", name, verb], &body).await?;
    let (raw, run) = typed::<RunView>(answer)?;
    cx.ui.show(&raw, || show(&run, cx))?;
    if run.state == "running" {
        cx.ui.note("it goes on; `tidegate sync ls` shows how it ends");
    }
    let open = ["pending", "not_verified", "failed"].iter().any(|s| run.accounts.get(*s).is_some_and(|n| *n > 0));
    Ok(if matches!(run.state.as_str(), "done" | "running") && !open { Exit::Ok } else { Exit::Error })
}

fn show(run: &RunView, cx: &Cx) -> String {
    let mut parts = vec![sheet(&[
        ("run", Some(format!("{} ({} of {})", clean(&run.id), clean(&run.verb), clean(&run.name)))),
        ("state", Some(clean(&run.state))),
        ("error", run.error.as_deref().map(clean)),
        ("accounts", (!run.accounts.is_empty()).then(|| counts(&run.accounts))),
        ("correlation", Some(clean(&run.correlation_id))),
    ])];
    if let Some(report) = &run.report {
        parts.push(application(report, cx));
    }
    if let Some(reading) = &run.reading {
        parts.push(source(reading));
    }
    parts.join("\n")
}

fn word(action: Action) -> String {
    serde_json::to_value(action).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn application(report: &Report, cx: &Cx) -> String {
    let mut text = sheet(&[
        ("read", Some(format!("{} accounts, {} as they should be", report.read, report.aligned))),
        ("to do", (!report.actions.is_empty()).then(|| counts(&report.actions))),
        ("left alone", (report.outside > 0).then(|| format!("{} outside the scope", report.outside))),
    ]);
    if !report.items.is_empty() {
        let rows = report.items.iter().map(|item| {
            let differs = item.differences.iter().map(|d| {
                let value = |v: &Option<String>| v.as_deref().map_or_else(|| "nothing".to_owned(), clean);
                format!("{}: {} → {}", clean(&d.attribute), value(&d.is), value(&d.should))
            });
            let why = std::iter::once(clean(&item.reason)).chain(differs).collect::<Vec<_>>().join("; ");
            vec![word(item.action), clean(&item.name), why]
        });
        text.push('\n');
        text.push_str(&cx.ui.table(&["ACTION", "ACCOUNT", "WHY"], rows.collect()));
    }
    if report.more {
        text.push_str("\nThere are more than are listed.");
    }
    text
}

fn source(reading: &ReadingReport) -> String {
    let list =
        |items: &[String]| (!items.is_empty()).then(|| items.iter().map(|i| clean(i)).collect::<Vec<_>>().join(", "));
    let refused: Vec<String> =
        reading.refused.iter().map(|r| format!("line {}: {} {}", r.line, r.field, r.problem)).collect();
    sheet(&[
        ("read", Some(format!("{} lines, {} unchanged", reading.read, reading.unchanged))),
        ("people", Some(format!("{} join, {} change, {} leave", reading.joined, reading.changed, reading.left))),
        ("leavers", list(&reading.leavers)),
        ("refused", list(&refused)),
        ("conflicts", list(&reading.conflicts)),
        ("incomplete", reading.incomplete.then(|| "not all could be read: nobody is taken for gone".to_owned())),
        ("stopped", reading.stopped.as_deref().map(clean)),
    ])
}

async fn tasks(cx: &Cx) -> Done {
    let rows = cx.client()?.whole(&["v1", "sync", "tasks"]).await?;
    let list = rows.iter().map(|row| typed::<TaskView>(row.clone()).map(|(_, t)| t)).collect::<Result<Vec<_>, _>>()?;
    cx.ui.show_all(&rows, || {
        let row = |t: &TaskView| {
            let deadline = format!("{}{}", cx.ui.at(&t.deadline), if t.overdue { " (overdue)" } else { "" });
            vec![clean(&t.id), clean(&t.application), clean(&t.what), clean(&t.name), clean(&t.owner), deadline]
        };
        cx.ui.table(&["TASK", "APPLICATION", "WHAT", "FOR", "OWNER", "DEADLINE"], list.iter().map(row).collect())
    })?;
    Ok(Exit::Ok)
}
