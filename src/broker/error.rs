//! Why a verb did not do what was asked: public text, free of HTTP and of secrets.

use crate::{
    domain::{
        decision::{Condition, Reason},
        id::RequestId,
        time::Ttl,
    },
    store::StoreError,
};

/// The answer when a verb does not go through. Every text says what to do, or that nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No valid token, or an inactive identity.
    #[error("sign in: the token is missing, unknown, expired or its identity is deactivated")]
    Unauthenticated,
    /// What was given cannot be used.
    #[error("{field}: {problem}")]
    Invalid {
        /// Which field of the input.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Not there, or not for you to see.
    #[error("there is no such {0}, or you may not see it")]
    NotFound(&'static str),
    /// Policy says no.
    #[error("policy does not allow this")]
    Denied {
        /// The policies that decided.
        reasons: Vec<Reason>,
        /// What would have to hold.
        conditions: Vec<Condition>,
    },
    /// The verb is not for this actor, whatever policy says: four eyes, admins only, holders only.
    #[error("{0}")]
    Forbidden(&'static str),
    /// It was too long ago that the actor showed who they are.
    #[error(
        "this wants that you signed in within the last {0}: do it in the portal, where you sign in again; nothing was \
         changed"
    )]
    ProveAgain(Ttl),
    /// A kill switch is in force.
    #[error("a lock on this {kind} is in force: {reason}")]
    Locked {
        /// Identity, target or entitlement.
        kind: &'static str,
        /// In the words of whoever set it.
        reason: String,
    },
    /// Nobody could approve it, so it is refused right away.
    #[error("nobody can approve this: it needs {needed} from {groups}, and {available} could; tell an administrator")]
    NobodyCanApprove {
        /// Approvals needed.
        needed: u32,
        /// Group names.
        groups: String,
        /// People who could approve.
        available: u32,
    },
    /// The state of things does not allow it (any more).
    #[error("{0}")]
    State(String),
    /// The same idempotency key came with another body before.
    #[error("this Idempotency-Key was used with another body for {0}; use a new key for a new request")]
    KeyReused(RequestId),
    /// The requester has too much open already.
    #[error("{0}")]
    TooMany(String),
    /// A source would take away too many people at once: come again when an administrator has accepted it.
    #[error(
        "too many people of {name} would leave at once, so nothing was changed: an administrator accepts it with \
         `tidegate review accept {name}`; come again later"
    )]
    Held {
        /// Name of the source.
        name: String,
    },
    /// The target did not do it.
    #[error("{0}")]
    Target(#[from] crate::ports::connector::Fault),
    /// A restored or cloned node: it only observes until an administrator says go.
    #[error(
        "this broker only observes: its ledger was restored or cloned; an administrator must run `tidegate resume`"
    )]
    Observing,
    /// Shutting down; nothing was changed.
    #[error("the broker is shutting down; nothing was changed, ask again")]
    Closing,
    /// The ledger could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] crate::ports::entropy::EntropyError),
    /// A token could not be signed.
    #[error(transparent)]
    Sign(#[from] crate::ports::signer::SignError),
}

impl BrokerError {
    /// Shorthand for a bad field.
    pub fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { field, problem: problem.into() }
    }
}
