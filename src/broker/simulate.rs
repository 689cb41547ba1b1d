//! What would policy say? Records nothing.

use super::{Broker, BrokerError, Ctx, input::Simulate, view::SimulationView};
use crate::domain::decision::Inputs;

impl Broker {
    /// Verdict with reasons for an identity, an entitlement and a moment.
    pub async fn simulate(&self, ctx: &Ctx, simulate: Simulate) -> Result<SimulationView, BrokerError> {
        let subject = self.simulated(ctx, &simulate).await?;
        let policy = self.policy();
        let Some(entitlement) = policy.catalog().get(&simulate.entitlement) else {
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
        let decision = policy.decide(&subject, entitlement, &inputs);
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
}
