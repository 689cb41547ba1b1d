//! Identity × entitlement × action as text, to be committed and compared in review: a change of policy shows here as
//! the change of access that it is. Never depends on the time or on the order of anything.

use std::collections::BTreeSet;

use super::{cases::CASE_TIME, set::PolicySet};
use crate::domain::{
    catalog::Entitlement,
    decision::{Decision, Inputs, Verdict},
    id::IdentityId,
    identity::{Identity, IdentityKind, Subject},
};

/// One row for each identity and entitlement: what asking, approving for somebody else, and claiming would give. Asked at
/// noon of a Wednesday for the default duration, with a reason and without an emergency.
pub fn matrix(set: &PolicySet, identities: &[Subject]) -> String {
    let mut identities: Vec<&Subject> = identities.iter().collect();
    identities.sort_by(|a, b| a.identity.name.cmp(&b.identity.name));
    let mut rows = vec![["identity", "entitlement", "Approve", "Mint", "Request"].map(str::to_owned)];
    for subject in identities {
        for entitlement in set.catalog().entitlements.values() {
            let inputs = ordinary(entitlement);
            let word = |allowed: bool| if allowed { "yes" } else { "-" }.to_owned();
            rows.push([
                subject.identity.name.clone(),
                entitlement.id.to_string(),
                word(set.may_approve(subject, &somebody_else(), entitlement, &inputs).allowed),
                word(set.may_mint(subject, entitlement, &inputs).allowed),
                asked(&set.preview(subject, entitlement, &inputs)),
            ]);
        }
    }
    let mut widths = [0_usize; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn asked(decision: &Decision) -> String {
    let verdict = match decision.verdict {
        Verdict::Denied => return "-".to_owned(),
        Verdict::Auto => "auto".to_owned(),
        Verdict::Approval => {
            let from: Vec<&str> = decision.approvers.iter().map(String::as_str).collect();
            format!("{} of {}", decision.approvals, from.join(", "))
        }
    };
    let needs: Vec<&str> = decision.conditions.iter().filter(|c| !c.met).map(|c| c.text.as_str()).collect();
    let needs = if needs.is_empty() { String::new() } else { format!(", if {}", needs.join(" and ")) };
    format!("{verdict}, at most {}{needs}", decision.max_ttl)
}

/// The ask that a table is made with: the default duration, a reason, nothing special.
pub fn ordinary(entitlement: &Entitlement) -> Inputs {
    Inputs {
        ttl: entitlement.default_ttl,
        now: CASE_TIME,
        start_at: CASE_TIME,
        has_reason: true,
        ticket: None,
        emergency: false,
        on_behalf: false,
        live_grants: 0,
    }
}

/// A person in no group, for whom an approver decides.
fn somebody_else() -> Subject {
    let identity = Identity::new(IdentityId::new(ulid::Ulid::from(0_u128)), IdentityKind::Person, "somebody-else");
    Subject { identity, groups: BTreeSet::new() }
}
