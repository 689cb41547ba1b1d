//! Socket Mode, the other end: an address that works once, envelopes, acknowledgements within three seconds. What is not
//! acknowledged is delivered again, over whichever socket there is.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Delivered, FakeSlack};

type Fake = Arc<FakeSlack>;

const ACK: Duration = Duration::from_secs(3);
const TRIES: u32 = 3;

/// What a socket is told to do.
pub(super) enum Frame {
    Text(String),
    /// Break off without a word.
    Cut,
}

#[derive(serde::Deserialize)]
struct Ticket {
    ticket: String,
}

pub(super) fn routes() -> Router<Fake> {
    Router::new().route("/socket", get(open))
}

async fn open(
    State(fake): State<Fake>,
    Query(Ticket { ticket }): Query<Ticket>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let known = {
        let mut state = fake.lock();
        let before = state.tickets.len();
        state.tickets.retain(|t| *t != ticket);
        state.tickets.len() < before
    };
    if !known {
        return StatusCode::FORBIDDEN.into_response();
    }
    upgrade.on_upgrade(move |socket| serve(fake, socket))
}

async fn serve(fake: Fake, mut socket: WebSocket) {
    let (sender, mut frames) = mpsc::unbounded_channel();
    let id = fake.next();
    let hello = json!({"type": "hello", "num_connections": 1}).to_string();
    if socket.send(Message::Text(hello.into())).await.is_err() {
        return;
    }
    fake.lock().sockets.push((id, sender));
    fake.touch();
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(Frame::Text(text)) => {
                    if socket.send(Message::Text(text.into())).await.is_err() {
                        break;
                    }
                }
                Some(Frame::Cut) | None => break,
            },
            message = socket.recv() => match message {
                Some(Ok(Message::Text(text))) => fake.acknowledged(text.as_str()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    fake.lock().sockets.retain(|(other, _)| *other != id);
    fake.touch();
}

impl FakeSlack {
    /// A fresh address: its ticket works once.
    pub(super) fn socket_address(&self) -> String {
        let ticket = format!("ticket{}", self.next());
        self.lock().tickets.push(ticket.clone());
        format!("ws://{}/socket?ticket={ticket}", self.address)
    }

    /// Sockets that are open.
    pub fn sockets(&self) -> usize {
        self.lock().sockets.len()
    }

    /// Tell every socket to go, with this reason; or cut it without a word if there is none.
    pub fn disconnect(&self, reason: Option<&str>) {
        let sockets = self.lock().sockets.clone();
        for (_, socket) in sockets {
            let _ = match reason {
                Some(reason) => socket.send(Frame::Text(json!({"type": "disconnect", "reason": reason}).to_string())),
                None => socket.send(Frame::Cut),
            };
        }
    }

    fn acknowledged(&self, text: &str) {
        let Ok(ack) = serde_json::from_str::<Value>(text) else { return };
        let id = ack.get("envelope_id").and_then(Value::as_str).unwrap_or_default();
        if let Some(waiting) = self.lock().waiting.remove(id) {
            let _ = waiting.send(ack.get("payload").cloned().unwrap_or_default());
        }
    }

    pub(super) async fn deliver_socket(&self, kind: &str, payload: &Value) -> Delivered {
        for attempt in 0..TRIES {
            if let Some(answer) = self.deliver_once(kind, payload, attempt).await {
                return Delivered { status: 200, answer, ..Delivered::default() };
            }
        }
        Delivered::default()
    }

    /// Deliver over one socket; `None` if nothing was acknowledged in time.
    async fn deliver_once(&self, kind: &str, payload: &Value, attempt: u32) -> Option<Value> {
        let mut changes = self.changes();
        let any = async {
            loop {
                let socket = self.lock().sockets.last().map(|(_, s)| s.clone());
                match socket {
                    Some(socket) if !socket.is_closed() => return Some(socket),
                    _ => changes.changed().await.ok()?,
                }
            }
        };
        let socket: mpsc::UnboundedSender<Frame> = tokio::time::timeout(ACK, any).await.ok()??;
        let id = format!("env{}", self.next());
        let envelope = json!({
            "envelope_id": id, "type": kind, "payload": payload, "accepts_response_payload": true,
            "retry_attempt": attempt,
        });
        let (sender, acknowledged) = oneshot::channel();
        self.lock().waiting.insert(id, sender);
        socket.send(Frame::Text(envelope.to_string())).ok()?;
        let cut = std::mem::take(&mut self.lock().cut_next);
        if cut {
            let _ = socket.send(Frame::Cut);
            socket.closed().await;
            return None;
        }
        tokio::select! {
            answer = tokio::time::timeout(ACK, acknowledged) => answer.ok()?.ok(),
            () = socket.closed() => None,
        }
    }
}
