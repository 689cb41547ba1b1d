//! End what is due: revoke, verify, record; retried for ever, quarantined after a while, never forgotten.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Broker, BrokerError, bulkhead::Purpose, record::Cause};
use crate::{
    domain::{
        grant::{EndReason, Grant, GrantState, Recipe},
        id::CorrelationId,
        time::Timestamp,
    },
    ports::connector::{Fault, Presence},
    store::{Change, Due, Ended, StoreError},
};

/// Grants of one target that are settled at once, at most.
const AT_ONCE: usize = 128;
/// Leased in one commit while people make changes, who wait for it.
const BESIDE_PEOPLE: usize = 16;
/// Calls that taking away one grant costs: revoke and verify.
const CALLS_OF_AN_END: u128 = 2;

/// What became of one due grant.
#[derive(Debug)]
pub enum Outcome {
    /// Gone, with evidence.
    Absent(Box<Grant>, Value),
    /// Not gone yet, or it could not be told.
    Later(Box<Grant>, String),
    /// Recorded already, or nothing to record.
    Settled,
}

impl Broker {
    /// How many grants of a target to settle at once: no more than its calls get done within their lease, even if each
    /// takes as long as it may. What waits longer would be taken again, and its outcome would count for nothing.
    pub fn settled_at_once(&self, target: &str) -> usize {
        let Some(target) = self.target_of(target) else { return AT_ONCE };
        let now = self.now();
        let lease = self.lease_of(Some(target), now).since(now).as_millis();
        let calls = lease.saturating_mul(target.bulkhead.width().into()) / target.bulkhead.timeout().as_millis().max(1);
        usize::try_from(calls / CALLS_OF_AN_END).map_or(AT_ONCE, |ends| ends.clamp(1, AT_ONCE))
    }

    /// How many of so many to lease in one commit.
    pub fn leased_at_once(&self, room: usize) -> usize {
        if self.store.expects_people() { room.min(BESIDE_PEOPLE) } else { room }
    }

    /// Take up to `limit` due grants of a target. Those whose time is up begin to end with this very commit.
    pub async fn lease_due(&self, target: &str, limit: u32) -> Result<Vec<Due>, BrokerError> {
        let now = self.now();
        // Looked at before it is leased: a lease is a commit, and every commit wakes those who wait.
        if self.store.next_due(target).await?.is_none_or(|due| due > now) {
            return Ok(Vec::new());
        }
        let lease = self.lease_of(self.target_of(target), now);
        loop {
            let mut tx = self.store.begin_background().await?;
            let taken = async {
                let mut due = Vec::new();
                for row in tx.lease_due(target, now, lease, limit).await? {
                    match row {
                        Ok(row) => {
                            self.note_begun(&mut tx, &row, now)?;
                            due.push(row);
                        }
                        // Harms only itself: it comes up again when its lease runs out, and is counted and logged.
                        Err(row) => {
                            let correlation = CorrelationId::new(self.entropy.ulid(now)?);
                            self.note_unreadable(&mut tx, &Cause::worker(correlation, now), &row)?;
                        }
                    }
                }
                Ok::<_, BrokerError>(due)
            }
            .await;
            if let Some(result) = tx.end(taken).await {
                return result;
            }
        }
    }

    fn note_begun(&self, tx: &mut crate::store::Tx, due: &Due, now: Timestamp) -> Result<(), BrokerError> {
        if due.grant.state != GrantState::Revoking || due.previous == GrantState::Revoking {
            return Ok(());
        }
        let cause = Cause::worker(due.grant.correlation, now);
        let details = json!({"reason": due.grant.end_reason, "from": due.previous});
        self.note_grant(tx, &cause, "grant.revoking", &due.grant, details)
    }

    /// Do what a due grant needs. Never fails: what could not be done now is done later.
    pub async fn settle(self: &Arc<Self>, due: Due) -> Outcome {
        match due.grant.state {
            GrantState::Scheduled => {
                let id = due.grant.id;
                if let Err(error) = self.open_scheduled(due.grant).await {
                    tracing::warn!(grant = %id, error = %error, "a scheduled grant could not be started; it will be tried again");
                }
                Outcome::Settled
            }
            GrantState::Revoking => self.take_away(due.grant).await,
            _ => Outcome::Settled,
        }
    }

    async fn take_away(&self, grant: Grant) -> Outcome {
        let Some(recipe) = grant.recipe.clone() else {
            let evidence = json!({"verified": "never opened: the grant has no intent"});
            return Outcome::Absent(Box::new(grant), evidence);
        };
        crate::failpoint::hit("reap.before_revoke");
        match self.revoke_and_verify(&grant.target, &recipe, grant.activated_at.is_some()).await {
            Ok(evidence) => Outcome::Absent(Box::new(grant), evidence),
            Err(why) => Outcome::Later(Box::new(grant), why),
        }
    }

