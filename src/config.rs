//! The configuration file: strict TOML. Secrets are named by file, never written in it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::domain::{catalog::TargetConfig, time::Ttl};

/// What `tidegate serve` reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; loopback unless a TLS-terminating proxy stands in front.
    #[serde(default = "Config::default_listen")]
    pub listen: SocketAddr,
    /// A proxy stands in front that sets `X-Forwarded-For`: its last entry is the client's address.
    #[serde(default)]
    pub behind_proxy: bool,
    /// How others reach this server; goes into tokens as `iss`.
    pub public_url: Option<url::Url>,
    /// `sqlite:///path` or `postgres://…`; an SQLite file in `data_dir` if missing. A password belongs into
    /// `database_password_file` or `~/.pgpass`.
    pub database: Option<String>,
    /// File with the database password.
    pub database_password_file: Option<PathBuf>,
    /// Keys and the embedded database.
    #[serde(default = "Config::default_data_dir")]
    pub data_dir: PathBuf,
    /// Directory with `catalog.toml`, rules and schema.
    #[serde(default = "Config::default_policies")]
    pub policies: PathBuf,
    /// Targets.
    #[serde(default, rename = "target")]
    pub targets: Vec<TargetConfig>,
    /// Where notifications go.
    #[serde(default, rename = "notifier")]
    pub notifiers: Vec<NotifierConfig>,
    /// Slack.
    pub slack: Option<SlackConfig>,
    /// When periodic tasks run.
    #[serde(default)]
    pub schedules: Schedules,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
}

/// One notifier.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum NotifierConfig {
    /// A log line for each message.
    Log,
    /// Standard Webhooks with CloudEvents.
    Webhook {
        /// Its name in the outbox.
        name: String,
        /// Where to post.
        url: url::Url,
        /// File with one or more `whsec_…` lines.
        secret_file: PathBuf,
        /// Accept a loopback URL, for trying things out.
        #[serde(default)]
        allow_loopback: bool,
    },
}

/// Slack. Tokens and secrets are in files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackConfig {
    /// Id of the app, `A…`.
    pub app_id: String,
    /// Id of the channel in which requests are shown, `C…`.
    pub channel: String,
    /// File with the bot token, `xoxb-…`.
    pub bot_token_file: PathBuf,
    /// File with the app-level token, `xapp-…`: opens a socket, and nothing has to be reachable from outside.
    pub app_token_file: Option<PathBuf>,
    /// File with the signing secret: for request URLs.
    pub signing_secret_file: Option<PathBuf>,
    /// Another base of the Web API than Slack's own.
    pub api: Option<url::Url>,
    /// Accept a loopback URL for it, for trying things out.
    #[serde(default)]
    pub allow_loopback: bool,
    /// Members of this group who may decide are asked at once by direct message.
    pub on_call_group: Option<String>,
    /// If nobody decided by then, everybody who may decide is asked; 15 minutes if missing.
    pub escalate_after: Option<Ttl>,
    /// The same person is asked again after this long at the earliest; 30 minutes if missing.
    pub remind_every: Option<Ttl>,
    /// Unique names of people who are never asked by direct message.
    #[serde(default)]
    pub quiet: std::collections::BTreeSet<String>,
}

/// Cron expressions, five fields, UTC.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedules {
    /// Compare every target with the ledger.
    pub sweep: Option<String>,
    /// Delete old idempotency keys, delivered messages, expired token revocations.
    pub prune: Option<String>,
}

/// Bounds; what is missing keeps its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests one identity may have pending.
    pub max_pending: Option<u32>,
    /// Grants one identity may hold at once.
    pub max_live_grants: Option<u32>,
    /// Lifetime of workloads' access tokens.
    pub access_token_ttl: Option<Ttl>,
    /// Seconds beyond three times a target's time-out after which a broker that works on a grant is taken for dead,
    /// and its work is done again. Brokers' clocks may differ by less than that.
    pub lease_slack_seconds: Option<u32>,
    /// API requests a second for one caller.
    pub requests_per_second: Option<u32>,
}

impl Limits {
    /// As a duration.
    pub fn lease_slack(&self) -> Option<std::time::Duration> {
        self.lease_slack_seconds.map(|s| std::time::Duration::from_secs(u64::from(s)))
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{path}: {problem}")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, column and what is wrong.
        problem: String,
    },
    /// Something in it is of no use.
    #[error("{0}")]
    Unusable(String),
}

impl Config {
    fn default_listen() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 8420))
    }

    fn default_data_dir() -> PathBuf {
        PathBuf::from("/var/lib/tidegate")
    }

    fn default_policies() -> PathBuf {
        PathBuf::from("/etc/tidegate/policies")
    }

    /// Read a file. Relative paths in it are relative to it.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let mut config: Self =
            toml::from_str(&text).map_err(|e| ConfigError::Parse { path: path.to_owned(), problem: e.to_string() })?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        config.data_dir = base.join(&config.data_dir);
        config.policies = base.join(&config.policies);
        config.database_password_file = config.database_password_file.map(|file| base.join(file));
        for notifier in &mut config.notifiers {
            if let NotifierConfig::Webhook { secret_file, .. } = notifier {
                *secret_file = base.join(&*secret_file);
            }
        }
        if let Some(slack) = &mut config.slack {
            slack.bot_token_file = base.join(&slack.bot_token_file);
            for file in [&mut slack.app_token_file, &mut slack.signing_secret_file].into_iter().flatten() {
                *file = base.join(&*file);
            }
        }
        for target in &mut config.targets {
            for (name, value) in &mut target.settings {
                if name.ends_with("_file")
                    && let Some(file) = value.as_str()
                {
                    *value = base.join(file).to_string_lossy().into_owned().into();
                }
            }
        }
        Ok(config)
    }

    /// The URL of the ledger, with the password from its file.
    pub fn database_url(&self) -> Result<String, ConfigError> {
        let Some(given) = &self.database else {
            return Ok(format!("sqlite://{}?mode=rwc", self.data_dir.join("tidegate.db").display()));
        };
        let Some(file) = &self.database_password_file else { return Ok(given.clone()) };
        let password =
            std::fs::read_to_string(file).map_err(|source| ConfigError::Read { path: file.clone(), source })?;
        let unusable = |_| ConfigError::Unusable("`database` is not a URL".to_owned());
        let mut url = url::Url::parse(given).map_err(unusable)?;
        url.set_password(Some(password.trim()))
            .map_err(|()| ConfigError::Unusable("`database` cannot carry a password".to_owned()))?;
        Ok(url.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_is_named_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\n\nlisten_on = 1\n").unwrap();
        let error = Config::read(&file).unwrap_err().to_string();
        assert!(error.contains("listen_on") && error.contains("line 3"), "{error}");
    }

    #[test]
    fn relative_paths_are_relative_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.toml");
        std::fs::write(
            &file,
            "data_dir = \"data\"\npolicies = \"rules\"\n[[target]]\nid = \"db\"\nkind = \"postgres\"\n\
             [target.settings]\npassword_file = \"secret\"\n",
        )
        .unwrap();
        let config = Config::read(&file).unwrap();
        assert_eq!(config.data_dir, dir.path().join("data"));
        assert_eq!(config.targets[0].settings["password_file"], dir.path().join("secret").to_string_lossy().as_ref());
        assert!(config.database_url().unwrap().ends_with("data/tidegate.db?mode=rwc"));
    }
}
