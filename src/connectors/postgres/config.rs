//! Settings of a target and parameters of an entitlement, and the one way in which names and texts get into SQL.
//!
//! Never holds a secret: the password is named by a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::postgres::PgSslMode;

use crate::{
    domain::{id::GrantId, time::Ttl},
    ports::connector::BadParameters,
};

/// How the connection to the server is protected, in PostgreSQL's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Clear text: for loopback only.
    Disable,
    /// TLS if the server offers it, without checking who it is.
    Prefer,
    /// TLS or nothing, without checking who the server is.
    Require,
    /// TLS, and the certificate must be the host's.
    #[default]
    VerifyFull,
}

impl Tls {
    pub(super) const fn mode(self) -> PgSslMode {
        match self {
            Self::Disable => PgSslMode::Disable,
            Self::Prefer => PgSslMode::Prefer,
            Self::Require => PgSslMode::Require,
            Self::VerifyFull => PgSslMode::VerifyFull,
        }
    }

    /// The `sslmode` that the holder is told.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// The `settings` of a target of kind `postgres`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Host name or address of the primary server. A pooler in between will not do.
    pub host: String,
    /// Its port.
    #[serde(default = "Settings::default_port")]
    pub port: u16,
    /// The database that the broker works in.
    #[serde(default = "Settings::default_database")]
    pub database: String,
    /// The broker's own login.
    pub user: String,
    /// File with the broker's password, read at every new connection; none where the server asks for none.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How the connection is protected.
    #[serde(default)]
    pub tls: Tls,
    /// PEM file of the authority that signed the server's certificate; the system's authorities without it.
    #[serde(default)]
    pub tls_root_cert: Option<PathBuf>,
    /// Databases that the broker must be able to clean in, and that holders are pointed to; `[database]` without it.
    #[serde(default)]
    pub databases: Vec<String>,
    /// The role that receives what a temporary role owns at its end.
    #[serde(default)]
    pub reassign_to: Option<String>,
    /// Drop what a temporary role owns at its end, instead of handing it to `reassign_to`.
    #[serde(default)]
    pub drop_owned: bool,
    /// Two brokers on one server need two marks, or each takes the other's roles for orphans.
    #[serde(default = "Settings::default_mark")]
    pub mark: String,
    /// Connections to the server at once.
    #[serde(default = "Settings::default_pool_size")]
    pub pool_size: u16,
    /// Seconds after which opening a connection is given up.
    #[serde(default = "Settings::default_connect_timeout")]
    pub connect_timeout_seconds: u16,
    /// Seconds after which the server gives up one statement.
    #[serde(default = "Settings::default_statement_timeout")]
    pub statement_timeout_seconds: u16,
    /// Host that holders are told, where it differs from the broker's.
    #[serde(default)]
    pub holder_host: Option<String>,
    /// Port that holders are told, where it differs from the broker's.
    #[serde(default)]
    pub holder_port: Option<u16>,
}

impl Settings {
    const fn default_port() -> u16 {
        5432
    }

    fn default_database() -> String {
        "postgres".into()
    }

    fn default_mark() -> String {
        "tidegate".into()
    }

    const fn default_pool_size() -> u16 {
        8
    }

    const fn default_connect_timeout() -> u16 {
        5
    }

    const fn default_statement_timeout() -> u16 {
        10
    }

    /// Read and check a target's settings.
    pub fn read(settings: &serde_json::Map<String, serde_json::Value>) -> Result<Self, BadParameters> {
        let mut it: Self = typed(&serde_json::Value::Object(settings.clone()), "settings")?;
        if it.host.is_empty() || it.user.is_empty() || it.user.contains('\0') {
            return Err(BadParameters("settings: `host` and `user` must not be empty".into()));
        }
        name("settings: database", &it.database)?;
        if it.databases.is_empty() {
            it.databases = vec![it.database.clone()];
        }
        it.databases.iter().try_for_each(|d| name("settings: databases", d))?;
        match (&it.reassign_to, it.drop_owned) {
            (Some(role), false) => role_name("settings: reassign_to", role)?,
            (None, true) => {}
            _ => {
                return Err(BadParameters(
                    "settings: say what becomes of the objects that a temporary role owns at its end: either \
                     `reassign_to = \"<role>\"` or `drop_owned = true`"
                        .into(),
                ));
            }
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if it.mark.is_empty() || it.mark.len() > 40 || !it.mark.bytes().all(plain) {
            return Err(BadParameters("settings: `mark` is 1 to 40 characters of a-z, 0-9 and `-`".into()));
        }
        if it.pool_size == 0 || it.connect_timeout_seconds == 0 || it.statement_timeout_seconds == 0 {
            return Err(BadParameters(
                "settings: `pool_size`, `connect_timeout_seconds` and `statement_timeout_seconds` must be at least 1"
                    .into(),
            ));
        }
        Ok(it)
    }

    pub(super) fn holder_host(&self) -> &str {
        self.holder_host.as_deref().unwrap_or(&self.host)
    }

    pub(super) fn holder_port(&self) -> u16 {
        self.holder_port.unwrap_or(self.port)
    }
}

/// The `parameters` of an entitlement on such a target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Fixed roles that the temporary role becomes a member of; they carry the rights.
    pub roles: Vec<String>,
    /// Sessions that the holder may have open at once.
    #[serde(default)]
    pub connection_limit: Option<u16>,
    /// Default `statement_timeout` of the holder's sessions. A default: the holder can set another.
    #[serde(default)]
    pub statement_timeout: Option<Ttl>,
    /// Databases that the holder is pointed to; the target's `databases` without it. What may be connected to is
    /// decided by the fixed roles' rights and `pg_hba.conf`.
    #[serde(default)]
    pub databases: Option<Vec<String>>,
}

