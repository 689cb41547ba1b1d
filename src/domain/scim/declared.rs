//! Extensions of users that an administrator declares: what organisations say of people beyond the standard's attributes.
//!
//! Schemas are known for as long as the program runs, so what is declared is kept for good: once for each start.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{
    core::USERS,
    schema::{Attribute, Kind, Mutability, ResourceType, Returned, Schema},
};

/// An extension of users.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionConfig {
    /// Its URN, like `urn:example:params:scim:schemas:extension:acme:2.0:User`.
    pub urn: String,
    /// For people; the URN if missing.
    pub name: Option<String>,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Its attributes.
    #[serde(rename = "attribute", alias = "attributes")]
    pub attributes: Vec<AttributeConfig>,
}

/// One attribute of an extension.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeConfig {
    /// Its name; compared without case.
    pub name: String,
    /// Type of its value, or of each of its values.
    #[serde(rename = "type", default = "AttributeConfig::text")]
    pub kind: DeclaredKind,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// A list of values.
    #[serde(default, alias = "multiValued")]
    pub multi_valued: bool,
    /// Case counts in comparisons.
    #[serde(default, alias = "caseExact")]
    pub case_exact: bool,
    /// Who may write it, and when.
    #[serde(default)]
    pub mutability: DeclaredMutability,
    /// When it is in an answer.
    #[serde(default)]
    pub returned: DeclaredReturned,
    /// May two people have the same?
    #[serde(default)]
    pub uniqueness: DeclaredUniqueness,
    /// What policies call it; its name if missing.
    pub policy: Option<String>,
}

impl AttributeConfig {
    const fn text() -> DeclaredKind {
        DeclaredKind::String
    }
}

/// Types of declared attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "RFC 7643 §2.3 says what they are")]
pub enum DeclaredKind {
    String,
    Boolean,
    Integer,
    Decimal,
    DateTime,
    Reference,
    Binary,
}

/// RFC 7643 §2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeclaredMutability {
    /// Any time.
    #[default]
    ReadWrite,
    /// Once.
    Immutable,
    /// Taken and thrown away.
    WriteOnly,
}

/// RFC 7643 §2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeclaredReturned {
    /// Whatever is asked for.
    Always,
    /// Unless it is excluded.
    #[default]
    Default,
    /// Where it is asked for by name.
    Request,
    /// In no answer.
    Never,
}

/// RFC 7643 §2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DeclaredUniqueness {
    /// Yes.
    #[default]
    None,
    /// No.
    Server,
    /// No.
    Global,
}

/// What decisions see besides texts, by the name that they call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactKind {
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A whole number; an instant in seconds since 1970.
    Number,
    /// A number with up to four decimals.
    Decimal,
    /// Texts.
    Texts,
}

/// Most attributes of all extensions.
const MOST: usize = 100;
/// What policies call something else already.
const TAKEN: [&str; 9] = ["id", "name", "kind", "non_human", "active", "orphaned", "owner", "contract_end", "team"];

/// Users with these extensions besides the standard's; or what is wrong with them.
pub fn declare(extensions: &[ExtensionConfig]) -> Result<&'static ResourceType, String> {
    if extensions.is_empty() {
        return Ok(&USERS);
    }
    let mut facts = BTreeSet::new();
    let mut schemas: Vec<&'static Schema> = USERS.extensions.to_vec();
    for extension in extensions {
        let schema =
            schema(extension, &mut facts).map_err(|why| format!("scim_extension `{}`: {why}", extension.urn))?;
        let same = |s: &&Schema| s.urn.eq_ignore_ascii_case(schema.urn);
        if schemas.iter().any(same) || schema.urn.eq_ignore_ascii_case(USERS.schema.urn) {
            return Err(format!("scim_extension `{}` is there already", extension.urn));
        }
        schemas.push(Box::leak(Box::new(schema)));
    }
    if facts.len() > MOST {
        return Err(format!("at most {MOST} attributes can be declared"));
    }
    let extensions: &'static [&'static Schema] = Vec::leak(schemas);
    Ok(Box::leak(Box::new(ResourceType {
        name: USERS.name,
        endpoint: USERS.endpoint,
        description: USERS.description,
        schema: USERS.schema,
        extensions,
    })))
}

/// What decisions see of it, by name.
pub fn facts_of(users: &ResourceType) -> BTreeMap<String, FactKind> {
    users.declared().filter_map(|(_, a)| Some((a.fact?.to_owned(), fact_kind(a)))).collect()
}

fn fact_kind(attribute: &Attribute) -> FactKind {
    match attribute.kind {
        _ if attribute.multi => FactKind::Texts,
        Kind::Boolean => FactKind::Flag,
        Kind::Integer | Kind::DateTime => FactKind::Number,
        Kind::Decimal => FactKind::Decimal,
        Kind::String | Kind::Binary | Kind::Reference | Kind::Complex => FactKind::Text,
    }
}

fn keep(text: &str) -> &'static str {
    String::leak(text.to_owned())
}

