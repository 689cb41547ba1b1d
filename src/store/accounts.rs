//! Accounts in downstream applications: due rows, leased and fenced like grants.

use std::collections::BTreeSet;

use sqlx::{any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    identities::{SEPARATOR, subject, subject_columns},
    row::{Reader, readable},
    scim_sql::Sql,
};
use crate::domain::{
    account::AccountState,
    id::{CorrelationId, IdentityId},
    identity::Subject,
    time::Timestamp,
};

/// An account as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Name of the application.
    pub application: String,
    /// The identity's id, or `remote:<id>` for one that is nobody's.
    pub key: String,
    /// Whose it is.
    pub identity: Option<IdentityId>,
    /// The application's name for it.
    pub remote_id: Option<String>,
    /// Hash of what was last read back as it should be.
    pub pushed: Option<String>,
    /// How it stands.
    pub state: AccountState,
    /// Since when it is known to be inactive.
    pub deactivated_at: Option<Timestamp>,
    /// When it was last read back as it should be.
    pub verified_at: Option<Timestamp>,
    /// Tries in vain since the last event.
    pub attempts: u32,
    /// Grows with every event that concerns it.
    pub changes: i64,
    /// When somebody must look at it.
    pub due_at: Option<Timestamp>,
    /// Grows with every lease.
    pub epoch: i64,
    /// Why it is not done yet.
    pub last_error: Option<String>,
    /// When the first of the tries in vain was.
    pub failing_since: Option<Timestamp>,
    /// The call that it follows from.
    pub correlation: CorrelationId,
}

/// Somebody, with standing groups apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who, with the groups of now, standing or temporary.
    pub subject: Subject,
    /// Names of the standing groups, in lower case.
    pub standing: BTreeSet<String>,
    /// They have signed in once, or called with a token.
    pub seen: bool,
}

/// What came of working on an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worked {
    /// The application's name for it.
    pub remote_id: Option<String>,
    /// Hash of what was read back as it should be.
    pub pushed: Option<String>,
    /// How it stands.
    pub state: AccountState,
    /// Since when it is known to be inactive.
    pub deactivated_at: Option<Timestamp>,
    /// When it was last read back as it should be.
    pub verified_at: Option<Timestamp>,
    /// Tries in vain.
    pub attempts: u32,
    /// When to look at it again.
    pub due_at: Option<Timestamp>,
    /// Why it is not done.
    pub last_error: Option<String>,
}

macro_rules! columns {
    () => {
        "a.application, a.account_key, a.identity_id, a.remote_id, a.pushed, a.state, a.deactivated_at, a.verified_at, \
         a.attempts, a.changes, a.due_at AS account_due_at, a.epoch, a.last_error, a.failing_since, a.correlation_id"
    };
}
/// Somebody's columns, with standing groups apart; `$1` is the instant, `$2` the separator.
macro_rules! facts_columns {
    () => {
        concat!(
            subject_columns!(),
            ", (SELECT string_agg(g.name_key, $2) FROM memberships m JOIN groups g ON g.id = m.group_id \
             WHERE m.identity_id = i.id AND m.grant_id = '') AS standing_names, i.last_seen_at"
        )
    };
}

fn account(row: &AnyRow) -> Result<AccountRow, StoreError> {
    let r = Reader::new("accounts", row);
    Ok(AccountRow {
        application: r.text("application")?,
        key: r.text("account_key")?,
        identity: r.optional_parsed("identity_id")?,
        remote_id: r.optional_text("remote_id")?,
        pushed: r.optional_text("pushed")?,
        state: r.named("state", AccountState::parse)?,
        deactivated_at: r.optional_instant("deactivated_at")?,
        verified_at: r.optional_instant("verified_at")?,
        attempts: r.number("attempts")?,
        changes: r.integer("changes")?,
        due_at: r.optional_instant("account_due_at")?,
        epoch: r.integer("epoch")?,
        last_error: r.optional_text("last_error")?,
        failing_since: r.optional_instant("failing_since")?,
        correlation: r.parsed("correlation_id")?,
    })
}

fn facts(row: &AnyRow) -> Result<Facts, StoreError> {
    let r = Reader::new("identities", row);
    let names = r.optional_text("standing_names")?.unwrap_or_default();
    let standing = names.split(SEPARATOR).filter(|n| !n.is_empty()).map(str::to_owned).collect();
    Ok(Facts { subject: subject(row)?, standing, seen: r.optional_instant("last_seen_at")?.is_some() })
}

