//! Kill switches.

use sqlx::{any::AnyRow, query};

use super::{Store, StoreError, Tx, row::Reader};
use crate::domain::{
    id::{IdentityId, LockId},
    time::Timestamp,
};

/// What a kill switch falls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LockKind {
    /// An identity, by id.
    Identity,
    /// A target, by name.
    Target,
    /// An entitlement, by name.
    Entitlement,
}

impl LockKind {
    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Target => "target",
            Self::Entitlement => "entitlement",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        [Self::Identity, Self::Target, Self::Entitlement].into_iter().find(|k| k.as_str() == s)
    }
}

/// A kill switch.
#[derive(Debug, Clone)]
pub struct Lock {
    /// Its id.
    pub id: LockId,
    /// What it falls on.
    pub kind: LockKind,
    /// Which one.
    pub value: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: IdentityId,
    /// When.
    pub created_at: Timestamp,
}

fn lock(row: &AnyRow) -> Result<Lock, StoreError> {
    let r = Reader::new("locks", row);
    Ok(Lock {
        id: r.parsed("id")?,
        kind: r.named("kind", LockKind::parse)?,
        value: r.text("value")?,
        reason: r.text("reason")?,
        actor: r.parsed("actor_id")?,
        created_at: r.instant("created_at")?,
    })
}

const ACTIVE: &str = "SELECT id, kind, value, reason, actor_id, created_at FROM locks WHERE lifted_at IS NULL \
                      ORDER BY id";
/// Of which locks a grant is under: those on its holder, on who asked for it, on whoever answers for either, on its
/// target, on its entitlement. The one place that says so.
macro_rules! lock_falls_on {
    ($holder:literal, $requester:literal, $target:literal, $entitlement:literal) => {
        concat!(
            "lifted_at IS NULL AND ((kind = 'identity' AND (value IN (",
            $holder,
            ", ",
            $requester,
            ") OR value IN (SELECT i.owner_id FROM identities i WHERE i.id IN (",
            $holder,
            ", ",
            $requester,
            ")))) OR (kind = 'target' AND value = ",
            $target,
            ") OR (kind = 'entitlement' AND value = ",
            $entitlement,
            "))"
        )
    };
}
pub(super) use lock_falls_on;

const ON: &str = concat!(
    "SELECT id, kind, value, reason, actor_id, created_at FROM locks WHERE ",
    lock_falls_on!("$1", "$1", "$2", "$3"),
    " ORDER BY id LIMIT 1"
);

impl Store {
    /// Kill switches in force.
    pub async fn locks(&self) -> Result<Vec<Lock>, StoreError> {
        query(ACTIVE).fetch_all(&self.inner.readers).await?.iter().map(lock).collect()
    }
}

impl Store {
    /// The kill switch in force that falls on this combination, if there is one.
    pub async fn lock_on(
        &self,
        identity: IdentityId,
        target: &str,
        entitlement: &str,
    ) -> Result<Option<Lock>, StoreError> {
        let asked = query(ON).bind(identity.to_string()).bind(target).bind(entitlement);
        asked.fetch_optional(&self.inner.readers).await?.as_ref().map(lock).transpose()
    }

    /// Why an identity, or the one who answers for it, is locked, if so.
    pub async fn lock_on_actor(
        &self,
        identity: IdentityId,
        owner: Option<IdentityId>,
    ) -> Result<Option<String>, StoreError> {
        const SQL: &str = "SELECT id, reason FROM locks WHERE lifted_at IS NULL AND kind = 'identity' \
                           AND (value = $1 OR value = $2) LIMIT 1";
        let row = query(SQL)
            .bind(identity.to_string())
            .bind(owner.map_or_else(String::new, |o| o.to_string()))
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| Reader::new("locks", &row).text("reason")).transpose()
    }
}

impl Tx {
    /// The kill switch in force that falls on this combination, if there is one.
    pub async fn lock_on(
        &mut self,
        identity: IdentityId,
        target: &str,
        entitlement: &str,
    ) -> Result<Option<Lock>, StoreError> {
        let row = self.read_optional(query(ON).bind(identity.to_string()).bind(target).bind(entitlement)).await?;
        row.as_ref().map(lock).transpose()
    }

    /// Is any kill switch in force at all?
    pub async fn any_lock(&mut self) -> Result<bool, StoreError> {
        Ok(self.read_optional(query("SELECT id FROM locks WHERE lifted_at IS NULL LIMIT 1")).await?.is_some())
    }

    /// The kill switch in force on exactly this, if there is one.
    pub async fn active_lock(&mut self, kind: LockKind, value: &str) -> Result<Option<Lock>, StoreError> {
        const SQL: &str = "SELECT id, kind, value, reason, actor_id, created_at FROM locks \
                           WHERE lifted_at IS NULL AND kind = $1 AND value = $2";
        let row = self.read_optional(query(SQL).bind(kind.as_str()).bind(value)).await?;
        row.as_ref().map(lock).transpose()
    }

    /// Let a kill switch fall.
    pub async fn insert_lock(&mut self, l: &Lock) -> Result<(), StoreError> {
        self.execute_one(
            query("INSERT INTO locks (id, kind, value, reason, actor_id, created_at) VALUES ($1, $2, $3, $4, $5, $6)")
                .bind(l.id.to_string())
                .bind(l.kind.as_str())
                .bind(l.value.clone())
                .bind(l.reason.clone())
                .bind(l.actor.to_string())
                .bind(l.created_at.micros()),
        )
        .await
    }

    /// Lift a kill switch; [`StoreError::Conflict`] if it is not in force.
    pub async fn lift_lock(&mut self, id: LockId, by: IdentityId, at: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE locks SET lifted_at = $1, lifted_by = $2 WHERE id = $3 AND lifted_at IS NULL")
                .bind(at.micros())
                .bind(by.to_string())
                .bind(id.to_string()),
        )
        .await
    }
}
