//! What policy needs to know of the configuration: targets, declared attributes. Policy never speaks to a target.

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use crate::{
    domain::{
        capability::{Description, RevocationClass, Rights},
        scim::declared::FactKind,
    },
    ports::connector::BadParameters,
};

/// The targets that entitlements can be on. The composition root answers from its connectors.
pub trait TargetDirectory: Send + Sync {
    /// What the target's connector promises; `None` if there is no such target.
    fn describe(&self, target: &str) -> Option<Description>;

    /// Can an entitlement on the target have these parameters?
    fn validate(&self, target: &str, parameters: &Value) -> Result<(), BadParameters>;

    /// Attributes of identities that were declared, by the name that policies call them.
    fn declared(&self) -> BTreeMap<String, FactKind> {
        BTreeMap::new()
    }
}

impl fmt::Debug for dyn TargetDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TargetDirectory")
    }
}

/// Takes every target and all parameters: for tools that look at policy files without a configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct UncheckedTargets;

impl TargetDirectory for UncheckedTargets {
    fn describe(&self, _target: &str) -> Option<Description> {
        Some(described("unknown", true))
    }

    fn validate(&self, _target: &str, _parameters: &Value) -> Result<(), BadParameters> {
        Ok(())
    }
}

/// Targets by name, without a check of parameters: for tests and tools.
#[derive(Debug, Clone, Default)]
pub struct NamedTargets(BTreeMap<String, Description>);

impl NamedTargets {
    /// Add a target of that kind, with or without native expiry.
    #[must_use]
    pub fn with(mut self, target: &str, kind: &str, native_expiry: bool) -> Self {
        self.0.insert(target.to_owned(), described(kind, native_expiry));
        self
    }

    /// The targets that the shipped catalog is for.
    pub fn seed() -> Self {
        Self::default().with("dev-token", "token", true).with("dev-ssh", "ssh", true).with(
            "dev-directory",
            "directory",
            true,
        )
    }
}

impl TargetDirectory for NamedTargets {
    fn describe(&self, target: &str) -> Option<Description> {
        self.0.get(target).cloned()
    }

    fn validate(&self, _target: &str, _parameters: &Value) -> Result<(), BadParameters> {
        Ok(())
    }
}

fn described(kind: &str, native_expiry: bool) -> Description {
    Description {
        kind: kind.to_owned(),
        summary: String::new(),
        revocation_class: RevocationClass::Immediate,
        native_expiry,
        read_back: true,
        cuts_sessions: true,
        mints_secrets: true,
        replaces_copies: true,
        residual_window_seconds: 0,
        residual_window: String::new(),
        enforcement_seconds: 5,
        rights: Rights::default(),
        after_crash: String::new(),
    }
}
