//! Identities and groups: who can ask, who can decide.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    id::{GroupId, IdentityId, SourceId},
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

/// How an identity came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made here, by an administrator or an owner.
    #[default]
    Console,
    /// By a SCIM source.
    Scim,
    /// By an HR feed.
    Feed,
    /// At its first login, before any source told of it.
    Jit,
}

impl Origin {
    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Scim => "scim",
            Self::Feed => "feed",
            Self::Jit => "jit",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        [Self::Console, Self::Scim, Self::Feed, Self::Jit].into_iter().find(|o| o.as_str() == s)
    }
}

/// What kind of source it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// It pushes by SCIM.
    Scim,
    /// It is asked by SCIM.
    ScimPull,
    /// A file of people.
    Feed,
}

impl SourceKind {
    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scim => "scim",
            Self::ScimPull => "scim_pull",
            Self::Feed => "feed",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        [Self::Scim, Self::ScimPull, Self::Feed].into_iter().find(|k| k.as_str() == s)
    }
}

/// Where identities come from. What a source owns, only it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// Unique name, in the words of whoever set it up: `okta`, `hr`.
    pub name: String,
    /// How it speaks.
    pub kind: SourceKind,
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
    /// The source that owns it; `None` if it is kept here.
    pub source: Option<SourceId>,
    /// How it came to be.
    pub origin: Origin,
    /// The source's own name for it; unique within the source.
    pub external_id: Option<String>,
    /// The person who answers for a workload or agent if its owner is gone.
    pub backup_owner: Option<IdentityId>,
    /// Since when nobody answers for it.
    pub orphaned_at: Option<Timestamp>,
    /// When the source deleted it: inactive, its name free again.
    pub deleted_at: Option<Timestamp>,
    /// Deactivated by the clock then, unless somebody answers for it: a new owner for an orphan, a source for an
    /// account that was made at its first login.
    pub answer_by: Option<Timestamp>,
}

impl Identity {
    /// An active one that is kept here, with nothing known of it but its name.
    pub fn new(id: IdentityId, kind: IdentityKind, name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            id,
            kind,
            display_name: name.clone(),
            name,
            email: None,
            active: true,
            owner: None,
            contract_end: None,
            attributes: BTreeMap::new(),
            version: 1,
            source: None,
            origin: Origin::Console,
            external_id: None,
            backup_owner: None,
            orphaned_at: None,
            deleted_at: None,
            answer_by: None,
        }
    }

    /// When the clock alone changes it.
    pub fn next_due(&self) -> Option<Timestamp> {
        let ends = [self.contract_end, self.answer_by];
        ends.into_iter().flatten().min().filter(|_| self.active)
    }

    /// Name of the group that a workload or agent belongs to, in lower case: its attribute `team`.
    pub fn team(&self) -> Option<String> {
        let team = self.attributes.get(TEAM).filter(|_| self.kind.is_non_human())?;
        Some(team.trim().to_lowercase()).filter(|t| !t.is_empty())
    }
}

/// The attribute of workloads and agents that names their team, a group.
pub const TEAM: &str = "team";

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
    /// The source that owns it; `None` if it is kept here.
    pub source: Option<SourceId>,
    /// The source's own name for it.
    pub external_id: Option<String>,
    /// Grows with every change of the group or its standing members.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its last change.
    pub updated_at: Timestamp,
}

impl Group {
    /// One that is kept here.
    pub fn new(id: GroupId, name: impl Into<String>, now: Timestamp) -> Self {
        Self { id, name: name.into(), source: None, external_id: None, version: 1, created_at: now, updated_at: now }
    }
}

/// Members of this group administer Tidegate: revoke, lock, attest, see everything.
pub const ADMIN_GROUP: &str = "tidegate-admins";
/// Members of this group see everything and change nothing.
pub const AUDITOR_GROUP: &str = "tidegate-auditors";

/// Is it a group whose members administer or audit this broker?
pub fn is_reserved(group: &str) -> bool {
    [ADMIN_GROUP, AUDITOR_GROUP].contains(&group.to_lowercase().as_str())
}
