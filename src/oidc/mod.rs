//! Adapter: an OpenID provider (OpenID Connect Core 1.0, authorization code with PKCE, Discovery 1.0, RP-Initiated Logout
//! 1.0). Believes what the provider says about who somebody is, after checking all of it, and nothing else that it says.
//!
//! Follows no redirect, keeps no token, and asks the provider for its keys again when it signs with a new one.

mod id_token;
mod known;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use crate::{
    domain::{secret::Secret, time::Timestamp},
    ports::identity_provider::{Attempt, IdentityProvider, ProviderError, Vouched},
};
use known::Known;

/// The provider has this long for each answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read.
const MAX_BYTES: usize = 1 << 20;
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
    settings: Settings,
    client: reqwest::Client,
    known: Mutex<Option<Arc<Known>>>,
}

/// What the token endpoint answers (OpenID Connect Core §3.1.3.3); the access token is of no use here.
#[derive(Deserialize)]
struct Tokens {
    id_token: String,
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
            .timeout(TIMEOUT)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| e.to_string())?;
        Ok(Self { settings, client, known: Mutex::new(None) })
    }

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

    async fn get(&self, url: Url) -> Result<Vec<u8>, ProviderError> {
        reachable(&url, self.settings.allow_loopback).map_err(ProviderError::Untrusted)?;
        let response = self.client.get(url).send().await.map_err(|e| self.unavailable(e.without_url()))?;
        let (status, bytes) = self.body(response).await?;
        if status == reqwest::StatusCode::OK {
            Ok(bytes)
        } else {
            Err(self.unavailable(format!("it answers {status}")))
        }
    }

    /// What is known of the provider. One at a time asks it; what is old is used as long as it does not answer.
    async fn known(&self, now: Timestamp) -> Result<Arc<Known>, ProviderError> {
        let mut kept = self.known.lock().await;
        if let Some(known) = kept.as_ref().filter(|k| k.is_fresh(now)) {
            return Ok(Arc::clone(known));
        }
        match self.ask_again(now).await {
            Ok(known) => {
                let known = Arc::new(known);
                *kept = Some(Arc::clone(&known));
                Ok(known)
            }
            Err(error) => match kept.as_ref().filter(|k| k.is_usable(now)) {
                Some(known) => Ok(Arc::clone(known)),
                None => Err(error),
            },
        }
    }

    async fn ask_again(&self, now: Timestamp) -> Result<Known, ProviderError> {
        let document = self.get(known::discovery_url(&self.settings.issuer)).await?;
        let document = known::Document::read(&document, &self.settings.issuer)?;
        let keys = self.get(document.jwks_uri.clone()).await?;
        Known::new(document, &keys, now)
    }

    /// The same after the provider has signed with a key that is not known: it may have rotated its keys.
    async fn known_again(&self, before: &Known, now: Timestamp) -> Result<Arc<Known>, ProviderError> {
        let mut kept = self.known.lock().await;
        if let Some(known) = kept.as_ref().filter(|k| k.asked_after(before) || !k.may_ask_again(now)) {
            return Ok(Arc::clone(known));
        }
        let known = Arc::new(self.ask_again(now).await?);
        *kept = Some(Arc::clone(&known));
        Ok(known)
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
        &self.settings.name
    }

    async fn begin(&self, attempt: &Attempt, redirect_uri: &str, now: Timestamp) -> Result<String, ProviderError> {
        let known = self.known(now).await?;
        let mut url = known.document.authorization_endpoint.clone();
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, attempt.verifier.expose().as_bytes()));
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.settings.client_id),
            ("redirect_uri", redirect_uri),
            ("scope", SCOPE),
            ("state", &attempt.state),
            ("nonce", &attempt.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        Ok(url.into())
    }

    async fn redeem(
        &self,
        code: &str,
        attempt: &Attempt,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Vouched, ProviderError> {
        let known = self.known(now).await?;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", attempt.verifier.expose()),
        ];
        let mut call = self.client.post(known.document.token_endpoint.clone());
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
        let tokens: Tokens = serde_json::from_slice(&bytes)
            .map_err(|_| ProviderError::Untrusted("there is no ID token in it".to_owned()))?;
        let expected = id_token::Expected {
            issuer: known.document.issuer.as_str(),
            client_id: &self.settings.client_id,
            nonce: &attempt.nonce,
            now,
        };
        let claims = match id_token::check(&tokens.id_token, &known, &expected) {
            Err(id_token::Flaw::UnknownKey) => {
                let again = self.known_again(&known, now).await?;
                id_token::check(&tokens.id_token, &again, &expected)
            }
            other => other,
        };
        let claims = claims.map_err(|flaw| ProviderError::Untrusted(flaw.to_string()))?;
        Ok(claims.vouched(
            known.document.issuer.clone(),
            self.settings.name_claim.as_deref(),
            self.settings.trust_email,
        ))
    }

    async fn end_session(&self, back_to: &str, now: Timestamp) -> Option<String> {
        let known = self.known(now).await.ok()?;
        let mut url = known.document.end_session_endpoint.clone()?;
        url.query_pairs_mut()
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("post_logout_redirect_uri", back_to);
        Some(url.into())
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
