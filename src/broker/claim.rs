//! Claim: the credential is minted now, handed over in this one answer, and kept nowhere.

use std::sync::Arc;

use serde_json::json;

use super::{Broker, BrokerError, Ctx, bulkhead::Purpose, record::Cause};
use crate::{
    domain::{
        decision::Inputs,
        grant::{Claim, Grant, GrantState},
        id::GrantId,
        secret::Minted,
    },
    ports::connector::Fault,
    store::{Change, NewClaim, StoreError, Written},
};

/// A credential on its way to its holder. Rendered once.
pub struct Handover {
    /// The grant.
    pub grant: GrantId,
    /// Serial and number of this copy.
    pub claim: Claim,
    /// Which connector minted it.
    pub kind: String,
    /// The credential.
    pub minted: Minted,
}

impl Broker {
    /// Mint a credential for an active grant. A second claim ends the first copy, where the target can.
    pub async fn claim(self: &Arc<Self>, ctx: &Ctx, id: GrantId) -> Result<Handover, BrokerError> {
        self.may_change()?;
        let grant = self.visible_grant(ctx, id).await?;
        if grant.holder != ctx.actor_id() {
            return Err(BrokerError::Forbidden("only the holder of a grant can claim its credential"));
        }
        let now = self.now();
        claimable(&grant, now)?;
        let target = Arc::clone(self.target_for(&grant)?);
        if !target.description.mints_secrets {
            return Err(BrokerError::State(format!(
                "there is nothing to claim: {} takes effect by itself while the grant is active",
                grant.entitlement
            )));
        }
        self.may_still_mint(ctx, &grant).await?;
        let intent = Self::intent_of(&grant, &ctx.actor.identity.name)
            .ok_or_else(|| BrokerError::State("the grant has no intent".to_owned()))?;
        // A claim that cannot be made now is not counted.
        if let Some(why) = target.bulkhead.held_back() {
            return Err(Fault::Unavailable(why).into());
        }
        let number = grant.claims.saturating_add(1);
        let new = NewClaim { grant: id, number, at: now, expires_at: intent.not_after };
        let details = json!({"number": number, "expires_at": intent.not_after});
        let event = self.grant_event(&Cause::from(ctx), "grant.claimed", &grant, details)?;
        let claim = match self.store.write(Change { claim: Some((new, event)), ..Change::default() }).await {
            Ok(Written { serial: Some(serial) }) => Claim { serial, number, at: now },
            Ok(_) | Err(StoreError::Conflict) => return Err(self.why_not_claimable(id).await),
            Err(other) => return Err(other.into()),
        };
        crate::failpoint::hit("claim.recorded");
        let minted = target.bulkhead.call(Purpose::Issue, target.connector.mint(&intent, &claim)).await;
        if matches!(&minted, Err(Fault::Refused(_) | Fault::Foreign(_))) {
            self.give_claim_back(ctx, &grant, number).await?;
        }
        let minted = minted?;
        crate::failpoint::hit("claim.minted");
        // Ended or claimed again while the target was minting: this copy is not handed over.
        let after = self.store.grant(id).await?.ok_or(BrokerError::NotFound("grant"))?;
        if after.state != GrantState::Active || after.end_reason.is_some() || after.claims != claim.number {
            return Err(self.why_not_claimable(id).await);
        }
        metrics::counter!("tidegate_claims_total", "connector" => target.config.kind.clone()).increment(1);
        Ok(Handover { grant: id, claim, kind: target.config.kind.clone(), minted })
    }

    /// The target refused to mint, so there is no copy: the claim does not count among those that may be made.
    async fn give_claim_back(&self, ctx: &Ctx, grant: &Grant, number: u32) -> Result<(), BrokerError> {
        if grant.max_claims.is_none() {
            return Ok(());
        }
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.allow_another_claim(grant.id, number).await?;
                let details = json!({"number": number});
                self.note(&mut tx, self.grant_event(&Cause::from(ctx), "grant.claim_failed", grant, details)?)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(()),
                Some(result) => return result,
            }
        }
    }

    async fn why_not_claimable(&self, id: GrantId) -> BrokerError {
        match self.store.grant(id).await {
            Ok(Some(grant)) => match claimable(&grant, self.now()) {
                Err(why) => why,
                Ok(()) => match self.store.lock_on(grant.holder, &grant.target, &grant.entitlement).await {
                    Ok(Some(lock)) => BrokerError::Locked { kind: lock.kind.as_str(), reason: lock.reason },
                    Ok(None) => BrokerError::State("another claim came first; claim again".to_owned()),
                    Err(error) => error.into(),
                },
            },
            Ok(None) => BrokerError::NotFound("grant"),
            Err(error) => error.into(),
        }
    }

    /// `Mint` is evaluated at every claim and extension, with the facts of now.
    pub(super) async fn may_still_mint(&self, ctx: &Ctx, grant: &Grant) -> Result<(), BrokerError> {
        let policy = self.policy();
        let Some(entitlement) = policy.catalog().get(&grant.entitlement) else {
            return Err(BrokerError::State(format!("{} is no longer in the catalog", grant.entitlement)));
        };
        let request = self.store.request(grant.request).await?.ok_or(BrokerError::NotFound("request"))?;
        let inputs = Inputs {
            ttl: grant.ttl,
            now: ctx.now,
            start_at: ctx.now,
            has_reason: !request.reason.is_empty(),
            ticket: request.ticket,
            emergency: request.emergency,
            on_behalf: request.subject != request.requester,
            live_grants: 0,
        };
        let permission = policy.may_mint(&ctx.actor, entitlement, &inputs);
        if permission.allowed {
            Ok(())
        } else {
            Err(BrokerError::Denied { reasons: permission.reasons, conditions: Vec::new() })
        }
    }
}

fn claimable(grant: &Grant, now: crate::domain::time::Timestamp) -> Result<(), BrokerError> {
    let no = |why: &str| Err(BrokerError::State(why.to_owned()));
    match grant.state {
        GrantState::Scheduled | GrantState::Activating => no("the grant is not active yet"),
        GrantState::Active if grant.end_reason.is_some() || grant.not_after.is_none_or(|end| end <= now) => {
            no("the grant is over")
        }
        GrantState::Active if grant.max_claims.is_some_and(|most| grant.claims >= most) => Err(BrokerError::State(
            format!("its credential was claimed {} times, which is the most for this entitlement", grant.claims),
        )),
        GrantState::Active => Ok(()),
        _ => no("the grant is over"),
    }
}
