//! Adapters to downstream applications, and the registry that makes one from configuration.
//!
//! They see only `ports`, `domain` and the client they speak through, and store nothing.

pub mod mdm;
pub mod scim;

use std::sync::Arc;

use crate::{
    domain::account::{ApplicationConfig, MANUAL},
    ports::{application::Application, clock::Clock},
};

/// An application of the configuration that cannot be spoken to. The text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("application `{application}`: {text}")]
pub struct BuildError {
    application: String,
    text: String,
}

impl BuildError {
    /// Something of this application is of no use.
    pub fn new(config: &ApplicationConfig, text: impl Into<String>) -> Self {
        Self { application: config.id.to_string(), text: text.into() }
    }
}

/// What speaks to an application of the configuration; `None` if people keep it by hand.
pub fn build(config: &ApplicationConfig, clock: &Arc<dyn Clock>) -> Result<Option<Arc<dyn Application>>, BuildError> {
    if config.role_task.is_some() && config.owner.is_none() {
        return Err(BuildError::new(config, "`owner` is missing: who does the `role_task`?"));
    }
    match config.kind.as_str() {
        scim::KIND => Ok(Some(Arc::new(scim::ScimApplication::new(config, Arc::clone(clock))?))),
        mdm::KIND => Ok(Some(Arc::new(mdm::DeviceManager::new(config, clock)?))),
        MANUAL => {
            if config.owner.is_none() {
                return Err(BuildError::new(config, "`owner` is missing: who does the tasks?"));
            }
            Ok(None)
        }
        other => Err(BuildError::new(config, format!("there is no kind `{other}`; the kinds are scim, mdm, {MANUAL}"))),
    }
}
