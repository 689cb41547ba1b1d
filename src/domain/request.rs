//! Requests and approvals: `pending → approved | denied | cancelled | lapsed`. Terminal states are final.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    catalog::EntitlementId,
    decision::Reason,
    id::{ApprovalId, CorrelationId, IdentityId, RequestId},
    time::{Timestamp, Ttl},
};

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestState {
    /// Waiting for approvals.
    Pending,
    /// Decided: its grants exist.
    Approved,
    /// Decided: no.
    Denied,
    /// Taken back by the requester or an admin.
    Cancelled,
    /// Nobody decided in time.
    Lapsed,
}

impl RequestState {
    const ALL: [Self; 5] = [Self::Pending, Self::Approved, Self::Denied, Self::Cancelled, Self::Lapsed];

    /// The stored and public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Lapsed => "lapsed",
        }
    }

    /// From the stored name.
    pub fn parse(s: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.as_str() == s)
    }
}

/// One group of people whose approvals are needed, and how many of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Members of any of these groups count.
    pub groups: BTreeSet<String>,
    /// How many distinct people.
    pub count: u8,
    /// The entitlements that ask for it.
    pub entitlements: Vec<EntitlementId>,
}

/// Somebody asks for one or more entitlements, for a duration, with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// Who asks.
    pub requester: IdentityId,
    /// Who will hold the access: the requester, unless asked on behalf of somebody.
    pub subject: IdentityId,
    /// What is asked for, in the order given, without repeats.
    pub entitlements: Vec<EntitlementId>,
    /// How long the access lasts, from activation; approvers may have shortened it.
    pub ttl: Ttl,
    /// Why.
    pub reason: String,
    /// Ticket reference.
    pub ticket: Option<String>,
    /// The requester says that it is an emergency.
    pub emergency: bool,
    /// When the access is to start, if later than now.
    pub start_at: Option<Timestamp>,
    /// Where it stands.
    pub state: RequestState,
    /// Version of the policy set that it was decided under.
    pub policy_version: String,
    /// Whose approvals are needed.
    pub needs: Vec<Need>,
    /// Why policy answered as it did.
    pub trace: Vec<Reason>,
    /// When a pending one lapses.
    pub lapses_at: Timestamp,
    /// When it was asked.
    pub created_at: Timestamp,
    /// When it reached a terminal state.
    pub decided_at: Option<Timestamp>,
    /// Ties together everything that follows from one call.
    pub correlation: CorrelationId,
}

/// One person's decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Its id.
    pub id: ApprovalId,
    /// The request.
    pub request: RequestId,
    /// Who decided.
    pub approver: IdentityId,
    /// The groups of the approver at that moment that count for the request.
    pub groups: BTreeSet<String>,
    /// Yes or no.
    pub approve: bool,
    /// In the approver's words.
    pub comment: String,
    /// Shorter duration, if the approver gave one.
    pub ttl: Option<Ttl>,
    /// When.
    pub at: Timestamp,
    /// Which surface: `api`, `cli`, `web`, `slack`.
    pub via: String,
}

/// How many approvals are needed and how many there are, and whether that is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    /// Sum over all needs.
    pub needed: u32,
    /// Approvals that count, never more than needed.
    pub have: u32,
}

impl Quorum {
    /// Count approvals against needs. One person counts once for each need that one of their groups is in.
    pub fn count(needs: &[Need], approvals: &[Approval]) -> Self {
        let mut quorum = Self { needed: 0, have: 0 };
        for need in needs {
            let have = approvals.iter().filter(|a| a.approve && !a.groups.is_disjoint(&need.groups)).count();
            let count = u32::from(need.count);
            quorum.needed += count;
            quorum.have += u32::try_from(have).unwrap_or(u32::MAX).min(count);
        }
        quorum
    }

    /// Is every need met?
    pub const fn met(self) -> bool {
        self.have >= self.needed
    }
}
