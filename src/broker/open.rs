//! Open what was decided: intent, call, record. Recovery is the same code: a row whose lease ran out is revoked by name.

use std::sync::Arc;

use serde_json::json;

use super::{Broker, BrokerError, Target, bulkhead::Purpose, record::Cause};
use crate::{
    domain::{
        decision::{Inputs, Verdict},
        grant::{EndReason, Grant, GrantState, Intent},
        identity::Subject,
        request::{Request, RequestState},
        time::Timestamp,
    },
    ports::connector::{Fault, Wish},
    store::{Change, Opened, StoreError},
};

/// Wait before the second and last try of an opening call that was not answered.
const SECOND_TRY: std::time::Duration = std::time::Duration::from_millis(300);

impl Broker {
    pub(super) fn target_for(&self, grant: &Grant) -> Result<&Arc<Target>, Fault> {
        self.target_of(&grant.target)
            .ok_or_else(|| Fault::Unavailable(format!("no target `{}` is configured", grant.target)))
    }

    pub(super) fn lease_of(&self, target: Option<&Arc<Target>>, now: Timestamp) -> Timestamp {
        let timeout = target.map_or(self.settings.lease_slack, |t| t.bulkhead.timeout());
        now.plus_std(timeout.saturating_mul(3).saturating_add(self.settings.lease_slack))
    }

    pub(super) fn intent_of(grant: &Grant, holder_name: &str) -> Option<Intent> {
        Some(Intent {
            recipe: grant.recipe.clone()?,
            holder: grant.holder,
            holder_name: holder_name.to_owned(),
            entitlement: Arc::clone(&grant.entitlement),
            parameters: grant.parameters.clone(),
            not_after: grant.not_after?,
        })
    }

    /// Read the prior state at the target and turn a grant to be into an intent. If the target cannot be read now,
    /// the grant stays scheduled and is tried again. Answers whether the target refused, so that no try is of use.
    pub(super) async fn prepare_intent(&self, grant: &mut Grant, subject: &Subject, now: Timestamp) -> bool {
        let wish = Wish {
            grant: grant.id,
            holder: grant.holder,
            holder_name: subject.identity.name.clone(),
            entitlement: Arc::clone(&grant.entitlement),
            parameters: grant.parameters.clone(),
        };
        let prepared = match self.target_for(grant) {
            Ok(target) => target.bulkhead.call(Purpose::Issue, target.connector.prepare(&wish)).await,
            Err(fault) => Err(fault),
        };
        match prepared {
            Ok(recipe) => {
                grant.recipe = Some(recipe);
                grant.state = GrantState::Activating;
                grant.not_after = Some(now.plus(grant.ttl));
                grant.due_at = Some(self.lease_of(self.target_of(&grant.target), now));
                false
            }
            Err(fault) => {
                grant.last_error = Some(fault.to_string());
                let wait = if fault.is_transient() { self.settings.backoff_first } else { std::time::Duration::ZERO };
                grant.due_at = Some(now.plus_std(wait));
                !fault.is_transient()
            }
        }
    }

    /// Open grants whose intent is durable, all at once; answers them as they are when that is done or takes too long.
    pub(super) async fn open_now(self: &Arc<Self>, grants: Vec<Grant>) -> Vec<Grant> {
        let openings = grants.into_iter().map(|grant| {
            let broker = Arc::clone(self);
            async move {
                if grant.state != GrantState::Activating {
                    return grant;
                }
                let before = grant.clone();
                let patience = broker.settings.activation_wait;
                let opening = {
                    let broker = Arc::clone(&broker);
                    // Goes on although nobody waits any more: the caller may hang up.
                    self.in_flight().spawn(async move { broker.open(grant).await })
                };
                match tokio::time::timeout(patience, opening).await {
                    Ok(Ok(opened)) => opened,
                    _ => before,
                }
            }
        });
        futures::future::join_all(openings).await
    }

    /// Call the target and record what it said.
    pub(super) async fn open(&self, mut grant: Grant) -> Grant {
        crate::failpoint::hit("open.before_call");
        let called = self.call_activate(&grant).await;
        crate::failpoint::hit("open.after_call");
        let now = self.now();
        let cause = Cause::worker(grant.correlation, now);
        let recorded = match called {
            Ok(applied) => self.record_opened(&mut grant, &cause, applied).await,
            Err(fault) => self.record_not_opened(&mut grant, &cause, EndReason::Refused, &fault.to_string()).await,
        };
        crate::failpoint::hit("open.recorded");
        if let Err(error) = recorded {
            // The row stays `activating`; when its lease runs out it is revoked by name.
            tracing::warn!(grant = %grant.id, error = %error, "an opened grant could not be recorded");
        }
        grant
    }

