//! Does a value of a list fit a filter? For changes that pick values; the lists of resources are filtered in SQL.

use serde_json::{Map, Value};

use super::{
    filter::{Filter, Literal, Op, flag, fold},
    schema::{Attribute, Kind},
};

/// Does this value, an object of sub-attributes under their names, fit?
pub fn fits(filter: &Filter, value: &Map<String, Value>) -> bool {
    match filter {
        Filter::And(all) => all.iter().all(|f| fits(f, value)),
        Filter::Or(any) => any.iter().any(|f| fits(f, value)),
        Filter::Not(inner) => !fits(inner, value),
        Filter::Present(path) => value.get(path.leaf().name).is_some_and(|v| !unassigned(v)),
        Filter::Compare(path, op, literal) => {
            let there = value.get(path.leaf().name).filter(|v| !v.is_null());
            match (there, op) {
                (None, op) => *op == Op::Ne,
                (Some(v), op) => compare(path.leaf(), v, *op, literal),
            }
        }
        Filter::Values(..) => false,
    }
}

fn compare(attribute: &Attribute, value: &Value, op: Op, literal: &Literal) -> bool {
    match literal {
        Literal::Flag(wanted) => {
            let same = flag(value) == Some(*wanted);
            (op == Op::Ne) != same
        }
        Literal::Instant(wanted) => {
            value.as_str().and_then(|t| t.parse().ok()).is_some_and(|at| ordered(op, &at, wanted))
        }
        Literal::Whole(wanted) => value.as_i64().is_some_and(|n| ordered(op, &n, wanted)),
        Literal::Number(wanted) => value.as_f64().is_some_and(|n| match n.total_cmp(wanted) {
            std::cmp::Ordering::Less => matches!(op, Op::Lt | Op::Le | Op::Ne),
            std::cmp::Ordering::Equal => matches!(op, Op::Eq | Op::Le | Op::Ge),
            std::cmp::Ordering::Greater => matches!(op, Op::Gt | Op::Ge | Op::Ne),
        }),
        Literal::Text(wanted) => value.as_str().is_some_and(|text| {
            let (text, wanted) = (fold(attribute, text), &fold(attribute, wanted));
            match op {
                Op::Co => text.contains(wanted.as_str()),
                Op::Sw => text.starts_with(wanted.as_str()),
                Op::Ew => text.ends_with(wanted.as_str()),
                _ => ordered(op, &text, wanted),
            }
        }),
    }
}

fn ordered<T: Ord>(op: Op, value: &T, wanted: &T) -> bool {
    match op {
        Op::Eq => value == wanted,
        Op::Ne => value != wanted,
        Op::Gt => value > wanted,
        Op::Ge => value >= wanted,
        Op::Lt => value < wanted,
        Op::Le => value <= wanted,
        Op::Co | Op::Sw | Op::Ew => false,
    }
}

/// The value that a filter names, if it names just one: `type eq "work" and primary eq true`.
pub fn named(filter: &Filter) -> Option<Map<String, Value>> {
    let mut value = Map::new();
    let parts = match filter {
        Filter::And(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    for part in parts {
        let Filter::Compare(path, Op::Eq, literal) = part else { return None };
        let literal = match literal {
            Literal::Text(text) => Value::String(text.clone()),
            Literal::Flag(flag) => Value::Bool(*flag),
            Literal::Instant(at) => Value::String(at.to_string()),
            Literal::Whole(number) => Value::from(*number),
            Literal::Number(number) => Value::from(*number),
        };
        value.insert(path.leaf().name.to_owned(), literal);
    }
    Some(value)
}

/// Without a value: null, an empty list, an object of such.
pub fn unassigned(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().all(unassigned),
        Value::Object(map) => map.values().all(unassigned),
        _ => false,
    }
}

/// Is it a list of values, each with a mark of which is preferred?
pub fn has_primary(attribute: &Attribute) -> bool {
    attribute.multi && attribute.sub("primary").is_some_and(|s| s.kind == Kind::Boolean)
}
