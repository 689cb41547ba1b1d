//! Ask for access: `Request` and `AutoApprove` decide; what is not granted at once waits for people.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    input::Ask,
    record::Cause,
    view::{ApprovalsView, Asked, PlanView, PlannedView},
};
use crate::{
    domain::{
        catalog::{Entitlement, EntitlementId},
        decision::{Decision, Inputs, Verdict},
        grant::{Grant, GrantState},
        id::{GrantId, IdentityId, RequestId},
        identity::Subject,
        request::{Need, Quorum, Request, RequestState},
        time::{Timestamp, Ttl},
    },
    policy::PolicySet,
    store::{Change, DecidedOn, IdempotencyKey, NewGrant, StoreError, Tx},
};

/// Entitlements in one request.
const MAX_BUNDLE: usize = 20;
/// Characters of a reason, a comment.
pub(super) const MAX_TEXT: usize = 1000;
/// Live grants that policy can tell apart; more look like this many.
const COUNTED: u32 = 100;
/// Characters of a ticket reference.
const MAX_TICKET: usize = 100;
/// A start this little in the past is "now": clocks differ.
const START_SKEW: std::time::Duration = std::time::Duration::from_secs(60);

/// Tries to record a request while kill switches come and go.
const TRIES: u32 = 10;

/// A request that has been checked and decided, not yet recorded.
struct Draft {
    subject: Subject,
    entitlements: Vec<Arc<Entitlement>>,
    inputs: Inputs,
    decisions: Vec<Decision>,
    policy: Arc<PolicySet>,
    reason: String,
    start_at: Option<Timestamp>,
}

impl Draft {
    fn verdict(&self) -> Verdict {
        let any = |v| self.decisions.iter().any(|d| d.verdict == v);
        if any(Verdict::Denied) {
            Verdict::Denied
        } else if any(Verdict::Approval) {
            Verdict::Approval
        } else {
            Verdict::Auto
        }
    }

    /// Within which time whoever asks must have shown who they are: what policy wants, and in an emergency, where nobody
    /// has time to look twice, what the catalog wants of approvers too.
    fn step_up(&self) -> Option<Ttl> {
        let wanted = self.decisions.iter().filter_map(|d| d.step_up);
        let catalog = self.entitlements.iter().filter(|_| self.inputs.emergency).filter_map(|e| e.step_up);
        wanted.chain(catalog).min()
    }

    /// Whose approvals are needed: one need for each distinct set of groups, with its largest count.
    fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        for (decision, entitlement) in self.decisions.iter().zip(&self.entitlements) {
            if decision.verdict != Verdict::Approval {
                continue;
            }
            let id = Arc::clone(&entitlement.id);
            let groups: BTreeSet<String> = decision.approvers.iter().map(|g| g.to_lowercase()).collect();
            match needs.iter_mut().find(|n| n.groups == groups) {
                Some(need) => {
                    need.count = need.count.max(decision.approvals);
                    need.entitlements.push(id);
                }
                None => needs.push(Need { groups, count: decision.approvals.max(1), entitlements: vec![id] }),
            }
        }
        needs
    }
}

