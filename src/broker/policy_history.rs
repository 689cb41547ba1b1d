//! Policy versions that were in force, what changed between two of them, and what their own cases say.

use std::collections::BTreeSet;

use similar::{ChangeTag, TextDiff};

use super::{
    Broker, BrokerError, Ctx,
    view::{ChangedFile, ChangedLine, PolicyVersionView},
};
use crate::policy::{TestReport, test_set};

/// Versions that are listed.
const LISTED: u32 = 50;
/// Unchanged lines around a change.
const AROUND: usize = 3;

impl Broker {
    /// Keep the texts of the version in force, so that it can be compared with later ones. Decides nothing, and is
    /// recorded by the event of the change itself.
    pub async fn keep_policy(&self) -> Result<(), BrokerError> {
        if self.may_change().is_err() {
            return Ok(());
        }
        let policy = self.policy();
        let (texts, now) = (policy.texts(), self.now());
        loop {
            let mut tx = self.store.begin_background().await?;
            let kept = tx.keep_policy(policy.version(), &texts, now).await;
            if let Some(result) = tx.end(kept).await {
                return Ok(result?);
            }
        }
    }

    /// Versions that were in force, the newest first: for administrators and auditors.
    pub async fn policy_versions(&self, ctx: &Ctx) -> Result<Vec<PolicyVersionView>, BrokerError> {
        only_readers(ctx)?;
        let now = self.policy();
        let found = self.store.policy_versions(LISTED).await?;
        let view = |v: crate::store::PolicyVersion| PolicyVersionView {
            in_force: v.version == now.version(),
            version: v.version,
            loaded_at: v.loaded_at.to_string(),
        };
        Ok(found.into_iter().map(view).collect())
    }

    /// What changed from one version to another, file by file.
    pub async fn policy_diff(&self, ctx: &Ctx, from: &str, to: &str) -> Result<Vec<ChangedFile>, BrokerError> {
        only_readers(ctx)?;
        let missing = || BrokerError::NotFound("policy version");
        let old = self.store.policy_texts(from).await?.ok_or_else(missing)?;
        let new = self.store.policy_texts(to).await?.ok_or_else(missing)?;
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let file = |name: &String| {
            let text =
                |texts: &std::collections::BTreeMap<String, String>| texts.get(name).cloned().unwrap_or_default();
            let (before, after) = (text(&old), text(&new));
            (before != after).then(|| ChangedFile { name: name.clone(), lines: changed(&before, &after) })
        };
        Ok(names.into_iter().filter_map(file).collect())
    }

    /// Run the cases that came with the policy in force.
    pub async fn test_policy(&self, ctx: &Ctx) -> Result<TestReport, BrokerError> {
        only_readers(ctx)?;
        let policy = self.policy();
        // It takes a while, and nobody else shall wait for it.
        let report = tokio::task::spawn_blocking(move || test_set(&policy)).await;
        report.map_err(|e| BrokerError::State(format!("the cases could not be run: {e}")))
    }
}

fn changed(before: &str, after: &str) -> Vec<ChangedLine> {
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(AROUND) {
        if !lines.is_empty() {
            lines.push(ChangedLine { mark: ' ', text: "…".to_owned() });
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let mark = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(ChangedLine { mark, text: change.value().trim_end_matches('\n').to_owned() });
        }
    }
    lines
}

fn only_readers(ctx: &Ctx) -> Result<(), BrokerError> {
    if ctx.sees_everything() {
        return Ok(());
    }
    Err(BrokerError::Forbidden("versions of the policy are for administrators and auditors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_shown_with_what_is_around_it() {
        let before = (1..=20).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
        let after = before.replace("line 10\n", "line ten\n");
        let lines = changed(&before, &after);
        let text: Vec<String> = lines.iter().map(|l| format!("{}{}", l.mark, l.text)).collect();
        assert_eq!(text.len(), 8, "{text:?}");
        assert!(text.contains(&"-line 10".to_owned()) && text.contains(&"+line ten".to_owned()));
        assert!(changed(&before, &before).is_empty());
    }
}