/// A row that may have no account beside the identity, from an outer join.
fn maybe_account(row: &AnyRow) -> Result<Option<AccountRow>, StoreError> {
    match Reader::new("accounts", row).optional_text("account_key")? {
        Some(_) => account(row).map(Some),
        None => Ok(None),
    }
}

/// Accounts looked up at once; as many as the query below has places.
pub const AT_ONCE: usize = 50;

impl Store {
    /// Somebody as a mapping sees them.
    pub async fn facts(&self, id: IdentityId, now: Timestamp) -> Result<Option<Facts>, StoreError> {
        const SQL: &str = concat!("SELECT ", facts_columns!(), " FROM identities i WHERE i.id = $3");
        let sql = query(SQL).bind(now.micros()).bind(SEPARATOR).bind(id.to_string());
        sql.fetch_optional(&self.inner.readers).await?.as_ref().map(facts).transpose()
    }

    /// The same, by unique name in any case.
    pub async fn facts_by_name(&self, name: &str, now: Timestamp) -> Result<Option<Facts>, StoreError> {
        const SQL: &str = concat!("SELECT ", facts_columns!(), " FROM identities i WHERE i.name_key = $3");
        let sql = query(SQL).bind(now.micros()).bind(SEPARATOR).bind(name.to_lowercase());
        sql.fetch_optional(&self.inner.readers).await?.as_ref().map(facts).transpose()
    }

    /// One account.
    pub async fn account(&self, application: &str, key: &str) -> Result<Option<AccountRow>, StoreError> {
        const SQL: &str =
            concat!("SELECT ", columns!(), " FROM accounts a WHERE a.application = $1 AND a.account_key = $2");
        let row = query(SQL).bind(application).bind(key).fetch_optional(&self.inner.readers).await?;
        row.as_ref().map(account).transpose()
    }

    /// The account of that name at the application.
    pub async fn account_by_remote(&self, application: &str, id: &str) -> Result<Option<AccountRow>, StoreError> {
        const SQL: &str =
            concat!("SELECT ", columns!(), " FROM accounts a WHERE a.application = $1 AND a.remote_id = $2");
        let row = query(SQL).bind(application).bind(id).fetch_optional(&self.inner.readers).await?;
        row.as_ref().map(account).transpose()
    }

    /// The accounts of up to [`AT_ONCE`] names at the application, each with whose it is.
    pub async fn accounts_by_remote(
        &self,
        application: &str,
        ids: &[&str],
        now: Timestamp,
    ) -> Result<Vec<(AccountRow, Option<Facts>)>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            facts_columns!(),
            ", ",
            columns!(),
            " FROM accounts a LEFT JOIN identities i ON i.id = a.identity_id WHERE a.application = $3 AND a.remote_id IN \
             ($4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, \
             $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, \
             $47, $48, $49, $50, $51, $52, $53)"
        );
        let mut sql = query(SQL).bind(now.micros()).bind(SEPARATOR).bind(application.to_owned());
        for place in 0..AT_ONCE {
            sql = sql.bind(ids.get(place).map(|id| (*id).to_owned()));
        }
        let rows = sql.fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let account = account(row)?;
            let whose = if account.identity.is_some() { Some(facts(row)?) } else { None };
            Ok((account, whose))
        }))
    }

    /// Identities after the cursor, each with its account in the application, if the ledger knows of one.
    pub async fn scope_page(
        &self,
        application: &str,
        after: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<(Facts, Option<AccountRow>)>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            facts_columns!(),
            ", ",
            columns!(),
            " FROM identities i LEFT JOIN accounts a ON a.identity_id = i.id AND a.application = $3 \
             WHERE i.id > $4 ORDER BY i.id LIMIT $5"
        );
        let rows = query(SQL)
            .bind(now.micros())
            .bind(SEPARATOR)
            .bind(application)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, |row| Ok((facts(row)?, maybe_account(row)?))))
    }

    /// Accounts of one application, or of one identity in all of them, by key.
    pub async fn accounts(
        &self,
        application: &str,
        state: Option<AccountState>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<AccountRow>, StoreError> {
        macro_rules! select {
            ($more:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM accounts a WHERE a.application = $1 AND a.account_key > $2",
                    $more,
                    " ORDER BY a.account_key LIMIT $3"
                )
            };
        }
        let limit_and_one = i64::from(limit) + 1;
        let after = after.unwrap_or("").to_owned();
        let sql = match state {
            None => query(select!("")).bind(application).bind(after).bind(limit_and_one),
            Some(state) => query(select!(" AND a.state = $4"))
                .bind(application)
                .bind(after)
                .bind(limit_and_one)
                .bind(state.as_str()),
        };
        let rows = sql.fetch_all(&self.inner.readers).await?;
        Ok(Page::read(&rows, limit, "account_key", account))
    }

    /// The accounts of one identity.
    pub async fn accounts_of(&self, identity: IdentityId) -> Result<Vec<AccountRow>, StoreError> {
        const SQL: &str =
            concat!("SELECT ", columns!(), " FROM accounts a WHERE a.identity_id = $1 ORDER BY a.application");
        let rows = query(SQL).bind(identity.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, account))
    }

    /// How many accounts of an application stand how.
    pub async fn account_counts(&self, application: &str) -> Result<Vec<(AccountState, u64)>, StoreError> {
        let rows =
            query("SELECT state, count(*) AS n FROM accounts WHERE application = $1 GROUP BY state ORDER BY state")
                .bind(application)
                .fetch_all(&self.inner.readers)
                .await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("accounts", row);
            Ok((r.named("state", AccountState::parse)?, r.number("n")?))
        }))
    }

    /// Target and parameters of what somebody holds or is about to hold or lose.
    pub async fn live_parameters(&self, holder: IdentityId) -> Result<Vec<(String, serde_json::Value)>, StoreError> {
        const SQL: &str =
            "SELECT target, parameters FROM grants WHERE holder_id = $1 AND state NOT IN ('ended', 'failed')";
        let rows = query(SQL).bind(holder.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("grants", row);
            Ok((r.text("target")?, r.json("parameters")?))
        }))
    }
}

