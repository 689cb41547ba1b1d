//! Attributes by path, in and out of a resource.
//!
//! Paths are `attribute`, `attribute.sub`, `multi.type` for attributes that have types (`emails.work`), each after the
//! URN of an extension if it is one's.

use serde_json::{Map, Value, json};

/// Attributes with values of several types.
const MULTI: &[&str] = &["emails", "phoneNumbers", "ims", "photos"];

/// A path, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path<'a> {
    urn: Option<&'a str>,
    name: &'a str,
    rest: Option<&'a str>,
}

fn parse(path: &str) -> Path<'_> {
    // The version in a URN has a dot, so the name begins after its last colon.
    let (urn, tail) = match path.rfind(':') {
        Some(at) if path.starts_with("urn:") => (path.get(..at), path.get(at + 1..).unwrap_or_default()),
        _ => (None, path),
    };
    match tail.split_once('.') {
        Some((name, rest)) => Path { urn, name, rest: Some(rest) },
        None => Path { urn, name: tail, rest: None },
    }
}

/// An attribute by its name in any case, as RFC 7643 §2.1 has it.
pub(super) fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        // A manager, as some write it.
        Value::Object(_) => member(value, "value").and_then(text),
        _ => None,
    }
}

/// The value at a path.
pub fn get(resource: &Value, path: &str) -> Option<String> {
    let path = parse(path);
    let holder = match path.urn {
        Some(urn) => member(resource, urn)?,
        None => resource,
    };
    let value = member(holder, path.name)?;
    let Some(rest) = path.rest else { return text(value) };
    if !MULTI.contains(&path.name) {
        return member(value, rest).and_then(text);
    }
    let values = value.as_array()?;
    let of_type = |v: &&Value| member(v, "type").and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case(rest));
    // The only one may have lost its type on the way.
    let only = match values.as_slice() {
        [only] if member(only, "type").is_none() => Some(only),
        _ => None,
    };
    values.iter().find(of_type).or(only).and_then(|v| member(v, "value")).and_then(text)
}

fn object_at<'a>(holder: &'a mut Map<String, Value>, name: &str) -> Option<&'a mut Map<String, Value>> {
    let slot = holder.entry(name.to_owned()).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    slot.as_object_mut()
}

/// Set the value at a path in a whole resource, or take it away.
pub fn set(resource: &mut Map<String, Value>, path: &str, value: Option<&str>) {
    let path = parse(path);
    let holder = match path.urn {
        Some(urn) => {
            note_schema(resource, urn);
            object_at(resource, urn)
        }
        None => Some(resource),
    };
    let Some(holder) = holder else { return };
    match (path.rest, value) {
        (None, Some(value)) => {
            holder.insert(path.name.to_owned(), json!(value));
        }
        (None, None) => {
            holder.remove(path.name);
        }
        (Some(kind), value) if MULTI.contains(&path.name) => {
            let values = match holder.remove(path.name) {
                Some(Value::Array(values)) => values,
                _ => Vec::new(),
            };
            // The only one may have lost its type on the way.
            let lost = values.len() == 1;
            let other = |v: &Value| match member(v, "type").and_then(Value::as_str) {
                Some(other) => other != kind,
                None => !lost,
            };
            let mut values: Vec<Value> = values.into_iter().filter(other).collect();
            if let Some(value) = value {
                let primary = !values.iter().any(|v| member(v, "primary").is_some_and(|p| *p == json!(true)));
                values.push(json!({"type": kind, "value": value, "primary": primary}));
            }
            if !values.is_empty() {
                holder.insert(path.name.to_owned(), Value::Array(values));
            }
        }
        (Some(sub), Some(value)) => {
            if let Some(object) = object_at(holder, path.name) {
                object.insert(sub.to_owned(), json!(value));
            }
        }
        (Some(sub), None) => {
            if let Some(Value::Object(object)) = holder.get_mut(path.name) {
                object.remove(sub);
            }
        }
    }
}

fn note_schema(resource: &mut Map<String, Value>, urn: &str) {
    if let Some(Value::Array(schemas)) = resource.get_mut("schemas")
        && !schemas.iter().any(|s| s.as_str() == Some(urn))
    {
        schemas.push(json!(urn));
    }
}

/// Does the attribute at a path have values of several types?
pub fn has_types(path: &str) -> bool {
    MULTI.contains(&parse(path).name)
}

/// Is the value at a path the only one, without a type to pick it by?
pub fn is_untyped(resource: &Value, path: &str) -> bool {
    let path = parse(path);
    let holder = path.urn.map_or(Some(resource), |urn| member(resource, urn));
    let values = holder.and_then(|h| member(h, path.name)).and_then(Value::as_array);
    let only = values.and_then(|v| if let [only] = v.as_slice() { Some(only) } else { None });
    path.rest.is_some() && MULTI.contains(&path.name) && only.is_some_and(|v| member(v, "type").is_none())
}