    /// Revoke by recipe and ask the target whether it is gone: the evidence, or why it is not known to be.
    ///
    /// A target that refuses to take away what was open, and then shows nothing of it, is not believed: rights that were
    /// taken from the broker explain both answers. It is asked again, and in the end a person looks.
    pub(super) async fn revoke_and_verify(
        &self,
        target: &str,
        recipe: &Recipe,
        was_open: bool,
    ) -> Result<Value, String> {
        let Some(target) = self.target_of(target) else {
            return Err(format!(
                "no target `{target}` is configured; configure it again so that its access can be ended"
            ));
        };
        let revoked = target.bulkhead.call(Purpose::Revoke, target.connector.revoke(recipe)).await;
        crate::failpoint::hit("reap.after_revoke");
        // Verified even if revoking failed: an earlier try may have had its effect.
        // A target that cannot tell is one that does not answer: the breaker counts it.
        let verify = async {
            match target.connector.verify(recipe).await {
                Presence::Unknown(why) => Err(Fault::Unavailable(why)),
                told => Ok(told),
            }
        };
        let presence = target.bulkhead.call(Purpose::Revoke, verify).await;
        crate::failpoint::hit("reap.after_verify");
        match (revoked, presence) {
            (Err(Fault::Refused(why)), Ok(Presence::Absent(_))) if was_open => {
                Err(format!("the target shows nothing of it and refused to take it away: {why}"))
            }
            (_, Ok(Presence::Absent(evidence))) => Ok(evidence),
            (Err(fault), _) => Err(fault.to_string()),
            (Ok(()), Ok(Presence::Present(seen))) => Err(format!("still there after revocation: {seen}")),
            (Ok(()), Ok(Presence::Unknown(why))) => Err(format!("could not be verified: {why}")),
            (Ok(()), Err(fault)) => Err(format!("could not be verified: {fault}")),
        }
    }

    /// Record what became of a grant. A row that somebody else has taken meanwhile is left to them.
    pub async fn record_outcome(&self, outcome: &Outcome) -> Result<(), BrokerError> {
        let now = self.now();
        let recorded = match outcome {
            Outcome::Absent(grant, evidence) => self.record_absent(grant, evidence, now).await,
            Outcome::Later(grant, why) => self.record_later(grant, why, now).await,
            Outcome::Settled => return Ok(()),
        };
        match recorded {
            Ok(()) | Err(BrokerError::Store(StoreError::Conflict)) => {}
            Err(other) => return Err(other),
        }
        crate::failpoint::hit("reap.recorded");
        if let Outcome::Absent(grant, _) = outcome {
            let due = grant.revoking_at.unwrap_or(now);
            let reason = grant.end_reason.map_or("expired", EndReason::as_str);
            // From the instant at which it should have been gone to the proof that it is.
            let should = if reason == "expired" { grant.not_after.unwrap_or(due).min(due) } else { due };
            metrics::histogram!("tidegate_revocation_lag_seconds").record(now.since(should).as_secs_f64());
            metrics::counter!("tidegate_revocations_total", "reason" => reason, "result" => "verified").increment(1);
        }
        Ok(())
    }

    async fn record_absent(&self, grant: &Grant, evidence: &Value, now: Timestamp) -> Result<(), BrokerError> {
        let reason = grant.end_reason.unwrap_or(EndReason::Expired);
        let state = reason.terminal();
        let ended = Ended { grant: grant.id, epoch: grant.epoch, state, evidence: evidence.clone(), at: now };
        let mut change = Change { ended: Some(ended), ..Change::default() };
        let action = if state == GrantState::Failed { "grant.failed" } else { "grant.ended" };
        let details =
            json!({"reason": reason, "evidence": evidence, "attempts": grant.attempts, "not_after": grant.not_after});
        self.note_grant(&mut change, &Cause::worker(grant.correlation, now), action, grant, details)?;
        self.store.write_background(change).await?;
        Ok(())
    }

    async fn record_later(&self, grant: &Grant, why: &str, now: Timestamp) -> Result<(), BrokerError> {
        let attempts = grant.attempts.saturating_add(1);
        let quarantine = attempts >= self.settings.quarantine_after;
        let due = now.plus_std(self.backoff(attempts)?);
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                tx.postpone(grant.id, grant.epoch, due, attempts, quarantine, why).await?;
                if !quarantine {
                    return Ok(());
                }
                // The row goes back and forth between the two states; each change has its event.
                let details = json!({"attempts": attempts, "error": why, "next_try": due});
                let cause = Cause::worker(grant.correlation, now);
                self.note_grant(&mut tx, &cause, "grant.quarantined", grant, details)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        metrics::counter!("tidegate_revocations_total", "reason" => "any", "result" => "postponed").increment(1);
        if attempts == self.settings.quarantine_after {
            tracing::error!(grant = %grant.id, target = %grant.target, attempts, error = why, "access could not be taken away: quarantined");
        } else if !quarantine {
            tracing::warn!(grant = %grant.id, target = %grant.target, attempts, error = why, "access could not be taken away yet");
        }
        Ok(())
    }

    /// Capped exponential back-off with up to a quarter of jitter.
    pub(super) fn backoff(&self, attempts: u32) -> Result<Duration, BrokerError> {
        let doubled = self.settings.backoff_first.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        let capped = doubled.min(self.settings.backoff_last);
        let mut random = [0_u8; 1];
        self.entropy.fill(&mut random)?;
        Ok(capped.mul_f64(1.0 - f64::from(random[0]) / 1024.0))
    }
}
