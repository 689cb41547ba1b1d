//! `tidegate ls`: lists, with filters, and kept up to date if that is wanted.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    output::Ui,
    view,
};
use crate::{
    broker::view::RequestView,
    domain::time::{Timestamp, Ttl},
};

/// List requests, grants, approvals that wait for you, and more
#[derive(Debug, Args)]
pub struct LsArgs {
    /// What to list
    #[arg(value_enum, default_value_t = What::Requests)]
    pub what: What,
    /// Only my own
    #[arg(long)]
    pub mine: bool,
    /// Only in this state, such as pending or active
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Only from the last hours or days: 8h, 7d
    #[arg(long, value_name = "DURATION")]
    pub since: Option<Ttl>,
    /// Show changes until Ctrl-C
    #[arg(long)]
    pub watch: bool,
}

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Who asked for what
    Requests,
    /// Who holds what
    Grants,
    /// Requests that wait for my decision
    Approvals,
    /// What I can ask for
    Entitlements,
    /// Where access is given
    Targets,
    /// Kill switches in force
    Locks,
    /// People, workloads and agents
    Identities,
}

/// Run it.
pub async fn run(args: LsArgs, cx: &Cx) -> Done {
    check(&args)?;
    let mut shown: Option<Vec<Value>> = None;
    loop {
        let rows = fetch(&args, cx).await?;
        if shown.as_ref() != Some(&rows) {
            if args.watch {
                cx.ui.clear_screen()?;
            }
            let text = text(args.what, &cx.ui, &rows)?;
            cx.ui.show_all(&rows, || text)?;
            shown = Some(rows);
        }
        if !args.watch {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Flags that this list has no use for are mistakes.
fn check(args: &LsArgs) -> Result<(), Failure> {
    let refuse = |flag: &str| Err(Failure::usage(format!("{flag} is only for requests and grants")));
    let has_state = matches!(args.what, What::Requests | What::Grants);
    if args.state.is_some() && !has_state {
        return refuse("--state");
    }
    if args.mine && !has_state {
        return refuse("--mine");
    }
    if args.since.is_some() && !(has_state || args.what == What::Approvals) {
        return refuse("--since");
    }
    Ok(())
}

async fn fetch(args: &LsArgs, cx: &Cx) -> Result<Vec<Value>, Failure> {
    let client = cx.client()?;
    let mut query: Vec<(&str, String)> = Vec::new();
    if let Some(state) = &args.state {
        query.push(("state", state.to_lowercase()));
    }
    let path = match args.what {
        What::Requests => {
            if args.mine {
                query.push(("role", "requester".to_owned()));
            }
            "requests"
        }
        What::Approvals => {
            query.extend([("role", "approver".to_owned()), ("state", "pending".to_owned())]);
            "requests"
        }
        What::Grants => {
            if args.mine {
                query.push(("holder", "me".to_owned()));
            }
            "grants"
        }
        What::Entitlements => "entitlements",
        What::Targets => "targets",
        What::Locks => "locks",
        What::Identities => "identities",
    };
    let rows = match args.what {
        What::Entitlements | What::Targets | What::Locks => {
            let mut rows = client.whole(&["v1", path]).await?;
            rows.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
            rows
        }
        _ => client.list(&["v1", path], &query, args.limit).await?,
    };
    let Some(since) = args.since else { return Ok(rows) };
    let oldest = cx.ui.now().minus_std(since.as_std());
    Ok(rows.into_iter().filter(|row| began(row).is_none_or(|at| at >= oldest)).collect())
}

/// When a request was asked or a grant was decided.
fn began(row: &Value) -> Option<Timestamp> {
    row.get("created_at").or_else(|| row.pointer("/requested/at"))?.as_str()?.parse().ok()
}

fn all<T: DeserializeOwned>(rows: &[Value]) -> Result<Vec<T>, Failure> {
    rows.iter().map(|row| typed(row.clone()).map(|(_, it)| it)).collect()
}

/// The rows as a table.
fn text(what: What, ui: &Ui, rows: &[Value]) -> Result<String, Failure> {
    Ok(match what {
        What::Requests => view::requests(ui, &all(rows)?),
        What::Approvals if rows.is_empty() => "nothing waits for you".to_owned(),
        What::Approvals => view::requests(ui, &all::<RequestView>(rows)?),
        What::Grants => view::grants(ui, &all(rows)?),
        What::Entitlements => view::entitlements(ui, &all(rows)?),
        What::Targets => view::targets(ui, &all(rows)?),
        What::Locks => view::locks(ui, &all(rows)?),
        What::Identities => view::identities(ui, &all(rows)?),
    })
}
