//! The inbox of those who decide: what waits for them, what they like to know of whoever asks, and who looks at it already.

use std::{sync::Arc, time::Duration};

use futures::future::{join_all, try_join3};
use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    decide::still_pending,
    input::Paging,
    read::readable,
    record::Cause,
    view::{List, RequestView, RequesterContext, TakenUpView},
};
use crate::{
    domain::{
        id::RequestId,
        identity::Subject,
        request::{Approval, Request, RequestState},
        time::Ttl,
    },
    store::AskedLately,
};

/// How far back it is looked at what somebody asked for.
const LATELY: Duration = Duration::from_secs(30 * 86_400);
/// Requests of somebody that are counted.
const COUNTED: u32 = 50;
/// Whoever took a request up is taken to look at it for so long.
const TAKEN_FOR: Duration = Duration::from_secs(600);
/// Waiting requests are counted up to this.
const WAITING: u32 = 100;
/// Latest decisions that the usual wait is taken from.
const DECISIONS: u32 = 50;
/// Somebody who is in the directory for less is new.
const NEW: Duration = Duration::from_secs(14 * 86_400);
/// From this sensitivity on it is said.
const SENSITIVE: u8 = 3;

impl Broker {
    /// What waits for those who decide like the caller, the most urgent first: emergencies, then what lapses first.
    pub async fn urgent(&self, ctx: &Ctx, page: Paging) -> Result<List<RequestView>, BrokerError> {
        let found = self.store.urgent_requests(&ctx.actor.groups, page.after.as_deref(), page.rows()).await?;
        // Asked together, so that the look-ups of all rows are few statements.
        let rows = join_all(found.items.iter().map(|request| self.inbox_row(ctx, request))).await;
        Ok(List { items: readable(rows)?, next: found.next })
    }

    async fn inbox_row(&self, ctx: &Ctx, request: &Request) -> Result<RequestView, BrokerError> {
        let approvals = async { Ok::<_, BrokerError>(self.store.approvals(request.id).await?) };
        let (approvals, parties, taken) =
            try_join3(approvals, self.parties(request, ctx), self.taken_up(request)).await?;
        let mut view = self.render_request(request, Vec::new(), &approvals).await?;
        view.taken_up = taken;
        if let Some((requester, subject)) = &parties {
            view.can_decide = Some(self.able(ctx, request, &approvals, requester, subject));
            view.context = Some(self.context_of(request, requester).await?);
        }
        Ok(view)
    }

    /// Who asks and who will hold it, as the directory knows them now.
    pub(super) async fn parties(
        &self,
        request: &Request,
        ctx: &Ctx,
    ) -> Result<Option<(Subject, Subject)>, BrokerError> {
        let requester = self.store.subject(request.requester, ctx.now);
        if request.subject == request.requester {
            let requester = requester.await?;
            return Ok(requester.map(|r| {
                self.remember_name(&r.identity);
                (r.clone(), r)
            }));
        }
        let (requester, subject) =
            futures::future::try_join(requester, self.store.subject(request.subject, ctx.now)).await?;
        for known in requester.iter().chain(&subject) {
            self.remember_name(&known.identity);
        }
        Ok(requester.zip(subject))
    }

    /// May the caller decide on it now? The one answer to that, for every surface.
    pub(super) async fn can_decide(
        &self,
        ctx: &Ctx,
        request: &Request,
        approvals: &[Approval],
    ) -> Result<bool, BrokerError> {
        let parties = self.parties(request, ctx).await?;
        Ok(parties.is_some_and(|(requester, subject)| self.able(ctx, request, approvals, &requester, &subject)))
    }

    pub(super) fn able(
        &self,
        ctx: &Ctx,
        request: &Request,
        approvals: &[Approval],
        requester: &Subject,
        subject: &Subject,
    ) -> bool {
        let decided = approvals.iter().any(|a| a.approver == ctx.actor_id());
        !decided
            && still_pending(request, ctx).is_ok()
            && Self::may_decide(ctx, &self.policy(), request, requester, subject).is_ok()
    }

    /// What an approver likes to know of whoever asks.
    pub(super) async fn context_of(
        &self,
        request: &Request,
        requester: &Subject,
    ) -> Result<RequesterContext, BrokerError> {
        let now = self.now();
        let lately = self.store.asked_lately(request.requester, now.minus_std(LATELY), COUNTED).await?;
        let count = |state| u32::try_from(lately.iter().filter(|a| a.state == state).count()).unwrap_or(u32::MAX);
        let on_call = self.settings.slack.as_ref().and_then(|s| s.on_call_group.as_ref());
        Ok(RequesterContext {
            on_call: on_call.is_some_and(|group| requester.is_in(&group.to_lowercase())),
            asked: u32::try_from(lately.len()).unwrap_or(u32::MAX),
            approved: count(RequestState::Approved),
            denied: count(RequestState::Denied),
            lapsed: count(RequestState::Lapsed),
            marks: self.marks_of(request, requester, &lately),
        })
    }

