//! The page: be anybody, see what they see, click what they can click.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Query, State},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::{CHANNEL, FakeSlack};

type Fake = Arc<FakeSlack>;

pub(super) fn routes() -> Router<Fake> {
    Router::new()
        .route("/", get(page))
        .route("/page.js", get(script))
        .route("/state", get(state))
        .route("/act", post(act))
}

async fn page() -> Response {
    let policy = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html"))).into_response()
}

async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js")).into_response()
}

/// Everything that one account sees.
async fn state(State(fake): State<Fake>, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let user = query.get("user").cloned().unwrap_or_default();
    let direct = user.strip_prefix('U').map(|rest| format!("D{rest}")).unwrap_or_default();
    let seen: Vec<Value> = fake
        .messages()
        .into_iter()
        .filter(|m| (m.channel == CHANNEL || m.channel == direct) && m.only.as_ref().is_none_or(|only| *only == user))
        .map(|m| {
            json!({
                "channel": m.channel, "ts": m.ts, "thread": m.thread, "text": m.text, "blocks": m.blocks,
                "only": m.only.is_some(), "edits": m.edits,
            })
        })
        .collect();
    let users: Vec<Value> = fake.lock().users.values().cloned().collect();
    let view = fake.view_of(&user).map(|v| json!({"id": v.id, "view": v.view}));
    Json(json!({
        "users": users, "channel": CHANNEL, "direct": direct, "messages": seen, "view": view,
        "home": fake.home_of(&user),
    }))
}

/// Somebody does something. Only from the page itself: a foreign page cannot send JSON here without being asked.
async fn act(State(fake): State<Fake>, headers: HeaderMap, Json(act): Json<Value>) -> Response {
    let origin = headers.get(header::ORIGIN).and_then(|v| v.to_str().ok());
    if origin.is_some_and(|o| o != fake.url()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let text = |name: &str| act.get(name).and_then(Value::as_str).unwrap_or_default();
    let user = text("user");
    let delivered = match text("do") {
        "click" => {
            let value = act.get("value").and_then(Value::as_str);
            fake.click(user, text("channel"), text("ts"), text("action"), value).await
        }
        "command" => fake.command(user, text("text")).await,
        "submit" => fake.submit(user, act.get("values").unwrap_or(&Value::Null)).await,
        "search" => fake.search(user, text("text")).await,
        "home" => fake.open_home(user).await,
        "close" => {
            fake.lock().views.retain(|v| v.user != user);
            return StatusCode::NO_CONTENT.into_response();
        }
        _ => return StatusCode::BAD_REQUEST.into_response(),
    };
    Json(json!({"status": delivered.status, "answer": delivered.answer})).into_response()
}
