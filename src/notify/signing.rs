//! Symmetric signatures of Standard Webhooks 1.0.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use crate::domain::secret::Secret;

/// A webhook secret that cannot be used. Says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a webhook secret must be `whsec_` followed by 24 to 64 bytes in base64, one a line, the present one first; \
     make one with `echo whsec_$(head -c 32 /dev/urandom | base64)`"
)]
pub struct BadSecret;

/// The keys that a webhook is signed with: one, or two while the receiver moves from one to the next.
pub struct SigningKeys(Vec<hmac::Key>);

impl std::fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

impl SigningKeys {
    /// From the content of a secret file: `whsec_…`, one a line. Every delivery bears a signature by each.
    pub fn parse(file: &Secret) -> Result<Self, BadSecret> {
        let keys = file.expose().split_whitespace().map(|line| {
            let encoded = line.strip_prefix("whsec_").ok_or(BadSecret)?;
            let bytes = zeroize::Zeroizing::new(STANDARD.decode(encoded).map_err(|_| BadSecret)?);
            if !(24..=64).contains(&bytes.len()) {
                return Err(BadSecret);
            }
            Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
        });
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(BadSecret) } else { Ok(Self(keys)) }
    }

    /// The value of `webhook-signature`: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, one for each
    /// key, with spaces between.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let one = |key: &hmac::Key| {
            let mut context = hmac::Context::with_key(key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.0.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn keys(file: &str) -> Result<SigningKeys, BadSecret> {
        SigningKeys::parse(&Secret::new(file.to_owned()))
    }

    #[test]
    fn the_vector_of_the_reference_implementation() {
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let sign = |file: &str| keys(file).unwrap().sign("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", 1_649_367_553, body);
        let want = "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        assert_eq!(sign(SECRET), want);
        let both = sign(&format!("{SECRET}\nwhsec_{}\n", STANDARD.encode([7; 32])));
        assert!(both.starts_with(&format!("{want} v1,")), "{both}");
    }

    #[test]
    fn bad_secrets_are_refused_without_being_repeated() {
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for bad in ["", "\n", "whsec_", "whsec_%%%", "C2FVsBQIhrscChlQIMV+b5sSYspob7oD", &short, &long] {
            let error = keys(bad).unwrap_err();
            assert!(bad.len() < 7 || !error.to_string().contains(bad), "{bad}");
        }
        assert_eq!(format!("{:?}", keys(SECRET).unwrap()), "SigningKeys(1)");
    }
}
