//! The one handler of all that comes in: look whose it is, keep what changes something, acknowledge, carry out.
//!
//! Slack waits three seconds for the acknowledgement and shows a failure after that. Nothing here waits longer than a
//! second; what takes longer goes on by itself. The address for answers is used at most once and never kept.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    Slack,
    blocks::{actions, link, section},
    forms::{self, Filled},
    payload::{self, Answers, Incoming, Reply, What},
    people::Stopped,
    words,
};
use crate::{
    broker::{BrokerError, Ctx, input::Ask, view::Asked},
    domain::slack::{SlackCommand, SlackDeed, SlackUser},
};

/// An acknowledgement is given after this at the latest.
const ACK: Duration = Duration::from_millis(800);
/// Choices of a search are awaited for this long.
const SEARCH: Duration = Duration::from_millis(2_000);

pub(super) const UNAVAILABLE: &str = "The broker is unavailable; nothing was decided. Try again in a moment.";

/// Whose form it is: where what became of it is shown.
pub(super) struct Form {
    pub(super) by: SlackUser,
    pub(super) view: String,
}

impl Slack {
    /// Take it, and say what Slack is to be answered: null for a bare acknowledgement.
    pub(super) async fn receive(self: &Arc<Self>, incoming: Incoming) -> Value {
        let me = Arc::clone(self);
        match &incoming.what {
            What::Nothing => Value::Null,
            What::Search { .. } => {
                let search = self.broker.track(async move { me.search(incoming).await });
                tokio::time::timeout(SEARCH, search).await.ok().and_then(Result::ok).unwrap_or(json!({"options": []}))
            }
            What::Form { view, .. } => {
                let sending = json!({"response_action": "update", "view": forms::loading()});
                let form = Form { by: incoming.by.clone(), view: view.clone() };
                let mut taking = self.broker.track(async move { me.form(incoming).await });
                if let Ok(taken) = tokio::time::timeout(ACK, &mut taking).await {
                    return taken.unwrap_or(sending);
                }
                // Too late for an answer in the form's own words: they are shown in its place.
                let me = Arc::clone(self);
                self.broker.track(async move {
                    let late = taking.await.unwrap_or_default();
                    if let Some(problem) = late.pointer("/errors").and_then(Value::as_object)
                        && let Some(text) = problem.values().next().and_then(Value::as_str)
                    {
                        me.show(&form, forms::said_so(&super::blocks::escape(text), None)).await;
                    }
                });
                sending
            }
            What::Click { .. } | What::Command { .. } | What::HomeOpened => {
                let taking = self.broker.track(async move { me.take(incoming).await });
                let _ = tokio::time::timeout(ACK, taking).await;
                Value::Null
            }
        }
    }

    /// What Slack lets through and we do not is recorded, and otherwise met with silence.
    async fn at_home(&self, incoming: &Incoming) -> Result<(), Stopped> {
        let checked = self.people.at_home(self.chat.as_ref(), &self.settings.app_id, incoming).await;
        if let Err(Stopped::Outsider(why)) = &checked {
            self.outsider(&incoming.by, why).await;
        }
        checked
    }

    pub(super) async fn outsider(&self, by: &SlackUser, why: &'static str) {
        metrics::counter!("tidegate_slack_outsiders_total").increment(1);
        if let Err(error) = self.broker.note_slack_outsider(by, why).await {
            tracing::warn!(error = %error, why, "somebody outside could not be recorded");
        }
    }

    async fn take(self: &Arc<Self>, incoming: Incoming) {
        match self.at_home(&incoming).await {
            Ok(()) => {}
            Err(Stopped::Outsider(_)) => return,
            Err(_) => {
                if let What::Click { reply, .. } | What::Command { reply, .. } = &incoming.what {
                    self.tell(&incoming.by, reply, UNAVAILABLE, None).await;
                }
                return;
            }
        }
        let by = incoming.by;
        match incoming.what {
            What::Command { text, trigger, reply } => {
                let filled = Filled { reason: text, ..Filled::default() };
                let me = Arc::clone(self);
                self.broker.track(async move { me.open_ask(by, trigger, reply, None, filled).await });
            }
            What::Click { action, value, trigger, at, reply } => {
                self.click(by, action, value, trigger, at, reply).await;
            }
            What::HomeOpened => {
                let me = Arc::clone(self);
                self.broker.track(async move { me.home_opened(by).await });
            }
            _ => {}
        }
    }

