//! Settings of a target and parameters of an entitlement, and what a recipe keeps of them.
//!
//! Never holds a secret: the broker's password is named by a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use super::{super::BuildError, KIND};
use crate::{
    domain::{catalog::TargetConfig, grant::Shared, id::GrantId},
    ports::connector::BadParameters,
};

/// What kind of directory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// OpenLDAP and whatever behaves like it.
    #[default]
    Openldap,
    /// Active Directory and whatever behaves like it.
    ActiveDirectory,
}

/// The `settings` of a target of kind `ldap`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `ldaps://ldap.example.org`, or `ldap://…` with `start_tls`.
    pub url: Url,
    /// Switch to TLS on a connection to `ldap://`.
    #[serde(default)]
    pub start_tls: bool,
    /// PEM file of the authority that signed the server's certificate; the system's authorities without it.
    #[serde(default)]
    pub tls_root_cert: Option<PathBuf>,
    /// The broker's own entry.
    pub bind_dn: String,
    /// File with its password, read at every new connection.
    pub password_file: PathBuf,
    /// What kind of directory it is.
    #[serde(default)]
    pub style: Style,
    /// Holders are looked for below this entry.
    pub user_base: String,
    /// By this filter; `{name}` becomes the holder's name.
    #[serde(default)]
    user_filter: Option<String>,
    /// Entitlements may name groups below this entry only.
    pub group_base: String,
    /// The group's attribute that lists its members.
    #[serde(default = "Settings::default_member")]
    pub member_attribute: String,
    /// What stands there: `dn`, or the name of an attribute of the holder's entry.
    #[serde(default = "Settings::default_value")]
    pub member_value: String,
    /// Attribute of the group that shows which memberships are ours; empty for none.
    #[serde(default)]
    mark_attribute: Option<String>,
    /// Two brokers on one directory need two marks, or each takes the other's memberships for orphans.
    #[serde(default = "Settings::default_mark")]
    pub mark: String,
    /// A member that is put into a group which would have none left, where its schema wants one.
    #[serde(default)]
    pub placeholder: Option<String>,
    /// Memberships end by themselves: Active Directory with the privileged access management feature.
    #[serde(default)]
    pub time_limited: bool,
    /// Connections to the server.
    #[serde(default = "Settings::default_connections")]
    pub connections: u16,
    /// Seconds for which others may go by a membership that has ended.
    #[serde(default)]
    residual_window_seconds: Option<u32>,
}

impl Settings {
    fn default_member() -> String {
        "member".into()
    }

    fn default_value() -> String {
        "dn".into()
    }

    fn default_mark() -> String {
        "tidegate".into()
    }

    const fn default_connections() -> u16 {
        4
    }

    /// Read and check a target's settings.
    pub fn read(config: &TargetConfig) -> Result<Self, BuildError> {
        let it: Self = super::super::settings(config)?;
        let wrong = |text: &str| Err(BuildError::settings(config, format!("settings: {text}")));
        let host = it.url.host_str().unwrap_or_default();
        match (it.url.scheme(), it.start_tls) {
            _ if !it.url.username().is_empty() || it.url.password().is_some() => {
                return wrong("`url` holds no name and no password: they are `bind_dn` and `password_file`");
            }
            _ if host.is_empty() => {
                return wrong("`url` is ldaps://ldap.example.org, or ldap://… with `start_tls = true`");
            }
            ("ldaps", false) | ("ldap", true) => {}
            ("ldap", false) if ["localhost", "127.0.0.1", "[::1]"].contains(&host) => {}
            ("ldap", false) => return wrong("`url` in clear text: use ldaps:// or set `start_tls = true`"),
            ("ldaps", true) => return wrong("`start_tls` is for ldap://; ldaps:// is TLS from the beginning"),
            _ => return wrong("`url` must be ldaps:// or ldap://"),
        }
        if it.time_limited && (it.style != Style::ActiveDirectory || it.member_value != "dn") {
            return wrong("`time_limited` needs `style = \"active-directory\"` and members by `dn`");
        }
        for (name, value) in [("bind_dn", &it.bind_dn), ("user_base", &it.user_base), ("group_base", &it.group_base)] {
            if !value.contains('=') || value.contains('\0') {
                return wrong(&format!("`{name}` must be a distinguished name"));
            }
        }
        if !it.user_filter().contains("{name}") || !it.user_filter().starts_with('(') {
            return wrong("`user_filter` must be a filter with `{name}` in it: (uid={name})");
        }
        let names = [Some(it.member_attribute.as_str()), Some(it.member_value.as_str()), it.mark_attribute()];
        if !names.into_iter().flatten().all(is_attribute) {
            return wrong("`member_attribute`, `member_value` and `mark_attribute` are names of attributes");
        }
        if !is_mark(&it.mark) {
            return wrong("`mark` is 1 to 40 characters of a-z, 0-9 and `-`");
        }
        if it.connections == 0 || it.connections > 64 {
            return wrong("`connections` is 1 to 64");
        }
        Ok(it)
    }

