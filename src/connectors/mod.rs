//! Adapters to targets, one folder a kind, and the registry that makes one from configuration.
//!
//! Connectors see only `ports` and `domain`. They store nothing: what they need is in a grant's recipe, in the ledger
//! behind `ports::revocations`, or at the target. How to add one: `docs/adding-a-connector.md`.

mod call;
mod copies;
pub mod directory;
pub mod ldap;
pub mod membership;
pub mod postgres;
pub mod scim_group;
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

/// One line a kind.
const REGISTRY: &[(&str, Maker)] = &[
    (directory::KIND, directory::build),
    (ldap::KIND, ldap::build),
    (postgres::KIND, build_postgres),
    (scim_group::KIND, scim_group::build),
    (ssh::KIND, ssh::build),
    (token::KIND, token::build),
    (vault::KIND, vault::build),
];

fn build_postgres(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    match postgres::Postgres::new(&config.settings, Arc::clone(&parts.entropy)) {
        Ok(connector) => Ok(Arc::new(connector)),
        Err(e) => Err(BuildError::settings(config, e.to_string())),
    }
}

/// The names of all kinds of target.
pub fn kinds() -> Vec<&'static str> {
    REGISTRY.iter().map(|(kind, _)| *kind).collect()
}

/// The connector for a target of the configuration.
pub fn build(config: &TargetConfig, parts: &Parts) -> Result<Arc<dyn Connector>, BuildError> {
    match REGISTRY.iter().find(|(kind, _)| *kind == config.kind) {
        Some((_, make)) => make(config, parts),
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
