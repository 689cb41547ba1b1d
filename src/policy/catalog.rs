//! Reads `catalog.toml`. Strict: an unknown field is refused, for a mistyped limit is no limit.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use super::{
    files::{CATALOG, Files},
    problem::{Place, Problem},
    targets::TargetDirectory,
};
use crate::domain::{
    capability::Description,
    catalog::{Catalog, Entitlement},
    slack::SlackDecision,
    time::Ttl,
};

const DEFAULT_APPROVAL_TIMEOUT: Ttl = Ttl::seconds_or_one(86_400);
/// No access that is meant to end lasts longer.
const LONGEST: Ttl = Ttl::seconds_or_one(366 * 86_400);
const MAX_ENTITLEMENTS: usize = 10_000;
const MAX_TEXT: usize = 2_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    entitlement: Vec<Spanned<Line>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Spanned<String>,
    target: Spanned<String>,
    title: Spanned<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    parameters: Option<Spanned<Map<String, Value>>>,
    default_ttl: Spanned<Ttl>,
    max_ttl: Spanned<Ttl>,
    sensitivity: Spanned<u8>,
    #[serde(default)]
    approvers: Vec<Spanned<String>>,
    #[serde(default)]
    allow_no_backstop: bool,
    #[serde(default)]
    max_claims: Option<Spanned<u32>>,
    #[serde(default)]
    approval_timeout: Option<Spanned<Ttl>>,
    #[serde(default)]
    slack_decision: SlackDecision,
    #[serde(default)]
    step_up: Option<Ttl>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The catalog with what its targets promise. What was found wrong goes to `problems`.
pub(super) fn parse(
    files: &Files,
    targets: &dyn TargetDirectory,
    problems: &mut Vec<Problem>,
) -> (Catalog, BTreeMap<Arc<str>, Description>) {
    let shown = files.shown(CATALOG);
    let Some(text) = files.get(CATALOG) else {
        problems.push(
            Place { file: &shown, text: "" }.whole(
                "the catalog is missing",
                "create catalog.toml with one [[entitlement]] for each thing to grant",
            ),
        );
        return (Catalog::default(), BTreeMap::new());
    };
    let place = Place { file: &shown, text };
    let mut reader = Reader { place, targets, problems, catalog: Catalog::default(), descriptions: BTreeMap::new() };
    match toml::from_str::<Document>(text) {
        Ok(document) if document.entitlement.len() > MAX_ENTITLEMENTS => {
            reader.problem(0..0, format!("more than {MAX_ENTITLEMENTS} entitlements"), "use fewer, wider entitlements");
        }
        Ok(document) => document.entitlement.into_iter().for_each(|line| reader.line(line)),
        Err(e) => reader.problem(
            e.span().unwrap_or_default(),
            e.message().to_owned(),
            "fields of an [[entitlement]]: id, target, title, default_ttl, max_ttl, sensitivity (required); description, \
             parameters, approvers, allow_no_backstop, max_claims, approval_timeout, slack_decision, \
             step_up, labels",
        ),
    }
    (reader.catalog, reader.descriptions)
}

struct Reader<'a> {
    place: Place<'a>,
    targets: &'a dyn TargetDirectory,
    problems: &'a mut Vec<Problem>,
    catalog: Catalog,
    descriptions: BTreeMap<Arc<str>, Description>,
}

