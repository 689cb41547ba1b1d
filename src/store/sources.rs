//! Sources of identities, and the tokens that those who push show.

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    reads::SourceKey,
    row::{Reader, readable},
};
use crate::domain::{
    id::{IdentityId, SourceId, TokenId},
    identity::{ADMIN_GROUP, AUDITOR_GROUP, Source, SourceKind},
    time::Timestamp,
};

/// A source's bearer token: never the text, only its hash.
#[derive(Debug, Clone)]
pub struct SourceToken {
    /// Its id.
    pub id: TokenId,
    /// Whose it is.
    pub source: SourceId,
    /// In the words of whoever made it.
    pub label: String,
    /// SHA-256 of the whole token.
    pub hash: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

fn source(row: &AnyRow) -> Result<Source, StoreError> {
    let r = Reader::new("sources", row);
    Ok(Source { id: r.parsed("id")?, name: r.text("name")?, kind: r.named("kind", SourceKind::parse)? })
}

impl Store {
    /// The source behind a token that works at `now`.
    pub async fn source_of_token(&self, hash: &[u8], now: Timestamp) -> Result<Option<Source>, StoreError> {
        let rows = self.inner.reads.sources.rows(SourceKey { hash: hash.to_vec(), now }).await?;
        rows.first().map(source).transpose()
    }

    /// The source of that name, in any case.
    pub async fn source_by_name(&self, name: &str) -> Result<Option<Source>, StoreError> {
        let row = query("SELECT id, name, kind FROM sources WHERE name_key = $1")
            .bind(name.to_lowercase())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(source).transpose()
    }

    /// All sources, by name, each with when it was last heard of.
    pub async fn sources(&self) -> Result<Vec<(Source, Option<Timestamp>)>, StoreError> {
        let rows = query("SELECT id, name, kind, last_seen_at FROM sources ORDER BY name_key")
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| Ok((source(row)?, Reader::new("sources", row).optional_instant("last_seen_at")?))))
    }

    /// The tokens of a source, newest first, those that were taken back too.
    pub async fn source_tokens(&self, source: SourceId) -> Result<Vec<SourceToken>, StoreError> {
        let rows = query(
            "SELECT id, source_id, label, hash, created_at, expires_at, revoked_at FROM source_tokens \
             WHERE source_id = $1 ORDER BY id DESC",
        )
        .bind(source.to_string())
        .fetch_all(&self.inner.readers)
        .await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("source_tokens", row);
            Ok(SourceToken {
                id: r.parsed("id")?,
                source: r.parsed("source_id")?,
                label: r.text("label")?,
                hash: r.bytes("hash")?,
                created_at: r.instant("created_at")?,
                expires_at: r.instant("expires_at")?,
                revoked_at: r.optional_instant("revoked_at")?,
            })
        }))
    }
}

/// What a source may do beyond writing what it owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceRights {
    /// It takes over what is kept here, by its unique name.
    pub adopts: bool,
    /// It may fill the groups that administer and audit.
    pub administers: bool,
}

fn rights(row: &AnyRow) -> Result<SourceRights, StoreError> {
    let r = Reader::new("sources", row);
    Ok(SourceRights { adopts: r.flag("adopts")?, administers: r.flag("administers")? })
}

/// How much a source owns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SourceCounts {
    /// Identities that are there.
    pub identities: u64,
    /// Those of them that are active.
    pub active: u64,
    /// Groups.
    pub groups: u64,
}

impl Store {
    /// How much a source owns.
    pub async fn source_counts(&self, id: SourceId) -> Result<SourceCounts, StoreError> {
        let row = query(
            "SELECT count(*) AS identities, CAST(coalesce(sum(active), 0) AS BIGINT) AS active, \
             (SELECT count(*) FROM groups WHERE source_id = $1) AS groups \
             FROM identities WHERE source_id = $1 AND deleted_at IS NULL",
        )
        .bind(id.to_string())
        .fetch_one(&self.inner.readers)
        .await?;
        let r = Reader::new("sources", &row);
        Ok(SourceCounts {
            identities: r.number("identities")?,
            active: r.number("active")?,
            groups: r.number("groups")?,
        })
    }

