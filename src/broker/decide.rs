//! People decide: approve, deny. Quorum over several groups, four eyes, first decision wins.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    ask::{clean_text, parts},
    input::Decide,
    record::Cause,
    view::RequestView,
};
use crate::{
    domain::{
        decision::{Inputs, Verdict},
        grant::Grant,
        id::{ApprovalId, RequestId},
        identity::Subject,
        request::{Approval, Quorum, Request, RequestState},
        time::{Timestamp, Ttl},
    },
    policy::PolicySet,
    store::{StoreError, Tx},
};

/// What is needed if this decision is the last one, made before the transaction because it may call targets.
struct Prepared {
    /// Decisions recorded when it was made.
    known: usize,
    /// Those that still count, with this one.
    standing: Vec<Approval>,
    /// The grants, if that is enough.
    grants: Vec<Grant>,
}

/// What a recorded decision came to.
struct Counted {
    quorum: Quorum,
    state: RequestState,
    ttl: Ttl,
    grants: Vec<Grant>,
}

impl Broker {
    /// Approve a request. With the last approval that is needed its grants are opened.
    pub async fn approve(
        self: &Arc<Self>,
        ctx: &Ctx,
        id: RequestId,
        decide: Decide,
    ) -> Result<RequestView, BrokerError> {
        self.decide(ctx, id, decide, true).await
    }

    /// Deny a request: one denial is enough.
    pub async fn deny(self: &Arc<Self>, ctx: &Ctx, id: RequestId, decide: Decide) -> Result<RequestView, BrokerError> {
        self.decide(ctx, id, decide, false).await
    }

