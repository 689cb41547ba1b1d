//! Documents: what was sent, brought into the form of the schema. Names as the schema writes them, booleans as booleans,
//! lists as lists; what nobody knows and what nobody may write is left out.

use serde_json::{Map, Value};

use super::{
    core::COMMON,
    error::ScimError,
    filter::flag,
    matching::{has_primary, unassigned},
    schema::{Attribute, Kind, Mutability, ResourceType, Schema},
};
use crate::domain::time::Timestamp;

/// Attributes by name; those of an extension in an object under its URN.
pub type Document = Map<String, Value>;

/// Most values in one list of a person.
pub(super) const MAX_VALUES: usize = 500;
/// Longest unique name, in characters.
const MAX_NAME: usize = 256;

/// Bring a resource as it was sent into form.
pub fn read_document(of: &'static ResourceType, sent: &Value) -> Result<Document, ScimError> {
    let Value::Object(sent) = sent else { return Err(ScimError::syntax("the body is to be an object")) };
    let mut document = Document::new();
    for (name, value) in sent {
        if let Some(schema) = of.schema_of(name) {
            let Value::Object(inner) = value else {
                if unassigned(value) {
                    continue;
                }
                return Err(ScimError::value(format!("`{name}` is to be an object")));
            };
            if schema == of.schema {
                for (name, value) in inner {
                    put(&mut document, schema.attribute(name), value)?;
                }
            } else {
                let mut extension = Document::new();
                for (name, value) in inner {
                    put(&mut extension, schema.attribute(name), value)?;
                }
                if !extension.is_empty() {
                    document.insert(schema.urn.to_owned(), Value::Object(extension));
                }
            }
        } else {
            put(&mut document, COMMON.attribute(name).or_else(|| of.schema.attribute(name)), value)?;
        }
    }
    check(of, &document)?;
    Ok(document)
}

fn put(into: &mut Document, attribute: Option<&'static Attribute>, value: &Value) -> Result<(), ScimError> {
    let Some(attribute) = attribute.filter(|a| a.mutability != Mutability::ReadOnly) else { return Ok(()) };
    if let Some(value) = normal(attribute, value, false)? {
        into.insert(attribute.name.to_owned(), value);
    }
    Ok(())
}

/// What must hold of a whole document: what is required is there, and names are names.
pub fn check(of: &'static ResourceType, document: &Document) -> Result<(), ScimError> {
    for attribute in of.schema.attributes.iter().filter(|a| a.required) {
        let text = document.get(attribute.name).and_then(Value::as_str).unwrap_or_default();
        if text.trim().is_empty() {
            return Err(ScimError::value(format!("`{}` is required", attribute.name)));
        }
    }
    for name in ["userName", "displayName", "externalId"] {
        let Some(text) = document.get(name).and_then(Value::as_str) else { continue };
        if text.chars().count() > MAX_NAME {
            return Err(ScimError::value(format!("`{name}` has at most {MAX_NAME} characters")));
        }
        if text.chars().any(char::is_control) {
            return Err(ScimError::value(format!("`{name}` has no control characters")));
        }
    }
    Ok(())
}

/// A value of an attribute in its form; `None` if it is unassigned. A change may give one value for a list.
pub fn normal(attribute: &'static Attribute, value: &Value, change: bool) -> Result<Option<Value>, ScimError> {
    if value.is_null() {
        return Ok(None);
    }
    if !attribute.multi {
        // Some wrap the one value that there is in a list.
        return match value.as_array().map(Vec::as_slice) {
            Some([]) => Ok(None),
            Some([one]) => single(attribute, one),
            _ => single(attribute, value),
        };
    }
    let one = std::slice::from_ref(value);
    let items = match value {
        Value::Array(items) => items.as_slice(),
        Value::Object(_) => one,
        _ if change => one,
        _ => return Err(ScimError::value(format!("`{}` is to be a list", attribute.name))),
    };
    if attribute.name != "members" && items.len() > MAX_VALUES {
        return Err(ScimError::value(format!("`{}` has at most {MAX_VALUES} values", attribute.name)));
    }
    let mut list: Vec<Value> = Vec::with_capacity(items.len());
    for item in items {
        if let Some(item) = single(attribute, item)?
            && (attribute.name == "members" || !list.contains(&item))
        {
            list.push(item);
        }
    }
    if has_primary(attribute) && list.iter().filter(|v| is_primary(v)).count() > 1 {
        return Err(ScimError::value(format!("at most one of `{}` is primary", attribute.name)));
    }
    Ok((!list.is_empty()).then_some(Value::Array(list)))
}

/// Is it marked as the preferred one?
pub fn is_primary(value: &Value) -> bool {
    value.get("primary") == Some(&Value::Bool(true))
}

fn single(attribute: &'static Attribute, value: &Value) -> Result<Option<Value>, ScimError> {
    let wrong = |what: &str| Err(ScimError::value(format!("`{}` is to be {what}", attribute.name)));
    match (attribute.kind, value) {
        (_, Value::Null) => Ok(None),
        (Kind::Boolean, value) => match flag(value) {
            Some(flag) => Ok(Some(Value::Bool(flag))),
            None => wrong("true or false"),
        },
        (Kind::Complex, Value::Object(sent)) => {
            let mut object = Document::new();
            for (name, value) in sent {
                let Some(sub) = attribute.sub(name).filter(|s| s.mutability != Mutability::ReadOnly) else { continue };
                if let Some(value) = normal(sub, value, false)? {
                    object.insert(sub.name.to_owned(), value);
                }
            }
            Ok((!object.is_empty() && !clears(attribute, &object)).then_some(Value::Object(object)))
        }
        // A manager as a bare id.
        (Kind::Complex, Value::String(text)) => match attribute.value_sub() {
            Some(_) if text.is_empty() => Ok(None),
            Some(sub) => {
                let value = single(sub, value)?;
                Ok(value.map(|v| Value::Object(Map::from_iter([(sub.name.to_owned(), v)]))))
            }
            None => wrong("an object"),
        },
        (Kind::Complex, _) => wrong("an object"),
        (Kind::Integer | Kind::Decimal, value) => match number(attribute.kind, value) {
            Some(number) => Ok(Some(number)),
            None if attribute.kind == Kind::Integer => wrong("a whole number"),
            None => wrong("a number"),
        },
        (Kind::DateTime, Value::String(text)) if text.parse::<Timestamp>().is_err() => {
            wrong("an instant, like 2026-03-02T14:00:00Z")
        }
        (_, Value::String(text)) if text.contains('\0') => wrong("a text without NUL"),
        (_, Value::String(_)) => Ok(Some(value.clone())),
        _ => wrong("a text"),
    }
}

/// A number, also as text, as some send it.
pub(super) fn number(kind: Kind, value: &Value) -> Option<Value> {
    let given = match value {
        Value::String(text) => serde_json::from_str(text.trim()).ok()?,
        other => other.clone(),
    };
    match kind {
        Kind::Integer => given.as_i64().map(Value::from),
        _ => given.as_f64().filter(|n| n.is_finite()).and(Some(given)),
    }
}

/// A manager with an empty id is none.
fn clears(attribute: &Attribute, object: &Document) -> bool {
    !attribute.multi && attribute.value_sub().is_some() && object.get("value").is_some_and(|v| v == "")
}

/// Attributes of the extension, for reading.
pub fn extension<'d>(document: &'d Document, schema: &Schema) -> Option<&'d Document> {
    document.get(schema.urn).and_then(Value::as_object)
}

/// A text of the document.
pub fn text<'d>(document: &'d Document, name: &str) -> Option<&'d str> {
    document.get(name).and_then(Value::as_str)
}
