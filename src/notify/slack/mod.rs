//! Slack's Web API over HTTPS: one call, once, within the rate that Slack allows.
//!
//! Waits for nothing, retries nothing, follows no redirect, and repeats nothing of an answer but its error code. The
//! tokens go into one header and nowhere else.

mod pace;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{StatusCode, header};
use serde_json::Value;
use url::Url;

use crate::{
    domain::secret::Secret,
    ports::{
        chat::{Chat, ChatError},
        clock::Clock,
    },
};
use pace::Pace;

/// Slack answers within this, or the call is given up.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Answers larger than this are not read.
const LARGEST: usize = 4 << 20;

/// How to reach Slack.
pub struct Settings {
    /// `https://slack.com/api/`.
    pub api: Url,
    /// `xoxb-…`.
    pub bot_token: Secret,
    /// `xapp-…`, for Socket Mode.
    pub app_token: Option<Secret>,
    /// The API stands on this machine (the fake one); `http` is allowed then.
    pub allow_loopback: bool,
}

/// A client that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SlackError {
    /// The URL is not one that a token may be sent to.
    #[error("slack.api is refused: {0}")]
    Url(&'static str),
    /// A token has the wrong form. Says nothing of its content.
    #[error("{0} must begin with `{1}` and be one word")]
    Token(&'static str, &'static str),
    /// The HTTP client could not be made.
    #[error("the HTTP client for Slack could not be made: {0}")]
    Client(String),
}

/// The client.
pub struct SlackClient {
    settings: Settings,
    client: reqwest::Client,
    pace: Pace,
}

