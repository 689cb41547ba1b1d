//! Why policy answers as it does: every rule that can have a say, by itself, and the outcome. For people; nothing
//! decides on this text.

use std::fmt::Write as _;

use cedar_policy::{Effect, PolicySet as CedarSet, PrincipalConstraint};

use super::{
    action::Action,
    facts::FactError,
    rules::Rule,
    set::{PolicySet, Scene, Slot},
};
use crate::domain::{
    catalog::Entitlement,
    decision::{Inputs, Verdict},
    identity::Subject,
};

/// A trace of `Request`, `AutoApprove` and `Mint` for a subject, rule by rule.
pub fn explain(set: &PolicySet, subject: &Subject, entitlement: &Entitlement, inputs: &Inputs) -> String {
    let mut text = String::new();
    let decision = set.decide(subject, entitlement, inputs);
    let verdict = match decision.verdict {
        Verdict::Auto => "granted automatically".to_owned(),
        Verdict::Approval => {
            let from: Vec<&str> = decision.approvers.iter().map(String::as_str).collect();
            format!("needs {} approval(s) from {}", decision.approvals, from.join(", "))
        }
        Verdict::Denied => "denied".to_owned(),
    };
    let identity = &subject.identity;
    let groups: Vec<&str> = subject.groups.iter().map(String::as_str).collect();
    line(&mut text, 0, &format!("{} asks for {} for {}: {verdict}", identity.name, entitlement.id, inputs.ttl));
    line(
        &mut text,
        1,
        &format!(
            "{}, {}, in {}",
            identity.kind.as_str(),
            if identity.active { "active" } else { "deactivated" },
            if groups.is_empty() { "no group".to_owned() } else { groups.join(", ") }
        ),
    );
    line(&mut text, 1, &format!("policy version {}, longest duration {}", set.version(), decision.max_ttl));
    for condition in &decision.conditions {
        line(&mut text, 1, &format!("[{}] {}", if condition.met { "met" } else { "UNMET" }, condition.text));
    }
    for reason in decision.reasons.iter().filter(|r| !set.rules().iter().any(|rule| rule.id == r.policy)) {
        line(&mut text, 1, &format!("{} {}: {}", reason.effect, reason.policy, reason.text));
    }
    let Some(slot) = set.slot(&entitlement.id) else { return text };
    let scene = set.scene(subject, slot, inputs, None);
    for action in [Action::Request, Action::AutoApprove, Action::Mint] {
        let answer = set.ask(action, &scene);
        line(&mut text, 0, &format!("{action}: {}", if answer.allowed { "allowed" } else { "not allowed" }));
        for rule in set.rules().iter().filter(|r| r.actions.contains(&action)) {
            let outcome = outcome(set, rule, action, subject, slot, &scene);
            let effect = if rule.effect == Effect::Permit { "permit" } else { "forbid" };
            line(&mut text, 1, &format!("{effect} {} ({}:{}): {outcome}", rule.id, rule.file, rule.line));
        }
    }
    text
}

fn outcome(
    set: &PolicySet,
    rule: &Rule,
    action: Action,
    subject: &Subject,
    slot: &Slot,
    scene: &Result<Scene<'_>, FactError>,
) -> String {
    if !rule.admits(&slot.uid, &slot.target) {
        return format!("not about {}", slot.entitlement.id);
    }
    let group = match rule.policy.principal_constraint() {
        PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => Some(uid.id().unescaped().to_owned()),
        _ => None,
    };
    if let Some(group) = group.filter(|g| !subject.groups.iter().any(|have| have.to_lowercase() == *g)) {
        return format!("not in group {group}");
    }
    let alone = CedarSet::from_policies([rule.policy.clone()]).map_err(|e| e.to_string());
    let answer = match (&alone, scene) {
        (Ok(program), Ok(scene)) => set.ask_only(program, action, scene).map_err(|e| e.to_string()),
        (Err(e), _) => Err(e.clone()),
        (_, Err(e)) => Err(e.to_string()),
    };
    match answer {
        Err(e) => format!("ERROR: {e}"),
        Ok(answer) => match (answer.errors.first(), answer.reasons.first()) {
            (Some(error), _) => format!("ERROR: {}", error.text),
            (None, Some(_)) => format!("APPLIES: {}", rule.text()),
            (None, None) => "its conditions do not hold".to_owned(),
        },
    }
}

fn line(text: &mut String, depth: usize, words: &str) {
    let _infallible = writeln!(text, "{:width$}{words}", "", width = depth * 2);
}
