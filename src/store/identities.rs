//! Identities, groups and memberships.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    row::{Reader, readable, to_json},
};
use crate::domain::{
    id::{GroupId, IdentityId},
    identity::{Group, Identity, IdentityKind, Subject},
    time::Timestamp,
};

/// Column list of an identity with the names of its present groups; `$1` is the instant, `$2` the separator.
macro_rules! subject_columns {
    () => {
        "i.id, i.kind, i.name, i.display_name, i.email, i.active, i.owner_id, i.contract_end, i.attributes, i.version, \
         (SELECT string_agg(g.name_key, $2) FROM memberships m JOIN groups g ON g.id = m.group_id \
          WHERE m.identity_id = i.id AND (m.not_after IS NULL OR m.not_after > $1)) AS group_names"
    };
}
pub(super) use subject_columns;

/// Between group names in one column; cannot be part of a name.
pub(super) const SEPARATOR: &str = "\n";

/// An identity to be made.
#[derive(Debug, Clone)]
pub struct NewIdentity {
    /// Its id.
    pub id: IdentityId,
    /// Person, workload or agent.
    pub kind: IdentityKind,
    /// Unique name.
    pub name: String,
    /// Name for people to read.
    pub display_name: String,
    /// Work e-mail.
    pub email: Option<String>,
    /// The accountable person of a workload or agent.
    pub owner: Option<IdentityId>,
    /// Hard end of the relationship.
    pub contract_end: Option<Timestamp>,
    /// Facts as flat texts.
    pub attributes: BTreeMap<String, String>,
}

pub(super) fn identity(row: &AnyRow) -> Result<Identity, StoreError> {
    let r = Reader::new("identities", row);
    Ok(Identity {
        id: r.parsed("id")?,
        kind: r.named("kind", IdentityKind::parse)?,
        name: r.text("name")?,
        display_name: r.text("display_name")?,
        email: r.optional_text("email")?,
        active: r.flag("active")?,
        owner: r.optional_parsed("owner_id")?,
        contract_end: r.optional_instant("contract_end")?,
        attributes: r.json("attributes")?,
        version: r.integer("version")?,
    })
}

pub(super) fn subject(row: &AnyRow) -> Result<Subject, StoreError> {
    let names = Reader::new("identities", row).optional_text("group_names")?.unwrap_or_default();
    let groups: BTreeSet<String> = names.split(SEPARATOR).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    Ok(Subject { identity: identity(row)?, groups })
}

impl Store {
    /// An identity and its groups at `now`.
    pub async fn subject(&self, id: IdentityId, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!("SELECT ", subject_columns!(), " FROM identities i WHERE i.id = $3");
        let row = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(subject).transpose()
    }

    /// The same, by unique name in any case.
    pub async fn subject_by_name(&self, name: &str, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!("SELECT ", subject_columns!(), " FROM identities i WHERE i.name_key = $3");
        let row = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(name.to_lowercase())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(subject).transpose()
    }

    /// The person with that e-mail, in any case; nobody if several have it.
    pub async fn subject_by_email(&self, email: &str, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE lower(i.email) = $3 AND i.email IS NOT NULL AND i.kind = 'person' LIMIT 2"
        );
        let rows = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(email.to_lowercase())
            .fetch_all(&self.inner.readers)
            .await?;
        match rows.as_slice() {
            [one] => subject(one).map(Some),
            _ => Ok(None),
        }
    }

    /// Identities with their groups, by id, after the cursor.
    pub async fn subjects(&self, after: Option<&str>, limit: u32, now: Timestamp) -> Result<Page<Subject>, StoreError> {
        const SQL: &str =
            concat!("SELECT ", subject_columns!(), " FROM identities i WHERE i.id > $3 ORDER BY i.id LIMIT $4");
        let rows = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(Page::read(&rows, limit, "id", subject))
    }

    /// Workloads and agents that a person answers for.
    pub async fn owned_by(&self, owner: IdentityId) -> Result<Vec<Identity>, StoreError> {
        const SQL: &str = "SELECT id, kind, name, display_name, email, active, owner_id, contract_end, attributes, \
                           version FROM identities WHERE owner_id = $1 ORDER BY id";
        let rows = query(SQL).bind(owner.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, identity))
    }

    /// Active members of any of these groups at `now`, at most `limit`.
    pub async fn members_of(
        &self,
        groups: &BTreeSet<String>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE i.active = 1 AND i.id IN (SELECT m.identity_id FROM memberships m \
             JOIN groups g ON g.id = m.group_id WHERE g.name_key = $3 \
             AND (m.not_after IS NULL OR m.not_after > $1)) ORDER BY i.id LIMIT $4"
        );
        let mut found: BTreeMap<IdentityId, Subject> = BTreeMap::new();
        for group in groups {
            let rows = query(SQL)
                .bind(now.micros())
                .bind(SEPARATOR)
                .bind(group.to_lowercase())
                .bind(i64::from(limit))
                .fetch_all(&self.inner.readers)
                .await?;
            for member in readable(&rows, subject) {
                found.insert(member.identity.id, member);
            }
        }
        Ok(found.into_values().collect())
    }

    /// The group of that name, in any case.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, StoreError> {
        let row = query("SELECT id, name FROM groups WHERE name_key = $1")
            .bind(name.to_lowercase())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(group).transpose()
    }
}

