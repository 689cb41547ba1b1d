//! Adapter: an OpenID provider (OpenID Connect Core 1.0, authorization code with PKCE, Discovery 1.0, RP-Initiated Logout
//! 1.0). Believes what the provider says about who somebody is, after checking all of it, and nothing else that it says.
//!
//! Follows no redirect, keeps no token (the ID token goes to the browser that it was made for), and asks the provider for its keys again when it signs with a new one. A provider
//! that hangs holds up nobody for whom what is known already is enough.

mod id_token;
mod known;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde::{Deserialize, Deserializer};
use tokio::sync::{Mutex, RwLock};
use url::Url;

use crate::{
    domain::{secret::Secret, time::Timestamp},
    ports::identity_provider::{Attempt, IdentityProvider, ProviderError, Redeemed},
};
use known::Known;

/// The provider has this long for each answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const MAX_BYTES: usize = 1 << 20;
/// After a failure it is left alone for so long.
const BACK_OFF: Duration = Duration::from_secs(30);
/// What is asked for. Groups are not: the directory says who is in which.
const SCOPE: &str = "openid email profile";

/// Where the provider is and how it knows us.
pub struct Settings {
    /// Its name, as people know it.
    pub name: String,
    /// Its address, exactly as it calls itself.
    pub issuer: Url,
    /// Our name there.
    pub client_id: String,
    /// Our secret there; without one we are a public client.
    pub client_secret: Option<Secret>,
    /// The claim that holds a person's unique name in the directory; without it, the verified e-mail says who it is.
    pub name_claim: Option<String>,
    /// It verifies e-mail addresses though it does not say so.
    pub trust_email: bool,
    /// Accept a provider on loopback without TLS.
    pub allow_loopback: bool,
}

/// One provider.
pub struct Provider {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    client: reqwest::Client,
    kept: RwLock<Kept>,
    /// Whoever holds it asks the provider: one at a time.
    asking: Mutex<()>,
}

/// What is known, and the last failure since.
#[derive(Default)]
struct Kept {
    known: Option<Arc<Known>>,
    failed: Option<(Timestamp, ProviderError)>,
}

impl Kept {
    /// It failed a moment ago: asking again would only make people wait.
    fn backs_off(&self, now: Timestamp) -> Option<&ProviderError> {
        self.failed.as_ref().filter(|(at, _)| now.since(*at) < BACK_OFF).map(|(_, error)| error)
    }
}

/// What the token endpoint answers (OpenID Connect Core §3.1.3.3). The access token is for the `UserInfo` endpoint, once.
#[derive(Deserialize)]
struct Tokens {
    #[serde(deserialize_with = "secret")]
    id_token: Secret,
    #[serde(default, deserialize_with = "optional_secret")]
    access_token: Option<Secret>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

fn optional_secret<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(Secret::new))
}

/// An OAuth error (RFC 6749 §5.2).
#[derive(Deserialize)]
struct OauthError {
    error: String,
    error_description: Option<String>,
}

impl Provider {
    /// Checks the address and makes the client; asks nobody yet. The process must have its crypto providers installed.
    pub fn new(settings: Settings) -> Result<Self, String> {
        reachable(&settings.issuer, settings.allow_loopback)?;
        #[allow(clippy::disallowed_methods, reason = "a client of its own: no redirects, no proxy, a short time-out")]
        let builder = reqwest::Client::builder();
        let client = builder
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self { inner: Arc::new(Inner { settings, client, kept: RwLock::default(), asking: Mutex::new(()) }) })
    }
}

impl Inner {
    fn unavailable(&self, why: impl std::fmt::Display) -> ProviderError {
        ProviderError::Unavailable { name: self.settings.name.clone(), why: why.to_string() }
    }

