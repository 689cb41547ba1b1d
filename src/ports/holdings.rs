//! Who else holds access that the target keeps only once: what the ledger knows of grants that share a membership.

use async_trait::async_trait;

use crate::domain::{id::GrantId, time::Timestamp};

/// One grant on shared access that is not final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// The grant.
    pub grant: GrantId,
    /// Is it open or being opened, and nobody has asked for its end?
    pub live: bool,
    /// Its end; the ledger knows it from the intent on.
    pub not_after: Timestamp,
    /// It found the access there when it was decided, as somebody else's: it opens nothing, and ends nothing.
    pub was_there: bool,
}

/// The ledger could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is unavailable: {0}")]
pub struct HoldingsError(pub String);

/// Grants by the natural key of what they share (see [`crate::domain::grant::Shared`]).
#[async_trait]
pub trait Holdings: Send + Sync {
    /// All grants on this key that are not final, whoever holds them, ordered by id. Whatever was committed before
    /// the call is in the answer.
    async fn holdings(&self, target: &str, key: &str) -> Result<Vec<Holding>, HoldingsError>;
}
