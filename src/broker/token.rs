//! Personal tokens: made once, shown once, kept as a hash.

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx,
    ask::clean_text,
    authenticate::{CLIENT_SECRET, PERSONAL, new_token, token_hash},
    record::Cause,
};
use crate::{
    domain::{
        id::{CorrelationId, IdentityId, TokenId},
        identity::IdentityKind,
        secret::Secret,
        time::{Timestamp, Ttl},
    },
    store::{Token, TokenKind, Tx},
};

/// A token on its way to its owner. Shown once.
pub struct NewToken {
    /// Its id, for revoking it.
    pub id: String,
    /// The token.
    pub token: Secret,
    /// When it stops working.
    pub expires_at: String,
}

/// Lifetime of a personal token when none is given.
const DEFAULT_TTL: Ttl = Ttl::seconds_or_one(8 * 3600);
/// Longest lifetime of a token that somebody makes for themselves.
const LONGEST_OF_ONES_OWN: Ttl = Ttl::seconds_or_one(7 * 86_400);

impl Broker {
    /// Make a personal token for oneself. It ends no later than the one that it was made with.
    pub async fn create_token(
        &self,
        ctx: &Ctx,
        identity: Option<String>,
        label: String,
        ttl: Option<Ttl>,
    ) -> Result<NewToken, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let label = clean_text("label", &label)?;
        let subject = ctx.actor.clone();
        // Who could make tokens for others could approve their own requests with them.
        if let Some(key) = identity
            && self.visible_identity(ctx, &key).await?.identity.id != ctx.actor_id()
        {
            return Err(BrokerError::Forbidden("everybody makes their own tokens; the console makes first ones"));
        }
        if subject.identity.kind != IdentityKind::Person {
            return Err(BrokerError::State(
                "workloads and agents use client credentials, not personal tokens".to_owned(),
            ));
        }
        let ttl = ttl.unwrap_or(DEFAULT_TTL);
        if ttl > LONGEST_OF_ONES_OWN {
            return Err(BrokerError::invalid("duration", format!("at most {LONGEST_OF_ONES_OWN}")));
        }
        // A token that leaked may not be made into one that lasts longer.
        let ttl = match ctx.until {
            Some(until) => ttl.min(until.seconds_since(ctx.now).max(Ttl::seconds_or_one(1))),
            None => ttl,
        };
        let cause = Cause::from(ctx);
        let (token, secret) = self.make_token(subject.identity.id, TokenKind::Personal, &label, ctx.now, ttl)?;
        loop {
            let mut tx = self.store.begin().await?;
            let written = self.record_token(&mut tx, &cause, &token).await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        Ok(NewToken { id: token.id.to_string(), token: secret, expires_at: token.expires_at.to_string() })
    }

    /// End one of one's own tokens; administrators end anybody's.
    pub async fn end_token(&self, ctx: &Ctx, id: TokenId) -> Result<(), BrokerError> {
        self.may_change()?;
        // Under a lock one may still end what is one's own, and nothing else.
        let free = self.not_locked(ctx).await;
        let whose = (free.is_err() || !ctx.is_admin()).then_some(ctx.actor_id());
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let ended = tx.revoke_stored_token(id, whose, ctx.now).await?;
                let owner = ended.ok_or(BrokerError::NotFound("token"))?;
                let mut event = self.event(&cause, "token.revoked", json!({"token": id}))?;
                event.subject = Some(owner);
                self.note(&mut tx, event)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::NotFound(_))) if ctx.is_admin() && free.is_err() => return free,
                Some(result) => return result,
            }
        }
    }

    /// Make a token for somebody without anybody asking over a surface: for whoever sits at the console.
    pub async fn create_token_at_console(
        &self,
        identity: IdentityId,
        label: &str,
        ttl: Ttl,
    ) -> Result<NewToken, BrokerError> {
        let now = self.now();
        let subject = self.store.subject(identity, now).await?.ok_or(BrokerError::NotFound("identity"))?;
        let kind =
            if subject.identity.kind == IdentityKind::Person { TokenKind::Personal } else { TokenKind::ClientSecret };
        let (token, secret) = self.make_token(identity, kind, label, now, ttl)?;
        let correlation = CorrelationId::new(self.entropy.ulid(now)?);
        let cause = Cause { via: "console", ..Cause::worker(correlation, now) };
        loop {
            let mut tx = self.store.begin().await?;
            let written = self.record_token(&mut tx, &cause, &token).await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        Ok(NewToken { id: token.id.to_string(), token: secret, expires_at: token.expires_at.to_string() })
    }

    pub(super) fn make_token(
        &self,
        identity: IdentityId,
        kind: TokenKind,
        label: &str,
        now: Timestamp,
        ttl: Ttl,
    ) -> Result<(Token, Secret), BrokerError> {
        let prefix = if kind == TokenKind::Personal { PERSONAL } else { CLIENT_SECRET };
        let secret = new_token(prefix, self.entropy.as_ref())?;
        let token = Token {
            id: TokenId::new(self.entropy.ulid(now)?),
            identity,
            kind,
            label: label.to_owned(),
            hash: token_hash(secret.expose()),
            created_at: now,
            expires_at: now.plus(ttl),
            session: None,
            last_used_at: None,
        };
        Ok((token, secret))
    }

    pub(super) async fn record_token(&self, tx: &mut Tx, cause: &Cause, token: &Token) -> Result<(), BrokerError> {
        tx.insert_token(token).await?;
        let details = json!({
            "token": token.id, "kind": token.kind.as_str(), "label": token.label, "expires_at": token.expires_at,
        });
        let mut event = self.event(cause, "token.created", details)?;
        event.subject = Some(token.identity);
        self.note(tx, event)
    }
}