/// Accounts in an application that are to be looked at.
pub(super) fn due_sql(
    application: &str,
    identities: &[IdentityId],
    taken: bool,
    cause: CorrelationId,
    now: Timestamp,
) -> Sql {
    let mut sql = Sql::new(
        "INSERT INTO accounts (application, account_key, identity_id, state, attempts, changes, due_at, leased, epoch, \
         correlation_id, waits) VALUES ",
    );
    sql.list(identities, |sql, identity| {
        let id = identity.to_string();
        sql.push("(").text(application).push(", ").text(id.clone()).push(", ").text(id);
        sql.push(", 'pending', 0, 1, ").integer(now.micros()).push(", 0, 0, ").text(cause.to_string());
        sql.push(", ").integer(i64::from(!taken)).push(")");
    });
    sql.push(
        " ON CONFLICT (application, account_key) DO UPDATE SET changes = accounts.changes + 1, attempts = 0, \
         correlation_id = excluded.correlation_id, state = 'pending', waits = accounts.waits * excluded.waits, \
         failing_since = NULL, due_at = CASE WHEN accounts.leased = 1 AND accounts.due_at > excluded.due_at \
         THEN accounts.due_at ELSE excluded.due_at END",
    );
    sql
}

impl Tx {
    /// Somebody must look at these accounts now; before all others if something may be `taken` away. Whoever works on one
    /// already looks once more when done.
    pub async fn accounts_due(
        &mut self,
        application: &str,
        identities: &[IdentityId],
        taken: bool,
        cause: CorrelationId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let identities: Vec<IdentityId> = identities.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        for chunk in identities.chunks(500) {
            self.execute(due_sql(application, chunk, taken, cause, now).query()).await?;
        }
        Ok(())
    }

