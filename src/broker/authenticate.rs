//! Who is calling? Personal tokens of people, access tokens of workloads.

use ring::digest;

use super::{Broker, BrokerError, Ctx};
use crate::{
    domain::{
        id::{CorrelationId, IdentityId, TokenId},
        identity::Subject,
        secret::Secret,
        time::Timestamp,
    },
    ports::entropy::{Entropy, EntropyError},
    store::TokenKind,
};

/// Prefix of personal tokens; secret scanners look for it.
pub(super) const PERSONAL: &str = "tgp_";
/// Prefix of client secrets.
pub(super) const CLIENT_SECRET: &str = "tgs_";

/// A new token: prefix, 43 random characters, 8 hex characters of CRC-32 over both.
pub(super) fn new_token(prefix: &str, entropy: &dyn Entropy) -> Result<Secret, EntropyError> {
    let random = entropy.text(32)?;
    let body = zeroize::Zeroizing::new(format!("{prefix}{}", random.expose()));
    Ok(Secret::new(format!("{}{:08x}", *body, crc32fast::hash(body.as_bytes()))))
}

/// Could it be one of ours? Mistyped and foreign tokens never reach the database.
pub(super) fn well_formed(token: &str, prefix: &str) -> bool {
    if token.len() != prefix.len() + 51 || !token.is_ascii() || !token.starts_with(prefix) {
        return false;
    }
    let (body, sum) = token.split_at(token.len() - 8);
    format!("{:08x}", crc32fast::hash(body.as_bytes())) == sum
}

/// Tokens are random and long: a plain hash is enough, and look-up by it needs no comparison of secrets.
pub(super) fn token_hash(token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, token.as_bytes()).as_ref().to_vec()
}

/// `aud` of access tokens for this very API.
pub(super) const API_AUDIENCE: &str = "tidegate";

impl Broker {
    /// The caller behind a bearer token: known, unexpired, unrevoked, and its identity active.
    pub async fn authenticate(&self, bearer: &str, via: &'static str) -> Result<Ctx, BrokerError> {
        let now = self.now();
        if !bearer.starts_with(PERSONAL) {
            let subject = self.subject_of_access_token(bearer).await?;
            return self.context(subject, None, None, via);
        }
        if !well_formed(bearer, PERSONAL) {
            return Err(BrokerError::Unauthenticated);
        }
        let found = self.store.subject_of_token(&token_hash(bearer), TokenKind::Personal, now).await?;
        let Some((subject, token, until)) = found else { return Err(BrokerError::Unauthenticated) };
        self.context(Some(subject), Some(token), Some(until), via)
    }

    async fn subject_of_access_token(&self, token: &str) -> Result<Option<Subject>, BrokerError> {
        let now = self.now();
        let claims = self.signer.verify(token, API_AUDIENCE, now).map_err(|_| BrokerError::Unauthenticated)?;
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        let (Some(sub), Some(jti)) = (text("sub"), text("jti")) else { return Err(BrokerError::Unauthenticated) };
        let id: IdentityId = sub.parse().map_err(|_| BrokerError::Unauthenticated)?;
        if self.store.access_token_revoked(jti, id, issued_at(jti)).await? {
            return Err(BrokerError::Unauthenticated);
        }
        Ok(self.store.subject(id, now).await?)
    }

    /// The workload behind a client id and secret.
    pub async fn authenticate_client(
        &self,
        client_id: &str,
        client_secret: &str,
        via: &'static str,
    ) -> Result<Ctx, BrokerError> {
        if !well_formed(client_secret, CLIENT_SECRET) {
            return Err(BrokerError::Unauthenticated);
        }
        let hash = token_hash(client_secret);
        let found = self.store.subject_of_token(&hash, TokenKind::ClientSecret, self.now()).await?;
        let Some((subject, token, until)) = found else { return Err(BrokerError::Unauthenticated) };
        let known = &subject.identity;
        if known.id.to_string() != client_id && !known.name.eq_ignore_ascii_case(client_id) {
            return Err(BrokerError::Unauthenticated);
        }
        self.context(Some(subject), Some(token), Some(until), via)
    }

    pub(super) fn context(
        &self,
        subject: Option<Subject>,
        token: Option<TokenId>,
        until: Option<Timestamp>,
        via: &'static str,
    ) -> Result<Ctx, BrokerError> {
        let now = self.now();
        let actor = subject.filter(|s| s.identity.active).ok_or(BrokerError::Unauthenticated)?;
        if actor.identity.contract_end.is_some_and(|end| end <= now) {
            return Err(BrokerError::Unauthenticated);
        }
        self.sightings.add(actor.identity.id, token, now);
        Ok(Ctx { actor, via, correlation: CorrelationId::new(self.entropy.ulid(now)?), now, until, session: None })
    }
}

/// When an access token was issued, to the millisecond: its `jti` is a ULID. One that is not counts as very old.
pub(super) fn issued_at(jti: &str) -> Timestamp {
    let millis = ulid::Ulid::from_string(jti).map_or(0, |ulid| ulid.timestamp_ms());
    // The end of its millisecond: what was issued in the very one in which others were ended is not older than they.
    Timestamp::from_micros(i64::try_from(millis).unwrap_or(0).saturating_mul(1000).saturating_add(999))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::entropy::SystemEntropy;

    #[test]
    fn a_token_carries_its_checksum() {
        let token = new_token(PERSONAL, &SystemEntropy::new()).unwrap();
        let text = token.expose().to_owned();
        assert!(well_formed(&text, PERSONAL));
        assert!(!well_formed(&text, CLIENT_SECRET));
        let last = if text.ends_with('0') { "1" } else { "0" };
        assert!(!well_formed(&format!("{}{last}", &text[..text.len() - 1]), PERSONAL));
        assert!(!well_formed("tgp_short", PERSONAL));
    }
}
