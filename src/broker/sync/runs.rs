//! Runs: begun by an administrator or by the schedule, carried out by whoever leases them, taken up again if that dies.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    super::{Broker, BrokerError, Ctx, bulkhead::Purpose, input::Paging, lock::only_admins, record::Cause, view::List},
    scan::{Verb, fault_text},
    view::{AccountView, ReadingReport, Report, RunView, SyncView},
};
use crate::{
    domain::{
        account::AccountState,
        id::{IdentityId, RunId},
        time::Timestamp,
    },
    store::{AccountRow, StoreError, SyncRun},
};

/// A run whose worker has said nothing for this long is taken up by another.
const LEASE: Duration = Duration::from_secs(180);

pub(super) fn only_onlookers(ctx: &Ctx) -> Result<(), BrokerError> {
    if ctx.sees_everything() {
        return Ok(());
    }
    Err(BrokerError::Forbidden("only administrators and auditors see this"))
}

impl Broker {
    /// Begin a run, by hand: administrators only.
    pub async fn start_sync(&self, ctx: &Ctx, name: &str, verb: &str, accept: bool) -> Result<RunId, BrokerError> {
        only_admins(ctx)?;
        self.may_change()?;
        self.not_locked(ctx).await?;
        let known = Verb::parse(verb).ok_or_else(|| BrokerError::invalid("verb", "plan, apply, verify or drift"))?;
        if self.upstreams.contains_key(name) {
            if !matches!(known, Verb::Plan | Verb::Apply) {
                return Err(BrokerError::invalid("verb", "a source can only be planned and applied"));
            }
        } else {
            self.downstream(name)?;
        }
        let run = self.new_run(name, verb, accept, Some(ctx.actor_id()), ctx.now, ctx.correlation)?;
        self.begin_run(&run).await?.ok_or_else(|| {
            BrokerError::State(format!("a run of `{name}` is under way; see `tidegate sync ls` and try again"))
        })
    }

    /// Begin a run by the clock, unless one is under way.
    pub async fn start_sync_by_clock(&self, name: &str) -> Result<(), BrokerError> {
        self.may_change()?;
        let now = self.now();
        let run = self.new_run(name, "apply", false, None, now, self.fresh_correlation(now)?)?;
        self.begin_run(&run).await?;
        Ok(())
    }

    fn new_run(
        &self,
        name: &str,
        verb: &str,
        accept: bool,
        actor: Option<IdentityId>,
        now: Timestamp,
        correlation: crate::domain::id::CorrelationId,
    ) -> Result<SyncRun, BrokerError> {
        Ok(SyncRun {
            id: RunId::new(self.entropy.ulid(now)?),
            name: name.to_owned(),
            verb: verb.to_owned(),
            accept,
            actor,
            started_at: now,
            finished_at: None,
            epoch: 0,
            report: None,
            error: None,
            correlation,
        })
    }

