//! Socket Mode: Slack's deliveries over a WebSocket that we open, so nothing has to be reachable from outside. Payloads
//! are not signed here: trust is in the token that the address was fetched with, and in TLS.

use std::{sync::Arc, time::Duration};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};

use super::{Slack, payload::Incoming};
use crate::ports::chat::ChatError;

/// Between two tries, doubling.
const FIRST: Duration = Duration::from_millis(10);
const LAST: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(5);
/// Silence for this long, and the socket is taken for dead.
const SILENCE: Duration = Duration::from_secs(20);
const LARGEST: usize = 4 << 20;
/// What a socket ends with that trying again does not mend.
const FATAL: [&str; 12] = [
    "invalid_auth",
    "not_authed",
    "token_revoked",
    "token_expired",
    "account_inactive",
    "missing_scope",
    "not_allowed_token_type",
    "no_permission",
    "team_access_not_granted",
    "link_disabled",
    "bad_socket_url",
    "access_denied",
];

/// Why a socket ended.
#[derive(Debug)]
enum End {
    /// Open another one at once: Slack asked for it.
    Refresh,
    /// Open another one after a pause.
    Broken(String),
    /// There is no use in another one.
    Fatal(String),
    Closing,
}

impl Slack {
    /// Keep a socket open until the broker closes.
    pub(super) async fn listen(self: Arc<Self>) {
        let mut wait = FIRST;
        loop {
            let closing = self.broker.closing().clone();
            let end = tokio::select! {
                () = closing.cancelled() => End::Closing,
                end = self.one_socket(&mut wait) => end,
            };
            match end {
                End::Closing => return,
                End::Refresh => {}
                End::Fatal(why) => {
                    metrics::counter!("tidegate_slack_socket_fatal_total").increment(1);
                    tracing::error!(why, "Socket Mode stopped: mend the app or its token, then restart");
                    return;
                }
                End::Broken(why) => {
                    tracing::debug!(why, "the socket of Slack broke; opening another");
                    if !self.pause(wait).await {
                        return;
                    }
                    wait = (wait * 2).min(LAST);
                }
            }
        }
    }

    async fn one_socket(self: &Arc<Self>, wait: &mut Duration) -> End {
        let url = match self.chat.socket().await {
            Ok(url) => url,
            Err(ChatError::Refused(code)) if FATAL.contains(&code.as_str()) => return End::Fatal(code),
            Err(error) => return End::Broken(error.to_string()),
        };
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST));
        let (socket, _) = match connect_async_with_config(url.expose(), Some(config), false).await {
            Ok(connected) => connected,
            Err(error) => return End::Broken(what(&error)),
        };
        let (mut out, mut frames) = socket.split();
        let (acks, mut acknowledged) = mpsc::channel::<String>(256);
        let mut ping = tokio::time::interval(PING);
        let mut quiet = 0_u32;
        loop {
            tokio::select! {
                frame = frames.next() => {
                    quiet = 0;
                    match frame {
                        Some(Ok(Message::Text(text))) => {
                            if let Some(end) = self.envelope(text.as_str(), &acks, wait) {
                                return end;
                            }
                        }
                        Some(Ok(Message::Close(_))) | None => return End::Broken("closed".to_owned()),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return End::Broken(what(&error)),
                    }
                }
                Some(ack) = acknowledged.recv() => {
                    if let Err(error) = out.send(Message::Text(ack.into())).await {
                        return End::Broken(what(&error));
                    }
                }
                _ = ping.tick() => {
                    quiet += 1;
                    if PING * quiet > SILENCE {
                        return End::Broken("silent".to_owned());
                    }
                    if let Err(error) = out.send(Message::Ping(bytes::Bytes::new())).await {
                        return End::Broken(what(&error));
                    }
                }
            }
        }
    }

    /// One envelope; why the socket is to end, if it is.
    fn envelope(self: &Arc<Self>, text: &str, acks: &mpsc::Sender<String>, wait: &mut Duration) -> Option<End> {
        let Ok(envelope) = serde_json::from_str::<Value>(text) else {
            tracing::debug!("an envelope that is not JSON");
            return None;
        };
        let field = |name: &str| envelope.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("type") {
            "hello" => {
                *wait = FIRST;
                return None;
            }
            "disconnect" => {
                let reason = field("reason");
                return Some(if FATAL.contains(&reason) { End::Fatal(reason.to_owned()) } else { End::Refresh });
            }
            _ => {}
        }
        let payload = envelope.get("payload").unwrap_or(&Value::Null);
        let incoming = match field("type") {
            "interactive" => Incoming::interaction(payload),
            "slash_commands" => Incoming::command(payload),
            "events_api" => Incoming::event(payload),
            _ => return None,
        };
        let id = field("envelope_id").to_owned();
        let (me, acks) = (Arc::clone(self), acks.clone());
        self.broker.track(async move {
            let answer = me.receive(incoming).await;
            let ack = if answer.is_null() {
                json!({"envelope_id": id})
            } else {
                json!({"envelope_id": id, "payload": answer})
            };
            // If the socket is gone, Slack delivers again, and the repeat is known.
            let _ = acks.send(ack.to_string()).await;
        });
        None
    }
}

/// What broke, without the address, which is a secret.
fn what(error: &tokio_tungstenite::tungstenite::Error) -> String {
    use tokio_tungstenite::tungstenite::Error;
    match error {
        Error::Io(e) => format!("the connection failed: {}", e.kind()),
        Error::Tls(_) => "TLS failed".to_owned(),
        Error::Http(response) => format!("it answered {}", response.status()),
        Error::Protocol(e) => format!("protocol: {e}"),
        _ => "the socket failed".to_owned(),
    }
}