impl Broker {
    /// Ask for one or more entitlements.
    pub async fn ask(self: &Arc<Self>, ctx: &Ctx, ask: Ask) -> Result<Asked, BrokerError> {
        // A repeat is answered with what it made, whatever has changed since.
        if !ask.dry_run
            && let Some(before) = self.asked_before(ctx, &ask).await?
        {
            return Ok(Asked::Repeated(Box::new(self.request(ctx, before).await?)));
        }
        let draft = self.draft(ctx, &ask).await?;
        if ask.dry_run {
            return Ok(Asked::Planned(self.plan(&draft)));
        }
        self.may_change()?;
        if draft.verdict() == Verdict::Denied {
            let denied = draft.decisions.into_iter().filter(|d| d.verdict == Verdict::Denied);
            let (mut reasons, mut conditions) = (Vec::new(), Vec::new());
            for decision in denied {
                reasons.extend(decision.reasons);
                conditions.extend(decision.conditions.into_iter().filter(|c| !c.met));
            }
            return Err(BrokerError::Denied { reasons, conditions });
        }
        if let Some(within) = draft.step_up() {
            ctx.proved_within(within)?;
        }
        let request = self.request_of(ctx, &ask, &draft)?;
        if request.state == RequestState::Pending {
            self.not_too_many_pending(ctx).await?;
            self.somebody_can_approve(ctx, &draft, &request).await?;
        }
        let grants = self.grants_of_draft(&draft, &request).await?;
        if let Some(before) = self.record_ask(ctx, &ask, &request, &grants, &draft.subject).await? {
            return Ok(Asked::Repeated(Box::new(self.request(ctx, before).await?)));
        }
        metrics::counter!("tidegate_requests_total", "outcome" => request.state.as_str()).increment(1);
        crate::failpoint::hit("ask.recorded");
        let grants = self.open_now(grants).await;
        Ok(Asked::Recorded(Box::new(self.render_request(&request, grants, &[]).await?)))
    }

    async fn draft(&self, ctx: &Ctx, ask: &Ask) -> Result<Draft, BrokerError> {
        let policy = self.policy();
        let entitlements = chosen(&policy, &ask.entitlements)?;
        let reason =
            if ask.dry_run { clean_text("reason", &ask.reason)? } else { required_text("reason", &ask.reason)? };
        let ticket = ask.ticket.as_deref().map(str::trim).filter(|t| !t.is_empty());
        if ticket.is_some_and(|t| t.chars().count() > MAX_TICKET || t.chars().any(|c| c == '\n' || unprintable(c))) {
            return Err(BrokerError::invalid("ticket", format!("use at most {MAX_TICKET} plain characters")));
        }
        let start_at = self.start_of(ctx, ask.start_at)?;
        let subject = self.subject_of_ask(ctx, ask.on_behalf_of.as_deref()).await?;
        let ttl = match ask.duration {
            Some(ttl) => ttl,
            None => shortest(entitlements.iter().map(|e| e.default_ttl)),
        };
        for e in &entitlements {
            if ttl > e.max_ttl {
                return Err(BrokerError::invalid(
                    "duration",
                    format!("{ttl} is longer than the {} that {} allows; ask for less", e.max_ttl, e.id),
                ));
            }
        }
        if let Some(end) = subject.identity.contract_end
            && start_at.unwrap_or(ctx.now).plus(ttl) > end
        {
            return Err(BrokerError::invalid("duration", format!("reaches beyond the end of the contract, {end}")));
        }
        let live_grants = self.live_grants_of(subject.identity.id).await?;
        self.not_too_many(live_grants, entitlements.len(), &subject)?;
        let inputs = Inputs {
            ttl,
            now: ctx.now,
            start_at: start_at.unwrap_or(ctx.now),
            has_reason: !reason.is_empty(),
            ticket: ticket.map(str::to_owned),
            emergency: ask.emergency,
            on_behalf: subject.identity.id != ctx.actor_id(),
            live_grants,
        };
        let decisions = parts(&entitlements, &inputs).map(|(e, inputs)| policy.decide(&subject, e, &inputs)).collect();
        Ok(Draft { subject, entitlements, inputs, decisions, policy, reason, start_at })
    }

    /// So many grants more must not be more than one may hold.
    pub(super) fn not_too_many(&self, live: u32, more: usize, holder: &Subject) -> Result<(), BrokerError> {
        let after = live.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        match self.settings.max_live_grants {
            Some(most) if after > most => Err(BrokerError::TooMany(format!(
                "{} holds {live} grants already, and may hold {most}; release some first",
                holder.identity.name
            ))),
            _ => Ok(()),
        }
    }

    /// Grants that an identity holds, counted as far as the bound and policy care: never a scan of a long history.
    pub(super) async fn live_grants_of(&self, holder: IdentityId) -> Result<u32, BrokerError> {
        let most = self.settings.max_live_grants.unwrap_or(0).max(COUNTED);
        Ok(self.store.live_grants_of(holder, most).await?)
    }

