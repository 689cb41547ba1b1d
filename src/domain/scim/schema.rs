//! What an attribute is (RFC 7643 §2, §7). The tables themselves are in [`super::core`].

use serde_json::{Map, Value, json};

/// Type of a value (RFC 7643 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    String,
    /// True or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Decimal,
    /// An instant.
    DateTime,
    /// Base64.
    Binary,
    /// A URI.
    Reference,
    /// Sub-attributes.
    Complex,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::DateTime => "dateTime",
            Self::Binary => "binary",
            Self::Reference => "reference",
            Self::Complex => "complex",
        }
    }
}

/// Who may write it, and when (RFC 7643 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutability {
    /// Any time.
    ReadWrite,
    /// Nobody outside.
    ReadOnly,
    /// Together with the value that it is part of.
    Immutable,
    /// Written, never read.
    WriteOnly,
}

impl Mutability {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ReadWrite => "readWrite",
            Self::ReadOnly => "readOnly",
            Self::Immutable => "immutable",
            Self::WriteOnly => "writeOnly",
        }
    }
}

/// When it is in an answer (RFC 7643 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// Whatever is asked for.
    Always,
    /// Unless it is excluded.
    Default,
    /// Where it is asked for by name.
    Request,
    /// In no answer.
    Never,
}

impl Returned {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Default => "default",
            Self::Request => "request",
            Self::Never => "never",
        }
    }
}

/// An attribute, or a sub-attribute.
#[derive(Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its name; compared without case.
    pub name: &'static str,
    /// Type of its value, or of each of its values.
    pub kind: Kind,
    /// A list of values.
    pub multi: bool,
    /// Must be there.
    pub required: bool,
    /// Case counts in comparisons.
    pub exact: bool,
    /// Who may write it.
    pub mutability: Mutability,
    /// When it is in an answer.
    pub returned: Returned,
    /// No two resources have the same.
    pub unique: bool,
    /// Of a declared one: what decisions call it.
    pub fact: Option<&'static str>,
    pub(super) canonical: &'static [&'static str],
    pub(super) references: &'static [&'static str],
    /// Sub-attributes of a complex one.
    pub subs: &'static [Self],
    pub(super) description: &'static str,
}

impl Attribute {
    /// Of that name and type; `description` is for people.
    pub const fn new(name: &'static str, kind: Kind, description: &'static str) -> Self {
        Self {
            name,
            kind,
            multi: false,
            required: false,
            exact: matches!(kind, Kind::Binary | Kind::Reference | Kind::DateTime),
            mutability: Mutability::ReadWrite,
            returned: Returned::Default,
            unique: false,
            fact: None,
            canonical: &[],
            references: &[],
            subs: &[],
            description,
        }
    }

    /// A text.
    pub const fn text(name: &'static str, description: &'static str) -> Self {
        Self::new(name, Kind::String, description)
    }

    /// A complex one.
    pub const fn complex(name: &'static str, subs: &'static [Self], description: &'static str) -> Self {
        Self { subs, ..Self::new(name, Kind::Complex, description) }
    }

    /// A list of complex values.
    pub const fn list(name: &'static str, subs: &'static [Self], description: &'static str) -> Self {
        Self { multi: true, ..Self::complex(name, subs, description) }
    }

    /// A list.
    #[must_use]
    pub const fn multi(self) -> Self {
        Self { multi: true, ..self }
    }

    /// Must be there.
    #[must_use]
    pub const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Case counts.
    #[must_use]
    pub const fn exact(self) -> Self {
        Self { exact: true, ..self }
    }

    /// No two have the same.
    #[must_use]
    pub const fn unique(self) -> Self {
        Self { unique: true, ..self }
    }

