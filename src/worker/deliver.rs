//! Outbox delivery: at least once, with back-off; the receiver drops repeats by id.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use tokio::task::{self, JoinError, JoinSet};

use super::Workers;
use crate::{
    domain::time::Timestamp,
    ports::notifier::NotifyError,
    store::{Outgoing, StoreError},
};

const BATCH: u32 = 32;
const LEASE: Duration = Duration::from_secs(60);
/// Standard Webhooks' schedule of retries: over some three days, then it is given up.
const RETRIES: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

/// After a round in which it took none of several messages, a receiver is left alone for so long.
const REST: Duration = Duration::from_secs(30);

/// Receivers that are being spoken to, each by a task of its own: one that hangs holds up nobody else.
#[derive(Default)]
struct AtWork {
    tasks: JoinSet<Result<bool, StoreError>>,
    names: HashMap<task::Id, String>,
    resting: BTreeMap<String, Timestamp>,
}

impl AtWork {
    fn ended(&mut self, ended: Result<(task::Id, Result<bool, StoreError>), JoinError>, now: Timestamp) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let Some(name) = self.names.remove(&id) else { return };
        match ended {
            Ok((_, Ok(true))) => return,
            Ok((_, Ok(false))) => {}
            Ok((_, Err(error))) => {
                tracing::warn!(notifier = name, error = %error, "what became of messages could not be noted");
            }
            Err(error) => {
                metrics::counter!("tidegate_worker_panics_total").increment(1);
                tracing::error!(notifier = name, error = %error, "a delivery panicked");
            }
        }
        self.resting.insert(name, now.plus_std(REST));
    }
}

impl Workers {
    pub(super) async fn deliver_messages(self: Arc<Self>) {
        if self.notifiers.is_empty() {
            return;
        }
        let mut committed = self.broker.committed();
        let mut at_work = AtWork::default();
        loop {
            let begun = if self.broker.is_observing() { Ok(0) } else { self.start_due(&mut at_work).await };
            if let Err(error) = begun {
                tracing::warn!(error = %error, "the outbox could not be read; trying again");
                if !self.pause(Duration::from_secs(1)).await {
                    return;
                }
            }
            tokio::select! {
                () = self.closing().cancelled() => break,
                _ = committed.changed() => {}
                Some(ended) = at_work.tasks.join_next_with_id() => {
                    at_work.ended(ended, self.broker.now());
                }
                () = tokio::time::sleep(self.rhythm.tick) => {}
            }
        }
        // What was begun is carried through; a receiver has only so long to answer.
        while at_work.tasks.join_next().await.is_some() {}
    }

    /// Start on every receiver that has something due and nobody at it; how many those were.
    async fn start_due(self: &Arc<Self>, at_work: &mut AtWork) -> Result<usize, StoreError> {
        let now = self.broker.now();
        at_work.resting.retain(|_, until| *until > now);
        // Looked at before it is leased: a lease is a commit, and every commit wakes this loop.
        let due = self.broker.store().notifiers_due(now).await?;
        let mut begun = 0;
        for name in due {
            if at_work.resting.contains_key(&name) || at_work.names.values().any(|busy| *busy == name) {
                continue;
            }
            begun += 1;
            let (workers, receiver) = (Arc::clone(self), name.clone());
            let task = at_work.tasks.spawn(async move { workers.deliver_to(&receiver).await });
            at_work.names.insert(task.id(), name);
        }
        Ok(begun)
    }

    /// Deliver what is due to one receiver; false if it took nothing.
    async fn deliver_to(&self, name: &str) -> Result<bool, StoreError> {
        let now = self.broker.now();
        let store = self.broker.store();
        let gone = if self.notifiers.contains_key(name) {
            store.notifier_gone(name).await?
        } else {
            Some(format!("no notifier `{name}` is configured"))
        };
        let leased = loop {
            let mut tx = store.begin_background().await?;
            let rows = tx.lease_messages(name, now, now.plus_std(LEASE), BATCH).await;
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
        // One message alone has its own schedule; several that all fail say something of the receiver.
        let mut took = messages.len() <= 1;
        for result in join_all(messages.into_iter().map(|m| self.deliver(m, gone.as_deref()))).await {
            took |= result?;
        }
        Ok(took || gone.is_some())
    }

    /// Deliver one; false if it has to be tried again.
    async fn deliver(&self, out: Outgoing, gone: Option<&str>) -> Result<bool, StoreError> {
        let outcome = match (self.notifiers.get(&out.notifier), gone) {
            (Some(notifier), None) => notifier.deliver(&out.message).await,
            (_, why) => Err(NotifyError::Gone(why.unwrap_or("nobody listens").to_owned())),
        };
        let now = self.broker.now();
        let id = out.message.id.to_string();
        let wait = RETRIES.get(out.attempts as usize).copied();
        let store = self.broker.store();
        loop {
            let mut tx = store.begin_background().await?;
            let written = match (&outcome, wait) {
                (Ok(()), _) => tx.settle_message(&id, out.epoch, now, None).await,
                (Err(NotifyError::Gone(why)), _) => {
                    let said = async {
                        if gone.is_none() {
                            tx.notifier_is_gone(&out.notifier, why, now).await?;
                        }
                        tx.settle_message(&id, out.epoch, now, Some(why)).await
                    };
                    said.await
                }
                (Err(NotifyError::Retry(why)), None) => tx.settle_message(&id, out.epoch, now, Some(why)).await,
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
        if let (Err(NotifyError::Gone(why)), None) = (&outcome, gone) {
            tracing::error!(
                notifier = out.notifier,
                why,
                "a receiver is gone; it hears nothing more until a delivery is replayed"
            );
        }
        let again = matches!(outcome, Err(NotifyError::Retry(_)));
        let result = if outcome.is_ok() { "delivered" } else { "failed" };
        metrics::counter!("tidegate_messages_total", "notifier" => out.notifier, "result" => result).increment(1);
        Ok(!again)
    }
}
