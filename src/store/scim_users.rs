//! Users as SCIM sees them: an identity with the rest of what was said of it, and the index that filters look in.

use serde_json::Value;
use sqlx::{any::AnyRow, query};

use super::{
    Store, StoreError, Tx,
    identities::{SEPARATOR, identity},
    row::{Reader, readable, to_json},
    scim_sql::{MAX_KEY, Place, ScimList, Shape, Sql, key_of},
};
use crate::domain::{
    id::{GroupId, IdentityId, SourceId},
    identity::Identity,
    scim::{
        Document,
        core::USERS,
        document::is_primary,
        filter::{Literal, fold},
        path::AttrPath,
        schema::{Attribute, Kind, ResourceType, Schema},
    },
    time::Timestamp,
};

/// A user.
#[derive(Debug, Clone)]
pub struct ScimUser {
    /// What decisions rest on.
    pub identity: Identity,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
    /// What has no column, if a source said anything.
    pub document: Option<Document>,
    /// Standing memberships: id and name.
    pub groups: Vec<(GroupId, String)>,
}

/// Column list of a user; `$1` is the separator.
macro_rules! columns {
    () => {
        concat!(
            $crate::store::identities::identity_columns!(),
            ", i.created_at, i.updated_at, d.document, (SELECT string_agg(g.id || ' ' || g.name, $1) FROM memberships m \
             JOIN groups g ON g.id = m.group_id WHERE m.identity_id = i.id AND m.grant_id = '') AS in_groups"
        )
    };
}

macro_rules! one {
    ($which:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM identities i LEFT JOIN scim_documents d ON d.identity_id = i.id WHERE i.deleted_at IS NULL AND ",
            $which
        )
    };
}

fn user(row: &AnyRow) -> Result<ScimUser, StoreError> {
    let r = Reader::new("identities", row);
    let groups = r.optional_text("in_groups")?.unwrap_or_default();
    let groups = groups.split(SEPARATOR).filter_map(|entry| {
        let (id, name) = entry.split_once(' ')?;
        Some((id.parse().ok()?, name.to_owned()))
    });
    let mut groups: Vec<(GroupId, String)> = groups.collect();
    groups.sort_unstable();
    Ok(ScimUser {
        identity: identity(row)?,
        created_at: r.instant("created_at")?,
        updated_at: r.instant("updated_at")?,
        document: r.optional_json("document")?,
        groups,
    })
}

fn shape(list: &ScimList) -> Shape {
    Shape { id: "i.id", place, asks: list.asks.map(|source| ("i.source_id", source)) }
}

/// Where an attribute of a user is.
fn place(path: &AttrPath) -> Place {
    const GROUPS: &str =
        "SELECT m.identity_id FROM memberships m JOIN groups g ON g.id = m.group_id WHERE m.grant_id = ''";
    const EMAILS: &str = "SELECT n.id FROM identities n WHERE n.deleted_at IS NULL";
    match (path.schema.short, path.attribute.name, path.sub.map(|s| s.name)) {
        ("", "id", None) => Place::Text("i.id"),
        ("", "externalId", None) => Place::Known("i.external_id"),
        ("", "userName", None) => Place::Text("i.name_key"),
        ("", "displayName", None) => Place::Text("i.display_key"),
        ("", "active", None) => Place::Flag("i.active"),
        ("", "schemas", None) => Place::Schemas(USERS.schema.urn),
        ("", "meta", None | Some("resourceType")) => Place::Constant(USERS.name),
        ("", "meta", Some("created")) => Place::Instant("i.created_at"),
        ("", "meta", Some("lastModified")) => Place::Instant("i.updated_at"),
        ("", "meta", Some("version")) => Place::Text("('W/\"' || i.version || '\"')"),
        ("", "meta" | "password", _) => Place::Nowhere,
        ("", "groups", None | Some("value")) => Place::Rows { select: GROUPS, text: "g.id", folded: false },
        ("", "groups", Some("display")) => Place::Rows { select: GROUPS, text: "g.name_key", folded: true },
        ("", "groups", Some("type")) => Place::Constant("direct"),
        ("", "emails", None | Some("value")) => Place::Values { also: Some((EMAILS, "n.email_key")) },
        ("tidegate", "kind", None) => Place::Text("i.kind"),
        ("tidegate", "owner", _) => Place::Text("i.owner_id"),
        _ => Place::Values { also: None },
    }
}

/// A row of the index of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) key: String,
    pub(super) element: i64,
}