    async fn not_too_many_pending(&self, ctx: &Ctx) -> Result<(), BrokerError> {
        let pending = self.store.pending_of(ctx.actor_id()).await?;
        if pending >= self.settings.max_pending {
            return Err(BrokerError::TooMany(format!("you have {pending} requests pending; take some back first")));
        }
        Ok(())
    }

    fn start_of(&self, ctx: &Ctx, start_at: Option<Timestamp>) -> Result<Option<Timestamp>, BrokerError> {
        let Some(start) = start_at else { return Ok(None) };
        if start < ctx.now.minus_std(START_SKEW) {
            return Err(BrokerError::invalid("start_at", format!("{start} is in the past; leave it out to start now")));
        }
        if start > ctx.now.plus(self.settings.max_start_ahead) {
            let most = self.settings.max_start_ahead;
            return Err(BrokerError::invalid("start_at", format!("may be at most {most} ahead")));
        }
        Ok((start > ctx.now).then_some(start))
    }

    /// The identity that will hold the access. Asking for another is for its owner, its manager and administrators.
    async fn subject_of_ask(&self, ctx: &Ctx, on_behalf_of: Option<&str>) -> Result<Subject, BrokerError> {
        let Some(key) = on_behalf_of else { return Ok(ctx.actor.clone()) };
        match self.find_subject(key, ctx.now).await? {
            Some(subject) if Ctx::may_ask_for(&ctx.actor, &subject.identity) => Ok(subject),
            None if ctx.is_admin() => Err(BrokerError::NotFound("identity")),
            // The same whether there is such an identity or not.
            _ => Err(BrokerError::Forbidden(
                "you may ask on behalf of workloads that you own and people whom you manage only",
            )),
        }
    }

    fn plan(&self, draft: &Draft) -> PlanView {
        let needs = draft.needs();
        let quorum = Quorum::count(&needs, &[]);
        let entitlements = draft.decisions.iter().zip(&draft.entitlements).map(|(d, e)| PlannedView {
            id: e.id.to_string(),
            verdict: d.verdict,
            conditions: d.conditions.clone(),
            reasons: d.reasons.clone(),
            revocation: self.render_revocation(&e.id, &e.target),
        });
        PlanView {
            dry_run: true,
            verdict: draft.verdict(),
            entitlements: entitlements.collect(),
            approvals: ApprovalsView { needed: quorum.needed, have: 0, from: groups_of(&needs) },
            duration: draft.inputs.ttl.seconds(),
            policy_version: draft.policy.version().to_owned(),
            step_up: draft.step_up().map(Ttl::seconds),
        }
    }

    fn request_of(&self, ctx: &Ctx, ask: &Ask, draft: &Draft) -> Result<Request, BrokerError> {
        let pending = draft.verdict() == Verdict::Approval;
        let timeout = shortest(draft.entitlements.iter().map(|e| e.approval_timeout));
        let lapses_at = ctx.now.plus(timeout);
        Ok(Request {
            id: RequestId::new(self.entropy.ulid(ctx.now)?),
            requester: ctx.actor_id(),
            subject: draft.subject.identity.id,
            entitlements: draft.entitlements.iter().map(|e| Arc::clone(&e.id)).collect(),
            ttl: draft.inputs.ttl,
            reason: draft.reason.clone(),
            ticket: draft.inputs.ticket.clone(),
            emergency: ask.emergency,
            start_at: draft.start_at,
            state: if pending { RequestState::Pending } else { RequestState::Approved },
            policy_version: draft.policy.version().to_owned(),
            needs: draft.needs(),
            trace: draft.decisions.iter().flat_map(|d| d.reasons.clone()).collect(),
            // A start that nobody approved in time has passed.
            lapses_at: draft.start_at.map_or(lapses_at, |start| lapses_at.min(start)),
            created_at: ctx.now,
            decided_at: (!pending).then_some(ctx.now),
            correlation: ctx.correlation,
        })
    }

