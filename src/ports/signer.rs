//! Signing of JSON Web Tokens, with keys that rotate. The keys never leave the adapter.

use std::sync::Arc;

use crate::domain::{secret::Secret, time::Timestamp};

/// A token could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed: {0}")]
pub struct SignError(pub String);

/// A token that does not hold. Says nothing about why; the reason is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not valid")]
pub struct InvalidToken;

/// Signature algorithms that we sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// ECDSA on P-256 with SHA-256 (RFC 7518 §3.4).
    #[serde(rename = "ES256")]
    Es256,
}

/// Signs and checks `at+jwt` access tokens (RFC 9068).
pub trait Signer: Send + Sync {
    /// Sign these claims with the current key of the algorithm; the header gets `typ: at+jwt` and the key's `kid`.
    fn sign(
        &self,
        algorithm: Algorithm,
        claims: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Secret, SignError>;

    /// Check signature, `typ`, `iss`, `aud` and `exp` (no leeway) and give the claims.
    fn verify(
        &self,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<serde_json::Map<String, serde_json::Value>, InvalidToken>;

    /// Check the signature, `typ` and `iss` only: for introspection, which answers for every audience.
    fn inspect(&self, token: &str) -> Result<serde_json::Map<String, serde_json::Value>, InvalidToken>;

    /// The issuer that goes into `iss`: the server's public URL.
    fn issuer(&self) -> &str;

    /// Public keys, current and retiring ones, as a JWK Set (RFC 7517 §5).
    fn jwks(&self) -> serde_json::Value;
}

/// A key of the broker could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub String);

/// An Ed25519 key that signs bytes and never shows itself: an SSH certificate authority, the audit log's checkpoints.
pub trait Ed25519Key: Send + Sync {
    /// The public key.
    fn public(&self) -> [u8; 32];

    /// The signature (RFC 8032) of a message.
    fn sign(&self, message: &[u8]) -> [u8; 64];
}

/// The broker's own keys by name. A key is made when it is first asked for, and is the same ever after.
pub trait KeyVault: Send + Sync {
    /// The certificate authority of that name, `[a-z0-9-]`, for SSH certificates.
    fn ssh_ca(&self, name: &str) -> Result<Arc<dyn Ed25519Key>, KeyError>;
}
