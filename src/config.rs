//! The configuration file: strict TOML. Secrets are named by file, never written in it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use crate::{
    domain::{
        account::ApplicationConfig, catalog::TargetConfig, jit::JitRule, roster::SourceConfig,
        scim::declared::ExtensionConfig, secret::Secret, time::Ttl,
    },
    oidc,
    ports::identity_provider::IdentityProvider,
};

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
    /// Applications that accounts are kept aligned in.
    #[serde(default, rename = "application")]
    pub applications: Vec<ApplicationConfig>,
    /// Sources of truth that are read.
    #[serde(default, rename = "source")]
    pub sources: Vec<SourceConfig>,
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
    /// What happens to identities by the clock, and when a source is stopped.
    #[serde(default)]
    pub lifecycle: Lifecycle,
    /// Who may have an account made at the first login.
    #[serde(default)]
    pub jit: Vec<JitRule>,
    /// What sources say of people beyond the standard's attributes.
    #[serde(default, rename = "scim_extension")]
    pub scim_extensions: Vec<ExtensionConfig>,
    /// How people sign in to the portal; without it there is none.
    pub sign_in: Option<SignIn>,
}

/// How people sign in to the portal: an OpenID provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Its name, as people know it.
    #[serde(default = "SignIn::default_name")]
    pub name: String,
    /// Its address, exactly as it calls itself; what else there is to know is at `/.well-known/openid-configuration`.
    pub issuer: url::Url,
    /// Our name there.
    pub client_id: String,
    /// File with our secret there; without one we are a public client.
    pub client_secret_file: Option<PathBuf>,
    /// The claim that holds a person's unique name in the directory; without it, the verified e-mail says who it is.
    pub name_claim: Option<String>,
    /// The provider verifies e-mail addresses though it does not say so with `email_verified`.
    #[serde(default)]
    pub trust_email: bool,
    /// Accept a provider on loopback without TLS, for trying things out.
    #[serde(default)]
    pub allow_loopback: bool,
    /// A session that is not used for this long ends; one hour if missing.
    pub idle: Option<Ttl>,
    /// A session ends after this long in any case; twelve hours if missing.
    pub longest: Option<Ttl>,
}

impl SignIn {
    fn default_name() -> String {
        "your identity provider".to_owned()
    }

    /// The provider, ready to be asked.
    pub fn provider(&self) -> Result<Arc<dyn IdentityProvider>, ConfigError> {
        let secret = match &self.client_secret_file {
            None => None,
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).map_err(|source| ConfigError::Read { path: file.clone(), source })?;
                Some(Secret::new(text.trim().to_owned()))
            }
        };
        let settings = oidc::Settings {
            name: self.name.clone(),
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            client_secret: secret,
            name_claim: self.name_claim.clone(),
            trust_email: self.trust_email,
            allow_loopback: self.allow_loopback,
        };
        let provider = oidc::Provider::new(settings).map_err(|e| ConfigError::Unusable(format!("sign_in: {e}")))?;
        Ok(Arc::new(provider))
    }
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
    /// Look for accounts that nobody uses, and for people to be forgotten; every night.
    pub tidy: Option<String>,
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
    /// SCIM requests a second for one source; 5,000. Twice as many at once.
    pub scim_requests_per_second: Option<u32>,
}

/// What happens to identities by the clock, and when a source is stopped; what is missing keeps its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// How long a workload or agent that nobody answers for may go on; 7 days.
    pub orphan_grace: Option<Ttl>,
    /// Whoever answers for an account that was not used for this long is told…; never if missing.
    pub unused_after: Option<Ttl>,
    /// …and so much later it is deactivated; 14 days.
    pub unused_grace: Option<Ttl>,
    /// Also accounts that a source owns, and not only what is kept here or came by a first login.
    #[serde(default)]
    pub unused_of_sources: bool,
    /// What is known of people is forgotten so long after they are gone; never if missing.
    pub erase_after: Option<Ttl>,
    /// Of a source, whoever is more than so many of a hundred of its people…; 10.
    pub departures_percent: Option<u32>,
    /// …and at least the so-many-eth…; 5.
    pub departures_least: Option<u64>,
    /// …to leave within this waits until somebody accepts; 1 hour.
    pub departures_window: Option<Ttl>,
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
        if let Some(fault) = config.jit.iter().find_map(JitRule::fault) {
            return Err(ConfigError::Unusable(fault));
        }
        if let Some(sign_in) = &mut config.sign_in {
            sign_in.client_secret_file = sign_in.client_secret_file.take().map(|file| base.join(file));
        }
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
        let settings = config.targets.iter_mut().map(|t| &mut t.settings);
        let settings = settings.chain(config.applications.iter_mut().map(|a| &mut a.settings));
        let settings = settings.chain(config.sources.iter_mut().map(|s| &mut s.settings));
        for settings in settings {
            place_files(settings, base);
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

/// Settings called `…_file`, in whatever table, name files beside the configuration.
fn place_files(settings: &mut serde_json::Map<String, serde_json::Value>, base: &Path) {
    for (name, value) in settings {
        match value {
            serde_json::Value::String(file) if name.ends_with("_file") => {
                *file = base.join(&*file).to_string_lossy().into_owned();
            }
            serde_json::Value::Object(table) => place_files(table, base),
            _ => {}
        }
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
             [target.settings]\npassword_file = \"secret\"\n\
             [target.settings.broker]\ncredentials_file = \"keys\"\n",
        )
        .unwrap();
        let config = Config::read(&file).unwrap();
        assert_eq!(config.data_dir, dir.path().join("data"));
        assert_eq!(config.targets[0].settings["password_file"], dir.path().join("secret").to_string_lossy().as_ref());
        assert_eq!(
            config.targets[0].settings["broker"]["credentials_file"],
            dir.path().join("keys").to_string_lossy().as_ref()
        );
        assert!(config.database_url().unwrap().ends_with("data/tidegate.db?mode=rwc"));
    }
}
