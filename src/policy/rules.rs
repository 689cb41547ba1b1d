//! Reads `*.cedar`: names each policy by its `@id`, reads its obligations, validates it strictly. What does not
//! validate is refused as a whole; there is no half-loaded set.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet as CedarSet, ResourceConstraint, Schema,
    ValidationMode, Validator, ffi::DetailedError,
};

use super::{
    action::Action,
    declared::{self, Declared},
    files::{Files, SCHEMA},
    obligations::Obligations,
    problem::{Place, Problem},
};
use crate::domain::catalog::Catalog;

/// A policy with what we read from it.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The `@id`.
    pub id: String,
    /// Permit or forbid.
    pub effect: Effect,
    /// The actions that its scope admits.
    pub actions: BTreeSet<Action>,
    /// The `@reason`.
    pub reason: Option<String>,
    /// What it asks for in return.
    pub obligations: Obligations,
    /// The file, as shown to people.
    pub file: String,
    /// Where it starts, from 1.
    pub line: usize,
    /// Where it starts, from 1.
    pub column: usize,
    /// The policy itself.
    pub(super) policy: Policy,
}

impl Rule {
    /// The `@reason`, or words in its place.
    pub fn text(&self) -> String {
        self.reason.clone().unwrap_or_else(|| match self.effect {
            Effect::Permit => "allowed by policy".to_owned(),
            Effect::Forbid => "forbidden by policy".to_owned(),
        })
    }

    /// Can the rule's scope admit the entitlement on the target? Exact: where it says no, Cedar finds the scope false.
    pub(super) fn admits(&self, entitlement: &EntityUid, target: &EntityUid) -> bool {
        match self.policy.resource_constraint() {
            ResourceConstraint::Any => true,
            ResourceConstraint::Eq(uid) => uid == *entitlement,
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => uid == *entitlement || uid == *target,
            ResourceConstraint::Is(kind) => kind == *entitlement.type_name(),
        }
    }

    /// A problem at the rule.
    pub(super) fn problem(&self, message: impl Into<String>, help: impl Into<String>) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
            message: message.into(),
            help: help.into(),
        }
    }
}

/// The schema, if it is one that this version can speak, and the attributes of identities beyond our own.
pub(super) fn schema(files: &Files, declared: &Declared, problems: &mut Vec<Problem>) -> Option<(Schema, Declared)> {
    let shown = files.shown(SCHEMA);
    let help = "use the schema.cedarschema that ships with this version";
    let Some(text) = files.get(SCHEMA) else {
        problems.push(Place { file: &shown, text: "" }.whole("the schema is missing", help));
        return None;
    };
    let place = Place { file: &shown, text };
    let schema = match Schema::from_cedarschema_str(text) {
        Ok((schema, _warnings)) => schema,
        Err(e) => {
            problems.extend(place.diagnosed(&DetailedError::from(&e), 0, help));
            return None;
        }
    };
    let have: BTreeSet<String> = schema.actions().map(ToString::to_string).collect();
    let want: BTreeSet<String> = Action::ALL.iter().map(|a| format!("Tidegate::Action::\"{a}\"")).collect();
    if have != want {
        problems.push(place.at(
            0,
            "the schema must have the actions Request, AutoApprove, Approve and Mint only",
            help,
        ));
        return None;
    }
    match declared::extend(text, schema, declared) {
        Ok(extended) => Some(extended),
        Err(why) => {
            problems.push(place.at(text.find("entity Identity").unwrap_or(0), why, help));
            None
        }
    }
}

/// All rules, in the order of files and lines. What was found wrong goes to `problems`.
pub(super) fn parse(files: &Files, schema: &Schema, catalog: &Catalog, problems: &mut Vec<Problem>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (name, text) in files.policies() {
        let shown = files.shown(name);
        let place = Place { file: &shown, text };
        let set = match CedarSet::from_str(text) {
            Ok(set) => set,
            Err(errors) => {
                for error in errors.iter() {
                    problems.extend(place.diagnosed(&DetailedError::from(error), 0, "correct the Cedar syntax"));
                }
                continue;
            }
        };
        for template in set.templates() {
            let offset = template.as_ref().loc().map_or(0, |l| l.span.offset());
            problems.push(place.at(offset, "a template, with a ?slot", "write a policy of its own for each case"));
        }
        let mut policies: Vec<(usize, &Policy)> =
            set.policies().map(|p| (p.as_ref().loc().map_or(0, |l| l.span.offset()), p)).collect();
        policies.sort_by_key(|(offset, _)| *offset);
        for (offset, policy) in policies {
            if let Some(rule) = read(place, offset, policy, &mut seen, problems) {
                check_literals(place, offset, &rule, catalog, problems);
                rules.push(rule);
            }
        }
    }
    validate(files, schema, &rules, problems);
    rules
}