/// One operation of a PATCH that brings `path` to `should`. `is` says whether there is a value now; `untyped`, that no
/// filter would pick it.
pub fn operation(path: &str, is: Option<&str>, should: Option<&str>, untyped: bool) -> Value {
    let parsed = parse(path);
    let within = |name: &str| parsed.urn.map_or_else(|| name.to_owned(), |urn| format!("{urn}:{name}"));
    if let (Some(kind), true) = (parsed.rest, untyped) {
        return match should {
            Some(value) => {
                let value = json!([{"type": kind, "value": value, "primary": true}]);
                json!({"op": "replace", "path": within(parsed.name), "value": value})
            }
            None => json!({"op": "remove", "path": within(parsed.name)}),
        };
    }
    let (whole, part) = match parsed.rest {
        Some(kind) if MULTI.contains(&parsed.name) => {
            let filtered = format!("{}[type eq \"{kind}\"]", within(parsed.name));
            match (is, should) {
                // A filter that finds nothing is refused by some, so a new value is added as a whole.
                (None, Some(value)) => {
                    let value = json!([{"type": kind, "value": value, "primary": true}]);
                    return json!({"op": "add", "path": within(parsed.name), "value": value});
                }
                _ => (filtered.clone(), format!("{filtered}.value")),
            }
        }
        Some(sub) => (within(&format!("{}.{sub}", parsed.name)), within(&format!("{}.{sub}", parsed.name))),
        None => (within(parsed.name), within(parsed.name)),
    };
    match should {
        Some(value) => json!({"op": "replace", "path": part, "value": value}),
        None => json!({"op": "remove", "path": whole}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPARTMENT: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department";
    const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

    #[test]
    fn what_is_set_is_read_at_every_kind_of_path() {
        let Value::Object(mut resource) = json!({"schemas": ["core"]}) else { panic!() };
        for path in ["displayName", "name.givenName", "emails.work", DEPARTMENT] {
            set(&mut resource, path, Some("x"));
            assert_eq!(get(&Value::Object(resource.clone()), path).as_deref(), Some("x"), "{path}");
        }
        assert_eq!(resource["schemas"], json!(["core", ENTERPRISE]));
        assert_eq!(resource["emails"], json!([{"type": "work", "value": "x", "primary": true}]));
        for path in ["displayName", "name.givenName", "emails.work", DEPARTMENT] {
            set(&mut resource, path, None);
            assert_eq!(get(&Value::Object(resource.clone()), path), None, "{path}");
        }
    }

    #[test]
    fn reading_is_lenient() {
        let resource = json!({"DISPLAYNAME": "Ana", "emails": [{"value": "a@x"}], "manager": {"value": "7"}});
        assert_eq!(get(&resource, "displayName").as_deref(), Some("Ana"));
        assert_eq!(get(&resource, "emails.work").as_deref(), Some("a@x"));
        assert_eq!(get(&resource, "manager").as_deref(), Some("7"));
        assert_eq!(get(&json!({"emails": [{"type": "home", "value": "a@x"}]}), "emails.work"), None);
    }

    #[test]
    fn the_only_value_may_have_lost_its_type() {
        let resource = json!({"emails": [{"value": "a@x"}], "phoneNumbers": [{"type": "work", "value": "1"}]});
        assert!(is_untyped(&resource, "emails.work") && !is_untyped(&resource, "phoneNumbers.work"));
        let whole = json!([{"type": "work", "value": "b@x", "primary": true}]);
        assert_eq!(
            operation("emails.work", Some("a@x"), Some("b@x"), true),
            json!({"op": "replace", "path": "emails", "value": whole})
        );
        assert_eq!(operation("emails.work", Some("a@x"), None, true), json!({"op": "remove", "path": "emails"}));
        let Value::Object(mut resource) = resource else { panic!() };
        set(&mut resource, "emails.work", Some("b@x"));
        assert_eq!(resource["emails"], whole);
    }

    #[test]
    fn operations_have_a_path_and_lower_case_names() {
        assert_eq!(
            operation("displayName", Some("a"), Some("b"), false),
            json!({"op": "replace", "path": "displayName", "value": "b"})
        );
        assert_eq!(operation("title", Some("a"), None, false), json!({"op": "remove", "path": "title"}));
        assert_eq!(
            operation("emails.work", Some("a"), Some("b"), false),
            json!({"op": "replace", "path": "emails[type eq \"work\"].value", "value": "b"})
        );
        assert_eq!(
            operation("emails.work", Some("a"), None, false),
            json!({"op": "remove", "path": "emails[type eq \"work\"]"})
        );
        assert_eq!(operation("emails.work", None, Some("b"), false)["op"], "add");
        assert_eq!(operation(DEPARTMENT, None, Some("b"), false)["path"], DEPARTMENT);
    }
}