    async fn decide(
        self: &Arc<Self>,
        ctx: &Ctx,
        id: RequestId,
        decide: Decide,
        approve: bool,
    ) -> Result<RequestView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let comment = clean_text("comment", &decide.comment)?;
        let request = self.visible_request(ctx, id).await?;
        if let Err(error) = still_pending(&request, ctx) {
            return Err(self.decided_by(&request, error).await);
        }
        let subject = self.store.subject(request.subject, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let requester =
            self.store.subject(request.requester, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let policy = self.policy();
        let groups = Self::may_decide(ctx, &policy, &request, &requester, &subject)?;
        Self::shown_and_trusted(ctx, &policy, &request, &decide, approve)?;
        if decide.duration.is_some_and(|ttl| ttl > request.ttl) {
            return Err(BrokerError::invalid(
                "duration",
                format!("an approver may shorten the {} asked for, not prolong it", request.ttl),
            ));
        }
        let approval = Approval {
            id: ApprovalId::new(self.entropy.ulid(ctx.now)?),
            request: id,
            approver: ctx.actor_id(),
            groups,
            approve,
            comment,
            ttl: decide.duration,
            at: ctx.now,
            via: ctx.via.to_owned(),
        };
        if approve {
            self.still_allowed(&policy, &request, &subject, ctx).await?;
        }
        let counted = loop {
            // Made before the transaction, for it may call targets; used only if this approval is the last one.
            let prepared = self.prepared_grants(&policy, &request, &subject, &approval).await?;
            let mut tx = self.store.begin().await?;
            let outcome = self.record_decision(&mut tx, ctx, &request, &approval, prepared, &subject).await;
            match tx.end(outcome).await {
                // Another approval came in between: prepare again, knowing of it.
                None | Some(Err(BrokerError::Store(StoreError::Conflict))) => {}
                Some(result) => break result?,
            }
        };
        metrics::counter!("tidegate_decisions_total", "outcome" => if approve { "approve" } else { "deny" })
            .increment(1);
        crate::failpoint::hit("decide.recorded");
        let grants = self.open_now(counted.grants).await;
        let decided = counted.state != RequestState::Pending;
        let request =
            Request { state: counted.state, ttl: counted.ttl, decided_at: decided.then_some(ctx.now), ..request };
        let approvals = self.store.approvals(id).await?;
        let view = self.render_request(&request, grants, &approvals).await?;
        tracing::debug!(request = %id, needed = counted.quorum.needed, have = counted.quorum.have, "decided");
        Ok(view)
    }

    /// The same refusal, with who was faster.
    async fn decided_by(&self, request: &Request, error: BrokerError) -> BrokerError {
        let BrokerError::State(text) = error else { return error };
        let approve = request.state == RequestState::Approved;
        if !approve && request.state != RequestState::Denied {
            return BrokerError::State(text);
        }
        let approvals = self.store.approvals(request.id).await.unwrap_or_default();
        let mut names = Vec::new();
        for approval in approvals.iter().filter(|a| a.approve == approve) {
            names.push(self.name_of(approval.approver).await.to_string());
        }
        if names.is_empty() {
            BrokerError::State(text)
        } else {
            BrokerError::State(format!("{text}, by {}", names.join(", ")))
        }
    }

    /// May the actor decide on it? Answers the groups that the decision counts for.
    pub(super) fn may_decide(
        ctx: &Ctx,
        policy: &PolicySet,
        request: &Request,
        requester: &Subject,
        subject: &Subject,
    ) -> Result<BTreeSet<String>, BrokerError> {
        if request.requester == ctx.actor_id() || request.subject == ctx.actor_id() {
            return Err(BrokerError::Forbidden("four eyes: you cannot decide on a request of your own"));
        }
        if Self::excluded_approvers(requester, subject).contains(&ctx.actor_id()) {
            return Err(BrokerError::Forbidden(
                "four eyes: you answer for the workload or agent that asks, so somebody else must decide",
            ));
        }
        if ctx.actor.identity.kind.is_non_human() {
            return Err(BrokerError::Forbidden("only people decide on requests"));
        }
        let mine: BTreeSet<String> = ctx.actor.groups.clone();
        let (mut groups, mut barred) = (BTreeSet::new(), BTreeSet::new());
        let mut reasons = Vec::new();
        let inputs = inputs_of(request, ctx);
        for need in request.needs.iter().filter(|n| !n.groups.is_disjoint(&mine)) {
            let allowed = need.entitlements.iter().all(|id| {
                policy.catalog().get(id).is_some_and(|e| {
                    let permission = policy.may_approve(&ctx.actor, subject, e, &inputs);
                    reasons.extend(permission.reasons);
                    permission.allowed
                })
            });
            let side = if allowed { &mut groups } else { &mut barred };
            side.extend(need.groups.intersection(&mine).cloned());
        }
        // A group through which the actor may not decide on one part counts for no part: approvals count by group.
        groups.retain(|g| !barred.contains(g));
        if groups.is_empty() {
            return Err(BrokerError::Denied { reasons, conditions: Vec::new() });
        }
        Ok(groups)
    }

    /// The subject must still be eligible when people decide.
    async fn still_allowed(
        &self,
        policy: &PolicySet,
        request: &Request,
        subject: &Subject,
        ctx: &Ctx,
    ) -> Result<(), BrokerError> {
        let mut inputs = inputs_of(request, ctx);
        inputs.live_grants = self.live_grants_of(subject.identity.id).await?;
        self.not_too_many(inputs.live_grants, request.entitlements.len(), subject)?;
        for (id, inputs) in parts(&request.entitlements, &inputs) {
            let Some(entitlement) = policy.catalog().get(id) else {
                return Err(BrokerError::State(format!("{id} is no longer in the catalog; deny the request")));
            };
            let decision = policy.decide(subject, entitlement, &inputs);
            if decision.verdict == Verdict::Denied {
                return Err(BrokerError::Denied { reasons: decision.reasons, conditions: decision.conditions });
            }
        }
        Ok(())
    }

    async fn prepared_grants(
        &self,
        policy: &PolicySet,
        request: &Request,
        subject: &Subject,
        approval: &Approval,
    ) -> Result<Prepared, BrokerError> {
        let before = self.store.approvals(request.id).await?;
        let known = before.len();
        let mut standing = Vec::with_capacity(known + 1);
        for earlier in before {
            standing.extend(self.still_standing(earlier, approval.at).await?);
        }
        standing.push(approval.clone());
        let mut prepared = Prepared { known, standing, grants: Vec::new() };
        if !approval.approve || !Quorum::count(&request.needs, &prepared.standing).met() {
            return Ok(prepared);
        }
        let entitlements: Vec<_> =
            request.entitlements.iter().filter_map(|id| policy.catalog().get(id).cloned()).collect();
        let shortened = Request { ttl: shortest(request.ttl, &prepared.standing), ..request.clone() };
        prepared.grants = self.new_grants(&shortened, &entitlements, subject, approval.at).await?;
        Ok(prepared)
    }

    /// What still counts of an earlier approval: its approver is active and not locked, and it counts for those groups
    /// only that the approver is still in.
    async fn still_standing(&self, earlier: Approval, now: Timestamp) -> Result<Option<Approval>, BrokerError> {
        let Some(approver) = self.store.subject(earlier.approver, now).await? else { return Ok(None) };
        let locked = self.store.lock_on_actor(earlier.approver, None).await?.is_some();
        let groups: BTreeSet<String> = earlier.groups.intersection(&approver.groups).cloned().collect();
        if !approver.identity.active || locked || groups.is_empty() {
            return Ok(None);
        }
        Ok(Some(Approval { groups, ..earlier }))
    }

    async fn record_decision(
        &self,
        tx: &mut Tx,
        ctx: &Ctx,
        request: &Request,
        approval: &Approval,
        prepared: Prepared,
        subject: &Subject,
    ) -> Result<Counted, BrokerError> {
        let cause = Cause::from(ctx);
        if !tx.lock_pending_request(request.id, ctx.now).await? {
            return Err(BrokerError::State(
                "somebody else decided first, or it lapsed; nothing was changed".to_owned(),
            ));
        }
        let before = tx.approvals(request.id).await?;
        if before.iter().any(|a| a.approver == approval.approver) {
            return Err(BrokerError::State("you have decided on this request already".to_owned()));
        }
        if approval.approve && tx.any_lock().await? {
            self.refuse_locked(tx, request).await?;
            if let Some(lock) = tx.lock_on(approval.approver, "", "").await? {
                return Err(BrokerError::Locked { kind: lock.kind.as_str(), reason: lock.reason });
            }
        }
        if !tx.is_active(approval.approver).await? {
            return Err(BrokerError::Unauthenticated);
        }
        tx.insert_approval(approval).await?;
        let details = json!({
            "approval": approval.id, "approve": approval.approve, "comment": approval.comment,
            "duration": approval.ttl, "groups": approval.groups,
        });
        self.note_request(tx, &cause, "approval.recorded", request, details)?;
        // Another decision came in between: prepare again, knowing of it.
        if before.len() != prepared.known {
            return Err(StoreError::Conflict.into());
        }
        let Prepared { standing: approvals, grants: prepared, .. } = prepared;
        let quorum = Quorum::count(&request.needs, &approvals);
        let ttl = shortest(request.ttl, &approvals);
        if !approval.approve {
            tx.decide_request(request.id, RequestState::Denied, request.ttl, ctx.now).await?;
            self.note_request(tx, &cause, "request.denied", request, json!({"comment": approval.comment}))?;
            return Ok(Counted { quorum, state: RequestState::Denied, ttl: request.ttl, grants: Vec::new() });
        }
        if !quorum.met() {
            return Ok(Counted { quorum, state: RequestState::Pending, ttl: request.ttl, grants: Vec::new() });
        }
        // Another approval came in between, so the grants were not prepared or have another duration: run again.
        if prepared.len() != request.entitlements.len() || prepared.iter().any(|g| g.ttl != ttl) {
            return Err(StoreError::Conflict.into());
        }
        tx.decide_request(request.id, RequestState::Approved, ttl, ctx.now).await?;
        self.note_request(tx, &cause, "request.approved", request, json!({"by": "people", "duration": ttl}))?;
        // Decided on facts of a moment ago: if they changed, they are looked at again.
        tx.recheck_if_changed(subject.identity.id, subject.identity.version, cause.recheck()).await?;
        self.record_new_grants(tx, &cause, request, &prepared, subject).await?;
        Ok(Counted { quorum, state: RequestState::Approved, ttl, grants: prepared })
    }
}

fn inputs_of(request: &Request, ctx: &Ctx) -> Inputs {
    Inputs {
        ttl: request.ttl,
        now: ctx.now,
        start_at: request.start_at.unwrap_or(ctx.now),
        has_reason: !request.reason.is_empty(),
        ticket: request.ticket.clone(),
        emergency: request.emergency,
        on_behalf: request.subject != request.requester,
        live_grants: 0,
    }
}

/// The shortest duration that anybody gave.
fn shortest(asked: Ttl, approvals: &[Approval]) -> Ttl {
    approvals.iter().filter(|a| a.approve).filter_map(|a| a.ttl).fold(asked, Ttl::min)
}

pub(super) fn still_pending(request: &Request, ctx: &Ctx) -> Result<(), BrokerError> {
    match request.state {
        RequestState::Pending if request.lapses_at <= ctx.now => {
            Err(BrokerError::State("the request has lapsed; ask again".to_owned()))
        }
        RequestState::Pending => Ok(()),
        other => Err(BrokerError::State(format!("the request is {} already", other.as_str()))),
    }
}
