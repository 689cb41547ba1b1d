//! Settings of a token target and parameters of its entitlements.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    domain::time::Ttl,
    ports::{connector::BadParameters, signer::Algorithm},
};

/// How the target's verifiers check a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verifiers {
    /// By signature and expiry alone.
    #[default]
    Offline,
    /// By asking `/oauth/introspect`.
    Introspect,
}

/// Settings of a target of kind `token`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `offline` (the default) or `introspect`.
    #[serde(default)]
    pub verifiers: Verifiers,
    /// For how many seconds verifiers remember an introspection.
    #[serde(default)]
    pub introspection_cache_seconds: u32,
    /// No token lives longer, however long the grant is.
    #[serde(default = "Settings::default_life")]
    pub max_token_life: Ttl,
}

impl Settings {
    const fn default_life() -> Ttl {
        Ttl::seconds_or_one(900)
    }
}

/// Parameters of an entitlement.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Who is to accept the token: `aud`.
    pub audience: String,
    /// What it allows, as the audience names it.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// `EdDSA` (the default) or `ES256`.
    #[serde(default = "Parameters::default_algorithm")]
    pub algorithm: Algorithm,
    /// Shorter life than the target's `max_token_life`.
    #[serde(default)]
    pub max_token_life: Option<Ttl>,
}

impl Parameters {
    const fn default_algorithm() -> Algorithm {
        Algorithm::EdDsa
    }

    /// Read and check.
    pub fn parse(parameters: &Value, settings: &Settings) -> Result<Self, BadParameters> {
        let it: Self = crate::connectors::parameters(parameters)?;
        let bad = |text: String| Err(BadParameters(text));
        if it.audience.is_empty() || it.audience.len() > 255 || it.audience.chars().any(char::is_control) {
            return bad("`audience` must have 1 to 255 characters".into());
        }
        if it.audience == "tidegate" {
            return bad("`audience` cannot be `tidegate`: such a token would sign in to this very API".into());
        }
        if it.scopes.len() > 64 {
            return bad("`scopes` has more than 64 entries".into());
        }
        if let Some(scope) = it.scopes.iter().find(|s| !is_scope(s)) {
            let scope: String = scope.chars().take(40).collect();
            return bad(format!(
                "`scopes`: `{scope}` is not a scope (RFC 6749 §3.3: printable ASCII without space, `\"` and `\\`, at most 128 characters)"
            ));
        }
        if it.max_token_life.is_some_and(|life| life > settings.max_token_life) {
            return bad(format!("`max_token_life` is longer than the target's, {}", settings.max_token_life));
        }
        Ok(it)
    }

    /// The scopes as one text (RFC 6749 §3.3).
    pub fn scope(&self) -> String {
        self.scopes.join(" ")
    }
}

fn is_scope(scope: &str) -> bool {
    !scope.is_empty() && scope.len() <= 128 && scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
