//! Attest: a named person answers for a quarantined grant, with a reason. The only way around verification.

use serde_json::json;

use super::{Broker, BrokerError, Ctx, ask::required_text, record::Cause, view::GrantView};
use crate::{
    domain::{
        grant::{EndReason, GrantState},
        id::GrantId,
        identity::IdentityKind,
    },
    store::StoreError,
};

impl Broker {
    /// Close a quarantined grant by hand: administrators who are people, with a reason. Never one's own grant.
    pub async fn attest(&self, ctx: &Ctx, id: GrantId, reason: String) -> Result<GrantView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let grant = self.visible_grant(ctx, id).await?;
        if !ctx.is_admin() || ctx.actor.identity.kind != IdentityKind::Person {
            return Err(BrokerError::Forbidden("only a person who administers can attest"));
        }
        let request = self.store.request(grant.request).await?.ok_or(BrokerError::NotFound("request"))?;
        let parties = [grant.holder, request.requester];
        if parties.contains(&ctx.actor_id()) || self.owns(ctx, grant.holder).await? {
            return Err(BrokerError::Forbidden(
                "four eyes: you cannot attest the end of access that you hold, asked for or answer for",
            ));
        }
        let reason = required_text("reason", &reason)?;
        if grant.state != GrantState::Quarantined {
            return Err(BrokerError::State(format!(
                "only a quarantined grant can be attested; this one is {}",
                grant.state.as_str()
            )));
        }
        let end = grant.end_reason.unwrap_or(EndReason::Expired);
        let evidence = json!({
            "attested_by": ctx.actor_id(), "name": ctx.actor.identity.name, "reason": reason,
            "verified": false, "last_error": grant.last_error,
        });
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.record_attested(id, end.terminal(), &evidence, ctx.now).await?;
                self.note_grant(&mut tx, &Cause::from(ctx), "grant.attested", &grant, evidence.clone())
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => {
                    return Err(BrokerError::State("it is being tried again right now; attest in a moment".to_owned()));
                }
                Some(result) => {
                    result?;
                    crate::failpoint::hit("attest.recorded");
                    return self.grant(ctx, id).await;
                }
            }
        }
    }
}
