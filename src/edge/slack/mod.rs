//! Slack: the same verbs as everywhere, in messages, forms and somebody's own page.
//!
//! What comes in, over HTTP or over a socket, goes through one handler ([`receive`]): it is acknowledged at once and
//! carried out afterwards, and what changes something is durable first ([`carry`]). What hangs in Slack is a copy of
//! the ledger, repaired until it is current ([`copies`]). Nothing here decides anything, and no fact is read from a
//! message.

mod blocks;
mod carry;
mod copies;
mod forms;
mod http;
mod payload;
mod people;
mod receive;
mod sheets;
mod signature;
mod socket;
mod words;

use std::sync::Arc;

pub(super) use self::http::routes;
pub use self::{http::PATHS, signature::SigningSecret};

use self::people::People;
use crate::{broker::Broker, ports::chat::Chat};

/// What the surface is set up with.
pub struct SlackSettings {
    /// Id of the app, `A…`: what is meant for another is not taken.
    pub app_id: String,
    /// Id of the channel in which requests are shown, `C…`.
    pub channel: String,
    /// Where the portal is, without a slash at the end.
    pub portal: String,
    /// For request URLs. Without it they answer 404, and Socket Mode is the way in.
    pub signing_secret: Option<SigningSecret>,
    /// Open a socket.
    pub socket: bool,
}

/// The surface.
pub struct Slack {
    broker: Arc<Broker>,
    chat: Arc<dyn Chat>,
    settings: SlackSettings,
    people: People,
}

impl Slack {
    /// Put together.
    pub fn new(broker: Arc<Broker>, chat: Arc<dyn Chat>, settings: SlackSettings) -> Arc<Self> {
        Arc::new(Self { broker, chat, settings, people: People::default() })
    }

    /// Carry out, send and repair, until the broker closes.
    pub async fn run(self: Arc<Self>) {
        let socket = async {
            if self.settings.socket {
                Arc::clone(&self).listen().await;
            }
        };
        tokio::join!(Arc::clone(&self).carry_out_kept(), Arc::clone(&self).keep_copies(), socket);
    }

    /// Wait, but not beyond closing; false when closing.
    async fn pause(&self, duration: std::time::Duration) -> bool {
        tokio::select! {
            () = self.broker.closing().cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}
