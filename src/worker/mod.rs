//! The workers: idempotent functions of the ledger, and the loops that call them when rows are due or a schedule says so.
//!
//! Nothing is loaded at start and nothing is kept per grant: what is due is found by one indexed query for each target.

mod deliver;
mod housekeeping;
mod lifecycle;
mod reap;
mod schedule;
mod sync;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// Look for due rows this often, besides being woken.
    pub tick: Duration,
    /// Sign the head of the audit log this often, if there is something new.
    pub seal: Duration,
    /// Look for changed policy files this often.
    pub reload: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            sweep: Schedule::hourly(),
            prune: Schedule::daily(),
            tick: Duration::from_millis(500),
            seal: Duration::from_secs(1),
            reload: Duration::from_secs(2),
        }
    }
}

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
        for target in workers.broker.target_ids() {
            loops.spawn(Arc::clone(&workers).reap_target(target.to_string()));
        }
        loops.spawn(Arc::clone(&workers).reap_strays());
        for application in workers.broker.application_ids() {
            loops.spawn(Arc::clone(&workers).align_application(application.to_string()));
        }
        loops.spawn(Arc::clone(&workers).carry_out_runs());
        for (name, schedule) in workers.broker.sync_schedules() {
            loops.spawn(Arc::clone(&workers).sync_by_clock(name, schedule));
        }
        loops.spawn(Arc::clone(&workers).deliver_messages());
        loops.spawn(Arc::clone(&workers).attend_identities());
        loops.spawn(Arc::clone(&workers).lapse_requests());
        loops.spawn(Arc::clone(&workers).seal_log());
        loops.spawn(Arc::clone(&workers).reload_policy());
        loops.spawn(Arc::clone(&workers).measure());
        loops.spawn(Arc::clone(&workers).sweep_targets());
        loops.spawn(Arc::clone(&workers).prune());
        while let Some(ended) = loops.join_next().await {
            // A panicking loop harms only itself; the others go on, and the readiness check is not the place to hide it.
            if let Err(error) = ended
                && error.is_panic()
            {
                metrics::counter!("tidegate_worker_panics_total").increment(1);
                tracing::error!(error = %error, "a worker panicked");
            }
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
