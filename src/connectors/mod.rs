//! Adapters to targets, one folder a kind, and the registry that makes one from configuration.
//!
//! Connectors see only `ports` and `domain`. They store nothing: what they need is in a grant's recipe, in the ledger
//! behind `ports::revocations`, or at the target. How to add one: `docs/adding-a-connector.md`.

mod aws;
pub mod aws_iam_group;
pub mod aws_sts;
mod call;
mod copies;
pub mod directory;
pub mod ldap;
pub mod membership;
pub mod postgres;
pub mod scim_group;
pub mod sheet;
pub mod ssh;
pub mod token;
pub mod vault;

#[cfg(any(test, feature = "failpoints"))]
pub mod conformance;
#[cfg(any(test, feature = "failpoints"))]
pub mod fakes;
#[cfg(any(test, feature = "failpoints"))]
pub mod faulty;

use std::{path::PathBuf, sync::Arc};

use serde::de::DeserializeOwned;

use crate::{
    domain::catalog::TargetConfig,
    ports::{
        clock::Clock,
        connector::{BadParameters, Connector},
        directory::Directory,
        entropy::Entropy,
        holdings::Holdings,
        revocations::Revocations,
        signer::{KeyVault, Signer},
    },
};

/// What connectors are made of. Each takes what it needs.
#[derive(Clone)]
pub struct Parts {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Signs tokens.
    pub signer: Arc<dyn Signer>,
    /// The built-in directory.
    pub directory: Arc<dyn Directory>,
    /// What the ledger knows of minted credentials.
    pub revocations: Arc<dyn Revocations>,
    /// What the ledger knows of grants that share a membership.
    pub holdings: Arc<dyn Holdings>,
    /// SSH certificate authorities.
    pub keys: Arc<dyn KeyVault>,
    /// Where a connector may publish files, in a folder of its kind.
    pub data_dir: PathBuf,
    /// The ledger may be a restored or cloned one: publish nothing from it before somebody says go.
    pub observing: bool,
}

/// A target of the configuration that no connector can be made for. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// No such kind.
    #[error("target `{target}`: there is no connector `{kind}`; the kinds are {}", kinds().join(", "))]
    Kind {
        /// The target.
        target: String,
        /// What it says.
        kind: String,
    },
    /// A setting is unknown, missing or of no use.
    #[error("target `{target}`: {text}")]
    Settings {
        /// The target.
        target: String,
        /// What is wrong.
        text: String,
    },
}

impl BuildError {
    /// A setting of this target is of no use.
    pub fn settings(config: &TargetConfig, text: impl Into<String>) -> Self {
        Self::Settings { target: config.id.to_string(), text: text.into() }
    }
}

type Maker = fn(&TargetConfig, &Parts) -> Result<Arc<dyn Connector>, BuildError>;

/// A kind of target that there is a connector for.
pub struct Kind {
    /// As in configuration.
    pub name: &'static str,
    /// The sheet's prose; see [`sheet`].
    pub sheet: &'static str,
    make: Maker,
}

/// One line a kind, in alphabetical order.
pub const KINDS: &[Kind] = &[
    Kind { name: aws_iam_group::KIND, make: aws_iam_group::build, sheet: include_str!("aws_iam_group/sheet.md") },
    Kind { name: aws_sts::KIND, make: aws_sts::build, sheet: include_str!("aws_sts/sheet.md") },
    Kind { name: directory::KIND, make: directory::build, sheet: include_str!("directory/sheet.md") },
    Kind { name: ldap::KIND, make: ldap::build, sheet: include_str!("ldap/sheet.md") },
    Kind { name: postgres::KIND, make: build_postgres, sheet: include_str!("postgres/sheet.md") },
    Kind { name: scim_group::KIND, make: scim_group::build, sheet: include_str!("scim_group/sheet.md") },
    Kind { name: ssh::KIND, make: ssh::build, sheet: include_str!("ssh/sheet.md") },
    Kind { name: token::KIND, make: token::build, sheet: include_str!("token/sheet.md") },
    Kind { name: vault::KIND, make: vault::build, sheet: include_str!("vault/sheet.md") },
];

fn build_postgres(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    match postgres::Postgres::new(&config.settings, Arc::clone(&parts.entropy)) {
        Ok(connector) => Ok(Arc::new(connector)),
        Err(e) => Err(BuildError::settings(config, e.to_string())),
    }
}

/// The names of all kinds of target.
pub fn kinds() -> Vec<&'static str> {
    KINDS.iter().map(|kind| kind.name).collect()
}

/// The connector for a target of the configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    match KINDS.iter().find(|kind| kind.name == config.kind) {
        Some(kind) => (kind.make)(config, parts),
        None => Err(BuildError::Kind { target: config.id.to_string(), kind: config.kind.clone() }),
    }
}

/// A target's settings as the connector's type, which denies unknown fields and so names the known ones.
pub(crate) fn settings<T: DeserializeOwned>(config: &TargetConfig) -> Result<T, BuildError> {
    serde_json::from_value(serde_json::Value::Object(config.settings.clone()))
        .map_err(|e| BuildError::settings(config, format!("settings: {e}")))
}

/// An entitlement's parameters as the connector's type, which denies unknown fields and so names the known ones.
pub(crate) fn parameters<T: DeserializeOwned>(parameters: &serde_json::Value) -> Result<T, BadParameters> {
    serde_json::from_value(parameters.clone()).map_err(|e| BadParameters(format!("parameters: {e}")))
}
