//! Facts about the ledger itself, by name.

use std::{os::unix::fs::MetadataExt, path::Path, time::UNIX_EPOCH};

use sqlx::query;

use super::{Store, StoreError, Tx, row::Reader};

impl Store {
    /// A fact by name.
    pub async fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        let row = query("SELECT name, value FROM meta WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| Reader::new("meta", &row).text("value")).transpose()
    }

    /// Set a fact, in a change of its own.
    pub async fn remember(&self, name: &str, value: &str) -> Result<(), StoreError> {
        loop {
            let mut tx = self.begin().await?;
            let written = tx.set_meta(name, value).await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    /// What identifies this very database: a restored copy on another server answers something else.
    pub async fn fingerprint(&self) -> Result<String, StoreError> {
        const POSTGRES: &str = "SELECT CAST((SELECT oid FROM pg_database WHERE datname = current_database()) AS TEXT) \
                                || ':' || CAST((SELECT system_identifier FROM pg_control_system()) AS TEXT) \
                                || ':' || CAST((SELECT timeline_id FROM pg_control_checkpoint()) AS TEXT) AS value";
        match self.backend() {
            super::Backend::Sqlite => {
                let row = query("SELECT file AS value FROM pragma_database_list WHERE name = 'main'")
                    .fetch_one(&self.inner.readers)
                    .await?;
                let file = Reader::new("meta", &row).text("value")?;
                let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
                Ok(format!("{file}:{}:{}", which_file(Path::new(&file)), machine.trim()))
            }
            super::Backend::Postgres => {
                let row = query(POSTGRES).fetch_one(&self.inner.readers).await?;
                Reader::new("meta", &row).text("value")
            }
        }
    }
}

/// A file that was put back has the same name and is another file. Its number alone may be used again; no tool for
/// backups can set when a file was made.
fn which_file(path: &Path) -> String {
    let Ok(meta) = std::fs::metadata(path) else { return String::new() };
    let made = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    format!("{}:{}", meta.ino(), made.map_or(0, |at| at.as_nanos()))
}

impl Tx {
    /// Set a fact.
    pub async fn set_meta(&mut self, name: &str, value: &str) -> Result<(), StoreError> {
        self.execute_one(
            query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
                .bind(name)
                .bind(value),
        )
        .await
    }

    /// Delete what nobody will ask for again; how many rows went. Ledger and audit log are never pruned.
    pub async fn prune(&mut self, before: crate::domain::time::Timestamp, limit: u32) -> Result<u64, StoreError> {
        // What was given up stays long enough for somebody to notice, and to tell it again.
        const GIVEN_UP: &str =
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE delivered_at < $1 LIMIT $2)";
        let mut gone = 0;
        for sql in [
            "DELETE FROM idempotency_keys WHERE (identity_id, key) IN \
             (SELECT identity_id, key FROM idempotency_keys WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
            "DELETE FROM revoked_tokens WHERE jti IN (SELECT jti FROM revoked_tokens WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM sign_in_codes WHERE id IN (SELECT id FROM sign_in_codes WHERE expires_at < $1 LIMIT $2)",
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE delivered_at < $1 AND last_error IS NULL \
             LIMIT $2)",
        ] {
            gone += self.execute(query(sql).bind(before.micros()).bind(i64::from(limit))).await?;
        }
        let before = before.minus_std(std::time::Duration::from_secs(30 * 86_400));
        gone += self.execute(query(GIVEN_UP).bind(before.micros()).bind(i64::from(limit))).await?;
        Ok(gone)
    }
}
