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
        id::{CorrelationId, IdentityId, LockId},
    },
    store::{Lock, LockKind, StoreError, WideScope},
};

/// Grants that a kill switch ends with one commit.
const PART: u32 = 500;

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
        // The lock alone, and at once: from its commit on nothing new begins. What is live is ended after it, in parts;
        // if this broker dies in between, any other goes on.
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if tx.active_lock(lock.kind, &lock.value).await?.is_some() {
                    return Err(BrokerError::State("it is locked already".to_owned()));
                }
                tx.insert_lock(&lock).await?;
                let details = json!({
                    "lock": lock.id, "kind": lock.kind, "value": lock.value, "reason": lock.reason,
                });
                let event = self.event(&cause, "lock.created", details)?;
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        crate::failpoint::hit("lock.recorded");
        let ending = self.end_locked(&cause, &lock).await?;
        tracing::warn!(lock = %lock.id, kind = lock.kind.as_str(), ending, "a lock was set");
        let mut view = self.render_lock(&lock).await;
        view.ending = Some(ending as u64);
        Ok(view)
    }

    /// What is live under a kill switch is ended, whoever let it fall: what a broker that died did not come to, and
    /// what another connection was recording in the very moment when it fell. How many grants that were.
    pub async fn enforce_locks(&self) -> Result<usize, BrokerError> {
        if self.is_observing() {
            return Ok(0);
        }
        let mut ending = 0;
        for lock in self.store.locks().await? {
            let now = self.now();
            let worker = Cause::worker(CorrelationId::new(self.entropy.ulid(now)?), now);
            ending += self.end_locked(&Cause { actor: Some(lock.actor), ..worker }, &lock).await?;
        }
        Ok(ending)
    }

    async fn end_locked(&self, cause: &Cause, lock: &Lock) -> Result<usize, BrokerError> {
        match (lock.kind, lock.value.parse::<IdentityId>()) {
            (LockKind::Identity, Ok(id)) => self.end_in_parts(cause, WideScope::Holder(id), lock).await,
            (LockKind::Target, _) => self.end_in_parts(cause, WideScope::Target(&lock.value), lock).await,
            (LockKind::Entitlement, _) => {
                let mut ending = 0;
                // One that moved to another target may be live on both.
                for target in self.store.targets_in_use().await? {
                    let scope = WideScope::Entitlement { target: &target, name: &lock.value };
                    ending += self.end_in_parts(cause, scope, lock).await?;
                }
                Ok(ending)
            }
            (LockKind::Identity, Err(_)) => Ok(0),
        }
    }

    async fn end_in_parts(&self, cause: &Cause, scope: WideScope<'_>, lock: &Lock) -> Result<usize, BrokerError> {
        let (mut ending, mut part) = (0, None);
        while let Some(next) = self.store.part_to_end(scope, part, PART).await? {
            ending += loop {
                let mut tx = self.store.begin().await?;
                let written = async {
                    let rows = tx.begin_end_of(scope, &next, EndReason::Locked, cause.correlation, cause.now).await?;
                    self.note_ending(&mut tx, cause, rows, EndReason::Locked, &lock.reason)
                }
                .await;
                if let Some(result) = tx.end(written).await {
                    break result?.len();
                }
            };
            crate::failpoint::hit("lock.part_recorded");
            self.due.notify_waiters();
            part = Some(next);
        }
        Ok(ending)
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