    async fn click(
        self: &Arc<Self>,
        by: SlackUser,
        action: String,
        value: String,
        trigger: String,
        at: String,
        reply: Reply,
    ) {
        let deed = match action.as_str() {
            "approve" | "deny" => payload::decided(&value).map(|(request, terms)| SlackDeed::Decide {
                request,
                terms,
                approve: action == "approve",
                comment: String::new(),
                duration: None,
                confirmed: false,
            }),
            "extend" => payload::grant_until(&value).map(|(grant, from)| SlackDeed::Extend { grant, from }),
            "release" => payload::grant(&value).map(|grant| SlackDeed::Release { grant }),
            _ => None,
        };
        let me = Arc::clone(self);
        if let Some(deed) = deed {
            let command = SlackCommand {
                by,
                deed,
                channel: reply.channel.clone(),
                message: reply.message.clone(),
                at,
                received: self.broker.now(),
            };
            self.keep_and_carry(command, reply).await;
            return;
        }
        match action.as_str() {
            "review" => {
                self.broker.track(async move { me.open_review(by, trigger, reply, value).await });
            }
            "request" => {
                self.broker.track(async move { me.open_ask(by, trigger, reply, None, Filled::default()).await });
            }
            "again" => {
                self.broker.track(async move { me.open_ask(by, trigger, reply, Some(value), Filled::default()).await });
            }
            "let_end" => {
                let text = "Fine. It ends by itself at the time shown.";
                self.broker.track(async move { me.tell(&by, &reply, text, None).await });
            }
            // Buttons that only open a page, and what is not ours.
            _ => {}
        }
    }

    /// Durable first; a repeated delivery is dropped here.
    async fn keep_and_carry(self: &Arc<Self>, command: SlackCommand, reply: Reply) {
        match self.broker.record_slack_command(&command).await {
            Ok(true) => {
                let me = Arc::clone(self);
                self.broker.track(async move { me.carry(command, reply).await });
            }
            Ok(false) => tracing::debug!(command = command.key(), "delivered before"),
            Err(error) => {
                tracing::warn!(error = %error, "what somebody did in Slack could not be kept; they are told");
                self.tell(&command.by, &reply, UNAVAILABLE, None).await;
            }
        }
    }

    async fn search(&self, incoming: Incoming) -> Value {
        let none = json!({"options": []});
        let What::Search { typed } = &incoming.what else { return none };
        if self.at_home(&incoming).await.is_err() {
            return none;
        }
        match self.people.person(self.chat.as_ref(), &self.broker, &incoming.by).await {
            Ok(ctx) => match self.broker.entitlements(&ctx).await {
                Ok(list) => forms::choices(&list.items, typed),
                Err(_) => none,
            },
            Err(_) => none,
        }
    }

