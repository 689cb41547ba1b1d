//! The reaper: one loop for each target, so that a target that hangs holds up nobody else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinHandle;

use super::Workers;
use crate::broker::BrokerError;

/// How often to look for grants whose target is no longer configured.
const STRAYS: Duration = Duration::from_secs(30);

/// What is being settled at one target.
type Settling = FuturesUnordered<JoinHandle<Result<(), BrokerError>>>;

impl Workers {
    /// End and start what is due at one target, for ever. While some is being settled and recorded, the next is taken.
    pub(super) async fn reap_target(self: Arc<Self>, target: String) {
        let most = self.broker.settled_at_once(&target);
        let mut settling = Settling::new();
        loop {
            let due = self.broker.due.notified();
            tokio::pin!(due);
            let mut more = true;
            while more && settling.len() <= most / 2 && !self.closing().is_cancelled() {
                let room = self.broker.leased_at_once(most - settling.len());
                match self.take_due(&target, room, &settling).await {
                    Ok(taken) => more = taken == room,
                    Err(error) => {
                        tracing::warn!(target, error = %error, "the reaper could not work; it tries again");
                        if !self.pause(Duration::from_secs(1)).await {
                            return;
                        }
                    }
                }
            }
            loop {
                tokio::select! {
                    () = self.closing().cancelled() => return,
                    Some(settled) = settling.next() => {
                        if let Err(error) = settled_at(&target, settled) {
                            tracing::warn!(target, error = %error, "an end could not be recorded; its lease will run out");
                        }
                        if more && settling.len() <= most / 2 {
                            break;
                        }
                    }
                    () = &mut due, if !more => break,
                    () = tokio::time::sleep(self.rhythm.tick), if !more => break,
                }
            }
        }
    }

    /// One round: lease what is due and settle it. How many rows that were.
    pub(super) async fn reap_due(&self, target: &str) -> Result<usize, BrokerError> {
        let mut settling = Settling::new();
        let taken = self.take_due(target, self.broker.settled_at_once(target), &settling).await?;
        let mut outcome = Ok(taken);
        while let Some(settled) = settling.next().await {
            outcome = settled_at(target, settled).and(outcome);
        }
        outcome
    }

    /// Lease up to so many due rows and begin to settle them; each records its outcome itself, in shared commits. How
    /// many rows.
    async fn take_due(&self, target: &str, most: usize, settling: &Settling) -> Result<usize, BrokerError> {
        if self.broker.is_observing() {
            return Ok(0);
        }
        crate::failpoint::hit("reap.look");
        let due = self.broker.lease_due(target, u32::try_from(most).unwrap_or(u32::MAX)).await?;
        let taken = due.len();
        for due in due {
            let broker = Arc::clone(&self.broker);
            // Counted as in flight: closing waits for it. How many calls the target gets at once is its bulkhead's affair.
            settling.push(self.broker.track(async move {
                let outcome = broker.settle(due).await;
                broker.record_outcome(&outcome).await
            }));
        }
        Ok(taken)
    }

    /// Grants on targets that are no longer configured: they stay due, are counted, quarantined and alerted.
    pub(super) async fn reap_strays(self: Arc<Self>) {
        loop {
            let known: BTreeSet<String> = self.broker.target_ids().iter().map(ToString::to_string).collect();
            match self.broker.store().targets_in_use().await {
                Ok(used) => {
                    for target in used.into_iter().filter(|t| !known.contains(t)) {
                        if let Err(error) = self.reap_due(&target).await {
                            tracing::warn!(target, error = %error, "grants on an unknown target could not be looked at");
                        }
                    }
                }
                Err(error) => tracing::warn!(error = %error, "could not look for unknown targets"),
            }
            if !self.pause(STRAYS).await {
                return;
            }
        }
    }
}

/// A panic harms one grant only: its lease will run out.
fn settled_at(
    target: &str,
    settled: Result<Result<(), BrokerError>, tokio::task::JoinError>,
) -> Result<(), BrokerError> {
    settled.unwrap_or_else(|error| {
        tracing::error!(target, error = %error, "settling a grant panicked; its lease will run out");
        Ok(())
    })
}
