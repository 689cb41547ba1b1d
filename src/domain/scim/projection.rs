//! Which attributes an answer has (RFC 7644 §3.9): those that are asked for, or all but those that are not wanted.

use serde_json::Value;

use super::{
    document::Document,
    path::AttrPath,
    schema::{Attribute, ResourceType, Returned, Schema},
};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    only: Vec<Part>,
    but: Vec<Part>,
    /// Names were given, known ones or not.
    some: bool,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Schema(&'static Schema),
    Attribute(AttrPath),
}

impl Part {
    fn read(of: &'static ResourceType, name: &str) -> Option<Self> {
        let name = name.trim();
        of.schema_of(name).map(Self::Schema).or_else(|| AttrPath::resolve(of, name).map(Self::Attribute))
    }

    /// The attribute as a whole.
    fn covers(&self, schema: &Schema, attribute: &Attribute) -> bool {
        match self {
            Self::Schema(s) => s.urn == schema.urn,
            Self::Attribute(p) => p.sub.is_none() && p.schema.urn == schema.urn && p.attribute.name == attribute.name,
        }
    }

    /// A part of the attribute.
    fn within(&self, schema: &Schema, attribute: &Attribute) -> Option<&'static Attribute> {
        match self {
            Self::Attribute(p) if p.schema.urn == schema.urn && p.attribute.name == attribute.name => p.sub,
            _ => None,
        }
    }
}

impl Selection {
    /// From the names of both parameters; unknown ones are passed over.
    pub fn read<'n>(
        of: &'static ResourceType,
        attributes: impl Iterator<Item = &'n str>,
        excluded: impl Iterator<Item = &'n str>,
    ) -> Self {
        let mut some = false;
        let only = attributes.filter(|n| !n.trim().is_empty()).inspect(|_| some = true);
        let only = only.filter_map(|n| Part::read(of, n)).collect();
        Self { only, but: excluded.filter_map(|n| Part::read(of, n)).collect(), some }
    }

    /// Were attributes asked for by name?
    pub const fn is_some(&self) -> bool {
        self.some
    }

    /// Will anything of that attribute be in the answer?
    pub fn wants(&self, schema: &Schema, attribute: &Attribute) -> bool {
        match attribute.returned {
            Returned::Always => true,
            Returned::Never => false,
            Returned::Request => {
                self.only.iter().any(|p| p.covers(schema, attribute) || p.within(schema, attribute).is_some())
            }
            Returned::Default if self.some => {
                self.only.iter().any(|p| p.covers(schema, attribute) || p.within(schema, attribute).is_some())
            }
            Returned::Default => !self.but.iter().any(|p| p.covers(schema, attribute)),
        }
    }

    /// The same by name, of the core schema.
    pub fn wants_core(&self, of: &ResourceType, name: &str) -> bool {
        of.schema.attribute(name).is_some_and(|a| self.wants(of.schema, a))
    }

    /// Leave only what is asked for.
    pub fn apply(&self, of: &'static ResourceType, document: &mut Document) {
        let hidden = |a: &Attribute| matches!(a.returned, Returned::Never | Returned::Request);
        if !self.some && self.but.is_empty() && !of.declared().any(|(_, a)| hidden(a)) {
            return;
        }
        self.apply_schema(&super::core::COMMON, document, Some(of.schema));
        for schema in of.extensions {
            if let Some(Value::Object(inner)) = document.get_mut(schema.urn) {
                self.apply_schema(schema, inner, None);
                if inner.is_empty() {
                    document.remove(schema.urn);
                }
            }
        }
    }

    fn apply_schema(&self, first: &'static Schema, document: &mut Document, second: Option<&'static Schema>) {
        document.retain(|name, value| {
            let mut found = [Some(first), second].into_iter().flatten();
            let Some((schema, attribute)) = found.find_map(|s| s.attribute(name).map(|a| (s, a))) else {
                // An extension, which is looked at by itself.
                return true;
            };
            if !self.wants(schema, attribute) {
                return false;
            }
            if attribute.returned != Returned::Always {
                self.parts(schema, attribute, value);
                // Of what has no part left, nothing is told.
                return match value {
                    Value::Object(object) => !object.is_empty(),
                    Value::Array(items) => items.iter().any(|v| v.as_object().is_none_or(|o| !o.is_empty())),
                    _ => true,
                };
            }
            true
        });
    }

    /// Leave only the wanted parts of a complex value.
    fn parts(&self, schema: &Schema, attribute: &Attribute, value: &mut Value) {
        let named: Vec<&str> = self.only.iter().filter_map(|p| p.within(schema, attribute)).map(|s| s.name).collect();
        let whole = !self.some || self.only.iter().any(|p| p.covers(schema, attribute));
        let unwanted: Vec<&str> = self
            .but
            .iter()
            .filter(|_| !self.some)
            .filter_map(|p| p.within(schema, attribute))
            .map(|s| s.name)
            .collect();
        let keep = |name: &str| (whole || named.contains(&name)) && !unwanted.contains(&name);
        let trim = |value: &mut Value| {
            if let Value::Object(object) = value {
                object.retain(|name, _| keep(name));
            }
        };
        match value {
            Value::Array(items) => items.iter_mut().for_each(trim),
            other => trim(other),
        }
    }
}
