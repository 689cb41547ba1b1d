//! One call: bearer token, tries, and what an answer that nobody promised means.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;
use tokio::sync::Mutex;
use url::Url;

use super::{BadSettings, Features, Settings, settings::Update};
use crate::{
    domain::{secret::Secret, time::Timestamp},
    outbound::{self, Guard},
    ports::{clock::Clock, connector::Fault},
};

/// The media type of RFC 7644.
const SCIM_JSON: &str = "application/scim+json";
/// Nothing larger is read.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// Tries of one call, where a repeat is harmless.
const TRIES: u32 = 3;
/// A server that wants to be left alone for longer than this is left alone by everybody.
const SHORT_WAIT: Duration = Duration::from_secs(2);
/// If it does not say for how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// However long it says.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A server, spoken to with one token.
pub struct ScimClient {
    base: Url,
    http: reqwest::Client,
    token_file: Option<PathBuf>,
    /// The token in use; one lock, so that a refused one is read again once and not by every call.
    token: Mutex<Option<Arc<Secret>>>,
    clock: Arc<dyn Clock>,
    busy_until: AtomicI64,
    pub(super) features: Mutex<Option<Features>>,
    pub(super) update: Option<Update>,
    pub(super) page_size: u32,
    pub(super) member_chunk: usize,
}

impl std::fmt::Debug for ScimClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScimClient({})", self.base.host_str().unwrap_or_default())
    }
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `Null` if there was no body, or none that is JSON.
    pub(super) body: Value,
    pub(super) etag: Option<String>,
    pub(super) location: Option<String>,
}

impl Answer {
    /// Is it an error in the form of RFC 7644 §3.12, and so from the SCIM server itself?
    pub(super) fn is_scim_error(&self) -> bool {
        let schemas = self.body.get("schemas").and_then(Value::as_array);
        schemas.is_some_and(|s| s.iter().any(|s| s.as_str().is_some_and(|s| s.ends_with(":Error"))))
            || self.body.get("scimType").is_some()
            || (self.body.get("status").is_some() && self.body.get("detail").is_some())
    }

    /// The server's words, shortened; never a page of HTML.
    fn detail(&self) -> String {
        let word = |name: &str| self.body.get(name).and_then(Value::as_str).unwrap_or_default();
        let text = format!("{} {}", word("scimType"), word("detail"));
        let clean: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
        if clean.trim().is_empty() { String::new() } else { format!(": {}", clean.trim()) }
    }

    /// The fault that an answer is that is no success.
    pub(super) fn fault(&self) -> Fault {
        let text = format!("it answered {}{}", self.status, self.detail());
        if self.status.is_server_error()
            || matches!(self.status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        {
            Fault::Unavailable(text)
        } else if self.status.is_redirection() {
            Fault::Refused(format!("it answered {}; redirects are not followed, correct the URL", self.status))
        } else {
            Fault::Refused(text)
        }
    }
}

/// One call to be.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Below the base URL; each is escaped.
    pub(super) path: &'a [&'a str],
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<&'a Value>,
    pub(super) if_match: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(super) const fn get(path: &'a [&'a str], query: &'a [(&'a str, &'a str)]) -> Self {
        Self { method: Method::GET, path, query, body: None, if_match: None }
    }

    pub(super) const fn send(method: Method, path: &'a [&'a str], body: &'a Value) -> Self {
        Self { method, path, query: &[], body: Some(body), if_match: None }
    }
}

enum Failure {
    /// Nobody knows whether the server did it.
    Unknown(Fault),
    Known(Fault),
}

