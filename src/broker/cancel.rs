//! Take a pending request back; let a pending request lapse.

use serde_json::json;

use super::{Broker, BrokerError, Ctx, ask::clean_text, decide::still_pending, record::Cause, view::RequestView};
use crate::{
    domain::{
        id::{CorrelationId, RequestId},
        request::{Request, RequestState},
        time::Timestamp,
    },
    store::StoreError,
};

impl Broker {
    /// Take a pending request back: for its requester, its subject and administrators.
    pub async fn cancel(&self, ctx: &Ctx, id: RequestId, comment: String) -> Result<RequestView, BrokerError> {
        self.may_change()?;
        let comment = clean_text("comment", &comment)?;
        let request = self.visible_request(ctx, id).await?;
        if request.requester != ctx.actor_id() && request.subject != ctx.actor_id() && !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only its requester or an administrator can take a request back"));
        }
        // Whoever is locked may still give up what they asked for, and nothing of others.
        if request.requester != ctx.actor_id() && request.subject != ctx.actor_id() {
            self.not_locked(ctx).await?;
        }
        still_pending(&request, ctx)?;
        let details = json!({"comment": comment});
        let done = self.close_request(&Cause::from(ctx), &request, RequestState::Cancelled, details).await?;
        if !done {
            return Err(BrokerError::State("somebody decided first; nothing was changed".to_owned()));
        }
        self.request(ctx, id).await
    }

    /// Let pending requests lapse whose time has run out; how many did.
    pub async fn lapse(&self, limit: u32) -> Result<usize, BrokerError> {
        // A copy would tell people things that did not happen.
        if self.is_observing() {
            return Ok(0);
        }
        let now = self.now();
        let mut lapsed = 0;
        for id in self.store.lapsed_requests(now, limit).await? {
            let request = match self.store.request(id).await {
                Ok(Some(request)) => request,
                Ok(None) => continue,
                Err(error @ StoreError::Corrupt { .. }) => {
                    lapsed += usize::from(self.lapse_unreadable(id, &error, now).await?);
                    continue;
                }
                Err(other) => return Err(other.into()),
            };
            let cause = Cause::worker(request.correlation, now);
            if self.close_request(&cause, &request, RequestState::Lapsed, json!({})).await? {
                lapsed += 1;
            }
        }
        Ok(lapsed)
    }

    async fn lapse_unreadable(&self, id: RequestId, error: &StoreError, now: Timestamp) -> Result<bool, BrokerError> {
        metrics::counter!("tidegate_corrupt_rows_total").increment(1);
        tracing::error!(error = %error, "a pending request does not decode; it lapses");
        let cause = Cause::worker(CorrelationId::new(self.entropy.ulid(now)?), now);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.lapse_unreadable(id, now).await?;
                let mut event = self.event(&cause, "request.lapsed", json!({"unreadable": error.to_string()}))?;
                event.request = Some(id);
                self.note(&mut tx, event)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(false),
                Some(result) => return result.map(|()| true),
            }
        }
    }

    /// A pending request ends without grants; false if it was decided meanwhile.
    pub(super) async fn close_request(
        &self,
        cause: &Cause,
        request: &Request,
        state: RequestState,
        details: serde_json::Value,
    ) -> Result<bool, BrokerError> {
        let action = if state == RequestState::Lapsed { "request.lapsed" } else { "request.cancelled" };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.decide_request(request.id, state, request.ttl, cause.now).await?;
                self.note_request(&mut tx, cause, action, request, details.clone())
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Ok(())) => {
                    metrics::counter!("tidegate_requests_total", "outcome" => state.as_str()).increment(1);
                    return Ok(true);
                }
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(false),
                Some(Err(other)) => return Err(other),
            }
        }
    }
}
