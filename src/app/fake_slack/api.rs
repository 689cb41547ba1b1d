//! The Web API: the methods that are used, with the errors that Slack answers.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{APP, CHANNEL, FakeSlack, Hanging, OpenView, TEAM, check};

type Fake = Arc<FakeSlack>;

pub(super) fn routes() -> Router<Fake> {
    Router::new().route("/api/{method}", post(call)).route("/respond/{id}", post(respond))
}

async fn call(
    State(fake): State<Fake>,
    Path(method): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut arguments: Map<String, Value> = serde_json::from_slice(&body).unwrap_or_default();
    arguments.extend(query.into_iter().map(|(k, v)| (k, Value::String(v))));
    let arguments = Value::Object(arguments);
    {
        let mut state = fake.lock();
        if state.down {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        state.calls.push((method.clone(), arguments.clone()));
        if let Some((times, wait)) = state.limited.get_mut(&method).filter(|(times, _)| *times > 0) {
            *times -= 1;
            let answer = Json(json!({"ok": false, "error": "ratelimited"}));
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, wait.to_string())], answer).into_response();
        }
    }
    let wanted = if method == "apps.connections.open" { &fake.app_token } else { &fake.bot_token };
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let result =
        if given == format!("Bearer {wanted}") { fake.method(&method, &arguments) } else { Err("invalid_auth") };
    fake.touch();
    if let Some(times) = fake.lock().unheard.get_mut(&method).filter(|times| **times > 0) {
        *times -= 1;
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    Json(match result {
        Ok(mut answer) => {
            if let Some(fields) = answer.as_object_mut() {
                fields.insert("ok".to_owned(), true.into());
            }
            answer
        }
        Err(error) => json!({"ok": false, "error": error}),
    })
    .into_response()
}

/// An answer at an address that came with an interaction: five times.
async fn respond(State(fake): State<Fake>, Path(id): Path<String>, Json(message): Json<Value>) -> StatusCode {
    let found = {
        let mut state = fake.lock();
        match state.answers.get_mut(&id) {
            Some((channel, user, uses)) if *uses < 5 => {
                *uses += 1;
                Some((channel.clone(), user.clone()))
            }
            _ => None,
        }
    };
    let Some((channel, user)) = found else { return StatusCode::NOT_FOUND };
    fake.hang(&channel, &message, Some(user));
    StatusCode::OK
}

