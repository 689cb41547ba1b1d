//! Groups as SCIM sees them, and their standing members.

use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    groups::group,
    row::{Reader, readable},
    scim_sql::{Place, ScimList, Shape, Sql},
};
use crate::domain::{
    id::{GroupId, IdentityId, SourceId},
    identity::Group,
    scim::{core::GROUPS_TYPE, path::AttrPath},
};

fn shape(list: &ScimList) -> Shape {
    Shape { id: "g.id", place, asks: list.asks.map(|source| ("g.source_id", source)) }
}

/// Where an attribute of a group is.
fn place(path: &AttrPath) -> Place {
    const MEMBERS: &str = "SELECT m.group_id FROM memberships m WHERE m.grant_id = ''";
    match (path.attribute.name, path.sub.map(|s| s.name)) {
        ("id", None) => Place::Text("g.id"),
        ("externalId", None) => Place::Known("g.external_id"),
        ("displayName", None) => Place::Text("g.name_key"),
        ("schemas", None) => Place::Constant(GROUPS_TYPE.schema.urn),
        ("meta", None | Some("resourceType")) => Place::Constant(GROUPS_TYPE.name),
        ("meta", Some("created")) => Place::Instant("g.created_at"),
        ("meta", Some("lastModified")) => Place::Instant("g.updated_at"),
        ("meta", Some("version")) => Place::Text("('W/\"' || g.version || '\"')"),
        ("members", None | Some("value")) => Place::Rows { select: MEMBERS, text: "m.identity_id", folded: false },
        ("members", Some("type")) => Place::Constant("User"),
        _ => Place::Nowhere,
    }
}

impl Store {
    /// A page of groups, without their members.
    pub async fn scim_groups(&self, list: &ScimList) -> Result<Vec<Group>, StoreError> {
        let mut sql = Sql::new(
            "SELECT g.id, g.name, g.source_id, g.external_id, g.version, g.created_at, g.updated_at FROM groups g \
             WHERE 1 = 1",
        );
        if let Some(filter) = &list.filter {
            sql.push(" AND ").filter(shape(list), filter);
        }
        if let Some(after) = &list.after {
            sql.push(" AND g.id > ").text(after.clone());
        }
        sql.order(shape(list), list.sort.as_ref());
        sql.push(" LIMIT ").integer(i64::from(list.limit));
        sql.push(" OFFSET ").integer(i64::try_from(list.offset).unwrap_or(i64::MAX));
        let rows = sql.query().fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, group))
    }

    /// How many groups there are in all.
    pub async fn count_scim_groups(&self, list: &ScimList) -> Result<u64, StoreError> {
        let mut sql = Sql::new("SELECT count(*) AS n FROM groups g WHERE 1 = 1");
        if let Some(filter) = &list.filter {
            sql.push(" AND ").filter(shape(list), filter);
        }
        let row = sql.query().fetch_one(&self.inner.readers).await?;
        Reader::new("groups", &row).number("n")
    }

    /// Standing members of a group, at most `limit`, by id.
    pub async fn members_standing_in(&self, group: GroupId, limit: u32) -> Result<Vec<IdentityId>, StoreError> {
        let rows = members(group, limit).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, member))
    }
}

fn members(group: GroupId, limit: u32) -> sqlx::query::Query<'static, sqlx::Any, sqlx::any::AnyArguments> {
    query("SELECT identity_id FROM memberships WHERE group_id = $1 AND grant_id = '' ORDER BY identity_id LIMIT $2")
        .bind(group.to_string())
        .bind(i64::from(limit))
}

fn member(row: &AnyRow) -> Result<IdentityId, StoreError> {
    Reader::new("memberships", row).parsed("identity_id")
}

impl Tx {
    /// The group of that name, as this change sees it.
    pub async fn group_named(&mut self, name: &str) -> Result<Option<Group>, StoreError> {
        let sql = query(
            "SELECT id, name, source_id, external_id, version, created_at, updated_at FROM groups WHERE name_key = $1",
        );
        self.read_optional(sql.bind(name.to_lowercase())).await?.as_ref().map(group).transpose()
    }

    /// The group that a source knows by that name of its own.
    pub async fn group_known_as(&mut self, source: SourceId, external_id: &str) -> Result<Option<Group>, StoreError> {
        let sql = query(
            "SELECT id, name, source_id, external_id, version, created_at, updated_at FROM groups \
             WHERE source_id = $1 AND external_id = $2",
        );
        let sql = sql.bind(source.to_string()).bind(external_id.to_owned());
        self.read_optional(sql).await?.as_ref().map(group).transpose()
    }

    /// Standing members of a group, at most `limit`, by id.
    pub async fn members_standing_in(&mut self, group: GroupId, limit: u32) -> Result<Vec<IdentityId>, StoreError> {
        let rows = self.read_all(members(group, limit)).await?;
        rows.iter().map(member).collect()
    }

    /// Groups that an identity is a standing member of.
    pub async fn standing_groups(&mut self, identity: IdentityId) -> Result<Vec<Group>, StoreError> {
        let sql = query(
            "SELECT g.id, g.name, g.source_id, g.external_id, g.version, g.created_at, g.updated_at FROM memberships m \
             JOIN groups g ON g.id = m.group_id WHERE m.identity_id = $1 AND m.grant_id = '' ORDER BY g.id",
        );
        self.read_all(sql.bind(identity.to_string())).await?.iter().map(group).collect()
    }

    /// Which of these are identities that are there.
    pub async fn present(&mut self, ids: &[IdentityId]) -> Result<Vec<IdentityId>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in ids.chunks(500) {
            let mut sql = Sql::new("SELECT id AS identity_id FROM identities WHERE deleted_at IS NULL AND id IN (");
            sql.list(chunk, |sql, id| {
                sql.text(id.to_string());
            });
            sql.push(")");
            for row in &self.read_all(sql.query()).await? {
                found.push(member(row)?);
            }
        }
        Ok(found)
    }
}
