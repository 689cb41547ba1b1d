//! Decides: `Request`, then `AutoApprove`, else people; `Approve`; `Mint`. Deny by default; any error denies; what the
//! broker itself forbids no policy can lift. Never reads a clock, never remembers an outcome.

use std::collections::BTreeSet;

use super::{
    action::Action,
    facts,
    obligations::{Obligations, Required},
    set::{Answer, PolicySet, Slot},
};
use crate::domain::{
    catalog::Entitlement,
    decision::{Condition, Decision, Inputs, Permission, Reason, Verdict},
    identity::{IdentityKind, Subject},
    time::{Timestamp, Ttl},
};

/// A condition, and whether a requester can still provide it.
struct Term {
    text: String,
    met: bool,
    providable: bool,
}

impl PolicySet {
    /// What would happen if `subject` asked for `entitlement` with exactly these inputs. The entitlement is taken as
    /// this set's catalog has it; one that the catalog no longer has is denied. Any unmet condition denies.
    pub fn decide(&self, subject: &Subject, entitlement: &Entitlement, inputs: &Inputs) -> Decision {
        self.weigh(subject, &entitlement.id, inputs, inputs, false)
    }

    /// The same for somebody who has not asked yet: the verdict takes reason, ticket and a fitting duration as given,
    /// the conditions say which of them are still to be provided.
    pub fn preview(&self, subject: &Subject, entitlement: &Entitlement, inputs: &Inputs) -> Decision {
        let ticket = facts::ticket(inputs).unwrap_or_else(|| "to be provided".to_owned());
        let given = Inputs { has_reason: true, ticket: Some(ticket), ..inputs.clone() };
        self.weigh(subject, &entitlement.id, inputs, &given, true)
    }

    /// May `approver` approve `entitlement` for `subject`? Four eyes: never one's own, never one's own workload's or
    /// agent's. Somebody who asked on behalf of the subject is for the caller to exclude.
    pub fn may_approve(
        &self,
        approver: &Subject,
        subject: &Subject,
        entitlement: &Entitlement,
        inputs: &Inputs,
    ) -> Permission {
        let Some(slot) = self.slot(&entitlement.id) else { return unknown(Action::Approve, &entitlement.id) };
        let mut permission =
            permission(Action::Approve, self.ask(Action::Approve, &self.scene(approver, slot, inputs, Some(subject))));
        let mut forbid = |rule: &str, text: &str| {
            permission.allowed = false;
            permission.reasons.push(Reason::built_in(Action::Approve, rule, text));
        };
        if !approver.identity.active {
            forbid("inactive", "the approver is deactivated");
        }
        if approver.identity.kind != IdentityKind::Person {
            forbid("person", "only people approve");
        }
        if approver.identity.id == subject.identity.id {
            forbid("four-eyes", "nobody approves their own access");
        }
        if subject.identity.owner == Some(approver.identity.id) {
            forbid("four-eyes", "nobody approves access of a workload or agent that they own");
        }
        permission
    }

    /// May `holder` claim a credential of `entitlement` now?
    pub fn may_mint(&self, holder: &Subject, entitlement: &Entitlement, inputs: &Inputs) -> Permission {
        let Some(slot) = self.slot(&entitlement.id) else { return unknown(Action::Mint, &entitlement.id) };
        let mut permission = permission(Action::Mint, self.ask(Action::Mint, &self.scene(holder, slot, inputs, None)));
        let mut forbid = |rule: &str, text: &str| {
            permission.allowed = false;
            permission.reasons.push(Reason::built_in(Action::Mint, rule, text));
        };
        if !holder.identity.active {
            forbid("inactive", "the holder is deactivated");
        }
        if holder.identity.contract_end.is_some_and(|end| end <= inputs.now) {
            forbid("contract-ended", "the holder's contract has ended");
        }
        permission
    }

    fn weigh(&self, subject: &Subject, id: &str, asked: &Inputs, given: &Inputs, preview: bool) -> Decision {
        let Some(slot) = self.slot(id) else {
            let Permission { reasons, .. } = unknown(Action::Request, id);
            return Decision { reasons, ..denied(asked.ttl) };
        };
        let ceiling = slot.entitlement.max_ttl;
        let scene = self.scene(subject, slot, given, None);
        let request = self.ask(Action::Request, &scene);
        let allowed = request.allowed;
        let obligations = self.obligations(&request);
        let mut reasons = told(Action::Request, request);
        let mut max_ttl = obligations.max_ttl.map_or(ceiling, |m| m.min(ceiling));
        let mut terms = standing(subject, asked, &mut max_ttl, &mut reasons);
        if !allowed {
            let conditions = terms.into_iter().map(Term::shown).collect();
            return Decision { max_ttl, conditions, reasons, ..denied(ceiling) };
        }
        terms.extend(required(&obligations, asked));
        refuse_unknown(Action::Request, &obligations, &mut terms, &mut reasons);

        let auto = self.ask(Action::AutoApprove, &scene);
        let for_auto = self.obligations(&auto);
        let failed = !auto.errors.is_empty() || !for_auto.unknown.is_empty();
        let mut granted = auto.allowed;
        let mut step_up = obligations.step_up;
        reasons.extend(auto.errors);
        reasons.extend(auto.reasons);
        if granted {
            let auto_max = for_auto.max_ttl.map_or(max_ttl, |m| m.min(max_ttl));
            let mut wanted: Vec<Term> = required(&for_auto, asked).collect();
            refuse_unknown(Action::AutoApprove, &for_auto, &mut wanted, &mut reasons);
            let fits = |t: &Term| t.met || (preview && t.providable);
            granted = wanted.iter().all(fits) && (asked.ttl <= auto_max || auto_max == max_ttl);
            if granted {
                step_up = step_up.into_iter().chain(for_auto.step_up).min();
            }
            // What is missing for an automatic grant sends the request to people; without people, it is refused.
            if granted || slot.entitlement.approvers.is_empty() {
                max_ttl = auto_max;
                terms.extend(wanted);
            }
        }
        terms.push(Term {
            text: format!("the duration is at most {max_ttl}"),
            met: asked.ttl <= max_ttl,
            providable: true,
        });
        let verdict = verdict(slot, &terms, preview, failed, granted, &mut reasons);
        let people = verdict == Verdict::Approval;
        let mut conditions: Vec<Condition> = Vec::new();
        for condition in terms.into_iter().map(Term::shown) {
            if !conditions.contains(&condition) {
                conditions.push(condition);
            }
        }
        Decision {
            verdict,
            approvals: if people { obligations.approvals.unwrap_or(1).max(1) } else { 0 },
            approvers: if people { slot.entitlement.approvers.iter().cloned().collect() } else { BTreeSet::new() },
            max_ttl,
            conditions,
            reasons,
            step_up,
        }
    }

