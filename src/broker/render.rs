//! From what the ledger holds to what surfaces show.

use std::{sync::Arc, time::Duration};

use futures::{future::join_all, join};

use super::{
    Broker, BrokerError,
    ask::groups_of,
    slack::terms::terms_of,
    view::{
        AppliedFacts, ApprovalView, ApprovalsView, GrantView, IdentityRef, IdentityView, LockView, RequestView,
        RequestedFacts, RevocationView, VerifiedFacts,
    },
};
use crate::{
    domain::{
        capability::RevocationClass,
        grant::{Grant, GrantState},
        id::IdentityId,
        identity::{Identity, Subject},
        request::{Approval, Quorum, Request, RequestState},
        time::Timestamp,
    },
    store::Lock,
};

/// How long a name that was read is used again.
const NAME_IS_GOOD: Duration = Duration::from_secs(30);

impl Broker {
    /// The unique name of an identity, for people to read; its id if the directory cannot be asked.
    pub(super) async fn name_of(&self, id: IdentityId) -> Arc<str> {
        let now = self.now();
        let known = self.names.lock().ok().and_then(|mut names| names.get(&id).cloned());
        // People marry; a name that was read long ago may be somebody else's by now.
        if let Some((name, _)) = known.filter(|(_, at)| now.since(*at) < NAME_IS_GOOD && *at <= now) {
            return name;
        }
        let found = self.store.subject(id, Timestamp::default()).await.ok().flatten();
        let Some(subject) = found else { return id.to_string().into() };
        self.remember_name(&subject.identity)
    }

    /// A name that was read beside something else need not be read again.
    pub(super) fn remember_name(&self, identity: &Identity) -> Arc<str> {
        let name: Arc<str> = identity.name.as_str().into();
        if let Ok(mut names) = self.names.lock() {
            names.put(identity.id, (Arc::clone(&name), self.now()));
        }
        name
    }

    pub(super) async fn reference(&self, id: IdentityId) -> IdentityRef {
        IdentityRef { id: id.to_string(), name: self.name_of(id).await.to_string() }
    }

    async fn optional_reference(&self, id: Option<IdentityId>) -> Option<IdentityRef> {
        match id {
            Some(id) => Some(self.reference(id).await),
            None => None,
        }
    }

    pub(super) async fn render_identity(&self, s: &Subject) -> IdentityView {
        let i = &s.identity;
        let owner = self.optional_reference(i.owner).await;
        let backup_owner = self.optional_reference(i.backup_owner).await;
        IdentityView {
            id: i.id.to_string(),
            kind: i.kind,
            name: i.name.clone(),
            display_name: i.display_name.clone(),
            email: i.email.clone(),
            active: i.active,
            owner,
            contract_end: i.contract_end.map(|t| t.to_string()),
            origin: i.origin,
            backup_owner,
            orphaned_at: i.orphaned_at.map(|t| t.to_string()),
            answer_by: i.answer_by.map(|t| t.to_string()),
            groups: s.groups.iter().cloned().collect(),
        }
    }

    pub(super) fn render_revocation(&self, entitlement: &str, target: &str) -> RevocationView {
        let description = self.target_of(target).map(|t| &t.description);
        RevocationView {
            entitlement: entitlement.to_owned(),
            revocation_class: description.map_or(RevocationClass::ExpiryOnly, |d| d.revocation_class),
            residual_window: description.map_or(0, |d| d.residual_window_seconds),
            residual_window_text: description.map_or_else(String::new, |d| d.residual_window.clone()),
        }
    }

    pub(super) async fn render_grant(&self, g: &Grant) -> GrantView {
        let revocation = self.render_revocation(&g.entitlement, &g.target);
        let now = self.now();
        let active = g.state == GrantState::Active;
        let mints = self.target_of(&g.target).is_some_and(|t| t.description.mints_secrets);
        GrantView {
            id: g.id.to_string(),
            request: g.request.to_string(),
            holder: self.reference(g.holder).await,
            entitlement: g.entitlement.to_string(),
            target: g.target.to_string(),
            state: g.state,
            not_after: g.not_after.map(|t| t.to_string()),
            remaining: g.not_after.filter(|_| active).map(|end| end.seconds_since(now).seconds()),
            end_reason: g.end_reason,
            requested: RequestedFacts {
                at: g.created_at.to_string(),
                duration: g.ttl.seconds(),
                start_at: g.start_at.map(|t| t.to_string()),
            },
            applied: g.activated_at.map(|at| AppliedFacts {
                at: at.to_string(),
                object: g.recipe.as_ref().map(|r| r.object.clone()).unwrap_or_default(),
                report: g.applied.clone().unwrap_or_default(),
            }),
            verified: g
                .ended_at
                .zip(g.evidence.as_ref())
                .map(|(at, evidence)| VerifiedFacts { at: at.to_string(), evidence: evidence.clone() }),
            evidence: g.evidence.clone(),
            attempts: g.attempts,
            last_error: g.last_error.clone(),
            claims: g.claims,
            claimable: active && mints && g.max_claims.is_none_or(|most| g.claims < most),
            revocation_class: revocation.revocation_class,
            residual_window: revocation.residual_window,
            correlation_id: g.correlation.to_string(),
        }
    }

    pub(super) async fn render_request(
        &self,
        r: &Request,
        grants: Vec<Grant>,
        approvals: &[Approval],
    ) -> Result<RequestView, BrokerError> {
        let quorum = Quorum::count(&r.needs, approvals);
        let policy = self.policy();
        let views = join_all(grants.iter().map(|grant| self.render_grant(grant)));
        let (views, requester, subject) = join!(views, self.reference(r.requester), self.reference(r.subject));
        let revocation = r.entitlements.iter().map(|id| {
            let target = policy.catalog().get(id).map_or_else(|| "".into(), |e| Arc::clone(&e.target));
            self.render_revocation(id, &target)
        });
        Ok(RequestView {
            id: r.id.to_string(),
            state: r.state,
            requester,
            subject,
            entitlements: r.entitlements.iter().map(ToString::to_string).collect(),
            duration: r.ttl.seconds(),
            reason: r.reason.clone(),
            ticket: r.ticket.clone(),
            emergency: r.emergency,
            start_at: r.start_at.map(|t| t.to_string()),
            grants: views,
            approvals: ApprovalsView { needed: quorum.needed, have: quorum.have, from: groups_of(&r.needs) },
            lapses_at: (r.state == RequestState::Pending).then(|| r.lapses_at.to_string()),
            created_at: r.created_at.to_string(),
            decided_at: r.decided_at.map(|t| t.to_string()),
            policy_version: r.policy_version.clone(),
            revocation: revocation.collect(),
            terms: terms_of(&policy, r),
            correlation_id: r.correlation.to_string(),
            decisions: None,
            timeline: None,
            trace: None,
            can_decide: None,
            taken_up: None,
            context: None,
            permissions: None,
        })
    }

    pub(super) async fn render_approval(&self, a: &Approval) -> ApprovalView {
        ApprovalView {
            approver: self.reference(a.approver).await,
            approve: a.approve,
            comment: a.comment.clone(),
            duration: a.ttl.map(crate::domain::time::Ttl::seconds),
            at: a.at.to_string(),
            via: a.via.clone(),
        }
    }

    pub(super) async fn render_lock(&self, l: &Lock) -> LockView {
        LockView {
            id: l.id.to_string(),
            kind: l.kind,
            value: l.value.clone(),
            reason: l.reason.clone(),
            by: self.reference(l.actor).await,
            created_at: l.created_at.to_string(),
            ending: None,
        }
    }
}
