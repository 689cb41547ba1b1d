//! Kill switches: stop new grants at once, end live ones.

use std::sync::Arc;

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    ask::required_text,
    input::NewLock,
    record::Cause,
    view::{List, LockView},
};
use crate::{
    domain::{
        grant::EndReason,
        id::{IdentityId, LockId},
    },
    store::{EndScope, Lock, LockKind, StoreError, Tx},
};

impl Broker {
    /// Let a kill switch fall on an identity, target or entitlement.
    pub async fn lock(self: &Arc<Self>, ctx: &Ctx, new: NewLock) -> Result<LockView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        only_admins(ctx)?;
        let reason = required_text("reason", &new.reason)?;
        let value = self.lockable(ctx, &new).await?;
        let lock = Lock {
            id: LockId::new(self.entropy.ulid(ctx.now)?),
            kind: new.kind,
            value,
            reason,
            actor: ctx.actor_id(),
            created_at: ctx.now,
        };
        let cause = Cause::from(ctx);
        // One transaction: from its commit on nothing new begins, and everything live is on its way out.
        let ending = loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if tx.active_lock(lock.kind, &lock.value).await?.is_some() {
                    return Err(BrokerError::State("it is locked already".to_owned()));
                }
                tx.insert_lock(&lock).await?;
                let ending = self.end_locked(&mut tx, &cause, &lock).await?;
                let details = json!({
                    "lock": lock.id, "kind": lock.kind, "value": lock.value, "reason": lock.reason,
                    "ending": ending,
                });
                let event = self.event(&cause, "lock.created", details)?;
                self.note(&mut tx, event)?;
                Ok(ending)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                break result?;
            }
        };
        crate::failpoint::hit("lock.recorded");
        // What another connection was recording in that very moment could not be seen; it has been recorded by now, or
        // sees the lock when it is opened.
        let late = loop {
            let mut tx = self.store.begin().await?;
            let written = self.end_locked(&mut tx, &cause, &lock).await;
            if let Some(result) = tx.end(written).await {
                break result?;
            }
        };
        let ending = ending + late;
        tracing::warn!(lock = %lock.id, kind = lock.kind.as_str(), ending, "a lock was set");
        self.due.notify_waiters();
        let mut view = self.render_lock(&lock).await;
        view.ending = Some(ending as u64);
        Ok(view)
    }

    async fn end_locked(&self, tx: &mut Tx, cause: &Cause, lock: &Lock) -> Result<usize, BrokerError> {
        let scope = match (lock.kind, lock.value.parse::<IdentityId>()) {
            (LockKind::Identity, Ok(id)) => EndScope::Holder(id),
            (LockKind::Entitlement, _) => EndScope::Entitlement(&lock.value),
            _ => EndScope::Target(&lock.value),
        };
        Ok(self.begin_end(tx, cause, scope, EndReason::Locked, &lock.reason).await?.len())
    }

    async fn lockable(&self, ctx: &Ctx, new: &NewLock) -> Result<String, BrokerError> {
        let unknown = || BrokerError::invalid("value", format!("there is no such {}", new.kind.as_str()));
        match new.kind {
            LockKind::Identity => {
                let subject = self.find_subject(&new.value, ctx.now).await?.ok_or_else(unknown)?;
                Ok(subject.identity.id.to_string())
            }
            LockKind::Target => self.target_of(&new.value).map(|t| t.config.id.to_string()).ok_or_else(unknown),
            LockKind::Entitlement => {
                self.policy().catalog().get(&new.value).map(|e| e.id.to_string()).ok_or_else(unknown)
            }
        }
    }

    /// Lift a kill switch. What it ended stays ended.
    pub async fn unlock(&self, ctx: &Ctx, id: LockId) -> Result<LockView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        only_admins(ctx)?;
        let lock = self.store.locks().await?.into_iter().find(|l| l.id == id).ok_or(BrokerError::NotFound("lock"))?;
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.lift_lock(id, ctx.actor_id(), ctx.now).await?;
                let details = json!({"lock": id, "kind": lock.kind, "value": lock.value});
                let event = self.event(&Cause::from(ctx), "lock.lifted", details)?;
                self.note(&mut tx, event)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Err(BrokerError::NotFound("lock")),
                Some(result) => {
                    result?;
                    return Ok(self.render_lock(&lock).await);
                }
            }
        }
    }

    /// Kill switches in force: administrators and auditors see all, others those on themselves.
    pub async fn locks(&self, ctx: &Ctx) -> Result<List<LockView>, BrokerError> {
        let mut items = Vec::new();
        for lock in self.store.locks().await? {
            let mine = lock.kind == LockKind::Identity && lock.value == ctx.actor_id().to_string();
            if mine || ctx.sees_everything() {
                items.push(self.render_lock(&lock).await);
            }
        }
        Ok(List { items, next: None })
    }
}

impl Broker {
    /// A kill switch on a person, or on whoever answers for a workload, stops what they would change.
    pub(super) async fn not_locked(&self, ctx: &Ctx) -> Result<(), BrokerError> {
        match self.store.lock_on_actor(ctx.actor_id(), ctx.actor.identity.owner).await? {
            None => Ok(()),
            Some(reason) => Err(BrokerError::Locked { kind: "identity", reason }),
        }
    }
}

pub(super) fn only_admins(ctx: &Ctx) -> Result<(), BrokerError> {
    if ctx.is_admin() { Ok(()) } else { Err(BrokerError::Forbidden("this is for members of tidegate-admins only")) }
}
