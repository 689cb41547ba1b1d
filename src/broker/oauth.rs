//! Access tokens: `client_credentials` (RFC 6749 §4.4), introspection (RFC 7662), revocation (RFC 7009).

use serde_json::{Map, Value, json};

use super::{
    Broker, BrokerError, Ctx,
    authenticate::{API_AUDIENCE, issued_at},
    record::Cause,
};
use crate::{
    domain::{grant::grant_of_object, id::IdentityId, identity::Identity, secret::Secret, time::Timestamp},
    ports::{revocations::Revocations, signer::Algorithm},
};

/// An access token on its way to a workload.
pub struct IssuedToken {
    /// The token, `typ: at+jwt` (RFC 9068).
    pub access_token: Secret,
    /// Seconds until it stops working.
    pub expires_in: u32,
    /// What it is good for.
    pub scope: String,
}

/// The one scope of tokens for this API; what a workload may do there is policy's to say.
const SCOPE: &str = "tidegate";

impl Broker {
    /// A short-lived token for this very API, for a workload that shows its secret.
    pub async fn client_token(
        &self,
        client_id: &str,
        client_secret: &str,
        scope: Option<&str>,
    ) -> Result<IssuedToken, BrokerError> {
        self.may_change()?;
        let ctx = self.authenticate_client(client_id, client_secret, "oauth").await?;
        if scope.is_some_and(|s| s.split(' ').any(|word| !word.is_empty() && word != SCOPE)) {
            return Err(BrokerError::invalid("scope", "the only scope is `tidegate`"));
        }
        let ttl = self.settings.access_token_ttl;
        let now = self.now();
        let jti = self.entropy.ulid(now)?.to_string();
        let id = ctx.actor_id().to_string();
        let claims = claims([
            ("iss", json!(self.signer.issuer())),
            ("sub", json!(id)),
            ("client_id", json!(id)),
            ("aud", json!(API_AUDIENCE)),
            ("scope", json!(SCOPE)),
            ("iat", json!(now.seconds())),
            ("exp", json!(now.plus(ttl).seconds())),
            ("jti", json!(jti)),
        ]);
        let access_token = self.signer.sign(Algorithm::EdDsa, &claims)?;
        let mut event = self.event(&Cause::from(&ctx), "token.issued", json!({"jti": jti, "expires_in": ttl}))?;
        event.subject = Some(ctx.actor_id());
        self.note_alone(event).await?;
        Ok(IssuedToken { access_token, expires_in: ttl.seconds(), scope: SCOPE.to_owned() })
    }

    /// Does a token still work? Anything that is not plainly live is `{"active": false}`.
    pub async fn introspect(&self, _ctx: &Ctx, token: &str) -> Result<Value, BrokerError> {
        if self.is_observing() {
            return Err(BrokerError::Observing);
        }
        let inactive = json!({"active": false});
        let Ok(claims) = self.signer.inspect(token) else { return Ok(inactive) };
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let now = self.now();
        let expired = claims.get("exp").and_then(Value::as_i64).is_none_or(|exp| now >= Timestamp::from_seconds(exp));
        let Some(jti) = text("jti").filter(|_| !expired) else { return Ok(inactive) };
        let live = match of_grant(jti) {
            Some((grant, number)) => self.store.is_live(grant, number, now).await.map_err(|e| {
                tracing::warn!(error = %e, "introspection could not read the ledger");
                BrokerError::Store(crate::store::StoreError::Busy)
            })?,
            None => self.still_there(text("sub"), jti, now).await?,
        };
        if !live {
            return Ok(inactive);
        }
        let mut answer = claims;
        answer.insert("active".to_owned(), Value::Bool(true));
        answer.insert("token_type".to_owned(), Value::String("Bearer".to_owned()));
        Ok(Value::Object(answer))
    }

    async fn still_there(&self, sub: Option<&str>, jti: &str, now: Timestamp) -> Result<bool, BrokerError> {
        let Some(Ok(id)) = sub.map(str::parse::<IdentityId>) else { return Ok(false) };
        if self.store.access_token_revoked(jti, id, issued_at(jti)).await? {
            return Ok(false);
        }
        let valid = |i: Identity| i.active && i.contract_end.is_none_or(|end| end > now);
        Ok(self.store.subject(id, now).await?.is_some_and(|s| valid(s.identity)))
    }

    /// Refuse an access token of the caller's from now on. Unknown tokens are no error (RFC 7009 §2.2).
    pub async fn revoke_token(&self, ctx: &Ctx, token: &str) -> Result<(), BrokerError> {
        self.may_change()?;
        let Ok(claims) = self.signer.inspect(token) else { return Ok(()) };
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let (Some(sub), Some(jti)) = (text("sub"), text("jti")) else { return Ok(()) };
        if sub != ctx.actor_id().to_string() {
            return Ok(());
        }
        if of_grant(jti).is_some() {
            return Err(BrokerError::State("this token belongs to a grant; release the grant".to_owned()));
        }
        let exp = Timestamp::from_seconds(claims.get("exp").and_then(Value::as_i64).unwrap_or(i64::MAX / 2_000_000));
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.revoke_access_token(jti, exp).await?;
                let mut event = self.event(&Cause::from(ctx), "token.revoked", json!({"jti": jti}))?;
                event.subject = Some(ctx.actor_id());
                self.note(&mut tx, event).await
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// Public keys, as a JWK Set.
    pub fn jwks(&self) -> Value {
        self.signer.jwks()
    }

    /// The issuer of our tokens.
    pub fn issuer(&self) -> &str {
        self.signer.issuer()
    }
}

/// The grant and claim number in the `jti` of a token that was minted for a grant: `tg-<ulid>.<number>`.
fn of_grant(jti: &str) -> Option<(crate::domain::id::GrantId, u32)> {
    let (object, number) = jti.split_once('.')?;
    Some((grant_of_object(object)?, number.parse().ok()?))
}

fn claims<const N: usize>(pairs: [(&str, Value); N]) -> Map<String, Value> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
