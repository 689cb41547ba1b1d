//! `tidegate targets`: what access is given on, whether it works, and what is there that should not be.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::typed,
    exit::{Done, Exit},
    global::Cx,
    output::sheet,
    text::clean,
    view,
};
use crate::{
    broker::view::{CheckView, SweepView, TargetView},
    connectors::{Kind, sheet::title},
};

/// Look at the systems that access is given on
#[derive(Debug, Args)]
pub struct TargetsArgs {
    #[command(subcommand)]
    command: TargetsCommand,
}

#[derive(Debug, Subcommand)]
enum TargetsCommand {
    /// List them
    Ls,
    /// Show one in full
    Show {
        /// The target
        target: String,
    },
    /// Ask one whether it is reachable and the broker's rights are enough
    Check {
        /// The target
        target: String,
    },
    /// Compare one with the ledger; end what bears our mark without a live grant
    Sweep {
        /// The target
        target: String,
    },
    /// List the kinds of target that there are connectors for
    Kinds,
}

/// Run it.
pub async fn run(args: TargetsArgs, cx: &Cx) -> Done {
    match args.command {
        TargetsCommand::Ls => {
            let rows = cx.client()?.whole(&["v1", "targets"]).await?;
            let list = rows.iter().map(|row| typed::<TargetView>(row.clone()).map(|(_, t)| t));
            let list = list.collect::<Result<Vec<_>, _>>()?;
            cx.ui.show_all(&rows, || view::targets(&cx.ui, &list))?;
            Ok(Exit::Ok)
        }
        TargetsCommand::Show { target } => {
            let (raw, target) = cx.client()?.get_as::<TargetView>(&["v1", "targets", &target]).await?;
            cx.ui.show(&raw, || view::target(&target))?;
            Ok(Exit::Ok)
        }
        TargetsCommand::Check { target } => check(&target, cx).await,
        TargetsCommand::Sweep { target } => sweep(&target, cx).await,
        TargetsCommand::Kinds => {
            let kinds = crate::connectors::KINDS;
            let about = |kind: &Kind| title(kind.sheet).to_owned();
            let rows: Vec<Value> = kinds.iter().map(|k| json!({"kind": k.name, "about": about(k)})).collect();
            cx.ui.show_all(&rows, || {
                cx.ui.table(&["kind", "about"], kinds.iter().map(|k| vec![k.name.to_owned(), about(k)]).collect())
            })?;
            Ok(Exit::Ok)
        }
    }
}

async fn check(target: &str, cx: &Cx) -> Done {
    let answer = cx.client()?.post(&["v1", "targets", target, "check"], &json!({})).await?;
    let (raw, check) = typed::<CheckView>(answer)?;
    cx.ui.show(&raw, || view::findings(&check.findings))?;
    cx.ui.note(&format!("{} {}", clean(&check.target), if check.ok { "is ready" } else { "is not ready" }));
    Ok(if check.ok { Exit::Ok } else { Exit::Error })
}

async fn sweep(target: &str, cx: &Cx) -> Done {
    let answer = cx.client()?.post(&["v1", "targets", target, "sweep"], &json!({})).await?;
    let (raw, sweep) = typed::<SweepView>(answer)?;
    let list = |items: &[String]| {
        let items = items.iter().map(|i| clean(i)).collect::<Vec<_>>().join(", ");
        Some(if items.is_empty() { "none".to_owned() } else { items })
    };
    cx.ui.show(&raw, || {
        sheet(&[
            ("found", Some(sweep.found.to_string())),
            ("orphans ended", list(&sweep.orphans_ended)),
            ("orphans left", list(&sweep.orphans_left)),
            ("missing", list(&sweep.missing)),
            ("longer than granted", list(&sweep.wider)),
        ])
    })?;
    let clean = sweep.orphans_left.is_empty() && sweep.missing.is_empty() && sweep.wider.is_empty();
    Ok(if clean { Exit::Ok } else { Exit::Error })
}
