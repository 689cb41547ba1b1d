//! Signs and checks access tokens (RFC 9068) with the keys of the key directory.
//!
//! Signing assembles the compact JWS itself, for jsonwebtoken would parse the key at every call; checking goes
//! through jsonwebtoken, with one key and one algorithm for each `kid`.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value, json};

use super::{files, files::KeyFileError, ring_set::KeySet};
use crate::{
    domain::{
        secret::Secret,
        time::{Timestamp, Ttl},
    },
    ports::{
        entropy::Entropy,
        signer::{Algorithm, InvalidToken, SignError, Signer},
    },
};

/// Longer texts are no tokens of ours.
const LONGEST_TOKEN_TEXT: usize = 16 * 1024;

/// Token keys in files, with rotation. The newest key of an algorithm signs; replaced ones stay in the key set until
/// the longest token that they may have signed has expired.
pub struct FileSigner {
    dir: PathBuf,
    issuer: String,
    longest: Ttl,
    entropy: Arc<dyn Entropy>,
    keys: ArcSwap<KeySet>,
    /// Held while key files change.
    changing: Mutex<()>,
}

impl FileSigner {
    /// Open the key directory and make what is missing. `longest` is the longest life of a token signed here.
    pub fn open(
        dir: &Path,
        issuer: &str,
        longest: Ttl,
        entropy: Arc<dyn Entropy>,
        now: Timestamp,
    ) -> Result<Self, KeyFileError> {
        super::init_crypto();
        files::open_dir(dir)?;
        let signer = Self {
            dir: dir.to_owned(),
            issuer: issuer.to_owned(),
            longest,
            entropy,
            keys: ArcSwap::from_pointee(KeySet::default()),
            changing: Mutex::new(()),
        };
        signer.change(None, now)?;
        Ok(signer)
    }

    /// Replace the current keys; the old ones go on verifying until their last token has expired. Old enough ones go.
    pub fn rotate(&self, now: Timestamp) -> Result<(), KeyFileError> {
        self.change(Some(Timestamp::from_micros(i64::MAX)), now).map(|_| ())
    }

    /// Rotate the keys that are older than `max_age`, forget retired ones, and take up what another replica made in the
    /// same directory. Says whether a key was made. Meant to be called by a clock.
    pub fn maintain(&self, max_age: Ttl, now: Timestamp) -> Result<bool, KeyFileError> {
        self.change(Some(now.minus_std(max_age.as_std())), now)
    }

    fn change(&self, stale: Option<Timestamp>, now: Timestamp) -> Result<bool, KeyFileError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut keys = KeySet::load(&self.dir, &self.keys.load())?;
        let made = keys.renew(&self.dir, stale, now, self.entropy.as_ref())?;
        if made {
            keys = KeySet::load(&self.dir, &keys)?;
        }
        if keys.remove_retired(&self.dir, self.longest, now)? {
            keys = KeySet::load(&self.dir, &keys)?;
        }
        self.keys.store(Arc::new(keys));
        Ok(made)
    }

    /// Signature, `typ`, `iss`; and `aud` if one is given.
    fn check(&self, token: &str, audience: Option<&str>) -> Result<Map<String, Value>, &'static str> {
        if token.len() > LONGEST_TOKEN_TEXT {
            return Err("too long");
        }
        let header = decode_header(token).map_err(|_| "not a compact JWS of a known algorithm")?;
        let typ = header.typ.as_deref().unwrap_or_default();
        if !["at+jwt", "application/at+jwt"].iter().any(|t| typ.eq_ignore_ascii_case(t)) {
            return Err("not of type at+jwt");
        }
        if header.crit.is_some() {
            return Err("critical header that is not understood");
        }
        let keys = self.keys.load();
        let key = header.kid.as_deref().and_then(|kid| keys.by_kid(kid)).ok_or("unknown kid")?;
        let mut wanted = Validation::new(match key.algorithm {
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        });
        // The time is checked by the caller's clock, not by jsonwebtoken's.
        wanted.validate_exp = false;
        wanted.set_required_spec_claims(&["exp", "iss", "aud"]);
        wanted.set_issuer(&[&self.issuer]);
        match audience {
            Some(audience) => wanted.set_audience(&[audience]),
            None => wanted.validate_aud = false,
        }
        let claims = decode::<Map<String, Value>>(token, &key.decoding, &wanted)
            .map_err(|_| "signature, issuer or audience do not hold")?
            .claims;
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err("issuer is not a single text");
        }
        Ok(claims)
    }
}

/// A token refused: the reason is for the log only.
fn refuse(reason: &'static str) -> InvalidToken {
    tracing::debug!(reason, "token refused");
    InvalidToken
}

impl Signer for FileSigner {
    fn sign(&self, algorithm: Algorithm, claims: &Map<String, Value>) -> Result<Secret, SignError> {
        if claims.get("iss").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(SignError("the claim `iss` must be this server's issuer".into()));
        }
        let keys = self.keys.load();
        let key = keys.current(algorithm).ok_or_else(|| SignError("there is no key of that algorithm".into()))?;
        let claims = serde_json::to_vec(claims).map_err(|e| SignError(e.to_string()))?;
        let mut token = String::with_capacity(key.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&key.header);
        B64.encode_string(&claims, &mut token);
        let signature = key.sign(token.as_bytes())?;
        token.push('.');
        B64.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    fn verify(&self, token: &str, audience: &str, now: Timestamp) -> Result<Map<String, Value>, InvalidToken> {
        let claims = self.check(token, Some(audience)).map_err(refuse)?;
        let instant = |name: &str| claims.get(name).and_then(Value::as_i64).map(Timestamp::from_seconds);
        if instant("exp").is_none_or(|exp| now >= exp) {
            return Err(refuse("expired"));
        }
        if claims.contains_key("nbf") && instant("nbf").is_none_or(|nbf| now < nbf) {
            return Err(refuse("not valid yet"));
        }
        Ok(claims)
    }

    fn inspect(&self, token: &str) -> Result<Map<String, Value>, InvalidToken> {
        self.check(token, None).map_err(refuse)
    }

    fn issuer(&self) -> &str {
        &self.issuer
    }

    fn jwks(&self) -> Value {
        let keys: Vec<Value> = self.keys.load().all().map(|k| k.jwk.clone()).collect();
        json!({ "keys": keys })
    }
}

#[cfg(test)]
mod tests;
