//! Groups and standing memberships. Temporary ones are beside them in `directory`.

use std::collections::BTreeMap;

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    identities::Recheck,
    row::{Reader, to_json},
    scim_sql::Sql,
};
use crate::domain::{
    id::{GroupId, IdentityId},
    identity::{Group, TEAM},
    time::Timestamp,
};

/// Members written with one statement.
const AT_ONCE: usize = 500;

macro_rules! group_columns {
    () => {
        "id, name, source_id, external_id, version, created_at, updated_at"
    };
}
pub(super) use group_columns;

pub(super) fn group(row: &AnyRow) -> Result<Group, StoreError> {
    let r = Reader::new("groups", row);
    Ok(Group {
        id: r.parsed("id")?,
        name: r.text("name")?,
        source: r.optional_parsed("source_id")?,
        external_id: r.optional_text("external_id")?,
        version: r.integer("version")?,
        created_at: r.instant("created_at")?,
        updated_at: r.instant("updated_at")?,
    })
}

impl Store {
    /// The group of that name, in any case.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, StoreError> {
        let row = query(concat!("SELECT ", group_columns!(), " FROM groups WHERE name_key = $1"))
            .bind(name.to_lowercase())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(group).transpose()
    }

    /// The group of that id.
    pub async fn group_by_id(&self, id: GroupId) -> Result<Option<Group>, StoreError> {
        let row = query(concat!("SELECT ", group_columns!(), " FROM groups WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(group).transpose()
    }
}

impl Tx {
    /// Make a group; [`StoreError::Duplicate`] if its name or external id is taken.
    pub async fn insert_group(&mut self, new: &Group) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO groups (id, name, name_key, source_id, external_id, version, created_at, \
                           updated_at) VALUES ($1, $2, $3, $4, $5, 1, $6, $6)";
        self.execute_one(
            query(SQL)
                .bind(new.id.to_string())
                .bind(new.name.clone())
                .bind(new.name.to_lowercase())
                .bind(new.source.map(|s| s.to_string()))
                .bind(new.external_id.clone())
                .bind(new.created_at.micros()),
        )
        .await
    }

    /// The group of that name in any case, as this change sees it.
    pub async fn group_by_name(&mut self, name: &str) -> Result<Option<Group>, StoreError> {
        let sql = query(concat!("SELECT ", group_columns!(), " FROM groups WHERE name_key = $1"));
        self.read_optional(sql.bind(name.to_lowercase())).await?.as_ref().map(group).transpose()
    }

    /// The group of that id, as this change sees it.
    pub async fn group_by_id(&mut self, id: GroupId) -> Result<Option<Group>, StoreError> {
        let sql = query(concat!("SELECT ", group_columns!(), " FROM groups WHERE id = $1")).bind(id.to_string());
        self.read_optional(sql).await?.as_ref().map(group).transpose()
    }

    /// Change name, owner and external id of a group. `version` is the one that was read.
    pub async fn update_group(&mut self, changed: &Group, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE groups SET name = $1, name_key = $2, source_id = $3, external_id = $4, \
                           version = version + 1, updated_at = $5 WHERE id = $6 AND version = $7";
        self.rename_team(changed).await?;
        self.execute_one(
            query(SQL)
                .bind(changed.name.clone())
                .bind(changed.name.to_lowercase())
                .bind(changed.source.map(|s| s.to_string()))
                .bind(changed.external_id.clone())
                .bind(now.micros())
                .bind(changed.id.to_string())
                .bind(changed.version),
        )
        .await
    }

    /// Workloads and agents whose team has another name from now on go with it.
    async fn rename_team(&mut self, changed: &Group) -> Result<(), StoreError> {
        const SQL: &str = "SELECT i.id, i.attributes FROM identities i JOIN groups g ON g.name_key = i.team_key \
                           WHERE g.id = $1 AND g.name_key <> $2";
        let key = changed.name.to_lowercase();
        for row in self.read_all(query(SQL).bind(changed.id.to_string()).bind(key.clone())).await? {
            let r = Reader::new("identities", &row);
            let mut attributes: BTreeMap<String, String> = r.json("attributes")?;
            attributes.insert(TEAM.to_owned(), changed.name.clone());
            let sql = "UPDATE identities SET attributes = $1, team_key = $2, version = version + 1 WHERE id = $3";
            self.execute_one(query(sql).bind(to_json(&attributes)).bind(key.clone()).bind(r.text("id")?)).await?;
        }
        Ok(())
    }

    /// Remove a group with its memberships; its members are decided again. Temporary members lose it too: the grants that
    /// gave it find nothing left to take away.
    pub async fn delete_group(&mut self, id: GroupId, recheck: Recheck) -> Result<(), StoreError> {
        self.recheck_members(id, recheck).await?;
        self.recheck_team(id, recheck).await?;
        self.execute(query("DELETE FROM memberships WHERE group_id = $1").bind(id.to_string())).await?;
        self.execute_one(query("DELETE FROM groups WHERE id = $1").bind(id.to_string())).await
    }

    /// Whoever is in the group is decided again: it was renamed, or goes.
    pub async fn recheck_members(&mut self, id: GroupId, recheck: Recheck) -> Result<(), StoreError> {
        self.execute(
            query(
                "UPDATE identities SET version = version + 1, recheck = $1, due_at = $2 \
                 WHERE id IN (SELECT identity_id FROM memberships WHERE group_id = $3)",
            )
            .bind(recheck.cause.to_string())
            .bind(recheck.at.micros())
            .bind(id.to_string()),
        )
        .await?;
        Ok(())
    }

    /// Workloads and agents of the team that this group is are looked at: it may be gone now.
    async fn recheck_team(&mut self, id: GroupId, recheck: Recheck) -> Result<(), StoreError> {
        self.execute(
            query(
                "UPDATE identities SET version = version + 1, recheck = $1, due_at = $2 \
                 WHERE active = 1 AND team_key = (SELECT name_key FROM groups WHERE id = $3)",
            )
            .bind(recheck.cause.to_string())
            .bind(recheck.at.micros())
            .bind(id.to_string()),
        )
        .await?;
        Ok(())
    }

    /// The group's own row has changed: its members did.
    pub async fn touch_group(&mut self, id: GroupId, now: Timestamp) -> Result<(), StoreError> {
        self.execute_one(
            query("UPDATE groups SET version = version + 1, updated_at = $1 WHERE id = $2")
                .bind(now.micros())
                .bind(id.to_string()),
        )
        .await
    }

    /// Add standing memberships; whose they are that were not there.
    pub async fn add_standing(
        &mut self,
        group: GroupId,
        identities: &[IdentityId],
        recheck: Option<Recheck>,
        now: Timestamp,
    ) -> Result<Vec<IdentityId>, StoreError> {
        let mut added = Vec::with_capacity(identities.len());
        for chunk in identities.chunks(AT_ONCE) {
            let mut sql =
                Sql::new("INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) VALUES ");
            sql.list(chunk, |sql, identity| {
                sql.push("(").text(group.to_string()).push(", ").text(identity.to_string());
                sql.push(", '', NULL, ").integer(now.micros()).push(")");
            });
            sql.push(" ON CONFLICT DO NOTHING RETURNING identity_id");
            let new = members(&self.write_returning(sql.query()).await?)?;
            self.touch_identities(&new, recheck).await?;
            added.extend(new);
        }
        Ok(added)
    }

    /// Remove standing memberships; whose they were that there were. Temporary ones are left alone.
    pub async fn remove_standing(
        &mut self,
        group: GroupId,
        identities: &[IdentityId],
        recheck: Recheck,
    ) -> Result<Vec<IdentityId>, StoreError> {
        let mut removed = Vec::new();
        for chunk in identities.chunks(AT_ONCE) {
            let mut sql = Sql::new("DELETE FROM memberships WHERE group_id = ");
            sql.text(group.to_string()).push(" AND grant_id = '' AND identity_id IN (");
            sql.list(chunk, |sql, identity| {
                sql.text(identity.to_string());
            });
            sql.push(") RETURNING identity_id");
            let gone = members(&self.write_returning(sql.query()).await?)?;
            self.touch_identities(&gone, Some(recheck)).await?;
            removed.extend(gone);
        }
        if !removed.is_empty() {
            self.recheck_team(group, recheck).await?;
        }
        Ok(removed)
    }

    /// Memberships of these changed: decisions see them from now on.
    async fn touch_identities(
        &mut self,
        identities: &[IdentityId],
        recheck: Option<Recheck>,
    ) -> Result<(), StoreError> {
        if identities.is_empty() {
            return Ok(());
        }
        let mut sql = Sql::new("UPDATE identities SET version = version + 1");
        if let Some(recheck) = recheck {
            sql.push(", recheck = ").text(recheck.cause.to_string()).push(", due_at = ").integer(recheck.at.micros());
        }
        sql.push(" WHERE id IN (").list(identities, |sql, identity| {
            sql.text(identity.to_string());
        });
        sql.push(")");
        match self.execute(sql.query()).await? {
            touched if touched == identities.len() as u64 => Ok(()),
            _ => Err(StoreError::Conflict),
        }
    }
}

fn members(rows: &[AnyRow]) -> Result<Vec<IdentityId>, StoreError> {
    rows.iter().map(|row| Reader::new("memberships", row).parsed("identity_id")).collect()
}
