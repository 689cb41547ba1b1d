//! SCIM filters as SQL.
//!
//! The only place where SQL is put together while the program runs. INVARIANT: every piece of the text is a literal of
//! this file or a `$n`; whatever came from outside, names of attributes too, is bound. [`Sql::push`] takes nothing that is
//! not `'static`, and there is no other way to add to the text but `$n`.

use sqlx::{AssertSqlSafe, any::AnyArguments, query::Query};

use crate::domain::{
    id::SourceId,
    scim::{
        core::USERS,
        filter::{Filter, Literal, Op, fold},
        path::AttrPath,
        schema::{Attribute, Kind},
    },
};

/// Longest key in the index of values, in characters.
pub(super) const MAX_KEY: usize = 512;

/// A text under construction, with what is bound in it.
#[derive(Default)]
pub(super) struct Sql {
    text: String,
    binds: Vec<Bind>,
}

enum Bind {
    Text(String),
    Integer(i64),
}

impl Sql {
    pub(super) fn new(text: &'static str) -> Self {
        let mut sql = Self::default();
        sql.push(text);
        sql
    }

    pub(super) fn push(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    fn place(&mut self, bind: Bind) -> &mut Self {
        self.binds.push(bind);
        self.text.push('$');
        self.text.push_str(&self.binds.len().to_string());
        self
    }

    pub(super) fn text(&mut self, value: impl Into<String>) -> &mut Self {
        self.place(Bind::Text(value.into()))
    }

    pub(super) fn integer(&mut self, value: i64) -> &mut Self {
        self.place(Bind::Integer(value))
    }

    /// `, ` between the items, each written by `each`.
    pub(super) fn list<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.push(", ");
            }
            each(self, item);
        }
        self
    }

    pub(super) fn query(&self) -> Query<'static, sqlx::Any, AnyArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.text.clone()));
        for bind in &self.binds {
            query = match bind {
                Bind::Text(text) => query.bind(text.clone()),
                Bind::Integer(number) => query.bind(*number),
            };
        }
        query
    }
}