fn text<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl FakeSlack {
    fn method(&self, method: &str, arguments: &Value) -> Result<Value, &'static str> {
        match method {
            "auth.test" => Ok(json!({
                "url": self.url(), "team": "Fake", "user": "tidegate", "team_id": TEAM, "user_id": "U0BOT",
                "bot_id": "B0BOT", "is_enterprise_install": false, "app_id": APP,
            })),
            "users.info" => {
                let state = self.lock();
                state.users.get(text(arguments, "user")).map(|u| json!({"user": u})).ok_or("user_not_found")
            }
            "conversations.info" => match text(arguments, "channel") {
                CHANNEL => Ok(json!({"channel": {"id": CHANNEL, "name": "access", "is_member": true}})),
                _ => Err("channel_not_found"),
            },
            "chat.postMessage" => {
                check::message(arguments.get("blocks").unwrap_or(&Value::Null))?;
                let channel = self.channel(text(arguments, "channel"))?;
                let hanging = self.hang(&channel, arguments, None);
                Ok(json!({"channel": channel, "ts": hanging.ts}))
            }
            "chat.postEphemeral" => {
                check::message(arguments.get("blocks").unwrap_or(&Value::Null))?;
                let user = text(arguments, "user");
                if !self.lock().users.contains_key(user) {
                    return Err("user_not_in_channel");
                }
                let channel = self.channel(text(arguments, "channel"))?;
                Ok(json!({"message_ts": self.hang(&channel, arguments, Some(user.to_owned())).ts}))
            }
            "conversations.open" => Ok(json!({"channel": {"id": self.channel(text(arguments, "users"))?}})),
            "conversations.history" | "conversations.replies" => self.history(arguments),
            "chat.update" => self.update(arguments),
            "views.open" => self.open(arguments),
            "views.update" => self.change(arguments),
            "views.publish" => {
                let view = arguments.get("view").cloned().unwrap_or_default();
                check::view(&view)?;
                self.lock().homes.insert(text(arguments, "user_id").to_owned(), view);
                Ok(json!({}))
            }
            "apps.connections.open" => Ok(json!({"url": self.socket_address()})),
            _ => Err("unknown_method"),
        }
    }

    /// A channel that exists; a user's id leads to the direct message with them.
    fn channel(&self, id: &str) -> Result<String, &'static str> {
        if let Some(user) = id.strip_prefix('U').or_else(|| id.strip_prefix('W')) {
            let known = self.lock().users.contains_key(id);
            return if known { Ok(format!("D{user}")) } else { Err("channel_not_found") };
        }
        if id.starts_with('D') || id.starts_with('C') { Ok(id.to_owned()) } else { Err("channel_not_found") }
    }

    /// What hangs somewhere, or below a message, the newest first.
    fn history(&self, arguments: &Value) -> Result<Value, &'static str> {
        let (channel, below) = (text(arguments, "channel"), text(arguments, "ts"));
        if !channel.starts_with(['C', 'D', 'G']) {
            return Err("channel_not_found");
        }
        let state = self.lock();
        let there = state.messages.iter().rev().filter(|m| m.channel == channel && m.only.is_none());
        let there = there.filter(|m| m.thread.as_deref().unwrap_or_default() == below || m.ts == below);
        let messages: Vec<_> =
            there.map(|m| json!({"ts": m.ts, "text": m.text, "metadata": m.metadata})).take(200).collect();
        Ok(json!({"messages": messages, "has_more": false}))
    }

    pub(super) fn hang(&self, channel: &str, message: &Value, only: Option<String>) -> Hanging {
        let hanging = Hanging {
            channel: channel.to_owned(),
            ts: self.next_ts(),
            thread: message.get("thread_ts").and_then(Value::as_str).map(str::to_owned),
            text: text(message, "text").to_owned(),
            blocks: message.get("blocks").cloned().unwrap_or_default(),
            only,
            edits: 0,
            metadata: message.get("metadata").cloned().unwrap_or_default(),
        };
        self.lock().messages.push(hanging.clone());
        self.touch();
        hanging
    }

    fn update(&self, arguments: &Value) -> Result<Value, &'static str> {
        check::message(arguments.get("blocks").unwrap_or(&Value::Null))?;
        let (channel, ts) = (text(arguments, "channel"), text(arguments, "ts"));
        if channel.starts_with('U') {
            return Err("channel_not_found");
        }
        let mut state = self.lock();
        let found = state.messages.iter_mut().find(|m| m.channel == channel && m.ts == ts && m.only.is_none());
        let message = found.ok_or("message_not_found")?;
        text(arguments, "text").clone_into(&mut message.text);
        // A text without blocks removes the blocks.
        message.blocks = arguments.get("blocks").cloned().unwrap_or_default();
        message.edits += 1;
        Ok(json!({"channel": channel, "ts": ts}))
    }

    fn open(&self, arguments: &Value) -> Result<Value, &'static str> {
        let view = arguments.get("view").cloned().unwrap_or_default();
        check::view(&view)?;
        let now = self.clock.now();
        let (id, hash) = (format!("V{}", self.next()), format!("h{}", self.next()));
        let mut state = self.lock();
        let trigger = state.triggers.get_mut(text(arguments, "trigger_id")).ok_or("invalid_trigger_id")?;
        if trigger.used {
            return Err("exchanged_trigger_id");
        }
        if now.since(trigger.at) > std::time::Duration::from_secs(3) {
            return Err("expired_trigger_id");
        }
        trigger.used = true;
        let user = trigger.user.clone();
        state.views.retain(|v| v.user != user);
        state.views.push(OpenView { user, id: id.clone(), hash: hash.clone(), view });
        Ok(json!({"view": {"id": id, "hash": hash}}))
    }

    fn change(&self, arguments: &Value) -> Result<Value, &'static str> {
        let view = arguments.get("view").cloned().unwrap_or_default();
        check::view(&view)?;
        let next = format!("h{}", self.next());
        let mut state = self.lock();
        let open = state.views.iter_mut().find(|v| v.id == text(arguments, "view_id")).ok_or("not_found")?;
        let hash = text(arguments, "hash");
        if !hash.is_empty() && hash != open.hash {
            return Err("hash_conflict");
        }
        open.view = view;
        open.hash.clone_from(&next);
        Ok(json!({"view": {"id": open.id, "hash": next}}))
    }
}
