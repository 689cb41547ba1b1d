//! `GET /live`: that something happened which this session may see, as it happens. No more than its name and what it is
//! about: pages read the rest as they always do.

use std::convert::Infallible;

use axum::{
    extract::State,
    response::{IntoResponse, Response, Sse, sse},
};
use http::HeaderMap;
use serde_json::json;

use crate::{
    broker::view::EventView,
    domain::secret::Secret,
    edge::{
        inbound::{
            feed::{Caller, Feed, last_event_id},
            problem::Problem,
            state::Edge,
        },
        web::{cookie, visit::Visitor},
    },
};

/// The stream of this session; it ends with the session.
pub async fn handler(State(edge): State<Edge>, _visitor: Visitor, headers: HeaderMap) -> Result<Response, Problem> {
    let secret =
        cookie::read(&headers, &edge.portal, cookie::SESSION).ok_or_else(|| Problem::unauthenticated(false))?;
    let caller = Caller::Session(Secret::new(secret.to_owned()));
    let feed = Feed::begin(&edge, caller, last_event_id(&headers)?, told).await?;
    let stream = feed.into_stream();
    Ok(([("x-accel-buffering", "no")], Sse::new(futures::StreamExt::map(stream, Ok::<_, Infallible>))).into_response())
}

fn told(view: &EventView) -> Option<sse::Event> {
    let text = |name: &str| view.event.get(name).and_then(serde_json::Value::as_str);
    let about = json!({
        "action": text("action"), "request": text("request"), "grant": text("grant"), "subject": text("subject"),
    });
    sse::Event::default().id((view.seq + 1).to_string()).event("happened").json_data(about).ok()
}
