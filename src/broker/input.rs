//! What the verbs are given: parsed by an edge, not yet judged.

use crate::{
    domain::{
        grant::GrantState,
        id::{GrantId, IdentityId, RequestId},
        identity::IdentityKind,
        request::RequestState,
        time::{Timestamp, Ttl},
    },
    store::LockKind,
};

/// Ask for access.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// Names of entitlements, at least one.
    pub entitlements: Vec<String>,
    /// How long, from activation; the entitlement's default if missing.
    pub duration: Option<Ttl>,
    /// Why.
    pub reason: String,
    /// Ticket reference.
    pub ticket: Option<String>,
    /// When access is to start; at once if missing.
    pub start_at: Option<Timestamp>,
    /// Id or unique name of the identity that will hold the access; the actor if missing.
    pub on_behalf_of: Option<String>,
    /// The requester says that it is an emergency.
    pub emergency: bool,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Makes a retry harmless: the key and a hash of the body.
    pub idempotency: Option<(String, Vec<u8>)>,
}

/// Approve or deny.
#[derive(Debug, Clone, Default)]
pub struct Decide {
    /// In the approver's words.
    pub comment: String,
    /// Shorter duration.
    pub duration: Option<Ttl>,
    /// Hash of the terms that the approver was shown, where a surface shows them ahead of time.
    pub terms: Option<String>,
    /// The terms were shown once more, and the approver said yes to them there.
    pub confirmed: bool,
}

/// Page and order of a list.
#[derive(Debug, Clone, Default)]
pub struct Paging {
    /// Cursor of the page before.
    pub after: Option<String>,
    /// Rows wanted; 50 if missing, 200 at most.
    pub limit: Option<u32>,
}

impl Paging {
    /// The limit within its bounds.
    pub fn rows(&self) -> u32 {
        self.limit.unwrap_or(50).clamp(1, 200)
    }
}

/// From which side to look at requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Asked by me or for me.
    Requester,
    /// Waiting for me, or decided by my groups.
    Approver,
}

/// Which requests.
#[derive(Debug, Clone, Default)]
pub struct RequestQuery {
    /// Only in this state.
    pub state: Option<RequestState>,
    /// From which side; administrators who give none see all, others their own.
    pub role: Option<Role>,
    /// Page.
    pub page: Paging,
}

/// Which grants.
#[derive(Debug, Clone, Default)]
pub struct GrantQuery {
    /// Only in this state.
    pub state: Option<GrantState>,
    /// Only held by this identity; administrators who give none see all, others their own.
    pub holder: Option<IdentityId>,
    /// Only those that are not final.
    pub live: bool,
    /// Only those that are.
    pub over: bool,
    /// Page.
    pub page: Paging,
}

/// Prolong a grant.
#[derive(Debug, Clone)]
pub struct Extend {
    /// By how long.
    pub duration: Ttl,
    /// Why.
    pub reason: String,
    /// The end that the holder saw. Asked twice, it is moved once.
    pub from: Option<Timestamp>,
    /// Key and hash of the body: the same pair again answers the grant as it is.
    pub idempotency: Option<(String, Vec<u8>)>,
}

/// Let a kill switch fall.
#[derive(Debug, Clone)]
pub struct NewLock {
    /// Identity, target or entitlement.
    pub kind: LockKind,
    /// Which one: an identity's id or unique name, a target's or entitlement's name.
    pub value: String,
    /// Why.
    pub reason: String,
}

/// Register a workload or agent.
#[derive(Debug, Clone)]
pub struct NewWorkload {
    /// Unique name.
    pub name: String,
    /// Name for people to read.
    pub display_name: Option<String>,
    /// Workload or agent.
    pub kind: IdentityKind,
    /// Id or unique name of the accountable person; the actor if missing.
    pub owner: Option<String>,
    /// Id or unique name of the person who is asked if the owner is gone.
    pub backup_owner: Option<String>,
    /// Name of the group that it belongs to: it is orphaned when that is gone or empty.
    pub team: Option<String>,
    /// Standing groups; administrators only.
    pub groups: Vec<String>,
    /// How long its secret works; 90 days if missing.
    pub secret_ttl: Option<Ttl>,
}

/// Change a workload or agent.
#[derive(Debug, Clone, Default)]
pub struct WorkloadChange {
    /// Name for people to read.
    pub display_name: Option<String>,
    /// Id or unique name of a new accountable person: hands it over; of oneself: accepts an orphan.
    pub owner: Option<String>,
    /// Id or unique name of the person who is asked if the owner is gone.
    pub backup_owner: Option<String>,
    /// Name of the group that it belongs to; empty for none.
    pub team: Option<String>,
    /// False ends everything it holds.
    pub active: Option<bool>,
    /// End all its secrets and make a new one.
    pub rotate_secret: bool,
}

/// Which audit events.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only about this request.
    pub request: Option<RequestId>,
    /// Only about this grant.
    pub grant: Option<GrantId>,
    /// Only those that follow from one call.
    pub correlation: Option<String>,
    /// Page; the cursor is the last sequence number seen.
    pub page: Paging,
}

/// Which events of the whole log.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Only these: `grant.ended`, or all that begin so: `grant.`.
    pub action: Option<String>,
    /// Only done by this identity: id or unique name.
    pub actor: Option<String>,
    /// Only concerning this identity: id or unique name.
    pub subject: Option<String>,
    /// Only by this surface.
    pub via: Option<String>,
    /// Only on this target.
    pub target: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

/// What would policy say?
#[derive(Debug, Clone)]
pub struct Simulate {
    /// Id or unique name; the actor if missing. Others only for administrators and auditors.
    pub identity: Option<String>,
    /// Name of the entitlement.
    pub entitlement: String,
    /// How long; the entitlement's default if missing.
    pub duration: Option<Ttl>,
    /// When; now if missing.
    pub at: Option<Timestamp>,
    /// With a reason?
    pub reason: Option<String>,
    /// With a ticket?
    pub ticket: Option<String>,
    /// As an emergency?
    pub emergency: bool,
}
