//! Applications that people keep by hand: a task with an owner and a deadline, and evidence that it is done.

use serde_json::json;

use super::{
    super::{Broker, BrokerError, Ctx, ask::required_text, input::Paging, record::Cause, view::List},
    Downstream,
    view::TaskView,
    wanted::Wanted,
};
use crate::{
    domain::{
        account::AccountState,
        id::TaskId,
        provision::MadeBy,
        time::{Timestamp, Ttl},
    },
    store::{AccountRow, AccountTask, StoreError, Tx, Worked},
};

/// How long a task may take if configuration does not say.
const DEADLINE: Ttl = Ttl::seconds_or_one(2 * 86_400);
/// What a task is called that gives an account its role.
const ASSIGN_ROLE: &str = "assign_role";
/// An overdue task is told of again after this long.
const AGAIN: Ttl = Ttl::seconds_or_one(86_400);

impl Broker {
    /// See that somebody has the task to bring the account to what it should be.
    pub(super) async fn work_by_hand(
        &self,
        app: &Downstream,
        row: &AccountRow,
        wanted: &Wanted,
    ) -> Result<(), BrokerError> {
        let now = self.now();
        let hash = wanted.hash();
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                let open = tx.open_task(&row.application, &row.key).await?;
                let gone = !matches!(wanted, Wanted::Present(_));
                let open = open.filter(|task| task.what != ASSIGN_ROLE || gone);
                // It makes its accounts by itself, as people sign in; nobody has anything to do but to close them.
                if !gone && app.config.provision.waits_for_logins() && self.by_login(app, row).await? {
                    self.no_longer_needed(&mut tx, open, now).await?;
                    self.ask_for_role(&mut tx, app, row, now).await?;
                    let made = Worked { pushed: Some(hash.clone()), ..settled(app, row, wanted) };
                    return tx.record_account(row, &made, now).await.map_err(BrokerError::from);
                }
                if row.pushed.as_deref() == Some(hash.as_str()) {
                    self.no_longer_needed(&mut tx, open, now).await?;
                    return tx.record_account(row, &settled(app, row, wanted), now).await.map_err(BrokerError::from);
                }
                if gone && row.pushed.is_none() && open.is_none() {
                    return tx.forget_account(row, now).await.map_err(BrokerError::from);
                }
                let task = match open {
                    Some(task) if task.pushed == hash => task,
                    other => {
                        self.no_longer_needed(&mut tx, other, now).await?;
                        self.make_task(&mut tx, app, row, wanted, hash.clone(), now).await?
                    }
                };
                let overdue = task.deadline <= now;
                if overdue {
                    tracing::error!(task = %task.id, application = task.application, owner = task.owner, "a task is overdue");
                    self.note_task(&mut tx, &Cause::worker(task.correlation, now), "task.overdue", &task, json!({}))?;
                }
                let worked = Worked {
                    remote_id: None,
                    pushed: row.pushed.clone(),
                    state: AccountState::NotVerified,
                    deactivated_at: row.deactivated_at,
                    verified_at: row.verified_at,
                    attempts: 0,
                    due_at: Some(if overdue { now.plus(AGAIN) } else { task.deadline }),
                    last_error: Some(format!("waits for {} to {} it by hand ({})", task.owner, task.what, task.id)),
                };
                tx.record_account(row, &worked, now).await.map_err(BrokerError::from)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(()),
                Some(result) => return result,
            }
        }
    }

    /// Is somebody's account made by their first sign-in?
    async fn by_login(&self, app: &Downstream, row: &AccountRow) -> Result<bool, BrokerError> {
        let Some(id) = row.identity else { return Ok(false) };
        let facts = self.store.facts(id, self.now()).await?;
        Ok(facts.is_some_and(|f| app.config.provision.made_by(&f.subject, &f.standing) == MadeBy::Login))
    }

    /// An account is there that was not: somebody is to give it its role, where that is done by hand.
    pub(super) async fn ask_for_role(
        &self,
        tx: &mut Tx,
        app: &Downstream,
        row: &AccountRow,
        now: Timestamp,
    ) -> Result<(), BrokerError> {
        let Some(text) = app.config.role_task.as_ref().filter(|_| row.pushed.is_none()) else { return Ok(()) };
        if tx.open_task(&row.application, &row.key).await?.is_some() {
            return Ok(());
        }
        let details = json!({"to_do": text, "role": "none was given"});
        self.record_task(tx, app, row, ASSIGN_ROLE, details, ASSIGN_ROLE.to_owned(), now).await?;
        Ok(())
    }

    /// Whoever is gone needs no role any more.
    pub(super) async fn forget_role(&self, tx: &mut Tx, row: &AccountRow, now: Timestamp) -> Result<(), BrokerError> {
        let open = tx.open_task(&row.application, &row.key).await?.filter(|task| task.what == ASSIGN_ROLE);
        self.no_longer_needed(tx, open, now).await
    }

    async fn no_longer_needed(
        &self,
        tx: &mut Tx,
        task: Option<AccountTask>,
        now: Timestamp,
    ) -> Result<(), BrokerError> {
        let Some(task) = task else { return Ok(()) };
        tx.close_task(task.id, None, None, now).await?;
        self.note_task(tx, &Cause::worker(task.correlation, now), "task.superseded", &task, json!({}))
    }

    async fn make_task(
        &self,
        tx: &mut Tx,
        app: &Downstream,
        row: &AccountRow,
        wanted: &Wanted,
        hash: String,
        now: Timestamp,
    ) -> Result<AccountTask, BrokerError> {
        let what = match wanted {
            Wanted::Present(_) if row.pushed.is_none() => "create",
            Wanted::Present(_) => "update",
            Wanted::Deleted { .. } => "delete",
            Wanted::Inactive { .. } | Wanted::Nothing => "deactivate",
        };
        self.record_task(tx, app, row, what, wanted.details(), hash, now).await
    }

    #[allow(clippy::too_many_arguments, reason = "all that a task is, once")]
    async fn record_task(
        &self,
        tx: &mut Tx,
        app: &Downstream,
        row: &AccountRow,
        what: &str,
        details: serde_json::Value,
        hash: String,
        now: Timestamp,
    ) -> Result<AccountTask, BrokerError> {
        let identity = row.identity.ok_or(BrokerError::NotFound("identity"))?;
        let task = AccountTask {
            id: TaskId::new(self.entropy.ulid(now)?),
            application: row.application.clone(),
            key: row.key.clone(),
            identity,
            what: what.to_owned(),
            details,
            pushed: hash,
            owner: app.config.owner.clone().unwrap_or_default(),
            deadline: now.plus(app.config.deadline.unwrap_or(DEADLINE)),
            created_at: now,
            closed_at: None,
            closed_by: None,
            evidence: None,
            correlation: row.correlation,
        };
        tx.insert_task(&task).await?;
        let cause = Cause::worker(row.correlation, now);
        let details = json!({"owner": task.owner, "deadline": task.deadline});
        self.note_task(tx, &cause, "task.created", &task, details)?;
        Ok(task)
    }

    fn note_task(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        action: &str,
        task: &AccountTask,
        mut details: serde_json::Value,
    ) -> Result<(), BrokerError> {
        if let serde_json::Value::Object(details) = &mut details {
            details.insert("task".to_owned(), json!(task.id));
            details.insert("what".to_owned(), json!(task.what));
        }
        let mut event = self.event(cause, action, details)?;
        event.subject = Some(task.identity);
        event.target = Some(task.application.clone());
        self.note(tx, event)
    }

    /// What people are to do by hand. Administrators and auditors see all of it, others what is theirs to do.
    pub async fn tasks(&self, ctx: &Ctx, closed_too: bool, paging: Paging) -> Result<List<TaskView>, BrokerError> {
        let page = self.store.account_tasks(closed_too, paging.after.as_deref(), paging.rows()).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for task in page.items {
            if ctx.sees_everything() || owns(ctx, &task) {
                items.push(self.task_view(task).await?);
            }
        }
        Ok(List { items, next: page.next })
    }

    /// Somebody says that a task is done, and what shows it: its owner, and administrators.
    pub async fn finish_task(&self, ctx: &Ctx, id: TaskId, evidence: &str) -> Result<TaskView, BrokerError> {
        self.may_change()?;
        self.not_locked(ctx).await?;
        let task = self.store.account_task(id).await?.ok_or(BrokerError::NotFound("task"))?;
        if !ctx.is_admin() && !owns(ctx, &task) {
            let seen = ctx.sees_everything();
            return Err(if seen {
                BrokerError::Forbidden("only its owner and administrators say that a task is done")
            } else {
                BrokerError::NotFound("task")
            });
        }
        // Nobody attests the end of their own access.
        if task.identity == ctx.actor_id() {
            return Err(BrokerError::Forbidden("somebody else must say that your own account is as it should be"));
        }
        let evidence = required_text("evidence", evidence)?;
        let cause = Cause::from(ctx);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let closed = tx.close_task(id, Some(ctx.actor_id()), Some(&evidence), ctx.now).await;
                closed.map_err(|e| match e {
                    StoreError::Conflict => BrokerError::State("it is closed already".to_owned()),
                    other => other.into(),
                })?;
                // The event belongs to what the task follows from, and says who did it.
                let cause = Cause { correlation: task.correlation, ..cause };
                if task.what == ASSIGN_ROLE {
                    return self.note_task(&mut tx, &cause, "task.done", &task, json!({"evidence": evidence}));
                }
                tx.task_done(&task, matches!(task.what.as_str(), "deactivate" | "delete"), ctx.now).await?;
                self.note_task(&mut tx, &cause, "task.done", &task, json!({"evidence": evidence}))?;
                let details = json!({"by_hand": true, "task": task.id, "evidence": evidence});
                let mut event = self.event(&cause, "account.verified", details)?;
                event.subject = Some(task.identity);
                event.target = Some(task.application.clone());
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                self.wake();
                break;
            }
        }
        let task = self.store.account_task(id).await?.ok_or(BrokerError::NotFound("task"))?;
        self.task_view(task).await
    }

    async fn task_view(&self, task: AccountTask) -> Result<TaskView, BrokerError> {
        let closed_by = match task.closed_by {
            Some(id) => Some(self.name_of(id).await.to_string()),
            None => None,
        };
        Ok(TaskView {
            id: task.id.to_string(),
            name: self.name_of(task.identity).await.to_string(),
            identity: task.identity.to_string(),
            application: task.application,
            what: task.what,
            details: task.details,
            owner: task.owner,
            deadline: task.deadline.to_string(),
            overdue: task.closed_at.is_none() && task.deadline <= self.now(),
            created_at: task.created_at.to_string(),
            closed_at: task.closed_at.map(|t| t.to_string()),
            closed_by,
            evidence: task.evidence,
            correlation_id: task.correlation.to_string(),
        })
    }
}

fn owns(ctx: &Ctx, task: &AccountTask) -> bool {
    let owner = task.owner.to_lowercase();
    ctx.actor.identity.name.to_lowercase() == owner || ctx.actor.is_in(&owner)
}

/// Somebody said that it is as it should be; deletion comes due by itself.
fn settled(app: &Downstream, row: &AccountRow, wanted: &Wanted) -> Worked {
    let inactive = matches!(wanted, Wanted::Inactive { .. });
    let state = match row.state {
        state @ (AccountState::Aligned | AccountState::Corrected) => state,
        _ => AccountState::Aligned,
    };
    let retention = row.deactivated_at.filter(|_| inactive).zip(app.config.delete_after);
    Worked {
        remote_id: None,
        pushed: row.pushed.clone(),
        state,
        deactivated_at: row.deactivated_at.filter(|_| inactive),
        verified_at: row.verified_at,
        attempts: 0,
        due_at: retention.map(|(since, after)| since.plus(after)),
        last_error: None,
    }
}
