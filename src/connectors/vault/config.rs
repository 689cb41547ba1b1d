//! Settings of a target and parameters of an entitlement.
//!
//! Never holds a secret: the broker's token is named by a file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{
    domain::{catalog::TargetConfig, id::GrantId},
    ports::connector::BadParameters,
};

use super::super::BuildError;

/// Where the broker's own token is read, at every call: an agent may replace it at any time.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://vault.example.org:8200`, without a path.
    pub address: Url,
    /// File with the broker's token.
    #[serde(default)]
    token_file: Option<PathBuf>,
    /// Or the environment variable that names that file.
    #[serde(default)]
    token_file_env: Option<String>,
    /// The namespace that everything is in, where the server has namespaces.
    #[serde(default)]
    pub namespace: Option<String>,
    /// PEM file of the authority that signed the server's certificate; the system's authorities without it.
    #[serde(default)]
    pub tls_root_cert: Option<PathBuf>,
    /// Two brokers on one server need two marks, or each takes the other's grants for orphans.
    #[serde(default = "Settings::default_mark")]
    pub mark: String,
    /// Address that holders are told, where it differs from the broker's.
    #[serde(default)]
    pub holder_address: Option<Url>,
}

impl Settings {
    fn default_mark() -> String {
        "tidegate".into()
    }

    /// Read and check a target's settings.
    pub fn read(config: &TargetConfig) -> Result<Self, BuildError> {
        let it: Self = super::super::settings(config)?;
        let wrong = |text: &str| Err(BuildError::settings(config, format!("settings: {text}")));
        if !matches!(it.address.scheme(), "http" | "https") || !matches!(it.address.path(), "" | "/") {
            return wrong("`address` is the server's URL without a path: https://vault.example.org:8200");
        }
        let urls = [Some(&it.address), it.holder_address.as_ref()];
        if urls.into_iter().flatten().any(|url| !url.username().is_empty() || url.password().is_some()) {
            return wrong(
                "`address` and `holder_address` hold no name and no password: the broker's token is in a file",
            );
        }
        let local = it.address.host_str().is_some_and(|h| ["localhost", "127.0.0.1", "[::1]"].contains(&h));
        if it.address.scheme() == "http" && !local {
            return wrong("`address` must be https: the broker's token and every secret travel on it");
        }
        if it.token_file.is_some() == it.token_file_env.is_some() {
            return wrong("say where the broker's token is read: either `token_file` or `token_file_env`");
        }
        if !is_mark(&it.mark) {
            return wrong("`mark` is 2 to 40 characters of a-z, 0-9 and `-`, and begins and ends with none of `-`");
        }
        Ok(it)
    }

    /// The file with the broker's token.
    pub fn token_path(&self, config: &TargetConfig) -> Result<PathBuf, BuildError> {
        match (&self.token_file, &self.token_file_env) {
            (Some(path), _) => Ok(path.clone()),
            (None, Some(name)) => std::env::var_os(name).map(PathBuf::from).ok_or_else(|| {
                let text = format!("settings: `token_file_env`: the environment has no variable `{name}`");
                BuildError::settings(config, text)
            }),
            (None, None) => Err(BuildError::settings(config, "settings: `token_file` is missing")),
        }
    }
}

/// Becomes part of a path at the server.
pub(super) fn is_mark(mark: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (2..=40).contains(&mark.len())
        && mark.bytes().all(|b| plain(b) || b == b'-')
        && !mark.starts_with('-')
        && !mark.ends_with('-')
}

/// The `parameters` of an entitlement on such a target.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Where the dynamic secret is read: `database/creds/orders-ro`.
    pub path: String,
    /// Policies of the grant's token; they must allow `path`, and need allow nothing else.
    pub policies: Vec<String>,
    /// Sent to `path`, which is then written to instead of read: `{ common_name = "…" }`.
    #[serde(default)]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    /// Fields of the answer that are no secrets.
    #[serde(default = "Parameters::default_public")]
    pub public: Vec<String>,
}

impl Parameters {
    fn default_public() -> Vec<String> {
        ["username", "serial_number", "access_key", "expiration"].map(str::to_owned).to_vec()
    }

    /// Read and check an entitlement's parameters.
    pub fn read(parameters: &serde_json::Value) -> Result<Self, BadParameters> {
        let it: Self = super::super::parameters(parameters)?;
        if !is_path(&it.path) {
            return Err(BadParameters(
                "`path` is where a dynamic secret is read, without `/v1/`: `database/creds/orders-ro`; it cannot be \
                 below `sys/` or `auth/`"
                    .into(),
            ));
        }
        let plain =
            |p: &String| !p.is_empty() && p.len() <= 128 && p.bytes().all(|b| b.is_ascii_graphic() && b != b',');
        if it.policies.is_empty() || it.policies.len() > 16 || !it.policies.iter().all(plain) {
            return Err(BadParameters("`policies` names 1 to 16 policies of the server".into()));
        }
        if it.policies.iter().any(|p| p == "root") {
            return Err(BadParameters("`policies`: `root` is power over the whole server and over Tidegate".into()));
        }
        Ok(it)
    }
}

/// Part of a URL; no way around, up or into the server's own business.
pub(super) fn is_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    path.len() <= 256
        && path.contains('/')
        && path.split('/').all(|s| !s.is_empty() && s.bytes().all(plain) && !s.starts_with('.'))
        && !["sys", "auth", "identity", "cubbyhole"].contains(&path.split('/').next().unwrap_or_default())
}

/// What a recipe holds: which tokens are the grant's, and where their leases are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Data {
    /// The mark, which is part of the path of every token.
    pub mark: String,
    /// Where the secrets are read.
    pub paths: Vec<String>,
}

/// A recipe, read back and checked: everything in it becomes part of paths.
#[derive(Debug)]
pub(super) struct Plan {
    /// Name of the token role: `tg-<ulid>`.
    pub role: String,
    /// The grant.
    pub grant: GrantId,
    /// What else it holds.
    pub data: Data,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(settings: &serde_json::Value) -> Result<Settings, BuildError> {
        let config = json!({"id": "t", "kind": "vault", "settings": settings});
        Settings::read(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn settings_are_refused_with_what_is_wanted() {
        let good = json!({"address": "https://vault.example.org:8200", "token_file": "/run/token"});
        assert!(settings(&good).is_ok());
        for (name, value, wanted) in [
            ("address", json!("http://vault.example.org:8200"), "https"),
            ("address", json!("https://vault.example.org/v1/"), "without a path"),
            ("token_file_env", json!("TOKEN"), "either"),
            ("mark", json!("-"), "mark"),
            ("colour", json!("blue"), "colour"),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            let text = settings(&bad).unwrap_err().to_string();
            assert!(text.contains(wanted), "{text}");
        }
        assert!(settings(&json!({"address": "http://127.0.0.1:8200", "token_file": "/run/token"})).is_ok());
    }

    #[test]
    fn parameters_cannot_reach_around() {
        let good = json!({"path": "database/creds/ro", "policies": ["ro"]});
        assert!(Parameters::read(&good).is_ok());
        for path in
            ["sys/policies/acl/x", "auth/token/create", "../sys", "database", "/database/creds/x", "a/../sys/x", "a//b"]
        {
            assert!(Parameters::read(&json!({"path": path, "policies": ["ro"]})).is_err(), "{path}");
        }
        for policies in [json!([]), json!(["root"]), json!(["a,root"]), json!([""])] {
            assert!(
                Parameters::read(&json!({"path": "database/creds/ro", "policies": policies})).is_err(),
                "{policies}"
            );
        }
    }
}
