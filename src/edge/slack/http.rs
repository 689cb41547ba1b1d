//! Request URLs: the raw body, its signature, and then the one handler.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::{Slack, payload::Incoming};
use crate::edge::inbound::{
    auth, body,
    problem::{Kind, Problem},
    state::{Edge, Limits},
};

/// Where they are, for counting.
pub const PATHS: [&str; 3] = ["/slack/commands", "/slack/interactions", "/slack/events"];
/// A form comes back whole, up to what Slack allows for one.
const LARGEST: usize = 1 << 20;

/// The request URLs.
pub(in crate::edge) fn routes(slack: Arc<Slack>) -> Router<Edge> {
    Router::new()
        .route("/slack/commands", post(commands))
        .route("/slack/interactions", post(interactions))
        .route("/slack/events", post(events))
        .layer(Extension(slack))
}

/// The body, if Slack signed it. `None` for the check of certificates, which is unsigned by design and asks for nothing.
async fn signed(edge: &Edge, slack: &Slack, request: Request) -> Result<Option<Bytes>, Problem> {
    let Some(secret) = &slack.settings.signing_secret else {
        return Err(Problem::new(Kind::UnknownRoute, "request URLs are not in use here: Slack comes in over a socket"));
    };
    let (parts, body) = request.into_parts();
    let call = auth::call(&parts)?;
    let limits = Limits { body_bytes: LARGEST, ..edge.limits.clone() };
    let bytes = body::read(&parts.headers, body, &limits).await?;
    if is_ssl_check(&parts.headers, &bytes) {
        return Ok(None);
    }
    if secret.holds(&parts.headers, &bytes, edge.broker.now()) {
        return Ok(Some(bytes));
    }
    edge.gate.address(call.address)?;
    metrics::counter!("tidegate_slack_bad_signatures_total").increment(1);
    Err(Problem::new(Kind::Unauthenticated, "the signature of Slack is missing, wrong, or too old"))
}

fn is_ssl_check(headers: &HeaderMap, bytes: &[u8]) -> bool {
    let form = body::media_type(headers).eq_ignore_ascii_case("application/x-www-form-urlencoded");
    form && url::form_urlencoded::parse(bytes).any(|(k, v)| k == "ssl_check" && v == "1")
}

fn acknowledged(answer: Value) -> Response {
    if answer.is_null() { StatusCode::OK.into_response() } else { Json(answer).into_response() }
}

async fn commands(
    State(edge): State<Edge>,
    Extension(slack): Extension<Arc<Slack>>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(bytes) = signed(&edge, &slack, request).await? else { return Ok(StatusCode::OK.into_response()) };
    let fields: Map<String, Value> =
        url::form_urlencoded::parse(&bytes).map(|(k, v)| (k.into_owned(), Value::String(v.into_owned()))).collect();
    Ok(acknowledged(slack.receive(Incoming::command(&Value::Object(fields))).await))
}

async fn interactions(
    State(edge): State<Edge>,
    Extension(slack): Extension<Arc<Slack>>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(bytes) = signed(&edge, &slack, request).await? else { return Ok(StatusCode::OK.into_response()) };
    let payload = url::form_urlencoded::parse(&bytes).find(|(k, _)| k == "payload");
    let (_, payload) = payload.ok_or_else(|| Problem::input("payload", "it is missing"))?;
    let payload: Value = body::parse(payload.as_bytes())?;
    Ok(acknowledged(slack.receive(Incoming::interaction(&payload)).await))
}

async fn events(
    State(edge): State<Edge>,
    Extension(slack): Extension<Arc<Slack>>,
    request: Request,
) -> Result<Response, Problem> {
    let Some(bytes) = signed(&edge, &slack, request).await? else { return Ok(StatusCode::OK.into_response()) };
    let event: Value = body::parse(&bytes)?;
    if let (Some("url_verification"), Some(challenge)) =
        (event.get("type").and_then(Value::as_str), event.get("challenge"))
    {
        return Ok(Json(json!({"challenge": challenge})).into_response());
    }
    Ok(acknowledged(slack.receive(Incoming::event(&event)).await))
}
