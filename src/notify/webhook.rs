//! Webhooks: CloudEvents 1.0 (structured JSON) in the envelope of Standard Webhooks 1.0.0.
//!
//! Follows no redirect, goes through no proxy, sends no credential but the signature, and repeats nothing of what the
//! receiver answers but its status.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::json;
use url::Url;

use super::signing::SigningKeys;
use crate::{
    outbound::{self, Guard},
    ports::{
        clock::Clock,
        notifier::{Message, Notifier, NotifyError},
    },
};

/// A receiver has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One receiver.
pub struct Settings {
    /// Its name in configuration and in the outbox.
    pub name: String,
    /// Where to post to.
    pub url: Url,
    /// What to sign with.
    pub keys: SigningKeys,
    /// CloudEvents `source`: the broker's public URL.
    pub source: String,
    /// The receiver stands on this machine; `http` is allowed then.
    pub allow_loopback: bool,
}

/// A webhook that cannot be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Its URL is not one that messages may be sent to.
    #[error("the URL of webhook `{name}` is refused: {problem}")]
    Url {
        /// Which webhook.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client for webhook `{name}` could not be made: {problem}")]
    Client {
        /// Which webhook.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// Posts messages to one receiver.
pub struct WebhookNotifier {
    settings: Settings,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for WebhookNotifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WebhookNotifier({})", self.settings.name)
    }
}

impl WebhookNotifier {
    /// Checks the URL and makes the client. The process must have a rustls crypto provider installed.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, WebhookError> {
        Self::with_timeout(settings, clock, TIMEOUT)
    }

    fn with_timeout(settings: Settings, clock: Arc<dyn Clock>, timeout: Duration) -> Result<Self, WebhookError> {
        let name = || settings.name.clone();
        outbound::check(&settings.url, settings.allow_loopback)
            .map_err(|problem| WebhookError::Url { name: name(), problem })?;
        #[allow(clippy::disallowed_methods, reason = "webhooks need their own resolver, which refuses some addresses")]
        let builder = reqwest::Client::builder();
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(timeout)
            .dns_resolver(Guard { allow_loopback: settings.allow_loopback })
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| WebhookError::Client { name: name(), problem: e.to_string() })?;
        Ok(Self { settings, client, clock })
    }
}

/// A message as a CloudEvents 1.0 event in structured mode.
fn cloud_event(message: &Message, source: &str) -> serde_json::Value {
    json!({
        "specversion": "1.0",
        "id": message.id,
        "source": source,
        "type": message.kind,
        "time": message.at,
        "datacontenttype": "application/json",
        "data": message.data,
    })
}

/// What went wrong, without the URL, which may be a secret itself.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "the receiver did not answer in time"
    } else if error.is_connect() {
        "the receiver could not be reached"
    } else {
        "the request failed"
    };
    let cause = std::iter::successors(std::error::Error::source(error), |e| e.source()).last();
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}

#[async_trait]
impl Notifier for WebhookNotifier {
    fn name(&self) -> &str {
        &self.settings.name
    }

    async fn deliver(&self, message: &Message) -> Result<(), NotifyError> {
        let id = message.id.to_string();
        let body = cloud_event(message, &self.settings.source).to_string();
        let timestamp = self.clock.now().seconds();
        let signature = self.settings.keys.sign(&id, timestamp, body.as_bytes());
        let answer = self
            .client
            .post(self.settings.url.clone())
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await
            .map_err(|e| NotifyError::Retry(describe(&e)))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(NotifyError::Gone("it answered 410 Gone".to_owned())),
            status if status.is_redirection() => {
                Err(NotifyError::Retry(format!("it answered {status}; redirects are not followed")))
            }
            status => Err(NotifyError::Retry(format!("it answered {status}"))),
        }
    }
}

#[cfg(test)]
mod tests;