fn group(row: &AnyRow) -> Result<Group, StoreError> {
    let r = Reader::new("groups", row);
    Ok(Group { id: r.parsed("id")?, name: r.text("name")? })
}

impl Tx {
    /// Make an identity; [`StoreError::Duplicate`] if the name is taken.
    pub async fn insert_identity(&mut self, new: &NewIdentity, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO identities (id, kind, name, name_key, display_name, email, active, owner_id, \
                           contract_end, attributes, version, created_at, updated_at) \
                           VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, 1, $10, $10)";
        self.execute_one(
            query(SQL)
                .bind(new.id.to_string())
                .bind(new.kind.as_str())
                .bind(new.name.clone())
                .bind(new.name.to_lowercase())
                .bind(new.display_name.clone())
                .bind(new.email.clone())
                .bind(new.owner.map(|o| o.to_string()))
                .bind(new.contract_end.map(Timestamp::micros))
                .bind(to_json(&new.attributes))
                .bind(now.micros()),
        )
        .await
    }

    /// Is an identity of that name there already?
    pub async fn identity_name_taken(&mut self, name: &str) -> Result<bool, StoreError> {
        let sql = query("SELECT id FROM identities WHERE name_key = $1").bind(name.to_lowercase());
        Ok(self.read_optional(sql).await?.is_some())
    }

    /// Change what may change about an identity. `version` is the one that was read.
    pub async fn update_identity(&mut self, changed: &Identity, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE identities SET display_name = $1, email = $2, active = $3, owner_id = $4, \
                           contract_end = $5, attributes = $6, version = version + 1, updated_at = $7 \
                           WHERE id = $8 AND version = $9";
        self.execute_one(
            query(SQL)
                .bind(changed.display_name.clone())
                .bind(changed.email.clone())
                .bind(i64::from(changed.active))
                .bind(changed.owner.map(|o| o.to_string()))
                .bind(changed.contract_end.map(Timestamp::micros))
                .bind(to_json(&changed.attributes))
                .bind(now.micros())
                .bind(changed.id.to_string())
                .bind(changed.version),
        )
        .await
    }

    /// Make a group.
    pub async fn insert_group(&mut self, id: GroupId, name: &str, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("INSERT INTO groups (id, name, name_key, created_at) VALUES ($1, $2, $3, $4)")
                .bind(id.to_string())
                .bind(name)
                .bind(name.to_lowercase())
                .bind(now.micros()),
        )
        .await
    }

    /// Add a standing membership; again is done.
    pub async fn add_standing(
        &mut self,
        group: GroupId,
        identity: IdentityId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.execute(
            query(
                "INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) \
                 VALUES ($1, $2, '', NULL, $3) ON CONFLICT DO NOTHING",
            )
            .bind(group.to_string())
            .bind(identity.to_string())
            .bind(now.micros()),
        )
        .await?;
        self.touch_identity(identity).await
    }

    pub(super) async fn touch_identity(&mut self, identity: IdentityId) -> Result<(), StoreError> {
        self.execute_one(query("UPDATE identities SET version = version + 1 WHERE id = $1").bind(identity.to_string()))
            .await
    }
}
