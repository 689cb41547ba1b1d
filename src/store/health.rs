//! How far the ledger is behind the clock: for gauges and alarms.

use sqlx::query;

use super::{Store, StoreError, row::Reader};
use crate::domain::time::Timestamp;

/// What is due at one target and has been taken up by nobody.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// So many rows, counted up to a bound.
    pub rows: u64,
    /// Since when the oldest of them is due.
    pub since: Option<Timestamp>,
}

impl Store {
    /// Changes that wait for the database or are being written, over all writers.
    pub fn waiting_changes(&self) -> usize {
        self.inner.writers.iter().map(super::writer::Writer::waiting).sum()
    }

    /// What is due at a target and leased by nobody, counted up to `most`.
    pub async fn backlog(&self, target: &str, now: Timestamp, most: u32) -> Result<Backlog, StoreError> {
        let row = query(
            "SELECT (SELECT min(due_at) FROM grants WHERE target = $1 AND due_at IS NOT NULL AND due_at <= $2) AS since, \
             (SELECT count(*) FROM (SELECT 1 FROM grants WHERE target = $1 AND due_at IS NOT NULL AND due_at <= $2 \
             LIMIT $3) AS due) AS n",
        )
        .bind(target)
        .bind(now.micros())
        .bind(i64::from(most))
        .fetch_one(&self.inner.readers)
        .await?;
        let r = Reader::new("grants", &row);
        Ok(Backlog { rows: r.number("n")?, since: r.optional_instant("since")? })
    }

    /// How many grants are quarantined, and since when the oldest one that is ending should have been over.
    pub async fn revocation_health(&self) -> Result<(u64, Option<Timestamp>), StoreError> {
        let quarantined = query(
            "SELECT count(*) AS n FROM grants WHERE state = 'quarantined' AND state IN ('revoking', 'quarantined')",
        )
        .fetch_one(&self.inner.readers)
        .await?;
        let oldest = query(
            "SELECT CASE WHEN not_after < revoking_at THEN not_after ELSE revoking_at END AS since FROM grants \
             WHERE state IN ('revoking', 'quarantined') AND revoking_at IS NOT NULL ORDER BY revoking_at LIMIT 1",
        )
        .fetch_optional(&self.inner.readers)
        .await?;
        let since = oldest.map(|row| Reader::new("grants", &row).optional_instant("since")).transpose()?;
        Ok((Reader::new("grants", &quarantined).number("n")?, since.flatten()))
    }
}
