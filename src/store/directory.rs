//! Temporary memberships, for the `directory` connector.

use async_trait::async_trait;
use sqlx::query;

use super::{Change, Left, Store, StoreError, reads::MemberKey, row::Reader};
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
        let rows = self.inner.reads.memberships.rows(MemberKey { group: group.to_owned(), identity, grant }).await?;
        let row = rows.first().ok_or_else(|| DirectoryError::NoSuchGroup(group.to_owned()))?;
        let r = Reader::new("memberships", row);
        Ok(Membership {
            standing: r.number::<u32>("standing")? > 0,
            temporary: r.number("temporary")?,
            by_this_grant: r.number::<u32>("by_this_grant")? > 0,
        })
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
        let left = Left { group: group.to_owned(), identity, grant };
        self.write_background(Change { left: Some(left), ..Change::default() }).await?;
        Ok(())
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