    /// The account of that name at the application is somebody's from now on, unless the ledger knows better.
    pub async fn know_account(
        &mut self,
        application: &str,
        identity: IdentityId,
        remote_id: &str,
    ) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE accounts SET remote_id = $1 WHERE application = $2 AND account_key = $3 \
                           AND remote_id IS NULL AND leased = 0 AND NOT EXISTS (SELECT 1 FROM accounts o \
                           WHERE o.application = $2 AND o.remote_id = $1)";
        let sql = query(SQL).bind(remote_id).bind(application).bind(identity.to_string());
        self.execute(sql).await?;
        Ok(())
    }

    /// An account that is nobody's is to be deactivated.
    pub async fn orphan_due(
        &mut self,
        application: &str,
        remote_id: &str,
        cause: CorrelationId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO accounts (application, account_key, remote_id, state, attempts, changes, due_at, \
                           leased, epoch, correlation_id, waits) VALUES ($1, $2, $3, 'orphan', 0, 1, $4, 0, 0, $5, 0) \
                           ON CONFLICT (application, account_key) DO UPDATE SET changes = accounts.changes + 1, \
                           attempts = 0, failing_since = NULL, correlation_id = excluded.correlation_id, \
                           due_at = CASE WHEN accounts.leased = 1 AND accounts.due_at > excluded.due_at \
                           THEN accounts.due_at ELSE excluded.due_at END";
        self.execute_one(
            query(SQL)
                .bind(application)
                .bind(format!("remote:{remote_id}"))
                .bind(remote_id)
                .bind(now.micros())
                .bind(cause.to_string()),
        )
        .await
    }

    /// Take up to `limit` due accounts of one application: lease them and raise their epoch. First those of whom something
    /// may be taken away, and `only` those while nothing new is to be made.
    pub async fn lease_accounts(
        &mut self,
        application: &str,
        now: Timestamp,
        lease_until: Timestamp,
        limit: u32,
        only: bool,
    ) -> Result<Vec<AccountRow>, StoreError> {
        // Without a prefix: SQLite knows none in RETURNING.
        const SQL: &str = "UPDATE accounts SET due_at = $1, leased = 1, epoch = epoch + 1 WHERE application = $2 \
             AND account_key IN (SELECT account_key FROM accounts WHERE application = $2 AND due_at <= $3 \
             AND waits <= $5 ORDER BY waits, due_at LIMIT $4) AND due_at <= $3 RETURNING application, account_key, identity_id, remote_id, pushed, \
             state, deactivated_at, verified_at, attempts, changes, due_at AS account_due_at, epoch, last_error, \
             failing_since, correlation_id";
        let rows = self
            .write_returning(
                query(SQL)
                    .bind(lease_until.micros())
                    .bind(application)
                    .bind(now.micros())
                    .bind(i64::from(limit))
                    .bind(i64::from(!only)),
            )
            .await?;
        Ok(readable(&rows, account))
    }

    /// Record what came of it, if the lease still holds ([`StoreError::Conflict`]). If something has happened
    /// meanwhile, the account is due again.
    pub async fn record_account(&mut self, row: &AccountRow, w: &Worked, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE accounts SET remote_id = $1, pushed = $2, \
                           state = CASE WHEN changes > $3 THEN 'pending' ELSE $4 END, deactivated_at = $5, \
                           verified_at = $6, attempts = $7, due_at = CASE WHEN changes > $3 THEN $8 ELSE $9 END, \
                           leased = 0, last_error = $10, \
                           waits = CASE WHEN changes > $3 OR $14 = 1 THEN waits ELSE 1 END, \
                           failing_since = CASE WHEN $14 = 1 THEN coalesce(failing_since, $8) ELSE NULL END \
                           WHERE application = $11 AND account_key = $12 AND epoch = $13 AND leased = 1";
        self.execute_one(
            query(SQL)
                .bind(w.remote_id.clone())
                .bind(w.pushed.clone())
                .bind(row.changes)
                .bind(w.state.as_str())
                .bind(w.deactivated_at.map(Timestamp::micros))
                .bind(w.verified_at.map(Timestamp::micros))
                .bind(i64::from(w.attempts))
                .bind(now.micros())
                .bind(w.due_at.map(Timestamp::micros))
                .bind(w.last_error.clone())
                .bind(row.application.clone())
                .bind(row.key.clone())
                .bind(row.epoch)
                .bind(i64::from(w.last_error.is_some())),
        )
        .await
    }

    /// There is nothing to know of this account, unless something has happened meanwhile.
    pub async fn forget_account(&mut self, row: &AccountRow, now: Timestamp) -> Result<(), StoreError> {
        let gone = self
            .execute(
                query(
                    "DELETE FROM accounts WHERE application = $1 AND account_key = $2 AND epoch = $3 AND leased = 1 \
                     AND changes = $4",
                )
                .bind(row.application.clone())
                .bind(row.key.clone())
                .bind(row.epoch)
                .bind(row.changes),
            )
            .await?;
        if gone == 1 {
            return Ok(());
        }
        self.execute_one(
            query("UPDATE accounts SET leased = 0, due_at = $1 WHERE application = $2 AND account_key = $3 AND epoch = $4")
                .bind(now.micros())
                .bind(row.application.clone())
                .bind(row.key.clone())
                .bind(row.epoch),
        )
        .await
    }

    /// It was found to differ, and nobody works on it.
    pub async fn account_state(
        &mut self,
        row: &AccountRow,
        state: AccountState,
        verified_at: Option<Timestamp>,
    ) -> Result<bool, StoreError> {
        let touched = self
            .execute(
                query(
                    "UPDATE accounts SET state = $1, verified_at = coalesce($2, verified_at) WHERE application = $3 \
                     AND account_key = $4 AND changes = $5 AND epoch = $6 AND leased = 0",
                )
                .bind(state.as_str())
                .bind(verified_at.map(Timestamp::micros))
                .bind(row.application.clone())
                .bind(row.key.clone())
                .bind(row.changes)
                .bind(row.epoch),
            )
            .await?;
        Ok(touched == 1)
    }
}