    /// An answer with status 200, of a bounded size.
    async fn body(&self, response: reqwest::Response) -> Result<(reqwest::StatusCode, Vec<u8>), ProviderError> {
        let status = response.status();
        let mut response = response;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.unavailable(e.without_url()))? {
            if bytes.len() + chunk.len() > MAX_BYTES {
                return Err(ProviderError::Untrusted("an answer is too large".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status, bytes))
    }

    async fn get(&self, url: Url, bearer: Option<&Secret>) -> Result<Vec<u8>, ProviderError> {
        reachable(&url, self.settings.allow_loopback).map_err(ProviderError::Untrusted)?;
        let mut call = self.client.get(url).header(http::header::ACCEPT, "application/json");
        if let Some(token) = bearer {
            call = call.bearer_auth(token.expose());
        }
        let response = call.send().await.map_err(|e| self.unavailable(e.without_url()))?;
        let (status, bytes) = self.body(response).await?;
        if status == reqwest::StatusCode::OK {
            Ok(bytes)
        } else {
            Err(self.unavailable(format!("it answers {status}")))
        }
    }

    /// What is known of the provider. What is old is used at once, and asked for again beside; who knows nothing waits for
    /// the one who asks.
    async fn known(self: &Arc<Self>, now: Timestamp) -> Result<Arc<Known>, ProviderError> {
        {
            let kept = self.kept.read().await;
            if let Some(known) = kept.known.as_ref().filter(|k| k.is_usable(now)) {
                if !known.is_fresh(now) && kept.backs_off(now).is_none() {
                    let (inner, before) = (Arc::clone(self), Arc::clone(known));
                    tokio::spawn(async move {
                        if let Ok(_asking) = inner.asking.try_lock() {
                            let _ = inner.ask(Some(&before), now).await;
                        }
                    });
                }
                return Ok(Arc::clone(known));
            }
        }
        let _asking = self.asking.lock().await;
        self.ask(None, now).await
    }

    /// Ask, unless somebody has asked since `before`, or just now in vain. For whoever holds `asking`.
    async fn ask(&self, before: Option<&Known>, now: Timestamp) -> Result<Arc<Known>, ProviderError> {
        {
            let kept = self.kept.read().await;
            let newer = |k: &&Arc<Known>| before.map_or(k.is_usable(now), |b| k.asked_after(b));
            if let Some(known) = kept.known.as_ref().filter(newer) {
                return Ok(Arc::clone(known));
            }
            if let Some(error) = kept.backs_off(now) {
                return Err(error.clone());
            }
        }
        let answer = self.ask_again(now).await;
        let mut kept = self.kept.write().await;
        match answer {
            Ok(known) => {
                let known = Arc::new(known);
                *kept = Kept { known: Some(Arc::clone(&known)), failed: None };
                Ok(known)
            }
            Err(error) => {
                kept.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }

    async fn ask_again(&self, now: Timestamp) -> Result<Known, ProviderError> {
        let document = self.get(known::discovery_url(&self.settings.issuer), None).await?;
        let document = known::Document::read(&document, &self.settings.issuer)?;
        let keys = self.get(document.jwks_uri.clone(), None).await?;
        Known::new(document, &keys, now)
    }

    /// The same after the provider has signed with a key that is not known: it may have rotated its keys.
    async fn known_again(&self, before: &Arc<Known>, now: Timestamp) -> Result<Arc<Known>, ProviderError> {
        if !before.may_ask_again(now) {
            return Ok(Arc::clone(before));
        }
        let _asking = self.asking.lock().await;
        self.ask(Some(before), now).await
    }

    /// What stands behind a code: the tokens of one sign-in.
    async fn tokens(
        &self,
        known: &Known,
        code: &str,
        attempt: &Attempt,
        redirect_uri: &str,
    ) -> Result<Tokens, ProviderError> {
        let endpoint = known.document.token_endpoint.clone();
        reachable(&endpoint, self.settings.allow_loopback).map_err(ProviderError::Untrusted)?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", attempt.verifier.expose()),
        ];
        let mut call = self.client.post(endpoint);
        match &self.settings.client_secret {
            // `client_secret_basic` wants both form-encoded first (RFC 6749 §2.3.1).
            Some(secret) => call = call.basic_auth(encoded(&self.settings.client_id), Some(encoded(secret.expose()))),
            None => form.push(("client_id", &self.settings.client_id)),
        }
        let response = call.form(&form).send().await.map_err(|e| self.unavailable(e.without_url()))?;
        let (status, bytes) = self.body(response).await?;
        if status.is_client_error() {
            let words = serde_json::from_slice::<OauthError>(&bytes)
                .map_or_else(|_| status.to_string(), |e| e.error_description.unwrap_or(e.error));
            return Err(ProviderError::Refused(words.chars().take(200).collect()));
        }
        if !status.is_success() {
            return Err(self.unavailable(format!("it answers {status}")));
        }
        serde_json::from_slice(&bytes).map_err(|_| ProviderError::Untrusted("there is no ID token in it".to_owned()))
    }

    /// Add what the `UserInfo` endpoint says, where the ID token leaves out who it is.
    async fn complete(
        &self,
        claims: &mut id_token::Claims,
        known: &Known,
        tokens: &Tokens,
    ) -> Result<(), ProviderError> {
        let (Some(endpoint), Some(token)) = (&known.document.userinfo_endpoint, &tokens.access_token) else {
            return Ok(());
        };
        if !claims.are_short(self.settings.name_claim.as_deref()) {
            return Ok(());
        }
        let bytes = self.get(endpoint.clone(), Some(token)).await?;
        let info = serde_json::from_slice(&bytes)
            .map_err(|_| ProviderError::Untrusted("what it says of the person cannot be read".to_owned()))?;
        if claims.add(info) { Ok(()) } else { Err(ProviderError::Untrusted("it speaks of two people".to_owned())) }
    }
}

/// TLS, or loopback where that is allowed.
fn reachable(url: &Url, allow_loopback: bool) -> Result<(), String> {
    let here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => return Err(format!("{url} has no host")),
    };
    if url.scheme() == "https" || (url.scheme() == "http" && here && allow_loopback) {
        Ok(())
    } else {
        Err(format!("{url} is not reached over https"))
    }
}

#[async_trait]
impl IdentityProvider for Provider {
    fn name(&self) -> &str {
        &self.inner.settings.name
    }

