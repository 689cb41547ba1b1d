//! Policy cases: `tests/*.toml` say who asks for what and what must come out. Every policy must be determined by at
//! least one case. Never asks a target, never reads a clock: the time of a case is in the case.
//!
//! ```toml
//! [identity.ana]
//! groups = ["engineers"]
//!
//! [[case]]
//! name = "an engineer reads orders at once"
//! who = "ana"
//! entitlement = "tokens:orders-read"
//! expect = "auto"
//! because = ["everyday-is-automatic"]
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    files::Files,
    problem::{LoadError, Place, Problem},
    set::PolicySet,
    targets::TargetDirectory,
};
use crate::domain::{
    catalog::Entitlement,
    decision::{Decision, Inputs, Permission, Reason, Verdict},
    id::IdentityId,
    identity::{Identity, IdentityKind, Subject},
    time::{Timestamp, Ttl},
};

/// When a case does not say: noon of a Wednesday, 2026-01-07T12:00:00Z.
pub(super) const CASE_TIME: Timestamp = Timestamp::from_seconds(1_767_787_200);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    identity: BTreeMap<String, Spanned<Facts>>,
    #[serde(default)]
    case: Vec<Spanned<Case>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    #[serde(default = "person")]
    kind: IdentityKind,
    #[serde(default)]
    groups: BTreeSet<String>,
    #[serde(default = "yes")]
    active: bool,
    /// Nobody answers for it.
    #[serde(default)]
    orphaned: bool,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    contract_end: Option<Timestamp>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Question {
    #[default]
    Request,
    Approve,
    Mint,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    who: Spanned<String>,
    #[serde(default)]
    action: Question,
    /// Whose access an approver decides on.
    #[serde(default)]
    subject: Option<Spanned<String>>,
    entitlement: Spanned<String>,
    #[serde(default)]
    inputs: Asked,
    expect: Spanned<String>,
    #[serde(default)]
    approvals: Option<u8>,
    #[serde(default)]
    max_ttl: Option<Ttl>,
    /// Policies that must be among the reasons.
    #[serde(default)]
    because: Vec<String>,
    /// Conditions that must be unmet: their texts contain these words.
    #[serde(default)]
    unmet: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ttl: Option<Ttl>,
    now: Option<Timestamp>,
    start_at: Option<Timestamp>,
    reason: Option<bool>,
    ticket: Option<String>,
    #[serde(default)]
    emergency: bool,
    #[serde(default)]
    on_behalf: bool,
    #[serde(default)]
    live_grants: u32,
}

const fn person() -> IdentityKind {
    IdentityKind::Person
}

const fn yes() -> bool {
    true
}

/// What `tidegate policy test` found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TestReport {
    /// Cases that came out as they should.
    pub passed: usize,
    /// Cases that did not, and what is wrong with the case files.
    pub failures: Vec<Problem>,
    /// Policies that no case determined.
    pub undetermined: Vec<Problem>,
}

impl TestReport {
    /// Did everything hold?
    pub const fn ok(&self) -> bool {
        self.failures.is_empty() && self.undetermined.is_empty()
    }
}

impl fmt::Display for TestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.failures.iter().chain(&self.undetermined) {
            writeln!(f, "{problem}")?;
        }
        write!(f, "{} passed, {} failed", self.passed, self.failures.len())?;
        if !self.undetermined.is_empty() {
            write!(f, ", {} not determined by any case", self.undetermined.len())?;
        }
        Ok(())
    }
}

/// Run all cases of a directory.
pub fn test(dir: &Path, targets: &dyn TargetDirectory) -> Result<TestReport, LoadError> {
    Ok(test_set(&PolicySet::build(Files::read(dir)?, targets)?))
}

/// Run all cases that came with a set.
pub fn test_set(set: &PolicySet) -> TestReport {
    let mut report = TestReport::default();
    let (documents, subjects) = read(&set.files, &mut report.failures);
    let mut determined = BTreeSet::new();
    for (name, text, document) in &documents {
        let shown = set.files.shown(name);
        let place = Place { file: &shown, text };
        for case in &document.case {
            match run(set, &subjects, place, case.as_ref(), &mut determined) {
                Ok(()) => report.passed += 1,
                Err(problem) => report.failures.push(problem),
            }
        }
    }
    for rule in set.rules().iter().filter(|r| !determined.contains(&r.id)) {
        report.undetermined.push(rule.problem(
            format!("no case determines policy `{}`", rule.id),
            "add a case to tests/ in which it is among the reasons",
        ));
    }
    report
}

/// The identities of the case files, by name: who a matrix is about.
pub fn identities(set: &PolicySet) -> Vec<Subject> {
    read(&set.files, &mut Vec::new()).1.into_values().collect()
}

type Documents<'a> = Vec<(&'a str, &'a str, Document)>;

