//! What people did, carried out: one verb of the broker each, as the person whom the account acts as. The verbs
//! authorise, with the facts and the policy of this moment.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Slack,
    blocks::{actions, link, section},
    forms,
    payload::Reply,
    people::{Account, Stopped},
    receive::{Form, LINK_FIRST, UNAVAILABLE},
    sheets::span,
    words,
};
use crate::{
    broker::{
        BrokerError, Ctx,
        input::{Ask, Decide, Extend},
        slack::page::RequestPage,
        view::Asked,
    },
    domain::{
        id::RequestId,
        request::RequestState,
        secret::Secret,
        slack::{SlackCommand, SlackDeed, SlackUser},
    },
};

/// What nobody carried out for so long is dropped: whoever clicked has long looked again.
const STALE: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_secs(1);

/// What its reader is told.
enum Said {
    /// Nothing: the messages say it.
    Done,
    /// A line.
    Line(String),
    /// The request that was made, for its form.
    View(Value),
    /// Link first.
    Link(Account),
    /// Nothing, to somebody who is not one of ours.
    Silence,
    /// The broker could not; it will be tried again.
    Later,
}

impl Slack {
    /// Take up what was kept and not carried out, because whoever kept it died.
    pub(super) async fn carry_out_kept(self: Arc<Self>) {
        while self.pause(TICK).await {
            if self.broker.is_observing() {
                continue;
            }
            match self.broker.lease_slack_commands(32).await {
                Ok(commands) => {
                    for command in commands {
                        let reply =
                            Reply { address: None, channel: command.channel.clone(), message: command.message.clone() };
                        Arc::clone(&self).carry(command, reply).await;
                    }
                }
                Err(error) => tracing::warn!(error = %error, "kept commands could not be read; trying again"),
            }
        }
    }

    /// Carry it out and say what became of it.
    pub(super) async fn carry(self: Arc<Self>, command: SlackCommand, reply: Reply) {
        let stale = self.broker.now().since(command.received) > STALE;
        let said = if stale { Said::Line(UNAVAILABLE.to_owned()) } else { self.perform(&command).await };
        if !matches!(said, Said::Later)
            && let Err(error) = self.broker.settle_slack_command(&command).await
        {
            tracing::warn!(error = %error, "a command could not be settled; it is tried again, which is harmless");
        }
        // Whatever hangs there shows the present state, also if nothing was decided.
        if let SlackDeed::Decide { request, .. } = &command.deed
            && !command.message.is_empty()
            && let Err(error) =
                self.broker.slack_message_seen(&request.to_string(), &command.channel, &command.message).await
        {
            tracing::warn!(error = %error, "a message could not be marked for repair");
        }
        let form =
            command.message.is_empty() && matches!(command.deed, SlackDeed::Decide { .. } | SlackDeed::Ask { .. });
        if form {
            let form = Form { by: command.by.clone(), view: command.at.clone() };
            let view = match said {
                Said::Done => forms::said_so("✅ Recorded.", None),
                Said::Line(text) => forms::said_so(&text, None),
                Said::View(view) => view,
                Said::Link(account) => match self.link_address(&command.by, &account).await {
                    Some(url) => forms::said_so(LINK_FIRST, Some(("Link your account", &url))),
                    None => forms::said_so(UNAVAILABLE, None),
                },
                Said::Silence => return,
                Said::Later => forms::said_so("It is kept, and done as soon as the broker can.", None),
            };
            self.show(&form, view).await;
            return;
        }
        match said {
            Said::Done | Said::Silence | Said::View(_) => {}
            Said::Line(text) => self.tell(&command.by, &reply, &text, None).await,
            Said::Link(account) => match self.link_address(&command.by, &account).await {
                Some(url) => self.tell(&command.by, &reply, LINK_FIRST, Some(("Link your account", &url))).await,
                None => self.tell(&command.by, &reply, UNAVAILABLE, None).await,
            },
            Said::Later => {
                self.tell(&command.by, &reply, "It is kept, and done as soon as the broker can.", None).await;
            }
        }
    }

