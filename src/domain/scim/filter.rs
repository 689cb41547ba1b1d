//! Filters and paths (RFC 7644 §3.4.2.2, §3.5.2): parsed against a type of resource, bounded in length, depth and number
//! of comparisons. How they become SQL is the store's matter; how they pick values of a document, [`super::matching`]'s.

use serde_json::Value;

use super::{
    document::number,
    error::ScimError,
    path::{AttrPath, is_urn},
    schema::{Attribute, Kind, ResourceType, Schema},
};
use crate::domain::time::Timestamp;

/// Longest filter or path, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// Deepest nesting.
const MAX_DEPTH: usize = 16;
/// Most comparisons.
const MAX_TERMS: usize = 64;

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// The same.
    Eq,
    /// Not the same, or not there.
    Ne,
    /// Contains.
    Co,
    /// Starts with.
    Sw,
    /// Ends with.
    Ew,
    /// Greater.
    Gt,
    /// Greater or the same.
    Ge,
    /// Less.
    Lt,
    /// Less or the same.
    Le,
}

impl Op {
    const ALL: [(&'static str, Self); 9] = [
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("co", Self::Co),
        ("sw", Self::Sw),
        ("ew", Self::Ew),
        ("gt", Self::Gt),
        ("ge", Self::Ge),
        ("lt", Self::Lt),
        ("le", Self::Le),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, op)| *op)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, op)| *op == self).map_or("eq", |(name, _)| name)
    }
}

/// What a value is compared with, in the form that the attribute has.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A text, as it was written.
    Text(String),
    /// True or false.
    Flag(bool),
    /// An instant.
    Instant(Timestamp),
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
}

/// A filter.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All of them.
    And(Vec<Self>),
    /// Any of them.
    Or(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// A comparison.
    Compare(AttrPath, Op, Literal),
    /// It has a value.
    Present(AttrPath),
    /// One value of a list that fits all of it; paths in it are those of sub-attributes.
    Values(AttrPath, Box<Self>),
}

/// Where a change of a resource is to happen.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A whole extension.
    Schema(&'static Schema),
    /// An attribute, a sub-attribute, or some of the values of a list.
    Attribute {
        /// Which; with the sub-attribute behind the values, if one is named.
        path: AttrPath,
        /// Which of the values.
        values: Option<Filter>,
    },
}

/// Read a filter.
pub fn parse_filter(of: &'static ResourceType, text: &str) -> Result<Filter, ScimError> {
    let mut parser = Parser::new(of, text).map_err(ScimError::filter)?;
    let filter = parser.filter(None).map_err(ScimError::filter)?;
    parser.end().map_err(ScimError::filter)?;
    Ok(filter)
}

/// Read the path of a change.
pub fn parse_path(of: &'static ResourceType, text: &str) -> Result<Target, ScimError> {
    let text = text.trim();
    if let Some(schema) = of.schema_of(text.trim_end_matches(':')) {
        return Ok(Target::Schema(schema));
    }
    let mut parser = Parser::new(of, text).map_err(ScimError::path)?;
    let target = parser.target().map_err(ScimError::path)?;
    parser.end().map_err(ScimError::path)?;
    Ok(target)
}

struct Parser<'t> {
    of: &'static ResourceType,
    text: &'t str,
    at: usize,
    depth: usize,
    terms: usize,
}

type Parsed<T> = Result<T, String>;