    /// The part of which directory is this target's: memberships are counted together there.
    pub fn place(&self) -> Vec<String> {
        let server = [KIND.to_owned(), self.url.host_str().unwrap_or_default().to_lowercase()];
        let port = self.url.port().unwrap_or(if self.url.scheme() == "ldaps" { 636 } else { 389 });
        let base = parts(&self.group_base).into_iter().rev();
        server.into_iter().chain([port.to_string()]).chain(base).collect()
    }

    /// How a holder is found.
    pub fn user_filter(&self) -> &str {
        match (&self.user_filter, self.style) {
            (Some(filter), _) => filter,
            (None, Style::Openldap) => "(uid={name})",
            (None, Style::ActiveDirectory) => "(&(objectCategory=person)(sAMAccountName={name}))",
        }
    }

    /// Where our marks stand, if anywhere.
    pub fn mark_attribute(&self) -> Option<&str> {
        match (&self.mark_attribute, self.style) {
            (Some(name), _) => Some(name.as_str()).filter(|name| !name.is_empty()),
            (None, Style::Openldap) => Some("description"),
            // `description` holds one value there.
            (None, Style::ActiveDirectory) => None,
        }
    }

    /// Kerberos tickets carry groups for ten hours unless the domain says otherwise.
    pub fn residual_window_seconds(&self) -> u32 {
        self.residual_window_seconds.unwrap_or(match self.style {
            Style::Openldap => 0,
            Style::ActiveDirectory => 36_000,
        })
    }
}

fn is_mark(mark: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=40).contains(&mark.len()) && mark.bytes().all(plain)
}

fn is_attribute(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// The `parameters` of an entitlement on such a target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Distinguished name of the group.
    pub group: String,
}

impl Parameters {
    /// Read and check an entitlement's parameters.
    pub fn read(parameters: &serde_json::Value, settings: &Settings) -> Result<Self, BadParameters> {
        let it: Self = super::super::parameters(parameters)?;
        if it.group.len() > 1024 || it.group.contains('\0') || !is_below(&it.group, &settings.group_base) {
            return Err(BadParameters(format!(
                "`group` must be the distinguished name of a group below `group_base`, {}",
                settings.group_base
            )));
        }
        Ok(it)
    }
}

/// A distinguished name for comparing: small letters, no blanks around commas and equal signs.
pub(super) fn plain(dn: &str) -> String {
    parts(dn).join(",")
}

/// Is that the name of an entry below this one, part by part?
pub(super) fn is_below(dn: &str, base: &str) -> bool {
    let (dn, base) = (parts(dn), parts(base));
    dn.len() > base.len() && dn.ends_with(&base)
}

/// The parts of a name. A comma that is escaped, or in quotes as in older directories, is in a value and ends no part
/// (RFC 4514 §2.4).
fn parts(dn: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = dn.chars();
    while let Some(c) = letters.next() {
        match c {
            '\\' => part.extend([Some('\\'), letters.next()].into_iter().flatten()),
            ',' | ';' if !quoted => parts.push(std::mem::take(&mut part)),
            c => {
                quoted ^= c == '"';
                part.push(c);
            }
        }
    }
    parts.push(part);
    let trimmed = |part: &String| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        format!("{}={}", name.trim(), value.trim()).to_lowercase()
    };
    parts.iter().map(trimmed).collect()
}

/// What a recipe holds: the membership, and the settings that decide how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    /// The group's distinguished name, as the server writes it.
    pub group: String,
    /// What stands in the group's attribute.
    pub member: String,
    /// That attribute.
    pub attribute: String,
    /// The attribute for our marks.
    pub mark_attribute: Option<String>,
    /// Our mark.
    pub mark: String,
    /// Who the group is, whatever it is called; not in older recipes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// The same of the holder's entry, if it is its name that stands in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<String>,
    /// Counted by the ledger.
    pub shared: Shared,
}

