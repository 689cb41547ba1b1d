//! Sources and their tokens, for administrators: made, rotated, taken back. A token is shown once and kept as a hash.

use serde_json::json;

use super::{
    Broker, BrokerError, Ctx, NewToken,
    ask::clean_text,
    authenticate::{new_token, token_hash},
    record::Cause,
    source::SOURCE_TOKEN,
    view::{List, SourceTokenView, SourceView},
};
use crate::{
    domain::{
        id::{CorrelationId, SourceId, TokenId},
        identity::{Source, SourceKind},
        secret::Secret,
        time::{Timestamp, Ttl},
    },
    store::{SourceRights, SourceToken, Tx},
};

/// Lifetime of a source's token when none is given.
const DEFAULT_TTL: Ttl = Ttl::seconds_or_one(365 * 86_400);
/// How long the former tokens go on working after a rotation when nobody says: long enough to change it at the source.
const DEFAULT_OVERLAP: Ttl = Ttl::seconds_or_one(3600);

/// A token to be.
#[derive(Debug, Clone, Default)]
pub struct NewSourceToken {
    /// What it is for.
    pub label: Option<String>,
    /// How long it works.
    pub ttl: Option<Ttl>,
    /// What the source may do beyond what it owns; what is not said stays.
    pub adopts: Option<bool>,
    /// The same.
    pub administers: Option<bool>,
}

impl Broker {
    /// All sources with their tokens. For administrators and auditors.
    pub async fn sources(&self, ctx: &Ctx) -> Result<List<SourceView>, BrokerError> {
        if !ctx.sees_everything() {
            return Err(BrokerError::Forbidden("only administrators and auditors see sources"));
        }
        let mut items = Vec::new();
        for (source, last_seen) in self.store.sources().await? {
            let tokens = self.store.source_tokens(source.id).await?;
            let rights = self.store.source_rights(source.id).await?;
            let counts = self.store.source_counts(source.id).await?;
            items.push(SourceView {
                id: source.id.to_string(),
                name: source.name,
                kind: source.kind,
                adopts: rights.adopts,
                administers: rights.administers,
                last_seen_at: last_seen.map(|at| at.to_string()),
                people: counts.identities,
                active: counts.active,
                groups: counts.groups,
                tokens: tokens.iter().map(|t| token_view(t, ctx.now)).collect(),
            });
        }
        Ok(List { items, next: None })
    }

    /// Make a token for a source, and the source if there is none of that name.
    pub async fn create_source_token(
        &self,
        ctx: &Ctx,
        source: &str,
        new: NewSourceToken,
    ) -> Result<NewToken, BrokerError> {
        self.admins_only(ctx).await?;
        self.make_source_token(&Cause::from(ctx), source, &new, None).await
    }

    /// Make a token in the place of all others of the source, which go on working for `overlap`.
    pub async fn rotate_source_token(
        &self,
        ctx: &Ctx,
        source: &str,
        new: NewSourceToken,
        overlap: Option<Ttl>,
        at_once: bool,
    ) -> Result<NewToken, BrokerError> {
        self.admins_only(ctx).await?;
        self.known_source(source).await?;
        let until = if at_once { ctx.now } else { ctx.now.plus(overlap.unwrap_or(DEFAULT_OVERLAP)) };
        self.make_source_token(&Cause::from(ctx), source, &new, Some(until)).await
    }

    /// Take a token of a source back, at once.
    pub async fn revoke_source_token(&self, ctx: &Ctx, source: &str, token: TokenId) -> Result<(), BrokerError> {
        self.admins_only(ctx).await?;
        let source = self.known_source(source).await?;
        let there = self.store.source_tokens(source.id).await?;
        let live = there.iter().any(|t| t.id == token && t.revoked_at.is_none());
        if !live {
            return Err(BrokerError::NotFound("token"));
        }
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.revoke_source_token(token, ctx.now).await?;
                let details = json!({"source": source.name, "source_id": source.id, "token": token});
                let event = self.event(&cause, "source.token_revoked", details)?;
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// A token for a source without anybody asking over a surface: for whoever sits at the console.
    pub async fn create_source_token_at_console(&self, source: &str, ttl: Ttl) -> Result<NewToken, BrokerError> {
        let now = self.now();
        let correlation = CorrelationId::new(self.entropy.ulid(now)?);
        let cause = Cause { via: "console", ..Cause::worker(correlation, now) };
        let new = NewSourceToken { ttl: Some(ttl), label: Some("console".to_owned()), ..NewSourceToken::default() };
        self.make_source_token(&cause, source, &new, None).await
    }

    async fn admins_only(&self, ctx: &Ctx) -> Result<(), BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        if ctx.is_admin() { Ok(()) } else { Err(BrokerError::Forbidden("only administrators make tokens for sources")) }
    }

