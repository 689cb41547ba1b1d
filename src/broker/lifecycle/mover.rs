//! Facts changed: what somebody holds and asked for is decided again, as if it were asked for as it was, by who they are
//! now. What no longer holds ends; the rest stays. Hours, tickets and durations are those of then.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde_json::json;

use super::super::{Broker, BrokerError, Ctx, bulkhead::Purpose, record::Cause};
use crate::{
    domain::{
        decision::{Inputs, Reason, Verdict},
        grant::{EndReason, Grant, GrantState},
        id::{IdentityId, RequestId},
        identity::Subject,
        request::Request,
        time::{Timestamp, Ttl},
    },
    policy::PolicySet,
    store::{EndScope, GrantFilter, Tx},
};

/// What is to become of what somebody holds and asked for.
#[derive(Default)]
pub(super) struct Reconsidered {
    ends: Vec<(Grant, String)>,
    /// Grants that the contract cuts short.
    shortened: Vec<Grant>,
    cancelled: Vec<(Request, String, Vec<Reason>)>,
    kept: usize,
    /// Who is told: the holder, who asked, who approved.
    tell: BTreeSet<IdentityId>,
}

impl Reconsidered {
    fn is_nothing(&self) -> bool {
        self.ends.is_empty() && self.shortened.is_empty() && self.cancelled.is_empty()
    }
}

