//! Checks an ID token (OpenID Connect Core 1.0 §3.1.3.7): who signed it, for whom, in answer to what, and when.

use std::collections::BTreeMap;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::known::Known;
use crate::{domain::time::Timestamp, ports::identity_provider::Vouched};

/// Clocks may differ by so many seconds.
const SKEW: i64 = 60;
/// A token may have been made so many seconds ago at most: it was made for this very sign-in.
const OLDEST: i64 = 600;
/// Signatures that are accepted. None of them with a shared secret: the client secret signs nothing.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What the token must be.
pub struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    /// The person must have shown who they are for this very sign-in.
    pub afresh: bool,
    pub now: Timestamp,
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("the ID token is malformed")]
    Malformed,
    #[error("the ID token is signed in a way that is not accepted")]
    Algorithm,
    #[error("the ID token is signed with a key that the provider does not publish")]
    UnknownKey,
    #[error("the signature of the ID token is wrong")]
    Signature,
    #[error("the ID token was made by somebody else")]
    Issuer,
    #[error("the ID token was made for somebody else")]
    Audience,
    #[error("the ID token answers another sign-in")]
    Nonce,
    #[error("the ID token has expired, or one of the clocks is wrong")]
    Expired,
    #[error("the ID token was not made just now, or one of the clocks is wrong")]
    Stale,
    #[error("the provider did not ask who you are once more, or does not say when it did")]
    NotAfresh,
}

/// The claims of a token that holds.
#[derive(Debug, Deserialize)]
pub struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    azp: Option<String>,
    exp: i64,
    iat: i64,
    nbf: Option<i64>,
    nonce: Option<String>,
    auth_time: Option<i64>,
    email: Option<String>,
    email_verified: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn is_for(&self, client: &str, azp: Option<&str>) -> bool {
        let listed = match self {
            Self::One(one) => one == client,
            Self::Many(many) => many.iter().any(|a| a == client) && (many.len() == 1 || azp.is_some()),
        };
        listed && azp.is_none_or(|party| party == client)
    }
}

/// What the `UserInfo` endpoint says (OpenID Connect Core §5.3.2).
#[derive(Debug, Deserialize)]
pub struct UserInfo {
    sub: String,
    email: Option<String>,
    email_verified: Option<Value>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Claims {
    /// Is something missing that says who it is? Where there is an access token too, claims of the scopes `profile` and
    /// `email` come from the `UserInfo` endpoint (Core §5.4).
    pub fn are_short(&self, name_claim: Option<&str>) -> bool {
        let named = match name_claim {
            None | Some("sub" | "email") => true,
            Some(other) => self.others.contains_key(other),
        };
        self.email.is_none() || !named
    }

    /// Add what the `UserInfo` endpoint says of the same person; false if it speaks of another one, and then nothing of
    /// it may be used (Core §5.3.2). What was signed stands.
    #[must_use]
    pub fn add(&mut self, info: UserInfo) -> bool {
        if info.sub != self.sub {
            return false;
        }
        if self.email.is_none() {
            (self.email, self.email_verified) = (info.email, info.email_verified);
        }
        for (name, value) in info.others {
            self.others.entry(name).or_insert(value);
        }
        true
    }

    /// Whom the provider vouches for.
    pub fn vouched(self, issuer: String, name_claim: Option<&str>, trust_email: bool) -> Vouched {
        let verified = match &self.email_verified {
            Some(Value::Bool(yes)) => *yes,
            // Some write it as a text.
            Some(Value::String(text)) => text == "true",
            Some(_) => false,
            None => trust_email,
        };
        let name = name_claim.and_then(|claim| match claim {
            "sub" => Some(self.sub.clone()),
            "email" => self.email.clone().filter(|_| verified),
            other => self.others.get(other).and_then(Value::as_str).map(str::to_owned),
        });
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        let claims: BTreeMap<String, String> = self.others.iter().filter_map(text).collect();
        let display_name = claims.get("name").cloned();
        let email = self.email.filter(|_| verified);
        let proved_at = self.auth_time.map(|s| Timestamp::from_micros(s.saturating_mul(1_000_000)));
        Vouched { issuer, subject: self.sub, email, name, display_name, proved_at, claims }
    }
}

/// The claims of a token that holds.
pub fn check(token: &str, known: &Known, expected: &Expected<'_>) -> Result<Claims, Flaw> {
    let header = decode_header(token).map_err(|_| Flaw::Malformed)?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(Flaw::Algorithm);
    }
    let jwk = known.key(header.kid.as_deref()).ok_or(Flaw::UnknownKey)?;
    let key = DecodingKey::from_jwk(jwk).map_err(|_| Flaw::Algorithm)?;
    // Time and parties are checked below: by our clock, and with a word for each.
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims = decode::<Claims>(token, &key, &validation)
        .map_err(|e| match e.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => Flaw::Signature,
            jsonwebtoken::errors::ErrorKind::Json(_) => Flaw::Malformed,
            _ => Flaw::Algorithm,
        })?
        .claims;
    let now = expected.now.seconds();
    if claims.iss != expected.issuer {
        Err(Flaw::Issuer)
    } else if !claims.aud.is_for(expected.client_id, claims.azp.as_deref()) {
        Err(Flaw::Audience)
    } else if claims.nonce.as_deref() != Some(expected.nonce) {
        Err(Flaw::Nonce)
    } else if claims.exp.saturating_add(SKEW) <= now {
        Err(Flaw::Expired)
    } else if claims.iat > now + SKEW || claims.iat < now - OLDEST || claims.nbf.is_some_and(|from| from > now + SKEW) {
        Err(Flaw::Stale)
    } else if expected.afresh && claims.auth_time.is_none_or(|at| at < now - OLDEST) {
        Err(Flaw::NotAfresh)
    } else {
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn claims(more: &Value) -> Claims {
        let mut all = json!({"iss": "https://idp.example", "sub": "1", "aud": "tidegate", "exp": 2, "iat": 1});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        from_value(all).unwrap()
    }

    #[test]
    fn what_the_token_leaves_out_is_asked_for() {
        assert!(claims(&json!({})).are_short(None));
        assert!(!claims(&json!({"email": "a@b"})).are_short(None));
        assert!(claims(&json!({"email": "a@b"})).are_short(Some("preferred_username")));
        assert!(!claims(&json!({"email": "a@b", "preferred_username": "a"})).are_short(Some("preferred_username")));
    }

    #[test]
    fn only_what_is_said_of_the_same_subject_counts_and_what_was_signed_stands() {
        let info = |sub: &str| {
            let info = json!({"sub": sub, "email": "a@b", "email_verified": true, "name": "Other", "locale": "de"});
            from_value::<UserInfo>(info).unwrap()
        };
        let mut mine = claims(&json!({"name": "Ana"}));
        assert!(!mine.add(info("2")) && mine.email.is_none());
        assert!(mine.add(info("1")));
        let vouched = mine.vouched("https://idp.example".to_owned(), None, false);
        assert_eq!((vouched.email.as_deref(), vouched.display_name.as_deref()), (Some("a@b"), Some("Ana")));
        assert_eq!(vouched.claims["locale"], "de");
        // An unverified e-mail of the token is not verified by a word about another one.
        let mut other = claims(&json!({"email": "x@y"}));
        assert!(other.add(info("1")));
        assert_eq!(other.vouched(String::new(), None, false).email, None);
    }
}