    /// What the satisfied permits ask for, together.
    fn obligations(&self, answer: &Answer) -> Obligations {
        let permits = answer.permits.iter().filter_map(|p| self.rules().get(*p));
        permits.fold(Obligations::default(), |all, rule| all.and(&rule.obligations))
    }
}

impl Term {
    fn shown(self) -> Condition {
        Condition { text: self.text, met: self.met }
    }
}

fn verdict(
    slot: &Slot,
    terms: &[Term],
    preview: bool,
    failed: bool,
    granted: bool,
    reasons: &mut Vec<Reason>,
) -> Verdict {
    if failed || !terms.iter().all(|t| t.met || (preview && t.providable)) {
        Verdict::Denied
    } else if granted {
        Verdict::Auto
    } else if slot.entitlement.approvers.is_empty() {
        reasons.push(Reason::built_in(
            Action::Request,
            "no-approvers",
            "it is not granted automatically, and the catalog names no approvers for it",
        ));
        Verdict::Denied
    } else {
        Verdict::Approval
    }
}

/// What no policy can lift: the identity is active, and nothing outlasts its contract.
fn standing(subject: &Subject, inputs: &Inputs, max_ttl: &mut Ttl, reasons: &mut Vec<Reason>) -> Vec<Term> {
    let mut terms = Vec::new();
    if !subject.identity.active {
        reasons.push(Reason::built_in(Action::Request, "inactive", "the identity is deactivated"));
        terms.push(Term { text: "the identity is active".to_owned(), met: false, providable: false });
    }
    if let Some(end) = subject.identity.contract_end {
        let start: Timestamp = inputs.start_at.max(inputs.now);
        let left = Ttl::from_seconds(end.seconds_since(start).seconds());
        if let Some(left) = left {
            *max_ttl = left.min(*max_ttl);
        } else {
            reasons.push(Reason::built_in(
                Action::Request,
                "contract-ended",
                "the contract ends before the access starts",
            ));
        }
        let text = format!("the access ends before the contract does, {end}");
        let met = left.is_some_and(|left| inputs.ttl <= left);
        terms.push(Term { text, met, providable: left.is_some() });
    }
    terms
}

/// What obligations want from the requester.
fn required<'a>(obligations: &'a Obligations, inputs: &'a Inputs) -> impl Iterator<Item = Term> + 'a {
    obligations.require.iter().map(|required| {
        let (text, met) = match required {
            Required::Reason => ("a reason is given", inputs.has_reason),
            Required::Ticket => ("a ticket is named", facts::ticket(inputs).is_some()),
        };
        Term { text: text.to_owned(), met, providable: true }
    })
}

/// An obligation that is not understood denies.
fn refuse_unknown(action: Action, obligations: &Obligations, terms: &mut Vec<Term>, reasons: &mut Vec<Reason>) {
    for unknown in &obligations.unknown {
        reasons.push(Reason::error(action, &unknown.message));
        terms.push(Term { text: "every obligation is understood".to_owned(), met: false, providable: false });
    }
}

/// Errors and reasons of an answer; where nothing permits, that is said.
fn told(action: Action, answer: Answer) -> Vec<Reason> {
    let mut reasons = answer.errors;
    reasons.extend(answer.reasons);
    if reasons.is_empty() {
        reasons.push(Reason::built_in(action, "default", "no policy permits this"));
    }
    reasons
}

fn permission(action: Action, answer: Answer) -> Permission {
    Permission { allowed: answer.allowed, reasons: told(action, answer) }
}

fn unknown(action: Action, id: &str) -> Permission {
    let text = format!("the catalog has no entitlement `{id}`");
    Permission { allowed: false, reasons: vec![Reason::built_in(action, "catalog", text)] }
}

const fn denied(max_ttl: Ttl) -> Decision {
    Decision {
        verdict: Verdict::Denied,
        approvals: 0,
        approvers: BTreeSet::new(),
        max_ttl,
        conditions: Vec::new(),
        reasons: Vec::new(),
        step_up: None,
    }
}
