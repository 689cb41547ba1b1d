//! Calls to one server: `vaultrs` where it has the call, and beside it a small typed client for leases, capabilities
//! and dynamic secrets, whose lease ids `vaultrs` drops.
//!
//! The broker's token is read from its file at every call, and once more when it is refused. Never logs a body.

use std::{num::NonZeroUsize, path::PathBuf, sync::Mutex, time::Duration};

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use lru::LruCache;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use url::Url;
use vaultrs::{
    api::EndpointMiddleware,
    client::{VaultClient, VaultClientSettings},
    error::ClientError,
};
use zeroize::Zeroizing;

use super::config::Settings;
use crate::{domain::id::GrantId, ports::connector::Fault};

/// Tries while the server says that it has too much to do.
const TRIES: u32 = 12;
/// Wait before the second try; doubled each time, up to a second.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How many leases are remembered as somebody's.
const REMEMBERED: NonZeroUsize = match NonZeroUsize::new(100_000) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

/// A token of the server.
type Token = Zeroizing<String>;

/// What a call can end with.
#[derive(Debug)]
pub(super) struct Failure {
    /// HTTP status; 0 where the server said nothing.
    pub status: u16,
    /// As the broker is to see it.
    pub fault: Fault,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        failure.fault
    }
}

/// A dynamic secret, fresh from the server.
#[derive(Deserialize)]
pub(super) struct Leased {
    #[serde(default)]
    pub lease_id: String,
    #[serde(default)]
    pub lease_duration: u32,
    #[serde(default)]
    pub renewable: bool,
    pub data: Option<Map<String, Value>>,
}

/// What the server says of one lease.
#[derive(Debug, Deserialize)]
pub(super) struct Lease {
    pub id: String,
    pub issue_time: Option<String>,
    pub expire_time: Option<String>,
    /// Seconds; 0 when it has expired and waits to be revoked.
    #[serde(default)]
    pub ttl: i64,
}

/// What `sys/health` says.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Health {
    #[serde(default)]
    pub sealed: bool,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub cluster_id: String,
    #[serde(default)]
    pub server_time_utc: i64,
}

#[derive(Deserialize)]
struct Enclosed<T> {
    data: T,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<String>,
}

/// The connections to one server.
pub(super) struct Client {
    address: Url,
    namespace: Option<String>,
    token_file: PathBuf,
    http: reqwest::Client,
    /// Whose leases were minted here: others need not be asked about them. Nothing depends on it but the number of calls.
    minted: Mutex<LruCache<String, GrantId>>,
}

impl Client {
    /// A lease was minted for this grant.
    pub(super) fn remember(&self, lease: &str, grant: GrantId) {
        if let Ok(mut minted) = self.minted.lock() {
            minted.put(lease.to_owned(), grant);
        }
    }

    /// Was this lease minted for another grant?
    pub(super) fn is_anothers(&self, lease: &str, grant: GrantId) -> bool {
        self.minted.lock().is_ok_and(|minted| minted.peek(lease).is_some_and(|of| *of != grant))
    }

