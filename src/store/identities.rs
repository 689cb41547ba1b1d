//! Identities, with the groups they are in.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    reads::SubjectKey,
    row::{Reader, readable, to_json},
    rows::Bound,
};
use crate::domain::{
    id::{CorrelationId, IdentityId, SourceId},
    identity::{Identity, IdentityKind, Origin, Subject},
    time::Timestamp,
};

/// Column list of an identity, of `identities i`.
macro_rules! identity_columns {
    () => {
        "i.id, i.kind, i.name, i.display_name, i.email, i.active, i.owner_id, i.contract_end, i.attributes, i.version, \
         i.source_id, i.origin, i.external_id, i.backup_owner_id, i.orphaned_at, i.deleted_at, i.answer_by"
    };
}
pub(super) use identity_columns;

/// The same with the names of its present groups; `$1` is the instant, `$2` the separator, if nothing else is said.
macro_rules! subject_columns {
    () => {
        $crate::store::identities::subject_columns!("$1", "$2")
    };
    ($now:literal, $separator:literal) => {
        concat!(
            $crate::store::identities::identity_columns!(),
            ", (SELECT string_agg(g.name_key, ",
            $separator,
            ") FROM memberships m JOIN groups g ON g.id = m.group_id WHERE m.identity_id = i.id \
             AND (m.not_after IS NULL OR m.not_after > ",
            $now,
            ")) AS group_names"
        )
    };
}
pub(super) use subject_columns;

/// Between group names in one column; cannot be part of a name.
pub(super) const SEPARATOR: &str = "\n";

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
        source: r.optional_parsed("source_id")?,
        origin: r.named("origin", Origin::parse)?,
        external_id: r.optional_text("external_id")?,
        backup_owner: r.optional_parsed("backup_owner_id")?,
        orphaned_at: r.optional_instant("orphaned_at")?,
        deleted_at: r.optional_instant("deleted_at")?,
        answer_by: r.optional_instant("answer_by")?,
    })
}

pub(super) fn subject(row: &AnyRow) -> Result<Subject, StoreError> {
    let names = Reader::new("identities", row).optional_text("group_names")?.unwrap_or_default();
    let groups: BTreeSet<String> = names.split(SEPARATOR).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    Ok(Subject { identity: identity(row)?, groups })
}

/// The columns of a new one, in the order of [`bind_identity`].
macro_rules! new_identity_columns {
    () => {
        "id, kind, name, name_key, display_name, email, email_key, active, owner_id, contract_end, attributes, source_id, \
         origin, external_id, backup_owner_id, answer_by, team_key, due_at, created_at, display_key"
    };
}
pub(super) use new_identity_columns;

/// A new one, in the order of its columns.
pub(super) fn bind_identity(query: Bound, new: &Identity, now: Timestamp) -> Bound {
    query
        .bind(new.id.to_string())
        .bind(new.kind.as_str())
        .bind(new.name.clone())
        .bind(new.name.to_lowercase())
        .bind(new.display_name.clone())
        .bind(new.email.clone())
        .bind(new.email.as_ref().map(|e| e.to_lowercase()))
        .bind(i64::from(new.active))
        .bind(new.owner.map(|o| o.to_string()))
        .bind(new.contract_end.map(Timestamp::micros))
        .bind(to_json(&new.attributes))
        .bind(new.source.map(|s| s.to_string()))
        .bind(new.origin.as_str())
        .bind(new.external_id.clone())
        .bind(new.backup_owner.map(|o| o.to_string()))
        .bind(new.answer_by.map(Timestamp::micros))
        .bind(new.team())
        .bind(new.next_due().map(Timestamp::micros))
        .bind(now.micros())
        .bind(new.display_name.to_lowercase())
}

impl Store {
    /// An identity and its groups at `now`.
    pub async fn subject(&self, id: IdentityId, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        self.inner.reads.subjects.rows(SubjectKey { id, now }).await?.first().map(subject).transpose()
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
            " FROM identities i WHERE i.email_key = $3 AND i.deleted_at IS NULL AND i.kind = 'person' LIMIT 2"
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
        self.page_of_subjects(SQL, after, limit, now).await
    }

    async fn page_of_subjects(
        &self,
        sql: &'static str,
        after: Option<&str>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Page<Subject>, StoreError> {
        let rows = query(sql)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(after.unwrap_or(""))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(Page::read(&rows, limit, "id", subject))
    }

    /// Workloads and agents by id, after the cursor.
    pub async fn machines(&self, after: Option<&str>, limit: u32, now: Timestamp) -> Result<Page<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE i.kind IN ('workload', 'agent') AND i.id > $3 ORDER BY i.id LIMIT $4"
        );
        self.page_of_subjects(SQL, after, limit, now).await
    }

    /// Workloads and agents that a person answers for, or would if their owner were gone.
    pub async fn owned_by(&self, owner: IdentityId, now: Timestamp) -> Result<Vec<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE i.id IN (SELECT id FROM identities WHERE owner_id = $3 \
             UNION SELECT id FROM identities WHERE backup_owner_id = $3) AND i.deleted_at IS NULL ORDER BY i.id"
        );
        let rows = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(owner.to_string())
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, subject))
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
}

