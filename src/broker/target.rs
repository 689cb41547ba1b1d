//! Targets: what they promise, how they are, whether the broker's rights there are enough.

use super::{
    Broker, BrokerError, Ctx, Target,
    bulkhead::Purpose,
    lock::only_admins,
    view::{CheckView, List, TargetView},
};
use crate::ports::connector::{Fault, Finding, Publication};

impl Broker {
    /// All configured targets.
    #[allow(clippy::unused_async, reason = "every verb is called alike")]
    pub async fn targets(&self, _ctx: &Ctx) -> Result<List<TargetView>, BrokerError> {
        Ok(List { items: self.targets.values().map(|t| self.render_target(t)).collect(), next: None })
    }

    /// One target.
    #[allow(clippy::unused_async, reason = "every verb is called alike")]
    pub async fn target(&self, _ctx: &Ctx, id: &str) -> Result<TargetView, BrokerError> {
        self.target_of(id).map(|t| self.render_target(t)).ok_or(BrokerError::NotFound("target"))
    }

    fn render_target(&self, target: &Target) -> TargetView {
        let d = &target.description;
        let policy = self.policy();
        let on_it = policy.catalog().entitlements.values().filter(|e| e.target == target.config.id);
        TargetView {
            id: target.config.id.to_string(),
            kind: target.config.kind.clone(),
            summary: d.summary.clone(),
            revocation_class: d.revocation_class,
            native_expiry: d.native_expiry,
            read_back: d.read_back,
            cuts_sessions: d.cuts_sessions,
            residual_window: d.residual_window_seconds,
            residual_window_text: d.residual_window.clone(),
            replaces_copies: d.replaces_copies,
            rights: d.rights.clone(),
            after_crash: d.after_crash.clone(),
            health: target.bulkhead.held_back().unwrap_or_else(|| "ok".to_owned()),
            entitlements: on_it.map(|e| e.id.to_string()).collect(),
        }
    }

    /// Is the target reachable, and are the broker's rights there enough? Administrators only.
    pub async fn check_target(&self, ctx: &Ctx, id: &str) -> Result<CheckView, BrokerError> {
        only_admins(ctx)?;
        // A check may set right what is published, and that is not for a broker that only observes.
        self.may_change()?;
        self.not_locked(ctx).await?;
        let target = self.target_of(id).ok_or(BrokerError::NotFound("target"))?;
        let check = async { Ok::<_, Fault>(target.connector.check().await) };
        let findings = target.bulkhead.call(Purpose::Revoke, check).await.unwrap_or_else(|fault| {
            vec![Finding {
                name: "answers".to_owned(),
                ok: false,
                detail: fault.to_string(),
                fix: Some("see that the target is up and that the broker can reach it".to_owned()),
            }]
        });
        let ok = findings.iter().all(|f| f.ok);
        Ok(CheckView { target: target.config.id.to_string(), ok, findings })
    }

    /// A file for a target's verifiers. Public by nature.
    pub async fn publication(&self, target: &str, name: &str) -> Option<Publication> {
        // What a restored ledger knows is too old for verifiers.
        if self.is_observing() {
            return None;
        }
        let target = self.target_of(target)?;
        target.connector.publication(name).await
    }
}
