//! Changes of a document (RFC 7644 §3.5.2): add, replace, remove, with paths that pick values and without paths.
//!
//! What goes beyond the RFC, because vendors send it: the verbs in any case; keys of a path-less change that are paths
//! themselves; unknown and unchangeable attributes in a path-less change are passed over; a value for one that is not
//! there yet is made from what the filter names, on `add`, on a `Replace` that is spelled as Entra ID spells it, and where the caller says so.

use serde_json::{Map, Value};

use super::{
    document::{Document, MAX_VALUES, check, is_primary, normal},
    error::ScimError,
    filter::{Filter, Target, is_path, parse_path},
    matching::{fits, has_primary, named, unassigned},
    path::{AttrPath, is_foreign},
    schema::{Attribute, Kind, Mutability, ResourceType, Schema},
};

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Put it beside what is there.
    Add,
    /// Put it in the place of what is there.
    Replace,
    /// Take it away.
    Remove,
}

/// One change of one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What to do.
    pub verb: Verb,
    /// Where.
    pub target: Target,
    /// With what.
    pub value: Option<Value>,
    /// Make what the filter names if there is none.
    pub makes: bool,
}

/// Most operations of one PATCH.
const MAX_CHANGES: usize = 1000;
/// Most values that all of them give to lists of a person.
const MAX_GIVEN: usize = 5000;

