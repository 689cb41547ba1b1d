//! What the verbs answer: the same for every surface. Field names are the public contract.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use super::{
    page_view::{
        ChangedFile, ChangedLine, GainView, HeldView, InsightsView, LogCheck, LogEntry, LogPage, PermissionsView,
        PolicyVersionView, RequesterContext, SheetView, TakenUpView,
    },
    source_view::{SourceTokenView, SourceView},
};
use crate::{
    domain::{
        capability::{RevocationClass, Rights},
        decision::{Condition, Reason, Verdict},
        grant::{EndReason, GrantState},
        identity::{IdentityKind, Origin},
        request::RequestState,
    },
    ports::connector::Finding,
};

pub use crate::store::LockKind;

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass as `after` to go on; `null` at the end.
    pub next: Option<String>,
}

/// An identity, short.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct IdentityRef {
    /// Its id.
    pub id: String,
    /// Its unique name.
    pub name: String,
}

/// An identity of the directory.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct IdentityView {
    /// Its id.
    pub id: String,
    /// Person, workload or agent.
    pub kind: IdentityKind,
    /// Its unique name.
    pub name: String,
    /// Name for people to read.
    pub display_name: String,
    /// Work e-mail.
    pub email: Option<String>,
    /// False once deactivated.
    pub active: bool,
    /// The accountable person of a workload or agent.
    pub owner: Option<IdentityRef>,
    /// Hard end of the relationship.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub contract_end: Option<String>,
    /// How it came to be.
    #[serde(default)]
    pub origin: Origin,
    /// Who is asked to answer for it if its owner is gone.
    #[serde(default)]
    pub backup_owner: Option<IdentityRef>,
    /// Since when nobody answers for it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub orphaned_at: Option<String>,
    /// The clock deactivates it then, unless somebody answers for it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub answer_by: Option<String>,
    /// Names of its groups, standing and temporary.
    pub groups: Vec<String>,
}

/// Who am I?
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct MeView {
    /// The caller.
    #[serde(flatten)]
    pub identity: IdentityView,
    /// Roles in Tidegate itself: `admin`, `auditor`.
    pub roles: Vec<String>,
    /// Grants that are not final.
    pub grants: Vec<GrantView>,
}

/// What I can ask for.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EntitlementView {
    /// Its name.
    pub id: String,
    /// The target that it is on.
    pub target: String,
    /// One line for people.
    pub title: String,
    /// What it lets its holder do.
    pub description: String,
    /// What would happen if the caller asked now.
    pub verdict: Verdict,
    /// What must be provided or hold.
    pub conditions: Vec<Condition>,
    /// Names of the groups that approve.
    pub approvers: Vec<String>,
    /// Seconds when no duration is given.
    pub default_ttl: u32,
    /// Longest duration in seconds.
    pub max_ttl: u32,
    /// 0 harmless … 4 crown jewels.
    pub sensitivity: u8,
    /// Free labels, as in the catalog.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How fast a revocation takes effect.
    pub revocation_class: RevocationClass,
    /// Seconds for which a copy may still work after revocation.
    pub residual_window: u32,
    /// The same in words.
    pub residual_window_text: String,
    /// Whoever asks must have signed in to the portal within so many seconds.
    #[serde(default)]
    pub step_up: Option<u32>,
}

/// How many approvals there are, and from whom they come.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ApprovalsView {
    /// Approvals needed.
    pub needed: u32,
    /// Approvals that count so far.
    pub have: u32,
    /// Names of the groups that they come from.
    pub from: Vec<String>,
}

/// A message to a notifier, and what became of it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// Its id; stays the same over retries and replays.
    pub id: String,
    /// Name of the notifier.
    pub notifier: String,
    /// `access.grant.ended`…
    pub kind: String,
    /// When it happened.
    pub at: String,
    /// `waiting`, `delivered`, `given_up`.
    pub state: String,
    /// Tries so far.
    pub attempts: u32,
    /// When it is tried next.
    pub next_try: Option<String>,
    /// What the receiver answered last, if it did not take it.
    pub last_error: Option<String>,
}

