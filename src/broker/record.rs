//! Audit events and outbox messages: how a change says what it did.

use serde_json::{Value, json};

use super::{Broker, BrokerError, Ctx};
use crate::{
    domain::{
        audit::Event,
        grant::Grant,
        id::{CorrelationId, EventId, IdentityId, MessageId},
        request::Request,
        time::Timestamp,
    },
    ports::notifier::Message,
    store::{Tx, Unreadable},
};

/// From what a change follows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cause {
    pub(crate) actor: Option<IdentityId>,
    pub(crate) via: &'static str,
    pub(crate) correlation: CorrelationId,
    pub(crate) now: Timestamp,
}

impl From<&Ctx> for Cause {
    fn from(ctx: &Ctx) -> Self {
        Self { actor: Some(ctx.actor_id()), via: ctx.via, correlation: ctx.correlation, now: ctx.now }
    }
}

impl Cause {
    /// The broker itself, on behalf of what began with that call.
    pub(crate) const fn worker(correlation: CorrelationId, now: Timestamp) -> Self {
        Self { actor: None, via: "worker", correlation, now }
    }
}

impl Broker {
    pub(crate) fn event(&self, cause: &Cause, action: &str, details: Value) -> Result<Event, BrokerError> {
        Ok(Event {
            id: EventId::new(self.entropy.ulid(cause.now)?),
            at: cause.now,
            action: action.to_owned(),
            actor: cause.actor,
            via: cause.via.to_owned(),
            subject: None,
            request: None,
            grant: None,
            target: None,
            correlation: cause.correlation,
            details,
        })
    }

    /// Record what happened to a grant: audit event, log line, and a message for whoever wants to know.
    pub(crate) async fn note_grant(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        action: &'static str,
        g: &Grant,
        details: Value,
    ) -> Result<(), BrokerError> {
        let mut event = self.event(cause, action, details)?;
        event.correlation = g.correlation;
        event.subject = Some(g.holder);
        event.request = Some(g.request);
        event.grant = Some(g.id);
        event.target = Some(g.target.to_string());
        tracing::debug!(action, grant = %g.id, target = %g.target, "grant");
        self.notify(tx, &event).await?;
        self.want_of_grant(tx, action, g, &event.details, cause.now).await?;
        tx.audit(event);
        Ok(())
    }

    /// Record that a grant does not decode: it is left to people, and harms no other.
    pub(crate) async fn note_unreadable(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        row: &Unreadable,
    ) -> Result<(), BrokerError> {
        metrics::counter!("tidegate_corrupt_rows_total").increment(1);
        tracing::error!(error = %row.error, "a grant does not decode");
        if !row.changed {
            return Ok(());
        }
        let details = json!({"row": row.id, "error": row.error.to_string()});
        let mut event = self.event(cause, "grant.unreadable", details)?;
        event.grant = row.id.parse().ok();
        self.note(tx, event).await
    }

    /// Record what happened to a request.
    pub(crate) async fn note_request(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        action: &'static str,
        r: &Request,
        details: Value,
    ) -> Result<(), BrokerError> {
        let mut event = self.event(cause, action, details)?;
        event.correlation = r.correlation;
        event.subject = Some(r.subject);
        event.request = Some(r.id);
        tracing::debug!(action, request = %r.id, "request");
        self.notify(tx, &event).await?;
        self.want_of_request(tx, action, r, &event.details, cause.now).await?;
        tx.audit(event);
        Ok(())
    }

    /// Record anything else.
    pub(crate) async fn note(&self, tx: &mut Tx, event: Event) -> Result<(), BrokerError> {
        self.notify(tx, &event).await?;
        tx.audit(event);
        Ok(())
    }

    /// Record an event in a change of its own.
    pub(crate) async fn note_alone(&self, event: Event) -> Result<(), BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let written = self.note(&mut tx, event.clone()).await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    async fn notify(&self, tx: &mut Tx, event: &Event) -> Result<(), BrokerError> {
        if self.settings.notifiers.is_empty() || !WORTH_TELLING.contains(&event.action.as_str()) {
            return Ok(());
        }
        let data = json!({
            "event": event.id, "actor": event.actor, "subject": event.subject, "request": event.request,
            "grant": event.grant, "target": event.target, "correlation_id": event.correlation,
            "details": event.details,
        });
        for notifier in &self.settings.notifiers {
            let message = Message {
                id: MessageId::new(self.entropy.ulid(event.at)?),
                kind: format!("access.{}", event.action),
                at: event.at,
                data: data.clone(),
            };
            tx.insert_message(notifier, &message).await?;
        }
        Ok(())
    }
}

/// What people outside want to hear about.
const WORTH_TELLING: &[&str] = &[
    "request.created",
    "request.approved",
    "request.denied",
    "request.lapsed",
    "grant.active",
    "grant.ended",
    "grant.failed",
    "grant.quarantined",
    "grant.attested",
    "grant.unreadable",
    "grant.drift",
    "orphan.found",
    "lock.created",
    "lock.lifted",
];