impl<'t> Parser<'t> {
    fn new(of: &'static ResourceType, text: &'t str) -> Parsed<Self> {
        if text.len() > MAX_LENGTH {
            return Err(format!("it has {} bytes, and at most {MAX_LENGTH} are read", text.len()));
        }
        Ok(Self { of, text, at: 0, depth: 0, terms: 0 })
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn fail<T>(&self, what: impl std::fmt::Display) -> Parsed<T> {
        Err(format!("{what}, at character {}", self.text.get(..self.at).unwrap_or_default().chars().count() + 1))
    }

    fn take(&mut self, c: char) -> bool {
        self.skip();
        let there = self.rest().starts_with(c);
        if there {
            self.at += c.len_utf8();
        }
        there
    }

    fn end(&mut self) -> Parsed<()> {
        self.skip();
        if self.rest().is_empty() { Ok(()) } else { self.fail("there is more than can be read") }
    }

    /// The word that stands here, without moving on.
    fn word(&mut self) -> &'t str {
        self.skip();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"_-$.:".contains(c)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    fn keyword(&mut self, name: &str) -> bool {
        let word = self.word();
        let there = word.eq_ignore_ascii_case(name);
        if there {
            self.at += word.len();
        }
        there
    }

    fn filter(&mut self, within: Option<AttrPath>) -> Parsed<Filter> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("it is nested more than {MAX_DEPTH} deep"));
        }
        let mut any = vec![self.all_of(within)?];
        while self.keyword("or") {
            any.push(self.all_of(within)?);
        }
        self.depth -= 1;
        Ok(one_or(any, Filter::Or))
    }

    fn all_of(&mut self, within: Option<AttrPath>) -> Parsed<Filter> {
        let mut all = vec![self.term(within)?];
        while self.keyword("and") {
            all.push(self.term(within)?);
        }
        Ok(one_or(all, Filter::And))
    }

    fn term(&mut self, within: Option<AttrPath>) -> Parsed<Filter> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return self.fail(format!("it has more than {MAX_TERMS} comparisons"));
        }
        let start = self.at;
        if self.keyword("not") {
            if self.take('(') {
                let inner = self.filter(within)?;
                return if self.take(')') { Ok(Filter::Not(Box::new(inner))) } else { self.fail("a `)` is missing") };
            }
            self.at = start;
        }
        if self.take('(') {
            let inner = self.filter(within)?;
            return if self.take(')') { Ok(inner) } else { self.fail("a `)` is missing") };
        }
        let path = self.path(within)?;
        if within.is_none() && self.rest().starts_with('[') {
            return self.value_path(path);
        }
        self.comparison(path)
    }

    fn path(&mut self, within: Option<AttrPath>) -> Parsed<AttrPath> {
        let name = self.word();
        if name.is_empty() {
            return self.fail("a name of an attribute is missing");
        }
        let found = match within {
            None => AttrPath::resolve(self.of, name),
            Some(list) => list.attribute.sub(name).map(|sub| AttrPath { sub: Some(sub), ..list }),
        };
        let Some(path) = found else {
            return self
                .fail(format!("there is no attribute `{name}` {}", within.map_or("here", |_| "of such a value")));
        };
        self.at += name.len();
        Ok(path)
    }

    /// `emails[…]`, and what Entra ID writes: `emails[…].value eq "…"`.
    fn value_path(&mut self, path: AttrPath) -> Parsed<Filter> {
        let inner = self.values(path)?;
        if !self.rest().starts_with('.') {
            return Ok(Filter::Values(path, Box::new(inner)));
        }
        self.at += 1;
        let sub = self.path(Some(path))?;
        let comparison = self.comparison(sub)?;
        Ok(Filter::Values(path, Box::new(Filter::And(vec![inner, comparison]))))
    }

    /// What is in brackets.
    fn values(&mut self, path: AttrPath) -> Parsed<Filter> {
        if path.sub.is_some() || path.attribute.kind != Kind::Complex {
            return self.fail(format!("`{path}` has no values to choose from"));
        }
        if !self.take('[') {
            return self.fail("a `[` is missing");
        }
        let inner = self.filter(Some(path))?;
        if self.take(']') { Ok(inner) } else { self.fail("a `]` is missing") }
    }

    fn comparison(&mut self, path: AttrPath) -> Parsed<Filter> {
        let word = self.word();
        if word.eq_ignore_ascii_case("pr") {
            self.at += word.len();
            return Ok(Filter::Present(path));
        }
        let Some(op) = Op::parse(word) else {
            return self.fail("a comparison is missing: eq, ne, co, sw, ew, gt, ge, lt, le, pr");
        };
        self.at += word.len();
        let Some(compared) = path.compared() else {
            return self.fail(format!("`{path}` has parts: name the one to compare"));
        };
        let value = self.literal()?;
        if value.is_null() {
            return match op {
                Op::Eq => Ok(Filter::Not(Box::new(Filter::Present(path)))),
                Op::Ne => Ok(Filter::Present(path)),
                _ => self.fail("null has no order"),
            };
        }
        match fit(compared.leaf(), op, &value) {
            Ok(literal) => Ok(Filter::Compare(compared, op, literal)),
            Err(why) => self.fail(format!("`{path} {}`: {why}", op.as_str())),
        }
    }

    fn literal(&mut self) -> Parsed<Value> {
        self.skip();
        let rest = self.rest();
        let length = if rest.starts_with('"') {
            let mut escaped = false;
            let close = rest.char_indices().skip(1).find(|(_, c)| {
                let end = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                end
            });
            match close {
                Some((at, _)) => at + 1,
                None => return self.fail("a `\"` is missing"),
            }
        } else {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len())
        };
        let text = rest.get(..length).unwrap_or_default();
        let value = if text.starts_with('"') {
            serde_json::from_str(text).ok()
        } else {
            serde_json::from_str::<Value>(&text.to_ascii_lowercase()).ok().filter(|v| !v.is_array() && !v.is_object())
        };
        let Some(value) = value else { return self.fail("a value is missing, in quotes if it is a text") };
        if value.as_str().is_some_and(|t| t.contains('\0')) {
            return self.fail("a text with a NUL");
        }
        self.at += length;
        Ok(value)
    }

    fn target(&mut self) -> Parsed<Target> {
        let path = self.path(None)?;
        if !self.rest().starts_with('[') {
            return Ok(Target::Attribute { path, values: None });
        }
        let values = Some(self.values(path)?);
        if !self.rest().starts_with('.') {
            return Ok(Target::Attribute { path, values });
        }
        self.at += 1;
        Ok(Target::Attribute { path: self.path(Some(path))?, values })
    }
}

