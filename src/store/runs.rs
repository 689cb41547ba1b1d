//! Runs of the sync, and what people are to do by hand.

use sqlx::{any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    groups::{group, group_columns},
    identities::{identity, identity_columns},
    row::{Reader, readable},
};
use crate::domain::{
    account::AccountState,
    id::{CorrelationId, IdentityId, RunId, SourceId, TaskId},
    identity::{Group, Identity},
    time::Timestamp,
};

/// One comparison of an application, or one reading of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRun {
    /// Its id.
    pub id: RunId,
    /// Of which application or source.
    pub name: String,
    /// `plan`, `apply`, `verify`, `drift`.
    pub verb: String,
    /// Also if a great many would go.
    pub accept: bool,
    /// Who began it; `None` for the schedule.
    pub actor: Option<IdentityId>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it was done.
    pub finished_at: Option<Timestamp>,
    /// Grows with every lease.
    pub epoch: i64,
    /// What it came to.
    pub report: Option<serde_json::Value>,
    /// Why it came to nothing.
    pub error: Option<String>,
    /// What follows from it carries this.
    pub correlation: CorrelationId,
}

/// Something that somebody is to do by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountTask {
    /// Its id.
    pub id: TaskId,
    /// In which application.
    pub application: String,
    /// For which account.
    pub key: String,
    /// Whose account.
    pub identity: IdentityId,
    /// `create`, `update`, `deactivate`, `delete`.
    pub what: String,
    /// What the account should be then.
    pub details: serde_json::Value,
    /// Hash of that.
    pub pushed: String,
    /// Who does it.
    pub owner: String,
    /// Until when.
    pub deadline: Timestamp,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// When it was done, or no longer needed.
    pub closed_at: Option<Timestamp>,
    /// Who said that it is done; `None` if it was no longer needed.
    pub closed_by: Option<IdentityId>,
    /// What they showed for it.
    pub evidence: Option<String>,
    /// The call that it follows from.
    pub correlation: CorrelationId,
}

macro_rules! run_columns {
    () => {
        "id, name, verb, accept, actor_id, started_at, finished_at, epoch, report, error, correlation_id"
    };
}
macro_rules! task_columns {
    () => {
        "id, application, account_key, identity_id, what, details, pushed, owner, deadline, created_at, closed_at, \
         closed_by, evidence, correlation_id"
    };
}

fn run(row: &AnyRow) -> Result<SyncRun, StoreError> {
    let r = Reader::new("sync_runs", row);
    Ok(SyncRun {
        id: r.parsed("id")?,
        name: r.text("name")?,
        verb: r.text("verb")?,
        accept: r.flag("accept")?,
        actor: r.optional_parsed("actor_id")?,
        started_at: r.instant("started_at")?,
        finished_at: r.optional_instant("finished_at")?,
        epoch: r.integer("epoch")?,
        report: r.optional_json("report")?,
        error: r.optional_text("error")?,
        correlation: r.parsed("correlation_id")?,
    })
}

fn task(row: &AnyRow) -> Result<AccountTask, StoreError> {
    let r = Reader::new("account_tasks", row);
    Ok(AccountTask {
        id: r.parsed("id")?,
        application: r.text("application")?,
        key: r.text("account_key")?,
        identity: r.parsed("identity_id")?,
        what: r.text("what")?,
        details: r.json("details")?,
        pushed: r.text("pushed")?,
        owner: r.text("owner")?,
        deadline: r.instant("deadline")?,
        created_at: r.instant("created_at")?,
        closed_at: r.optional_instant("closed_at")?,
        closed_by: r.optional_parsed("closed_by")?,
        evidence: r.optional_text("evidence")?,
        correlation: r.parsed("correlation_id")?,
    })
}

