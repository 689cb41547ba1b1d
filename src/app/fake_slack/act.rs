//! What people do there, and how it is delivered: signed to request URLs, or over a socket.

use serde_json::{Map, Value, json};

use super::{APP, CHANNEL, FakeSlack, TEAM, Trigger};
use crate::{domain::secret::Secret, edge::slack::SigningSecret, telemetry::Stopwatch};

/// What came back for a delivery.
#[derive(Debug, Clone, Default)]
pub struct Delivered {
    /// HTTP status; 200 for an acknowledgement over a socket, 0 for none within three seconds.
    pub status: u16,
    /// The answer; null if it was bare.
    pub answer: Value,
    /// How long it took.
    pub took: std::time::Duration,
}

/// Kinds of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Interaction,
    Command,
    Event,
}

impl FakeSlack {
    fn trigger(&self, user: &str) -> String {
        let id = format!("trigger.{}", self.next());
        let trigger = Trigger { user: user.to_owned(), at: self.clock.now(), used: false };
        self.lock().triggers.insert(id.clone(), trigger);
        id
    }

    fn answer_address(&self, channel: &str, user: &str) -> String {
        let id = format!("r{}", self.next());
        self.lock().answers.insert(id.clone(), (channel.to_owned(), user.to_owned(), 0));
        format!("{}/respond/{id}", self.url())
    }

    fn whole_payload(&self, user: &str, more: &Value) -> Value {
        let known = self.lock().users.get(user).cloned().unwrap_or_default();
        let team = known.get("team_id").and_then(Value::as_str).unwrap_or(TEAM).to_owned();
        let mut payload = json!({
            "api_app_id": APP, "team": {"id": TEAM, "domain": "fake"}, "user": {"id": user, "team_id": team},
            "enterprise": null, "is_enterprise_install": false,
        });
        if let (Some(payload), Some(more)) = (payload.as_object_mut(), more.as_object()) {
            payload.extend(more.clone());
        }
        payload
    }

    /// The payload of a click on this button of this message; `None` if there is no such button.
    pub fn click_payload(
        &self,
        user: &str,
        channel: &str,
        ts: &str,
        action: &str,
        value: Option<&str>,
    ) -> Option<Value> {
        let blocks = if ts.is_empty() {
            self.home_of(user)?.get("blocks").cloned()?
        } else {
            self.messages().into_iter().find(|m| m.channel == channel && m.ts == ts)?.blocks
        };
        let button = button(&blocks, action, value)?;
        let at = self.next_ts();
        let container = if ts.is_empty() {
            json!({"type": "view"})
        } else {
            json!({"type": "message", "message_ts": ts, "channel_id": channel})
        };
        let more = json!({
            "type": "block_actions", "trigger_id": self.trigger(user), "container": container,
            "channel": {"id": channel, "name": "access"},
            "response_url": if ts.is_empty() { String::new() } else { self.answer_address(channel, user) },
            "actions": [{"type": "button", "action_id": action, "value": button.get("value"), "action_ts": at}],
        });
        Some(self.whole_payload(user, &more))
    }

    /// Somebody clicks a button of a message, or of their page if `ts` is empty.
    pub async fn click(&self, user: &str, channel: &str, ts: &str, action: &str, value: Option<&str>) -> Delivered {
        match self.click_payload(user, channel, ts, action, value) {
            Some(payload) => self.interaction(&payload).await,
            None => Delivered { status: 404, ..Delivered::default() },
        }
    }

    /// Somebody sends the form that they have open; `values` by block.
    pub async fn submit(&self, user: &str, values: &Value) -> Delivered {
        let Some(open) = self.view_of(user) else { return Delivered { status: 404, ..Delivered::default() } };
        let mut view = open.view.clone();
        if let Some(view) = view.as_object_mut() {
            view.insert("id".to_owned(), open.id.clone().into());
            view.insert("hash".to_owned(), open.hash.clone().into());
            view.insert("app_installed_team_id".to_owned(), TEAM.into());
            view.insert("state".to_owned(), json!({"values": state_of(values)}));
        }
        let more = json!({"type": "view_submission", "view": view});
        let delivered = self.interaction(&self.whole_payload(user, &more)).await;
        let kind = delivered.answer.get("response_action").and_then(Value::as_str).unwrap_or_default();
        let mut state = self.lock();
        match kind {
            "update" => {
                if let (Some(now), Some(open)) = (
                    delivered.answer.get("view"),
                    state.views.iter_mut().find(|v| v.id == open.id && v.hash == open.hash),
                ) {
                    open.view = now.clone();
                }
            }
            "errors" => {}
            _ if delivered.status == 200 => state.views.retain(|v| v.id != open.id),
            _ => {}
        }
        drop(state);
        self.touch();
        delivered
    }

