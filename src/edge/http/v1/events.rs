//! `GET /v1/events`: what happens, as it happens, as server-sent events.
//!
//! The caller is authenticated again before every batch: whoever is deactivated, or whose token ends, sees nothing
//! more. A stream never holds up the end of the process.

use std::convert::Infallible;

use axum::{
    extract::State,
    response::{
        IntoResponse, Sse,
        sse::{self},
    },
};
use futures::StreamExt;
use http::HeaderMap;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    broker::view::EventView,
    domain::secret::Secret,
    edge::{
        http::{
            Edge, Reads,
            auth::{Authenticated, bearer},
            input::Parameters,
            problem::Problem,
        },
        inbound::feed::{Caller, Feed, last_event_id},
    },
};

/// Where to begin.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Begin {
    /// Begin after the event with this `id`; `Last-Event-ID` wins. From now on if neither is given, from the beginning
    /// of the log if 0.
    after: Option<u64>,
}

/// Follow what happens
///
/// Server-sent events of what the caller may see: `event` is the action, `data` an event of the audit log, `id` the
/// place to go on from, which clients send as `Last-Event-ID` when they come back. A comment every 15 seconds shows
/// that the stream lives.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", operation_id = "followEvents",
    params(Begin, ("Last-Event-ID" = Option<u64>, Header, description = "`id` of the last event seen")),
    responses((status = 200, description = "The stream", body = EventView, content_type = "text/event-stream"), Reads)
)]
pub async fn handler(
    State(edge): State<Edge>,
    Authenticated(_ctx): Authenticated,
    Parameters(begin): Parameters<Begin>,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    let from = last_event_id(&headers)?.or(begin.after);
    let token =
        bearer(&headers).map(|text| Secret::new(text.to_owned())).ok_or_else(|| Problem::unauthenticated(false))?;
    let feed = Feed::begin(&edge, Caller::Bearer(token), from, rendered).await?;
    Ok(([("x-accel-buffering", "no")], Sse::new(feed.into_stream().map(Ok::<_, Infallible>))))
}

fn rendered(view: &EventView) -> Option<sse::Event> {
    let action = view.event.get("action").and_then(serde_json::Value::as_str).unwrap_or("event");
    sse::Event::default().id((view.seq + 1).to_string()).event(action).json_data(view).ok()
}