/// That an identity is to be looked at again: its facts changed, so what it holds is decided again.
#[derive(Debug, Clone, Copy)]
pub struct Recheck {
    /// The call that changed the facts.
    pub cause: CorrelationId,
    /// When it did.
    pub at: Timestamp,
}

impl Tx {
    /// Make an identity; [`StoreError::Duplicate`] if its name or external id is taken.
    pub async fn insert_identity(&mut self, new: &Identity, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = concat!(
            "INSERT INTO identities (",
            new_identity_columns!(),
            ", version, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, \
             $18, $19, $20, 1, $19)"
        );
        self.execute_one(bind_identity(query(SQL), new, now)).await
    }

    /// Is an identity of that name there already?
    pub async fn identity_name_taken(&mut self, name: &str) -> Result<bool, StoreError> {
        let sql = query("SELECT id FROM identities WHERE name_key = $1").bind(name.to_lowercase());
        Ok(self.read_optional(sql).await?.is_some())
    }

    /// Change what may change about an identity. `version` is the one that was read. A deleted one gives its name free.
    pub async fn update_identity(
        &mut self,
        changed: &Identity,
        recheck: Option<Recheck>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE identities SET name = $1, name_key = $2, display_name = $3, email = $4, \
                           email_key = $5, active = $6, owner_id = $7, contract_end = $8, attributes = $9, \
                           source_id = $10, origin = $11, external_id = $12, backup_owner_id = $13, orphaned_at = $14, \
                           deleted_at = $15, answer_by = $16, team_key = $17, recheck = coalesce($18, recheck), \
                           due_at = CASE WHEN $18 IS NOT NULL OR recheck IS NOT NULL THEN $19 ELSE $20 END, \
                           version = version + 1, updated_at = $19, display_key = $23 WHERE id = $21 AND version = $22";
        let name_key =
            if changed.deleted_at.is_some() { format!("\n{}", changed.id) } else { changed.name.to_lowercase() };
        self.execute_one(
            query(SQL)
                .bind(changed.name.clone())
                .bind(name_key)
                .bind(changed.display_name.clone())
                .bind(changed.email.clone())
                .bind(changed.email.as_ref().map(|e| e.to_lowercase()))
                .bind(i64::from(changed.active))
                .bind(changed.owner.map(|o| o.to_string()))
                .bind(changed.contract_end.map(Timestamp::micros))
                .bind(to_json(&changed.attributes))
                .bind(changed.source.map(|s| s.to_string()))
                .bind(changed.origin.as_str())
                .bind(changed.external_id.clone())
                .bind(changed.backup_owner.map(|o| o.to_string()))
                .bind(changed.orphaned_at.map(Timestamp::micros))
                .bind(changed.deleted_at.map(Timestamp::micros))
                .bind(changed.answer_by.map(Timestamp::micros))
                .bind(changed.team())
                .bind(recheck.map(|r| r.cause.to_string()))
                .bind(now.micros())
                .bind(changed.next_due().map(Timestamp::micros))
                .bind(changed.id.to_string())
                .bind(changed.version)
                .bind(changed.display_name.to_lowercase()),
        )
        .await
    }

    /// The identity that a source knows by that id, as this change sees it.
    pub async fn identity_of_source(
        &mut self,
        source: SourceId,
        external_id: &str,
        now: Timestamp,
    ) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            subject_columns!(),
            " FROM identities i WHERE i.source_id = $3 AND i.external_id = $4 AND i.deleted_at IS NULL"
        );
        let sql = query(SQL).bind(now.micros()).bind(SEPARATOR).bind(source.to_string()).bind(external_id);
        self.read_optional(sql).await?.as_ref().map(subject).transpose()
    }

    /// An identity as this change sees it.
    pub async fn identity(&mut self, id: IdentityId, now: Timestamp) -> Result<Option<Subject>, StoreError> {
        const SQL: &str = concat!("SELECT ", subject_columns!(), " FROM identities i WHERE i.id = $3");
        let sql = query(SQL).bind(now.micros()).bind(SEPARATOR).bind(id.to_string());
        self.read_optional(sql).await?.as_ref().map(subject).transpose()
    }

    /// Its facts changed: caches forget it, and what it holds is decided again.
    pub(super) async fn touch_identity(
        &mut self,
        identity: IdentityId,
        recheck: Option<Recheck>,
    ) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "UPDATE identities SET version = version + 1, recheck = coalesce($1, recheck), \
                 due_at = CASE WHEN $1 IS NOT NULL THEN $2 ELSE due_at END WHERE id = $3",
            )
            .bind(recheck.map(|r| r.cause.to_string()))
            .bind(recheck.map(|r| r.at.micros()))
            .bind(identity.to_string()),
        )
        .await
    }
}