    /// Somebody types in the search box of their form.
    pub async fn search(&self, user: &str, typed: &str) -> Delivered {
        let more = json!({"type": "block_suggestion", "action_id": "entitlement", "value": typed});
        self.interaction(&self.whole_payload(user, &more)).await
    }

    /// Somebody types `/tidegate …`.
    pub async fn command(&self, user: &str, text: &str) -> Delivered {
        let fields = json!({
            "command": "/tidegate", "text": text, "team_id": TEAM, "user_id": user, "channel_id": CHANNEL,
            "api_app_id": APP, "trigger_id": self.trigger(user),
            "response_url": self.answer_address(CHANNEL, user),
        });
        self.deliver(Kind::Command, &fields).await
    }

    /// Somebody opens the app's page.
    pub async fn open_home(&self, user: &str) -> Delivered {
        let event = json!({
            "type": "event_callback", "team_id": TEAM, "api_app_id": APP, "event_id": format!("Ev{}", self.next()),
            "event": {"type": "app_home_opened", "user": user, "tab": "home"},
        });
        self.deliver(Kind::Event, &event).await
    }

    /// Deliver an interaction as it is.
    pub async fn interaction(&self, payload: &Value) -> Delivered {
        self.deliver(Kind::Interaction, payload).await
    }

    async fn deliver(&self, kind: Kind, payload: &Value) -> Delivered {
        let watch = Stopwatch::start();
        let to = self.lock().request_url.clone();
        let mut delivered = if let Some(server) = to {
            self.deliver_http(&server, kind, payload).await
        } else {
            let name = match kind {
                Kind::Interaction => "interactive",
                Kind::Command => "slash_commands",
                Kind::Event => "events_api",
            };
            self.deliver_socket(name, payload).await
        };
        delivered.took = watch.elapsed();
        delivered
    }

    async fn deliver_http(&self, server: &str, kind: Kind, payload: &Value) -> Delivered {
        let form = |pairs: Vec<(String, String)>| {
            let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
            (body, "application/x-www-form-urlencoded")
        };
        let plain = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let (path, (body, media)) = match kind {
            Kind::Interaction => ("/slack/interactions", form(vec![("payload".to_owned(), payload.to_string())])),
            Kind::Command => {
                let fields = payload.as_object().into_iter().flatten();
                ("/slack/commands", form(fields.map(|(k, v)| (k.clone(), plain(v))).collect()))
            }
            Kind::Event => ("/slack/events", (payload.to_string(), "application/json")),
        };
        let stamp = self.clock.now().seconds();
        let Some(secret) = SigningSecret::new(&Secret::new(self.signing_secret.clone())) else {
            return Delivered::default();
        };
        let sent = self
            .http
            .post(format!("{server}{path}"))
            .header(http::header::CONTENT_TYPE, media)
            .header("x-slack-request-timestamp", stamp)
            .header("x-slack-signature", secret.sign(stamp, body.as_bytes()))
            .body(body)
            .send()
            .await;
        let Ok(answer) = sent else { return Delivered::default() };
        let status = answer.status().as_u16();
        Delivered { status, answer: answer.json().await.unwrap_or_default(), ..Delivered::default() }
    }
}

/// The button of that action among the blocks, and of that value if one is given.
fn button<'a>(blocks: &'a Value, action: &str, value: Option<&str>) -> Option<&'a Value> {
    let fits = |e: &&Value| {
        e.get("action_id").and_then(Value::as_str) == Some(action)
            && value.is_none_or(|v| e.get("value").and_then(Value::as_str) == Some(v))
    };
    blocks.as_array()?.iter().find_map(|b| {
        let elements = b.get("elements").and_then(Value::as_array).into_iter().flatten();
        elements.chain(b.get("accessory")).find(fits)
    })
}

/// What a form's state looks like: a text was typed, an object was chosen.
fn state_of(values: &Value) -> Value {
    let mut state = Map::new();
    for (block, value) in values.as_object().into_iter().flatten() {
        let chosen = matches!(block.as_str(), "entitlement" | "duration");
        let element = if chosen { json!({"selected_option": {"value": value}}) } else { json!({"value": value}) };
        state.insert(block.clone(), json!({block: element}));
    }
    Value::Object(state)
}
