//! The token keys in use: current and retiring ones, parsed once, found by `kid`.
//!
//! A key's file name carries its algorithm and when it was made (`token-eddsa-<microseconds>.pem`), and nothing else
//! is kept about it: the newest of an algorithm signs, the others verify until no token of theirs can be alive.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use jsonwebtoken::DecodingKey;
use ring::{
    digest,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::{
    files::{self, KeyFileError},
    pair::{SigningPair, generate_ed25519},
    provider::{p256_point, system_random},
};
use crate::{
    domain::time::{Timestamp, Ttl},
    ports::{
        entropy::Entropy,
        signer::{Algorithm, Ed25519Key, SignError},
    },
};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::EdDsa, Algorithm::Es256];

const fn file_part(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDsa => "eddsa",
        Algorithm::Es256 => "es256",
    }
}

enum Pair {
    Ed(SigningPair),
    Ec(EcdsaKeyPair),
}

/// One token key.
pub struct TokenKey {
    pair: Pair,
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// Which algorithm it signs and verifies with, and no other.
    pub algorithm: Algorithm,
    /// For jsonwebtoken.
    pub decoding: DecodingKey,
    /// The JOSE header, encoded and with its dot.
    pub header: String,
    /// The public half.
    pub jwk: Value,
    made: Timestamp,
}

impl TokenKey {
    fn parse(algorithm: Algorithm, made: Timestamp, pkcs8: &[u8]) -> Option<Self> {
        let (pair, alg, mut jwk, decoding) = match algorithm {
            Algorithm::EdDsa => {
                let pair = SigningPair::from_pkcs8(pkcs8)?;
                let public = pair.public();
                let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": B64.encode(public)});
                (Pair::Ed(pair), "EdDSA", jwk, DecodingKey::from_ed_der(&public))
            }
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &system_random()).ok()?;
                let public = pair.public_key().as_ref().to_vec();
                let (x, y) = p256_point(&public)?;
                let jwk = json!({"crv": "P-256", "kty": "EC", "x": B64.encode(x), "y": B64.encode(y)});
                (Pair::Ec(pair), "ES256", jwk, DecodingKey::from_ec_der(&public))
            }
        };
        // RFC 7638 §3: the required members only, in alphabetical order, without white space; serde_json sorts them.
        let kid = B64.encode(digest::digest(&digest::SHA256, jwk.to_string().as_bytes()));
        let header = format!("{}.", B64.encode(json!({"alg": alg, "kid": kid, "typ": "at+jwt"}).to_string()));
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".into(), json!(kid));
            members.insert("alg".into(), json!(alg));
            members.insert("use".into(), json!("sig"));
        }
        Some(Self { pair, kid, algorithm, decoding, header, jwk, made })
    }

    /// The signature of a message, in JWS form.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.pair {
            Pair::Ed(pair) => Ok(pair.sign(message).to_vec()),
            Pair::Ec(pair) => match pair.sign(&system_random(), message) {
                Ok(signature) => Ok(signature.as_ref().to_vec()),
                Err(_) => Err(SignError("the system's random number generator failed".into())),
            },
        }
    }
}

/// All token keys, newest first for each algorithm.
#[derive(Default, Clone)]
pub struct KeySet {
    keys: BTreeMap<Algorithm, Vec<Arc<TokenKey>>>,
}

impl KeySet {
    /// Read the key files; parse only those that `known` does not have.
    pub fn load(dir: &Path, known: &Self) -> Result<Self, KeyFileError> {
        let mut set = Self::default();
        for name in files::names(dir)? {
            let Some((algorithm, made)) = parse_name(&name) else { continue };
            let keys = set.keys.entry(algorithm).or_default();
            if let Some(key) = known.all().find(|k| k.algorithm == algorithm && k.made == made) {
                keys.push(Arc::clone(key));
                continue;
            }
            let path = dir.join(&name);
            let Some(pkcs8) = files::read(&path)? else { continue };
            let key = TokenKey::parse(algorithm, made, &pkcs8)
                .ok_or(KeyFileError::Malformed { path, want: "a private key of the algorithm in its name" })?;
            keys.push(Arc::new(key));
        }
        for keys in set.keys.values_mut() {
            keys.sort_by_key(|k| std::cmp::Reverse(k.made));
        }
        Ok(set)
    }

    /// Every key, current ones first within their algorithm.
    pub fn all(&self) -> impl Iterator<Item = &Arc<TokenKey>> {
        self.keys.values().flatten()
    }

    /// The key that signs.
    pub fn current(&self, algorithm: Algorithm) -> Option<&Arc<TokenKey>> {
        self.keys.get(&algorithm).and_then(|keys| keys.first())
    }

    /// The key of that `kid`.
    pub fn by_kid(&self, kid: &str) -> Option<&Arc<TokenKey>> {
        self.all().find(|k| k.kid == kid)
    }

    /// Make keys for the algorithms whose current one is missing or was made at or before `stale`.
    pub fn renew(
        &self,
        dir: &Path,
        stale: Option<Timestamp>,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<bool, KeyFileError> {
        let mut made_any = false;
        for algorithm in ALGORITHMS {
            let newest = self.current(algorithm).map(|k| k.made);
            if newest.is_some_and(|made| stale.is_none_or(|stale| made > stale)) {
                continue;
            }
            // A clock that was set back must not make the new key look older than the old one.
            let made = newest.map_or(now, |n| now.max(Timestamp::from_micros(n.micros().saturating_add(1))));
            let pkcs8 = match algorithm {
                Algorithm::EdDsa => generate_ed25519(entropy)?,
                Algorithm::Es256 => {
                    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &system_random());
                    let document = made.map_err(|e| KeyFileError::Generate(e.to_string()))?;
                    zeroize::Zeroizing::new(document.as_ref().to_vec())
                }
            };
            let name = format!("token-{}-{:020}.pem", file_part(algorithm), made.micros());
            files::write_new(&dir.join(name), &pkcs8, entropy)?;
            made_any = true;
        }
        Ok(made_any)
    }

    /// Remove the files of keys that were replaced longer ago than a token lives.
    pub fn remove_retired(&self, dir: &Path, longest: Ttl, now: Timestamp) -> Result<bool, KeyFileError> {
        let mut removed = false;
        for keys in self.keys.values() {
            for (newer, key) in keys.iter().zip(keys.iter().skip(1)) {
                if newer.made.plus(longest) < now {
                    let name = format!("token-{}-{:020}.pem", file_part(key.algorithm), key.made.micros());
                    files::remove(&dir.join(name))?;
                    removed = true;
                }
            }
        }
        Ok(removed)
    }
}

fn parse_name(name: &str) -> Option<(Algorithm, Timestamp)> {
    let rest = name.strip_prefix("token-")?.strip_suffix(".pem")?;
    let (algorithm, made) = rest.split_once('-')?;
    let algorithm = ALGORITHMS.into_iter().find(|a| file_part(*a) == algorithm)?;
    Some((algorithm, Timestamp::from_micros(made.parse().ok()?)))
}