    /// A form was sent: say at once what is wrong with it, or keep it.
    async fn form(self: &Arc<Self>, incoming: Incoming) -> Value {
        let closed = json!({"response_action": "clear"});
        let update = |text: &str| json!({"response_action": "update", "view": forms::said_so(text, None)});
        match self.at_home(&incoming).await {
            Ok(()) => {}
            Err(Stopped::Outsider(_)) => return closed,
            Err(_) => return update(UNAVAILABLE),
        }
        let by = incoming.by;
        let What::Form { callback, view, metadata, state } = incoming.what else { return Value::Null };
        let ctx = match self.people.person(self.chat.as_ref(), &self.broker, &by).await {
            Ok(ctx) => ctx,
            Err(Stopped::Outsider(why)) => {
                self.outsider(&by, why).await;
                return closed;
            }
            Err(Stopped::NotLinked(_)) => return update("Link your account first: click in Slack again."),
            Err(Stopped::Unavailable) => return update(UNAVAILABLE),
        };
        let answers = Answers::of(&state);
        let deed = match callback.as_str() {
            "ask" => {
                if let Some(problem) = self.wrong_with(&ctx, &answers).await {
                    return problem;
                }
                SlackDeed::Ask {
                    entitlements: vec![answers.entitlement],
                    duration: answers.duration,
                    reason: answers.reason,
                    ticket: Some(answers.ticket).filter(|t| !t.trim().is_empty()),
                }
            }
            "approve" => {
                let Some((request, terms)) = payload::decided(&metadata) else { return closed };
                let Answers { comment, duration, .. } = answers;
                SlackDeed::Decide { request, terms, approve: true, comment, duration, confirmed: true }
            }
            _ => return closed,
        };
        let (channel, message) = (String::new(), String::new());
        let command = SlackCommand { by, deed, channel, message, at: view, received: self.broker.now() };
        match self.broker.record_slack_command(&command).await {
            Ok(true) => {
                let me = Arc::clone(self);
                self.broker.track(async move { me.carry(command, Reply::default()).await });
                json!({"response_action": "update", "view": forms::loading()})
            }
            Ok(false) => json!({"response_action": "update", "view": forms::loading()}),
            Err(_) => update(UNAVAILABLE),
        }
    }

    /// The same as asking, without asking: what would be wrong, by the question that it is about.
    async fn wrong_with(&self, ctx: &Ctx, answers: &Answers) -> Option<Value> {
        let errors = |block: &str, text: &str| Some(json!({"response_action": "errors", "errors": {block: text}}));
        if answers.reason.trim().is_empty() {
            return errors("reason", "Say why, in a few words.");
        }
        let ask = Ask { dry_run: true, ..asked(answers) };
        match self.broker.ask(ctx, ask).await {
            Ok(Asked::Planned(plan)) if plan.verdict == crate::domain::decision::Verdict::Denied => {
                let unmet = plan.entitlements.iter().flat_map(|e| &e.conditions).find(|c| !c.met);
                let why = unmet.map(|c| format!(": it is needed that {}", c.text)).unwrap_or_default();
                errors("entitlement", &format!("Policy does not allow this{why}."))
            }
            Ok(_) => None,
            Err(BrokerError::Invalid { field, problem }) => {
                let block = match field {
                    "duration" | "reason" | "ticket" => field,
                    _ => "entitlement",
                };
                errors(block, &problem)
            }
            Err(error) => errors("entitlement", &words::refusal(&error, None)),
        }
    }

    /// Open a form at once, for the trigger lives three seconds, and fill it when it is known with what.
    async fn open(&self, by: &SlackUser, trigger: &str, reply: &Reply) -> Option<Form> {
        match self.people.account(self.chat.as_ref(), by, self.broker.now()).await {
            Ok(_) => {}
            Err(Stopped::Outsider(why)) => {
                self.outsider(by, why).await;
                return None;
            }
            Err(_) => {
                self.tell(by, reply, UNAVAILABLE, None).await;
                return None;
            }
        }
        let opened = self.chat.call("views.open", &json!({"trigger_id": trigger, "view": forms::loading()})).await;
        match opened {
            Ok(answer) => {
                let view = answer.pointer("/view/id").and_then(Value::as_str).unwrap_or_default().to_owned();
                Some(Form { by: by.clone(), view })
            }
            Err(error) => {
                tracing::debug!(error = %error, "a form could not be opened");
                self.tell(by, reply, "That took too long. Click again.", None).await;
                None
            }
        }
    }

    pub(super) async fn show(&self, form: &Form, view: Value) {
        let arguments = json!({"view_id": form.view, "view": view});
        if let Err(error) = self.chat.call("views.update", &arguments).await {
            tracing::debug!(error = %error, "a form could not be changed; its reader closed it");
        }
    }