fn is_name(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn schema(config: &ExtensionConfig, facts: &mut BTreeSet<String>) -> Result<Schema, String> {
    let urn = config.urn.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
    if urn.get(..4).is_none_or(|s| !s.eq_ignore_ascii_case("urn:")) || urn.len() > 200 || !urn.chars().all(plain) {
        return Err("its URN is to be like urn:example:params:scim:schemas:extension:acme:2.0:User".to_owned());
    }
    let mut attributes: Vec<Attribute> = Vec::with_capacity(config.attributes.len());
    for one in &config.attributes {
        let attribute = attribute(one, facts).map_err(|why| format!("attribute `{}`: {why}", one.name))?;
        if attributes.iter().any(|a| a.name.eq_ignore_ascii_case(attribute.name)) {
            return Err(format!("attribute `{}` is there twice", one.name));
        }
        attributes.push(attribute);
    }
    if attributes.is_empty() {
        return Err("it has no attributes".to_owned());
    }
    Ok(Schema {
        urn: keep(urn),
        short: keep(&urn.to_ascii_lowercase()),
        name: keep(config.name.as_deref().unwrap_or(urn)),
        description: keep(&config.description),
        attributes: Vec::leak(attributes),
    })
}

fn attribute(config: &AttributeConfig, facts: &mut BTreeSet<String>) -> Result<Attribute, String> {
    if !is_name(&config.name) {
        return Err("a name has letters, digits and `_`, and begins with a letter".to_owned());
    }
    let fact = config.policy.as_deref().unwrap_or(&config.name);
    if !is_name(fact) || TAKEN.contains(&fact) {
        return Err(format!("policies cannot call it `{fact}`; give it another name there: policy = \"…\""));
    }
    if !facts.insert(fact.to_owned()) {
        return Err(format!("another one is `{fact}` to policies; give one of them another name: policy = \"…\""));
    }
    let unique = config.uniqueness != DeclaredUniqueness::None;
    if unique && (config.multi_valued || config.kind == DeclaredKind::Binary) {
        return Err("a list and what is binary cannot be unique".to_owned());
    }
    let kind = match config.kind {
        DeclaredKind::String => Kind::String,
        DeclaredKind::Boolean => Kind::Boolean,
        DeclaredKind::Integer => Kind::Integer,
        DeclaredKind::Decimal => Kind::Decimal,
        DeclaredKind::DateTime => Kind::DateTime,
        DeclaredKind::Reference => Kind::Reference,
        DeclaredKind::Binary => Kind::Binary,
    };
    let base = Attribute::new(keep(&config.name), kind, keep(&config.description));
    Ok(Attribute {
        multi: config.multi_valued,
        exact: base.exact || config.case_exact,
        mutability: match config.mutability {
            DeclaredMutability::ReadWrite => Mutability::ReadWrite,
            DeclaredMutability::Immutable => Mutability::Immutable,
            DeclaredMutability::WriteOnly => Mutability::WriteOnly,
        },
        returned: match config.returned {
            _ if config.mutability == DeclaredMutability::WriteOnly => Returned::Never,
            DeclaredReturned::Always => Returned::Always,
            DeclaredReturned::Default => Returned::Default,
            DeclaredReturned::Request => Returned::Request,
            DeclaredReturned::Never => Returned::Never,
        },
        unique,
        fact: Some(keep(fact)),
        ..base
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<&'static ResourceType, String> {
        let extension: ExtensionConfig = toml::from_str(text).unwrap();
        declare(&[extension])
    }

    #[test]
    fn what_is_declared_is_an_extension_of_users() {
        let users = read(
            "urn = \"urn:example:params:scim:schemas:extension:acme:2.0:User\"\n[[attribute]]\nname = \"clearance\"\n\
             type = \"integer\"\n[[attribute]]\nname = \"sites\"\nmultiValued = true\npolicy = \"may_enter\"\n",
        )
        .unwrap();
        assert_eq!(users.extensions.len(), USERS.extensions.len() + 1);
        let facts = facts_of(users);
        assert_eq!(facts["clearance"], FactKind::Number);
        assert_eq!(facts["may_enter"], FactKind::Texts);
    }

    #[test]
    fn what_cannot_be_is_said_so() {
        let of = |attribute: &str| read(&format!("urn = \"urn:x:y:User\"\n[[attribute]]\n{attribute}\n")).unwrap_err();
        assert!(of("name = \"active\"").contains("another name"));
        assert!(of("name = \"a b\"").contains("letters"));
        assert!(of("name = \"a\"\nmulti_valued = true\nuniqueness = \"server\"").contains("unique"));
        assert!(of("name = \"a\"\n[[attribute]]\nname = \"A\"").contains("twice"));
        assert!(read("urn = \"acme\"\n[[attribute]]\nname = \"a\"").unwrap_err().contains("URN"));
        let core = format!("urn = \"{}\"\n[[attribute]]\nname = \"a\"", USERS.schema.urn);
        assert!(read(&core).unwrap_err().contains("already"));
    }
}
