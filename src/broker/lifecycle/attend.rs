//! What the clock and changed facts ask of identities, one due row at a time: a contract that has ended, an orphan that
//! nobody answered for, a mover whose grants are to be decided again, a leaver of whom something was still being opened.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::super::{Broker, BrokerError, record::Cause};
use crate::{
    domain::{
        id::CorrelationId,
        identity::{Identity, IdentityKind, Subject},
        time::Timestamp,
    },
    store::{DueIdentity, StoreError},
};

/// Whoever looks at an identity is taken for dead after this.
const LEASE: Duration = Duration::from_secs(30);
/// Looks at one identity that keeps changing; then it is left until the lease runs out.
const LOOKS: usize = 8;

impl Broker {
    /// Is any identity due?
    pub async fn lifecycle_is_due(&self) -> Result<bool, BrokerError> {
        let next = self.store.next_identity_due().await?;
        Ok(!self.is_observing() && next.is_some_and(|due| due <= self.now()))
    }

    /// Take up to `limit` identities that are due.
    pub async fn lease_identities(&self, limit: u32) -> Result<Vec<DueIdentity>, BrokerError> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin_background().await?;
            let taken = tx.lease_identities(now, now.plus_std(LEASE), limit).await;
            if let Some(result) = tx.end(taken).await {
                return Ok(result?);
            }
        }
    }

    /// Look at one identity that is due, and do what follows.
    pub async fn attend(self: &Arc<Self>, due: &DueIdentity) -> Result<(), BrokerError> {
        for _ in 0..LOOKS {
            match self.attend_once(due).await {
                // It changed while it was looked at, or another worker has it.
                Err(BrokerError::Store(StoreError::Conflict)) => {}
                other => return other,
            }
        }
        Ok(())
    }

    async fn attend_once(self: &Arc<Self>, due: &DueIdentity) -> Result<(), BrokerError> {
        let now = self.now();
        let Some(subject) = self.store.subject(due.id, now).await? else { return Ok(()) };
        let correlation = match due.recheck {
            Some(cause) => cause,
            None => CorrelationId::new(self.entropy.ulid(now)?),
        };
        let cause = Cause::worker(correlation, now);
        if let Some(why) = over(&subject.identity, now) {
            // A fresh correlation: this follows from the clock and from no call.
            let cause = Cause { correlation: CorrelationId::new(self.entropy.ulid(now)?), via: "clock", ..cause };
            return self.deactivate_by_clock(&cause, &subject.identity, why).await;
        }
        if subject.identity.active
            && let Some(after) = self.without_team(&subject.identity, now).await?
        {
            return self.orphan_by_team(&cause, &subject.identity, &after).await;
        }
        if !subject.identity.active {
            return self.settle_leaver(due, &cause, &subject).await;
        }
        if due.recheck.is_none() {
            return self.settle_quietly(due, &subject).await;
        }
        let found = self.reconsider(&subject, now).await?;
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                tx.settle_identity(due, subject.identity.version, subject.identity.next_due()).await?;
                self.record_reconsidered(&mut tx, &cause, &subject, &found).await
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        self.wake();
        self.shorten_at_targets(&subject, &found).await;
        Ok(())
    }

    async fn deactivate_by_clock(&self, cause: &Cause, before: &Identity, why: &str) -> Result<(), BrokerError> {
        let after = Identity { active: false, answer_by: None, ..before.clone() };
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = self.record_change(&mut tx, cause, before, &after, json!({"why": why})).await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        tracing::info!(identity = %before.id, why, "deactivated by the clock");
        self.wake();
        Ok(())
    }

    /// A workload or agent whose team is gone, as the orphan that it is now.
    async fn without_team(&self, identity: &Identity, now: Timestamp) -> Result<Option<Identity>, BrokerError> {
        let Some(team) = identity.team().filter(|_| identity.orphaned_at.is_none()) else { return Ok(None) };
        if self.store.has_people(&team).await? {
            return Ok(None);
        }
        let answer_by = Some(now.plus_std(self.settings.orphan_grace));
        Ok(Some(Identity { orphaned_at: Some(now), answer_by, ..identity.clone() }))
    }

    async fn orphan_by_team(&self, cause: &Cause, before: &Identity, after: &Identity) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                let why = "its team is gone";
                self.record_change(&mut tx, cause, before, after, json!({"why": why})).await?;
                let details = json!({
                    "name": before.name, "kind": before.kind, "why": why, "owner": before.owner,
                    "ask": before.owner.or(before.backup_owner), "answer_by": after.answer_by,
                });
                let mut event = self.event(cause, "workload.orphaned", details)?;
                event.subject = Some(before.id);
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        self.wake();
        Ok(())
    }

    /// After somebody has gone: what was being opened or asked for in that very moment, and could not be seen.
    async fn settle_leaver(&self, due: &DueIdentity, cause: &Cause, subject: &Subject) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                tx.settle_identity(due, subject.identity.version, None).await?;
                self.end_all_of(&mut tx, cause, due.id).await
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        self.wake();
        Ok(())
    }

    async fn settle_quietly(&self, due: &DueIdentity, subject: &Subject) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = tx.settle_identity(due, subject.identity.version, subject.identity.next_due()).await;
            if let Some(result) = tx.end(written).await {
                return Ok(result?);
            }
        }
    }
}

/// Why the clock alone says that somebody is gone, if it does.
fn over(identity: &Identity, now: Timestamp) -> Option<&'static str> {
    if !identity.active {
        return None;
    }
    if identity.contract_end.is_some_and(|end| end <= now) {
        return Some("its contract has ended");
    }
    identity.answer_by.filter(|by| *by <= now).map(|_| {
        if identity.kind == IdentityKind::Person && identity.orphaned_at.is_some() {
            "whoever answered for it has left, and nobody else does"
        } else if identity.kind == IdentityKind::Person {
            "no source took over the account that was made at its first login"
        } else {
            "nobody answered for it in time: decommissioned"
        }
    })
}
