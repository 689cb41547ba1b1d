//! Resources as they are answered, and the conditions that a caller sets on their versions.

use serde_json::{Value, json};

use super::{Resource, facts};
use crate::domain::{
    id::{GroupId, IdentityId},
    identity::{Group, Identity},
    scim::{
        Document, ScimError,
        core::{ENTERPRISE, GROUPS_TYPE, IDENTITY},
        projection::Selection,
        schema::ResourceType,
    },
    time::Timestamp,
};

/// What a caller says of the version that it knows (RFC 7644 §3.14).
#[derive(Debug, Clone, Default)]
pub struct Precondition {
    /// `If-Match`: one of these, or any if one is `*`.
    pub matches: Vec<String>,
    /// `If-None-Match`: none of these.
    pub none_of: Vec<String>,
}

impl Precondition {
    /// Refuse if it does not hold for that version.
    pub(super) fn hold(&self, version: i64) -> Result<(), ScimError> {
        let matches = self.matches.is_empty() || any(&self.matches, version);
        if matches && !any(&self.none_of, version) { Ok(()) } else { Err(ScimError::precondition()) }
    }

    /// Does the caller have that version already?
    pub fn has(&self, version: &str) -> bool {
        self.none_of.iter().any(|tag| tag == "*" || bare(tag) == bare(version))
    }
}

fn any(tags: &[String], version: i64) -> bool {
    let version = etag(version);
    tags.iter().any(|tag| tag == "*" || bare(tag) == bare(&version))
}

/// Versions are compared weakly.
fn bare(tag: &str) -> &str {
    tag.trim().trim_start_matches("W/").trim_matches('"')
}

pub(super) fn etag(version: i64) -> String {
    format!("W/\"{version}\"")
}

pub(super) fn user_location(base: &str, id: &str) -> String {
    format!("{base}/Users/{id}")
}

fn group_location(base: &str, id: GroupId) -> String {
    format!("{base}/Groups/{id}")
}

fn meta(kind: &str, location: &str, version: i64, made: Timestamp, changed: Timestamp) -> Value {
    json!({
        "resourceType": kind, "created": made.to_string(), "lastModified": changed.to_string(),
        "location": location, "version": etag(version),
    })
}

/// A user, as it is told.
pub(super) struct UserParts<'a> {
    pub(super) identity: &'a Identity,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) document: Option<&'a Document>,
    pub(super) groups: &'a [(GroupId, String)],
}

pub(super) fn user(of: &'static ResourceType, parts: &UserParts<'_>, base: &str, selection: &Selection) -> Resource {
    let identity = parts.identity;
    let id = identity.id.to_string();
    let location = user_location(base, &id);
    let mut whole = facts::whole(identity, parts.document);
    if whole.get("active") == Some(&Value::Null) {
        whole.remove("active");
    }
    if let Some(manager) = whole.get_mut(ENTERPRISE.urn).and_then(|e| e.get_mut("manager"))
        && let Some(id) = manager.get("value").and_then(Value::as_str).filter(|v| v.parse::<IdentityId>().is_ok())
    {
        let address = user_location(base, id);
        if let Value::Object(manager) = manager {
            manager.insert("$ref".to_owned(), json!(address));
        }
    }
    if identity.kind.is_non_human() {
        let ours = whole.entry(IDENTITY.urn).or_insert_with(|| json!({}));
        if let Value::Object(ours) = ours {
            ours.insert("kind".to_owned(), json!(identity.kind));
            if let Some(owner) = identity.owner {
                let address = user_location(base, &owner.to_string());
                ours.insert("owner".to_owned(), json!({"value": owner, "$ref": address}));
            }
        }
    }
    if !parts.groups.is_empty() {
        let groups = parts.groups.iter().map(
            |(id, name)| json!({"value": id, "$ref": group_location(base, *id), "display": name, "type": "direct"}),
        );
        whole.insert("groups".to_owned(), groups.collect());
    }
    let schemas: Vec<&str> =
        of.schemas().map(|s| s.urn).filter(|u| *u == of.schema.urn || whole.contains_key(*u)).collect();
    let mut document = Document::new();
    document.insert("schemas".to_owned(), json!(schemas));
    document.insert("id".to_owned(), json!(id));
    document.extend(whole);
    document.insert("meta".to_owned(), meta(of.name, &location, identity.version, parts.created_at, parts.updated_at));
    selection.apply(of, &mut document);
    Resource { location, version: etag(identity.version), document: Some(document) }
}

/// A group, with its members if they were looked up.
pub(super) fn group(group: &Group, members: Option<&[IdentityId]>, base: &str, selection: &Selection) -> Resource {
    let location = group_location(base, group.id);
    let mut document = Document::new();
    document.insert("schemas".to_owned(), json!([GROUPS_TYPE.schema.urn]));
    document.insert("id".to_owned(), json!(group.id));
    if let Some(external) = &group.external_id {
        document.insert("externalId".to_owned(), json!(external));
    }
    document.insert("displayName".to_owned(), json!(group.name));
    if let Some(members) = members.filter(|m| !m.is_empty()) {
        let list = members.iter().map(|id| {
            let id = id.to_string();
            json!({"value": id, "$ref": user_location(base, &id), "type": "User"})
        });
        document.insert("members".to_owned(), list.collect());
    }
    document.insert(
        "meta".to_owned(),
        meta(GROUPS_TYPE.name, &location, group.version, group.created_at, group.updated_at),
    );
    selection.apply(&GROUPS_TYPE, &mut document);
    Resource { location, version: etag(group.version), document: Some(document) }
}
