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
    store::{Change, NewMessage, SlackWish},
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

fn stale_homes(into: &mut Change, of: &[IdentityId], now: Timestamp) {
    let mut before = None;
    for id in of {
        if before.replace(*id) != Some(*id) {
            into.slack.push(SlackWish::Home(*id, now));
        }
    }
}

impl Broker {
    /// Something happened to a request.
    pub(in crate::broker) fn want_of_request(
        &self,
        into: &mut Change,
        action: &str,
        r: &Request,
        details: &Value,
        now: Timestamp,
    ) {
        if self.settings.slack.is_none() {
            return;
        }
        let id = r.id.to_string();
        let with = |kind, about: &str| NewMessage { request: id.clone(), ..message(kind, about, now) };
        match action {
            "request.created" => {
                if r.state == RequestState::Pending && trust_of(&self.policy(), r) > SlackDecision::None {
                    into.slack.push(SlackWish::Message(with(SlackSheet::Request, &id)));
                    into.slack.push(SlackWish::Message(with(SlackSheet::Tier, &id)));
                }
            }
            "approval.recorded" => {
                into.slack.push(SlackWish::Stale(id.clone(), now));
                let approval = details.get("approval").and_then(Value::as_str).unwrap_or_default();
                if approval.parse::<ApprovalId>().is_ok() && trust_of(&self.policy(), r) > SlackDecision::None {
                    into.slack.push(SlackWish::Message(with(SlackSheet::Decision, &format!("{id}:{approval}"))));
                }
            }
            "request.approved" | "request.denied" | "request.lapsed" => {
                into.slack.push(SlackWish::Stale(id.clone(), now));
                let to = NewMessage { to: Some(r.requester), ..with(SlackSheet::Outcome, &id) };
                into.slack.push(SlackWish::Message(to));
            }
            _ => {
                into.slack.push(SlackWish::Stale(id.clone(), now));
            }
        }
        stale_homes(into, &[r.requester, r.subject], now);
    }

    /// Something happened to a grant.
    pub(in crate::broker) fn want_of_grant(
        &self,
        into: &mut Change,
        action: &str,
        g: &Grant,
        details: &Value,
        now: Timestamp,
    ) {
        if self.settings.slack.is_none() {
            return;
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
        into.slack.push(SlackWish::Stale(request.clone(), now));
        if let Some(end) = end
            && let Some(at) = told_at(g.activated_at.unwrap_or(now), end)
        {
            let about = format!("{id}:{}", end.seconds());
            into.slack.push(SlackWish::Message(with(SlackSheet::Ending, &about, at)));
        }
        if matches!(action, "grant.ended" | "grant.failed") {
            into.slack.push(SlackWish::Message(with(SlackSheet::Ended, &id, now)));
        }
        stale_homes(into, &[g.holder], now);
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
