//! The reaper: one loop for each target, so that a target that hangs holds up nobody else.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::Workers;

/// Rows taken in one commit.
const BATCH: u32 = 32;
/// How often to look for grants whose target is no longer configured.
const STRAYS: Duration = Duration::from_secs(30);

impl Workers {
    /// End and start what is due at one target, for ever.
    pub(super) async fn reap_target(self: Arc<Self>, target: String) {
        loop {
            let due = self.broker.due.notified();
            match self.reap_due(&target).await {
                // More may be due: look again at once.
                Ok(taken) if taken > 0 => {
                    if self.closing().is_cancelled() {
                        return;
                    }
                }
                Ok(_) => {
                    tokio::select! {
                        () = self.closing().cancelled() => return,
                        () = due => {}
                        () = tokio::time::sleep(self.rhythm.tick) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(target, error = %error, "the reaper could not work; it tries again");
                    if !self.pause(Duration::from_secs(1)).await {
                        return;
                    }
                }
            }
        }
    }

    /// One round: lease what is due, settle it concurrently, record it in shared commits. How many rows that were.
    pub(super) async fn reap_due(&self, target: &str) -> Result<usize, crate::broker::BrokerError> {
        if self.broker.is_observing() {
            return Ok(0);
        }
        let due = self.broker.lease_due(target, BATCH).await?;
        let taken = due.len();
        let settling = due.into_iter().map(|due| {
            let broker = Arc::clone(&self.broker);
            // Counted as in flight: closing waits for it. How many calls the target gets at once is its bulkhead's affair.
            self.broker.track(async move {
                let outcome = broker.settle(due).await;
                broker.record_outcome(&outcome).await
            })
        });
        for settled in futures::future::join_all(settling).await {
            match settled {
                Ok(recorded) => recorded?,
                Err(error) => {
                    tracing::error!(target, error = %error, "settling a grant panicked; its lease will run out");
                }
            }
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