    /// Connects to nothing yet. The process must have a rustls crypto provider installed.
    pub(super) fn new(settings: &Settings, token_file: PathBuf, limit: Duration) -> Result<Self, String> {
        #[allow(clippy::disallowed_methods, reason = "time-outs are set and redirects forbidden right here")]
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(limit)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &settings.tls_root_cert {
            let pem = std::fs::read(path).map_err(|e| format!("`tls_root_cert` {}: {e}", path.display()))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| format!("`tls_root_cert` {}: {e}", path.display()))?;
            builder = builder.tls_certs_only(roots);
        } else if settings.address.scheme() == "http" {
            builder = builder.tls_certs_only(Vec::new());
        }
        let http = builder.build().map_err(|e| format!("no HTTP client: {e}"))?;
        Ok(Self {
            address: settings.address.clone(),
            namespace: settings.namespace.clone(),
            token_file,
            http,
            minted: Mutex::new(LruCache::new(REMEMBERED)),
        })
    }

    /// A call of `vaultrs` with the broker's token.
    pub(super) async fn vaultrs<'a, T: Send + 'a>(
        &'a self,
        call: impl Fn(VaultClient) -> BoxFuture<'a, Result<T, ClientError>> + Send + Sync,
    ) -> Result<T, Failure> {
        let once = |token: Token| call(self.vault_client(&token)).map_err(|e| self.of_vaultrs(&e)).boxed();
        self.with_token(once).await
    }

    /// Read or change something with the broker's token: the `data` of the answer.
    pub(super) async fn call<T: DeserializeOwned + Send>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Failure> {
        let once = |token: Token| self.parsed(method.clone(), path, body, Some(token)).boxed();
        let answer: Enclosed<T> = self.with_token(once).await?;
        Ok(answer.data)
    }

    /// Change something with the broker's token, and expect no answer.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(), Failure> {
        self.with_token(|token: Token| self.send(Method::PUT, path, Some(body), Some(token)).boxed()).await.map(drop)
    }

    /// The names below a path; none where nothing is.
    pub(super) async fn list(&self, path: &str) -> Result<Vec<String>, Failure> {
        match self.call::<Keys>(Method::GET, &format!("{path}?list=true"), None).await {
            Ok(list) => Ok(list.keys),
            Err(e) if e.status == 404 => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// One lease; `None` where the server knows none of that id.
    pub(super) async fn lease(&self, id: &str) -> Result<Option<Lease>, Failure> {
        match self.call(Method::PUT, "sys/leases/lookup", Some(&json!({ "lease_id": id }))).await {
            Ok(lease) => Ok(Some(lease)),
            Err(e) if e.status == 400 || e.status == 404 => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Renew a lease to last that long; what the server makes of it.
    pub(super) async fn renew(&self, id: &str, seconds: u32) -> Result<u32, Failure> {
        let body = json!({"lease_id": id, "increment": seconds});
        let once = |token: Token| self.parsed(Method::PUT, "sys/leases/renew", Some(&body), Some(token)).boxed();
        let renewed: Leased = self.with_token(once).await?;
        Ok(renewed.lease_duration)
    }

    /// Read a dynamic secret with a token of its own, or write to its path.
    pub(super) async fn secret(
        &self,
        path: &str,
        data: Option<&Map<String, Value>>,
        token: &str,
    ) -> Result<Leased, Failure> {
        let body = data.map(|data| Value::Object(data.clone()));
        let method = if body.is_some() { Method::PUT } else { Method::GET };
        let once = || self.parsed(method.clone(), path, body.as_ref(), Some(Zeroizing::new(token.to_owned()))).boxed();
        patiently(once).await
    }

    /// Version, identity and clock of the server; needs no token.
    pub(super) async fn health(&self) -> Result<Health, Failure> {
        // Standby nodes are as good as the active one: they hand requests on.
        let path = "sys/health?standbyok=true&perfstandbyok=true&sealedcode=200";
        patiently(|| self.parsed(Method::GET, path, None, None).boxed()).await
    }

    async fn parsed<T: DeserializeOwned + Send>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<Token>,
    ) -> Result<T, Failure> {
        let bytes = self.send(method, path, body, token).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.unavailable(path, "the answer could not be read"))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        token: Option<Token>,
    ) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut url = self.address.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("/v1/{path}"));
        url.set_query(query);
        let mut request = self.http.request(method, url).header("X-Vault-Request", "true");
        if let Some(token) = token {
            let mut value = reqwest::header::HeaderValue::from_str(&token)
                .map_err(|_| self.unavailable(path, "the broker's token file holds no token"))?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|e| self.unavailable(path, &why(&e)))?;
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|e| self.unavailable(path, &why(&e)))?;
        if status.is_success() {
            return Ok(Zeroizing::new(bytes.to_vec()));
        }
        match serde_json::from_slice::<Errors>(&bytes) {
            Ok(told) => Err(self.refused(path, status.as_u16(), &told.errors)),
            // "Not there" is believed of the server itself, and not of a page of something in between.
            Err(_) if matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST) => {
                Err(self.unavailable(path, "what answered is not the server"))
            }
            Err(_) => Err(self.refused(path, status.as_u16(), &[])),
        }
    }

    /// One call with the broker's token; if that is refused, once more with what its file says then.
    async fn with_token<'a, T>(
        &'a self,
        call: impl Fn(Token) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync,
    ) -> Result<T, Failure> {
        let token = self.token().await?;
        match patiently(|| call(token.clone())).await {
            Err(refused) if refused.status == StatusCode::FORBIDDEN => {
                // The token may have been replaced between the reading and the asking.
                tokio::time::sleep(FIRST_PAUSE).await;
                let again = self.token().await?;
                if again == token {
                    return Err(self.denied(refused, token).await);
                }
                patiently(|| call(again.clone())).await
            }
            other => other,
        }
    }

    /// A token that is no longer one will be replaced, so another try is of use; a right that is missing is not there.
    async fn denied(&self, refused: Failure, token: Token) -> Failure {
        match self.send(Method::GET, "auth/token/lookup-self", None, Some(token)).await {
            Err(e) if e.status == StatusCode::FORBIDDEN => {
                let file = self.token_file.display();
                self.unavailable("auth/token/lookup-self", &format!("the broker's token in {file} is not accepted"))
            }
            _ => refused,
        }
    }

    async fn token(&self) -> Result<Token, Failure> {
        let text = tokio::fs::read_to_string(&self.token_file).await.map(Zeroizing::new).map_err(|e| {
            let file = self.token_file.display();
            self.unavailable("", &format!("the broker's token file {file} cannot be read: {e}"))
        })?;
        Ok(Zeroizing::new(text.trim().to_owned()))
    }

    /// Nothing is taken from the environment, as the builder of `vaultrs` would.
    fn vault_client(&self, token: &str) -> VaultClient {
        VaultClient {
            http: rustify::clients::reqwest::Client::new(self.address.as_str(), self.http.clone()),
            middle: EndpointMiddleware {
                token: token.to_owned(),
                version: "v1".into(),
                wrap: None,
                namespace: self.namespace.clone(),
            },
            settings: VaultClientSettings {
                address: self.address.clone(),
                ca_certs: Vec::new(),
                identity: None,
                timeout: None,
                token: String::new(),
                verify: true,
                version: 1,
                wrapping: false,
                namespace: self.namespace.clone(),
                proxy: None,
            },
        }
    }

    fn of_vaultrs(&self, error: &ClientError) -> Failure {
        use rustify::errors::ClientError as Rest;
        match error {
            ClientError::APIError { code, errors } => self.refused("auth/token", *code, errors),
            ClientError::RestClientError { source: Rest::ServerResponseError { code, .. } } => {
                self.refused("auth/token", *code, &[])
            }
            ClientError::RestClientError { source: Rest::RequestError { source, .. } } => {
                let text = source.downcast_ref::<reqwest::Error>().map_or_else(|| "no answer".into(), why);
                self.unavailable("auth/token", &text)
            }
            other => self.unavailable("auth/token", &other.to_string()),
        }
    }

    fn unavailable(&self, path: &str, text: &str) -> Failure {
        Failure { status: 0, fault: Fault::Unavailable(format!("{}{path}: {text}", self.address)) }
    }

    fn refused(&self, path: &str, status: u16, errors: &[String]) -> Failure {
        let said = errors.iter().map(|e| e.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
        let said = if said.is_empty() { "no reason given".to_owned() } else { said.join("; ") };
        let text = format!("{}{path}: {said} ({status})", self.address);
        // 412 and 472 to 474 are about replication; 5xx about a server that is sealed, overloaded or broken.
        let later = matches!(status, 307 | 412 | 429 | 472..=474 | 500..);
        Failure { status, fault: if later { Fault::Unavailable(text) } else { Fault::Refused(text) } }
    }
}

/// The same call again, with growing pauses, while the server has too much to do.
async fn patiently<'a, T>(call: impl Fn() -> BoxFuture<'a, Result<T, Failure>> + Send + Sync) -> Result<T, Failure> {
    let mut pause = FIRST_PAUSE;
    for _ in 1..TRIES {
        match call().await {
            Err(e) if e.status == StatusCode::TOO_MANY_REQUESTS => {}
            other => return other,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    call().await
}

/// What went wrong, without the URL.
fn why(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() { "no answer in time" } else { "the server could not be reached" };
    let cause = std::iter::successors(std::error::Error::source(error), |e| e.source()).last();
    cause.map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}
