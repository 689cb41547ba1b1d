//! Outbox delivery: at least once, with back-off; the receiver drops repeats by id.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::Workers;
use crate::{
    ports::notifier::NotifyError,
    store::{Outgoing, StoreError},
};

const BATCH: u32 = 32;
const LEASE: Duration = Duration::from_secs(60);
/// Standard Webhooks' schedule of retries; the last one repeats until a day after the first, then it is given up.
const RETRIES: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

impl Workers {
    pub(super) async fn deliver_messages(self: Arc<Self>) {
        if self.notifiers.is_empty() {
            return;
        }
        let mut committed = self.broker.committed();
        loop {
            let taken = if self.broker.is_observing() { Ok(0) } else { self.deliver_due().await };
            match taken {
                Ok(taken) if taken > 0 && !self.closing().is_cancelled() => {}
                Ok(_) => {
                    tokio::select! {
                        () = self.closing().cancelled() => return,
                        _ = committed.changed() => {}
                        () = tokio::time::sleep(self.rhythm.tick) => {}
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, "the outbox could not be read; trying again");
                    if !self.pause(Duration::from_secs(1)).await {
                        return;
                    }
                }
            }
        }
    }

    async fn deliver_due(&self) -> Result<usize, StoreError> {
        let now = self.broker.now();
        let store = self.broker.store();
        // Looked at before it is leased: a lease is a commit, and every commit wakes this loop.
        if !store.messages_due(now).await? {
            return Ok(0);
        }
        let leased = loop {
            let mut tx = store.begin_background().await?;
            let rows = tx.lease_messages(now, now.plus_std(LEASE), BATCH).await;
            if let Some(result) = tx.end(rows).await {
                break result?;
            }
        };
        let mut messages = Vec::with_capacity(leased.len());
        for row in leased {
            match row {
                Ok(message) => messages.push(message),
                Err(error) => tracing::error!(error = %error, "a message in the outbox does not decode"),
            }
        }
        let count = messages.len();
        for result in join_all(messages.into_iter().map(|m| self.deliver(m))).await {
            result?;
        }
        Ok(count)
    }

    async fn deliver(&self, out: Outgoing) -> Result<(), StoreError> {
        let outcome = match self.notifiers.get(&out.notifier) {
            Some(notifier) => notifier.deliver(&out.message).await,
            None => Err(NotifyError::Gone(format!("no notifier `{}` is configured", out.notifier))),
        };
        let now = self.broker.now();
        let id = out.message.id.to_string();
        let wait = RETRIES.get(out.attempts as usize).copied();
        let store = self.broker.store();
        loop {
            let mut tx = store.begin_background().await?;
            let written = match (&outcome, wait) {
                (Ok(()), _) => tx.settle_message(&id, out.epoch, now, None).await,
                (Err(NotifyError::Gone(why)), _) | (Err(NotifyError::Retry(why)), None) => {
                    tx.settle_message(&id, out.epoch, now, Some(why)).await
                }
                (Err(NotifyError::Retry(why)), Some(wait)) => {
                    tx.postpone_message(&id, out.epoch, now.plus_std(Duration::from_secs(wait)), why).await
                }
            };
            match tx.end(written).await {
                None => {}
                Some(Ok(()) | Err(StoreError::Conflict)) => break,
                Some(Err(error)) => return Err(error),
            }
        }
        let result = if outcome.is_ok() { "delivered" } else { "failed" };
        metrics::counter!("tidegate_messages_total", "notifier" => out.notifier, "result" => result).increment(1);
        Ok(())
    }
}
