//! The exact terms of a request as one short hash, and how far Slack is trusted with it.

use ring::digest;
use serde_json::json;

use crate::{
    broker::{Broker, BrokerError, Ctx, input::Decide},
    domain::{request::Request, slack::SlackDecision, time::Ttl},
    policy::PolicySet,
};

/// Bytes of the hash: nobody has to find a collision for his own request to be approved, for all facts are ours.
const BYTES: usize = 16;

/// Hash of what approving a request would open: who, what with which parameters, how long, from when, and why. It
/// changes when any of it does, the catalog included.
pub(in crate::broker) fn terms_of(policy: &PolicySet, request: &Request) -> String {
    let entitlements: Vec<_> = request
        .entitlements
        .iter()
        .map(|id| {
            let entitlement = policy.catalog().get(id);
            json!([id, entitlement.map(|e| json!([e.target, e.parameters, e.max_claims]))])
        })
        .collect();
    let terms = json!([
        request.id,
        request.requester,
        request.subject,
        entitlements,
        request.ttl,
        request.start_at,
        request.reason,
        request.ticket,
    ]);
    let hash = digest::digest(&digest::SHA256, terms.to_string().as_bytes());
    hex::encode(hash.as_ref().get(..BYTES).unwrap_or_default())
}

/// How far a click in Slack decides on it: what the strictest of its entitlements says.
pub(in crate::broker) fn trust_of(policy: &PolicySet, request: &Request) -> SlackDecision {
    let each = request.entitlements.iter().map(|id| match policy.catalog().get(id) {
        // Where people have to sign in again, Slack only leads there.
        Some(e) if e.step_up.is_some() => e.slack_decision.min(SlackDecision::Link),
        Some(e) => e.slack_decision,
        None => SlackDecision::Link,
    });
    let trust = each.min().unwrap_or_default();
    // In a hurry a click is soon made: an emergency shows its terms once more.
    if request.emergency { trust.min(SlackDecision::Confirm) } else { trust }
}

/// Within which time whoever approves must have shown who they are: the shortest of its entitlements.
fn step_up_of(policy: &PolicySet, request: &Request) -> Option<Ttl> {
    request.entitlements.iter().filter_map(|id| policy.catalog().get(id)?.step_up).min()
}

impl Broker {
    /// Were these terms shown, and may this surface decide on them?
    pub(in crate::broker) fn shown_and_trusted(
        ctx: &Ctx,
        policy: &PolicySet,
        request: &Request,
        decide: &Decide,
        approve: bool,
    ) -> Result<(), BrokerError> {
        if decide.terms.as_ref().is_some_and(|shown| *shown != terms_of(policy, request)) {
            return Err(BrokerError::State(
                "the terms changed since they were shown; nothing was decided, look at the message again".to_owned(),
            ));
        }
        if approve && ctx.via == super::VIA && trust_of(policy, request) < SlackDecision::Confirm {
            return Err(BrokerError::Forbidden(
                "this one is approved in the portal, where you sign in again; nothing was decided",
            ));
        }
        if approve && ctx.via == super::VIA && trust_of(policy, request) == SlackDecision::Confirm && !decide.confirmed
        {
            return Err(BrokerError::Forbidden(
                "this one is approved in a form: use “Review and approve”; nothing was decided",
            ));
        }
        if let Some(within) = step_up_of(policy, request).filter(|_| approve) {
            ctx.proved_within(within)?;
        }
        Ok(())
    }
}
