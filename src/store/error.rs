//! What can go wrong with the database, in words for an operator and free of values.

/// The database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not there, or the connection broke. Nothing is known to have been lost; try again.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Another process holds the write lock for too long.
    #[error("the database is locked by another process")]
    Locked,
    /// No space left.
    #[error("the database is full")]
    Full,
    /// More writers are waiting than the limit allows.
    #[error("too many changes are waiting for the database")]
    Busy,
    /// The connection broke while a commit was under way: it may or may not have been recorded.
    #[error("the database did not confirm the commit; ask again before repeating it")]
    Unconfirmed,
    /// Somebody else changed the row first.
    #[error("the row was changed by somebody else")]
    Conflict,
    /// A unique value is there already.
    #[error("the value is there already")]
    Duplicate,
    /// A row that does not decode. Harms only itself.
    #[error("row {id} of {table} does not decode: {what}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// Which row.
        id: String,
        /// Which column, and why.
        what: String,
    },
    /// Anything else.
    #[error("the database refused a statement")]
    Other(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if let sqlx::Error::Database(db) = &error {
            let code = db.code().unwrap_or_default();
            if db.is_unique_violation() {
                return Self::Duplicate;
            }
            return match code.as_ref() {
                // SQLITE_BUSY, SQLITE_LOCKED and their extended codes
                // and PostgreSQL lock_not_available
                "5" | "6" | "261" | "517" | "773" | "262" | "55P03" => Self::Locked,
                // SQLITE_FULL; PostgreSQL disk_full
                "13" | "53100" => Self::Full,
                // SQLITE_IOERR family, SQLITE_CANTOPEN, SQLITE_READONLY
                // PostgreSQL: shut down or starting up, too many connections, a statement or an idle transaction took
                // too long, a standby
                "10" | "14" | "8" | "778" | "3338" | "266" | "1034" | "57P01" | "57P02" | "57P03" | "53300"
                | "57014" | "25P03" | "25006" => Self::Unavailable(error),
                // PostgreSQL serialization_failure, deadlock_detected
                "40001" | "40P01" => Self::Conflict,
                _ => Self::Other(error),
            };
        }
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Protocol(_) => Self::Unavailable(error),
            other => Self::Other(other),
        }
    }
}

impl StoreError {
    /// For several who waited for the same: the error itself once, then copies of its kind.
    pub(super) fn next_of(error: &mut Option<Self>) -> Self {
        let copy = match error.as_ref() {
            Some(Self::Full) => Self::Full,
            Some(Self::Locked) => Self::Locked,
            Some(Self::Unconfirmed) => Self::Unconfirmed,
            _ => Self::Unavailable(sqlx::Error::WorkerCrashed),
        };
        error.replace(copy).unwrap_or(Self::Busy)
    }

    /// May the same change succeed if it is simply tried again later?
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Locked | Self::Full | Self::Busy | Self::Unconfirmed)
    }

    /// Did somebody else get there first?
    pub const fn is_contention(&self) -> bool {
        matches!(self, Self::Conflict | Self::Duplicate)
    }
}