impl Broker {
    /// Decide again. Reads only; what comes of it is recorded if nothing changed meanwhile.
    pub(super) async fn reconsider(&self, subject: &Subject, now: Timestamp) -> Result<Reconsidered, BrokerError> {
        let policy = self.policy();
        let id = subject.identity.id;
        let mut found = Reconsidered::default();
        for request in self.store.open_requests_of(id).await? {
            if let Some((why, reasons)) = self.no_longer_askable(&policy, &request, subject, now).await? {
                found.tell.extend([request.requester, request.subject]);
                found.cancelled.push((request, why, reasons));
            }
        }
        let others = self.live_grants_of(id).await?.saturating_sub(1);
        let filter = GrantFilter { holder: Some(id), live: true, ..GrantFilter::default() };
        let mut requests: BTreeMap<RequestId, Option<Request>> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self.store.grants(&filter, after.as_deref(), 200).await?;
            for grant in page.items {
                let open = matches!(grant.state, GrantState::Scheduled | GrantState::Activating | GrantState::Active);
                if !open || grant.end_reason.is_some() {
                    continue;
                }
                let request = match requests.entry(grant.request) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(free) => free.insert(self.store.request(grant.request).await?),
                };
                let Some(request) = request else { continue };
                let why = self.no_longer_holdable(&policy, &grant, request, subject, others);
                if why.is_none() && !outlasts(&grant, subject) {
                    found.kept += 1;
                    continue;
                }
                found.tell.extend([request.requester, request.subject]);
                found.tell.extend(self.store.approvals(request.id).await?.into_iter().map(|a| a.approver));
                match why {
                    Some(why) => found.ends.push((grant, why)),
                    None => found.shortened.push(grant),
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// Record what was found, in the commit that settles the identity.
    pub(super) async fn record_reconsidered(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        subject: &Subject,
        found: &Reconsidered,
    ) -> Result<(), BrokerError> {
        if found.is_nothing() {
            return Ok(());
        }
        let (mut ended, mut cancelled, mut shortened) = (Vec::new(), Vec::new(), Vec::new());
        for (request, why, reasons) in &found.cancelled {
            if self.cancel_request(tx, cause, request, why, json!(reasons)).await? {
                cancelled.push(json!({"request": request.id, "why": why}));
            }
        }
        for (grant, why) in &found.ends {
            let scope = EndScope::Grant(grant.id);
            if !self.begin_end(tx, cause, scope, EndReason::Revoked, &format!("mover: {why}")).await?.is_empty() {
                ended.push(json!({"grant": grant.id, "entitlement": grant.entitlement, "why": why}));
            }
        }
        for grant in &found.shortened {
            let (Some(from), Some(to)) = (grant.not_after, subject.identity.contract_end) else { continue };
            let ttl = to.seconds_since(grant.activated_at.unwrap_or(grant.created_at));
            tx.extend_grant(grant.id, from, to, ttl).await?;
            let details = json!({"from": from, "to": to, "why": "the contract ends earlier now"});
            self.note_grant(tx, cause, "grant.shortened", grant, details)?;
            shortened.push(json!({"grant": grant.id, "entitlement": grant.entitlement, "not_after": to}));
        }
        let details = json!({
            "ended": ended, "shortened": shortened, "cancelled": cancelled, "kept": found.kept, "tell": found.tell,
        });
        let mut event = self.event(cause, "identity.reconsidered", details)?;
        event.subject = Some(subject.identity.id);
        self.note(tx, event)
    }

    /// After the commit: the target's own expiry moves with the ledger's. If this fails the ledger's end still comes
    /// first, and the sweep says that the target's is later.
    pub(super) async fn shorten_at_targets(&self, subject: &Subject, found: &Reconsidered) {
        for grant in &found.shortened {
            let shorter = Grant { not_after: subject.identity.contract_end, ..grant.clone() };
            let Some(intent) = Self::intent_of(&shorter, &subject.identity.name) else { continue };
            let Ok(target) = self.target_for(grant) else { continue };
            let called = target.bulkhead.call(Purpose::Issue, target.connector.activate(&intent)).await;
            if let Err(fault) = called {
                tracing::warn!(grant = %grant.id, target = %grant.target, error = %fault, "the target keeps its later expiry");
            }
            // Ended while the target was called, which would have opened it again.
            let after = self.store.grant(grant.id).await;
            if !matches!(after, Ok(Some(g)) if g.state == GrantState::Active && g.end_reason.is_none()) {
                self.end_by_name(&shorter, &Cause::worker(grant.correlation, self.now())).await;
            }
        }
    }

    async fn no_longer_askable(
        &self,
        policy: &PolicySet,
        request: &Request,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<Option<(String, Vec<Reason>)>, BrokerError> {
        if request.subject != subject.identity.id {
            // It is the one who asked for somebody else whose facts changed.
            let other = self.store.subject(request.subject, now).await?;
            let may = other.is_some_and(|other| Ctx::may_ask_for(subject, &other.identity));
            let why = "who asked no longer answers for whoever was to hold it";
            return Ok((!may).then(|| (why.to_owned(), Vec::new())));
        }
        let begin = request.start_at.unwrap_or(request.created_at);
        let inputs = inputs_of(request, fitted(request.ttl, begin, subject), request.created_at, 0);
        let inputs = Inputs { start_at: begin, ..inputs };
        for id in &request.entitlements {
            let Some(entitlement) = policy.catalog().get(id) else {
                return Ok(Some((format!("{id} is no longer in the catalog"), Vec::new())));
            };
            let decision = policy.decide(subject, entitlement, &inputs);
            if decision.verdict == Verdict::Denied {
                return Ok(Some((format!("{id}: {}", said(&decision.reasons)), decision.reasons)));
            }
        }
        Ok(None)
    }

    /// Why somebody may no longer hold a grant, if so. What needed no approval then must need none now; what people
    /// approved stays as long as it may be asked for.
    fn no_longer_holdable(
        &self,
        policy: &PolicySet,
        grant: &Grant,
        request: &Request,
        subject: &Subject,
        others: u32,
    ) -> Option<String> {
        let Some(entitlement) = policy.catalog().get(&grant.entitlement) else {
            return Some("it is no longer in the catalog".to_owned());
        };
        let begin = grant.activated_at.or(grant.start_at).unwrap_or(grant.created_at);
        if subject.identity.contract_end.is_some_and(|end| end <= begin) {
            return Some("the contract ends before it would start".to_owned());
        }
        let inputs = inputs_of(request, fitted(grant.ttl, begin, subject), begin, others);
        let decision = policy.decide(subject, entitlement, &inputs);
        let by_people = request.needs.iter().any(|n| n.entitlements.contains(&grant.entitlement));
        match decision.verdict {
            Verdict::Denied => return Some(said(&decision.reasons)),
            Verdict::Approval if !by_people => return Some("it would need approval now".to_owned()),
            _ => {}
        }
        if !self.target_of(&grant.target).is_some_and(|t| t.description.mints_secrets) {
            return None;
        }
        let permission = policy.may_mint(subject, entitlement, &inputs);
        (!permission.allowed).then(|| said(&permission.reasons))
    }
}

impl Ctx {
    /// May `actor` ask on behalf of that identity? Its owner, its manager and administrators may.
    pub(in crate::broker) fn may_ask_for(actor: &Subject, other: &crate::domain::identity::Identity) -> bool {
        let me = actor.identity.id;
        let managed = other.attributes.get("manager").is_some_and(|m| *m == me.to_string());
        other.id == me || other.owner == Some(me) || managed || actor.is_in(crate::domain::identity::ADMIN_GROUP)
    }
}

/// Live, and beyond the end of the contract.
fn outlasts(grant: &Grant, subject: &Subject) -> bool {
    grant.state == GrantState::Active
        && grant.not_after.zip(subject.identity.contract_end).is_some_and(|(end, contract)| end > contract)
}

/// The duration as far as the contract reaches.
fn fitted(ttl: Ttl, begin: Timestamp, subject: &Subject) -> Ttl {
    subject.identity.contract_end.map_or(ttl, |end| ttl.min(end.seconds_since(begin).max(Ttl::seconds_or_one(1))))
}

/// The ask as it was.
fn inputs_of(request: &Request, ttl: Ttl, at: Timestamp, live_grants: u32) -> Inputs {
    Inputs {
        ttl,
        now: at,
        start_at: at,
        has_reason: !request.reason.is_empty(),
        ticket: request.ticket.clone(),
        emergency: request.emergency,
        on_behalf: request.subject != request.requester,
        live_grants,
    }
}

/// What policy said, in words for people.
fn said(reasons: &[Reason]) -> String {
    let telling = reasons.iter().find(|r| r.effect != "permit").or_else(|| reasons.first());
    telling.map_or_else(|| "policy denies it now".to_owned(), |r| format!("policy: {}", r.text))
}
