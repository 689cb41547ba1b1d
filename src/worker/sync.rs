//! Accounts in applications: one loop for each, so that one that hangs holds up no other.

use std::sync::Arc;

use futures::{StreamExt, stream::FuturesUnordered};

use super::Workers;
use crate::broker::BrokerError;

/// Accounts taken in one commit: few, so that a lease never waits long for its turn.
const BATCH: u32 = 16;

impl Workers {
    /// Work on what is due in one application, for ever.
    pub(super) async fn align_application(self: Arc<Self>, application: String) {
        loop {
            let due = self.broker.due.notified();
            match self.align_due(&application).await {
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
                    tracing::warn!(application, error = %error, "accounts could not be worked on; it is tried again");
                    if !self.pause(std::time::Duration::from_secs(1)).await {
                        return;
                    }
                }
            }
        }
    }

    /// One round: lease what is due and work on it concurrently. How many accounts that were.
    pub(super) async fn align_due(&self, application: &str) -> Result<usize, BrokerError> {
        if self.broker.is_observing() {
            return Ok(0);
        }
        let width = self.broker.application_concurrency(application);
        // No more than can begin at once: what waits would wait within its lease.
        let limit = u32::try_from(width).unwrap_or(BATCH).clamp(1, BATCH);
        let work = self.broker.lease_accounts(application, limit).await?;
        let taken = work.len();
        let mut running: FuturesUnordered<_> = work
            .into_iter()
            .map(|one| {
                let broker = Arc::clone(&self.broker);
                self.broker.track(async move { broker.work_on(one).await })
            })
            .collect();
        while let Some(finished) = running.next().await {
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
        Ok(taken)
    }
}