    async fn call_activate(&self, grant: &Grant) -> Result<serde_json::Value, Fault> {
        let target = self.target_for(grant)?;
        let holder = self.name_of(grant.holder).await;
        let intent =
            Self::intent_of(grant, &holder).ok_or_else(|| Fault::Refused("the grant has no intent".to_owned()))?;
        // Nothing is opened for which the lease could run out meanwhile: by then it may be verified absent.
        let open = || target.bulkhead.call_before(grant.due_at, Purpose::Issue, target.connector.activate(&intent));
        match open().await {
            Err(fault) if fault.is_transient() && target.bulkhead.held_back().is_none() => {
                tokio::time::sleep(SECOND_TRY).await;
                open().await
            }
            other => other,
        }
    }

    async fn record_opened(
        &self,
        grant: &mut Grant,
        cause: &Cause,
        applied: serde_json::Value,
    ) -> Result<(), BrokerError> {
        let opened = Opened { grant: grant.id, epoch: grant.epoch, applied: applied.clone(), at: cause.now };
        let mut change = Change { opened: Some(opened), ..Change::default() };
        let details = json!({"not_after": grant.not_after, "applied": applied});
        self.note_grant(&mut change, cause, "grant.active", grant, details)?;
        match self.store.write(change).await {
            Ok(_) => {
                grant.state = GrantState::Active;
                grant.activated_at = Some(cause.now);
                grant.applied = Some(applied);
                grant.due_at = grant.not_after;
                metrics::counter!("tidegate_grants_activated_total", "target" => grant.target.to_string()).increment(1);
                Ok(())
            }
            // An end was asked for while the target was being called, or the lease ran out.
            Err(StoreError::Conflict) => {
                self.record_not_opened(grant, cause, EndReason::Revoked, "an end was asked for meanwhile").await
            }
            Err(other) => Err(other.into()),
        }
    }

