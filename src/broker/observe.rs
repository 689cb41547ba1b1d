//! How the broker is: readiness, gauges, and whether it only observes.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::json;

use super::{Broker, BrokerError, record::Cause};
use crate::{domain::id::CorrelationId, ports::connector::Finding};

/// Due grants of a target are counted up to this.
const COUNTED_DUE: u32 = 100_000;

/// Fit to take requests?
#[derive(Debug, Clone, serde::Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// All checks hold.
    pub ready: bool,
    /// What was looked at.
    pub checks: Vec<Finding>,
}

/// How far the ledger is behind the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    /// Grants whose end could not be verified, again and again.
    pub quarantined: u64,
    /// For so long the oldest row has been due.
    pub oldest: Duration,
    /// Rows that are due and that nobody has taken up, by target, counted up to a bound.
    pub due: BTreeMap<String, u64>,
}

impl Broker {
    /// Fit to take requests? Targets that are down do not matter here: they harm only themselves.
    pub async fn ready(&self) -> Readiness {
        let finding = |name: &str, ok: bool, detail: String, fix: &str| Finding {
            name: name.to_owned(),
            ok,
            detail,
            fix: (!ok).then(|| fix.to_owned()),
        };
        let database = self.store.ping().await;
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let down = down.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let checks = vec![
            finding(
                "database",
                database.is_ok(),
                database.err().map_or_else(|| "answers".to_owned(), |e| e.to_string()),
                "see that the database is up and that its disk is not full",
            ),
            finding("policy", true, format!("version {}", self.policy().version()), ""),
            finding(
                "ledger",
                !self.is_observing(),
                if self.is_observing() { "restored or cloned: observing only" } else { "in charge" }.to_owned(),
                "when you are sure that no other broker works on this ledger, run `tidegate resume`",
            ),
            finding(
                "running",
                !self.closing.is_cancelled(),
                if self.closing.is_cancelled() { "shutting down" } else { "running" }.to_owned(),
                "ask another broker",
            ),
            finding(
                "workers",
                down.is_empty(),
                if down.is_empty() { "running".to_owned() } else { format!("panicked: {down}") },
                "see the log; they begin anew by themselves",
            ),
        ];
        Readiness { ready: checks.iter().all(|c| c.ok), checks }
    }

    /// A loop of the workers panicked, or has begun anew.
    pub fn worker_is_down(&self, name: &str, is_down: bool) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        if is_down {
            down.insert(name.to_owned());
        } else {
            down.remove(name);
        }
    }

    /// How far the ledger is behind the clock: also what nobody has taken up yet, for the reaper may be what is late.
    pub async fn late(&self) -> Result<Late, BrokerError> {
        let now = self.now();
        let (quarantined, mut oldest) = self.store.revocation_health().await?;
        let mut due: BTreeMap<String, u64> = self.target_ids().iter().map(|id| (id.to_string(), 0)).collect();
        due.extend(self.store.targets_in_use().await?.into_iter().map(|id| (id, 0)));
        for (target, rows) in &mut due {
            let backlog = self.store.backlog(target, now, COUNTED_DUE).await?;
            oldest = oldest.into_iter().chain(backlog.since).min();
            *rows = backlog.rows;
        }
        Ok(Late { quarantined, oldest: oldest.map_or(Duration::ZERO, |since| now.since(since)), due })
    }

    /// Set the gauges that are read from the ledger.
    pub async fn measure(&self) -> Result<(), BrokerError> {
        let late = self.late().await?;
        for (target, due) in &late.due {
            metrics::gauge!("tidegate_due_grants", "target" => target.clone()).set(*due as f64);
        }
        metrics::gauge!("tidegate_grants_quarantined").set(late.quarantined as f64);
        metrics::gauge!("tidegate_oldest_overdue_seconds").set(late.oldest.as_secs_f64());
        metrics::gauge!("tidegate_writer_queue").set(self.store.waiting_changes() as f64);
        metrics::gauge!("tidegate_outbox_depth").set(self.store.outbox_depth().await? as f64);
        let sealed = self.store.last_checkpoint().await?.map_or(0, |c| c.size);
        let unsealed = self.store.audit_size().await?.saturating_sub(sealed);
        metrics::gauge!("tidegate_audit_unsealed_events").set(unsealed as f64);
        metrics::gauge!("tidegate_observing").set(if self.is_observing() { 1.0 } else { 0.0 });
        Ok(())
    }

    /// Record that the policy in force changed, or that a change was refused; nothing while only observing.
    pub async fn note_policy(&self, action: &'static str, from: &str, to: &str) -> Result<(), BrokerError> {
        if self.is_observing() {
            return Ok(());
        }
        let to: String = to.chars().take(4000).collect();
        self.note_system(action, json!({"version": from, "to": to})).await
    }

    /// Record something about the broker itself.
    pub async fn note_system(&self, action: &'static str, details: serde_json::Value) -> Result<(), BrokerError> {
        let now = self.now();
        let correlation = CorrelationId::new(self.entropy.ulid(now)?);
        self.note_alone(self.event(&Cause::worker(correlation, now), action, details)?).await
    }

    /// Delete old rows that nobody will ask for again; how many.
    pub async fn prune(&self, before: crate::domain::time::Timestamp) -> Result<u64, BrokerError> {
        loop {
            let mut tx = self.store.begin().await?;
            let pruned = async {
                Ok::<_, crate::store::StoreError>(tx.prune(before, 1000).await? + tx.prune_slack(before).await?)
            }
            .await;
            if let Some(result) = tx.end(pruned).await {
                return Ok(result?);
            }
        }
    }

    /// An administrator at the console says go: the broker is in charge of this ledger from now on (promise P10).
    pub async fn take_charge(&self, who: &str) -> Result<(), BrokerError> {
        let fingerprint = self.store.fingerprint().await?;
        let now = self.now();
        let correlation = CorrelationId::new(self.entropy.ulid(now)?);
        loop {
            let mut tx = self.store.begin().await?;
            let written = async {
                tx.set_meta("fingerprint", &fingerprint).await?;
                let cause = Cause { via: "console", ..Cause::worker(correlation, now) };
                let event = self.event(&cause, "system.resumed", json!({"by": who}))?;
                self.note(&mut tx, event)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                result?;
                break;
            }
        }
        self.observing.store(false, Ordering::Release);
        self.due.notify_waiters();
        Ok(())
    }
}
