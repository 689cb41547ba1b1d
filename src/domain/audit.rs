//! Audit events: one for every state change, in the same transaction (promise P15).

use serde::{Deserialize, Serialize};

use super::{
    id::{CorrelationId, EventId, GrantId, IdentityId, RequestId},
    time::Timestamp,
};

/// One thing that happened. Its canonical JSON is the leaf of the Merkle log; see [`Event::leaf`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// When, by the broker's clock.
    pub at: Timestamp,
    /// Dotted name of what happened: `request.created`, `grant.ended`.
    pub action: String,
    /// Who did it; `None` for the broker itself.
    pub actor: Option<IdentityId>,
    /// Which surface: `api`, `cli`, `worker`…
    pub via: String,
    /// Whom it concerns.
    pub subject: Option<IdentityId>,
    /// Which request.
    pub request: Option<RequestId>,
    /// Which grant.
    pub grant: Option<GrantId>,
    /// Which target.
    pub target: Option<String>,
    /// The call that it follows from.
    pub correlation: CorrelationId,
    /// Facts, free of secrets.
    pub details: serde_json::Value,
}

impl Event {
    /// The bytes that are hashed: this struct as JSON, keys in the order of the struct, `details` keys sorted,
    /// no white space. Stored as they are, so verification never depends on re-serialising.
    pub fn leaf(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
