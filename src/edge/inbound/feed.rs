//! What happens, as it happens: a stream of server-sent events for one caller.
//!
//! The caller is authenticated again before every batch: whoever is deactivated, or whose token or session ends, sees
//! nothing more. A stream never holds up the end of the process.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError},
    time::Duration,
};

use axum::response::sse;
use futures::{Stream, stream};
use http::HeaderMap;
use tokio::sync::watch;

use super::{
    auth::VIA,
    problem::{Kind, Problem},
    state::{Edge, Place},
};
use crate::{
    broker::{BrokerError, Ctx, view::EventView},
    domain::{id::IdentityId, secret::Secret},
};

/// Events of the past that a stream begins with at most.
const REPLAYED: u64 = 10_000;
/// Events read at once.
const BATCH: u32 = 100;
/// Commits that come within this time are one wake-up.
const GATHER: Duration = Duration::from_millis(50);
/// Silence is broken after this time, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// When a client should come back after the stream broke.
const RETRY: Duration = Duration::from_secs(2);

/// How the caller shows who it is, again and again.
pub enum Caller {
    /// By a token.
    Bearer(Secret),
    /// By the secret of a session.
    Session(Secret),
}

impl Caller {
    async fn context(&self, edge: &Edge) -> Result<Ctx, BrokerError> {
        match self {
            Self::Bearer(token) => edge.broker.authenticate(token.expose(), VIA).await,
            Self::Session(secret) => Ok(edge.broker.watch_session(secret.expose()).await?.ctx),
        }
    }
}

/// Where a client that comes back wants to go on.
pub fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Problem::input("Last-Event-ID", "is not an `id` of this stream"))
}

/// What happens, as it happens, as far as one caller may see it.
pub struct Feed {
    edge: Edge,
    caller: Caller,
    render: fn(&EventView) -> Option<sse::Event>,
    committed: watch::Receiver<u64>,
    /// Leaf index of the next event to look at.
    from: u64,
    caught_up: bool,
    pending: VecDeque<sse::Event>,
    _place: Place,
    _share: Share,
}

/// One of the streams that a caller may have open.
struct Share {
    edge: Edge,
    identity: IdentityId,
}

impl Share {
    fn take(edge: &Edge, identity: IdentityId) -> Option<Self> {
        let mut open = edge.streams_of.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = open.entry(identity).or_default();
        if *mine >= edge.limits.streams_each {
            return None;
        }
        *mine += 1;
        Some(Self { edge: Arc::clone(edge), identity })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.edge.streams_of.lock().unwrap_or_else(PoisonError::into_inner);
        let left = open.get_mut(&self.identity).map(|mine| {
            *mine = mine.saturating_sub(1);
            *mine
        });
        if left == Some(0) {
            open.remove(&self.identity);
        }
    }
}

impl Feed {
    /// From an event on, or from now on if none is given; each event that the caller may see goes through `render`.
    pub async fn begin(
        edge: &Edge,
        caller: Caller,
        from: Option<u64>,
        render: fn(&EventView) -> Option<sse::Event>,
    ) -> Result<Self, Problem> {
        let size = edge.broker.log_size().await?;
        // Who comes back after long reads the log, and does not have all of it looked through here.
        let from = from.map_or(size, |from| from.max(size.saturating_sub(REPLAYED)));
        let identity = caller.context(edge).await?.actor_id();
        let share = Share::take(edge, identity).ok_or_else(|| {
            Problem::new(Kind::Overloaded, "you have too many event streams open; close one").retry_after(10)
        })?;
        let place = Place::take(edge, |shared| &shared.streams, edge.limits.streams).ok_or_else(|| {
            Problem::new(Kind::Overloaded, "too many event streams are open; come again").retry_after(10)
        })?;
        let hello = sse::Event::default().retry(RETRY).comment("events from here on");
        Ok(Self {
            committed: edge.broker.committed(),
            pending: VecDeque::from([hello]),
            edge: Arc::clone(edge),
            caller,
            render,
            from,
            caught_up: false,
            _place: place,
            _share: share,
        })
    }

    /// The stream; it ends with the caller's right to it, or with the process.
    pub fn into_stream(self) -> impl Stream<Item = sse::Event> {
        stream::unfold(self, |mut feed| async move { feed.next().await.map(|event| (event, feed)) })
    }

    /// The next thing to send; `None` ends the stream.
    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let silent = self.caught_up && !self.news().await?;
            let ctx = self.caller.context(&self.edge).await.ok()?;
            if silent {
                return Some(sse::Event::default().id(self.from.to_string()).comment("still here"));
            }
            self.committed.borrow_and_update();
            let (events, next) = self.edge.broker.visible_events(&ctx, self.from, BATCH).await.ok()?;
            self.caught_up = next == self.from;
            self.from = next;
            self.pending.extend(events.iter().filter_map(self.render));
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