impl Reader<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.push(self.place.at(span.start, message, help));
    }

    fn line(&mut self, line: Spanned<Line>) {
        let whole = line.span();
        let line = line.into_inner();
        self.check_names(&line);
        self.check_limits(&line);
        let description = self.check_target(&line, whole);
        let id: Arc<str> = line.id.as_ref().as_str().into();
        if self.catalog.entitlements.contains_key(&id) {
            self.problem(line.id.span(), format!("a second entitlement `{id}`"), "give each entitlement its own id");
            return;
        }
        let copies_pile_up = description.as_ref().is_some_and(|d| d.mints_secrets && !d.replaces_copies);
        let target: Arc<str> = line.target.as_ref().as_str().into();
        if let Some(description) = description {
            self.descriptions.insert(Arc::clone(&target), description);
        }
        let entitlement = Entitlement {
            id: Arc::clone(&id),
            target,
            title: line.title.into_inner(),
            description: line.description,
            parameters: Value::Object(line.parameters.map(Spanned::into_inner).unwrap_or_default()),
            default_ttl: line.default_ttl.into_inner(),
            max_ttl: line.max_ttl.into_inner(),
            sensitivity: line.sensitivity.into_inner(),
            approvers: line.approvers.into_iter().map(Spanned::into_inner).collect(),
            allow_no_backstop: line.allow_no_backstop,
            // Where a later claim does not end the earlier copy, one is the bound unless the catalog says another.
            max_claims: line.max_claims.map(Spanned::into_inner).or(copies_pile_up.then_some(1)),
            approval_timeout: line.approval_timeout.map_or(DEFAULT_APPROVAL_TIMEOUT, Spanned::into_inner),
            slack_decision: line.slack_decision,
            step_up: line.step_up,
            labels: line.labels,
        };
        self.catalog.entitlements.insert(id, Arc::new(entitlement));
    }

    fn check_names(&mut self, line: &Line) {
        let id = line.id.as_ref();
        let fits = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
        if id.is_empty() || id.len() > 100 || !id.chars().all(fits) {
            self.problem(
                line.id.span(),
                "this cannot be an entitlement's id",
                "use 1 to 100 characters of letters, digits and . _ : / -",
            );
        }
        let title = line.title.as_ref();
        if title.trim().is_empty() || title.chars().count() > 200 || title.contains(char::is_control) {
            self.problem(
                line.title.span(),
                "the title is empty or too long",
                "write one line of at most 200 characters",
            );
        }
        let too_long = |s: &str| s.chars().count() > MAX_TEXT;
        if too_long(&line.description) || line.labels.iter().any(|(k, v)| too_long(k) || too_long(v)) {
            self.problem(
                line.title.span(),
                format!("the description or a label of `{id}` is too long"),
                format!("use at most {MAX_TEXT} characters"),
            );
        }
        for group in &line.approvers {
            if group.as_ref().trim().is_empty() || group.as_ref().chars().count() > 200 {
                self.problem(group.span(), "this is not a group's name", "name a group of the directory");
            }
        }
    }

    fn check_limits(&mut self, line: &Line) {
        let (default, max) = (*line.default_ttl.as_ref(), *line.max_ttl.as_ref());
        if default > max {
            self.problem(
                line.default_ttl.span(),
                format!("default_ttl {default} is longer than max_ttl {max}"),
                "lower default_ttl or raise max_ttl",
            );
        }
        if max > LONGEST {
            self.problem(
                line.max_ttl.span(),
                format!("max_ttl {max} is longer than {LONGEST}"),
                "access is temporary here: use a shorter max_ttl",
            );
        }
        if *line.sensitivity.as_ref() > 4 {
            self.problem(
                line.sensitivity.span(),
                "there is no such sensitivity",
                "use 0 (harmless) to 4 (crown jewels)",
            );
        }
        if let Some(claims) = line.max_claims.as_ref().filter(|c| *c.as_ref() == 0) {
            self.problem(
                claims.span(),
                "max_claims is 0, so nobody could ever claim",
                "use 1 or more, or leave it out",
            );
        }
    }

    fn check_target(&mut self, line: &Line, whole: Range<usize>) -> Option<Description> {
        let target = line.target.as_ref();
        let Some(description) = self.targets.describe(target) else {
            self.problem(
                line.target.span(),
                format!("there is no target `{target}`"),
                "use the id of a target in the configuration, or add that target there first",
            );
            return None;
        };
        if !description.native_expiry && !line.allow_no_backstop {
            self.problem(
                line.target.span(),
                format!("`{target}` cannot end access by itself: with the broker dead it would last"),
                "accept that with allow_no_backstop = true, or grant it on a target with native expiry",
            );
        }
        let (parameters, span) = match &line.parameters {
            Some(p) => (Value::Object(p.as_ref().clone()), p.span()),
            None => (Value::Object(Map::new()), whole),
        };
        if let Err(e) = self.targets.validate(target, &parameters) {
            self.problem(span, format!("the parameters do not suit `{target}`: {e}"), "correct `parameters`");
        }
        Some(description)
    }
}
