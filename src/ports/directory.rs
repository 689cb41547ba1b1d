//! The built-in directory as the `directory` connector sees it: temporary memberships beside standing ones.

use async_trait::async_trait;

use crate::domain::id::{GrantId, IdentityId};

/// How somebody is in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Membership {
    /// By the source of truth; never touched from here.
    pub standing: bool,
    /// By how many grants.
    pub temporary: u32,
    /// By the grant that was asked about.
    pub by_this_grant: bool,
}

/// The directory could not be asked or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// No such group.
    #[error("the directory has no group `{0}`")]
    NoSuchGroup(String),
    /// The store is not there at the moment.
    #[error("the directory is unavailable: {0}")]
    Unavailable(String),
}

/// Temporary membership, counted: each grant has its own row, so the last one out ends the membership.
#[async_trait]
pub trait Directory: Send + Sync {
    /// How is `identity` in `group`?
    async fn membership(&self, group: &str, identity: IdentityId, grant: GrantId)
    -> Result<Membership, DirectoryError>;

    /// Add the grant's row; again is done. Memberships by grant end for decisions at `not_after` even if nobody removes them.
    async fn add(
        &self,
        group: &str,
        identity: IdentityId,
        grant: GrantId,
        not_after: crate::domain::time::Timestamp,
    ) -> Result<(), DirectoryError>;

    /// Remove the grant's row; none there is done.
    async fn remove(&self, group: &str, identity: IdentityId, grant: GrantId) -> Result<(), DirectoryError>;

    /// All temporary rows: group name, identity, grant.
    async fn temporary(&self) -> Result<Vec<(String, IdentityId, GrantId)>, DirectoryError>;

    /// Does a group of that name exist?
    async fn group_exists(&self, group: &str) -> Result<bool, DirectoryError>;
}
