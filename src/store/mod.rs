//! The ledger at rest: one file an aggregate, one SQL text for SQLite and PostgreSQL.
//!
//! Never decides anything, never calls a target, never reads the clock.

mod accounts;
mod audit;
mod change;
mod checkpoint;
mod connection;
mod departures;
mod directory;
mod ending;
mod error;
mod grants;
mod groups;
mod health;
mod holdings;
mod identities;
mod joiners;
mod leases;
mod lifecycle;
mod locks;
mod meta;
mod migrations;
mod outbox;
mod portal;
mod queue;
mod reads;
mod requests;
mod revocations;
mod row;
mod rows;
mod runs;
mod scim_groups;
mod scim_sql;
mod scim_users;
mod sessions;
mod shared;
mod sightings;
mod sign_in;
mod slack;
mod sources;
mod sweep;
mod tidy;
mod tokens;
mod writer;

pub use accounts::{AT_ONCE, AccountRow, Facts, Worked};
pub use audit::{AuditFilter, Checkpoint, LogFilter, StoredEvent};
pub use change::{Change, DecidedOn, Ended, IdempotencyKey, Left, NewClaim, NewGrant, Opened, Written};
pub use connection::{Backend, Options, Store};
pub use departures::{Collision, Departures, HeldDeparture};
pub use ending::{EndScope, Part, WideScope};
pub use error::StoreError;
pub use grants::{Due, GrantFilter, Unreadable};
pub use health::Backlog;
pub use identities::Recheck;
pub use joiners::Joiner;
pub use lifecycle::{DueIdentity, Orphaned};
pub use locks::{Lock, LockKind};
pub use outbox::{Delivery, Outgoing};
pub use portal::{AskedFigures, AskedLately, PolicyVersion};
pub use requests::RequestFilter;
pub use runs::{AccountTask, SyncRun};
pub use scim_sql::ScimList;
pub use scim_users::ScimUser;
pub use sessions::Session;
pub use sightings::UnusedToken;
pub use sign_in::{SignIn, SignInState};
pub use slack::{LinkCode, MessageRow, NewMessage, SlackWish};
pub use sources::{SourceCounts, SourceRights, SourceToken};
pub use sweep::LivePlace;
pub use tidy::{FoldedNames, Unused};
pub use tokens::{Token, TokenKind};
pub use writer::{Tx, WriteStats};

/// One page of a list and where the next one starts.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Pass as `after` to go on; `None` at the end.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// From up to `limit + 1` rows. One that does not decode is left out, and harms no other.
    fn read(
        rows: &[sqlx::any::AnyRow],
        limit: u32,
        cursor: &'static str,
        decode: impl Fn(&sqlx::any::AnyRow) -> Result<T, StoreError>,
    ) -> Self {
        let shown = rows.get(..limit as usize).unwrap_or(rows);
        let more = rows.len() > shown.len();
        let next = shown.last().filter(|_| more).and_then(|row| row::Reader::new("page", row).text(cursor).ok());
        Self { items: row::readable(shown, decode), next }
    }

    /// From up to `limit + 1` rows: the extra one says that there is more.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let next = if items.len() > limit {
            items.truncate(limit);
            items.last().map(cursor)
        } else {
            None
        };
        Self { items, next }
    }
}
