//! What was told to notifiers, and telling it again.

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    input::Paging,
    record::Cause,
    view::{DeliveryView, List},
};
use crate::{domain::id::MessageId, store::Delivery};

impl Broker {
    /// Messages and what became of them: for those who see everything.
    pub async fn deliveries(&self, ctx: &Ctx, page: Paging) -> Result<List<DeliveryView>, BrokerError> {
        if !ctx.sees_everything() {
            return Err(BrokerError::Forbidden("only administrators and auditors see what was told to notifiers"));
        }
        let found = self.store.deliveries(page.after.as_deref(), page.rows()).await?;
        Ok(List { items: found.items.iter().map(view).collect(), next: found.next })
    }

    /// Deliver a message once more, under the id that it had.
    pub async fn replay_delivery(&self, ctx: &Ctx, id: MessageId) -> Result<DeliveryView, BrokerError> {
        self.may_change()?;
        let missing = || BrokerError::NotFound("delivery");
        if !ctx.sees_everything() {
            return Err(missing());
        }
        let found = self.store.delivery(id).await?.ok_or_else(missing)?;
        if !ctx.is_admin() {
            return Err(BrokerError::Forbidden("only administrators deliver again"));
        }
        self.not_locked(ctx).await?;
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.replay_message(id, ctx.now).await?;
                // Whoever tells it again knows that somebody listens again.
                tx.notifier_is_back(&found.notifier).await?;
                let details = json!({"message": id, "notifier": found.notifier, "kind": found.kind});
                self.note(&mut tx, self.event(&Cause::from(ctx), "delivery.replayed", details)?)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        let now = self.store.delivery(id).await?.ok_or_else(missing)?;
        Ok(view(&now))
    }
}

fn view(d: &Delivery) -> DeliveryView {
    let state = match (d.due_at, d.delivered_at, &d.last_error) {
        (Some(_), ..) => "waiting",
        (None, Some(_), None) => "delivered",
        _ => "given_up",
    };
    DeliveryView {
        id: d.id.to_string(),
        notifier: d.notifier.clone(),
        kind: d.kind.clone(),
        at: d.at.to_string(),
        state: state.to_owned(),
        attempts: d.attempts,
        next_try: d.due_at.map(|t| t.to_string()),
        last_error: d.last_error.clone(),
    }
}
