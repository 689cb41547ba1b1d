//! What a source of truth that is asked says of people: a feed, a directory that is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{id::IdentityId, identity::SourceKind, time::Timestamp};

/// A source of the configuration. Its `settings` belong to the adapter and may name secret files, never secrets.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name.
    pub id: std::sync::Arc<str>,
    /// `feed` or `scim_pull`.
    pub kind: SourceKind,
    /// When it is read, as in crontab(5); by hand only if missing.
    pub schedule: Option<String>,
    /// If more of its active people than this would be deactivated by one reading, it stops and asks.
    #[serde(default = "SourceConfig::default_percent")]
    pub max_leavers_percent: u32,
    /// Fact of an identity → column of the feed, or path of the resource; see [`crate::domain::roster::Entry`].
    #[serde(default)]
    pub mapping: BTreeMap<String, String>,
    /// The adapter's own settings.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl SourceConfig {
    const fn default_percent() -> u32 {
        20
    }
}

/// One person, as a source tells of it. In a mapping, every fact that is not one of these is an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The source's own name for it: `external_id`.
    pub external_id: String,
    /// Unique name: `name`.
    pub name: String,
    /// Name for people to read: `display_name`.
    pub display_name: Option<String>,
    /// Work e-mail: `email`.
    pub email: Option<String>,
    /// Not deactivated: `active`.
    pub active: bool,
    /// Hard end of the relationship: `contract_end`.
    pub contract_end: Option<Timestamp>,
    /// Standing groups, if the source tells of them: `groups`.
    pub groups: Option<BTreeSet<String>>,
    /// Everything else.
    pub attributes: BTreeMap<String, String>,
}

/// One that cannot be used. Nothing is changed for it, and nobody is taken for gone because of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refused {
    /// Line of the file, or number of the resource.
    pub line: u64,
    /// Which person, if that much can be told.
    pub external_id: Option<String>,
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

/// One line of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A person.
    Entry(Box<Entry>),
    /// Not one.
    Refused(Refused),
}

/// Facts that are not attributes.
pub const FACTS: [&str; 7] = ["external_id", "name", "display_name", "email", "active", "contract_end", "groups"];

/// Read one line of a source through its mapping. `value` answers what stands in a column.
pub fn read_line(mapping: &BTreeMap<String, String>, line: u64, value: impl Fn(&str) -> Option<String>) -> Line {
    let fact = |name: &str| {
        let column = mapping.get(name)?;
        value(column).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    };
    let external_id = fact("external_id");
    let refuse = |field: &str, problem: String| {
        let field = mapping.get(field).map_or(field, String::as_str).to_owned();
        Line::Refused(Refused { line, external_id: external_id.clone(), field, problem })
    };
    let Some(id) = external_id.clone() else { return refuse("external_id", "is missing".to_owned()) };
    let Some(name) = fact("name") else { return refuse("name", "is missing".to_owned()) };
    for (field, text) in [("external_id", &id), ("name", &name)] {
        if text.chars().count() > 255 || text.chars().any(char::is_control) {
            return refuse(field, "must have at most 255 characters and none that controls".to_owned());
        }
    }
    if id.parse::<IdentityId>().is_ok() {
        return refuse("external_id", "must not look like an id of this service".to_owned());
    }
    let active = match fact("active").map(|a| a.to_lowercase()).as_deref() {
        // A column that is there and empty says nothing; nobody is let in or thrown out by that.
        None if mapping.contains_key("active") => return refuse("active", "is missing".to_owned()),
        None | Some("true" | "yes" | "1" | "active") => true,
        Some("false" | "no" | "0" | "inactive" | "terminated") => false,
        Some(_) => return refuse("active", "must be true or false, yes or no, 1 or 0, active or inactive".to_owned()),
    };
    let contract_end = match fact("contract_end") {
        None => None,
        Some(text) => match day_or_instant(&text) {
            Some(end) => Some(end),
            None => return refuse("contract_end", "must be like 2026-12-31 or 2026-12-31T17:00:00Z".to_owned()),
        },
    };
    let groups = mapping.contains_key("groups").then(|| {
        let names = fact("groups").unwrap_or_default();
        names.split([';', '|']).map(str::trim).filter(|n| !n.is_empty()).map(str::to_owned).collect()
    });
    let attributes = mapping.keys().filter(|name| !FACTS.contains(&name.as_str()));
    Line::Entry(Box::new(Entry {
        external_id: id,
        name,
        display_name: fact("display_name"),
        email: fact("email"),
        active,
        contract_end,
        groups,
        attributes: attributes.filter_map(|name| Some((name.clone(), fact(name)?))).collect(),
    }))
}

/// An instant, or the end of a day.
fn day_or_instant(text: &str) -> Option<Timestamp> {
    if let Ok(instant) = text.parse() {
        return Some(instant);
    }
    let day: chrono::NaiveDate = text.parse().ok()?;
    let midnight = day.succ_opt()?.and_hms_opt(0, 0, 0)?.and_utc();
    Some(Timestamp::from_micros(midnight.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cells: &[(&str, &str)]) -> Line {
        let mapping = ["external_id", "name", "active", "contract_end", "groups", "department"];
        let mapping = mapping.into_iter().map(|n| (n.to_owned(), n.to_uppercase())).collect();
        let cells: BTreeMap<String, String> = cells.iter().map(|(n, v)| (n.to_uppercase(), (*v).to_owned())).collect();
        read_line(&mapping, 7, |column| cells.get(column).cloned())
    }

    fn field_of(line: Line) -> (Option<String>, String) {
        match line {
            Line::Refused(refused) => (refused.external_id, refused.field),
            Line::Entry(entry) => panic!("{entry:?}"),
        }
    }

    #[test]
    fn a_whole_line_is_an_entry() {
        let cells = [
            ("external_id", "7"),
            ("name", " ana "),
            ("active", "Yes"),
            ("contract_end", "2026-12-31"),
            ("groups", "a; b"),
            ("department", "Sales"),
        ];
        let Line::Entry(entry) = read(&cells) else { panic!() };
        assert_eq!((entry.name.as_str(), entry.active), ("ana", true));
        assert_eq!(entry.contract_end.unwrap().to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(entry.groups.unwrap().len(), 2);
        assert_eq!(entry.attributes["department"], "Sales");
    }

    #[test]
    fn half_a_line_is_refused_by_the_field_that_is_wrong() {
        assert_eq!(field_of(read(&[("name", "ana"), ("active", "1")])), (None, "EXTERNAL_ID".into()));
        assert_eq!(field_of(read(&[("external_id", "7"), ("active", "1")])), (Some("7".into()), "NAME".into()));
        let half = [("external_id", "7"), ("name", "ana")];
        assert_eq!(field_of(read(&half)), (Some("7".into()), "ACTIVE".into()));
        assert_eq!(field_of(read(&[half[0], half[1], ("active", "perhaps")])).1, "ACTIVE");
        assert_eq!(field_of(read(&[half[0], half[1], ("active", "1"), ("contract_end", "soon")])).1, "CONTRACT_END");
        assert_eq!(field_of(read(&[half[0], ("name", "a\u{7}b"), ("active", "1")])).1, "NAME");
        let ours = [("external_id", "idn_01KVF3T2M8XQ4B7N9D5R6S1W0Z"), half[1], ("active", "1")];
        assert_eq!(field_of(read(&ours)).1, "EXTERNAL_ID", "accounts downstream are called so");
    }
}
