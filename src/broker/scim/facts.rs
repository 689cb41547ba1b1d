//! From a document to what decisions rest on, and back for those of whom no source said anything.

use serde_json::{Value, json};

use crate::domain::{
    identity::Identity,
    scim::{
        Document, ScimError,
        core::{ENTERPRISE, IDENTITY},
        document::{extension, is_primary, text},
        schema::{Mutability, ResourceType},
    },
    time::Timestamp,
};

/// Attributes that policy sees, by the name that SCIM gives them: of the core schema…
const CORE: [&str; 2] = ["title", "userType"];
/// …of the enterprise extension…
const OF_ENTERPRISE: [&str; 5] = ["department", "division", "organization", "costCenter", "employeeNumber"];
/// …and lists, as texts with commas.
const LISTS: [&str; 2] = ["roles", "entitlements"];
/// Parts of the name, by what the facts of applications and feeds call them.
const OF_NAME: [(&str, &str); 2] = [("given_name", "givenName"), ("family_name", "familyName")];
/// Ours.
const EMPLOYMENT: &str = "employment";
/// Id of the manager.
pub(super) const MANAGER: &str = "manager";

/// Keep of a document what has no column, and bring `identity` to what the document says. The manager is resolved by the
/// caller, who can look.
pub(super) fn apply(of: &ResourceType, document: &Document, identity: &mut Identity) -> Result<(), ScimError> {
    text(document, "userName").unwrap_or_default().clone_into(&mut identity.name);
    identity.display_name = display_name(document, &identity.name);
    identity.email = email(document).map(str::to_owned);
    if let Some(active) = document.get("active").and_then(Value::as_bool) {
        identity.active = active;
    }
    identity.external_id = text(document, "externalId").map(str::to_owned);
    let ours = extension(document, &IDENTITY);
    identity.contract_end = match ours.and_then(|o| text(o, "contractEnd")) {
        Some(end) => Some(instant(end)?),
        None => None,
    };
    let enterprise = extension(document, &ENTERPRISE);
    let mut set = |name: &str, value: Option<String>| {
        match value.filter(|v| !v.trim().is_empty()) {
            Some(value) => identity.attributes.insert(name.to_owned(), value),
            None => identity.attributes.remove(name),
        };
    };
    for name in CORE {
        set(name, text(document, name).map(str::to_owned));
    }
    let parts = document.get("name").and_then(Value::as_object);
    for (fact, part) in OF_NAME {
        set(fact, parts.and_then(|p| text(p, part)).map(str::to_owned));
    }
    for name in OF_ENTERPRISE {
        set(name, enterprise.and_then(|e| text(e, name)).map(str::to_owned));
    }
    for name in LISTS {
        set(name, list(document, name));
    }
    set(EMPLOYMENT, ours.and_then(|o| text(o, EMPLOYMENT)).map(str::to_owned));
    for (schema, attribute) in of.declared().filter(|(_, a)| a.mutability != Mutability::WriteOnly) {
        let Some(name) = attribute.fact else { continue };
        set(name, extension(document, schema).and_then(|e| e.get(attribute.name)).map(plain));
    }
    Ok(())
}

/// A declared value as decisions keep it: a text as it is, everything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// An instant, or the end of a day.
pub(super) fn instant(text: &str) -> Result<Timestamp, ScimError> {
    let text = text.trim();
    let day = text.len() == 10;
    let whole = if day { format!("{text}T23:59:59Z") } else { text.to_owned() };
    whole
        .parse()
        .map_err(|_| ScimError::value("`contractEnd` is to be an instant (2027-03-31T18:00:00Z) or a day (2027-03-31)"))
}

fn display_name(document: &Document, fallback: &str) -> String {
    let name = document.get("name").and_then(Value::as_object);
    let part = |which: &str| name.and_then(|n| text(n, which)).map(str::trim).filter(|t| !t.is_empty());
    let joined = || {
        let parts: Vec<&str> = [part("givenName"), part("familyName")].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    };
    let shown = text(document, "displayName").map(str::trim).filter(|t| !t.is_empty());
    let shown = shown.or_else(|| part("formatted")).map(str::to_owned).or_else(joined);
    // For people to read, in one line.
    let shown = shown.unwrap_or_else(|| fallback.to_owned());
    shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(256).collect()
}

