//! Grants: `scheduled → activating → active → revoking → ended`, with `activating → failed` and
//! `revoking → quarantined → revoking → ended`. The clock starts at activation.

use serde::{Deserialize, Serialize};

use super::{
    catalog::{EntitlementId, TargetId},
    id::{CorrelationId, GrantId, IdentityId, RequestId},
    time::{Timestamp, Ttl},
};

/// Where a grant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantState {
    /// Decided, not started.
    Scheduled,
    /// The intent is durable; the target is being told.
    Activating,
    /// The access exists.
    Active,
    /// It is being taken away; not yet verified.
    Revoking,
    /// Revocation did not succeed so far: alerted, still retried.
    Quarantined,
    /// Verified absent, with evidence; or attested by a named person.
    Ended,
    /// The target refused it; revoked and verified absent.
    Failed,
}

impl GrantState {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Activating, Self::Active, Self::Revoking, Self::Quarantined, Self::Ended, Self::Failed];

    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Activating => "activating",
            Self::Active => "active",
            Self::Revoking => "revoking",
            Self::Quarantined => "quarantined",
            Self::Ended => "ended",
            Self::Failed => "failed",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == s)
    }

    /// Something of it may exist at the target.
    pub const fn may_exist_at_target(self) -> bool {
        matches!(self, Self::Activating | Self::Active | Self::Revoking | Self::Quarantined)
    }

    /// Final: nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Ended | Self::Failed)
    }

    /// May this state follow that one?
    pub const fn may_become(self, next: Self) -> bool {
        use GrantState::{Activating, Active, Ended, Failed, Quarantined, Revoking, Scheduled};
        matches!(
            (self, next),
            (Scheduled, Activating | Ended | Failed)
                | (Activating, Active | Revoking | Failed)
                | (Active, Revoking)
                | (Revoking, Ended | Failed | Quarantined)
                | (Quarantined, Revoking | Ended | Failed)
        )
    }
}

/// Why a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Its time was up.
    Expired,
    /// The holder gave it back.
    Released,
    /// An admin took it away.
    Revoked,
    /// A kill switch fell on its identity, target or entitlement.
    Locked,
    /// Its holder left.
    Offboarded,
    /// Another grant took its place.
    Superseded,
    /// The target refused it or the broker died while opening it; ends in `failed`.
    Refused,
}

impl EndReason {
    const ALL: [Self; 7] =
        [Self::Expired, Self::Released, Self::Revoked, Self::Locked, Self::Offboarded, Self::Superseded, Self::Refused];

    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Released => "released",
            Self::Revoked => "revoked",
            Self::Locked => "locked",
            Self::Offboarded => "offboarded",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == s)
    }

    /// The terminal state that this reason leads to.
    pub const fn terminal(self) -> GrantState {
        match self {
            Self::Refused => GrantState::Failed,
            _ => GrantState::Ended,
        }
    }
}

/// How to take a grant away, fixed at intent (promise P14): later edits of catalog or policy do not change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// The grant.
    pub grant: GrantId,
    /// Name of the object at the target; see [`object_name`].
    pub object: String,
    /// What the connector needs to find and end it, in its own words, with the prior state (already a member?).
    pub data: serde_json::Value,
}

/// Access that several grants may open at once, and that the target keeps only once: a membership. Connectors put it
/// into a recipe's data as `shared`; the ledger indexes its key, so that grants on it can be counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// Its natural key at the target, the same for all grants on it.
    pub key: String,
    /// Did it exist before any grant on it? Then it is somebody else's, and is never taken away.
    pub was_there: bool,
}

impl Recipe {
    /// What the grant shares with others, if its connector says so.
    pub fn shared(&self) -> Option<Shared> {
        Shared::deserialize(self.data.get("shared")?).ok()
    }
}

/// What a connector is to open: made durable before the target is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// How it will be taken away.
    pub recipe: Recipe,
    /// Who will hold it.
    pub holder: IdentityId,
    /// The holder's unique name.
    pub holder_name: String,
    /// The entitlement.
    pub entitlement: EntitlementId,
    /// The entitlement's parameters as they were at the decision.
    pub parameters: serde_json::Value,
    /// The end; the target's native expiry is set to it.
    pub not_after: Timestamp,
}

/// One entitlement held by one identity until `not_after`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// The request that it came from.
    pub request: RequestId,
    /// Who holds it.
    pub holder: IdentityId,
    /// What is held.
    pub entitlement: EntitlementId,
    /// Where.
    pub target: TargetId,
    /// Where it stands.
    pub state: GrantState,
    /// Duration from activation.
    pub ttl: Ttl,
    /// When it starts, if scheduled.
    pub start_at: Option<Timestamp>,
    /// Its end; known from intent on.
    pub not_after: Option<Timestamp>,
    /// The entitlement's parameters as they were at the decision.
    pub parameters: serde_json::Value,
    /// Fixed at intent.
    pub recipe: Option<Recipe>,
    /// When the target had opened it.
    pub activated_at: Option<Timestamp>,
    /// What the target reported at activation.
    pub applied: Option<serde_json::Value>,
    /// Why it ends or ended.
    pub end_reason: Option<EndReason>,
    /// When ending began.
    pub revoking_at: Option<Timestamp>,
    /// When it was verified absent.
    pub ended_at: Option<Timestamp>,
    /// What the target answered when it was asked whether the access is gone.
    pub evidence: Option<serde_json::Value>,
    /// Revocations tried so far.
    pub attempts: u32,
    /// What went wrong last, free of secrets.
    pub last_error: Option<String>,
    /// Credentials minted so far.
    pub claims: u32,
    /// Bound on claims.
    pub max_claims: Option<u32>,
    /// When somebody must look at this row again; doubles as the lease of whoever looks.
    pub due_at: Option<Timestamp>,
    /// Fencing token: every claim of the row by a worker raises it.
    pub epoch: i64,
    /// Ties together everything that follows from one call.
    pub correlation: CorrelationId,
    /// When the decision made it.
    pub created_at: Timestamp,
}

/// A credential to be minted. Its serial is recorded before it is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Unique in the ledger, from 1 upwards.
    pub serial: u64,
    /// Count within the grant, from 1.
    pub number: u32,
    /// When it is minted.
    pub at: Timestamp,
}

/// The deterministic name of a grant's object at a target: `tg-<ulid>`, lower case. Connectors shape it to their rules.
pub fn object_name(grant: GrantId) -> String {
    format!("tg-{}", grant.ulid().to_string().to_ascii_lowercase())
}

/// The grant behind an object name of ours, in either shape (`tg-…` or `tg_…`).
pub fn grant_of_object(name: &str) -> Option<GrantId> {
    let rest = name.strip_prefix("tg-").or_else(|| name.strip_prefix("tg_"))?;
    if rest.len() != 26 || rest.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    ulid::Ulid::from_string(rest).ok().map(GrantId::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_lead_back_to_their_grant() {
        let id = GrantId::new(ulid::Ulid::from_parts(1_700_000_000_000, 42));
        let name = object_name(id);
        assert_eq!(grant_of_object(&name), Some(id));
        assert_eq!(grant_of_object(&name.replace('-', "_")), Some(id));
        assert_eq!(grant_of_object("tg-other"), None);
        assert_eq!(grant_of_object("postgres"), None);
    }

    #[test]
    fn terminal_states_are_final() {
        for from in GrantState::ALL.into_iter().filter(|s| s.is_terminal()) {
            assert!(GrantState::ALL.into_iter().all(|to| !from.may_become(to)));
        }
        assert!(!GrantState::Active.may_become(GrantState::Ended), "nothing ends unverified");
    }
}