    async fn open_ask(&self, by: SlackUser, trigger: String, reply: Reply, again: Option<String>, mut filled: Filled) {
        let Some(form) = self.open(&by, &trigger, &reply).await else { return };
        let Some(ctx) = self.person_or_link(&form).await else { return };
        if let Some(id) = again.and_then(|id| id.parse().ok())
            && let Ok(page) = self.broker.slack_request(&ctx, id).await
            && page.request.requester.id == ctx.actor_id().to_string()
        {
            filled = Filled::again(&page);
        }
        self.show(&form, forms::ask(&filled)).await;
    }

    async fn open_review(&self, by: SlackUser, trigger: String, reply: Reply, value: String) {
        let Some((request, terms)) = payload::decided(&value) else { return };
        let Some(form) = self.open(&by, &trigger, &reply).await else { return };
        let Some(ctx) = self.person_or_link(&form).await else { return };
        let view = match self.broker.slack_request(&ctx, request).await {
            Err(error) => forms::said_so(&words::refusal(&error, None), None),
            Ok(page) if page.request.state != crate::domain::request::RequestState::Pending => {
                forms::said_so(&words::decided(&page), None)
            }
            Ok(page) if page.terms != terms => {
                forms::said_so("The terms changed since they were shown. Look at the message again.", None)
            }
            Ok(page) => forms::approve(&page),
        };
        self.show(&form, view).await;
        if let Err(error) = self.broker.slack_message_seen(&request.to_string(), &reply.channel, &reply.message).await {
            tracing::warn!(error = %error, "a message could not be marked for repair");
        }
    }

    async fn person_or_link(&self, form: &Form) -> Option<Ctx> {
        match self.people.person(self.chat.as_ref(), &self.broker, &form.by).await {
            Ok(ctx) => Some(ctx),
            Err(Stopped::Outsider(why)) => {
                self.outsider(&form.by, why).await;
                self.show(form, forms::said_so("Nothing to show.", None)).await;
                None
            }
            Err(Stopped::NotLinked(account)) => {
                let view = match self.link_address(&form.by, &account).await {
                    Some(url) => forms::said_so(LINK_FIRST, Some(("Link your account", &url))),
                    None => forms::said_so(UNAVAILABLE, None),
                };
                self.show(form, view).await;
                None
            }
            Err(Stopped::Unavailable) => {
                self.show(form, forms::said_so(UNAVAILABLE, None)).await;
                None
            }
        }
    }

    async fn home_opened(&self, by: SlackUser) {
        match self.people.person(self.chat.as_ref(), &self.broker, &by).await {
            Ok(ctx) => {
                if let Err(error) = self.broker.slack_home_opened(&by.user, ctx.actor_id()).await {
                    tracing::warn!(error = %error, "somebody's page could not be kept");
                }
            }
            Err(Stopped::NotLinked(account)) => {
                let Some(url) = self.link_address(&by, &account).await else { return };
                let blocks =
                    json!([section(LINK_FIRST), actions("link", vec![link("Link your account", &url, "Link")])]);
                let view = json!({"type": "home", "blocks": blocks});
                let _ = self.chat.call("views.publish", &json!({"user_id": by.user, "view": view})).await;
            }
            Err(Stopped::Outsider(why)) => self.outsider(&by, why).await,
            Err(Stopped::Unavailable) => {}
        }
    }
}

/// What somebody who is not linked yet is told.
pub(super) const LINK_FIRST: &str = "This Slack account acts for nobody in Tidegate yet. Link it once: you sign in, compare, and confirm. The link works \
     for 10 minutes.";

pub(super) fn asked(answers: &Answers) -> Ask {
    Ask {
        entitlements: vec![answers.entitlement.clone()],
        duration: answers.duration,
        reason: answers.reason.clone(),
        ticket: Some(answers.ticket.clone()).filter(|t| !t.trim().is_empty()),
        ..Ask::default()
    }
}
