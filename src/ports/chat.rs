//! The Web API of the chat service, as the surface that talks there calls it.
//!
//! One call, once: whoever waits, retries and remembers is the caller.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::secret::Secret;

/// Why a call did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// Not now: our own rate or theirs is used up. It was not sent, or not taken.
    #[error("the rate of calls is used up for {} s", .0.as_secs_f64().ceil())]
    Later(Duration),
    /// They answered with an error of their documentation: `message_not_found`, `invalid_auth`…
    #[error("Slack answered `{0}`")]
    Refused(String),
    /// Nobody knows whether it arrived.
    #[error("Slack could not be reached: {0}")]
    Unreachable(String),
}

/// Calls methods of the Web API.
#[async_trait]
pub trait Chat: Send + Sync {
    /// Call a method by its name, with arguments; answers the whole document, which says `"ok": true`.
    async fn call(&self, method: &'static str, arguments: &Value) -> Result<Value, ChatError>;

    /// Answer at an address that came with an interaction; it works for a short time only.
    async fn answer(&self, address: &Secret, message: &Value) -> Result<(), ChatError>;

    /// A fresh address of a socket on which interactions come in.
    async fn socket(&self) -> Result<Secret, ChatError>;
}
