//! Typed attributes of identities beyond those of the shipped schema: declared for SCIM in the configuration, or written
//! into `schema.cedarschema` by whoever keeps the policies. Everything is read from the identity's flat attributes.

use std::collections::BTreeMap;

use cedar_policy::{RestrictedExpression as Expr, Schema, SchemaFragment};
use serde_json::{Value, json};

use super::facts::FactError;
use crate::domain::{scim::declared::FactKind, time::Timestamp};

/// By the name that policies call it.
pub(super) type Declared = BTreeMap<String, FactKind>;

/// What every identity has.
const OURS: [&str; 8] = ["id", "name", "kind", "non_human", "active", "orphaned", "owner", "contract_end"];
/// Sums and products with numbers of a policy do not overflow.
const MOST: i64 = 1_000_000_000_000_000;
/// Longest text.
const MAX_TEXT: usize = 1_000;

/// The schema with what is declared, and all that there is beyond our own.
pub(super) fn extend(text: &str, schema: Schema, declared: &Declared) -> Result<(Schema, Declared), String> {
    let (fragment, _warnings) = SchemaFragment::from_cedarschema_str(text).map_err(|e| e.to_string())?;
    let mut whole = fragment.to_json_value().map_err(|e| e.to_string())?;
    let place = whole.pointer_mut("/Tidegate/entityTypes/Identity/shape/attributes").and_then(Value::as_object_mut);
    let Some(attributes) = place else { return Err("the schema has no Tidegate::Identity".to_owned()) };
    let mut all = Declared::new();
    for (name, kind) in attributes.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
        if kind.get("required").and_then(Value::as_bool) != Some(false) {
            return Err(format!("not every identity has `{name}`: write `{name}?`"));
        }
        let kind = kind_of(kind).ok_or_else(|| {
            format!("`{name}` is to be a String, Bool, Long, decimal or Set<String>: identities have nothing else")
        })?;
        all.insert(name.clone(), kind);
    }
    let mut added = false;
    for (name, kind) in declared {
        match all.get(name) {
            Some(there) if there == kind => {}
            Some(_) => return Err(format!("`{name}` is declared with another type for SCIM; leave it out here")),
            None => {
                attributes.insert(name.clone(), type_of(*kind));
                all.insert(name.clone(), *kind);
                added = true;
            }
        }
    }
    let schema = if added { Schema::from_json_value(whole).map_err(|e| e.to_string())? } else { schema };
    Ok((schema, all))
}

fn type_of(kind: FactKind) -> Value {
    match kind {
        FactKind::Text => json!({"type": "String", "required": false}),
        FactKind::Flag => json!({"type": "Boolean", "required": false}),
        FactKind::Number => json!({"type": "Long", "required": false}),
        FactKind::Decimal => json!({"type": "Extension", "name": "decimal", "required": false}),
        FactKind::Texts => json!({"type": "Set", "element": {"type": "String"}, "required": false}),
    }
}

fn kind_of(written: &Value) -> Option<FactKind> {
    let name = |value: &Value| {
        let kind = value.get("type")?.as_str()?;
        let named = matches!(kind, "EntityOrCommon" | "Extension");
        let name = if named { value.get("name")?.as_str()? } else { kind };
        Some(name.trim_start_matches("__cedar::").to_owned())
    };
    match name(written)?.as_str() {
        "String" => Some(FactKind::Text),
        "Bool" | "Boolean" => Some(FactKind::Flag),
        "Long" => Some(FactKind::Number),
        "decimal" => Some(FactKind::Decimal),
        "Set" => (name(written.get("element")?)? == "String").then_some(FactKind::Texts),
        _ => None,
    }
}

/// A fact as Cedar wants it, clamped. One that is not what it should be denies, for a `forbid` may rest on it.
pub(super) fn expression(name: &str, kind: FactKind, value: &str) -> Result<Expr, FactError> {
    let wrong = |what: &str| FactError::of(&format!("the attribute `{name}` is to be {what}"));
    let short = |text: &str| Expr::new_string(text.chars().take(MAX_TEXT).collect());
    let text = value.trim();
    Ok(match kind {
        FactKind::Text => short(value),
        FactKind::Flag => match text.to_ascii_lowercase().as_str() {
            "true" => Expr::new_bool(true),
            "false" => Expr::new_bool(false),
            _ => return Err(wrong("true or false")),
        },
        FactKind::Number => {
            let instant = || text.parse::<Timestamp>().ok().map(Timestamp::seconds);
            let number = text.parse::<i64>().ok().or_else(instant).ok_or_else(|| wrong("a whole number"))?;
            Expr::new_long(number.clamp(-MOST, MOST))
        }
        FactKind::Decimal => {
            let number = text.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(|| wrong("a number"))?;
            let most = MOST as f64 / 10.0;
            Expr::new_decimal(format!("{:.4}", number.clamp(-most, most)))
        }
        FactKind::Texts => {
            let list = serde_json::from_str::<Vec<Value>>(text).ok();
            let list = list.unwrap_or_else(|| text.split(',').map(|t| Value::from(t.trim())).collect());
            let texts = list.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
            Expr::new_set(texts.filter(|t| !t.is_empty()).map(|t| short(&t)))
        }
    })
}
