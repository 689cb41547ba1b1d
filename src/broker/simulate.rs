//! What would policy say? Records nothing.

use std::sync::Arc;

use super::{Broker, BrokerError, Ctx, input::Simulate, view::SimulationView};
use crate::{
    domain::{catalog::Entitlement, decision::Inputs, identity::Subject},
    policy::{PolicySet, explain},
};

/// Who asks for what, and how.
struct Simulated {
    subject: Subject,
    policy: Arc<PolicySet>,
    entitlement: Arc<Entitlement>,
    inputs: Inputs,
}

impl Broker {
    /// Verdict with reasons for an identity, an entitlement and a moment.
    pub async fn simulate(&self, ctx: &Ctx, simulate: Simulate) -> Result<SimulationView, BrokerError> {
        let Simulated { subject, policy, entitlement, inputs } = self.scene_of(ctx, simulate).await?;
        let decision = policy.decide(&subject, &entitlement, &inputs);
        Ok(SimulationView {
            verdict: decision.verdict,
            approvals: decision.approvals,
            approvers: decision.approvers.into_iter().collect(),
            max_ttl: decision.max_ttl.seconds(),
            conditions: decision.conditions,
            reasons: decision.reasons,
            policy_version: policy.version().to_owned(),
        })
    }

    /// The same, rule by rule: for administrators and auditors, for it tells of rules that have no say.
    pub async fn explain(&self, ctx: &Ctx, simulate: Simulate) -> Result<String, BrokerError> {
        if !ctx.sees_everything() {
            return Err(BrokerError::Forbidden("the trace of all rules is for administrators and auditors"));
        }
        let Simulated { subject, policy, entitlement, inputs } = self.scene_of(ctx, simulate).await?;
        Ok(explain(&policy, &subject, &entitlement, &inputs))
    }

    async fn scene_of(&self, ctx: &Ctx, simulate: Simulate) -> Result<Simulated, BrokerError> {
        let subject = self.simulated(ctx, &simulate).await?;
        let policy = self.policy();
        let Some(entitlement) = policy.catalog().get(&simulate.entitlement).cloned() else {
            return Err(BrokerError::invalid("entitlement", "there is no such entitlement in the catalog"));
        };
        let at = simulate.at.unwrap_or(ctx.now);
        let inputs = Inputs {
            ttl: simulate.duration.unwrap_or(entitlement.default_ttl),
            now: at,
            start_at: at,
            has_reason: simulate.reason.as_deref().is_none_or(|r| !r.trim().is_empty()),
            ticket: simulate.ticket,
            emergency: simulate.emergency,
            on_behalf: false,
            live_grants: self.live_grants_of(subject.identity.id).await?,
        };
        Ok(Simulated { subject, policy, entitlement, inputs })
    }
}
