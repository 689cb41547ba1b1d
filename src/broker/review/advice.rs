//! For each target and application: accounts that a source keeps (SCIM), access just in time (JIT), or both. A few rules over what the
//! catalog and the connector say, each of which is shown with what it led to.

use super::{Broker, ReviewLine};
use crate::domain::{
    capability::{Description, RevocationClass},
    catalog::Entitlement,
};

/// From here on access is privileged: nobody should hold it for good.
const PRIVILEGED: u8 = 2;

impl Broker {
    pub(super) fn advice(&self) -> Vec<ReviewLine> {
        let policy = self.policy();
        let mut lines = Vec::new();
        for target in self.targets.values() {
            let on_it = policy.catalog().entitlements.values().filter(|e| e.target == target.config.id);
            let entitlements: Vec<&Entitlement> = on_it.map(AsRef::as_ref).collect();
            let (answer, reasons) = advise(&target.description, &entitlements);
            lines.push(ReviewLine {
                about: "target".to_owned(),
                identity: None,
                thing: Some(target.config.id.to_string()),
                why: format!("{answer}: {}", reasons.join("; ")),
                since: None,
                steps: Vec::new(),
            });
        }
        for app in self.downstreams.values() {
            let lent = self.targets.values().filter(|t| app.lends.iter().any(|id| *id == *t.config.id)).count();
            let (answer, reasons) = advise_application(app.speaks.is_some(), app.config.groups.len(), lent);
            lines.push(ReviewLine {
                about: "application".to_owned(),
                identity: None,
                thing: Some(app.config.id.to_string()),
                why: format!("{answer}: {}", reasons.join("; ")),
                since: None,
                steps: Vec::new(),
            });
        }
        lines
    }
}

/// The same of an application: whether it has an interface, how many of its groups follow ours, and how many targets give
/// membership in its groups for a while.
fn advise_application(has_interface: bool, mapped: usize, lent: usize) -> (&'static str, Vec<String>) {
    let mut reasons = Vec::new();
    if !has_interface {
        reasons.push("it has no interface for accounts, so people keep them, and each leaver waits for one".to_owned());
        reasons.push("let it make accounts at the first sign-in (JIT), or give it one".to_owned());
        return ("JIT", reasons);
    }
    reasons
        .push("it has an interface: accounts follow the directory, and a leaver's is closed and read back".to_owned());
    if lent > 0 {
        reasons.push(format!("{lent} targets give membership in its groups for a while, on top"));
        return ("both", reasons);
    }
    if mapped > 0 {
        reasons.push(format!(
            "{mapped} of its groups follow ours for good: give those that are privileged for a while, by a target"
        ));
    }
    ("SCIM", reasons)
}

/// Which of the two, and why.
fn advise(target: &Description, entitlements: &[&Entitlement]) -> (&'static str, Vec<String>) {
    let privileged = entitlements.iter().filter(|e| e.sensitivity >= PRIVILEGED).count();
    let everyday = entitlements.len() - privileged;
    let mut reasons = Vec::new();
    let answer = match (everyday, privileged) {
        (0, 0) => {
            reasons.push("the catalog has nothing to ask for on it, so its accounts are all standing".to_owned());
            "SCIM"
        }
        (0, n) => {
            reasons.push(format!("all {n} entitlements are privileged: nobody should hold them for good"));
            "JIT"
        }
        (n, 0) => {
            reasons.push(format!("{n} everyday entitlements and no privileged one: accounts may stand"));
            "SCIM"
        }
        (n, m) => {
            reasons.push(format!(
                "{n} everyday entitlements on standing accounts, {m} privileged ones on top for a while"
            ));
            "both"
        }
    };
    if target.revocation_class == RevocationClass::ExpiryOnly {
        reasons.push("it cannot take access back before its expiry: keep durations short".to_owned());
    }
    if !target.read_back {
        reasons.push("it cannot be asked whether access is gone: have a person look when somebody leaves".to_owned());
    }
    if !target.native_expiry && answer != "SCIM" {
        reasons.push("it does not end access by itself: a broker must be up when it is due".to_owned());
    }
    (answer, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Ttl;

    fn entitlement(sensitivity: u8) -> Entitlement {
        Entitlement {
            slack_decision: crate::domain::slack::SlackDecision::Link,
            step_up: None,
            id: "e".into(),
            target: "t".into(),
            title: String::new(),
            description: String::new(),
            parameters: serde_json::Value::Null,
            default_ttl: Ttl::seconds_or_one(60),
            max_ttl: Ttl::seconds_or_one(60),
            sensitivity,
            approvers: Vec::new(),
            allow_no_backstop: false,
            max_claims: None,
            approval_timeout: Ttl::seconds_or_one(60),
            labels: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn an_application_without_an_interface_is_for_jit() {
        assert_eq!(advise_application(false, 0, 0).0, "JIT");
        assert_eq!(advise_application(true, 0, 1).0, "both");
        let (answer, reasons) = advise_application(true, 2, 0);
        assert_eq!((answer, reasons.len()), ("SCIM", 2));
    }

    #[test]
    fn what_is_privileged_is_for_a_while_and_what_is_everyday_may_stand() {
        let target = Description {
            kind: "x".to_owned(),
            summary: String::new(),
            revocation_class: RevocationClass::ExpiryOnly,
            native_expiry: true,
            read_back: false,
            cuts_sessions: false,
            mints_secrets: true,
            residual_window_seconds: 0,
            residual_window: String::new(),
            enforcement_seconds: 0,
            replaces_copies: true,
            rights: crate::domain::capability::Rights::default(),
            after_crash: String::new(),
        };
        let (low, high) = (entitlement(1), entitlement(3));
        assert_eq!(advise(&target, &[]).0, "SCIM");
        assert_eq!(advise(&target, &[&low]).0, "SCIM");
        assert_eq!(advise(&target, &[&high]).0, "JIT");
        let (answer, reasons) = advise(&target, &[&low, &high]);
        assert_eq!(answer, "both");
        assert_eq!(reasons.len(), 3, "{reasons:?}");
    }
}