fn read<'a>(files: &'a Files, problems: &mut Vec<Problem>) -> (Documents<'a>, BTreeMap<String, Subject>) {
    let mut documents: Documents<'a> = Vec::new();
    for (name, text) in files.cases() {
        match toml::from_str::<Document>(text) {
            Ok(document) => documents.push((name, text, document)),
            Err(e) => problems.push(Place { file: &files.shown(name), text }.at(
                e.span().unwrap_or_default().start,
                e.message(),
                "see docs/policy.md for the fields of a case",
            )),
        }
    }
    let names = documents.iter().flat_map(|(_, _, d)| d.identity.keys());
    let ids: BTreeMap<&str, IdentityId> = names
        .collect::<BTreeSet<_>>()
        .into_iter()
        .zip(1_u128..)
        .map(|(name, n)| (name.as_str(), IdentityId::new(ulid::Ulid::from(n))))
        .collect();
    let mut subjects = BTreeMap::new();
    for (file, text, document) in &documents {
        let shown = files.shown(file);
        let place = Place { file: &shown, text };
        for (name, facts) in &document.identity {
            let at = facts.span().start;
            let facts = facts.as_ref();
            let owner = facts.owner.as_deref().and_then(|o| ids.get(o)).copied();
            if owner.is_none() && facts.owner.is_some() {
                problems.push(place.at(at, format!("the owner of `{name}` is unknown"), "name one of the identities"));
            }
            let Some(id) = ids.get(name.as_str()).copied() else { continue };
            let identity = Identity {
                active: facts.active,
                orphaned_at: facts.orphaned.then(Timestamp::default),
                owner,
                contract_end: facts.contract_end,
                attributes: facts.attributes.clone(),
                ..Identity::new(id, facts.kind, name.as_str())
            };
            let subject = Subject { identity, groups: facts.groups.clone() };
            if subjects.insert(name.clone(), subject).is_some() {
                problems.push(place.at(at, format!("a second identity `{name}`"), "declare each identity once"));
            }
        }
    }
    (documents, subjects)
}

fn run(
    set: &PolicySet,
    subjects: &BTreeMap<String, Subject>,
    place: Place<'_>,
    case: &Case,
    determined: &mut BTreeSet<String>,
) -> Result<(), Problem> {
    let subject = |name: &Spanned<String>| {
        subjects.get(name.as_ref()).ok_or_else(|| {
            let help = "declare it as [identity.<name>] in a file of tests/";
            place.at(name.span().start, format!("no identity `{}`", name.as_ref()), help)
        })
    };
    let entitlement: &Arc<Entitlement> = set.catalog().get(case.entitlement.as_ref()).ok_or_else(|| {
        let message = format!("the catalog has no entitlement `{}`", case.entitlement.as_ref());
        place.at(case.entitlement.span().start, message, "correct the name, or remove the case")
    })?;
    let who = subject(&case.who)?;
    let inputs = case.inputs.against(entitlement);
    let (got, reasons, decision) = match case.action {
        Question::Request => {
            let decision = set.decide(who, entitlement, &inputs);
            let word = match decision.verdict {
                Verdict::Auto => "auto",
                Verdict::Approval => "approval",
                Verdict::Denied => "denied",
            };
            (word, decision.reasons.clone(), Some(decision))
        }
        Question::Approve => {
            let Some(about) = &case.subject else {
                let at = case.who.span().start;
                return Err(place.at(at, "whose access is approved?", "add subject = \"<identity>\""));
            };
            answer(set.may_approve(who, subject(about)?, entitlement, &inputs))
        }
        Question::Mint => answer(set.may_mint(who, entitlement, &inputs)),
    };
    determined.extend(reasons.iter().map(|r| r.policy.clone()));
    let differences = case.differences(got, &reasons, decision.as_ref());
    if differences.is_empty() {
        return Ok(());
    }
    let message = format!("case `{}`: {}", case.name, differences.join("; "));
    let because: Vec<_> = reasons.iter().map(|r| format!("{} {} ({})", r.effect, r.policy, r.text)).collect();
    Err(place.at(case.expect.span().start, message, format!("it came from: {}", because.join(", "))))
}

fn answer(permission: Permission) -> (&'static str, Vec<Reason>, Option<Decision>) {
    (if permission.allowed { "allowed" } else { "denied" }, permission.reasons, None)
}

impl Case {
    fn differences(&self, got: &str, reasons: &[Reason], decision: Option<&Decision>) -> Vec<String> {
        let mut differences = Vec::new();
        if got != self.expect.as_ref() {
            differences.push(format!("expected {}, got {got}", self.expect.as_ref()));
        }
        for policy in self.because.iter().filter(|p| !reasons.iter().any(|r| r.policy == **p)) {
            differences.push(format!("`{policy}` is not among the reasons"));
        }
        let approvals = decision.map(|d| d.approvals);
        if let Some(want) = self.approvals.filter(|want| approvals != Some(*want)) {
            differences.push(format!("expected {want} approvals, got {}", approvals.unwrap_or(0)));
        }
        let max_ttl = decision.map(|d| d.max_ttl);
        if let Some(want) = self.max_ttl.filter(|want| max_ttl != Some(*want)) {
            let got = max_ttl.map_or_else(|| "none".to_owned(), |t| t.to_string());
            differences.push(format!("expected max_ttl {want}, got {got}"));
        }
        let unmet =
            |words: &str| decision.is_some_and(|d| d.conditions.iter().any(|c| !c.met && c.text.contains(words)));
        for words in self.unmet.iter().filter(|w| !unmet(w)) {
            differences.push(format!("no unmet condition says `{words}`"));
        }
        differences
    }
}

impl Asked {
    fn against(&self, entitlement: &Entitlement) -> Inputs {
        let now = self.now.unwrap_or(CASE_TIME);
        Inputs {
            ttl: self.ttl.unwrap_or(entitlement.default_ttl),
            now,
            start_at: self.start_at.unwrap_or(now),
            has_reason: self.reason.unwrap_or(true),
            ticket: self.ticket.clone(),
            emergency: self.emergency,
            on_behalf: self.on_behalf,
            live_grants: self.live_grants,
        }
    }
}
