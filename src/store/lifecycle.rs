//! Identities that the clock or changed facts ask to look at again, and what is found by them.

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    identities::Recheck,
    requests::{request, request_columns},
    row::{Reader, readable},
};
use crate::domain::{
    id::{CorrelationId, IdentityId},
    identity::IdentityKind,
    request::Request,
    time::Timestamp,
};

/// An identity that a worker has leased.
#[derive(Debug, Clone)]
pub struct DueIdentity {
    /// Which one.
    pub id: IdentityId,
    /// Fencing token of this lease.
    pub epoch: i64,
    /// The call after which what it holds is to be decided again.
    pub recheck: Option<CorrelationId>,
}

/// A workload or agent that has just lost the one who answers for it.
#[derive(Debug, Clone)]
pub struct Orphaned {
    /// Which one.
    pub id: IdentityId,
    /// Its unique name.
    pub name: String,
    /// Workload or agent.
    pub kind: IdentityKind,
    /// Who is asked to answer for it now.
    pub backup_owner: Option<IdentityId>,
}

fn due(row: &AnyRow) -> Result<DueIdentity, StoreError> {
    let r = Reader::new("identities", row);
    Ok(DueIdentity { id: r.parsed("id")?, epoch: r.integer("epoch")?, recheck: r.optional_parsed("recheck")? })
}

impl Store {
    /// The earliest instant at which an identity wants attention.
    pub async fn next_identity_due(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = query("SELECT min(due_at) AS due FROM identities WHERE due_at IS NOT NULL")
            .fetch_one(&self.inner.readers)
            .await?;
        Reader::new("identities", &row).optional_instant("due")
    }

    /// Is there an active person among the standing members of the group of that name?
    pub async fn has_people(&self, group: &str) -> Result<bool, StoreError> {
        const SQL: &str = "SELECT i.id FROM groups g JOIN memberships m ON m.group_id = g.id AND m.grant_id = '' \
                           JOIN identities i ON i.id = m.identity_id WHERE g.name_key = $1 AND i.active = 1 \
                           AND i.kind = 'person' LIMIT 1";
        let row = query(SQL).bind(group.to_lowercase()).fetch_optional(&self.inner.readers).await?;
        Ok(row.is_some())
    }

    /// Pending requests by or for somebody.
    pub async fn open_requests_of(&self, party: IdentityId) -> Result<Vec<Request>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests r WHERE r.state = 'pending' AND (r.requester_id = $1 OR r.subject_id = $1) ORDER BY r.id"
        );
        let rows = query(SQL).bind(party.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, request))
    }
}

impl Tx {
    /// Take up to `limit` identities that are due: lease them and raise their epoch.
    pub async fn lease_identities(
        &mut self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
    ) -> Result<Vec<DueIdentity>, StoreError> {
        const SQL: &str = "UPDATE identities SET due_at = $1, epoch = epoch + 1 WHERE id IN \
                           (SELECT id FROM identities WHERE due_at <= $2 ORDER BY due_at LIMIT $3) \
                           AND due_at <= $2 RETURNING id, epoch, recheck";
        let sql = query(SQL).bind(lease_until.micros()).bind(now.micros()).bind(i64::from(limit));
        Ok(readable(&self.write_returning(sql).await?, due))
    }

    /// It was looked at as of `version`, under that lease: nothing more is to be done before `next`.
    /// [`StoreError::Conflict`] if it changed meanwhile or another worker has it.
    pub async fn settle_identity(
        &mut self,
        due: &DueIdentity,
        version: i64,
        next: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE identities SET recheck = NULL, due_at = $1 WHERE id = $2 AND epoch = $3 AND version = $4 \
                 AND coalesce(recheck, '') = $5",
            )
            .bind(next.map(Timestamp::micros))
            .bind(due.id.to_string())
            .bind(due.epoch)
            .bind(version)
            .bind(due.recheck.map_or_else(String::new, |c| c.to_string())),
        )
        .await
    }

    /// Pending requests by or for somebody, as this change sees them.
    pub async fn open_requests_of(&mut self, party: IdentityId) -> Result<Vec<Request>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            request_columns!(),
            " FROM requests r WHERE r.state = 'pending' AND (r.requester_id = $1 OR r.subject_id = $1) ORDER BY r.id"
        );
        let rows = self.read_all(query(SQL).bind(party.to_string())).await?;
        Ok(readable(&rows, request))
    }

    /// Is the identity active, as this change sees it?
    pub async fn is_active(&mut self, id: IdentityId) -> Result<bool, StoreError> {
        let sql = query("SELECT id FROM identities WHERE id = $1 AND active = 1").bind(id.to_string());
        Ok(self.read_optional(sql).await?.is_some())
    }

    /// Facts of the identity changed since `version` was read: what was decided on them is decided again. The row is
    /// taken in any case: whoever is changing it is waited for.
    pub async fn recheck_if_changed(
        &mut self,
        id: IdentityId,
        version: i64,
        recheck: Recheck,
    ) -> Result<(), StoreError> {
        self.execute(
            query(
                "UPDATE identities SET recheck = CASE WHEN version <> $4 THEN $1 ELSE recheck END, \
                 due_at = CASE WHEN version <> $4 THEN $2 ELSE due_at END WHERE id = $3",
            )
            .bind(recheck.cause.to_string())
            .bind(recheck.at.micros())
            .bind(id.to_string())
            .bind(version),
        )
        .await?;
        Ok(())
    }

    /// Workloads and agents that somebody answered for are orphaned from now on, and due to be looked at.
    pub async fn orphan_owned(
        &mut self,
        owner: IdentityId,
        answer_by: Timestamp,
        recheck: Recheck,
    ) -> Result<Vec<Orphaned>, StoreError> {
        const SQL: &str = "UPDATE identities SET orphaned_at = $1, answer_by = $2, recheck = $3, due_at = $1, \
                           version = version + 1, updated_at = $1 WHERE owner_id = $4 AND active = 1 \
                           AND orphaned_at IS NULL RETURNING id, name, kind, backup_owner_id";
        let sql = query(SQL)
            .bind(recheck.at.micros())
            .bind(answer_by.micros())
            .bind(recheck.cause.to_string())
            .bind(owner.to_string());
        let rows = self.write_returning(sql).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("identities", row);
            Ok(Orphaned {
                id: r.parsed("id")?,
                name: r.text("name")?,
                kind: r.named("kind", IdentityKind::parse)?,
                backup_owner: r.optional_parsed("backup_owner_id")?,
            })
        }))
    }

    /// Workloads and agents of every team that somebody is in are looked at: the team may be gone now.
    pub async fn recheck_teams_of(&mut self, member: IdentityId, recheck: Recheck) -> Result<(), StoreError> {
        self.execute(
            query(
                "UPDATE identities SET version = version + 1, recheck = $1, due_at = $2 WHERE active = 1 AND team_key IN \
                 (SELECT g.name_key FROM memberships m JOIN groups g ON g.id = m.group_id WHERE m.identity_id = $3)",
            )
            .bind(recheck.cause.to_string())
            .bind(recheck.at.micros())
            .bind(member.to_string()),
        )
        .await?;
        Ok(())
    }

    /// End the stored tokens of an identity, and refuse access tokens that were issued to it before `now`.
    pub async fn end_credentials_of(&mut self, identity: IdentityId, now: Timestamp) -> Result<u64, StoreError> {
        self.execute(
            query("UPDATE identities SET credentials_from = $1 WHERE id = $2")
                .bind(now.micros())
                .bind(identity.to_string()),
        )
        .await?;
        self.revoke_tokens_of(identity, now).await
    }
}