    /// Nobody outside writes it.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self { mutability: Mutability::ReadOnly, ..self }
    }

    /// Written with the value that it is part of, and not alone.
    #[must_use]
    pub const fn immutable(self) -> Self {
        Self { mutability: Mutability::Immutable, ..self }
    }

    /// Written, never read.
    #[must_use]
    pub const fn write_only(self) -> Self {
        Self { mutability: Mutability::WriteOnly, returned: Returned::Never, ..self }
    }

    /// In every answer.
    #[must_use]
    pub const fn always(self) -> Self {
        Self { returned: Returned::Always, ..self }
    }

    /// Values that are usual; others are taken too.
    #[must_use]
    pub const fn usual(self, canonical: &'static [&'static str]) -> Self {
        Self { canonical, ..self }
    }

    /// What it may refer to.
    #[must_use]
    pub const fn to(self, references: &'static [&'static str]) -> Self {
        Self { references, ..self }
    }

    /// The sub-attribute of that name.
    pub fn sub(&self, name: &str) -> Option<&'static Self> {
        find(self.subs, name)
    }

    /// The sub-attribute that stands for the whole in a comparison.
    pub fn value_sub(&self) -> Option<&'static Self> {
        self.sub("value")
    }

    fn render(&self) -> Value {
        let mut out = Map::new();
        out.insert("name".to_owned(), json!(self.name));
        out.insert("type".to_owned(), json!(self.kind.as_str()));
        if self.kind == Kind::Complex {
            out.insert("subAttributes".to_owned(), self.subs.iter().map(Self::render).collect());
        }
        out.insert("multiValued".to_owned(), json!(self.multi));
        out.insert("description".to_owned(), json!(self.description));
        out.insert("required".to_owned(), json!(self.required));
        if !self.canonical.is_empty() {
            out.insert("canonicalValues".to_owned(), json!(self.canonical));
        }
        out.insert("caseExact".to_owned(), json!(self.exact));
        out.insert("mutability".to_owned(), json!(self.mutability.as_str()));
        out.insert("returned".to_owned(), json!(self.returned.as_str()));
        out.insert("uniqueness".to_owned(), json!(if self.unique { "server" } else { "none" }));
        if self.kind == Kind::Reference {
            out.insert("referenceTypes".to_owned(), json!(self.references));
        }
        Value::Object(out)
    }
}

/// The attribute of that name, in any case.
pub fn find(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    attributes.iter().find(|a| a.name.eq_ignore_ascii_case(name))
}

/// A schema: a name and its attributes.
#[derive(Debug, PartialEq, Eq)]
pub struct Schema {
    /// Its URN.
    pub urn: &'static str,
    /// What paths of the index of values begin with: empty for what is not an extension.
    pub short: &'static str,
    /// For people.
    pub name: &'static str,
    /// For people.
    pub description: &'static str,
    /// Its attributes.
    pub attributes: &'static [Attribute],
}

impl Schema {
    /// The attribute of that name.
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        find(self.attributes, name)
    }

    /// As `/Schemas` shows it (RFC 7643 §7).
    pub fn render(&self, base: &str) -> Value {
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:Schema"],
            "id": self.urn,
            "name": self.name,
            "description": self.description,
            "attributes": self.attributes.iter().map(Attribute::render).collect::<Vec<_>>(),
            "meta": {"resourceType": "Schema", "location": format!("{base}/Schemas/{}", self.urn)},
        })
    }
}

/// A type of resource (RFC 7643 §6).
#[derive(Debug, PartialEq, Eq)]
pub struct ResourceType {
    /// Its name.
    pub name: &'static str,
    /// The path that it is at.
    pub endpoint: &'static str,
    /// For people.
    pub description: &'static str,
    /// Its core schema.
    pub schema: &'static Schema,
    /// Its extensions, none of them required.
    pub extensions: &'static [&'static Schema],
}

impl ResourceType {
    /// Attributes that were declared, each with the schema that it is in.
    pub fn declared(&self) -> impl Iterator<Item = (&'static Schema, &'static Attribute)> {
        self.extensions.iter().flat_map(|s| s.attributes.iter().map(move |a| (*s, a))).filter(|(_, a)| a.fact.is_some())
    }

    /// Was something declared that only one may have?
    pub fn has_unique(&self) -> bool {
        self.declared().any(|(_, a)| a.unique)
    }

    /// Core schema and extensions.
    pub fn schemas(&self) -> impl Iterator<Item = &'static Schema> {
        std::iter::once(self.schema).chain(self.extensions.iter().copied())
    }

    /// The schema of that URN, in any case.
    pub fn schema_of(&self, urn: &str) -> Option<&'static Schema> {
        self.schemas().find(|s| s.urn.eq_ignore_ascii_case(urn))
    }

    /// As `/ResourceTypes` shows it.
    pub fn render(&self, base: &str) -> Value {
        let extensions = self.extensions.iter().map(|s| json!({"schema": s.urn, "required": false}));
        json!({
            "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ResourceType"],
            "id": self.name,
            "name": self.name,
            "description": self.description,
            "endpoint": self.endpoint,
            "schema": self.schema.urn,
            "schemaExtensions": extensions.collect::<Vec<_>>(),
            "meta": {"resourceType": "ResourceType", "location": format!("{base}/ResourceTypes/{}", self.name)},
        })
    }
}
