//! Reads, with their visibility: look-up and authorisation are one call, and what you may not see is not there.

use futures::future::{join_all, try_join};

use super::{
    Broker, BrokerError, Ctx,
    input::{GrantQuery, Paging, RequestQuery, Role, Simulate},
    view::{EntitlementView, GrantView, IdentityView, List, MeView, RequestView, TimelineEntry},
};
use crate::{
    domain::{
        audit::Event,
        decision::Inputs,
        grant::Grant,
        id::{GrantId, IdentityId, RequestId},
        identity::Subject,
        request::{Request, RequestState},
        time::Ttl,
    },
    store::{AuditFilter, GrantFilter, RequestFilter, StoreError},
};

impl Broker {
    /// Who am I, and what do I hold?
    pub async fn me(&self, ctx: &Ctx) -> Result<MeView, BrokerError> {
        let filter = GrantFilter { holder: Some(ctx.actor_id()), live: true, ..GrantFilter::default() };
        let page = self.store.grants(&filter, None, 200).await?;
        let grants = join_all(page.items.iter().map(|grant| self.render_grant(grant))).await;
        let mut roles = Vec::new();
        if ctx.is_admin() {
            roles.push("admin".to_owned());
        }
        if ctx.sees_everything() {
            roles.push("auditor".to_owned());
        }
        Ok(MeView { identity: self.render_identity(&ctx.actor).await, roles, grants })
    }

    /// What the caller can ask for, and what would happen.
    pub async fn entitlements(&self, ctx: &Ctx) -> Result<List<EntitlementView>, BrokerError> {
        let policy = self.policy();
        let live_grants = self.live_grants_of(ctx.actor_id()).await?;
        let mut items = Vec::new();
        for entitlement in policy.catalog().entitlements.values() {
            let inputs = Inputs {
                ttl: entitlement.default_ttl,
                now: ctx.now,
                start_at: ctx.now,
                has_reason: true,
                ticket: None,
                emergency: false,
                on_behalf: false,
                live_grants,
            };
            let decision = policy.preview(&ctx.actor, entitlement, &inputs);
            let revocation = self.render_revocation(&entitlement.id, &entitlement.target);
            items.push(EntitlementView {
                id: entitlement.id.to_string(),
                target: entitlement.target.to_string(),
                title: entitlement.title.clone(),
                description: entitlement.description.clone(),
                verdict: decision.verdict,
                conditions: decision.conditions,
                approvers: decision.approvers.into_iter().collect(),
                default_ttl: entitlement.default_ttl.seconds(),
                max_ttl: decision.max_ttl.min(entitlement.max_ttl).seconds(),
                sensitivity: entitlement.sensitivity,
                labels: entitlement.labels.clone(),
                revocation_class: revocation.revocation_class,
                residual_window: revocation.residual_window,
                residual_window_text: revocation.residual_window_text,
                step_up: decision.step_up.map(Ttl::seconds),
            });
        }
        Ok(List { items, next: None })
    }

    /// Requests that the caller may see.
    pub async fn requests(&self, ctx: &Ctx, query: RequestQuery) -> Result<List<RequestView>, BrokerError> {
        let mut filter = RequestFilter { state: query.state, ..RequestFilter::default() };
        match query.role {
            Some(Role::Approver) => filter.approver_groups = Some(ctx.actor.groups.iter().cloned().collect()),
            None if ctx.sees_everything() => {}
            _ => filter.party = Some(ctx.actor_id()),
        }
        let page = self.store.requests(&filter, query.page.after.as_deref(), query.page.rows()).await?;
        let deciding = query.role == Some(Role::Approver);
        // Asked together, so that the look-ups of all rows are few statements.
        let rows = join_all(page.items.iter().map(|request| self.request_row(ctx, request, deciding))).await;
        Ok(List { items: readable(rows)?, next: page.next })
    }

