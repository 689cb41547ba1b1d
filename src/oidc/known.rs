//! What is known of a provider: where it is asked what (Discovery 1.0 §3), and the keys that it signs with.

use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet};
use serde::Deserialize;
use url::Url;

use crate::{domain::time::Timestamp, ports::identity_provider::ProviderError};

/// After this it is asked again.
const FRESH: Duration = Duration::from_secs(3600);
/// Up to this, what is known is used while it does not answer.
const USABLE: Duration = Duration::from_secs(24 * 3600);
/// Unknown keys make us ask no more often than this.
const BETWEEN: Duration = Duration::from_secs(30);

/// The provider's metadata, as far as we use it.
#[derive(Debug, Clone, Deserialize)]
pub struct Document {
    pub issuer: String,
    pub authorization_endpoint: Url,
    pub token_endpoint: Url,
    pub jwks_uri: Url,
    pub userinfo_endpoint: Option<Url>,
    pub end_session_endpoint: Option<Url>,
}

impl Document {
    /// It must call itself what we call it (Discovery 1.0 §4.3), or another provider could answer for it.
    pub fn read(bytes: &[u8], issuer: &Url) -> Result<Self, ProviderError> {
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|e| ProviderError::Untrusted(format!("its metadata cannot be read: {e}")))?;
        let same = document.issuer.trim_end_matches('/') == issuer.as_str().trim_end_matches('/');
        if same { Ok(document) } else { Err(ProviderError::Untrusted("it calls itself by another name".to_owned())) }
    }
}

/// Where the metadata is.
pub fn discovery_url(issuer: &Url) -> Url {
    let mut url = issuer.clone();
    let path = format!("{}/.well-known/openid-configuration", issuer.path().trim_end_matches('/'));
    url.set_path(&path);
    url
}

/// Metadata and keys, and when they were asked for.
pub struct Known {
    pub document: Document,
    keys: JwkSet,
    at: Timestamp,
}

impl Known {
    pub fn new(document: Document, keys: &[u8], at: Timestamp) -> Result<Self, ProviderError> {
        let keys = serde_json::from_slice(keys)
            .map_err(|e| ProviderError::Untrusted(format!("its keys cannot be read: {e}")))?;
        Ok(Self { document, keys, at })
    }

    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.at) < FRESH
    }

    pub fn is_usable(&self, now: Timestamp) -> bool {
        now.since(self.at) < USABLE
    }

    pub fn may_ask_again(&self, now: Timestamp) -> bool {
        now.since(self.at) >= BETWEEN
    }

    pub fn asked_after(&self, other: &Self) -> bool {
        self.at > other.at
    }

    /// The key of that id; the only one if the token names none.
    pub fn key(&self, id: Option<&str>) -> Option<&Jwk> {
        match id {
            Some(id) => self.keys.find(id),
            None => match self.keys.keys.as_slice() {
                [one] => Some(one),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_stands_under_the_issuer() {
        for (issuer, want) in [
            ("https://idp.example", "https://idp.example/.well-known/openid-configuration"),
            ("https://idp.example/realms/x/", "https://idp.example/realms/x/.well-known/openid-configuration"),
        ] {
            assert_eq!(discovery_url(&issuer.parse().unwrap()).as_str(), want);
        }
    }

    #[test]
    fn a_provider_that_calls_itself_otherwise_is_refused() {
        let text = r#"{"issuer":"https://other.example","authorization_endpoint":"https://a/","token_endpoint":"https://a/","jwks_uri":"https://a/"}"#;
        let read = |issuer: &str| Document::read(text.as_bytes(), &issuer.parse().unwrap()).is_ok();
        assert!(read("https://other.example/") && !read("https://idp.example"));
    }
}
