//! What policy says about a request, and why.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::time::{Timestamp, Ttl};

/// What would happen to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Granted at once.
    Auto,
    /// People decide.
    Approval,
    /// Refused.
    Denied,
}

/// One thing that a requester must provide or be, and whether it is so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Condition {
    /// In words for people.
    pub text: String,
    /// Does it hold now?
    pub met: bool,
}

/// A policy that had a say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reason {
    /// Cedar action: `Request`, `AutoApprove`, `Approve`, `Mint`.
    pub action: String,
    /// The policy's `@id`.
    pub policy: String,
    /// `permit`, `forbid`, or `error`.
    pub effect: String,
    /// The policy's `@reason`, or what went wrong.
    pub text: String,
}

/// The facts of one ask, clamped and typed, on which policy decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// How long access is wanted.
    pub ttl: Ttl,
    /// When the decision is made.
    pub now: Timestamp,
    /// When access is to start; `now` if at once.
    pub start_at: Timestamp,
    /// Is there a reason of substance?
    pub has_reason: bool,
    /// Ticket reference, at most 100 characters.
    pub ticket: Option<String>,
    /// The requester says that it is an emergency.
    pub emergency: bool,
    /// Somebody else asks for the subject.
    pub on_behalf: bool,
    /// Live grants that the subject holds already.
    pub live_grants: u32,
}

/// The outcome of `Request` and `AutoApprove` for one entitlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// Approvals needed when the verdict is `Approval`; the strictest satisfied permit's count, at least 1.
    pub approvals: u8,
    /// Names of the groups that the approvals come from.
    pub approvers: BTreeSet<String>,
    /// Longest duration under the satisfied permits and the catalog.
    pub max_ttl: Ttl,
    /// What must be provided or hold, met or not; any unmet one denies.
    pub conditions: Vec<Condition>,
    /// The policies that decided.
    pub reasons: Vec<Reason>,
    /// Whoever asks has shown the identity provider who they are within this time, in the portal.
    #[serde(default)]
    pub step_up: Option<Ttl>,
}

/// The outcome of `Approve` or `Mint`: yes or no, with reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// Deny by default; any error denies.
    pub allowed: bool,
    /// The policies that decided.
    pub reasons: Vec<Reason>,
}
