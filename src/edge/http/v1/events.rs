//! `GET /v1/events`: what happens, as it happens, as server-sent events.
//!
//! The caller is authenticated again before every batch: whoever is deactivated, or whose token ends, sees nothing
//! more. A stream never holds up the end of the process.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        IntoResponse, Sse,
        sse::{self},
    },
};
use futures::{Stream, stream};
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;

use crate::{
    broker::view::EventView,
    domain::secret::Secret,
    edge::http::{
        Edge, Reads,
        auth::{Authenticated, VIA, bearer},
        input::Parameters,
        problem::{Kind, Problem},
        state::Place,
    },
};

/// Events read at once.
const BATCH: u32 = 100;
/// Commits that come within this time are one wake-up.
const GATHER: Duration = Duration::from_millis(50);
/// Silence is broken after this time, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client should come back after the stream broke.
const RETRY: Duration = Duration::from_secs(2);

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
    let from = match last_event_id(&headers)?.or(begin.after) {
        Some(from) => from,
        None => edge.broker.log_size().await?,
    };
    let place = Place::take(&edge, |shared| &shared.streams, edge.limits.streams)
        .ok_or_else(|| Problem::new(Kind::Overloaded, "too many event streams are open; come again").retry_after(10))?;
    let token =
        bearer(&headers).map(|text| Secret::new(text.to_owned())).ok_or_else(|| Problem::unauthenticated(false))?;
    let hello = sse::Event::default().retry(RETRY).comment("events from here on");
    let feed = Feed {
        committed: edge.broker.committed(),
        pending: VecDeque::from([hello]),
        edge,
        token,
        from,
        caught_up: false,
        _place: place,
    };
    Ok(([("x-accel-buffering", "no")], Sse::new(feed.into_stream())))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Problem::input("Last-Event-ID", "is not an `id` of this stream"))
}

struct Feed {
    edge: Edge,
    token: Secret,
    committed: watch::Receiver<u64>,
    /// Leaf index of the next event to look at.
    from: u64,
    caught_up: bool,
    pending: VecDeque<sse::Event>,
    _place: Place,
}

impl Feed {
    fn into_stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut feed| async move { feed.next().await.map(|event| (Ok(event), feed)) })
    }

    /// The next thing to send; `None` ends the stream.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let silent = self.caught_up && !self.news().await?;
            let ctx = self.edge.broker.authenticate(self.token.expose(), VIA).await.ok()?;
            if silent {
                return Some(sse::Event::default().id(self.from.to_string()).comment("still here"));
            }
            self.committed.borrow_and_update();
            let (events, next) = self.edge.broker.visible_events(&ctx, self.from, BATCH).await.ok()?;
            self.caught_up = next == self.from;
            self.from = next;
            self.pending.extend(events.iter().filter_map(rendered));
        }
    }

    /// Wait for a commit; false after a while of silence, `None` when the broker is about to end.
    async fn news(&mut self) -> Option<bool> {
        let closing = self.edge.broker.closing();
        tokio::select! {
            () = closing.cancelled() => None,
            changed = self.committed.changed() => {
                changed.ok()?;
                tokio::time::sleep(GATHER).await;
                Some(true)
            }
            () = tokio::time::sleep(KEEP_ALIVE) => Some(false),
        }
    }
}

fn rendered(view: &EventView) -> Option<sse::Event> {
    let action = view.event.get("action").and_then(serde_json::Value::as_str).unwrap_or("event");
    sse::Event::default().id((view.seq + 1).to_string()).event(action).json_data(view).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_last_event_id_is_a_number() {
        let with = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("last-event-id", HeaderValue::from_static(text));
            last_event_id(&headers).map_err(|p| p.kind())
        };
        assert_eq!(with("17"), Ok(Some(17)));
        assert_eq!(with("-1"), Err(Kind::InvalidInput));
        assert_eq!(last_event_id(&HeaderMap::new()).map_err(|p| p.kind()), Ok(None));
    }
}