impl Data {
    /// The key by which grants on this membership are counted: by ids where they are known, for names move.
    pub(super) fn keyed(mut self) -> Self {
        let group = self.group_id.clone().unwrap_or_else(|| plain(&self.group));
        let member = self.member_id.clone().unwrap_or_else(|| self.member.to_lowercase());
        self.shared.key = format!("{group}|{}|{member}", self.attribute.to_lowercase());
        self
    }

    /// The text of a grant's mark.
    pub(super) fn mark_of(&self, grant: GrantId) -> String {
        format!("{} {grant} {}", self.mark, self.member)
    }

    /// A mark, read back: the grant and the member.
    pub(super) fn read_mark<'t>(mark: &str, text: &'t str) -> Option<(GrantId, &'t str)> {
        let (grant, member) = text.strip_prefix(mark)?.strip_prefix(' ')?.split_once(' ')?;
        Some((grant.parse().ok()?, member))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(more: &serde_json::Value) -> Result<Settings, BuildError> {
        let mut it = json!({
            "url": "ldaps://ldap.example.org", "bind_dn": "cn=tidegate,dc=example", "password_file": "/run/password",
            "user_base": "ou=people,dc=example", "group_base": "ou=groups,dc=example",
        });
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Settings::read(&serde_json::from_value(json!({"id": "t", "kind": "ldap", "settings": it})).unwrap())
    }

    #[test]
    fn settings_are_refused_with_what_is_wanted() {
        assert!(settings(&json!({})).is_ok());
        assert!(settings(&json!({"url": "ldap://ldap.example.org", "start_tls": true})).is_ok());
        for (bad, wanted) in [
            (json!({"url": "ldap://ldap.example.org"}), "clear text"),
            (json!({"url": "https://ldap.example.org"}), "ldaps"),
            (json!({"url": "ldaps://cn=t:secret@ldap.example.org"}), "password_file"),
            (json!({"start_tls": true}), "start_tls"),
            (json!({"time_limited": true}), "active-directory"),
            (json!({"user_filter": "(uid=ana)"}), "{name}"),
            (json!({"member_attribute": "member)(x=*"}), "member_attribute"),
            (json!({"mark": "Tide gate"}), "mark"),
            (json!({"colour": "blue"}), "colour"),
        ] {
            let text = settings(&bad).unwrap_err().to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }

    #[test]
    fn groups_are_below_the_base() {
        let settings = settings(&json!({})).unwrap();
        for good in
            ["cn=ops,ou=groups,dc=example", "CN=Ops, OU=Groups, DC=Example", "cn=a\\,b,ou=x,ou=groups,dc=example"]
        {
            assert!(Parameters::read(&json!({ "group": good }), &settings).is_ok(), "{good}");
        }
        for bad in [
            "ou=groups,dc=example",
            "cn=ops,dc=example",
            "cn=ops,ou=groups,dc=example\0",
            "cn=x,xou=groups,dc=example",
            // One part, whose value holds a comma.
            "cn=x\\,ou=groups,dc=example",
            "cn=\"x,ou=groups\",dc=example",
            "cn=x\\\\\\,ou=groups,dc=example",
        ] {
            assert!(Parameters::read(&json!({ "group": bad }), &settings).is_err(), "{bad}");
        }
    }

    #[test]
    fn marks_lead_back_to_their_grant() {
        let grant = GrantId::new(ulid::Ulid::from_parts(1, 2));
        let data = Data {
            group: "cn=ops,dc=example".into(),
            member: "uid=ana smith,dc=example".into(),
            attribute: "member".into(),
            mark_attribute: None,
            mark: "tidegate".into(),
            group_id: None,
            member_id: None,
            shared: Shared { key: String::new(), was_there: false },
        };
        let text = data.mark_of(grant);
        assert_eq!(Data::read_mark("tidegate", &text), Some((grant, "uid=ana smith,dc=example")));
        for other in ["tide", "other"] {
            assert_eq!(Data::read_mark(other, &text), None);
        }
        assert_eq!(Data::read_mark("tidegate", "tidegate is a broker"), None);
    }
}