    /// What makes a request stand out, in words.
    fn marks_of(&self, request: &Request, requester: &Subject, lately: &[AskedLately]) -> Vec<String> {
        let mut marks = self.risk_marks(request);
        let now = self.now();
        let policy = self.policy();
        let before = |id: &str| {
            lately.iter().any(|a| a.state == RequestState::Approved && a.entitlements.iter().any(|e| e == id))
        };
        if !request.entitlements.iter().all(|id| before(id)) {
            marks.push("not granted to them in the last 30 days".to_owned());
        }
        let longest = request.entitlements.iter().filter_map(|id| policy.catalog().get(id)).map(|e| e.max_ttl).min();
        if longest.is_some_and(|most| most == request.ttl && most > Ttl::seconds_or_one(3600)) {
            marks.push("the longest that can be asked for".to_owned());
        }
        let i = &requester.identity;
        let since = i64::try_from(i.id.ulid().timestamp_ms() / 1000).unwrap_or(0);
        if now.since(crate::domain::time::Timestamp::from_seconds(since)) < NEW {
            marks.push("new here".to_owned());
        }
        if i.contract_end.is_some_and(|end| end <= now.plus_std(NEW)) {
            marks.push("leaves soon".to_owned());
        }
        if i.orphaned_at.is_some() {
            marks.push("nobody answers for it".to_owned());
        }
        marks
    }

    /// What makes a request stand out by itself, whoever asks.
    pub(super) fn risk_marks(&self, request: &Request) -> Vec<String> {
        let policy = self.policy();
        let known = request.entitlements.iter().filter_map(|e| policy.catalog().get(e));
        let sensitivity = known.map(|e| e.sensitivity).max().unwrap_or(0);
        let mut marks = Vec::new();
        if request.emergency {
            marks.push("emergency".to_owned());
        }
        if sensitivity >= SENSITIVE {
            marks.push(format!("sensitivity {sensitivity} of 4"));
        }
        if request.subject != request.requester {
            marks.push("on behalf of somebody else".to_owned());
        }
        marks
    }

    /// How many requests wait for the caller, counted up to 100.
    pub async fn inbox(&self, ctx: &Ctx) -> Result<u32, BrokerError> {
        Ok(self.store.pending_before(&ctx.actor.groups, ctx.actor_id(), WAITING).await?)
    }

    /// How long half of the latest decisions took at most: what somebody who asks may expect. Nothing before the first.
    pub async fn usual_wait(&self, _ctx: &Ctx) -> Result<Option<Duration>, BrokerError> {
        let mut times = self.store.decision_times(DECISIONS).await?;
        times.sort_unstable();
        Ok(times.get(times.len() / 2).map(|micros| Duration::from_micros(*micros)))
    }

    /// Say that one looks at a request, so that nobody else does the same work. Binds nobody: anybody may still decide.
    pub async fn take_up(self: &Arc<Self>, ctx: &Ctx, id: RequestId) -> Result<RequestView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let request = self.visible_request(ctx, id).await?;
        still_pending(&request, ctx)?;
        let approvals = self.store.approvals(id).await?;
        if !self.can_decide(ctx, &request, &approvals).await? {
            return Err(BrokerError::Forbidden("only whoever may decide on a request takes it up"));
        }
        let since = ctx.now.minus_std(TAKEN_FOR);
        if self.store.taker_of(id, since).await?.is_some_and(|(who, _)| who == ctx.actor_id()) {
            return self.request(ctx, id).await;
        }
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.take_up_request(id, ctx.actor_id(), ctx.now).await?;
                self.note_request(&mut tx, &Cause::from(ctx), "request.taken_up", &request, json!({}))
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                return self.request(ctx, id).await;
            }
        }
    }

    /// Who looks at a pending request at the moment.
    pub(super) async fn taken_up(&self, request: &Request) -> Result<Option<TakenUpView>, BrokerError> {
        if request.state != RequestState::Pending {
            return Ok(None);
        }
        Ok(match self.store.taker_of(request.id, self.now().minus_std(TAKEN_FOR)).await? {
            Some((who, at)) => Some(TakenUpView { by: self.reference(who).await, at: at.to_string() }),
            None => None,
        })
    }
}
