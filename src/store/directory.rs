//! Temporary memberships, for the `directory` connector.

use async_trait::async_trait;
use sqlx::query;

use super::{Store, StoreError, row::Reader};
use crate::{
    domain::{
        id::{GrantId, IdentityId},
        time::Timestamp,
    },
    ports::directory::{Directory, DirectoryError, Membership},
};

impl From<StoreError> for DirectoryError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Store {
    async fn group_id(&self, name: &str) -> Result<String, DirectoryError> {
        let group = self.group(name).await?;
        group.map(|g| g.id.to_string()).ok_or_else(|| DirectoryError::NoSuchGroup(name.to_owned()))
    }
}

#[async_trait]
impl Directory for Store {
    async fn membership(
        &self,
        group: &str,
        identity: IdentityId,
        grant: GrantId,
    ) -> Result<Membership, DirectoryError> {
        let rows = query("SELECT grant_id FROM memberships WHERE group_id = $1 AND identity_id = $2")
            .bind(self.group_id(group).await?)
            .bind(identity.to_string())
            .fetch_all(&self.inner.readers)
            .await
            .map_err(StoreError::from)?;
        let mut membership = Membership::default();
        for row in &rows {
            let by = Reader::new("memberships", row).text("grant_id")?;
            membership.standing |= by.is_empty();
            membership.temporary += u32::from(!by.is_empty());
            membership.by_this_grant |= by == grant.to_string();
        }
        Ok(membership)
    }

    async fn add(
        &self,
        group: &str,
        identity: IdentityId,
        grant: GrantId,
        not_after: Timestamp,
    ) -> Result<(), DirectoryError> {
        const SQL: &str = "INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) \
                           SELECT $1, $2, $3, $4, $4 WHERE NOT EXISTS (SELECT 1 FROM grants WHERE id = $3 \
                           AND (end_reason IS NOT NULL OR state NOT IN ('scheduled', 'activating', 'active'))) \
                           ON CONFLICT (group_id, identity_id, grant_id) DO UPDATE SET not_after = excluded.not_after";
        let group = self.group_id(group).await?;
        loop {
            let mut tx = self.begin().await?;
            let written = async {
                tx.execute_one(
                    query(SQL)
                        .bind(group.clone())
                        .bind(identity.to_string())
                        .bind(grant.to_string())
                        .bind(not_after.micros()),
                )
                .await?;
                tx.touch_identity(identity, None).await
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result.map_err(DirectoryError::from);
            }
        }
    }

    async fn remove(&self, group: &str, identity: IdentityId, grant: GrantId) -> Result<(), DirectoryError> {
        let group = self.group_id(group).await?;
        loop {
            let mut tx = self.begin_background().await?;
            let written = async {
                let gone = tx
                    .execute(
                        query("DELETE FROM memberships WHERE group_id = $1 AND identity_id = $2 AND grant_id = $3")
                            .bind(group.clone())
                            .bind(identity.to_string())
                            .bind(grant.to_string()),
                    )
                    .await?;
                if gone > 0 { tx.recheck_after_grant(identity, grant).await } else { Ok(()) }
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result.map_err(DirectoryError::from);
            }
        }
    }

    async fn temporary(&self) -> Result<Vec<(String, IdentityId, GrantId)>, DirectoryError> {
        let rows = query(
            "SELECT g.name AS name, m.identity_id AS identity_id, m.grant_id AS grant_id FROM memberships m \
             JOIN groups g ON g.id = m.group_id WHERE m.grant_id <> '' ORDER BY m.grant_id",
        )
        .fetch_all(&self.inner.readers)
        .await
        .map_err(StoreError::from)?;
        let read = |row| {
            let r = Reader::new("memberships", row);
            Ok::<_, StoreError>((r.text("name")?, r.parsed("identity_id")?, r.parsed("grant_id")?))
        };
        rows.iter().map(|row| read(row).map_err(DirectoryError::from)).collect()
    }

    async fn group_exists(&self, group: &str) -> Result<bool, DirectoryError> {
        Ok(self.group(group).await?.is_some())
    }
}
