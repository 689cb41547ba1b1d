//! Revocation lists: what verifiers must refuse although it has not expired (KRL serials, token ids).

use async_trait::async_trait;

use crate::domain::{id::GrantId, time::Timestamp};

/// One credential that was minted, as recorded before signing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Issued {
    /// Its serial in the ledger.
    pub serial: u64,
    /// Which grant it was minted for.
    pub grant: GrantId,
    /// Its number within the grant.
    pub number: u32,
    /// When it stops working by itself.
    pub expires_at: Timestamp,
}

/// The ledger could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger is unavailable: {0}")]
pub struct RevocationsError(pub String);

/// What the ledger knows of minted credentials. A credential is revoked when its grant is no longer `active`
/// or when a later claim took its place.
#[async_trait]
pub trait Revocations: Send + Sync {
    /// Revoked and not yet expired at `now`, for one target, ordered by serial.
    async fn revoked(&self, target: &str, now: Timestamp) -> Result<Vec<Issued>, RevocationsError>;

    /// The same, of one grant.
    async fn revoked_of(&self, target: &str, grant: GrantId, now: Timestamp) -> Result<Vec<Issued>, RevocationsError> {
        Ok(self.revoked(target, now).await?.into_iter().filter(|issued| issued.grant == grant).collect())
    }

    /// Would a verifier that asks now be told that this credential still works?
    async fn is_live(&self, grant: GrantId, number: u32, now: Timestamp) -> Result<bool, RevocationsError>;

    /// Latest expiry among the credentials minted for a grant, if any was.
    async fn last_expiry(&self, grant: GrantId) -> Result<Option<Timestamp>, RevocationsError>;
}
