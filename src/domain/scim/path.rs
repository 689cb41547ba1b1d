//! Names of attributes, resolved against a type of resource: `emails.value`, `urn:…:User:department`.

use super::{
    core::COMMON,
    schema::{Attribute, ResourceType, Schema},
};

/// An attribute, or a sub-attribute of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttrPath {
    /// The schema that it is in.
    pub schema: &'static Schema,
    /// The attribute.
    pub attribute: &'static Attribute,
    /// The sub-attribute, if one is named.
    pub sub: Option<&'static Attribute>,
}

impl AttrPath {
    /// Resolve a name, with or without URN, in any case.
    pub fn resolve(of: &'static ResourceType, name: &str) -> Option<Self> {
        let (schemas, rest) = split_urn(of, name)?;
        let (name, sub) = rest.split_once('.').map_or((rest, None), |(name, sub)| (name, Some(sub)));
        schemas.into_iter().find_map(|schema| {
            let attribute = schema.attribute(name)?;
            let sub = match sub {
                Some(sub) => Some(attribute.sub(sub)?),
                None => None,
            };
            Some(Self { schema, attribute, sub })
        })
    }

    /// The innermost one.
    pub const fn leaf(&self) -> &'static Attribute {
        match self.sub {
            Some(sub) => sub,
            None => self.attribute,
        }
    }

    /// The one that a comparison with it means: of a complex one, its `value`.
    pub fn compared(&self) -> Option<Self> {
        match (self.sub, self.attribute.subs.is_empty()) {
            (Some(_), _) | (None, true) => Some(*self),
            (None, false) => Some(Self { sub: Some(self.attribute.value_sub()?), ..*self }),
        }
    }

    /// What the index of values calls it: lower case, `enterprise:manager.value`.
    pub fn key(&self) -> String {
        let mut key = String::new();
        if !self.schema.short.is_empty() {
            key.push_str(self.schema.short);
            key.push(':');
        }
        key.push_str(self.attribute.name);
        if let Some(sub) = self.sub {
            key.push('.');
            key.push_str(sub.name);
        }
        key.make_ascii_lowercase();
        key
    }
}

impl std::fmt::Display for AttrPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.schema.short.is_empty() {
            write!(f, "{}:", self.schema.urn)?;
        }
        f.write_str(self.attribute.name)?;
        self.sub.map_or(Ok(()), |sub| write!(f, ".{}", sub.name))
    }
}

/// In which schemas a name is to be looked up, and what of it is left without its URN. Extensions are found without
/// their URN too, after the core; of two of one name the first.
fn split_urn<'n>(of: &'static ResourceType, name: &'n str) -> Option<(Vec<&'static Schema>, &'n str)> {
    if !is_urn(name) {
        return Some((std::iter::once(&COMMON).chain(of.schemas()).collect(), name));
    }
    let schema = within(of, name)?;
    let rest = name.get(schema.urn.len() + 1..)?;
    Some((vec![schema], rest))
}

/// Is it in an extension that is not known here?
pub fn is_foreign(of: &'static ResourceType, name: &str) -> bool {
    is_urn(name) && of.schema_of(name.trim_end_matches(':')).is_none() && within(of, name).is_none()
}

/// Does it begin as a URN does?
pub fn is_urn(name: &str) -> bool {
    name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:"))
}

/// The schema whose URN a name begins with.
fn within(of: &'static ResourceType, name: &str) -> Option<&'static Schema> {
    let begins = |schema: &&Schema| {
        let (start, rest) = (name.get(..schema.urn.len()), name.get(schema.urn.len()..));
        start.is_some_and(|s| s.eq_ignore_ascii_case(schema.urn)) && rest.is_some_and(|r| r.starts_with(':'))
    };
    // One URN may begin as another does.
    of.schemas().filter(begins).max_by_key(|schema| schema.urn.len())
}
