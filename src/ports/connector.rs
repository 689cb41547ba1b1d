//! The connector port: how the core speaks to one kind of target.
//!
//! A connector stores nothing. What it needs to take access away is in the [`Recipe`], which [`Connector::prepare`]
//! makes and the ledger keeps. Every call may be repeated; "not found" while revoking is done.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::domain::{
    capability::Description,
    catalog::EntitlementId,
    grant::{Claim, Intent, Recipe},
    id::{GrantId, IdentityId},
    secret::Minted,
};

/// Why a call to a target did not succeed. The text is free of secrets and fit for the audit log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The target said no, and will again: the entitlement or the broker's rights are wrong.
    #[error("the target refused: {0}")]
    Refused(String),
    /// The target could not be asked, or did not answer: try again later.
    #[error("the target is unavailable: {0}")]
    Unavailable(String),
    /// The target is there, and is not ours to change: a foreign object bears our name.
    #[error("an object that is not ours is in the way: {0}")]
    Foreign(String),
}

impl Fault {
    /// Is another try of the same call of use?
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

/// What is to be opened, before the intent exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The grant to be.
    pub grant: GrantId,
    /// Who will hold it.
    pub holder: IdentityId,
    /// The holder's unique name.
    pub holder_name: String,
    /// The entitlement.
    pub entitlement: EntitlementId,
    /// The entitlement's parameters.
    pub parameters: serde_json::Value,
}

/// A field of the evidence of a [`Presence::Present`]: the access is there, and what should end it by itself, or what
/// limits it, is not as it was made. A sweep reports it.
pub const DRIFT: &str = "drift";

/// What the target answered when it was asked whether the access is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Gone. The evidence goes to the audit log. Only what was seen may be said: a target that hides what the broker
    /// may not see answers as one that holds nothing, and is [`Presence::Unknown`].
    Absent(serde_json::Value),
    /// Still there.
    Present(serde_json::Value),
    /// It could not be told.
    Unknown(String),
}

/// Something at the target that bears our mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name at the target.
    pub object: String,
    /// The grant that the name leads to.
    pub grant: GrantId,
    /// When the target itself will end it, if it says so.
    pub native_expiry: Option<crate::domain::time::Timestamp>,
    /// What to put in a recipe to end it without a ledger row.
    pub data: serde_json::Value,
}

/// One thing that `targets check` looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What was looked at: `reachable`, `may create roles`.
    pub name: String,
    /// Is it as it should be?
    pub ok: bool,
    /// What was seen.
    pub detail: String,
    /// What to do about it, as a command or statement to copy, if it is not.
    pub fix: Option<String>,
}

/// Parameters or settings that a connector cannot use; the text names the field and what it wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadParameters(pub String);

/// A file that a target's verifiers fetch: a revocation list, a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Media type.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
}

/// Speaks to one target.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What this connector promises of its target.
    fn describe(&self) -> Description;

    /// Can an entitlement have these parameters? Asked when the catalog is loaded.
    fn validate(&self, parameters: &serde_json::Value) -> Result<(), BadParameters>;

    /// Is the target reachable, and are the broker's rights there enough?
    async fn check(&self) -> Vec<Finding>;

    /// Read the prior state and say how the grant would be taken away. Changes nothing.
    async fn prepare(&self, wish: &Wish) -> Result<Recipe, Fault>;

    /// Open the access, or adopt what an earlier try left, or move its native expiry to `not_after`.
    /// Answers what the target reported.
    async fn activate(&self, intent: &Intent) -> Result<serde_json::Value, Fault>;

    /// Mint a credential. A later claim ends the copy of an earlier one, where the target can.
    async fn mint(&self, intent: &Intent, claim: &Claim) -> Result<Minted, Fault>;

    /// Take the access away: deny new, cut live sessions, clean what it owns, delete.
    async fn revoke(&self, recipe: &Recipe) -> Result<(), Fault>;

    /// Ask the target whether the access is gone.
    async fn verify(&self, recipe: &Recipe) -> Presence;

    /// List what bears our mark.
    async fn sweep(&self) -> Result<Vec<Found>, Fault>;

    /// Does every live grant leave an object at the target that [`Connector::sweep`] lists, claimed or not? If so, one
    /// that is not there is drift.
    fn leaves_objects(&self) -> bool {
        true
    }

    /// What of the target this connector takes for its own, each as a path from the whole to the part: server, base,
    /// mark. Two targets of one broker on the same place, or one within the other, would take each other's access for
    /// orphans, or count grants on one membership apart: that is refused at the start.
    fn places(&self) -> Vec<Vec<String>> {
        Vec::new()
    }

    /// A file for the target's verifiers, by name: `krl`, `ca.pub`.
    async fn publication(&self, _name: &str) -> Option<Publication> {
        None
    }
}

impl fmt::Debug for dyn Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connector({})", self.describe().kind)
    }
}