/// Read the body of a PATCH: the changes in their order. `makes`: a value that a filter names is made also on `replace`
/// where there is none.
pub fn read_changes(of: &'static ResourceType, body: &Value, makes: bool) -> Result<Vec<Change>, ScimError> {
    let operations = member(body, "Operations").ok_or_else(|| ScimError::syntax("`Operations` is missing"))?;
    let operations = match operations {
        Value::Array(items) => items.as_slice(),
        one @ Value::Object(_) => std::slice::from_ref(one),
        _ => return Err(ScimError::syntax("`Operations` is to be a list")),
    };
    if operations.is_empty() {
        return Err(ScimError::syntax("`Operations` is empty"));
    }
    if operations.len() > MAX_CHANGES {
        return Err(ScimError::too_large(format!("at most {MAX_CHANGES} operations are done in one PATCH")));
    }
    let mut changes = Vec::with_capacity(operations.len());
    for operation in operations {
        read_operation(of, operation, makes, &mut changes)?;
    }
    if changes.iter().map(given).sum::<usize>() > MAX_GIVEN {
        return Err(ScimError::too_large(format!("one PATCH gives at most {MAX_GIVEN} values to lists")));
    }
    Ok(changes)
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// How many values it gives to a list of a person. Members are counted where they are kept.
fn given(change: &Change) -> usize {
    match (&change.target, &change.value) {
        (Target::Attribute { path, .. }, _) if path.attribute.name == "members" => 0,
        (_, Some(Value::Array(items))) => items.len(),
        (Target::Schema(_), Some(Value::Object(map))) => map.values().filter_map(Value::as_array).map(Vec::len).sum(),
        _ => 0,
    }
}

fn read_operation(
    of: &'static ResourceType,
    operation: &Value,
    makes: bool,
    into: &mut Vec<Change>,
) -> Result<(), ScimError> {
    let word = member(operation, "op").and_then(Value::as_str).unwrap_or_default();
    let verb = match word.to_ascii_lowercase().as_str() {
        "add" => Verb::Add,
        "replace" => Verb::Replace,
        "remove" => Verb::Remove,
        _ => return Err(ScimError::syntax("`op` is to be add, replace or remove")),
    };
    let makes = makes || verb == Verb::Add || word.starts_with('R');
    let value = member(operation, "value").cloned();
    let path = match member(operation, "path") {
        None | Some(Value::Null) => None,
        Some(Value::String(path)) => Some(path.trim()).filter(|p| !p.is_empty()),
        Some(_) => return Err(ScimError::path("`path` is to be a text")),
    };
    if verb != Verb::Remove && value.is_none() {
        return Err(ScimError::value("`value` is missing"));
    }
    let Some(path) = path else {
        if verb == Verb::Remove {
            return Err(ScimError::no_target("`path` is missing: say what to remove"));
        }
        let Some(Value::Object(values)) = value else {
            return Err(ScimError::value("without a path, `value` is to be an object"));
        };
        for (key, value) in values {
            if let Some(target) = target_of_key(of, &key) {
                into.push(Change { verb, target, value: Some(value), makes: true });
            }
        }
        return Ok(());
    };
    // What is in an extension that nobody declared is passed over, as in a whole resource.
    if is_foreign(of, path) {
        return Ok(());
    }
    let target = parse_path(of, path)?;
    if let Target::Attribute { path, .. } = &target
        && [path.attribute, path.leaf()].iter().any(|a| a.mutability == Mutability::ReadOnly)
    {
        return Err(ScimError::mutability(format!("`{path}` is not for clients to change")));
    }
    into.push(Change { verb, target, value, makes });
    Ok(())
}

/// Where a key of a path-less change leads, if it leads anywhere.
fn target_of_key(of: &'static ResourceType, key: &str) -> Option<Target> {
    let target = match AttrPath::resolve(of, key) {
        Some(path) => Target::Attribute { path, values: None },
        None if is_path(key) => parse_path(of, key).ok()?,
        None => return None,
    };
    let fixed = |a: &Attribute| a.mutability == Mutability::ReadOnly;
    match &target {
        Target::Attribute { path, .. } if fixed(path.attribute) || fixed(path.leaf()) => None,
        _ => Some(target),
    }
}

/// Make the changes, all of them or none: `document` is what there is, and the answer is what there is to be.
pub fn apply(of: &'static ResourceType, document: &Document, changes: &[Change]) -> Result<Document, ScimError> {
    let mut changed = document.clone();
    for change in changes {
        apply_one(of, &mut changed, change)?;
    }
    changed.retain(|name, value| name == "active" || !unassigned(value));
    check(of, &changed)?;
    Ok(changed)
}

fn apply_one(of: &'static ResourceType, document: &mut Document, change: &Change) -> Result<(), ScimError> {
    match &change.target {
        Target::Schema(schema) => apply_schema(of, document, schema, change),
        Target::Attribute { path, values } => {
            in_schema(document, path.schema, |place| apply_attribute(place, *path, values.as_ref(), change))
        }
    }
}

/// Work on the attributes of a schema: an extension has an object of its own.
fn in_schema<T>(document: &mut Document, schema: &Schema, work: impl FnOnce(&mut Document) -> T) -> T {
    if schema.short.is_empty() { work(document) } else { in_object(document, schema.urn, work) }
}

fn apply_schema(
    of: &'static ResourceType,
    document: &mut Document,
    schema: &'static Schema,
    change: &Change,
) -> Result<(), ScimError> {
    let core = schema == of.schema;
    if change.verb == Verb::Remove {
        if core {
            return Err(ScimError::no_target("say which attribute to remove"));
        }
        document.remove(schema.urn);
        return Ok(());
    }
    let values = match &change.value {
        Some(Value::Object(values)) => values,
        Some(value) if unassigned(value) && !core => {
            document.remove(schema.urn);
            return Ok(());
        }
        _ => return Err(ScimError::value(format!("the value for `{}` is to be an object", schema.urn))),
    };
    for (name, value) in values {
        let Some(attribute) = schema.attribute(name).filter(|a| a.mutability != Mutability::ReadOnly) else { continue };
        let path = AttrPath { schema, attribute, sub: None };
        let part = Change { value: Some(value.clone()), ..change.clone() };
        in_schema(document, schema, |place| apply_attribute(place, path, None, &part))?;
    }
    Ok(())
}

/// Work on the object of that name; an empty one is none.
fn in_object<T>(document: &mut Document, name: &str, work: impl FnOnce(&mut Document) -> T) -> T {
    let mut object = match document.remove(name) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    let done = work(&mut object);
    if !object.is_empty() {
        document.insert(name.to_owned(), Value::Object(object));
    }
    done
}

fn apply_attribute(
    place: &mut Document,
    path: AttrPath,
    values: Option<&Filter>,
    change: &Change,
) -> Result<(), ScimError> {
    let attribute = path.attribute;
    if change.verb == Verb::Remove && path.sub.is_none() && values.is_none() && attribute.required {
        return Err(ScimError::mutability(format!("`{path}` is required")));
    }
    if attribute.multi {
        return apply_list(place, path, values, change);
    }
    if values.is_some() {
        return Err(ScimError::path(format!("`{path}` has one value, and none to choose from")));
    }
    let name = attribute.name;
    match (path.sub, change.verb) {
        (None, Verb::Remove) if name == "active" => {
            // No longer said, and no less true.
            place.insert(name.to_owned(), Value::Null);
        }
        (None, Verb::Remove) => {
            place.remove(name);
        }
        (Some(sub), Verb::Remove) => {
            if let Some(Value::Object(object)) = place.get_mut(name) {
                object.remove(sub.name);
            }
        }
        (sub, _) => {
            let leaf = sub.unwrap_or(attribute);
            let value = normal(leaf, change.value.as_ref().unwrap_or(&Value::Null), true)?;
            if value.is_none() && leaf.required {
                return Err(ScimError::value(format!("`{path}` is required")));
            }
            match (sub, value) {
                (None, Some(Value::Object(new))) if attribute.kind == Kind::Complex => {
                    in_object(place, name, |object| merge(object, new));
                }
                (None, Some(value)) => {
                    place.insert(name.to_owned(), value);
                }
                (None, None) => {
                    place.remove(name);
                }
                (Some(sub), Some(value)) => {
                    in_object(place, name, |object| object.insert(sub.name.to_owned(), value));
                }
                (Some(sub), None) => {
                    in_object(place, name, |object| object.remove(sub.name));
                }
            }
        }
    }
    // Who has no id is nobody.
    if attribute.kind == Kind::Complex
        && attribute.value_sub().is_some()
        && place.get(name).and_then(|v| v.get("value")).is_none_or(|v| v == "")
    {
        place.remove(name);
    }
    Ok(())
}

fn merge(into: &mut Document, new: Document) {
    // An address that belongs to another id than the new one is no longer true.
    if new.contains_key("value") && into.get("value") != new.get("value") {
        into.remove("$ref");
    }
    into.extend(new);
}

/// A change of a list: of the whole, of some values, or of a part of some values.
fn apply_list(place: &mut Document, path: AttrPath, values: Option<&Filter>, change: &Change) -> Result<(), ScimError> {
    let attribute = path.attribute;
    let mut list = match place.remove(attribute.name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let touched = match (change.verb, values, path.sub) {
        (Verb::Remove, _, _) => {
            remove_values(&mut list, path, values, change.value.as_ref())?;
            Vec::new()
        }
        (_, Some(filter), _) => change_picked(&mut list, path, filter, change)?,
        (_, None, Some(sub)) => {
            let value = normal(sub, change.value.as_ref().unwrap_or(&Value::Null), true)?;
            if list.is_empty() && value.is_some() {
                list.push(Value::Object(Map::new()));
            }
            for item in &mut list {
                set(item, sub.name, value.clone());
            }
            (0..list.len()).collect()
        }
        (verb, None, None) => {
            let new = normal(attribute, change.value.as_ref().unwrap_or(&Value::Null), true)?;
            let new = match new {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            };
            if verb == Verb::Replace {
                list.clear();
            }
            new.into_iter().map(|item| add_value(&mut list, item)).collect()
        }
    };
    one_primary(attribute, &mut list, &touched)?;
    list.retain(|item| !unassigned(item));
    if list.len() > MAX_VALUES {
        return Err(ScimError::too_many(format!("`{}` has at most {MAX_VALUES} values", attribute.name)));
    }
    if !list.is_empty() {
        place.insert(attribute.name.to_owned(), Value::Array(list));
    }
    Ok(())
}

fn set(item: &mut Value, name: &str, value: Option<Value>) {
    let Value::Object(object) = item else { return };
    match value {
        Some(value) => {
            object.insert(name.to_owned(), value);
        }
        None => {
            object.remove(name);
        }
    }
}

/// Put a value into the list, or over the one that has its `value` and its `type`; where it is now.
fn add_value(list: &mut Vec<Value>, item: Value) -> usize {
    let same = |a: &Value, b: &Value, name: &str| a.get(name) == b.get(name);
    let there = list.iter().position(|old| {
        old == &item || (item.get("value").is_some() && same(old, &item, "value") && same(old, &item, "type"))
    });
    match (there.and_then(|at| list.get_mut(at)), there, item) {
        (Some(Value::Object(old)), Some(at), Value::Object(new)) => {
            old.extend(new);
            at
        }
        (_, Some(at), _) => at,
        (_, None, item) => {
            list.push(item);
            list.len() - 1
        }
    }
}

fn change_picked(
    list: &mut Vec<Value>,
    path: AttrPath,
    filter: &Filter,
    change: &Change,
) -> Result<Vec<usize>, ScimError> {
    let picked = |list: &[Value]| -> Vec<usize> {
        let fit = |item: &Value| item.as_object().is_some_and(|o| fits(filter, o));
        list.iter().enumerate().filter(|(_, item)| fit(item)).map(|(at, _)| at).collect()
    };
    let mut at = picked(list);
    if at.is_empty() {
        let made = if change.makes { named(filter) } else { None };
        let Some(made) = made else {
            return Err(ScimError::no_target(format!("no value of `{}` fits the filter", path.attribute.name)));
        };
        list.push(Value::Object(made));
        at.push(list.len() - 1);
    }
    let value = change.value.as_ref().unwrap_or(&Value::Null);
    let new = match path.sub {
        Some(sub) => normal(sub, value, true)?,
        None => match normal(path.attribute, value, true)? {
            Some(Value::Array(mut items)) if items.len() == 1 => items.pop(),
            None => None,
            Some(_) => return Err(ScimError::value("one value is to be given for those that the filter picks")),
        },
    };
    for item in list.iter_mut().enumerate().filter(|(i, _)| at.contains(i)).map(|(_, item)| item) {
        match (path.sub, &new, change.verb) {
            (Some(sub), new, _) => {
                set(item, sub.name, new.clone());
                if sub.name == "value" && new.is_none() {
                    *item = Value::Null;
                }
            }
            (None, Some(Value::Object(new)), Verb::Add) => {
                if let Value::Object(old) = item {
                    old.extend(new.clone());
                }
            }
            (None, Some(new), _) => *item = new.clone(),
            (None, None, _) => *item = Value::Null,
        }
    }
    Ok(at)
}

fn remove_values(
    list: &mut Vec<Value>,
    path: AttrPath,
    values: Option<&Filter>,
    given: Option<&Value>,
) -> Result<(), ScimError> {
    let picked = |item: &Value| values.is_none_or(|f| item.as_object().is_some_and(|o| fits(f, o)));
    if let Some(sub) = path.sub {
        for item in list.iter_mut().filter(|item| picked(item)) {
            set(item, sub.name, None);
            if sub.name == "value" {
                *item = Value::Null;
            }
        }
        return Ok(());
    }
    // The values themselves may be given instead of a filter: these and no others.
    let given = match given.filter(|v| values.is_none() && !v.is_null()) {
        // None of them, if none is given.
        Some(value) => Some(normal(path.attribute, value, true)?.unwrap_or(Value::Array(Vec::new()))),
        None => None,
    };
    match given {
        Some(Value::Array(given)) => {
            let same = |item: &Value, g: &Value| {
                item == g || (g.get("value").is_some() && item.get("value") == g.get("value"))
            };
            list.retain(|item| !given.iter().any(|g| same(item, g)));
        }
        _ => list.retain(|item| !picked(item)),
    }
    Ok(())
}

/// One primary value at a time: the one that was set now.
fn one_primary(attribute: &'static Attribute, list: &mut [Value], touched: &[usize]) -> Result<(), ScimError> {
    if !has_primary(attribute) {
        return Ok(());
    }
    let new: Vec<usize> = touched.iter().copied().filter(|at| list.get(*at).is_some_and(is_primary)).collect();
    let Some(last) = new.last() else { return Ok(()) };
    if new.iter().any(|at| at != last) {
        return Err(ScimError::value(format!("at most one of `{}` is primary", attribute.name)));
    }
    for (at, item) in list.iter_mut().enumerate() {
        if at != *last && is_primary(item) {
            set(item, "primary", Some(Value::Bool(false)));
        }
    }
    Ok(())
}
