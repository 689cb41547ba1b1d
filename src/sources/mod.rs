//! Adapters to sources of truth that are asked: feeds, and directories that are read by SCIM.
//!
//! They say who exists and decide nothing.

mod feed;
mod pull;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::{
    domain::{identity::SourceKind, roster::SourceConfig},
    ports::{clock::Clock, roster::Roster},
};

/// A source of the configuration that cannot be asked. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("source `{source_id}`: {text}")]
pub struct BuildError {
    source_id: String,
    text: String,
}

impl BuildError {
    fn new(config: &SourceConfig, text: impl Into<String>) -> Self {
        Self { source_id: config.id.to_string(), text: text.into() }
    }
}

/// What reads a source of the configuration.
pub fn build(config: &SourceConfig, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Roster>, BuildError> {
    match config.kind {
        SourceKind::Feed => Ok(Arc::new(feed::Feed::new(config)?)),
        SourceKind::ScimPull => Ok(Arc::new(pull::Pull::new(config, Arc::clone(clock))?)),
        SourceKind::Scim => {
            Err(BuildError::new(config, "a `scim` source pushes and has no place here; the kinds are feed, scim_pull"))
        }
    }
}

fn settings<T: DeserializeOwned>(config: &SourceConfig) -> Result<T, BuildError> {
    serde_json::from_value(serde_json::Value::Object(config.settings.clone()))
        .map_err(|e| BuildError::new(config, format!("settings: {e}")))
}

fn needs(config: &SourceConfig, facts: &[&str]) -> Result<(), BuildError> {
    match facts.iter().find(|fact| !config.mapping.contains_key(**fact)) {
        Some(fact) => Err(BuildError::new(config, format!("`mapping` must say which column is `{fact}`"))),
        None => Ok(()),
    }
}