impl SlackClient {
    /// Checks URL and tokens and makes the client. The process must have a rustls crypto provider installed.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, SlackError> {
        crate::outbound::check(&settings.api, settings.allow_loopback).map_err(SlackError::Url)?;
        let fits = |token: &Secret, prefix: &str| {
            let text = token.expose();
            text.starts_with(prefix) && text.len() > prefix.len() && text.chars().all(|c| c.is_ascii_graphic())
        };
        if !fits(&settings.bot_token, "xoxb-") {
            return Err(SlackError::Token("the bot token", "xoxb-"));
        }
        if settings.app_token.as_ref().is_some_and(|t| !fits(t, "xapp-")) {
            return Err(SlackError::Token("the app token", "xapp-"));
        }
        #[allow(clippy::disallowed_methods, reason = "answers go to addresses that came from outside: own resolver")]
        let builder = reqwest::Client::builder();
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .dns_resolver(crate::outbound::Guard { allow_loopback: settings.allow_loopback })
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| SlackError::Client(e.to_string()))?;
        Ok(Self { settings, client, pace: Pace::new(clock) })
    }

    async fn post(&self, url: Url, token: Option<&Secret>, body: &Value) -> Result<reqwest::Response, ChatError> {
        let mut request = self
            .client
            .post(url)
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body.to_string());
        if let Some(token) = token {
            let mut value = http::HeaderValue::try_from(format!("Bearer {}", token.expose()))
                .map_err(|_| ChatError::Unreachable("the token cannot be sent".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.send().await.map_err(|e| ChatError::Unreachable(super::webhook::describe(&e)))
    }

    /// Methods that read take their arguments in the query; the others as JSON.
    async fn exchange(
        &self,
        method: &'static str,
        token: &Secret,
        arguments: &Value,
    ) -> Result<(StatusCode, Option<Duration>, Value), ChatError> {
        let mut url =
            self.settings.api.join(method).map_err(|_| ChatError::Unreachable("slack.api is no base".to_owned()))?;
        if reads(method)
            && let Some(fields) = arguments.as_object()
        {
            let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
            url.query_pairs_mut().extend_pairs(fields.iter().map(|(k, v)| (k.as_str(), text(v))));
        }
        let answer = self.post(url, Some(token), arguments).await?;
        let status = answer.status();
        let wait = answer.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let bytes = bounded(answer).await?;
        Ok((status, wait.map(Duration::from_secs), serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    async fn call_with(&self, token: &Secret, method: &'static str, arguments: &Value) -> Result<Value, ChatError> {
        let channel = arguments.get("channel").and_then(Value::as_str).unwrap_or_default();
        self.pace.take(method, channel)?;
        let outcome = self.exchange(method, token, arguments).await;
        let result = match outcome {
            Err(error) => Err(error),
            Ok((StatusCode::TOO_MANY_REQUESTS, wait, _)) => {
                let wait = wait.unwrap_or(Duration::from_secs(1)).clamp(Duration::from_secs(1), LONGEST_WAIT);
                self.pace.hold(method, wait);
                Err(ChatError::Later(wait))
            }
            Ok((status, _, _)) if !status.is_success() => Err(ChatError::Unreachable(format!("it answered {status}"))),
            Ok((_, _, answer)) => match answer.get("ok").and_then(Value::as_bool) {
                Some(true) => Ok(answer),
                Some(false) => Err(ChatError::Refused(code(&answer))),
                None => Err(ChatError::Unreachable("it answered something else than JSON of Slack".to_owned())),
            },
        };
        let outcome = match &result {
            Ok(_) => "ok".to_owned(),
            Err(ChatError::Later(_)) => "rate_limited".to_owned(),
            Err(ChatError::Refused(code)) => code.clone(),
            Err(ChatError::Unreachable(_)) => "unreachable".to_owned(),
        };
        metrics::counter!("tidegate_slack_api_requests_total", "method" => method, "code" => outcome).increment(1);
        result
    }
}

/// However long they say, we look again after this.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

fn reads(method: &str) -> bool {
    matches!(method, "users.info" | "conversations.info" | "bots.info")
}

/// An error code as documented: a short word, whatever was sent.
fn code(answer: &Value) -> String {
    let text = answer.get("error").and_then(Value::as_str).unwrap_or("unknown_error");
    text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(60).collect()
}

async fn bounded(mut answer: reqwest::Response) -> Result<Vec<u8>, ChatError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| ChatError::Unreachable(super::webhook::describe(&e)))? {
        if bytes.len() + chunk.len() > LARGEST {
            return Err(ChatError::Unreachable("its answer is too large".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[async_trait]
impl Chat for SlackClient {
    async fn call(&self, method: &'static str, arguments: &Value) -> Result<Value, ChatError> {
        self.call_with(&self.settings.bot_token, method, arguments).await
    }

    async fn answer(&self, address: &Secret, message: &Value) -> Result<(), ChatError> {
        let url = Url::parse(address.expose()).map_err(|_| ChatError::Refused("bad_response_url".to_owned()))?;
        // Only to where Slack's own answers go: the address came in with a payload.
        let ours = url.host_str() == self.settings.api.host_str() && url.port() == self.settings.api.port();
        let slacks = url.scheme() == "https" && url.host_str() == Some("hooks.slack.com");
        let ours = ours && url.scheme() == self.settings.api.scheme();
        if !slacks && !ours {
            return Err(ChatError::Refused("bad_response_url".to_owned()));
        }
        let answer = self.post(url, None, message).await?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(ChatError::Unreachable(format!("it answered {status}"))),
        }
    }

    async fn socket(&self) -> Result<Secret, ChatError> {
        let token = self.settings.app_token.as_ref();
        let token = token.ok_or_else(|| ChatError::Refused("not_allowed_token_type".to_owned()))?;
        let answer = self.call_with(token, "apps.connections.open", &Value::Object(serde_json::Map::new())).await?;
        let url = answer.get("url").and_then(Value::as_str).unwrap_or_default();
        let fits = url.starts_with("wss://") || (self.settings.allow_loopback && url.starts_with("ws://127.0.0.1:"));
        if fits { Ok(Secret::new(url.to_owned())) } else { Err(ChatError::Refused("bad_socket_url".to_owned())) }
    }
}
