//! Identities that are due: decided again after a change, ended by the clock. Woken by this broker's own changes and by
//! the commits of others; caught up on start, for what is due stands in the ledger.

use std::{sync::Arc, time::Duration};

use super::Workers;
use crate::broker::BrokerError;

/// Rows taken in one commit.
const BATCH: u32 = 32;
/// Looks at once.
const WIDTH: usize = 8;
/// Commits that come close together are looked at together.
const PAUSE: Duration = Duration::from_millis(20);

impl Workers {
    /// Look at identities as they come due, for ever.
    pub(super) async fn attend_identities(self: Arc<Self>) {
        let mut committed = self.broker.committed();
        loop {
            let due = self.broker.due.notified();
            match self.attend_due().await {
                Ok(taken) if taken > 0 => {
                    if self.closing().is_cancelled() {
                        return;
                    }
                }
                Ok(_) => {
                    tokio::select! {
                        () = self.closing().cancelled() => return,
                        () = due => {}
                        _ = committed.changed() => {
                            if !self.pause(PAUSE).await {
                                return;
                            }
                        }
                        () = tokio::time::sleep(self.rhythm.tick) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "identities that are due could not be looked at; trying again");
                    if !self.pause(Duration::from_secs(1)).await {
                        return;
                    }
                }
            }
        }
    }

    /// One round: how many identities were looked at.
    pub(super) async fn attend_due(&self) -> Result<usize, BrokerError> {
        use futures::StreamExt;
        if self.broker.is_observing() {
            return Ok(0);
        }
        self.broker.record_held().await?;
        self.broker.record_sightings().await?;
        self.broker.carry_out_accepted(BATCH).await?;
        if !self.broker.lifecycle_is_due().await? {
            return Ok(0);
        }
        let due = self.broker.lease_identities(BATCH).await?;
        let taken = due.len();
        let looks = futures::stream::iter(due).map(|due| {
            let broker = Arc::clone(&self.broker);
            // Counted as in flight: closing waits for it.
            self.broker.track(async move {
                if let Err(error) = broker.attend(&due).await {
                    tracing::warn!(identity = %due.id, error = %error, "could not be looked at; its lease will run out");
                }
            })
        });
        looks.buffer_unordered(WIDTH).collect::<Vec<_>>().await;
        Ok(taken)
    }
}