impl Store {
    /// One run.
    pub async fn sync_run(&self, id: RunId) -> Result<Option<SyncRun>, StoreError> {
        let row = query(concat!("SELECT ", run_columns!(), " FROM sync_runs WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(run).transpose()
    }

    /// The latest run of an application or source.
    pub async fn last_run(&self, name: &str) -> Result<Option<SyncRun>, StoreError> {
        let row = query(concat!("SELECT ", run_columns!(), " FROM sync_runs WHERE name = $1 ORDER BY id DESC LIMIT 1"))
            .bind(name)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(run).transpose()
    }

    /// How the accounts stand that follow from one call.
    pub async fn accounts_of_cause(
        &self,
        application: &str,
        cause: CorrelationId,
    ) -> Result<Vec<(AccountState, u64)>, StoreError> {
        const SQL: &str = "SELECT state, count(*) AS n FROM accounts WHERE application = $1 AND correlation_id = $2 \
                           GROUP BY state ORDER BY state";
        let rows = query(SQL).bind(application).bind(cause.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, |row| {
            let r = Reader::new("accounts", row);
            Ok((r.named("state", AccountState::parse)?, r.number("n")?))
        }))
    }

    /// One task.
    pub async fn account_task(&self, id: TaskId) -> Result<Option<AccountTask>, StoreError> {
        let row = query(concat!("SELECT ", task_columns!(), " FROM account_tasks WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(task).transpose()
    }

    /// Tasks by id, after the cursor; those that are closed too if asked for.
    pub async fn account_tasks(
        &self,
        closed_too: bool,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<AccountTask>, StoreError> {
        let rows = query(concat!(
            "SELECT ",
            task_columns!(),
            " FROM account_tasks WHERE id > $1 AND (closed_at IS NULL OR $2 = 1) ORDER BY id LIMIT $3"
        ))
        .bind(after.unwrap_or(""))
        .bind(i64::from(closed_too))
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.inner.readers)
        .await?;
        Ok(Page::read(&rows, limit, "id", task))
    }

    /// Active identities that a source owns, by id, after the cursor.
    pub async fn owned_by_source(
        &self,
        source: SourceId,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Identity>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            identity_columns!(),
            " FROM identities i WHERE i.source_id = $1 AND i.active = 1 AND i.id > $2 ORDER BY i.id LIMIT $3"
        );
        let rows = query(SQL)
            .bind(source.to_string())
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        Ok(readable(&rows, identity))
    }

    /// The identity that a source knows by that name; not one that it deleted.
    pub async fn of_source(&self, source: SourceId, external_id: &str) -> Result<Option<Identity>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            identity_columns!(),
            " FROM identities i WHERE i.source_id = $1 AND i.external_id = $2 AND i.deleted_at IS NULL"
        );
        let row = query(SQL).bind(source.to_string()).bind(external_id).fetch_optional(&self.inner.readers).await?;
        row.as_ref().map(identity).transpose()
    }

    /// Groups of a source that somebody is a standing member of.
    pub async fn standing_of_source(&self, source: SourceId, identity: IdentityId) -> Result<Vec<Group>, StoreError> {
        const SQL: &str = concat!(
            "SELECT ",
            group_columns!(),
            " FROM groups WHERE source_id = $1 AND id IN \
             (SELECT group_id FROM memberships WHERE identity_id = $2 AND grant_id = '') ORDER BY id"
        );
        let rows =
            query(SQL).bind(source.to_string()).bind(identity.to_string()).fetch_all(&self.inner.readers).await?;
        Ok(readable(&rows, group))
    }
}

impl Tx {
    /// A run to be; false if one of that name is under way.
    pub async fn insert_run(&mut self, new: &SyncRun) -> Result<bool, StoreError> {
        const SQL: &str = "INSERT INTO sync_runs (id, name, verb, accept, actor_id, started_at, due_at, epoch, \
                           correlation_id) SELECT $1, $2, $3, $4, $5, $6, $6, 0, $7 WHERE NOT EXISTS \
                           (SELECT 1 FROM sync_runs WHERE name = $2 AND finished_at IS NULL)";
        let made = self
            .execute(
                query(SQL)
                    .bind(new.id.to_string())
                    .bind(new.name.clone())
                    .bind(new.verb.clone())
                    .bind(i64::from(new.accept))
                    .bind(new.actor.map(|a| a.to_string()))
                    .bind(new.started_at.micros())
                    .bind(new.correlation.to_string()),
            )
            .await?;
        Ok(made == 1)
    }