fn read(
    place: Place<'_>,
    offset: usize,
    policy: &Policy,
    seen: &mut BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Option<Rule> {
    let (line, column) = place.position(offset);
    let id = policy.annotation("id").map(str::trim).unwrap_or_default();
    if id.is_empty() || id.len() > 100 || id.contains(char::is_control) {
        problems.push(place.at(
            offset,
            "a policy without @id",
            "write @id(\"short-name\") above it: decisions and the audit log name policies by it",
        ));
        return None;
    }
    if let Some(first) = seen.get(id) {
        problems.push(place.at(
            annotation_at(place, offset, policy, "id"),
            format!("a second policy with @id(\"{id}\")"),
            format!("the first one is in {first}; give each its own id"),
        ));
        return None;
    }
    seen.insert(id.to_owned(), format!("{}:{line}", place.file));
    let actions = match policy.action_constraint() {
        ActionConstraint::Any => Action::ALL.into(),
        ActionConstraint::Eq(uid) => Action::parse(uid.id().unescaped()).into_iter().collect(),
        ActionConstraint::In(uids) => uids.iter().filter_map(|uid| Action::parse(uid.id().unescaped())).collect(),
    };
    let obligations = Obligations::read(policy.effect(), &actions, policy.annotations());
    for unknown in &obligations.unknown {
        problems.push(place.at(
            annotation_at(place, offset, policy, &unknown.key),
            format!("policy `{id}`: {}", unknown.message),
            unknown.help.clone(),
        ));
    }
    let reason = policy.annotation("reason").map(str::trim).filter(|r| !r.is_empty()).map(str::to_owned);
    Some(Rule {
        id: id.to_owned(),
        effect: policy.effect(),
        actions,
        reason,
        obligations,
        file: place.file.to_owned(),
        line,
        column,
        policy: policy.new_id(PolicyId::new(id)),
    })
}

/// Byte offset of an annotation within its policy.
fn annotation_at(place: Place<'_>, offset: usize, policy: &Policy, key: &str) -> usize {
    let end = policy.as_ref().loc().map_or(offset, |l| l.span.offset() + l.span.len());
    let text = place.text.get(offset..end).unwrap_or_default();
    offset + text.find(&format!("@{key}(")).or_else(|| text.find(&format!("@{key}"))).unwrap_or(0)
}

/// A literal that can match nothing is a typing mistake, and on a forbid a hole.
fn check_literals(place: Place<'_>, offset: usize, rule: &Rule, catalog: &Catalog, problems: &mut Vec<Problem>) {
    for uid in rule.policy.entity_literals() {
        let name = uid.id().unescaped();
        let text = uid.to_string();
        let at = || {
            let end = rule.policy.as_ref().loc().map_or(offset, |l| l.span.offset() + l.span.len());
            offset + place.text.get(offset..end).and_then(|t| t.find(&text)).unwrap_or(0)
        };
        match uid.type_name().basename() {
            "Group" if name != name.to_lowercase() => problems.push(place.at(
                at(),
                format!("{text} matches no group: names are compared in lower case"),
                format!("write Tidegate::Group::\"{}\"", name.to_lowercase()),
            )),
            "Entitlement" if catalog.get(name).is_none() => problems.push(place.at(
                at(),
                format!("the catalog has no entitlement `{name}`, so policy `{}` would never apply", rule.id),
                "correct the name, or add the entitlement to catalog.toml",
            )),
            "Target" if !catalog.entitlements.values().any(|e| *e.target == *name) => problems.push(place.at(
                at(),
                format!("the catalog has nothing on target `{name}`, so policy `{}` would never apply", rule.id),
                "correct the name, or add an entitlement on that target to catalog.toml",
            )),
            _ => {}
        }
    }
}

/// Strict validation of all rules against the schema.
fn validate(files: &Files, schema: &Schema, rules: &[Rule], problems: &mut Vec<Problem>) {
    let set = match CedarSet::from_policies(rules.iter().map(|r| r.policy.clone())) {
        Ok(set) => set,
        Err(e) => {
            let shown = files.shown("");
            problems.push(Place { file: &shown, text: "" }.whole(e.to_string(), "give each policy its own @id"));
            return;
        }
    };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    for error in result.validation_errors() {
        let found = located(files, rules, error.policy_id().as_ref(), &DetailedError::from(error));
        problems.extend(found);
    }
}

/// What Cedar warns of, at its place.
pub(super) fn warnings(files: &Files, schema: &Schema, rules: &[Rule]) -> Vec<Problem> {
    let Ok(set) = CedarSet::from_policies(rules.iter().map(|r| r.policy.clone())) else { return Vec::new() };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    result
        .validation_warnings()
        .flat_map(|w| located(files, rules, w.policy_id().as_ref(), &DetailedError::from(w)))
        .collect()
}

fn located(files: &Files, rules: &[Rule], id: &str, error: &DetailedError) -> Vec<Problem> {
    let help = "see schema.cedarschema for what policies can speak of";
    let Some(rule) = rules.iter().find(|r| r.id == id) else { return Vec::new() };
    let text = files.policies().find(|(name, _)| files.shown(name) == rule.file).map_or("", |(_, t)| t);
    let fallback = rule.policy.as_ref().loc().map_or(0, |l| l.span.offset());
    Place { file: &rule.file, text }.diagnosed(error, fallback, help)
}
