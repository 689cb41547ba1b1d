//! Declared attributes that are written once (RFC 7643 §2.2, `immutable`).

use serde_json::Value;

use crate::domain::scim::{
    Document, ScimError,
    document::extension,
    schema::{Attribute, Mutability, ResourceType, Schema},
};

fn set_once(of: &ResourceType) -> impl Iterator<Item = (&'static Schema, &'static Attribute)> {
    of.declared().filter(|(_, a)| a.mutability == Mutability::Immutable)
}

/// What a replacement leaves out stays (RFC 7644 §3.5.1).
pub(super) fn keep(of: &ResourceType, before: &Document, after: &mut Document) {
    for (schema, attribute) in set_once(of) {
        let Some(value) = extension(before, schema).and_then(|e| e.get(attribute.name)) else { continue };
        let inner = after.entry(schema.urn).or_insert_with(|| Value::Object(Document::new()));
        if let Value::Object(inner) = inner {
            inner.entry(attribute.name).or_insert_with(|| value.clone());
        }
    }
}

/// What is set already is not changed.
pub(super) fn check(of: &ResourceType, before: &Document, after: Document) -> Result<Document, ScimError> {
    for (schema, attribute) in set_once(of) {
        let Some(value) = extension(before, schema).and_then(|e| e.get(attribute.name)) else { continue };
        if extension(&after, schema).and_then(|e| e.get(attribute.name)) != Some(value) {
            return Err(ScimError::mutability(format!("`{}:{}` is written once", schema.urn, attribute.name)));
        }
    }
    Ok(after)
}
