//! Say something about a request, for everybody who may see it. A comment is an event of the log and nothing else: it
//! stands in the timeline, and nobody changes it afterwards.

use serde_json::json;

use super::{Broker, BrokerError, Ctx, ask::required_text, record::Cause, view::RequestView};
use crate::{
    domain::id::RequestId,
    store::{AuditFilter, Change},
};

/// A request with so many events takes no comment any more: its timeline would not show it.
const MOST_EVENTS: u32 = 300;

impl Broker {
    /// Add a comment to a request, decided or not: for whoever may see it.
    pub async fn comment(&self, ctx: &Ctx, id: RequestId, text: String) -> Result<RequestView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let request = self.visible_request(ctx, id).await?;
        let comment = required_text("comment", &text)?;
        let about = AuditFilter { request: Some(id), ..AuditFilter::default() };
        if self.store.events(&about, 0, MOST_EVENTS).await?.next.is_some() {
            return Err(BrokerError::TooMany(
                "too much happened about this request already; talk elsewhere".to_owned(),
            ));
        }
        let mut change = Change::default();
        self.note_request(&mut change, &Cause::from(ctx), "request.commented", &request, json!({"comment": comment}))?;
        self.store.write(change).await?;
        self.request(ctx, id).await
    }
}