/// What can be looked up of a document.
pub(super) fn entries(of: &'static ResourceType, document: &Document) -> Vec<Entry> {
    let mut found = Vec::new();
    index_schema(of.schema, document, &mut found);
    for schema in of.extensions {
        if let Some(Value::Object(inner)) = document.get(schema.urn) {
            index_schema(schema, inner, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn index_schema(schema: &'static Schema, document: &Document, found: &mut Vec<Entry>) {
    for attribute in schema.attributes {
        let Some(value) = document.get(attribute.name) else { continue };
        let path = AttrPath { schema, attribute, sub: None };
        if !matches!(place(&path), Place::Values { .. }) {
            continue;
        }
        match value {
            Value::Array(items) => {
                // The preferred one first: lists are sorted by it.
                let first = items.iter().position(is_primary).unwrap_or(0);
                for (at, item) in items.iter().enumerate() {
                    let element = match at.cmp(&first) {
                        std::cmp::Ordering::Equal => 0,
                        std::cmp::Ordering::Less => at + 1,
                        std::cmp::Ordering::Greater => at,
                    };
                    index_value(path, item, i64::try_from(element).unwrap_or(i64::MAX), found);
                }
            }
            value => index_value(path, value, 0, found),
        }
    }
}

fn index_value(path: AttrPath, value: &Value, element: i64, found: &mut Vec<Entry>) {
    let Value::Object(object) = value else {
        found.extend(key(path.attribute, value).map(|key| Entry { path: path.key(), key, element }));
        return;
    };
    found.push(Entry { path: path.key(), key: String::new(), element });
    for sub in path.attribute.subs {
        let key = object.get(sub.name).and_then(|value| key(sub, value));
        found.extend(key.map(|key| Entry { path: AttrPath { sub: Some(sub), ..path }.key(), key, element }));
    }
}

/// What of a document only one may have.
fn claims(of: &'static ResourceType, document: &Document) -> Vec<(AttrPath, String)> {
    let claim = |(schema, attribute): (&'static Schema, &'static Attribute)| {
        let value = document.get(schema.urn)?.get(attribute.name)?;
        Some((AttrPath { schema, attribute, sub: None }, key(attribute, value)?))
    };
    of.declared().filter(|(_, a)| a.unique).filter_map(claim).collect()
}

fn key(attribute: &Attribute, value: &Value) -> Option<String> {
    match value {
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => match (attribute.kind, number.as_i64()) {
            (Kind::Integer, Some(whole)) => Some(key_of(attribute, &Literal::Whole(whole))),
            _ => number.as_f64().map(|n| key_of(attribute, &Literal::Number(n))),
        },
        Value::String(text) if attribute.kind == Kind::DateTime => {
            text.parse().ok().map(|at| key_of(attribute, &Literal::Instant(at)))
        }
        // Certificates are not looked up.
        Value::String(_) if attribute.kind == Kind::Binary => None,
        Value::String(text) if !text.is_empty() => Some(fold(attribute, text).chars().take(MAX_KEY).collect()),
        _ => None,
    }
}

impl Store {
    /// The user of that id.
    pub async fn scim_user(&self, id: IdentityId) -> Result<Option<ScimUser>, StoreError> {
        let sql = query(one!("i.id = $2")).bind(SEPARATOR).bind(id.to_string());
        sql.fetch_optional(&self.inner.readers).await?.as_ref().map(user).transpose()
    }

    /// A page of users.
    pub async fn scim_users(&self, list: &ScimList) -> Result<Vec<ScimUser>, StoreError> {
        let rows = users_sql(list).query().fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, user))
    }

    /// How many users there are in all.
    pub async fn count_scim_users(&self, list: &ScimList) -> Result<u64, StoreError> {
        let mut sql = Sql::new("SELECT count(*) AS n FROM identities i WHERE i.deleted_at IS NULL");
        if let Some(filter) = &list.filter {
            sql.push(" AND ").filter(shape(list), filter);
        }
        let row = sql.query().fetch_one(&self.inner.readers).await?;
        Reader::new("identities", &row).number("n")
    }

    /// How the database would find them, in its own words: for tests of what a look-up costs.
    pub async fn explain_scim_users(&self, list: &ScimList) -> Result<String, StoreError> {
        let explain = match self.inner.backend {
            super::Backend::Sqlite => "EXPLAIN QUERY PLAN ",
            super::Backend::Postgres => "EXPLAIN ",
        };
        let mut sql = Sql::new(explain);
        write_users(&mut sql, list);
        let rows = sql.query().fetch_all(&self.inner.readers).await?;
        let column = if self.inner.backend == super::Backend::Sqlite { "detail" } else { "QUERY PLAN" };
        let lines: Vec<String> = rows.iter().filter_map(|row| Reader::new("plan", row).text(column).ok()).collect();
        Ok(lines.join("\n"))
    }
}

fn users_sql(list: &ScimList) -> Sql {
    let mut sql = Sql::default();
    write_users(&mut sql, list);
    sql
}

fn write_users(sql: &mut Sql, list: &ScimList) {
    // `columns!` calls the separator `$1`, and it is the first that is bound here too.
    const COLUMNS: &str = columns!();
    let (before, after) = COLUMNS.split_once("$1").unwrap_or((COLUMNS, ""));
    sql.push("SELECT ").push(before).text(SEPARATOR).push(after);
    sql.push(" FROM (SELECT i.id AS picked, row_number() OVER (").order(shape(list), list.sort.as_ref());
    sql.push(") AS nth FROM identities i WHERE i.deleted_at IS NULL");
    if let Some(filter) = &list.filter {
        sql.push(" AND ").filter(shape(list), filter);
    }
    if let Some(after) = &list.after {
        sql.push(" AND i.id > ").text(after.clone());
    }
    sql.order(shape(list), list.sort.as_ref());
    sql.push(" LIMIT ").integer(i64::from(list.limit));
    sql.push(" OFFSET ").integer(i64::try_from(list.offset).unwrap_or(i64::MAX));
    sql.push(
        ") p JOIN identities i ON i.id = p.picked LEFT JOIN scim_documents d ON d.identity_id = i.id ORDER BY p.nth",
    );
}

impl Tx {
    /// The user of that id, as this change sees it.
    pub async fn scim_user(&mut self, id: IdentityId) -> Result<Option<ScimUser>, StoreError> {
        let sql = query(one!("i.id = $2")).bind(SEPARATOR).bind(id.to_string());
        self.read_optional(sql).await?.as_ref().map(user).transpose()
    }

    /// The user of that unique name.
    pub async fn scim_user_named(&mut self, name: &str) -> Result<Option<ScimUser>, StoreError> {
        let sql = query(one!("i.name_key = $2")).bind(SEPARATOR).bind(name.to_lowercase());
        self.read_optional(sql).await?.as_ref().map(user).transpose()
    }

    /// The user that a source knows by that name of its own.
    pub async fn scim_user_known_as(
        &mut self,
        source: SourceId,
        external_id: &str,
    ) -> Result<Option<ScimUser>, StoreError> {
        let sql = query(one!("i.source_id = $2 AND i.external_id = $3"))
            .bind(SEPARATOR)
            .bind(source.to_string())
            .bind(external_id.to_owned());
        self.read_optional(sql).await?.as_ref().map(user).transpose()
    }

    /// Of whom it was said that whoever has one of these names manages them.
    pub async fn managed_by(&mut self, names: &[String; 2]) -> Result<Vec<IdentityId>, StoreError> {
        const SQL: &str = "SELECT DISTINCT identity_id FROM scim_values WHERE path = 'enterprise:manager.value' \
                           AND value_key IN ($1, $2) AND value_key <> ''";
        let [name, external_id] = names;
        let rows = self.read_all(query(SQL).bind(name.clone()).bind(external_id.clone())).await?;
        rows.iter().map(|row| Reader::new("scim_values", row).parsed("identity_id")).collect()
    }

    /// Keep what was said of a user, in the place of what was kept.
    pub async fn write_document(
        &mut self,
        of: &'static ResourceType,
        id: IdentityId,
        document: &Document,
        new: bool,
    ) -> Result<(), StoreError> {
        let text = to_json(document);
        self.execute(
            query(
                "INSERT INTO scim_documents (identity_id, document) VALUES ($1, $2) \
                 ON CONFLICT (identity_id) DO UPDATE SET document = excluded.document",
            )
            .bind(id.to_string())
            .bind(text),
        )
        .await?;
        if !new {
            self.forget_values(id).await?;
        }
        let entries = entries(of, document);
        // One statement for all of a person but the most verbose.
        for chunk in entries.chunks(500) {
            let mut sql = Sql::new("INSERT INTO scim_values (path, value_key, identity_id, element) VALUES ");
            sql.list(chunk, |sql, entry| {
                sql.push("(").text(entry.path.clone()).push(", ").text(entry.key.clone()).push(", ");
                sql.text(id.to_string()).push(", ").integer(entry.element).push(")");
            });
            self.execute(sql.query()).await?;
        }
        Ok(())
    }

    /// See that nobody else has the values that only one may have; the path of one that somebody has. Whoever had them
    /// before gives them free.
    pub async fn claim_unique(
        &mut self,
        of: &'static ResourceType,
        id: IdentityId,
        document: &Document,
        new: bool,
    ) -> Result<Option<String>, StoreError> {
        const CLAIM: &str = "INSERT INTO scim_unique (path, value_key, identity_id) VALUES ($1, $2, $3) \
                             ON CONFLICT (path, value_key) DO NOTHING";
        if !new && of.has_unique() {
            self.forget_unique(id).await?;
        }
        for (path, key) in claims(of, document) {
            if self.execute(query(CLAIM).bind(path.key()).bind(key).bind(id.to_string())).await? == 0 {
                return Ok(Some(path.to_string()));
            }
        }
        Ok(None)
    }

    async fn forget_unique(&mut self, id: IdentityId) -> Result<(), StoreError> {
        self.execute(query("DELETE FROM scim_unique WHERE identity_id = $1").bind(id.to_string())).await?;
        Ok(())
    }

    async fn forget_values(&mut self, id: IdentityId) -> Result<(), StoreError> {
        self.execute(query("DELETE FROM scim_values WHERE identity_id = $1").bind(id.to_string())).await?;
        Ok(())
    }

    /// Forget what was said of a user: it was deleted.
    pub async fn forget_document(&mut self, id: IdentityId) -> Result<(), StoreError> {
        self.forget_values(id).await?;
        self.forget_unique(id).await?;
        self.execute(query("DELETE FROM scim_documents WHERE identity_id = $1").bind(id.to_string())).await?;
        Ok(())
    }
}