    async fn perform(self: &Arc<Self>, command: &SlackCommand) -> Said {
        let ctx = match self.people.person(self.chat.as_ref(), &self.broker, &command.by).await {
            Ok(ctx) => ctx,
            Err(Stopped::Outsider(why)) => {
                self.outsider(&command.by, why).await;
                return Said::Silence;
            }
            Err(Stopped::NotLinked(account)) => return Said::Link(account),
            // Who it is cannot be known: nothing is decided, now or later.
            Err(Stopped::Unavailable) => return Said::Line(UNAVAILABLE.to_owned()),
        };
        if let Err(error) = self.broker.note_slack_command(&ctx, command).await {
            tracing::warn!(error = %error, "a command could not be recorded");
            return Said::Later;
        }
        match &command.deed {
            SlackDeed::Decide { .. } => self.decide(&ctx, command).await,
            SlackDeed::Ask { entitlements, duration, reason, ticket } => {
                let key = format!("slack:{}", command.at);
                let body = serde_json::to_vec(&command.deed).unwrap_or_default();
                let ask = Ask {
                    entitlements: entitlements.clone(),
                    duration: *duration,
                    reason: reason.clone(),
                    ticket: ticket.clone(),
                    idempotency: Some((key, body)),
                    ..Ask::default()
                };
                match self.broker.ask(&ctx, ask).await {
                    Ok(Asked::Recorded(view) | Asked::Repeated(view)) => {
                        Said::View(forms::sent(&view, &self.settings.portal))
                    }
                    Ok(Asked::Planned(_)) => Said::Done,
                    Err(error) => said(&error, None),
                }
            }
            SlackDeed::Extend { grant, from } => match self.broker.extension_of(&ctx, *grant).await {
                Ok(Some(duration)) => {
                    let extend =
                        Extend { duration, reason: "extended in Slack".to_owned(), from: *from, idempotency: None };
                    match self.broker.extend(&ctx, *grant, extend).await {
                        Ok(_) => Said::Line(format!("Extended by {}.", span(duration.seconds()))),
                        Err(error) => said(&error, None),
                    }
                }
                Ok(None) => Said::Line("It lasts as long as it may already. Ask again when it ends.".to_owned()),
                Err(error) => said(&error, None),
            },
            SlackDeed::Release { grant } => match self.broker.release(&ctx, *grant).await {
                Ok(_) => Said::Done,
                Err(error) => said(&error, None),
            },
        }
    }

    async fn decide(&self, ctx: &Ctx, command: &SlackCommand) -> Said {
        let SlackDeed::Decide { request, terms, approve, comment, duration, confirmed } = &command.deed else {
            return Said::Done;
        };
        let (comment, terms) = (comment.clone(), Some(terms.clone()));
        let decide = Decide { comment, duration: *duration, terms, confirmed: *confirmed };
        let done = if *approve {
            self.broker.approve(ctx, *request, decide).await
        } else {
            self.broker.deny(ctx, *request, decide).await
        };
        match done {
            Ok(_) => Said::Done,
            Err(error) => said(&error, self.as_it_is_now(ctx, *request, &error).await.ok().as_ref()),
        }
    }

    /// The request after a refusal. Whoever decided first may be on the way to disk still: its commit is awaited.
    async fn as_it_is_now(
        &self,
        ctx: &Ctx,
        request: RequestId,
        error: &BrokerError,
    ) -> Result<RequestPage, BrokerError> {
        let mut committed = self.broker.committed();
        for _ in 0..10 {
            let page = self.broker.slack_request(ctx, request).await?;
            if !matches!(error, BrokerError::State(_)) || page.request.state != RequestState::Pending {
                return Ok(page);
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), committed.changed()).await;
        }
        self.broker.slack_request(ctx, request).await
    }

    /// Where somebody links the account; the code is fresh.
    pub(super) async fn link_address(&self, by: &SlackUser, account: &Account) -> Option<String> {
        match self.broker.offer_slack_link(by, &account.shown_name, &account.avatar).await {
            Ok(code) => Some(format!("{}/slack/link?code={}", self.settings.portal, code.expose())),
            Err(error) => {
                tracing::warn!(error = %error, "no code could be made for somebody who wants to link");
                None
            }
        }
    }

    /// Say something that only its reader sees: once at the address that came with the click, else in the channel.
    pub(super) async fn tell(&self, by: &SlackUser, reply: &Reply, text: &str, to: Option<(&str, &str)>) {
        let mut blocks = vec![section(text)];
        if let Some((label, url)) = to {
            blocks.push(actions("link", vec![link(label, url, label)]));
        }
        if let Some(address) = &reply.address {
            let message = json!({
                "response_type": "ephemeral", "replace_original": false, "text": text, "blocks": blocks,
            });
            match self.answer_once(address, &message).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(error, "an answer did not go out; it is tried in the channel"),
            }
        }
        if reply.channel.is_empty() {
            return;
        }
        let message = json!({"channel": reply.channel, "user": by.user, "text": text, "blocks": blocks});
        if let Err(error) = self.chat.call("chat.postEphemeral", &message).await {
            tracing::debug!(error = %error, "an answer did not go out");
        }
    }

    async fn answer_once(&self, address: &Secret, message: &Value) -> Result<(), String> {
        self.chat.answer(address, message).await.map_err(|e| e.to_string())
    }
}

/// A refusal is final; that the ledger could not be reached is not.
fn said(error: &BrokerError, page: Option<&RequestPage>) -> Said {
    match error {
        BrokerError::Store(_) | BrokerError::Closing => Said::Later,
        other => Said::Line(words::refusal(other, page)),
    }
}
