//! `tidegate search`: find what can be asked for, and the line to ask with.

use clap::Args;

use super::{
    client::typed,
    exit::{Done, Exit, Failure},
    global::Cx,
    text::{clean, shell_word},
    view,
};
use crate::{
    broker::view::{EntitlementView, TargetView},
    domain::decision::Verdict,
};

/// Find what you can ask for
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Words to look for in names, targets and descriptions; all of them if none is given
    #[arg(value_name = "TEXT")]
    pub words: Vec<String>,
    /// Only on targets of this kind; `tidegate targets kinds` lists them
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// Only with this label, or with this value of it; may be given several times
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub label: Vec<String>,
    /// Only what would be granted, at once or after approval
    #[arg(long)]
    pub requestable: bool,
}

fn has(e: &EntitlementView, label: &str) -> bool {
    match label.split_once('=') {
        Some((name, value)) => e.labels.get(name).is_some_and(|known| known == value),
        None => e.labels.contains_key(label),
    }
}

/// Names of the targets of a kind.
async fn of_kind(kind: &str, cx: &Cx) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for row in cx.client()?.whole(&["v1", "targets"]).await? {
        let (_, target) = typed::<TargetView>(row)?;
        if target.kind == kind {
            names.push(target.id);
        }
    }
    Ok(names)
}

/// Run it.
pub async fn run(args: SearchArgs, cx: &Cx) -> Done {
    let words: Vec<String> = args.words.iter().map(|w| w.to_lowercase()).collect();
    let targets = match &args.kind {
        Some(kind) => Some(of_kind(kind, cx).await?),
        None => None,
    };
    let mut found = Vec::new();
    for row in cx.client()?.whole(&["v1", "entitlements"]).await? {
        let (raw, e) = typed::<EntitlementView>(row)?;
        let text = format!("{} {} {} {}", e.id, e.target, e.title, e.description).to_lowercase();
        let fits = words.iter().all(|w| text.contains(w))
            && args.label.iter().all(|label| has(&e, label))
            && targets.as_ref().is_none_or(|targets| targets.contains(&e.target));
        if fits && !(args.requestable && e.verdict == Verdict::Denied) {
            found.push((raw, e));
        }
    }
    let (raw, entitlements): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    let Some(first) = entitlements.iter().find(|e| e.verdict != Verdict::Denied).or(entitlements.first()) else {
        return Err(Failure::new(Exit::NotFound, "nothing that you can ask for matches")
            .next("try fewer words: `tidegate search` alone lists everything"));
    };
    cx.ui.show_all(&raw, || view::entitlements(&cx.ui, &entitlements))?;
    cx.ui.note(&format!("ask: tidegate request {} --for 30m --reason '...'", shell_word(&clean(&first.id))));
    Ok(Exit::Ok)
}