impl ScimClient {
    /// Checks the URL, reads the token, makes the HTTP client. The process must have a rustls crypto provider installed.
    pub fn new(settings: &Settings, timeout: Duration, clock: Arc<dyn Clock>) -> Result<Self, BadSettings> {
        outbound::check(&settings.url, settings.allow_loopback)
            .map_err(|problem| BadSettings(format!("`url`: {problem}")))?;
        if settings.url.query().is_some() || settings.url.fragment().is_some() {
            return Err(BadSettings("`url`: it must end with its path, as in https://app.example.com/scim/v2".into()));
        }
        #[allow(clippy::disallowed_methods, reason = "it needs its own resolver, which refuses some addresses")]
        let builder = reqwest::Client::builder();
        let http = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(timeout)
            .dns_resolver(Guard { allow_loopback: settings.allow_loopback })
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| BadSettings(format!("the HTTP client could not be made: {e}")))?;
        let client = Self {
            base: settings.url.clone(),
            http,
            token_file: settings.token_file.clone(),
            token: Mutex::new(None),
            clock,
            busy_until: AtomicI64::new(i64::MIN),
            features: Mutex::new(None),
            update: settings.update,
            page_size: settings.page_size.clamp(1, 10_000),
            member_chunk: settings.member_chunk.max(1),
        };
        // A file that is not there is found at the start, and not in the night.
        client.read_token().map_err(|e| BadSettings(e.to_string()))?;
        Ok(client)
    }

    /// Until when the server has asked to be left alone, if it has.
    pub fn busy_until(&self) -> Option<Timestamp> {
        let until = self.busy_until.load(Ordering::Acquire);
        (until > self.clock.now().micros()).then(|| Timestamp::from_micros(until))
    }

    fn read_token(&self) -> Result<Option<Secret>, Fault> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file)
            .map_err(|e| Fault::Unavailable(format!("the token file {} cannot be read: {e}", file.display())))?;
        let text = zeroize::Zeroizing::new(text);
        Ok(Some(Secret::new(text.trim().to_owned())))
    }

    /// The token; read again if `refused` is the one in use.
    async fn token(&self, refused: Option<&Arc<Secret>>) -> Result<Option<Arc<Secret>>, Fault> {
        let mut kept = self.token.lock().await;
        let stale = match (&*kept, refused) {
            (None, _) => true,
            (Some(kept), Some(refused)) => Arc::ptr_eq(kept, refused),
            (Some(_), None) => false,
        };
        if stale {
            *kept = self.read_token()?.map(Arc::new);
        }
        Ok(kept.clone())
    }

    fn url(&self, call: &Call<'_>) -> Result<Url, Fault> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Fault::Refused("the URL cannot have a path".to_owned()))?
            .pop_if_empty()
            .extend(call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        Ok(url)
    }

    /// Ask something that is not SCIM, of a server that is reached the same way: its answer, or `Null` if it has none.
    pub async fn ask(&self, method: &str, path: &[String], query: &[(String, String)]) -> Result<Value, Fault> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Fault::Refused("no such method".to_owned()))?;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = self.call(Call { method, path: &path, query: &query, body: None, if_match: None }).await?;
        if answer.status.is_success() { Ok(answer.body) } else { Err(answer.fault()) }
    }

    /// Make a call, again where that is harmless or where the server has said that it did nothing.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, Fault> {
        if let Some(until) = self.busy_until() {
            return Err(Fault::Unavailable(format!("it asked to be left alone until {until}")));
        }
        let mut token = self.token(None).await?;
        let (mut tries, mut renewed) = (0, false);
        loop {
            tries += 1;
            let outcome = self.once(&call, token.as_deref()).await;
            let repeatable = call.method == Method::GET && tries < TRIES;
            match outcome {
                Ok(answer) if answer.status == StatusCode::UNAUTHORIZED && !renewed && self.token_file.is_some() => {
                    renewed = true;
                    token = self.token(token.as_ref()).await?;
                }
                Ok(answer) => return Ok(answer),
                Err(Busy::For(wait)) => {
                    if wait > SHORT_WAIT || tries >= TRIES {
                        let until = self.clock.now().plus_std(wait);
                        self.busy_until.fetch_max(until.micros(), Ordering::AcqRel);
                        return Err(Fault::Unavailable(format!("it asked to be left alone until {until}")));
                    }
                    tokio::time::sleep(wait).await;
                }
                Err(Busy::Failed(Failure::Unknown(_))) if repeatable => {}
                Err(Busy::Failed(Failure::Unknown(fault) | Failure::Known(fault))) => return Err(fault),
            }
        }
    }

    async fn once(&self, call: &Call<'_>, token: Option<&Secret>) -> Result<Answer, Busy> {
        let known = |fault| Busy::Failed(Failure::Known(fault));
        let url = self.url(call).map_err(known)?;
        let mut request = self
            .http
            .request(call.method.clone(), url)
            .header(header::ACCEPT, "application/scim+json, application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(etag) = call.if_match {
            request = request.header(header::IF_MATCH, etag);
        }
        if let Some(body) = call.body {
            request = request.header(header::CONTENT_TYPE, SCIM_JSON).body(body.to_string());
        }
        let response =
            request.send().await.map_err(|e| Busy::Failed(Failure::Unknown(Fault::Unavailable(describe(&e)))))?;
        let status = response.status();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            return Err(Busy::For(self.retry_after(response.headers())));
        }
        let text =
            |name| response.headers().get(name).and_then(|v: &http::HeaderValue| v.to_str().ok()).map(str::to_owned);
        let (etag, location) = (text(header::ETAG), text(header::LOCATION));
        let bytes = bytes(response).await.map_err(|fault| Busy::Failed(Failure::Unknown(fault)))?;
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let answer = Answer { status, body, etag, location };
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
            return Err(Busy::Failed(Failure::Unknown(answer.fault())));
        }
        Ok(answer)
    }

    /// `Retry-After`, in seconds or as a date.
    fn retry_after(&self, headers: &HeaderMap) -> Duration {
        let text = headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()).unwrap_or_default().trim();
        let wait = match text.parse::<u64>() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => chrono::DateTime::parse_from_rfc2822(text)
                .ok()
                .map(|at| Timestamp::from_micros(at.timestamp_micros()).since(self.clock.now())),
        };
        wait.unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT)
    }
}

enum Busy {
    For(Duration),
    Failed(Failure),
}

async fn bytes(response: reqwest::Response) -> Result<Vec<u8>, Fault> {
    let mut read = Vec::new();
    let mut stream = response.bytes_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| Fault::Unavailable(describe(&e)))?;
        if read.len().saturating_add(chunk.len()) > MOST_BYTES {
            return Err(Fault::Refused(format!("its answer has more than {MOST_BYTES} bytes")));
        }
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}

/// What went wrong, without the URL.
fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "it did not answer in time"
    } else if error.is_connect() {
        "it could not be reached"
    } else {
        "the call failed"
    };
    let cause = std::iter::successors(std::error::Error::source(error), |e| e.source()).last();
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