    async fn request_row(&self, ctx: &Ctx, request: &Request, deciding: bool) -> Result<RequestView, BrokerError> {
        let (grants, approvals) = try_join(self.store.grants_of(request.id), self.store.approvals(request.id)).await?;
        let mut view = self.render_request(request, grants, &approvals).await?;
        if deciding {
            view.can_decide = Some(self.can_decide(ctx, request, &approvals).await?);
        }
        Ok(view)
    }

    /// One request with its timeline and decision trace.
    pub async fn request(&self, ctx: &Ctx, id: RequestId) -> Result<RequestView, BrokerError> {
        let request = self.visible_request(ctx, id).await?;
        let (grants, approvals) = try_join(self.store.grants_of(id), self.store.approvals(id)).await?;
        let mut view = self.render_request(&request, grants, &approvals).await?;
        let decisions = join_all(approvals.iter().map(|approval| self.render_approval(approval))).await;
        // Looked up once, for all that is said of them.
        let parties = self.parties(&request, ctx).await?;
        let able = parties.as_ref().is_some_and(|(asks, holds)| self.able(ctx, &request, &approvals, asks, holds));
        view.can_decide = Some(able);
        view.decisions = Some(decisions);
        view.taken_up = self.taken_up(&request).await?;
        if let Some((requester, subject)) = &parties {
            if request.state == RequestState::Pending {
                view.permissions = Some(self.permissions(&request, subject).await?);
            }
            if able {
                view.context = Some(self.context_of(&request, requester).await?);
            }
        }
        view.trace = Some(request.trace);
        view.timeline = Some(self.timeline(AuditFilter { request: Some(id), ..AuditFilter::default() }).await?);
        Ok(view)
    }

    pub(super) async fn timeline(&self, filter: AuditFilter) -> Result<Vec<TimelineEntry>, BrokerError> {
        let page = self.store.events(&filter, 0, 500).await?;
        let mut timeline = Vec::with_capacity(page.items.len());
        for stored in page.items {
            let Ok(event) = serde_json::from_str::<Event>(&stored.leaf) else { continue };
            let actor = match event.actor {
                Some(id) => Some(self.name_of(id).await.to_string()),
                None => None,
            };
            timeline.push(TimelineEntry {
                event: event.id.to_string(),
                at: event.at.to_string(),
                action: event.action,
                actor,
                details: event.details,
            });
        }
        Ok(timeline)
    }

    /// Parties, their owners, those who may approve, administrators and auditors see a request.
    pub(super) async fn visible_request(&self, ctx: &Ctx, id: RequestId) -> Result<Request, BrokerError> {
        let request = self.store.request(id).await?.ok_or(BrokerError::NotFound("request"))?;
        let approver = request.needs.iter().any(|n| !n.groups.is_disjoint(&ctx.actor.groups));
        let party = request.requester == ctx.actor_id() || request.subject == ctx.actor_id();
        if party || approver || ctx.sees_everything() || self.owns(ctx, request.subject).await? {
            Ok(request)
        } else {
            Err(BrokerError::NotFound("request"))
        }
    }

    /// Grants that the caller may see.
    pub async fn grants(&self, ctx: &Ctx, query: GrantQuery) -> Result<List<GrantView>, BrokerError> {
        let holder = match query.holder {
            Some(id) if id == ctx.actor_id() || ctx.sees_everything() || self.owns(ctx, id).await? => Some(id),
            Some(_) => return Err(BrokerError::NotFound("identity")),
            None if ctx.sees_everything() => None,
            None => Some(ctx.actor_id()),
        };
        let filter = GrantFilter { state: query.state, holder, live: query.live, over: query.over };
        let page = self.store.grants(&filter, query.page.after.as_deref(), query.page.rows()).await?;
        let items = join_all(page.items.iter().map(|grant| self.render_grant(grant))).await;
        Ok(List { items, next: page.next })
    }