    async fn known_source(&self, name: &str) -> Result<Source, BrokerError> {
        let found = match name.parse::<SourceId>() {
            Ok(id) => self.store.sources().await?.into_iter().map(|(s, _)| s).find(|s| s.id == id),
            Err(_) => self.store.source_by_name(name).await?,
        };
        found.ok_or(BrokerError::NotFound("source"))
    }

    async fn make_source_token(
        &self,
        cause: &Cause,
        source: &str,
        new: &NewSourceToken,
        others_until: Option<Timestamp>,
    ) -> Result<NewToken, BrokerError> {
        let name = clean_text("source", source)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.len() > 64 || !name.chars().all(fits) {
            return Err(BrokerError::invalid("source", "use 1 to 64 letters, digits and `-_.`"));
        }
        let label = clean_text("label", new.label.as_deref().unwrap_or("scim"))?;
        let ttl = new.ttl.unwrap_or(DEFAULT_TTL);
        if ttl > self.settings.max_token_ttl {
            return Err(BrokerError::invalid("ttl", format!("at most {}", self.settings.max_token_ttl)));
        }
        let there = self.known_source(&name).await;
        let (source, fresh) = match there {
            Ok(source) => (source, false),
            Err(BrokerError::NotFound(_)) => {
                let id = SourceId::new(self.entropy.ulid(cause.now)?);
                (Source { id, name, kind: SourceKind::Scim }, true)
            }
            Err(error) => return Err(error),
        };
        if source.kind != SourceKind::Scim {
            return Err(BrokerError::State(format!("`{}` does not push by SCIM, so it has no token", source.name)));
        }
        let secret: Secret = new_token(SOURCE_TOKEN, self.entropy.as_ref())?;
        let token = SourceToken {
            id: TokenId::new(self.entropy.ulid(cause.now)?),
            source: source.id,
            label,
            hash: token_hash(secret.expose()),
            created_at: cause.now,
            expires_at: cause.now.plus(ttl),
            revoked_at: None,
        };
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                if fresh {
                    tx.insert_source(&source, cause.now).await?;
                    let details = json!({"source": source.name, "source_id": source.id, "kind": source.kind});
                    let event = self.event(cause, "source.created", details)?;
                    self.note(&mut tx, event)?;
                }
                self.give_rights(&mut tx, cause, &source, new).await?;
                if let Some(until) = others_until {
                    tx.shorten_source_tokens(source.id, until, cause.now).await?;
                }
                tx.insert_source_token(&token).await?;
                let details = json!({
                    "source": source.name, "source_id": source.id, "token": token.id, "label": token.label,
                    "expires_at": token.expires_at, "others_until": others_until,
                });
                let action = if others_until.is_some() { "source.token_rotated" } else { "source.token_created" };
                let event = self.event(cause, action, details)?;
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        Ok(NewToken { id: token.id.to_string(), token: secret, expires_at: token.expires_at.to_string() })
    }

    async fn give_rights(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        source: &Source,
        new: &NewSourceToken,
    ) -> Result<(), BrokerError> {
        let before = tx.source_rights(source.id).await?;
        let after = SourceRights {
            adopts: new.adopts.unwrap_or(before.adopts),
            administers: new.administers.unwrap_or(before.administers),
        };
        if after == before {
            return Ok(());
        }
        tx.set_source_rights(source.id, after).await?;
        let details = json!({
            "source": source.name, "source_id": source.id, "adopts": after.adopts, "administers": after.administers,
        });
        let event = self.event(cause, "source.rights_changed", details)?;
        self.note(tx, event)
    }

    /// What is kept here and no source's becomes this source's: how `tidegate dev` begins. Groups that administer or
    /// audit, those who are in them, and workloads stay here.
    pub async fn hand_over_to_source(&self, source: &str) -> Result<(), BrokerError> {
        let source = self.known_source(source).await?;
        loop {
            let mut tx = self.store.begin().await?;
            let written: Result<(), BrokerError> = async {
                for id in tx.hand_over(source.id).await? {
                    self.describe_for_scim(&mut tx, id).await?;
                }
                Ok(())
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }
}

fn token_view(token: &SourceToken, now: Timestamp) -> SourceTokenView {
    SourceTokenView {
        id: token.id.to_string(),
        label: token.label.clone(),
        created_at: token.created_at.to_string(),
        expires_at: token.expires_at.to_string(),
        revoked_at: token.revoked_at.map(|at| at.to_string()),
        works: token.revoked_at.is_none() && token.expires_at > now,
    }
}
