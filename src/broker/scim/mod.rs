//! What a source says by SCIM: users and groups made, changed, deleted, listed.
//!
//! Each change is read, checked and written in one transaction, and goes through the lifecycle like any other change of
//! an identity. A source writes only what it owns; it sees all that is there.

mod adopt;
mod bulk;
mod discovery;
mod facts;
mod fixed;
mod group;
mod list;
mod members;
mod render;
mod rights;
mod user;

use crate::{
    broker::BrokerError,
    domain::scim::{Document, ScimError},
    ports::entropy::EntropyError,
    store::{Collision, StoreError},
};

pub use bulk::{BulkAnswer, BulkOperation, BulkRequest, Method};
pub use list::{ListAnswer, ListRequest};
pub use render::Precondition;

/// Most entries of one page.
pub const MAX_PAGE: u32 = 1000;
/// Entries of a page when nobody says how many.
pub const DEFAULT_PAGE: u32 = 100;
/// Most operations of one bulk call.
pub const MAX_OPERATIONS: usize = 1000;
/// Largest bulk call, in bytes.
pub const MAX_BULK: usize = 1024 * 1024;
/// Largest other call, in bytes: a group of 10,000 as a whole.
pub const MAX_BODY: usize = 2 * 1024 * 1024;

/// How often a change is tried when somebody else is always first.
const TRIES: u32 = 50;

/// A resource as it is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its address.
    pub location: String,
    /// Its ETag.
    pub version: String,
    /// The resource itself; `None` where it would be too long to be told unasked.
    pub document: Option<Document>,
}

/// Why a call of a source did not go through.
#[derive(Debug, thiserror::Error)]
pub enum ScimFailure {
    /// For a reason that SCIM has.
    #[error(transparent)]
    Refused(#[from] ScimError),
    /// Somebody who is here already may be meant, and nothing says so.
    #[error("somebody like that is here already")]
    Collides(Box<Collision>),
    /// For any other.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl From<StoreError> for ScimFailure {
    fn from(error: StoreError) -> Self {
        Self::Broker(error.into())
    }
}

impl From<EntropyError> for ScimFailure {
    fn from(error: EntropyError) -> Self {
        Self::Broker(error.into())
    }
}

impl ScimFailure {
    /// Was somebody else first, so that it is worth looking again?
    const fn is_contention(&self) -> bool {
        matches!(self, Self::Broker(BrokerError::Store(error)) if error.is_contention())
    }
}

/// Run a change until it is in: read, check and write in one transaction, again if somebody else was first.
macro_rules! in_one_change {
    ($broker:expr, $tx:ident => $work:block) => {{
        let mut tries = 0;
        loop {
            tries += 1;
            let mut $tx = $broker.store.begin().await?;
            let written: Result<_, $crate::broker::scim::ScimFailure> = async { $work }.await;
            match $tx.end(written).await {
                None => {}
                Some(Err(failure)) if failure.is_contention() && tries < $crate::broker::scim::TRIES => {}
                Some(done) => break done,
            }
        }
    }};
}
use in_one_change;
