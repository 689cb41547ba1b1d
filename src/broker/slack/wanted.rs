//! Which messages a change asks for: rows written in the commit of the change. What they say is read from the ledger
//! when they are sent.

use std::time::Duration;

use serde_json::Value;

use super::terms::trust_of;
use crate::{
    broker::{Broker, BrokerError},
    domain::{
        grant::Grant,
        id::{ApprovalId, IdentityId},
        request::{Request, RequestState},
        slack::{SlackDecision, SlackSheet},
        time::Timestamp,
    },
    store::{NewMessage, Tx},
};

/// A holder is told this long before the end…
pub(super) const BEFORE_END: Duration = Duration::from_secs(600);
/// …of a grant that lasts longer than this.
const LONG_ENOUGH: Duration = Duration::from_secs(900);

/// When to tell the holder that it ends, if at all.
pub(super) fn told_at(from: Timestamp, end: Timestamp) -> Option<Timestamp> {
    (end.since(from) > LONG_ENOUGH).then(|| end.minus_std(BEFORE_END))
}

fn message(kind: SlackSheet, about: &str, due_at: Timestamp) -> NewMessage<'static> {
    NewMessage {
        id: format!("{}:{about}", kind.as_str()),
        kind,
        request: String::new(),
        grant: String::new(),
        to: None,
        at: None,
        due_at,
    }
}

impl Broker {
    /// Something happened to a request.
    pub(in crate::broker) async fn want_of_request(
        &self,
        tx: &mut Tx,
        action: &str,
        r: &Request,
        details: &Value,
        now: Timestamp,
    ) -> Result<(), BrokerError> {
        if self.settings.slack.is_none() {
            return Ok(());
        }
        let id = r.id.to_string();
        let with = |kind, about: &str| NewMessage { request: id.clone(), ..message(kind, about, now) };
        match action {
            "request.created" => {
                if r.state == RequestState::Pending && trust_of(&self.policy(), r) > SlackDecision::None {
                    tx.want_slack_message(&with(SlackSheet::Request, &id)).await?;
                    tx.want_slack_message(&with(SlackSheet::Tier, &id)).await?;
                }
            }
            "approval.recorded" => {
                tx.stale_slack_messages(&id, now).await?;
                let approval = details.get("approval").and_then(Value::as_str).unwrap_or_default();
                if approval.parse::<ApprovalId>().is_ok() && trust_of(&self.policy(), r) > SlackDecision::None {
                    tx.want_slack_message(&with(SlackSheet::Decision, &format!("{id}:{approval}"))).await?;
                }
            }
            "request.approved" | "request.denied" | "request.lapsed" => {
                tx.stale_slack_messages(&id, now).await?;
                let to = NewMessage { to: Some(r.requester), ..with(SlackSheet::Outcome, &id) };
                tx.want_slack_message(&to).await?;
            }
            _ => {
                tx.stale_slack_messages(&id, now).await?;
            }
        }
        self.stale_homes(tx, &[r.requester, r.subject], now).await
    }

    /// Something happened to a grant.
    pub(in crate::broker) async fn want_of_grant(
        &self,
        tx: &mut Tx,
        action: &str,
        g: &Grant,
        details: &Value,
        now: Timestamp,
    ) -> Result<(), BrokerError> {
        if self.settings.slack.is_none() {
            return Ok(());
        }
        let (id, request) = (g.id.to_string(), g.request.to_string());
        let with = |kind, about: &str, due| NewMessage {
            request: request.clone(),
            grant: id.clone(),
            to: Some(g.holder),
            ..message(kind, about, due)
        };
        let end = match action {
            "grant.active" => g.not_after,
            "grant.extended" => details.get("to").and_then(Value::as_str).and_then(|t| t.parse().ok()),
            _ => None,
        };
        tx.stale_slack_messages(&request, now).await?;
        if let Some(end) = end
            && let Some(at) = told_at(g.activated_at.unwrap_or(now), end)
        {
            let about = format!("{id}:{}", end.seconds());
            tx.want_slack_message(&with(SlackSheet::Ending, &about, at)).await?;
        }
        if matches!(action, "grant.ended" | "grant.failed") {
            tx.want_slack_message(&with(SlackSheet::Ended, &id, now)).await?;
        }
        self.stale_homes(tx, &[g.holder], now).await
    }

    async fn stale_homes(&self, tx: &mut Tx, of: &[IdentityId], now: Timestamp) -> Result<(), BrokerError> {
        let mut before = None;
        for id in of {
            if before.replace(*id) != Some(*id) {
                tx.stale_slack_home(*id, now).await?;
            }
        }
        Ok(())
    }

    /// A message that somebody clicked: whatever it shows, it is to show the present state. One that is not known (a
    /// copy, or one whose place was lost) is known from here on.
    pub async fn slack_message_seen(&self, request: &str, channel: &str, ts: &str) -> Result<(), BrokerError> {
        let now = self.now();
        in_background!(self, |tx| {
            let known = tx.slack_message_hangs_at(channel, ts, now).await?;
            if !known {
                let copy = NewMessage {
                    request: request.to_owned(),
                    at: Some((channel, ts)),
                    ..message(SlackSheet::Copy, &format!("{channel}:{ts}"), now)
                };
                tx.want_slack_message(&copy).await?;
            }
            Ok(())
        })
    }

    /// Somebody opened their page: it is kept current from here on.
    pub async fn slack_home_opened(&self, user: &str, identity: IdentityId) -> Result<(), BrokerError> {
        let now = self.now();
        let about = format!("{user}:{identity}");
        let id = format!("home:{about}");
        in_background!(self, |tx| {
            if !tx.slack_message_due(&id, now).await? {
                let home =
                    NewMessage { to: Some(identity), at: Some((user, "")), ..message(SlackSheet::Home, &about, now) };
                tx.want_slack_message(&home).await?;
            }
            Ok(())
        })
    }
}
