//! What a request would change: what its subject has on the targets in question now, and what they would have then.

use super::{
    Broker, BrokerError,
    view::{GainView, HeldView, PermissionsView},
};
use crate::{
    domain::{identity::Subject, request::Request},
    store::GrantFilter,
};

/// Live grants of the subject that are looked at.
const LOOKED_AT: u32 = 200;

impl Broker {
    /// For whoever decides on the request: no more of the subject's grants than those on the same targets.
    pub(super) async fn permissions(
        &self,
        request: &Request,
        subject: &Subject,
    ) -> Result<PermissionsView, BrokerError> {
        let policy = self.policy();
        let asked: Vec<_> = request.entitlements.iter().filter_map(|id| policy.catalog().get(id)).collect();
        let filter = GrantFilter { holder: Some(request.subject), live: true, ..GrantFilter::default() };
        let live = self.store.grants(&filter, None, LOOKED_AT).await?.items;
        let here = live.iter().filter(|g| asked.iter().any(|e| e.target == g.target));
        let holds = here.map(|g| HeldView {
            entitlement: g.entitlement.to_string(),
            target: g.target.to_string(),
            parameters: g.parameters.clone(),
            not_after: g.not_after.map(|t| t.to_string()),
        });
        let gains = asked.iter().map(|e| {
            let standing = e.parameters.get("group").and_then(serde_json::Value::as_str);
            GainView {
                entitlement: e.id.to_string(),
                target: e.target.to_string(),
                parameters: e.parameters.clone(),
                held: live.iter().any(|g| g.entitlement == e.id),
                standing: standing.is_some_and(|group| subject.is_in(&group.to_lowercase())),
            }
        });
        Ok(PermissionsView { holds: holds.collect(), gains: gains.collect() })
    }
}