fn one_or(mut parts: Vec<Filter>, of: fn(Vec<Filter>) -> Filter) -> Filter {
    match (parts.len(), parts.pop()) {
        (1, Some(one)) => one,
        (_, last) => {
            parts.extend(last);
            of(parts)
        }
    }
}

/// The literal in the form that the attribute has, if the two can be compared so.
fn fit(attribute: &Attribute, op: Op, value: &Value) -> Result<Literal, &'static str> {
    let text = || match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match attribute.kind {
        Kind::Boolean => {
            if !matches!(op, Op::Eq | Op::Ne) {
                return Err("it is true or false, and has no order");
            }
            flag(value).map(Literal::Flag).ok_or("it is true or false")
        }
        Kind::DateTime => {
            if matches!(op, Op::Co | Op::Sw | Op::Ew) {
                return Err("it is an instant, and no text");
            }
            text().parse().map(Literal::Instant).map_err(|_| "it is an instant, like 2026-03-02T14:00:00Z")
        }
        Kind::Integer | Kind::Decimal => {
            if matches!(op, Op::Co | Op::Sw | Op::Ew) {
                return Err("it is a number, and no text");
            }
            let number = number(attribute.kind, value).ok_or("it is a number, like 3")?;
            Ok(match (attribute.kind, number.as_i64(), number.as_f64()) {
                (Kind::Integer, Some(whole), _) => Literal::Whole(whole),
                (_, _, other) => Literal::Number(other.unwrap_or_default()),
            })
        }
        Kind::Binary if !matches!(op, Op::Eq | Op::Ne) => Err("it is binary, and has no order"),
        Kind::Complex => Err("it has parts: name one"),
        _ => Ok(Literal::Text(text())),
    }
}

/// True and false, also as text, as some send them.
pub fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.trim().eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.trim().eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// How a text is compared: without case unless case counts.
pub fn fold(attribute: &Attribute, text: &str) -> String {
    if attribute.exact { text.to_owned() } else { text.to_lowercase() }
}

/// Does a key of a path-less change name something within, rather than an attribute?
pub fn is_path(key: &str) -> bool {
    is_urn(key) || key.contains(['.', '['])
}
