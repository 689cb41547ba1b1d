//! Notifications leave through here, from the outbox, never from inside a request.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::{id::MessageId, time::Timestamp};

/// A message from the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Stable over retries: receivers drop repeats by it.
    pub id: MessageId,
    /// `access.request.created`, `access.grant.activated`…
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// Facts, free of secrets.
    pub data: serde_json::Value,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// Try again later.
    #[error("not delivered: {0}")]
    Retry(String),
    /// The receiver is gone for good (HTTP 410): stop.
    #[error("the receiver is gone: {0}")]
    Gone(String),
}

/// Sends messages to one place.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in configuration and in the outbox.
    fn name(&self) -> &str;

    /// Deliver one message; may be called again for the same id.
    async fn deliver(&self, message: &Message) -> Result<(), NotifyError>;
}
