//! Identities and groups: who can ask, who can decide.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    id::{GroupId, IdentityId},
    time::Timestamp,
};

/// What kind of identity it is. Workloads and agents have an accountable person as owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// A human being.
    Person,
    /// A service or CI job.
    Workload,
    /// An AI agent.
    Agent,
}

impl IdentityKind {
    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Workload => "workload",
            Self::Agent => "agent",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        [Self::Person, Self::Workload, Self::Agent].into_iter().find(|k| k.as_str() == s)
    }

    /// True for workloads and agents.
    pub const fn is_non_human(self) -> bool {
        !matches!(self, Self::Person)
    }
}

/// A person, workload or agent of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id, for ever.
    pub id: IdentityId,
    /// Person, workload or agent.
    pub kind: IdentityKind,
    /// Unique name (SCIM `userName`); compared case-insensitively.
    pub name: String,
    /// Name for people to read.
    pub display_name: String,
    /// Work e-mail, if known.
    pub email: Option<String>,
    /// False once deactivated: nothing is granted to or decided by it.
    pub active: bool,
    /// The accountable person of a workload or agent.
    pub owner: Option<IdentityId>,
    /// Hard end of the relationship; no grant reaches beyond it.
    pub contract_end: Option<Timestamp>,
    /// Facts from the source of truth (department, title, employment…) as flat text values.
    pub attributes: BTreeMap<String, String>,
    /// Grows with every change of the identity or its memberships; caches key on it.
    pub version: i64,
}

/// An identity with the names of the groups it is in right now, standing or temporary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The identity.
    pub identity: Identity,
    /// Names of its groups, in lower case: group names are compared without case.
    pub groups: BTreeSet<String>,
}

impl Subject {
    /// Is the identity in the group of that name?
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.contains(group)
    }
}

/// A group of the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its id.
    pub id: GroupId,
    /// Unique name; compared case-insensitively.
    pub name: String,
}

/// Members of this group administer Tidegate: revoke, lock, attest, see everything.
pub const ADMIN_GROUP: &str = "tidegate-admins";
/// Members of this group see everything and change nothing.
pub const AUDITOR_GROUP: &str = "tidegate-auditors";
