//! Personal tokens and client secrets, as hashes.

use sqlx::query;

use super::{
    Store, StoreError, Tx,
    identities::subject,
    reads::TokenKey,
    row::{Reader, readable},
};
use crate::domain::{
    id::{IdentityId, SessionId, TokenId},
    identity::Subject,
    time::Timestamp,
};

/// What a stored secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A person's bearer token.
    Personal,
    /// A workload's secret for `client_credentials`.
    ClientSecret,
}

impl TokenKind {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::ClientSecret => "client_secret",
        }
    }

    fn parse(s: &str) -> Option<Self> {
        [Self::Personal, Self::ClientSecret].into_iter().find(|k| k.as_str() == s)
    }
}

/// A stored token: never the text, only its hash.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub identity: IdentityId,
    /// What it is for.
    pub kind: TokenKind,
    /// In the owner's words.
    pub label: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// The session that it ends with, if it was made in one.
    pub session: Option<SessionId>,
    /// When it was used last, to the hour.
    pub last_used_at: Option<Timestamp>,
}

impl Store {
    /// Whose token has this hash, if it works at `now`; which one it is, and until when it works.
    pub async fn subject_of_token(
        &self,
        hash: &[u8],
        kind: TokenKind,
        now: Timestamp,
    ) -> Result<Option<(Subject, TokenId, Timestamp)>, StoreError> {
        let key = TokenKey { hash: hash.to_vec(), kind, now };
        let rows = self.inner.reads.tokens.rows(key).await?;
        let read = |row| {
            let r = Reader::new("tokens", row);
            Ok((subject(row)?, r.parsed("token_id")?, r.instant("expires_at")?))
        };
        rows.first().map(read).transpose()
    }

    /// The id of the stored token with this hash.
    pub async fn token_by_hash(&self, hash: &[u8]) -> Result<Option<TokenId>, StoreError> {
        let row = query("SELECT id FROM tokens WHERE hash = $1")
            .bind(hash.to_vec())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| Reader::new("tokens", &row).parsed("id")).transpose()
    }

    /// Stored tokens of an identity that work at `now`, oldest first, at most `limit`. Without their hashes.
    pub async fn tokens_of(&self, identity: IdentityId, now: Timestamp, limit: u32) -> Result<Vec<Token>, StoreError> {
        const SQL: &str = "SELECT id, kind, label, created_at, expires_at, session_id, last_used_at FROM tokens \
                           WHERE identity_id = $1 AND revoked_at IS NULL AND expires_at > $2 ORDER BY id LIMIT $3";
        let rows = query(SQL)
            .bind(identity.to_string())
            .bind(now.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("tokens", row);
            Ok(Token {
                id: r.parsed("id")?,
                identity,
                kind: r.named("kind", TokenKind::parse)?,
                label: r.text("label")?,
                hash: Vec::new(),
                created_at: r.instant("created_at")?,
                expires_at: r.instant("expires_at")?,
                session: r.optional_parsed("session_id")?,
                last_used_at: r.optional_instant("last_used_at")?,
            })
        }))
    }

    /// Was this access token revoked before its expiry, or all that its holder had at the instant when it was issued?
    pub async fn access_token_revoked(
        &self,
        jti: &str,
        holder: IdentityId,
        issued_at: Timestamp,
    ) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT jti AS id FROM revoked_tokens WHERE jti = $1 UNION ALL \
                           SELECT id FROM identities WHERE id = $2 AND credentials_from > $3 LIMIT 1";
        let sql = query(SQL).bind(jti).bind(holder.to_string()).bind(issued_at.micros());
        Ok(sql.fetch_optional(&self.inner.readers).await?.is_some())
    }
}

impl Tx {
    /// Keep a token's hash.
    pub async fn insert_token(&mut self, token: &Token) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO tokens (id, identity_id, kind, label, hash, created_at, expires_at, session_id) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        self.execute_one(
            query(SQL)
                .bind(token.id.to_string())
                .bind(token.identity.to_string())
                .bind(token.kind.as_str())
                .bind(token.label.clone())
                .bind(token.hash.clone())
                .bind(token.created_at.micros())
                .bind(token.expires_at.micros())
                .bind(token.session.map(|s| s.to_string())),
        )
        .await
    }

    /// End one stored token, of that identity if one is given; whose it was, or `None` if there is none that works.
    pub async fn revoke_stored_token(
        &mut self,
        id: TokenId,
        identity: Option<IdentityId>,
        now: Timestamp,
    ) -> Result<Option<IdentityId>, StoreError> {
        const SQL: &str = "UPDATE tokens SET revoked_at = $1 WHERE id = $2 AND ($3 = '' OR identity_id = $3) \
                           AND revoked_at IS NULL RETURNING identity_id";
        let rows = self
            .write_returning(
                query(SQL)
                    .bind(now.micros())
                    .bind(id.to_string())
                    .bind(identity.map_or_else(String::new, |i| i.to_string())),
            )
            .await?;
        rows.first().map(|row| Reader::new("tokens", row).parsed("identity_id")).transpose()
    }

    /// End all stored tokens of an identity; how many there were.
    pub async fn revoke_tokens_of(&mut self, identity: IdentityId, now: Timestamp) -> Result<u64, StoreError> {
        self.execute(
            query("UPDATE tokens SET revoked_at = $1 WHERE identity_id = $2 AND revoked_at IS NULL")
                .bind(now.micros())
                .bind(identity.to_string()),
        )
        .await
    }

    /// Refuse an access token from now on; again is done.
    pub async fn revoke_access_token(&mut self, jti: &str, expires_at: Timestamp) -> Result<(), StoreError> {
        self.execute(
            query("INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(jti)
                .bind(expires_at.micros()),
        )
        .await?;
        Ok(())
    }
}