    /// A request that nobody could approve fails now, and says so.
    async fn somebody_can_approve(&self, ctx: &Ctx, draft: &Draft, request: &Request) -> Result<(), BrokerError> {
        let excluded = Self::excluded_approvers(&ctx.actor, &draft.subject);
        for need in &request.needs {
            let people = self.store.members_of(&need.groups, 500, ctx.now).await?;
            let entitlements: Vec<_> =
                draft.entitlements.iter().filter(|e| need.entitlements.contains(&e.id)).collect();
            let able = |person: &&Subject| {
                !excluded.contains(&person.identity.id)
                    && entitlements
                        .iter()
                        .all(|e| draft.policy.may_approve(person, &draft.subject, e, &draft.inputs).allowed)
            };
            let available = people.iter().filter(able).take(usize::from(need.count)).count();
            if available < usize::from(need.count) {
                return Err(BrokerError::NobodyCanApprove {
                    needed: u32::from(need.count),
                    groups: need.groups.iter().cloned().collect::<Vec<_>>().join(", "),
                    available: u32::try_from(available).unwrap_or(0),
                });
            }
        }
        Ok(())
    }

    /// Four eyes: neither side of the request, nor the people accountable for either, may decide on it.
    pub(super) fn excluded_approvers(requester: &Subject, subject: &Subject) -> BTreeSet<IdentityId> {
        [Some(requester.identity.id), requester.identity.owner, Some(subject.identity.id), subject.identity.owner]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The grants that an approved request makes at once.
    async fn grants_of_draft(&self, draft: &Draft, request: &Request) -> Result<Vec<Grant>, BrokerError> {
        if request.state != RequestState::Approved {
            return Ok(Vec::new());
        }
        self.new_grants(request, &draft.entitlements, &draft.subject, request.created_at).await
    }

    /// Grants for an approved request: with their intent where the target could be read, else scheduled.
    pub(super) async fn new_grants(
        &self,
        request: &Request,
        entitlements: &[Arc<Entitlement>],
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Vec<Grant>, BrokerError> {
        let mut grants = Vec::with_capacity(entitlements.len());
        for entitlement in entitlements {
            let mut grant = Grant {
                id: GrantId::new(self.entropy.ulid(now)?),
                request: request.id,
                holder: request.subject,
                entitlement: Arc::clone(&entitlement.id),
                target: Arc::clone(&entitlement.target),
                state: GrantState::Scheduled,
                ttl: request.ttl,
                start_at: request.start_at.filter(|start| *start > now),
                not_after: None,
                parameters: entitlement.parameters.clone(),
                recipe: None,
                activated_at: None,
                applied: None,
                end_reason: None,
                revoking_at: None,
                ended_at: None,
                evidence: None,
                attempts: 0,
                last_error: None,
                claims: 0,
                max_claims: entitlement.max_claims,
                due_at: None,
                epoch: 0,
                correlation: request.correlation,
                ended_by: None,
                created_at: now,
            };
            if let Some(start) = grant.start_at {
                grant.due_at = Some(start);
            } else {
                self.prepare_intent(&mut grant, subject, now).await;
            }
            grants.push(grant);
        }
        Ok(grants)
    }

    /// What the caller made with the same idempotency key.
    async fn asked_before(&self, ctx: &Ctx, ask: &Ask) -> Result<Option<RequestId>, BrokerError> {
        let Some((key, body_hash)) = &ask.idempotency else { return Ok(None) };
        match self.store.idempotency_key(ctx.actor_id(), key).await? {
            Some((before, id)) if before != *body_hash => Err(BrokerError::KeyReused(id)),
            found => Ok(found.map(|(_, id)| id)),
        }
    }

    /// Record a request and the grants that it makes at once; if its key came first with another call, what that made.
    async fn record_ask(
        &self,
        ctx: &Ctx,
        ask: &Ask,
        request: &Request,
        grants: &[Grant],
        subject: &Subject,
    ) -> Result<Option<RequestId>, BrokerError> {
        // New grants ask for kill switches with the very statement that makes them.
        if grants.is_empty() {
            self.not_locked_out(request).await?;
        }
        for _ in 0..TRIES {
            match self.store.write(self.change_of_ask(ctx, ask, request, grants, subject)?).await {
                Ok(_) => return Ok(None),
                Err(StoreError::Conflict) => {}
                Err(other) => return Err(other.into()),
            }
            if let Some(before) = self.asked_before(ctx, ask).await? {
                return Ok(Some(before));
            }
            self.not_locked_out(request).await?;
            if request.state == RequestState::Pending {
                self.not_too_many_pending(ctx).await?;
            }
            self.not_too_many(self.live_grants_of(request.subject).await?, grants.len(), subject)?;
            // What was in the way is gone again: once more.
        }
        Err(StoreError::Conflict.into())
    }

    fn change_of_ask(
        &self,
        ctx: &Ctx,
        ask: &Ask,
        request: &Request,
        grants: &[Grant],
        subject: &Subject,
    ) -> Result<Change, BrokerError> {
        let cause = Cause::from(ctx);
        let key = ask.idempotency.as_ref().map(|(key, body_hash)| IdempotencyKey {
            identity: ctx.actor_id(),
            key: key.clone(),
            body_hash: body_hash.clone(),
            request: request.id,
            at: ctx.now,
        });
        let parties = std::iter::once(subject).chain((request.requester != request.subject).then_some(&ctx.actor));
        let decided_on = parties.map(|party| DecidedOn {
            identity: party.identity.id,
            version: party.identity.version,
            recheck: cause.recheck(),
        });
        let mut change = Change {
            key,
            request: Some(request.clone()),
            most_pending: Some(self.settings.max_pending),
            decided_on: decided_on.collect(),
            ..Change::default()
        };
        let details = json!({
            "entitlements": request.entitlements, "duration": request.ttl, "reason": request.reason,
            "ticket": request.ticket, "emergency": request.emergency, "start_at": request.start_at,
            "state": request.state, "policy_version": request.policy_version,
            "policies": request.trace.iter().map(|r| &r.policy).collect::<Vec<_>>(),
        });
        self.note_request(&mut change, &cause, "request.created", request, details)?;
        if request.state == RequestState::Approved {
            self.note_request(&mut change, &cause, "request.approved", request, json!({"by": "policy"}))?;
        }
        for grant in grants {
            change.grants.push(self.new_grant(request, grant));
            self.note_new_grant(&mut change, &cause, grant)?;
        }
        Ok(change)
    }

    /// Keep new grants with the event of the state that they begin in.
    pub(super) async fn record_new_grants(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        request: &Request,
        grants: &[Grant],
        subject: &Subject,
    ) -> Result<(), BrokerError> {
        let new: Vec<NewGrant> = grants.iter().map(|grant| self.new_grant(request, grant)).collect();
        if !tx.insert_grants(&new).await? {
            self.refuse_locked(tx, request).await?;
            if !tx.is_active(request.subject).await? {
                return Err(BrokerError::State("whoever was to hold it is deactivated".to_owned()));
            }
            self.not_too_many(self.live_grants_of(request.subject).await?, grants.len(), subject)?;
            return Err(StoreError::Conflict.into());
        }
        for grant in grants {
            self.note_new_grant(tx, cause, grant)?;
        }
        Ok(())
    }

    fn new_grant(&self, request: &Request, grant: &Grant) -> NewGrant {
        NewGrant { grant: grant.clone(), requester: request.requester, most: self.settings.max_live_grants }
    }

    fn note_new_grant(&self, into: &mut impl AsMut<Change>, cause: &Cause, grant: &Grant) -> Result<(), BrokerError> {
        let (action, details) = match grant.state {
            GrantState::Activating => ("grant.activating", json!({"not_after": grant.not_after})),
            _ => ("grant.scheduled", json!({"start_at": grant.start_at, "duration": grant.ttl})),
        };
        self.note_grant(into, cause, action, grant, details)
    }

    /// A kill switch on any part of the request stops it.
    pub(super) async fn refuse_locked(&self, tx: &mut Tx, request: &Request) -> Result<(), BrokerError> {
        for (party, target, entitlement) in self.parts_of(request) {
            if let Some(lock) = tx.lock_on(party, &target, &entitlement).await? {
                return Err(BrokerError::Locked { kind: lock.kind.as_str(), reason: lock.reason });
            }
        }
        Ok(())
    }

    /// The same, from outside of a change.
    async fn not_locked_out(&self, request: &Request) -> Result<(), BrokerError> {
        if self.store.locks().await?.is_empty() {
            return Ok(());
        }
        for (party, target, entitlement) in self.parts_of(request) {
            if let Some(lock) = self.store.lock_on(party, &target, &entitlement).await? {
                return Err(BrokerError::Locked { kind: lock.kind.as_str(), reason: lock.reason });
            }
        }
        Ok(())
    }

    /// What of a request a kill switch may fall on.
    fn parts_of(&self, request: &Request) -> Vec<(IdentityId, String, EntitlementId)> {
        let policy = self.policy();
        let target = |id: &EntitlementId| policy.catalog().get(id).map(|e| e.target.to_string()).unwrap_or_default();
        let on =
            |id: &EntitlementId| [request.subject, request.requester].map(|party| (party, target(id), Arc::clone(id)));
        request.entitlements.iter().flat_map(on).collect()
    }

    /// An identity by id or by unique name.
    pub(super) async fn find_subject(&self, key: &str, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        match key.parse::<IdentityId>() {
            Ok(id) => self.store.subject(id, now).await,
            Err(_) if key.len() <= 320 => self.store.subject_by_name(key, now).await,
            Err(_) => Ok(None),
        }
    }
}

/// Each part of a bundle, with what policy is to know of it: the parts before it count as held.
pub(super) fn parts<'p, T>(all: &'p [T], inputs: &Inputs) -> impl Iterator<Item = (&'p T, Inputs)> {
    (0_u32..).zip(all).map(|(before, part)| {
        let live_grants = inputs.live_grants.saturating_add(before);
        (part, Inputs { live_grants, ..inputs.clone() })
    })
}

/// The names of all groups in the needs, sorted.
pub(super) fn groups_of(needs: &[Need]) -> Vec<String> {
    needs.iter().flat_map(|n| n.groups.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn shortest(ttls: impl Iterator<Item = Ttl>) -> Ttl {
    ttls.min().unwrap_or(Ttl::seconds_or_one(1))
}

fn chosen(policy: &PolicySet, names: &[String]) -> Result<Vec<Arc<Entitlement>>, BrokerError> {
    if names.is_empty() || names.len() > MAX_BUNDLE {
        return Err(BrokerError::invalid("entitlements", format!("name between 1 and {MAX_BUNDLE} entitlements")));
    }
    let mut chosen: Vec<Arc<Entitlement>> = Vec::with_capacity(names.len());
    for name in names {
        let Some(entitlement) = policy.catalog().get(name) else {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(100).collect();
            return Err(BrokerError::invalid(
                "entitlements",
                format!("there is no entitlement `{shown}`; `tidegate ls entitlements` shows what there is"),
            ));
        };
        if !chosen.iter().any(|e| e.id == entitlement.id) {
            chosen.push(Arc::clone(entitlement));
        }
    }
    Ok(chosen)
}

/// A text that people will read: trimmed, bounded, without control or direction-changing characters.
pub(super) fn clean_text(field: &'static str, text: &str) -> Result<String, BrokerError> {
    let text = text.trim();
    if text.chars().count() > MAX_TEXT {
        return Err(BrokerError::invalid(field, format!("use at most {MAX_TEXT} characters")));
    }
    if text.chars().any(unprintable) {
        return Err(BrokerError::invalid(field, "control characters are not allowed; write plain text"));
    }
    Ok(text.to_owned())
}

/// Control characters, and those that change the direction or the lines of a text and so what people read.
fn unprintable(c: char) -> bool {
    let shifting = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    shifting || (c.is_control() && c != '\n')
}

/// The same, and there must be something in it.
pub(super) fn required_text(field: &'static str, text: &str) -> Result<String, BrokerError> {
    let text = clean_text(field, text)?;
    if text.is_empty() { Err(BrokerError::invalid(field, "say why, in a few words")) } else { Ok(text) }
}