/// One person's decision.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ApprovalView {
    /// Who.
    pub approver: IdentityRef,
    /// Yes or no.
    pub approve: bool,
    /// In the approver's words.
    pub comment: String,
    /// Shorter duration in seconds, if one was given.
    pub duration: Option<u32>,
    /// When.
    pub at: String,
    /// Which surface.
    pub via: String,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TimelineEntry {
    /// Id of the audit event.
    pub event: String,
    /// When.
    pub at: String,
    /// `request.created`, `grant.active`…
    pub action: String,
    /// Who did it; `null` for the broker itself.
    pub actor: Option<String>,
    /// Facts.
    #[schema(value_type = Object)]
    pub details: serde_json::Value,
}

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestView {
    /// Its id.
    pub id: String,
    /// Where it stands.
    pub state: RequestState,
    /// Who asks.
    pub requester: IdentityRef,
    /// Who will hold the access.
    pub subject: IdentityRef,
    /// What is asked for.
    pub entitlements: Vec<String>,
    /// Seconds, from activation.
    pub duration: u32,
    /// Why.
    pub reason: String,
    /// Ticket reference.
    pub ticket: Option<String>,
    /// The requester says that it is an emergency.
    pub emergency: bool,
    /// When access is to start, if later than at once.
    pub start_at: Option<String>,
    /// Its grants; empty until it is approved.
    pub grants: Vec<GrantView>,
    /// How many approvals there are.
    pub approvals: ApprovalsView,
    /// When it lapses; `null` once it is decided.
    pub lapses_at: Option<String>,
    /// When it was asked.
    pub created_at: String,
    /// When it was decided.
    pub decided_at: Option<String>,
    /// Version of the policy that it was decided under.
    pub policy_version: String,
    /// For each target: what revoking will mean, shown before anybody approves.
    pub revocation: Vec<RevocationView>,
    /// Hash of what approving it would open. Sent along with a decision, it is refused if they changed meanwhile.
    #[serde(default)]
    #[schema(required = true)]
    pub terms: String,
    /// Ties together everything that follows from the call.
    pub correlation_id: String,
    /// The decisions of people; in the detail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<Vec<ApprovalView>>,
    /// What happened; in the detail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Vec<TimelineEntry>>,
    /// Why policy answered as it did; in the detail only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Vec<Reason>>,
    /// Can the caller decide on it now?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_decide: Option<bool>,
    /// Who looks at it at the moment; anybody may still decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_up: Option<TakenUpView>,
    /// What is worth knowing of whoever asks; for those who decide.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<RequesterContext>,
    /// What its subject has now and would have then, while it waits; in the detail only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<PermissionsView>,
}

/// What revoking an entitlement will mean.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RevocationView {
    /// The entitlement.
    pub entitlement: String,
    /// How fast a revocation takes effect.
    pub revocation_class: RevocationClass,
    /// Seconds for which a copy may still work after revocation.
    pub residual_window: u32,
    /// The same in words.
    pub residual_window_text: String,
}

/// What would happen if this were asked: nothing was recorded.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    /// Always true.
    pub dry_run: bool,
    /// The strictest of the entitlements' verdicts.
    pub verdict: Verdict,
    /// One for each entitlement.
    pub entitlements: Vec<PlannedView>,
    /// Approvals that would be needed.
    pub approvals: ApprovalsView,
    /// Seconds.
    pub duration: u32,
    /// Version of the policy that answered.
    pub policy_version: String,
    /// Whoever sends it must have signed in to the portal within so many seconds.
    #[serde(default)]
    pub step_up: Option<u32>,
}

/// The plan for one entitlement.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlannedView {
    /// Its name.
    pub id: String,
    /// What would happen.
    pub verdict: Verdict,
    /// What must be provided or hold.
    pub conditions: Vec<Condition>,
    /// The policies that decided.
    pub reasons: Vec<Reason>,
    /// What revoking will mean.
    pub revocation: RevocationView,
}

/// An answer to `POST /v1/requests`.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Asked {
    /// It exists now.
    Recorded(Box<RequestView>),
    /// It existed before: the same idempotency key with the same body.
    Repeated(Box<RequestView>),
    /// Only asked what would happen.
    Planned(PlanView),
}

/// What was decided.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RequestedFacts {
    /// When the decision made the grant.
    pub at: String,
    /// Seconds.
    pub duration: u32,
    /// When it was to start, if scheduled.
    pub start_at: Option<String>,
}

/// What the target reported when it was opened.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AppliedFacts {
    /// When.
    pub at: String,
    /// Name of the object at the target.
    pub object: String,
    /// In the target's words.
    #[schema(value_type = Object)]
    pub report: serde_json::Value,
}

/// What the target answered when it was asked whether the access is gone.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VerifiedFacts {
    /// When.
    pub at: String,
    /// In the target's words, or an attestation.
    #[schema(value_type = Object)]
    pub evidence: serde_json::Value,
}