    /// What a source may do beyond writing what it owns.
    pub async fn source_rights(&self, id: SourceId) -> Result<SourceRights, StoreError> {
        let row = query("SELECT adopts, administers FROM sources WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(rights).transpose().map(Option::unwrap_or_default)
    }
}

impl Tx {
    /// What a source may do beyond writing what it owns.
    pub async fn source_rights(&mut self, id: SourceId) -> Result<SourceRights, StoreError> {
        let sql = query("SELECT adopts, administers FROM sources WHERE id = $1").bind(id.to_string());
        self.read_optional(sql).await?.as_ref().map(rights).transpose().map(Option::unwrap_or_default)
    }

    /// Say what a source may do beyond writing what it owns.
    pub async fn set_source_rights(&mut self, id: SourceId, rights: SourceRights) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE sources SET adopts = $1, administers = $2 WHERE id = $3")
                .bind(i64::from(rights.adopts))
                .bind(i64::from(rights.administers))
                .bind(id.to_string()),
        )
        .await
    }

    /// Make a source; [`StoreError::Duplicate`] if its name is taken.
    pub async fn insert_source(&mut self, new: &Source, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("INSERT INTO sources (id, name, name_key, kind, created_at) VALUES ($1, $2, $3, $4, $5)")
                .bind(new.id.to_string())
                .bind(new.name.clone())
                .bind(new.name.to_lowercase())
                .bind(new.kind.as_str())
                .bind(now.micros()),
        )
        .await
    }

    /// A source was heard of.
    pub async fn source_seen(&mut self, id: SourceId, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE sources SET last_seen_at = $1 WHERE id = $2").bind(now.micros()).bind(id.to_string()),
        )
        .await
    }

    /// Keep the hash of a source's token.
    pub async fn insert_source_token(&mut self, token: &SourceToken) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "INSERT INTO source_tokens (id, source_id, label, hash, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(token.id.to_string())
            .bind(token.source.to_string())
            .bind(token.label.clone())
            .bind(token.hash.clone())
            .bind(token.created_at.micros())
            .bind(token.expires_at.micros()),
        )
        .await
    }

    /// Let the tokens of a source that still work, work until then and no longer.
    pub async fn shorten_source_tokens(
        &mut self,
        source: SourceId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            query(
                "UPDATE source_tokens SET expires_at = $1 \
                 WHERE source_id = $2 AND revoked_at IS NULL AND expires_at > $1 AND expires_at > $3",
            )
            .bind(until.micros())
            .bind(source.to_string())
            .bind(now.micros()),
        )
        .await?;
        Ok(())
    }

    /// Give a source the groups and people that nobody outside owns, but for those that administer or audit; the people.
    pub async fn hand_over(&mut self, source: SourceId) -> Result<Vec<IdentityId>, StoreError> {
        self.execute(
            query("UPDATE groups SET source_id = $1 WHERE source_id IS NULL AND name_key NOT IN ($2, $3)")
                .bind(source.to_string())
                .bind(ADMIN_GROUP)
                .bind(AUDITOR_GROUP),
        )
        .await?;
        let sql = query(
            "UPDATE identities SET source_id = $1, version = version + 1 WHERE source_id IS NULL \
             AND kind = 'person' AND origin = 'console' AND id NOT IN (SELECT m.identity_id FROM memberships m \
             JOIN groups g ON g.id = m.group_id WHERE g.name_key IN ($2, $3)) RETURNING id",
        );
        let sql = sql.bind(source.to_string()).bind(ADMIN_GROUP).bind(AUDITOR_GROUP);
        self.write_returning(sql).await?.iter().map(|row| Reader::new("identities", row).parsed("id")).collect()
    }

    /// Take a source's token back; [`StoreError::Conflict`] if there is none that works.
    pub async fn revoke_source_token(&mut self, id: TokenId, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE source_tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL")
                .bind(now.micros())
                .bind(id.to_string()),
        )
        .await
    }
}