    /// One grant.
    pub async fn grant(&self, ctx: &Ctx, id: GrantId) -> Result<GrantView, BrokerError> {
        Ok(self.render_grant(&self.visible_grant(ctx, id).await?).await)
    }

    /// The holder, whoever may see its request, administrators and auditors see a grant.
    pub(super) async fn visible_grant(&self, ctx: &Ctx, id: GrantId) -> Result<Grant, BrokerError> {
        let grant = self.store.grant(id).await?.ok_or(BrokerError::NotFound("grant"))?;
        if grant.holder == ctx.actor_id() || ctx.sees_everything() {
            return Ok(grant);
        }
        match self.visible_request(ctx, grant.request).await {
            Ok(_) => Ok(grant),
            Err(BrokerError::NotFound(_)) => Err(BrokerError::NotFound("grant")),
            Err(other) => Err(other),
        }
    }

    /// The directory: administrators and auditors see everybody, others themselves and what they own.
    pub async fn identities(&self, ctx: &Ctx, page: Paging) -> Result<List<IdentityView>, BrokerError> {
        if ctx.sees_everything() {
            let found = self.store.subjects(page.after.as_deref(), page.rows(), ctx.now).await?;
            let items = join_all(found.items.iter().map(|subject| self.render_identity(subject))).await;
            return Ok(List { items, next: found.next });
        }
        let mut items = vec![self.render_identity(&ctx.actor).await];
        items.extend(self.workloads(ctx, Paging::default()).await?.items);
        Ok(List { items, next: None })
    }

    /// One identity, by id, unique name, or `me`.
    pub async fn identity(&self, ctx: &Ctx, key: &str) -> Result<IdentityView, BrokerError> {
        let subject = self.visible_identity(ctx, key).await?;
        Ok(self.render_identity(&subject).await)
    }

    pub(super) async fn visible_identity(&self, ctx: &Ctx, key: &str) -> Result<Subject, BrokerError> {
        if key == "me" {
            return Ok(ctx.actor.clone());
        }
        let subject = self.find_subject(key, ctx.now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let id: IdentityId = subject.identity.id;
        let answers = [subject.identity.owner, subject.identity.backup_owner].contains(&Some(ctx.actor_id()));
        if id == ctx.actor_id() || answers || ctx.sees_everything() {
            Ok(subject)
        } else {
            Err(BrokerError::NotFound("identity"))
        }
    }

    /// Workloads and agents: administrators and auditors see all, others what they own.
    pub async fn workloads(&self, ctx: &Ctx, page: Paging) -> Result<List<IdentityView>, BrokerError> {
        let (subjects, next) = if ctx.sees_everything() {
            let found = self.store.machines(page.after.as_deref(), page.rows(), ctx.now).await?;
            (found.items, found.next)
        } else {
            (self.store.owned_by(ctx.actor_id(), ctx.now).await?, None)
        };
        Ok(List { items: join_all(subjects.iter().map(|subject| self.render_identity(subject))).await, next })
    }

    /// For a simulation: the actor, or another identity for those who see everything.
    pub(super) async fn simulated(&self, ctx: &Ctx, simulate: &Simulate) -> Result<Subject, BrokerError> {
        match &simulate.identity {
            None => Ok(ctx.actor.clone()),
            Some(key) => self.visible_identity(ctx, key).await,
        }
    }
}

/// What cannot be read harms no other row of a list.
pub(super) fn readable(views: Vec<Result<RequestView, BrokerError>>) -> Result<Vec<RequestView>, BrokerError> {
    let mut items = Vec::with_capacity(views.len());
    for view in views {
        match view {
            Err(BrokerError::Store(error @ StoreError::Corrupt { .. })) => {
                metrics::counter!("tidegate_corrupt_rows_total").increment(1);
                tracing::error!(error = %error, "a request is left out of a list");
            }
            view => items.push(view?),
        }
    }
    Ok(items)
}
