//! The catalog: what can be granted, on which target, with which limits.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{slack::SlackDecision, time::Ttl};

/// Name of a target, as in configuration: `prod-db`.
pub type TargetId = Arc<str>;
/// Name of an entitlement, as in the catalog: `prod-db:readwrite`.
pub type EntitlementId = Arc<str>;

/// One line of the catalog: a thing that can be granted on a target, with its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entitlement {
    /// Its name, unique in the catalog; at most 100 characters of `[A-Za-z0-9._:/-]`.
    pub id: EntitlementId,
    /// The target that it is on.
    pub target: TargetId,
    /// One line for people.
    pub title: String,
    /// What it lets its holder do.
    pub description: String,
    /// What the connector needs to know: roles, scopes, principals, group.
    pub parameters: serde_json::Value,
    /// Duration when none is asked for.
    pub default_ttl: Ttl,
    /// Longest duration that can be asked for.
    pub max_ttl: Ttl,
    /// 0 harmless … 4 crown jewels.
    pub sensitivity: u8,
    /// Names of the groups whose members approve.
    pub approvers: Vec<String>,
    /// Accept a target that cannot end the access by itself with the broker dead (promise P2).
    pub allow_no_backstop: bool,
    /// Bound on claims of one grant; `None` where a second claim ends the first copy.
    pub max_claims: Option<u32>,
    /// How long a request may wait for approval.
    pub approval_timeout: Ttl,
    /// How far a click in Slack decides on it.
    pub slack_decision: SlackDecision,
    /// Whoever approves has shown the identity provider who they are within this time, in the portal.
    pub step_up: Option<Ttl>,
    /// Free labels for search and policy.
    pub labels: BTreeMap<String, String>,
}

/// All entitlements, by id.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Sorted by id.
    pub entitlements: BTreeMap<EntitlementId, Arc<Entitlement>>,
}

impl Catalog {
    /// The entitlement of that name.
    pub fn get(&self, id: &str) -> Option<&Arc<Entitlement>> {
        self.entitlements.get(id)
    }
}

/// A target as configuration knows it. Its `settings` belong to the connector and may name secret files, never secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// Its name.
    pub id: TargetId,
    /// Which connector speaks to it.
    pub kind: String,
    /// Calls in flight at once.
    #[serde(default = "TargetConfig::default_concurrency")]
    pub concurrency: u32,
    /// Seconds after which one call is given up.
    #[serde(default = "TargetConfig::default_timeout")]
    pub timeout_seconds: u32,
    /// The connector's own settings.
    #[serde(default)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

impl TargetConfig {
    const fn default_concurrency() -> u32 {
        16
    }

    const fn default_timeout() -> u32 {
        10
    }
}