    /// Take up to `limit` runs that nobody works on.
    pub async fn lease_runs(
        &mut self,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<SyncRun>, StoreError> {
        const SQL: &str = concat!(
            "UPDATE sync_runs SET due_at = $1, epoch = epoch + 1 WHERE id IN \
             (SELECT id FROM sync_runs WHERE due_at <= $2 ORDER BY due_at LIMIT $3) AND due_at <= $2 RETURNING ",
            run_columns!()
        );
        let sql = query(SQL).bind(until.micros()).bind(now.micros()).bind(i64::from(limit));
        let rows = self.write_returning(sql).await?;
        Ok(readable(&rows, run))
    }

    /// Still at it.
    pub async fn renew_run(&mut self, id: RunId, epoch: i64, until: Timestamp) -> Result<(), StoreError> {
        let sql = query("UPDATE sync_runs SET due_at = $1 WHERE id = $2 AND epoch = $3 AND finished_at IS NULL");
        self.execute_one(sql.bind(until.micros()).bind(id.to_string()).bind(epoch)).await
    }

    /// Done, for good or for nothing.
    pub async fn finish_run(
        &mut self,
        id: RunId,
        epoch: i64,
        outcome: Result<&serde_json::Value, &str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = query(
            "UPDATE sync_runs SET due_at = NULL, finished_at = $1, report = $2, error = $3 \
             WHERE id = $4 AND epoch = $5 AND finished_at IS NULL",
        );
        self.execute_one(
            sql.bind(now.micros())
                .bind(outcome.ok().map(ToString::to_string))
                .bind(outcome.err().map(str::to_owned))
                .bind(id.to_string())
                .bind(epoch),
        )
        .await
    }

    /// The open task of an account.
    pub async fn open_task(&mut self, application: &str, key: &str) -> Result<Option<AccountTask>, StoreError> {
        let sql = query(concat!(
            "SELECT ",
            task_columns!(),
            " FROM account_tasks WHERE application = $1 AND account_key = $2 AND closed_at IS NULL"
        ));
        self.read_optional(sql.bind(application).bind(key)).await?.as_ref().map(task).transpose()
    }

    /// A task to be.
    pub async fn insert_task(&mut self, new: &AccountTask) -> Result<(), StoreError> {
        const SQL: &str = "INSERT INTO account_tasks (id, application, account_key, identity_id, what, details, pushed, \
                           owner, deadline, created_at, correlation_id) \
                           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
        self.execute_one(
            query(SQL)
                .bind(new.id.to_string())
                .bind(new.application.clone())
                .bind(new.key.clone())
                .bind(new.identity.to_string())
                .bind(new.what.clone())
                .bind(new.details.to_string())
                .bind(new.pushed.clone())
                .bind(new.owner.clone())
                .bind(new.deadline.micros())
                .bind(new.created_at.micros())
                .bind(new.correlation.to_string()),
        )
        .await
    }

    /// Close a task; [`StoreError::Conflict`] if it is closed.
    pub async fn close_task(
        &mut self,
        id: TaskId,
        by: Option<IdentityId>,
        evidence: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = query(
            "UPDATE account_tasks SET closed_at = $1, closed_by = $2, evidence = $3 WHERE id = $4 AND closed_at IS NULL",
        );
        self.execute_one(
            sql.bind(now.micros())
                .bind(by.map(|b| b.to_string()))
                .bind(evidence.map(str::to_owned))
                .bind(id.to_string()),
        )
        .await
    }

    /// What a task asked for is done. Whoever has the account leased finds that it was; the account is looked at once
    /// more, for something else may be wanted by now.
    pub async fn task_done(&mut self, done: &AccountTask, deactivated: bool, now: Timestamp) -> Result<(), StoreError> {
        const SQL: &str = "UPDATE accounts SET pushed = $1, state = 'corrected', verified_at = $2, attempts = 0, \
                           deactivated_at = CASE WHEN $3 = 1 THEN coalesce(deactivated_at, $2) END, due_at = $2, \
                           leased = 0, epoch = epoch + 1, last_error = NULL WHERE application = $4 AND account_key = $5";
        self.execute_one(
            query(SQL)
                .bind(done.pushed.clone())
                .bind(now.micros())
                .bind(i64::from(deactivated))
                .bind(done.application.clone())
                .bind(done.key.clone()),
        )
        .await
    }
}