/// Where an attribute is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// A text in a column or an expression over columns.
    Text(&'static str),
    /// The owning source's own name for it: to no other source it is anything.
    Known(&'static str),
    /// A flag.
    Flag(&'static str),
    /// An instant.
    Instant(&'static str),
    /// The same for all resources.
    Constant(&'static str),
    /// The schemas that a resource uses: the core one, and each extension of which it has a value.
    Schemas(&'static str),
    /// A text of rows elsewhere: what selects the ids of the resources, up to the condition on the text.
    Rows {
        select: &'static str,
        text: &'static str,
        /// Exact ids are compared as they are.
        folded: bool,
    },
    /// In the index of values; with more rows to look in for the same text.
    Values { also: Option<(&'static str, &'static str)> },
    /// It cannot be looked up: nothing fits.
    Nowhere,
}

/// A kind of resource: what its rows are called, and where its attributes are.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) id: &'static str,
    pub(super) place: fn(&AttrPath) -> Place,
    /// Column of the source that owns it, and the source that asks.
    pub(super) asks: Option<(&'static str, SourceId)>,
}

impl Sql {
    /// The condition that a filter is.
    pub(super) fn filter(&mut self, shape: Shape, filter: &Filter) -> &mut Self {
        match filter {
            Filter::And(all) => self.joined(all, " AND ", |sql, f| {
                sql.filter(shape, f);
            }),
            Filter::Or(any) => self.joined(any, " OR ", |sql, f| {
                sql.filter(shape, f);
            }),
            Filter::Not(inner) => self.push("NOT (").filter(shape, inner).push(")"),
            Filter::Present(path) => self.present(shape, path),
            Filter::Compare(path, Op::Ne, literal) => {
                self.push("NOT (").compare(shape, path, Op::Eq, literal).push(")")
            }
            Filter::Compare(path, op, literal) => self.compare(shape, path, *op, literal),
            Filter::Values(path, inner) => self.values(shape, path, inner),
        }
    }

    fn joined(&mut self, parts: &[Filter], by: &'static str, each: impl Fn(&mut Self, &Filter)) -> &mut Self {
        self.push("(");
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                self.push(by);
            }
            each(self, part);
        }
        self.push(")")
    }

    fn present(&mut self, shape: Shape, path: &AttrPath) -> &mut Self {
        match (shape.place)(path) {
            Place::Text(column) | Place::Flag(column) | Place::Instant(column) => {
                self.push("(").push(column).push(" IS NOT NULL)")
            }
            Place::Known(column) => self.push("(").push(column).push(" IS NOT NULL").owned(shape).push(")"),
            Place::Constant(_) | Place::Schemas(_) => self.push("(1 = 1)"),
            Place::Rows { select, .. } => self.push(shape.id).push(" IN (").push(select).push(")"),
            Place::Values { also } => {
                // Of a complex one, any part.
                self.push(shape.id).push(" IN (SELECT v.identity_id FROM scim_values v WHERE v.path >= ");
                let key = path.key();
                if path.sub.is_none() && path.attribute.kind == Kind::Complex {
                    self.text(format!("{key}.")).push(" AND v.path < ").text(format!("{key}/"));
                } else {
                    self.text(key.clone()).push(" AND v.path <= ").text(key);
                }
                self.push(" AND v.value_key <> ''");
                if let Some((select, text)) = also {
                    self.push(" UNION ALL ").push(select).push(" AND ").push(text).push(" IS NOT NULL");
                }
                self.push(")")
            }
            Place::Nowhere => self.push("(1 = 0)"),
        }
    }

    fn compare(&mut self, shape: Shape, path: &AttrPath, op: Op, literal: &Literal) -> &mut Self {
        let attribute = path.leaf();
        match ((shape.place)(path), literal) {
            (Place::Text(column), Literal::Text(text)) => {
                self.push("(").push(column).push(" IS NOT NULL AND ");
                self.compared(column, op, fold(attribute, text)).push(")")
            }
            (Place::Known(column), Literal::Text(text)) => {
                self.push("(").push(column).push(" IS NOT NULL AND ");
                self.compared(column, op, fold(attribute, text)).owned(shape).push(")")
            }
            (Place::Flag(column), Literal::Flag(flag)) => {
                self.push("(").push(column).push(" = ").integer(i64::from(*flag)).push(")")
            }
            (Place::Instant(column), Literal::Instant(at)) => {
                self.push("(").push(column).push(" IS NOT NULL AND ").push(column).push(sign(op));
                self.integer(at.micros()).push(")")
            }
            (Place::Constant(value), Literal::Text(text)) => {
                let holds = compare_constant(attribute, value, op, text);
                self.push(if holds { "(1 = 1)" } else { "(1 = 0)" })
            }
            (Place::Schemas(core), Literal::Text(text)) => {
                if op != Op::Eq || text.eq_ignore_ascii_case(core) {
                    let holds = compare_constant(attribute, core, op, text) || op == Op::Eq;
                    return self.push(if holds { "(1 = 1)" } else { "(1 = 0)" });
                }
                let known = USERS.extensions.iter().find(|s| s.urn.eq_ignore_ascii_case(text));
                let short = known.map_or_else(|| text.to_ascii_lowercase(), |s| s.short.to_owned());
                self.push(shape.id).push(" IN (SELECT v.identity_id FROM scim_values v WHERE v.path >= ");
                self.text(format!("{short}:")).push(" AND v.path < ").text(format!("{short};")).push(")")
            }
            (Place::Rows { select, text, folded }, Literal::Text(literal)) => {
                let literal = if folded { literal.to_lowercase() } else { literal.clone() };
                self.push(shape.id).push(" IN (").push(select).push(" AND ").compared(text, op, literal).push(")")
            }
            (Place::Values { also }, literal) => {
                let key = key_of(attribute, literal);
                self.push(shape.id).push(" IN (SELECT v.identity_id FROM scim_values v WHERE v.path = ");
                self.text(path.key()).push(" AND ").compared("v.value_key", op, key.clone());
                if let Some((select, text)) = also {
                    self.push(" UNION ALL ").push(select).push(" AND ").compared(text, op, key);
                }
                self.push(")")
            }
            _ => self.push("(1 = 0)"),
        }
    }

    /// ` AND` that it is the asking source's own, if one asks.
    fn owned(&mut self, shape: Shape) -> &mut Self {
        match shape.asks {
            Some((column, source)) => self.push(" AND ").push(column).push(" = ").text(source.to_string()),
            None => self,
        }
    }

    /// One element of a list that fits all of `inner`.
    fn values(&mut self, shape: Shape, path: &AttrPath, inner: &Filter) -> &mut Self {
        match (shape.place)(path) {
            Place::Values { .. } => {}
            Place::Rows { select, .. } => {
                self.push(shape.id).push(" IN (").push(select).push(" AND ");
                return self.row(shape, inner).push(")");
            }
            _ => return self.push("(1 = 0)"),
        }
        self.push(shape.id).push(" IN (SELECT e.identity_id FROM scim_values e WHERE e.path = ");
        // Begin with what picks the fewest: an equal value, if one is asked for.
        let parts = match inner {
            Filter::And(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        let equal = parts.iter().find_map(|part| match part {
            Filter::Compare(p, Op::Eq, literal) if p.leaf().name == "value" => Some((p, literal)),
            _ => None,
        });
        match equal {
            Some((p, literal)) => {
                self.text(p.key()).push(" AND e.value_key = ").text(key_of(p.leaf(), literal));
            }
            None => {
                self.text(path.key()).push(" AND e.value_key = ''");
            }
        }
        self.push(" AND ").element(inner).push(")")
    }

    /// A condition on one element of a list.
    fn element(&mut self, filter: &Filter) -> &mut Self {
        const OF_ELEMENT: &str = "EXISTS (SELECT 1 FROM scim_values v WHERE v.identity_id = e.identity_id \
                                  AND v.element = e.element AND v.path = ";
        match filter {
            Filter::And(all) => self.joined(all, " AND ", |sql, f| {
                sql.element(f);
            }),
            Filter::Or(any) => self.joined(any, " OR ", |sql, f| {
                sql.element(f);
            }),
            Filter::Not(inner) => self.push("NOT (").element(inner).push(")"),
            Filter::Present(path) => self.push(OF_ELEMENT).text(path.key()).push(" AND v.value_key <> '')"),
            Filter::Compare(path, Op::Ne, literal) => {
                self.push("NOT (").element_compare(OF_ELEMENT, path, Op::Eq, literal).push(")")
            }
            Filter::Compare(path, op, literal) => self.element_compare(OF_ELEMENT, path, *op, literal),
            Filter::Values(..) => self.push("(1 = 0)"),
        }
    }

    fn element_compare(&mut self, of: &'static str, path: &AttrPath, op: Op, literal: &Literal) -> &mut Self {
        let key = key_of(path.leaf(), literal);
        self.push(of).text(path.key()).push(" AND ").compared("v.value_key", op, key).push(")")
    }

    /// A condition on one row of a list that has rows of its own.
    fn row(&mut self, shape: Shape, filter: &Filter) -> &mut Self {
        match filter {
            Filter::And(all) => self.joined(all, " AND ", |sql, f| {
                sql.row(shape, f);
            }),
            Filter::Or(any) => self.joined(any, " OR ", |sql, f| {
                sql.row(shape, f);
            }),
            Filter::Not(inner) => self.push("NOT (").row(shape, inner).push(")"),
            Filter::Present(path) => match (shape.place)(path) {
                Place::Rows { .. } | Place::Constant(_) => self.push("(1 = 1)"),
                _ => self.push("(1 = 0)"),
            },
            Filter::Compare(path, op, Literal::Text(literal)) => match (shape.place)(path) {
                Place::Rows { text, folded, .. } => {
                    let literal = if folded { literal.to_lowercase() } else { literal.clone() };
                    self.compared(text, *op, literal)
                }
                Place::Constant(value) => {
                    let holds = compare_constant(path.leaf(), value, *op, literal);
                    self.push(if holds { "(1 = 1)" } else { "(1 = 0)" })
                }
                _ => self.push("(1 = 0)"),
            },
            Filter::Compare(..) | Filter::Values(..) => self.push("(1 = 0)"),
        }
    }

    /// `text op literal`, where neither is null.
    fn compared(&mut self, text: &'static str, op: Op, literal: String) -> &mut Self {
        match op {
            Op::Co if literal.is_empty() => self.push("(1 = 1)"),
            // Both databases have `replace`, and neither folds case in it.
            Op::Co => self.push("replace(").push(text).push(", ").text(literal).push(", '') <> ").push(text),
            Op::Sw => {
                self.push("(").push(text).push(" >= ").text(literal.clone()).push(" AND substr(").push(text);
                self.push(", 1, length(").text(literal.clone()).push(")) = ").text(literal).push(")")
            }
            Op::Ew => {
                self.push("(length(").push(text).push(") >= length(").text(literal.clone()).push(") AND substr(");
                self.push(text).push(", length(").push(text).push(") - length(").text(literal.clone());
                self.push(") + 1) = ").text(literal).push(")")
            }
            _ => self.push(text).push(sign(op)).text(literal),
        }
    }

    /// What a list is sorted by: one value, or null.
    pub(super) fn sort_key(&mut self, shape: Shape, path: &AttrPath) -> &mut Self {
        match (shape.place)(path) {
            Place::Text(c) | Place::Known(c) | Place::Flag(c) | Place::Instant(c) => self.push(c),
            Place::Values { .. } => {
                self.push("(SELECT v.value_key FROM scim_values v WHERE v.identity_id = ").push(shape.id);
                self.push(" AND v.path = ").text(path.key()).push(" ORDER BY v.element LIMIT 1)")
            }
            _ => self.push("NULL"),
        }
    }
}

/// How a value stands in the index of values.
pub(super) fn key_of(attribute: &Attribute, literal: &Literal) -> String {
    match literal {
        Literal::Text(text) => fold(attribute, text).chars().take(MAX_KEY).collect(),
        Literal::Flag(flag) => flag.to_string(),
        Literal::Instant(at) => in_order(at.micros()),
        Literal::Whole(number) => in_order(*number),
        Literal::Number(number) => {
            let bits = number.to_bits();
            format!("{:016x}", if bits >> 63 == 1 { !bits } else { bits ^ (1 << 63) })
        }
    }
}

/// A number as a text that sorts as it does.
fn in_order(number: i64) -> String {
    format!("{:016x}", number.cast_unsigned() ^ (1 << 63))
}

fn compare_constant(attribute: &Attribute, value: &str, op: Op, literal: &str) -> bool {
    let (value, literal) = (fold(attribute, value), fold(attribute, literal));
    match op {
        Op::Eq => value == literal,
        Op::Ne => value != literal,
        Op::Co => value.contains(&literal),
        Op::Sw => value.starts_with(&literal),
        Op::Ew => value.ends_with(&literal),
        Op::Gt => value > literal,
        Op::Ge => value >= literal,
        Op::Lt => value < literal,
        Op::Le => value <= literal,
    }
}

const fn sign(op: Op) -> &'static str {
    match op {
        Op::Ne => " <> ",
        Op::Gt => " > ",
        Op::Ge => " >= ",
        Op::Lt => " < ",
        Op::Le => " <= ",
        _ => " = ",
    }
}

/// A list of resources: which, in what order, from where.
#[derive(Debug, Clone, Default)]
pub struct ScimList {
    /// Which.
    pub filter: Option<Filter>,
    /// Sorted by this; by id otherwise.
    pub sort: Option<(AttrPath, bool)>,
    /// After the one of this id.
    pub after: Option<String>,
    /// Passing over so many.
    pub offset: u64,
    /// At most so many.
    pub limit: u32,
    /// The source that asks: its own names are not another's.
    pub asks: Option<SourceId>,
}

impl Sql {
    /// ` ORDER BY …`; the second of the pair means downwards. What has no value comes last, or first downwards.
    pub(super) fn order(&mut self, shape: Shape, sort: Option<&(AttrPath, bool)>) -> &mut Self {
        self.push(" ORDER BY ");
        if let Some((path, down)) = sort {
            self.push("CASE WHEN (").sort_key(shape, path).push(") IS NULL THEN 1 ELSE 0 END");
            self.push(if *down { " DESC, (" } else { ", (" }).sort_key(shape, path);
            self.push(if *down { ") DESC, " } else { "), " });
        }
        self.push(shape.id)
    }
}
