//! The HTTP client of the API. Sends the token to the configured server and nowhere else: over https or to this
//! machine, and after no redirect. Turns every answer that is not the one wanted into a [`Failure`].

use std::{net::IpAddr, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::{Host, Url};

use super::{
    exit::{Exit, Failure},
    text::clean,
};
use crate::{
    domain::{secret::Secret, time::Timestamp},
    ports::entropy::{Entropy as _, SystemEntropy},
};

/// An answer longer than this is not one of the API.
const MAX_ANSWER: usize = 16 << 20;
/// A page of a list.
const PAGE: u32 = 200;

/// Talks to one server.
pub struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<Secret>,
}

/// What an unauthenticated look at a path gave.
pub struct Probe {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The body, as JSON if it is.
    pub body: Value,
}

/// What a call sends.
enum Body<'a> {
    None,
    Json(&'a Value),
    Form(&'a [(&'a str, &'a str)]),
}

impl Client {
    /// For this server. A token is refused if it would cross a network in clear.
    pub fn new(server: &str, token: Option<Secret>, timeout: Duration) -> Result<Self, Failure> {
        crate::keys::init_crypto();
        let base = server_url(server)?;
        let local = is_loopback(&base);
        if base.scheme() == "http" && !local && token.is_some() {
            return Err(Failure::usage(format!(
                "the token was not sent: {} is neither https nor this machine",
                clean(server)
            ))
            .next("use https:// in --server or TIDEGATE_SERVER"));
        }
        #[allow(clippy::disallowed_methods, reason = "the command line's own client: it also forbids redirects")]
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(concat!("tidegate-cli/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout.min(Duration::from_secs(10)))
            .timeout(timeout);
        if local {
            builder = builder.no_proxy();
        }
        let http =
            builder.build().map_err(|e| Failure::local(format!("no HTTP client could be made: {}", chain(&e))))?;
        Ok(Self { base, http, token })
    }

    /// The server, as messages name it.
    pub fn server(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Where the server is.
    pub fn url(&self) -> &Url {
        &self.base
    }

    /// When the token ends, if it says so itself, as a JSON Web Token does. Not verified: only the server can.
    pub fn token_expiry(&self) -> Option<Timestamp> {
        let mut parts = self.token.as_ref()?.expose().split('.');
        let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
        let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
        let claims: Value = serde_json::from_slice(&payload).ok()?;
        claims.get("exp")?.as_i64().map(Timestamp::from_seconds)
    }

    /// GET a thing.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failure> {
        self.json(Method::GET, path, query, Body::None, None).await
    }

    /// GET a thing as the type that it must be; the raw form is for `--json`.
    pub async fn get_as<T: DeserializeOwned>(&self, path: &[&str]) -> Result<(Value, T), Failure> {
        typed(self.get(path, &[]).await?)
    }

    /// POST.
    pub async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.json(Method::POST, path, &[], Body::Json(body), None).await
    }

    /// POST with an `Idempotency-Key`: repeated if the connection breaks, because the repeat is harmless.
    pub async fn post_once(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        let key = SystemEntropy::new().text(18).map_err(|e| Failure::local(e.to_string()))?;
        let mut pause = Duration::from_millis(200);
        for _ in 0..2 {
            match self.json(Method::POST, path, &[], Body::Json(body), Some(key.expose())).await {
                Err(failure) if failure.exit == Exit::Unreachable => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            pause *= 4;
        }
        self.json(Method::POST, path, &[], Body::Json(body), Some(key.expose())).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.json(Method::PATCH, path, &[], Body::Json(body), None).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &[&str]) -> Result<Value, Failure> {
        self.json(Method::DELETE, path, &[], Body::None, None).await
    }

    /// POST a form without the token: the form brings its own credentials.
    pub async fn form(&self, path: &[&str], fields: &[(&str, &str)]) -> Result<Value, Failure> {
        if self.base.scheme() == "http" && !is_loopback(&self.base) {
            return Err(Failure::usage("the secret was not sent: the server is neither https nor this machine")
                .next("use https:// in --server or TIDEGATE_SERVER"));
        }
        self.json(Method::POST, path, &[], Body::Form(fields), None).await
    }

    /// POST a form without the token, and take the answer whatever its status.
    pub async fn form_answer(&self, path: &[&str], fields: &[(&str, &str)]) -> Result<(u16, Value), Failure> {
        let (status, _, bytes) = self.send(Method::POST, path, &[], Body::Form(fields), None).await?;
        Ok((status.as_u16(), serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }

    /// GET a text.
    pub async fn text(&self, path: &[&str]) -> Result<String, Failure> {
        let (status, _, bytes) = self.send(Method::GET, path, &[], Body::None, None).await?;
        if !status.is_success() {
            return Err(self.refused(status, &bytes));
        }
        String::from_utf8(bytes).map_err(|_| self.strange("it is not text"))
    }

    /// All rows of a list up to `limit`, over as many pages as it takes.
    pub async fn list(&self, path: &[&str], query: &[(&str, String)], limit: u32) -> Result<Vec<Value>, Failure> {
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let left = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            let (mut page, next) = self.page(path, query, after.as_deref(), left.min(PAGE)).await?;
            rows.append(&mut page);
            rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
            match next {
                Some(next)
                    if rows.len() < usize::try_from(limit).unwrap_or(usize::MAX) && after.as_ref() != Some(&next) =>
                {
                    after = Some(next);
                }
                _ => return Ok(rows),
            }
        }
    }

    /// All rows of a list that has no pages.
    pub async fn whole(&self, path: &[&str]) -> Result<Vec<Value>, Failure> {
        let (_, list) = self.get_as::<crate::broker::view::List<Value>>(path).await?;
        Ok(list.items)
    }

    /// One page of a list and the cursor of the next.
    pub async fn page(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        after: Option<&str>,
        limit: u32,
    ) -> Result<(Vec<Value>, Option<String>), Failure> {
        let mut query = query.to_vec();
        query.push(("limit", limit.clamp(1, PAGE).to_string()));
        query.extend(after.map(|after| ("after", after.to_owned())));
        let (_, list) = typed::<crate::broker::view::List<Value>>(self.get(path, &query).await?)?;
        Ok((list.items, list.next))
    }

    /// Look at a path without a token and without an opinion.
    pub async fn probe(&self, path: &[&str]) -> Result<Probe, Failure> {
        let (status, headers, bytes) = self.request(Method::GET, path, &[], Body::None, None, false).await?;
        Ok(Probe { status: status.as_u16(), headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) })
    }

    async fn json(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Body<'_>,
        key: Option<&str>,
    ) -> Result<Value, Failure> {
        let (status, _, bytes) = self.send(method, path, query, body, key).await?;
        if !status.is_success() {
            return Err(self.refused(status, &bytes));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| self.strange("it is not JSON"))
    }

    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Body<'_>,
        key: Option<&str>,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let authorised = !matches!(body, Body::Form(_));
        if authorised && self.token.is_none() {
            return Err(Failure::new(Exit::Login, "there is no token to sign in with")
                .next("run `tidegate login`, set TIDEGATE_TOKEN_FILE, or give --token-file or --token-stdin"));
        }
        self.request(method, path, query, body, key, authorised).await
    }

    async fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Body<'_>,
        key: Option<&str>,
        authorised: bool,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Failure> {
        let changes = method != Method::GET;
        let mut request = self.http.request(method, self.path(path)?).header(header::ACCEPT, "application/json");
        if !query.is_empty() {
            request = request.query(query);
        }
        request = match body {
            Body::None => request,
            Body::Json(value) => request.json(value),
            Body::Form(fields) => request.form(fields),
        };
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(token) = self.token.as_ref().filter(|_| authorised) {
            request = request.bearer_auth(token.expose());
        }
        let mut response = request.send().await.map_err(|e| self.unreachable(&e, changes))?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unreachable(&e, changes))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.strange("it is too long"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((response.status(), response.headers().clone(), bytes))
    }

    fn path(&self, path: &[&str]) -> Result<Url, Failure> {
        if let Some(bad) = path.iter().find(|s| s.is_empty() || **s == "." || **s == "..") {
            return Err(Failure::new(Exit::NotFound, format!("`{bad}` is not the name of anything")));
        }
        let mut url = self.base.clone();
        url.path_segments_mut().map_err(|()| Failure::usage("--server: not a usable URL"))?.pop_if_empty().extend(path);
        Ok(url)
    }

    fn unreachable(&self, error: &reqwest::Error, changes: bool) -> Failure {
        let what = if error.is_timeout() {
            format!("{} did not answer in time", self.server())
        } else if error.is_connect() {
            format!("{} cannot be reached: {}", self.server(), chain(error))
        } else {
            format!("the connection to {} broke: {}", self.server(), chain(error))
        };
        let mut failure = Failure::new(Exit::Unreachable, what);
        failure.kept = Some(if error.is_connect() || !changes {
            "Nothing was changed.".to_owned()
        } else {
            "It may have been done all the same; look with `tidegate status` before you repeat it.".to_owned()
        });
        failure.next("check --server or TIDEGATE_SERVER, then run `tidegate doctor`")
    }

    fn strange(&self, why: &str) -> Failure {
        Failure::local(format!("the answer of {} cannot be read: {why}", self.server()))
            .next("check that --server names a Tidegate server of this version: `tidegate doctor`")
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        if status.is_redirection() {
            return Failure::local(format!("{} wants to send us elsewhere, which is not followed", self.server()))
                .kept("The token was not sent there.")
                .next("put the final address in --server or TIDEGATE_SERVER");
        }
        let problem: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text = |key: &str| problem.get(key).and_then(Value::as_str).filter(|t| !t.is_empty()).map(clean);
        let what = text("detail")
            .or_else(|| text("error_description"))
            .or_else(|| text("title"))
            .or_else(|| text("error"))
            .unwrap_or_else(|| format!("the server answered {}", status.as_u16()));
        let mut failure = Failure::new(Exit::of_status(status.as_u16()), what);
        let rows = |key: &str| problem.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        for condition in rows("conditions") {
            let met = condition.get("met").and_then(Value::as_bool).unwrap_or_default();
            if let Some(text) = condition.get("text").and_then(Value::as_str) {
                failure.details.push(format!("{} {}", if met { "✓" } else { "✗" }, clean(text)));
            }
        }
        for reason in rows("reasons") {
            let part = |key: &str| clean(reason.get(key).and_then(Value::as_str).unwrap_or_default());
            failure.details.push(format!("{} {}: {}", part("effect"), part("policy"), part("text")));
        }
        failure.next = match failure.exit {
            Exit::Login => Some("get a new token, then set TIDEGATE_TOKEN_FILE or give --token-file".to_owned()),
            Exit::Unreachable => Some("try again shortly".to_owned()),
            _ => None,
        };
        failure
    }
}

/// Read an answer as the type that it must be, and keep it as it came.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<(Value, T), Failure> {
    match T::deserialize(&value) {
        Ok(it) => Ok((value, it)),
        Err(e) => Err(Failure::local(format!("the server's answer is not understood: {}", clean(&e.to_string())))
            .next("use a `tidegate` of the server's version: `tidegate doctor`")),
    }
}

fn server_url(server: &str) -> Result<Url, Failure> {
    let bad = |why: &str| {
        Failure::usage(format!("--server: `{}` {why}", clean(server)))
            .next("write it like https://tidegate.example.com")
    };
    let url = Url::parse(server.trim()).map_err(|_| bad("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(bad("is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Failure::usage("--server: a user name or password in the URL is not used")
            .next("take it out, and give a token with --token-file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has a query or fragment"));
    }
    Ok(url)
}

/// Is it this very machine?
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip).is_loopback(),
        None => false,
    }
}

/// The innermost cause, which names the trouble; without the URL.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    clean(&cause.to_string())
}

#[cfg(test)]
#[path = "client_tests.rs"]
pub(crate) mod tests;