    async fn begin(&self, attempt: &Attempt, redirect_uri: &str, now: Timestamp) -> Result<String, ProviderError> {
        let known = self.inner.known(now).await?;
        let mut url = known.document.authorization_endpoint.clone();
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, attempt.verifier.expose().as_bytes()));
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.inner.settings.client_id),
            ("redirect_uri", redirect_uri),
            ("scope", SCOPE),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        if attempt.afresh {
            // Core §3.1.2.1: with `max_age` the ID token must say when, so that it can be checked.
            url.query_pairs_mut().append_pair("prompt", "login").append_pair("max_age", "0");
        }
        Ok(url.into())
    }

    async fn redeem(
        &self,
        code: &str,
        attempt: &Attempt,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Redeemed, ProviderError> {
        let known = self.inner.known(now).await?;
        let tokens = self.inner.tokens(&known, code, attempt, redirect_uri).await?;
        let expected = id_token::Expected {
            issuer: known.document.issuer.as_str(),
            client_id: &self.inner.settings.client_id,
            nonce: &attempt.nonce,
            afresh: attempt.afresh,
            now,
        };
        let claims = match id_token::check(tokens.id_token.expose(), &known, &expected) {
            Err(id_token::Flaw::UnknownKey) => {
                let again = self.inner.known_again(&known, now).await?;
                id_token::check(tokens.id_token.expose(), &again, &expected)
            }
            other => other,
        };
        let mut claims = claims.map_err(|flaw| ProviderError::Untrusted(flaw.to_string()))?;
        self.inner.complete(&mut claims, &known, &tokens).await?;
        let vouched = claims.vouched(
            known.document.issuer.clone(),
            self.inner.settings.name_claim.as_deref(),
            self.inner.settings.trust_email,
        );
        Ok(Redeemed { vouched, hint: tokens.id_token })
    }

    async fn end_session(&self, back_to: &str, hint: Option<Secret>, now: Timestamp) -> Option<Secret> {
        let known = self.inner.known(now).await.ok()?;
        let mut url = known.document.end_session_endpoint.clone()?;
        reachable(&url, self.inner.settings.allow_loopback).ok()?;
        // RP-Initiated Logout 1.0 §2, by GET: not every provider takes the POST that it must.
        url.query_pairs_mut()
            .append_pair("client_id", &self.inner.settings.client_id)
            .append_pair("post_logout_redirect_uri", back_to);
        if let Some(token) = hint {
            url.query_pairs_mut().append_pair("id_token_hint", token.expose());
        }
        Some(Secret::new(url.into()))
    }
}

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_reached_over_tls() {
        let reach = |text: &str, loopback| reachable(&text.parse().unwrap(), loopback).is_ok();
        assert!(reach("https://idp.example", false));
        assert!(reach("http://127.0.0.1:5601", true) && !reach("http://127.0.0.1:5601", false));
        assert!(!reach("http://idp.example", true));
    }
}
