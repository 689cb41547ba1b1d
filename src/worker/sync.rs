//! Accounts in applications: one loop for each, so that one that hangs holds up no other.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::task::{JoinError, JoinHandle};

use super::{Schedule, Workers};
use crate::broker::BrokerError;

/// Accounts taken in one commit: few, so that a lease never waits long for its turn.
const BATCH: usize = 16;

/// Runs at once: each of another application or source.
const RUNS: u32 = 4;

impl Workers {
    /// Carry out runs that are due, for ever.
    pub(super) async fn carry_out_runs(self: Arc<Self>) {
        loop {
            let due = self.broker.due.notified();
            match self.runs_due().await {
                Ok(taken) if taken > 0 => {}
                Ok(_) => {
                    tokio::select! {
                        () = self.closing().cancelled() => return,
                        () = due => {}
                        () = tokio::time::sleep(self.rhythm.tick) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "runs of the sync could not be looked at; it is tried again");
                    if !self.pause(std::time::Duration::from_secs(1)).await {
                        return;
                    }
                }
            }
            if self.closing().is_cancelled() {
                return;
            }
        }
    }

    /// One round: lease the runs that nobody works on and carry them out. How many.
    pub(super) async fn runs_due(&self) -> Result<usize, BrokerError> {
        if self.broker.is_observing() {
            return Ok(0);
        }
        let runs = self.broker.lease_runs(RUNS).await?;
        let taken = runs.len();
        let mut running: FuturesUnordered<_> = runs
            .into_iter()
            .map(|run| {
                let broker = Arc::clone(&self.broker);
                self.broker.track(async move { broker.carry_out(run).await })
            })
            .collect();
        while let Some(finished) = running.next().await {
            match finished {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "a run could not be recorded; it is taken up again"),
                Err(error) => tracing::error!(error = %error, "a run panicked; it is taken up again"),
            }
        }
        Ok(taken)
    }

    /// Begin a run whenever its schedule says so; one broker at a time.
    pub(super) async fn sync_by_clock(self: Arc<Self>, name: String, schedule: String) {
        let Ok(schedule) = schedule.parse::<Schedule>() else {
            tracing::error!(name, schedule, "a schedule of the sync cannot be read");
            return;
        };
        while self.until_due(&schedule).await {
            match self.has_turn(&format!("sync:{name}"), std::time::Duration::from_secs(30)).await {
                Ok(true) => {
                    if let Err(error) = self.broker.start_sync_by_clock(&name).await {
                        tracing::warn!(name, error = %error, "a run of the sync could not be begun");
                    }
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(name, error = %error, "the turn to sync could not be taken"),
            }
        }
    }

    /// Work on what is due in one application, for ever. What takes long holds up nothing but its own place.
    pub(super) async fn align_application(self: Arc<Self>, application: String) {
        let width = self.aligned_at_once(&application);
        let mut running = FuturesUnordered::new();
        loop {
            let due = self.broker.due.notified();
            // Several at once, so that a lease is not a commit for each account.
            let room = running.len() <= width / 2;
            if room {
                match self.begin_aligning(&application, width - running.len(), &mut running).await {
                    Ok(0) => {}
                    Ok(_) if self.closing().is_cancelled() => {}
                    Ok(_) => continue,
                    Err(error) => {
                        tracing::warn!(application, error = %error, "accounts could not be leased; it is tried again");
                        if !self.pause(std::time::Duration::from_secs(1)).await {
                            break;
                        }
                    }
                }
            }
            tokio::select! {
                () = self.closing().cancelled() => break,
                Some(finished) = running.next(), if !running.is_empty() => told(&application, finished),
                () = due, if room => {}
                () = tokio::time::sleep(self.rhythm.tick), if room => {}
            }
        }
        while let Some(finished) = running.next().await {
            told(&application, finished);
        }
    }

    /// No more than can begin at once: what waits would wait within its lease.
    fn aligned_at_once(&self, application: &str) -> usize {
        self.broker.application_concurrency(application).clamp(1, BATCH)
    }

    /// Lease what is due, up to `room`, and begin to work on it. How many accounts that are.
    async fn begin_aligning(
        &self,
        application: &str,
        room: usize,
        running: &mut FuturesUnordered<JoinHandle<Result<(), BrokerError>>>,
    ) -> Result<usize, BrokerError> {
        if self.broker.is_observing() {
            return Ok(0);
        }
        let limit = u32::try_from(room).unwrap_or(1);
        let work = self.broker.lease_accounts(application, limit).await?;
        let taken = work.len();
        for one in work {
            let broker = Arc::clone(&self.broker);
            running.push(self.broker.track(async move { broker.work_on(one).await }));
        }
        Ok(taken)
    }

    /// One round: lease what is due and work on it concurrently. How many accounts that were.
    pub(super) async fn align_due(&self, application: &str) -> Result<usize, BrokerError> {
        let mut running = FuturesUnordered::new();
        let taken = self.begin_aligning(application, self.aligned_at_once(application), &mut running).await?;
        while let Some(finished) = running.next().await {
            told(application, finished);
        }
        Ok(taken)
    }
}

fn told(application: &str, finished: Result<Result<(), BrokerError>, JoinError>) {
    match finished {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(application, error = %error, "an account could not be recorded; its lease will run out");
        }
        Err(error) => {
            tracing::error!(application, error = %error, "work on an account panicked; its lease will run out");
        }
    }
}