impl Parameters {
    /// Read and check an entitlement's parameters.
    pub fn read(parameters: &serde_json::Value, settings: &Settings) -> Result<Self, BadParameters> {
        let mut it: Self = typed(parameters, "parameters")?;
        it.roles.sort_unstable();
        it.roles.dedup();
        if it.roles.is_empty() || it.roles.len() > 32 {
            return Err(BadParameters("parameters: `roles` names 1 to 32 fixed roles".into()));
        }
        for role in &it.roles {
            role_name("parameters: roles", role)?;
            if *role == settings.user {
                return Err(BadParameters(format!(
                    "parameters: `roles` must not name the broker's own login `{role}`"
                )));
            }
        }
        if it.connection_limit == Some(0) {
            return Err(BadParameters("parameters: `connection_limit` must be at least 1".into()));
        }
        if it.databases.as_ref().is_some_and(Vec::is_empty) {
            return Err(BadParameters("parameters: `databases` must not be empty; leave it out instead".into()));
        }
        it.databases.iter().flatten().try_for_each(|d| name("parameters: databases", d))?;
        Ok(it)
    }

    /// Milliseconds for `statement_timeout`, as far as PostgreSQL can count.
    pub(super) fn statement_timeout_ms(&self) -> Option<i32> {
        self.statement_timeout.map(|t| i32::try_from(u64::from(t.seconds()) * 1000).unwrap_or(i32::MAX))
    }
}

fn typed<T: DeserializeOwned>(value: &serde_json::Value, what: &str) -> Result<T, BadParameters> {
    T::deserialize(value).map_err(|e| BadParameters(format!("{what}: {e}")))
}

/// Names from configuration: what people really use, and nothing that could end a quoted identifier.
fn name(field: &str, name: &str) -> Result<(), BadParameters> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.@$".contains(&b);
    if name.is_empty() || name.len() > 63 || !name.bytes().all(plain) {
        return Err(BadParameters(format!(
            "{field}: `{}` is not a name that can be used; 1 to 63 of A-Z a-z 0-9 _ - . @ $",
            name.chars().take(63).collect::<String>().escape_debug()
        )));
    }
    Ok(())
}

fn role_name(field: &str, role: &str) -> Result<(), BadParameters> {
    name(field, role)?;
    if ["public", "none"].contains(&role) || role.starts_with("tg_") {
        return Err(BadParameters(format!("{field}: `{role}` cannot be named here; name a fixed role of your own")));
    }
    Ok(())
}

/// A quoted identifier.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted text. Every connection has `standard_conforming_strings` on, so a backslash means itself.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The comment that makes a role ours: whoever may change it may also drop the role.
pub(super) fn mark_of(mark: &str, grant: GrantId) -> String {
    format!("{mark} grant {grant}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(extra: &serde_json::Value) -> Result<Settings, BadParameters> {
        let mut map = serde_json::Map::new();
        map.insert("host".into(), "db.example.org".into());
        map.insert("user".into(), "tidegate".into());
        map.extend(extra.as_object().unwrap().clone());
        Settings::read(&map)
    }

    #[test]
    fn settings_are_small_and_strict() {
        let it = settings(&json!({"reassign_to": "leftovers"})).unwrap();
        assert_eq!((it.port, it.databases.as_slice(), it.tls), (5432, &["postgres".to_owned()][..], Tls::VerifyFull));
        for bad in [
            json!({}),
            json!({"reassign_to": "a", "drop_owned": true}),
            json!({"drop_owned": true, "password": "hunter2"}),
            json!({"drop_owned": true, "mark": "it's"}),
            json!({"drop_owned": true, "tls": "maybe"}),
            json!({"drop_owned": true, "pool_size": 0}),
            json!({"drop_owned": true, "databases": ["a\"b"]}),
        ] {
            assert!(settings(&bad).is_err(), "{bad}");
        }
        assert!(!settings(&json!({"drop_owned": true, "password": "hunter2"})).unwrap_err().0.contains("hunter2"));
    }

    #[test]
    fn hostile_names_are_refused() {
        let s = settings(&json!({"drop_owned": true})).unwrap();
        for role in ["", "a\"; DROP ROLE x; --", "a'b", "a b", "ro\0le", "é", "public", "none", "tg_x", "tidegate"] {
            assert!(Parameters::read(&json!({"roles": [role]}), &s).is_err(), "{role:?}");
        }
        assert!(Parameters::read(&json!({"roles": ["x".repeat(64)]}), &s).is_err());
        assert!(Parameters::read(&json!({"roles": []}), &s).is_err());
        assert!(Parameters::read(&json!({"roles": ["a"], "superuser": true}), &s).is_err());
        assert!(Parameters::read(&json!({"roles": ["a"], "connection_limit": 0}), &s).is_err());
        let p = Parameters::read(&json!({"roles": ["b", "App-RW", "b"], "statement_timeout": "30s"}), &s).unwrap();
        assert_eq!((p.roles.len(), p.statement_timeout_ms()), (2, Some(30_000)));
    }

    #[test]
    fn quoting_cannot_be_left() {
        assert_eq!(ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's \\"), r"'it''s \'");
    }
}
