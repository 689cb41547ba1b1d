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
    store::{Change, Unreadable},
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

    /// Did a source say so?
    pub(crate) fn is_source(&self) -> bool {
        self.actor.is_none() && ["scim", "feed", "pull"].contains(&self.via)
    }

    /// Did a source say so that tells of people one by one? A run of one that is read is looked at as a whole.
    pub(crate) fn is_push(&self) -> bool {
        self.actor.is_none() && self.via == "scim"
    }

    /// The call, unless what it changes began with that very call.
    pub(crate) fn unless(&self, correlation: CorrelationId) -> Option<CorrelationId> {
        (self.correlation != correlation).then_some(self.correlation)
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
            cause: None,
            details,
        })
    }

    /// What happened to a grant.
    pub(crate) fn grant_event(
        &self,
        cause: &Cause,
        action: &'static str,
        g: &Grant,
        details: Value,
    ) -> Result<Event, BrokerError> {
        let mut event = self.event(cause, action, details)?;
        event.correlation = g.correlation;
        event.cause = g.ended_by.or(cause.unless(g.correlation));
        event.subject = Some(g.holder);
        event.request = Some(g.request);
        event.grant = Some(g.id);
        event.target = Some(g.target.to_string());
        tracing::debug!(action, grant = %g.id, target = %g.target, "grant");
        Ok(event)
    }

    /// Record what happened to a grant: audit event, log line, and a message for whoever wants to know.
    pub(crate) fn note_grant(
        &self,
        into: &mut impl AsMut<Change>,
        cause: &Cause,
        action: &'static str,
        g: &Grant,
        details: Value,
    ) -> Result<(), BrokerError> {
        let event = self.grant_event(cause, action, g, details)?;
        self.want_of_grant(into.as_mut(), action, g, &event.details, cause.now);
        self.note(into, event)
    }

    /// Record that a grant does not decode: it is left to people, and harms no other.
    pub(crate) fn note_unreadable(
        &self,
        into: &mut impl AsMut<Change>,
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
        self.note(into, event)
    }

    /// Record what happened to a request.
    pub(crate) fn note_request(
        &self,
        into: &mut impl AsMut<Change>,
        cause: &Cause,
        action: &'static str,
        r: &Request,
        details: Value,
    ) -> Result<(), BrokerError> {
        let mut event = self.event(cause, action, details)?;
        event.correlation = r.correlation;
        event.cause = cause.unless(r.correlation);
        event.subject = Some(r.subject);
        event.request = Some(r.id);
        tracing::debug!(action, request = %r.id, "request");
        self.want_of_request(into.as_mut(), action, r, &event.details, cause.now);
        self.note(into, event)
    }

    /// Record anything else.
    pub(crate) fn note(&self, into: &mut impl AsMut<Change>, event: Event) -> Result<(), BrokerError> {
        let change = into.as_mut();
        self.notify(change, &event)?;
        change.audit(event);
        Ok(())
    }

    /// Record an event in a change of its own.
    pub(crate) async fn note_alone(&self, event: Event) -> Result<(), BrokerError> {
        let mut change = Change::default();
        self.note(&mut change, event)?;
        self.store.write(change).await?;
        Ok(())
    }

    fn notify(&self, change: &mut Change, event: &Event) -> Result<(), BrokerError> {
        if self.settings.notifiers.is_empty() || !WORTH_TELLING.contains(&event.action.as_str()) {
            return Ok(());
        }
        let data = json!({
            "event": event.id, "actor": event.actor, "subject": event.subject, "request": event.request,
            "grant": event.grant, "target": event.target, "correlation_id": event.correlation, "cause": event.cause,
            "details": event.details,
        });
        for notifier in &self.settings.notifiers {
            let message = Message {
                id: MessageId::new(self.entropy.ulid(event.at)?),
                kind: format!("access.{}", event.action),
                at: event.at,
                data: data.clone(),
            };
            change.message(notifier, message);
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
    "request.cancelled",
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
    "identity.offboarded",
    "identity.reconsidered",
    "workload.orphaned",
    "identity.orphaned",
    "identity.unused",
    "source.held",
    "source.collision",
    "account.not_verified",
    "account.failed",
    "task.created",
    "task.overdue",
    "source.stopped",
    "source.conflict",
];
