//! When identities and their tokens were seen last, to the hour; and who has not been seen for long.

use sqlx::query;

use super::{
    Store, StoreError, Tx,
    identities::{SEPARATOR, subject, subject_columns},
    row::{Reader, readable},
};
use crate::domain::{
    id::{IdentityId, TokenId},
    identity::Subject,
    time::Timestamp,
};

/// A stored secret that nobody uses.
#[derive(Debug, Clone)]
pub struct UnusedToken {
    /// Which one.
    pub id: TokenId,
    /// Whose it is.
    pub identity: IdentityId,
    /// `personal` or `client_secret`.
    pub kind: String,
    /// In the owner's words.
    pub label: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was used last.
    pub last_used_at: Option<Timestamp>,
}

impl Store {
    /// Active identities that were not seen since `before`, those first that were not seen for longest. Who was never
    /// seen counts from when it was made.
    pub async fn unseen_since(
        &self,
        before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<(Subject, Option<Timestamp>)>, StoreError> {
        const SQL: &str = concat!(
            "SELECT i.last_seen_at, ",
            subject_columns!(),
            " FROM identities i WHERE i.active = 1 AND coalesce(i.last_seen_at, i.created_at) < $3 \
             ORDER BY coalesce(i.last_seen_at, i.created_at) LIMIT $4"
        );
        let rows = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(before.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| Ok((subject(row)?, Reader::new("identities", row).optional_instant("last_seen_at")?))))
    }

    /// Working tokens that were not used since `used_before`, and those that were never used since `made_before`.
    pub async fn unused_tokens(
        &self,
        used_before: Timestamp,
        made_before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<UnusedToken>, StoreError> {
        const SQL: &str = "SELECT id, identity_id, kind, label, created_at, last_used_at FROM tokens \
                           WHERE revoked_at IS NULL AND coalesce(last_used_at, created_at) < $1 AND expires_at > $2 \
                           AND (last_used_at IS NULL OR last_used_at < $3) \
                           ORDER BY coalesce(last_used_at, created_at) LIMIT $4";
        let rows = query(SQL)
            .bind(made_before.max(used_before).micros())
            .bind(now.micros())
            .bind(used_before.micros())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("tokens", row);
            Ok(UnusedToken {
                id: r.parsed("id")?,
                identity: r.parsed("identity_id")?,
                kind: r.text("kind")?,
                label: r.text("label")?,
                created_at: r.instant("created_at")?,
                last_used_at: r.optional_instant("last_used_at")?,
            })
        }))
    }

    /// Active workloads and agents that nobody answers for, those first that end first.
    pub async fn orphans(&self, limit: u32, now: Timestamp) -> Result<Vec<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE i.orphaned_at IS NOT NULL AND i.active = 1 ORDER BY i.orphaned_at LIMIT $3"
        );
        let sql = query(SQL).bind(now.micros()).bind(SEPARATOR).bind(i64::from(limit));
        Ok(readable(&sql.fetch_all(&self.inner.readers).await?, subject))
    }

    /// Active standing members of a group.
    pub async fn standing_members(&self, group: &str, limit: u32, now: Timestamp) -> Result<Vec<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM groups sg JOIN memberships sm ON sm.group_id = sg.id AND sm.grant_id = '' \
             JOIN identities i ON i.id = sm.identity_id WHERE sg.name_key = $3 AND i.active = 1 ORDER BY i.id LIMIT $4"
        );
        let rows = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(group.to_lowercase())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, subject))
    }
}

impl Tx {
    /// An identity was seen, and perhaps a token of it used; true if it was never seen before. Whoever is seen is in use.
    pub async fn record_sighting(
        &mut self,
        identity: IdentityId,
        token: Option<TokenId>,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        const FIRST: &str = "UPDATE identities SET last_seen_at = $1, unused_warned_at = NULL \
                             WHERE id = $2 AND last_seen_at IS NULL";
        const AGAIN: &str = "UPDATE identities SET last_seen_at = $1, unused_warned_at = NULL \
                             WHERE id = $2 AND last_seen_at < $1";
        let first = self.execute(query(FIRST).bind(at.micros()).bind(identity.to_string())).await? > 0;
        if !first {
            self.execute(query(AGAIN).bind(at.micros()).bind(identity.to_string())).await?;
        }
        if let Some(token) = token {
            self.execute(
                query("UPDATE tokens SET last_used_at = $1 WHERE id = $2 AND coalesce(last_used_at, 0) < $1")
                    .bind(at.micros())
                    .bind(token.to_string()),
            )
            .await?;
        }
        Ok(first)
    }
}