/// The primary one, or that for work, or the first.
fn email(document: &Document) -> Option<&str> {
    let all = document.get("emails")?.as_array()?;
    let work = |v: &&Value| v.get("type").and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case("work"));
    let one = all.iter().find(|v| is_primary(v)).or_else(|| all.iter().find(work)).or_else(|| all.first())?;
    one.get("value")?.as_str().map(str::trim).filter(|t| !t.is_empty() && !t.chars().any(char::is_control))
}

fn list(document: &Document, name: &str) -> Option<String> {
    let values = document.get(name)?.as_array()?.iter();
    let values: Vec<&str> = values.filter_map(|v| v.get("value")?.as_str()).collect();
    Some(values.join(","))
}

/// What a document names as manager.
pub(super) fn manager(document: &Document) -> Option<&str> {
    extension(document, &ENTERPRISE)?.get("manager")?.get("value")?.as_str().map(str::trim).filter(|t| !t.is_empty())
}

/// What is known of somebody of whom no source said anything, as a document.
pub(super) fn document_of(identity: &Identity) -> Document {
    let mut document = Document::new();
    let mut enterprise = Document::new();
    let mut ours = Document::new();
    if identity.display_name != identity.name {
        document.insert("displayName".to_owned(), json!(identity.display_name));
    }
    if let Some(email) = &identity.email {
        document.insert("emails".to_owned(), json!([{"value": email, "type": "work", "primary": true}]));
    }
    let part = |(fact, part): (&str, &str)| Some((part.to_owned(), json!(identity.attributes.get(fact)?)));
    let parts: Document = OF_NAME.into_iter().filter_map(part).collect();
    if !parts.is_empty() {
        document.insert("name".to_owned(), Value::Object(parts));
    }
    for (name, value) in &identity.attributes {
        let name_text = name.as_str();
        if CORE.contains(&name_text) {
            document.insert(name.clone(), json!(value));
        } else if OF_ENTERPRISE.contains(&name_text) {
            enterprise.insert(name.clone(), json!(value));
        } else if LISTS.contains(&name_text) {
            let values: Vec<Value> = value.split(',').map(|v| json!({"value": v.trim()})).collect();
            document.insert(name.clone(), Value::Array(values));
        } else if name_text == MANAGER {
            enterprise.insert(name.clone(), json!({"value": value}));
        } else if name_text == EMPLOYMENT {
            ours.insert(name.clone(), json!(value));
        }
    }
    if !enterprise.is_empty() {
        document.insert(ENTERPRISE.urn.to_owned(), Value::Object(enterprise));
    }
    if !ours.is_empty() {
        document.insert(IDENTITY.urn.to_owned(), Value::Object(ours));
    }
    document
}

/// The whole document of a user, as changes are made to it: with what has columns, as the columns say it.
pub(super) fn whole(identity: &Identity, document: Option<&Document>) -> Document {
    let mut whole = document.map_or_else(|| document_of(identity), Clone::clone);
    whole.insert("userName".to_owned(), json!(identity.name));
    // `null`: it was taken away, so it is not told.
    if whole.get("active") != Some(&Value::Null) {
        whole.insert("active".to_owned(), json!(identity.active));
    }
    match &identity.external_id {
        Some(id) => whole.insert("externalId".to_owned(), json!(id)),
        None => whole.remove("externalId"),
    };
    let mut ours = match whole.remove(IDENTITY.urn) {
        Some(Value::Object(ours)) => ours,
        _ => Document::new(),
    };
    match identity.contract_end {
        Some(end) => ours.insert("contractEnd".to_owned(), json!(end.to_string())),
        None => ours.remove("contractEnd"),
    };
    if !ours.is_empty() {
        whole.insert(IDENTITY.urn.to_owned(), Value::Object(ours));
    }
    whole
}

/// What of a whole document is kept as one: without what has columns and what is never kept.
pub(super) fn kept(of: &ResourceType, whole: &Document) -> Document {
    let mut kept = whole.clone();
    for (schema, attribute) in of.declared().filter(|(_, a)| a.mutability == Mutability::WriteOnly) {
        if let Some(Value::Object(inner)) = kept.get_mut(schema.urn) {
            inner.remove(attribute.name);
        }
    }
    for name in ["userName", "externalId", "password"] {
        kept.remove(name);
    }
    if kept.get("active") != Some(&Value::Null) {
        kept.remove("active");
    }
    if let Some(Value::Object(ours)) = kept.get_mut(IDENTITY.urn)
        && let Some(end) = ours.get("contractEnd").and_then(Value::as_str).and_then(|t| instant(t).ok())
    {
        ours.insert("contractEnd".to_owned(), json!(end.to_string()));
    }
    kept
}
