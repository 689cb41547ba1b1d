//! What verifiers must refuse: derived from grants and claims, never kept twice.

use async_trait::async_trait;
use sqlx::{any::AnyRow, query};

use super::{Store, StoreError, row::Reader};
use crate::{
    domain::{id::GrantId, time::Timestamp},
    ports::revocations::{Issued, Revocations, RevocationsError},
};

impl From<StoreError> for RevocationsError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

fn issued(row: &AnyRow) -> Result<Issued, RevocationsError> {
    let r = Reader::new("claims", row);
    let read = || {
        Ok::<_, StoreError>(Issued {
            serial: r.number("serial")?,
            grant: r.parsed("grant_id")?,
            number: r.number("number")?,
            expires_at: r.instant("expires_at")?,
        })
    };
    Ok(read()?)
}

#[async_trait]
impl Revocations for Store {
    async fn revoked(&self, target: &str, now: Timestamp) -> Result<Vec<Issued>, RevocationsError> {
        const SQL: &str = "SELECT c.serial, c.grant_id, c.number, c.expires_at FROM claims c \
                           JOIN grants g ON g.id = c.grant_id WHERE c.expires_at > $1 AND g.target = $2 \
                           AND (g.state <> 'active' OR g.claims > c.number) ORDER BY c.serial";
        let rows = query(SQL)
            .bind(now.micros())
            .bind(target)
            .fetch_all(&self.inner.readers)
            .await
            .map_err(StoreError::from)?;
        rows.iter().map(issued).collect()
    }

    async fn revoked_of(&self, target: &str, grant: GrantId, now: Timestamp) -> Result<Vec<Issued>, RevocationsError> {
        const SQL: &str = "SELECT c.serial, c.grant_id, c.number, c.expires_at FROM claims c \
                           JOIN grants g ON g.id = c.grant_id WHERE c.grant_id = $3 AND c.expires_at > $1 \
                           AND g.target = $2 AND (g.state <> 'active' OR g.claims > c.number) ORDER BY c.serial";
        let rows = query(SQL)
            .bind(now.micros())
            .bind(target)
            .bind(grant.to_string())
            .fetch_all(&self.inner.readers)
            .await
            .map_err(StoreError::from)?;
        rows.iter().map(issued).collect()
    }

    async fn is_live(&self, grant: GrantId, number: u32, now: Timestamp) -> Result<bool, RevocationsError> {
        let row = query(
            "SELECT id FROM grants WHERE id = $1 AND state = 'active' AND end_reason IS NULL AND claims = $2 \
             AND not_after > $3",
        )
        .bind(grant.to_string())
        .bind(i64::from(number))
        .bind(now.micros())
        .fetch_optional(&self.inner.readers)
        .await
        .map_err(StoreError::from)?;
        Ok(row.is_some())
    }

    async fn last_expiry(&self, grant: GrantId) -> Result<Option<Timestamp>, RevocationsError> {
        let rows = self.inner.reads.last_expiry.rows(grant).await?;
        let last = rows.first().map(|row| Reader::new("claims", row).optional_instant("last"));
        Ok(last.transpose()?.flatten())
    }
}
