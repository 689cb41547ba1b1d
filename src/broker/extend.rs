//! Extend: a new decision. Only what policy grants by itself; anything more is a new request.

use std::sync::Arc;

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx, ask::required_text, bulkhead::Purpose, input::Extend, record::Cause, view::GrantView,
};
use crate::{
    domain::{
        decision::{Inputs, Verdict},
        grant::{Grant, GrantState},
        id::GrantId,
        time::{Timestamp, Ttl},
    },
    store::{IdempotencyKey, StoreError},
};

/// How the end of a grant moves.
struct Moved<'a> {
    from: Timestamp,
    to: Timestamp,
    ttl: Ttl,
    reason: &'a str,
    action: &'static str,
    key: Option<&'a IdempotencyKey>,
}

impl Broker {
    /// Move the end of an active grant.
    pub async fn extend(self: &Arc<Self>, ctx: &Ctx, id: GrantId, extend: Extend) -> Result<GrantView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let reason = required_text("reason", &extend.reason)?;
        let grant = self.visible_grant(ctx, id).await?;
        if grant.holder != ctx.actor_id() {
            return Err(BrokerError::Forbidden("only the holder of a grant can extend it"));
        }
        if let Some((key, body_hash)) = &extend.idempotency {
            match self.store.idempotency_key(ctx.actor_id(), key).await? {
                Some((before, request)) if before != *body_hash => return Err(BrokerError::KeyReused(request)),
                Some(_) => return self.grant(ctx, id).await,
                None => {}
            }
        }
        let key = extend.idempotency.map(|(key, body_hash)| IdempotencyKey {
            identity: ctx.actor_id(),
            key,
            body_hash,
            request: grant.request,
            at: ctx.now,
        });
        let (GrantState::Active, Some(from), None) = (grant.state, grant.not_after, grant.end_reason) else {
            return Err(BrokerError::State("only an active grant can be extended; ask again".to_owned()));
        };
        if extend.from.is_some_and(|seen| seen.seconds() != from.seconds()) {
            return Err(BrokerError::State("its end was moved already; look at it again".to_owned()));
        }
        if from <= ctx.now {
            return Err(BrokerError::State("the grant is over; ask again".to_owned()));
        }
        let to = from.plus(extend.duration);
        let began = grant.activated_at.unwrap_or(grant.created_at);
        let total = to.seconds_since(began);
        self.may_extend(ctx, &grant, extend.duration, total, to).await?;
        self.may_still_mint(ctx, &grant).await?;
        let target = Arc::clone(self.target_for(&grant)?);
        // The ledger first: if we die here, the target's own end comes earlier than the ledger's, never later.
        let moved = Moved { from, to, ttl: total, reason: &reason, action: "grant.extended", key: key.as_ref() };
        self.move_end(ctx, &grant, moved).await?;
        crate::failpoint::hit("extend.recorded");
        let extended = Grant { not_after: Some(to), due_at: Some(to), ttl: total, ..grant.clone() };
        let intent = Self::intent_of(&extended, &ctx.actor.identity.name)
            .ok_or_else(|| BrokerError::State("the grant has no intent".to_owned()))?;
        if let Err(fault) = target.bulkhead.call(Purpose::Issue, target.connector.activate(&intent)).await {
            let reason = "the target did not extend it";
            let action = "grant.extension_undone";
            let undone = Moved { from: to, to: from, ttl: grant.ttl, reason, action, key: key.as_ref() };
            let _ = self.move_end(ctx, &extended, undone).await;
            return Err(fault.into());
        }
        crate::failpoint::hit("extend.called");
        // It may have been ended while the target was being called, which would have opened it again.
        let after = self.store.grant(id).await?;
        if after.is_none_or(|g| g.state != GrantState::Active || g.end_reason.is_some()) {
            self.end_by_name(&extended, &Cause::from(ctx)).await;
            return Err(BrokerError::State("the grant was ended meanwhile".to_owned()));
        }
        self.grant(ctx, id).await
    }

    async fn may_extend(
        &self,
        ctx: &Ctx,
        grant: &Grant,
        by: Ttl,
        total: Ttl,
        to: Timestamp,
    ) -> Result<(), BrokerError> {
        let policy = self.policy();
        let Some(entitlement) = policy.catalog().get(&grant.entitlement) else {
            return Err(BrokerError::State(format!("{} is no longer in the catalog", grant.entitlement)));
        };
        if by > entitlement.max_ttl || total > entitlement.max_ttl {
            return Err(BrokerError::invalid(
                "duration",
                format!(
                    "the grant would last {total}, longer than the {} that it may; ask again when it ends",
                    entitlement.max_ttl
                ),
            ));
        }
        if ctx.actor.identity.contract_end.is_some_and(|end| to > end) {
            return Err(BrokerError::invalid("duration", "reaches beyond the end of the contract"));
        }
        let request = self.store.request(grant.request).await?.ok_or(BrokerError::NotFound("request"))?;
        let inputs = Inputs {
            ttl: total,
            now: ctx.now,
            start_at: ctx.now,
            has_reason: true,
            ticket: request.ticket,
            emergency: request.emergency,
            on_behalf: false,
            live_grants: self.live_grants_of(grant.holder).await?.saturating_sub(1),
        };
        let decision = policy.decide(&ctx.actor, entitlement, &inputs);
        match decision.verdict {
            Verdict::Auto => Ok(()),
            Verdict::Approval => Err(BrokerError::State(format!(
                "extending {} needs approval: ask for it again, and the new grant takes over without a gap",
                grant.entitlement
            ))),
            Verdict::Denied => Err(BrokerError::Denied { reasons: decision.reasons, conditions: decision.conditions }),
        }
    }

    async fn move_end(&self, ctx: &Ctx, grant: &Grant, moved: Moved<'_>) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.extend_grant(grant.id, moved.from, moved.to, moved.ttl).await?;
                match moved.key {
                    Some(key) if moved.to > moved.from => tx.keep_key(key).await?,
                    // Not done after all: the next try with this key is the first.
                    Some(key) => tx.forget_key(key).await?,
                    None => {}
                }
                let details = json!({"from": moved.from, "to": moved.to, "reason": moved.reason});
                self.note_grant(&mut tx, &Cause::from(ctx), moved.action, grant, details)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => {
                    return Err(BrokerError::State("the grant changed meanwhile; look at it again".to_owned()));
                }
                Some(result) => return result,
            }
        }
    }
}