    async fn begin_run(&self, run: &SyncRun) -> Result<Option<RunId>, BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                let begun = tx.insert_run(run).await?;
                if begun && run.actor.is_some() {
                    let details = json!({"name": run.name, "verb": run.verb, "accept": run.accept, "run": run.id});
                    let event = self.event(&Cause::from(run), "sync.started", details)?;
                    self.note(&mut tx, event)?;
                }
                Ok::<_, BrokerError>(begun)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                let begun = result?;
                self.wake();
                return Ok(begun.then_some(run.id));
            }
        }
    }

    /// Take the runs that nobody works on.
    pub async fn lease_runs(&self, limit: u32) -> Result<Vec<SyncRun>, BrokerError> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin_background().await?;
            let taken = tx.lease_runs(now, now.plus_std(LEASE), limit).await.map_err(BrokerError::from);
            if let Some(result) = tx.end(taken).await {
                return result;
            }
        }
    }

    /// Carry a run out and record what it came to.
    pub async fn carry_out(&self, run: SyncRun) -> Result<(), BrokerError> {
        let outcome = self.outcome_of(&run).await;
        let outcome = match outcome {
            // Another has it, or will have it when the lease runs out.
            Err(BrokerError::Store(StoreError::Conflict) | BrokerError::Closing) => return Ok(()),
            Ok(report) => Ok(report),
            Err(error) => Err(fault_text(&error)),
        };
        if let Err(why) = &outcome {
            tracing::warn!(name = run.name, verb = run.verb, error = why, "a run of the sync came to nothing");
        }
        let now = self.now();
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                let result = outcome.as_ref().map_err(String::as_str);
                tx.finish_run(run.id, run.epoch, result, now).await?;
                // A comparison by the clock that finds nothing leaves nothing in the log.
                if run.actor.is_some() || outcome.as_ref().is_ok_and(worth_noting) {
                    let summary = outcome.as_ref().ok().map(summary);
                    let details = json!({
                        "name": run.name, "verb": run.verb, "run": run.id, "summary": summary, "error": outcome.as_ref().err(),
                    });
                    let cause = Cause { now, ..Cause::from(&run) };
                    let event = self.event(&cause, "sync.finished", details)?;
                    self.note(&mut tx, event)?;
                }
                Ok::<_, BrokerError>(())
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(()),
                Some(result) => return result,
            }
        }
    }

    async fn outcome_of(&self, run: &SyncRun) -> Result<Value, BrokerError> {
        let verb = Verb::parse(&run.verb).ok_or(BrokerError::NotFound("verb"))?;
        if let Some(source) = self.upstreams.get(run.name.as_str()) {
            let report = self.read_source(&std::sync::Arc::clone(source), verb == Verb::Apply, run).await?;
            return Ok(serde_json::to_value(report).unwrap_or_default());
        }
        let app = std::sync::Arc::clone(self.downstream(&run.name)?);
        let report = self.scan(&app, verb, run).await?;
        Ok(serde_json::to_value(report).unwrap_or_default())
    }

    /// Say that the run goes on; [`StoreError::Conflict`] if another has it.
    pub(super) async fn renew(&self, run: &SyncRun) -> Result<(), BrokerError> {
        if self.closing.is_cancelled() {
            return Err(BrokerError::Closing);
        }
        let now = self.now();
        loop {
            let mut tx = self.store.begin_background().await?;
            let kept = tx.renew_run(run.id, run.epoch, now.plus_std(LEASE)).await.map_err(BrokerError::from);
            if let Some(result) = tx.end(kept).await {
                return result;
            }
        }
    }

    /// Wait until a run is done, and what it marked is worked on, at most `patience`; then how it stands.
    pub async fn await_sync(&self, ctx: &Ctx, id: RunId, patience: Duration) -> Result<RunView, BrokerError> {
        let waiting = async {
            loop {
                let view = self.sync_run(ctx, id).await?;
                let pending = view.accounts.get(AccountState::Pending.as_str()).copied().unwrap_or(0);
                if view.state != "running" && pending == 0 {
                    return Ok(view);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(patience, waiting).await {
            Ok(done) => done,
            Err(_) => self.sync_run(ctx, id).await,
        }
    }

    /// One run.
    pub async fn sync_run(&self, ctx: &Ctx, id: RunId) -> Result<RunView, BrokerError> {
        only_onlookers(ctx)?;
        let run = self.store.sync_run(id).await?.ok_or(BrokerError::NotFound("run"))?;
        self.run_view(run).await
    }

    async fn run_view(&self, run: SyncRun) -> Result<RunView, BrokerError> {
        let source = self.upstreams.contains_key(run.name.as_str());
        let mut accounts = BTreeMap::new();
        if !source && run.verb == "apply" {
            for (state, n) in self.store.accounts_of_cause(&run.name, run.correlation).await? {
                accounts.insert(state.as_str().to_owned(), n);
            }
        }
        let reading: Option<ReadingReport> =
            run.report.clone().filter(|_| source).and_then(|r| serde_json::from_value(r).ok());
        let report: Option<Report> = run.report.filter(|_| !source).and_then(|r| serde_json::from_value(r).ok());
        let state = match (&run.finished_at, &run.error, &reading) {
            (None, ..) => "running",
            (_, Some(_), _) => "failed",
            (_, _, Some(reading)) if reading.stopped.is_some() => "stopped",
            _ => "done",
        };
        Ok(RunView {
            id: run.id.to_string(),
            name: run.name,
            verb: run.verb,
            state: state.to_owned(),
            started_at: run.started_at.to_string(),
            finished_at: run.finished_at.map(|t| t.to_string()),
            report,
            reading,
            accounts,
            error: run.error,
            correlation_id: run.correlation.to_string(),
        })
    }

    /// Applications and sources, and how they stand.
    pub async fn syncs(&self, ctx: &Ctx) -> Result<Vec<SyncView>, BrokerError> {
        only_onlookers(ctx)?;
        let mut views = Vec::new();
        for id in self.downstreams.keys().chain(self.upstreams.keys()) {
            views.push(self.sync_view(ctx, id).await?);
        }
        Ok(views)
    }

    /// One of them.
    pub async fn sync_view(&self, ctx: &Ctx, id: &str) -> Result<SyncView, BrokerError> {
        only_onlookers(ctx)?;
        let last = self.store.last_run(id).await?;
        let last_run = match last {
            Some(run) => Some(self.run_view(run).await?),
            None => None,
        };
        if let Some(source) = self.upstreams.get(id) {
            return Ok(SyncView {
                id: id.to_owned(),
                role: "source".to_owned(),
                kind: source.config.kind.as_str().to_owned(),
                schedule: source.config.schedule.clone(),
                health: "ok".to_owned(),
                accounts: BTreeMap::new(),
                open_tasks: 0,
                last_run,
            });
        }
        let app = self.downstream(id)?;
        let counts = self.store.account_counts(id).await?;
        let tasks = self.store.account_tasks(false, None, 1000).await?;
        Ok(SyncView {
            id: id.to_owned(),
            role: "application".to_owned(),
            kind: app.config.kind.clone(),
            schedule: app.config.schedule.clone(),
            health: app.held_back(Purpose::Issue).unwrap_or_else(|| "ok".to_owned()),
            accounts: counts.into_iter().map(|(state, n)| (state.as_str().to_owned(), n)).collect(),
            open_tasks: tasks.items.iter().filter(|t| t.application == id).count() as u64,
            last_run,
        })
    }

    /// Accounts of one application.
    pub async fn accounts(
        &self,
        ctx: &Ctx,
        id: &str,
        state: Option<AccountState>,
        paging: Paging,
    ) -> Result<List<AccountView>, BrokerError> {
        only_onlookers(ctx)?;
        self.downstream(id)?;
        let page = self.store.accounts(id, state, paging.after.as_deref(), paging.rows()).await?;
        let mut items = Vec::with_capacity(page.items.len());
        for row in page.items {
            items.push(self.account_view(row).await?);
        }
        Ok(List { items, next: page.next })
    }

    async fn account_view(&self, row: AccountRow) -> Result<AccountView, BrokerError> {
        let name = match row.identity {
            Some(id) => Some(self.name_of(id).await.to_string()),
            None => None,
        };
        Ok(AccountView {
            application: row.application,
            identity: row.identity.map(|i| i.to_string()),
            name,
            remote_id: row.remote_id,
            state: row.state,
            verified_at: row.verified_at.map(|t| t.to_string()),
            attempts: row.attempts,
            due_at: row.due_at.map(|t| t.to_string()),
            error: row.last_error,
            correlation_id: row.correlation.to_string(),
        })
    }

    /// What runs by the clock: names and schedules.
    pub fn sync_schedules(&self) -> Vec<(String, String)> {
        let apps = self.downstreams.values().map(|a| (a.config.id.to_string(), a.config.schedule.clone()));
        let sources = self.upstreams.values().map(|s| (s.config.id.to_string(), s.config.schedule.clone()));
        apps.chain(sources).filter_map(|(name, schedule)| Some((name, schedule?))).collect()
    }
}

/// Without the lists, which are about people.
fn summary(report: &Value) -> Value {
    let mut short = report.as_object().cloned().unwrap_or_default();
    for list in ["items", "leavers", "refused", "conflicts"] {
        if let Some(Value::Array(items)) = short.remove(list) {
            short.insert(format!("{list}_listed"), json!(items.len()));
        }
    }
    Value::Object(short)
}

fn worth_noting(report: &Value) -> bool {
    let number = |name: &str| report.get(name).and_then(Value::as_u64).unwrap_or(0);
    let some = |name: &str| report.get(name).and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    number("marked") + number("joined") + number("changed") + number("left") > 0
        || ["items", "refused", "conflicts"].into_iter().any(some)
}
