//! The workers: idempotent functions of the ledger, and the loops that call them when rows are due or a schedule says so.
//!
//! Nothing is loaded at start and nothing is kept per grant: what is due is found by one indexed query for each target.

mod deliver;
mod housekeeping;
mod lifecycle;
mod reap;
mod schedule;
mod sync;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Broker, BrokerError},
    domain::time::Timestamp,
    ports::notifier::Notifier,
    store::StoreError,
};

pub use schedule::{BadSchedule, Schedule};

/// When the periodic tasks run.
#[derive(Debug, Clone)]
pub struct Rhythm {
    /// Compare every target with the ledger.
    pub sweep: Schedule,
    /// Delete what nobody will ask for again.
    pub prune: Schedule,
    /// Look for accounts that nobody uses, and for people to be forgotten.
    pub tidy: Schedule,
    /// Look for due rows this often, besides being woken.
    pub tick: Duration,
    /// Sign the head of the audit log this often, if there is something new.
    pub seal: Duration,
    /// Look for changed policy files this often.
    pub reload: Duration,
    /// A loop that panicked begins anew after this.
    pub restart: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            sweep: Schedule::hourly(),
            prune: Schedule::daily(),
            tidy: Schedule::daily(),
            tick: Duration::from_millis(500),
            seal: Duration::from_secs(1),
            reload: Duration::from_secs(2),
            restart: Duration::from_secs(5),
        }
    }
}

/// One of the loops, to be begun as often as need be.
type Loop = Box<dyn Fn(Arc<Workers>) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the workers are made of.
pub struct Workers {
    /// The use-cases that they call.
    pub broker: Arc<Broker>,
    /// Where messages go, by name.
    pub notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    /// When.
    pub rhythm: Rhythm,
    /// This process, among the brokers on one ledger.
    pub node: String,
}

impl Workers {
    /// Run every worker until the broker closes; then each finishes what it has begun.
    pub async fn run(self) {
        let workers = Arc::new(self);
        let mut loops = JoinSet::new();
        let mut keep = |name: &str, work: Loop| {
            loops.spawn(Arc::clone(&workers).keep_going(name.to_owned(), work));
        };
        for target in workers.broker.target_ids() {
            keep(&format!("reap {target}"), Box::new(move |w| Box::pin(w.reap_target(target.to_string()))));
        }
        keep("reap strays", Box::new(|w| Box::pin(w.reap_strays())));
        for application in workers.broker.application_ids() {
            let name = format!("align {application}");
            keep(&name, Box::new(move |w| Box::pin(w.align_application(application.to_string()))));
        }
        keep("carry out runs", Box::new(|w| Box::pin(w.carry_out_runs())));
        for (name, schedule) in workers.broker.sync_schedules() {
            let work: Loop = Box::new(move |w| Box::pin(w.sync_by_clock(name.clone(), schedule.clone())));
            keep("sync by clock", work);
        }
        keep("deliver", Box::new(|w| Box::pin(w.deliver_messages())));
        keep("attend", Box::new(|w| Box::pin(w.attend_identities())));
        keep("enforce locks", Box::new(|w| Box::pin(w.enforce_locks())));
        keep("lapse", Box::new(|w| Box::pin(w.lapse_requests())));
        keep("seal", Box::new(|w| Box::pin(w.seal_log())));
        keep("reload policy", Box::new(|w| Box::pin(w.reload_policy())));
        keep("measure", Box::new(|w| Box::pin(w.measure())));
        keep("sweep", Box::new(|w| Box::pin(w.sweep_targets())));
        keep("tidy", Box::new(|w| Box::pin(w.tidy())));
        keep("prune", Box::new(|w| Box::pin(w.prune())));
        while loops.join_next().await.is_some() {}
    }

    /// Run a loop until the broker closes. One that panics harms only itself, is told of by the readiness check, and
    /// begins anew after a pause.
    async fn keep_going(self: Arc<Self>, name: String, work: Loop) {
        while AssertUnwindSafe(work(Arc::clone(&self))).catch_unwind().await.is_err() {
            metrics::counter!("tidegate_worker_panics_total").increment(1);
            tracing::error!(name, "a worker panicked; it begins anew in a moment");
            self.broker.worker_is_down(&name, true);
            if !self.pause(self.rhythm.restart).await {
                return;
            }
            self.broker.worker_is_down(&name, false);
        }
    }

    /// Do once what is due now: start, end, lapse, look at identities. How many grants and identities were looked at.
    pub async fn round(&self) -> Result<usize, BrokerError> {
        let mut looked_at = self.attend_due().await?;
        for target in self.broker.target_ids() {
            looked_at += self.reap_due(&target).await?;
        }
        looked_at += self.runs_due().await?;
        for application in self.broker.application_ids() {
            looked_at += self.align_due(&application).await?;
        }
        looked_at += self.broker.enforce_locks().await?;
        self.broker.lapse(100).await?;
        Ok(looked_at)
    }

    fn closing(&self) -> &CancellationToken {
        self.broker.closing()
    }

    /// Wait, but not beyond closing; false when closing.
    async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.closing().cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    /// Is it this broker's turn at a task that one broker at a time does?
    async fn has_turn(&self, task: &str, lasting: Duration) -> Result<bool, StoreError> {
        if self.broker.is_observing() {
            return Ok(false);
        }
        let now: Timestamp = self.broker.now();
        let store = self.broker.store();
        loop {
            let mut tx = store.begin_background().await?;
            let taken = tx.take_lease(task, &self.node, now, now.plus_std(lasting)).await;
            if let Some(result) = tx.end(taken).await {
                return result;
            }
        }
    }
}