/// A grant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct GrantView {
    /// Its id.
    pub id: String,
    /// The request that it came from.
    pub request: String,
    /// Who holds it.
    pub holder: IdentityRef,
    /// What is held.
    pub entitlement: String,
    /// Where.
    pub target: String,
    /// Where it stands.
    pub state: GrantState,
    /// Its end; `null` before activation.
    pub not_after: Option<String>,
    /// Seconds left while it is active.
    pub remaining: Option<u32>,
    /// Why it ends or ended.
    pub end_reason: Option<EndReason>,
    /// What was decided.
    pub requested: RequestedFacts,
    /// What the target reported when it was opened.
    pub applied: Option<AppliedFacts>,
    /// What the target answered when it was asked whether the access is gone.
    pub verified: Option<VerifiedFacts>,
    /// The evidence again, for short.
    #[schema(value_type = Option<Object>)]
    pub evidence: Option<serde_json::Value>,
    /// Revocations tried.
    pub attempts: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Credentials minted.
    pub claims: u32,
    /// Can its holder claim a credential?
    pub claimable: bool,
    /// How fast a revocation takes effect.
    pub revocation_class: RevocationClass,
    /// Seconds for which a copy may still work after revocation.
    pub residual_window: u32,
    /// Ties together everything that follows from the call.
    pub correlation_id: String,
}

/// A kill switch.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LockView {
    /// Its id.
    pub id: String,
    /// What it falls on.
    pub kind: LockKind,
    /// Which one.
    pub value: String,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: IdentityRef,
    /// When.
    pub created_at: String,
    /// Grants that began to end because of it; on creation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ending: Option<u64>,
}

/// A target.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// Its name.
    pub id: String,
    /// Which connector speaks to it.
    pub kind: String,
    /// One sentence about it.
    pub summary: String,
    /// How fast a revocation takes effect.
    pub revocation_class: RevocationClass,
    /// The access ends by itself with the broker dead.
    pub native_expiry: bool,
    /// It can be asked whether the access is gone.
    pub read_back: bool,
    /// Revoking ends open sessions.
    pub cuts_sessions: bool,
    /// Seconds for which a copy may still work after revocation.
    pub residual_window: u32,
    /// The same in words.
    pub residual_window_text: String,
    /// A later claim ends the copy of an earlier one.
    #[serde(default)]
    pub replaces_copies: bool,
    /// What the broker must be allowed to do there.
    #[serde(default)]
    pub rights: Rights,
    /// What a crash of the broker leaves there, and how that is found.
    #[serde(default)]
    pub after_crash: String,
    /// `ok`, or why calls are held back at the moment.
    pub health: String,
    /// Entitlements on it.
    pub entitlements: Vec<String>,
}

/// What a check of a target found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// Its name.
    pub target: String,
    /// Is everything as it should be?
    pub ok: bool,
    /// What was looked at.
    pub findings: Vec<Finding>,
}

/// What a sweep of a target found.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SweepView {
    /// Its name.
    pub target: String,
    /// Objects that bear our mark.
    pub found: u64,
    /// Of these: without a live grant; revoked and verified.
    pub orphans_ended: Vec<String>,
    /// Of these: without a live grant; could not be ended yet.
    pub orphans_left: Vec<String>,
    /// Live grants without an object.
    pub missing: Vec<String>,
    /// Objects that last longer than granted.
    pub wider: Vec<String>,
}

/// An audit event with its place in the log.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Leaf index.
    pub seq: u64,
    /// RFC 6962 leaf hash, hex.
    pub hash: String,
    /// The exact bytes that were hashed.
    pub leaf: String,
    /// The event, parsed from them.
    #[schema(value_type = Object)]
    pub event: serde_json::Value,
}

/// A new NHI or one more secret for it. The secret is shown this once.
#[derive(Serialize, ToSchema)]
pub struct WorkloadView {
    /// The workload.
    #[serde(flatten)]
    pub identity: IdentityView,
    /// For `client_credentials`: the workload's id.
    pub client_id: String,
    /// Shown once; `null` in later answers.
    pub client_secret: Option<String>,
    /// When the secret stops working.
    pub secret_expires_at: Option<String>,
}

/// Verdict of a simulation.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SimulationView {
    /// What would happen.
    pub verdict: Verdict,
    /// Approvals needed.
    pub approvals: u8,
    /// From these groups.
    pub approvers: Vec<String>,
    /// Longest duration in seconds.
    pub max_ttl: u32,
    /// What must be provided or hold.
    pub conditions: Vec<Condition>,
    /// The policies that decided.
    pub reasons: Vec<Reason>,
    /// Version of the policy that answered.
    pub policy_version: String,
}

/// Somebody who has signed in to the portal.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// How the person signed in.
    pub method: String,
    /// What the browser says about itself.
    pub user_agent: String,
    /// From where.
    pub address: String,
    /// When it began.
    pub created_at: String,
    /// When it was used last, to the minute.
    pub seen_at: String,
    /// When it ends, whatever happens.
    pub expires_at: String,
}

/// A stored token, without the token: it was shown once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id.
    pub id: String,
    /// `personal` or `client_secret`.
    pub kind: String,
    /// In the owner's words.
    pub label: String,
    /// When it was made.
    pub created_at: String,
    /// When it stops working.
    pub expires_at: String,
    /// When it was used last, to the hour.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<String>,
}