    async fn record_not_opened(
        &self,
        grant: &mut Grant,
        cause: &Cause,
        reason: EndReason,
        why: &str,
    ) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let asked = tx.abandon_activation(grant.id, grant.epoch, reason, why, cause.now).await?;
                let (reason, ended_by) = asked.unwrap_or((reason, None));
                (grant.end_reason, grant.ended_by) = (Some(reason), ended_by);
                let details = json!({"reason": reason, "error": why});
                self.note_grant(&mut tx, cause, "grant.revoking", grant, details)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Ok(())) => break,
                // Another worker has taken the row for abandoned. Our call may have landed after it had verified.
                Some(Err(BrokerError::Store(StoreError::Conflict))) => {
                    self.end_by_name(grant, cause).await;
                    break;
                }
                Some(Err(other)) => return Err(other),
            }
        }
        grant.state = GrantState::Revoking;
        grant.last_error = Some(why.to_owned());
        self.due.notify_waiters();
        Ok(())
    }

    /// A call that opens came after the grant's end: end whatever it left, by name. The sweep finds what this misses.
    pub(super) async fn end_by_name(&self, grant: &Grant, cause: &Cause) {
        let Some(recipe) = &grant.recipe else { return };
        let ended = self.revoke_and_verify(&grant.target, recipe, true).await;
        tracing::warn!(grant = %grant.id, target = %grant.target, ended = ended.is_ok(), "opened after its end; ended by name");
        let details = match ended {
            Ok(evidence) => json!({"object": recipe.object, "why": "opened after its end", "evidence": evidence}),
            Err(error) => json!({"object": recipe.object, "why": "opened after its end", "error": error}),
        };
        if let Err(error) = self.note_object(cause, "orphan.found", &grant.target, grant.id, details).await {
            tracing::warn!(grant = %grant.id, error = %error, "could not be recorded");
        }
    }

    /// A scheduled grant whose time has come: decide again with the facts of now, then open it.
    pub(super) async fn open_scheduled(&self, mut grant: Grant) -> Result<(), BrokerError> {
        let now = self.now();
        let cause = Cause::worker(grant.correlation, now);
        let wanted = grant.start_at.unwrap_or(grant.created_at);
        if now > wanted.plus_std(self.settings.start_window) {
            return self.drop_scheduled(&grant, &cause, EndReason::Refused, "its start window has passed").await;
        }
        let Some(request) = self.store.request(grant.request).await? else {
            return self.drop_scheduled(&grant, &cause, EndReason::Refused, "its request is gone").await;
        };
        let Some(subject) = self.store.subject(grant.holder, now).await? else {
            return self.drop_scheduled(&grant, &cause, EndReason::Offboarded, "its holder is gone").await;
        };
        if !subject.identity.active {
            return self.drop_scheduled(&grant, &cause, EndReason::Offboarded, "its holder is deactivated").await;
        }
        if let Some(why) = self.no_longer_allowed(&grant, &request, &subject, now).await? {
            return self.drop_scheduled(&grant, &cause, EndReason::Revoked, &why).await;
        }
        if let Some(end) = subject.identity.contract_end
            && now.plus(grant.ttl) > end
        {
            return self.drop_scheduled(&grant, &cause, EndReason::Revoked, "it would outlast the contract").await;
        }
        let epoch = grant.epoch;
        let refused = self.prepare_intent(&mut grant, &subject, now).await;
        if refused {
            let why = grant.last_error.clone().unwrap_or_default();
            return self.drop_scheduled(&grant, &cause, EndReason::Refused, &why).await;
        }
        if grant.state != GrantState::Activating {
            return self.try_start_later(&grant, &cause).await;
        }
        let (Some(recipe), Some(not_after)) = (grant.recipe.clone(), grant.not_after) else { return Ok(()) };
        let lease = grant.due_at.unwrap_or(now);
        let recorded = loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if tx.any_lock().await? {
                    self.refuse_locked(&mut tx, &request).await?;
                }
                tx.record_intent(grant.id, epoch, &recipe, not_after, lease).await?;
                self.note_grant(&mut tx, &cause, "grant.activating", &grant, json!({"not_after": not_after}))
            }
            .await;
            if let Some(result) = tx.end(written).await {
                break result;
            }
        };
        match recorded {
            Ok(()) => {
                crate::failpoint::hit("start.recorded");
                self.open(grant).await;
                Ok(())
            }
            Err(BrokerError::Locked { .. }) => {
                self.drop_scheduled(&grant, &cause, EndReason::Locked, "a lock is in force").await
            }
            Err(BrokerError::Store(StoreError::Conflict)) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Does policy still allow what was decided? What needed no approval then must need none now.
    async fn no_longer_allowed(
        &self,
        grant: &Grant,
        request: &Request,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Option<String>, BrokerError> {
        if request.state != RequestState::Approved {
            return Ok(Some("its request is not approved".to_owned()));
        }
        let policy = self.policy();
        let Some(entitlement) = policy.catalog().get(&grant.entitlement) else {
            return Ok(Some("the entitlement is no longer in the catalog".to_owned()));
        };
        let inputs = Inputs {
            ttl: grant.ttl,
            now,
            start_at: now,
            has_reason: !request.reason.is_empty(),
            ticket: request.ticket.clone(),
            emergency: request.emergency,
            on_behalf: request.subject != request.requester,
            live_grants: self.live_grants_of(grant.holder).await?.saturating_sub(1),
        };
        let decision = policy.decide(subject, entitlement, &inputs);
        let by_people = request.needs.iter().any(|n| n.entitlements.contains(&grant.entitlement));
        Ok(match decision.verdict {
            Verdict::Auto => None,
            Verdict::Approval if by_people => None,
            Verdict::Approval => Some("it would need approval now".to_owned()),
            Verdict::Denied => Some(
                decision
                    .reasons
                    .first()
                    .map_or_else(|| "policy denies it now".to_owned(), |r| format!("policy: {}", r.text)),
            ),
        })
    }

    async fn try_start_later(&self, grant: &Grant, cause: &Cause) -> Result<(), BrokerError> {
        let wanted = grant.start_at.unwrap_or(grant.created_at);
        let why = grant.last_error.clone().unwrap_or_default();
        if cause.now > wanted.plus_std(self.settings.start_window) {
            return self.drop_scheduled(grant, cause, EndReason::Refused, &why).await;
        }
        let attempts = grant.attempts.saturating_add(1);
        let due = cause.now.plus_std(self.backoff(attempts)?);
        loop {
            let mut tx = self.store.begin().await?;
            let written = tx.postpone(grant.id, grant.epoch, due, attempts, false, &why).await;
            match tx.end(written).await {
                None => {}
                Some(Ok(()) | Err(StoreError::Conflict)) => return Ok(()),
                Some(Err(other)) => return Err(other.into()),
            }
        }
    }

    async fn drop_scheduled(
        &self,
        grant: &Grant,
        cause: &Cause,
        reason: EndReason,
        why: &str,
    ) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.drop_scheduled(grant.id, grant.epoch, reason, why, cause.now).await?;
                let action = if reason == EndReason::Refused { "grant.failed" } else { "grant.ended" };
                self.note_grant(&mut tx, cause, action, grant, json!({"reason": reason, "why": why, "opened": false}))
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Ok(()) | Err(BrokerError::Store(StoreError::Conflict))) => return Ok(()),
                Some(Err(other)) => return Err(other),
            }
        }
    }
}
