//! What is allowed but unwise: texts that are missing, rules that cannot have a say, entitlements that nobody can get,
//! permits without any bound. Never changes what is decided.

use std::path::Path;

use cedar_policy::{Effect, PrincipalConstraint, ResourceConstraint};

use super::{
    action::Action,
    files::{CATALOG, Files},
    problem::{LoadError, Place, Problem},
    rules::{self, Rule},
    set::{PolicySet, Slot},
    targets::TargetDirectory,
};
use crate::domain::catalog::Entitlement;

/// Look at a directory. What does not load is reported as it is by a load.
pub fn lint(dir: &Path, targets: &dyn TargetDirectory) -> Vec<Problem> {
    match Files::read(dir).and_then(|files| PolicySet::build(files, targets)) {
        Ok(set) => lint_set(&set),
        Err(LoadError { problems }) => problems,
    }
}

/// Look at a set that loads.
pub fn lint_set(set: &PolicySet) -> Vec<Problem> {
    let mut problems = rules::warnings(&set.files, &set.schema, set.rules());
    for rule in set.rules() {
        if rule.reason.is_none() {
            problems.push(rule.problem(
                format!("policy `{}` has no @reason", rule.id),
                "write @reason(\"text shown to people\"): they see it when it decides",
            ));
        }
        if unbounded(rule) {
            problems.push(rule.problem(
                format!("policy `{}` permits everybody everything", rule.id),
                "name a group, an entitlement or a condition",
            ));
        }
        let slots = set.catalog().entitlements.keys().filter_map(|id| set.slot(id));
        if !slots.into_iter().any(|slot| rule.admits(&slot.uid, &slot.target)) {
            problems.push(rule.problem(
                format!("policy `{}` is about nothing in the catalog", rule.id),
                "remove it, or correct its resource",
            ));
        }
    }
    for (id, entitlement) in &set.catalog().entitlements {
        let Some(slot) = set.slot(id) else { continue };
        if let Some((message, help)) = out_of_reach(set, slot, entitlement) {
            problems.push(at_entitlement(&set.files, entitlement, message, help));
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn unbounded(rule: &Rule) -> bool {
    let policy = &rule.policy;
    rule.effect == Effect::Permit
        && !policy.has_non_scope_constraint()
        && matches!(policy.principal_constraint(), PrincipalConstraint::Any | PrincipalConstraint::Is(_))
        && matches!(policy.resource_constraint(), ResourceConstraint::Any | ResourceConstraint::Is(_))
}

fn out_of_reach(set: &PolicySet, slot: &Slot, entitlement: &Entitlement) -> Option<(String, &'static str)> {
    let permitted = |action: Action| {
        set.rules()
            .iter()
            .any(|r| r.effect == Effect::Permit && r.actions.contains(&action) && r.admits(&slot.uid, &slot.target))
    };
    let id = &entitlement.id;
    if !permitted(Action::Request) {
        return Some((format!("nobody can ask for `{id}`"), "add a permit of Request for it, or remove it"));
    }
    if !permitted(Action::Mint) {
        return Some((format!("nobody could claim `{id}`"), "add a permit of Mint for it"));
    }
    let automatic = permitted(Action::AutoApprove);
    if entitlement.approvers.is_empty() && !automatic {
        return Some((format!("nobody can approve `{id}`"), "name approvers, or add a permit of AutoApprove for it"));
    }
    if !entitlement.approvers.is_empty() && !permitted(Action::Approve) {
        return Some((format!("no policy lets anybody approve `{id}`"), "add a permit of Approve for it"));
    }
    None
}

fn at_entitlement(files: &Files, entitlement: &Entitlement, message: String, help: &str) -> Problem {
    let shown = files.shown(CATALOG);
    let text = files.get(CATALOG).unwrap_or_default();
    let quoted = format!("\"{}\"", entitlement.id);
    Place { file: &shown, text }.at(text.find(&quoted).unwrap_or(0), message, help)
}
