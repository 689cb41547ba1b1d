//! Everything that runs by the clock: lapsing, sealing, sweeping, pruning, reloading, measuring.

use std::{sync::Arc, time::Duration};

use super::Workers;
use crate::policy::Reload;

/// Idempotency keys, delivered messages and revoked tokens are kept this long.
const KEEP: Duration = Duration::from_secs(24 * 3600);
/// Kill switches are looked after this often.
const ENFORCE: Duration = Duration::from_secs(2);

impl Workers {
    /// Let pending requests lapse.
    pub(super) async fn lapse_requests(self: Arc<Self>) {
        while self.pause(self.rhythm.tick).await {
            if self.broker.is_observing() {
                continue;
            }
            if let Err(error) = self.broker.lapse(100).await {
                tracing::warn!(error = %error, "pending requests could not lapse; trying again");
            }
        }
    }

    /// End what is live under a kill switch and was not ended by whoever let it fall.
    pub(super) async fn enforce_locks(self: Arc<Self>) {
        loop {
            match self.broker.enforce_locks().await {
                Ok(0) => {}
                Ok(ending) => tracing::warn!(ending, "grants under a kill switch are ended"),
                Err(error) => tracing::warn!(error = %error, "kill switches could not be enforced; trying again"),
            }
            if !self.pause(ENFORCE).await {
                return;
            }
        }
    }

    /// Seal new audit events; the last time when closing.
    pub(super) async fn seal_log(self: Arc<Self>) {
        loop {
            let goes_on = self.pause(self.rhythm.seal).await;
            if !self.broker.is_observing() {
                loop {
                    match self.broker.seal().await {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(error) => {
                            tracing::warn!(error = %error, "the audit log could not be sealed; trying again");
                            break;
                        }
                    }
                }
            }
            if !goes_on {
                return;
            }
        }
    }

    /// Take up changed policy files; a set with an error changes nothing.
    pub(super) async fn reload_policy(self: Arc<Self>) {
        let mut last_problem = String::new();
        self.keep_policy().await;
        while self.pause(self.rhythm.reload).await {
            let broker = Arc::clone(&self.broker);
            let reloaded = tokio::task::spawn_blocking(move || broker.policy_engine().reload()).await;
            match reloaded {
                Ok(Ok(Reload::Unchanged)) => last_problem.clear(),
                Ok(Ok(Reload::Changed { from, to })) => {
                    last_problem.clear();
                    tracing::info!(from, to, "policy reloaded");
                    if let Err(error) = self.broker.note_policy("policy.loaded", &from, &to).await {
                        tracing::warn!(error = %error, "a policy change could not be recorded");
                    }
                    self.keep_policy().await;
                }
                Ok(Err(problems)) => {
                    let problem = problems.to_string();
                    // Said once for each different problem, not every two seconds.
                    if problem != last_problem {
                        tracing::error!(problem, "the changed policy has errors; the running set stays");
                        let running = self.broker.policy().version().to_owned();
                        if let Err(error) = self.broker.note_policy("policy.rejected", &running, &problem).await {
                            tracing::warn!(error = %error, "a refused policy could not be recorded");
                        }
                        last_problem = problem;
                    }
                }
                Err(error) => tracing::error!(error = %error, "reloading the policy panicked; the running set stays"),
            }
        }
    }

    /// The texts of the version in force stay for comparing.
    async fn keep_policy(&self) {
        if let Err(error) = self.broker.keep_policy().await {
            tracing::warn!(error = %error, "the texts of the policy could not be kept");
        }
    }

    /// Keep the gauges fresh.
    pub(super) async fn measure(self: Arc<Self>) {
        loop {
            if let Err(error) = self.broker.measure().await {
                tracing::debug!(error = %error, "gauges could not be read");
            }
            if !self.pause(Duration::from_secs(5)).await {
                return;
            }
        }
    }

    /// Compare every target with the ledger, by schedule; one broker at a time.
    pub(super) async fn sweep_targets(self: Arc<Self>) {
        while self.until_due(&self.rhythm.sweep).await {
            for target in self.broker.target_ids() {
                match self.has_turn(&format!("sweep:{target}"), Duration::from_secs(300)).await {
                    Ok(true) => {
                        if let Err(error) = self.broker.sweep_by_clock(&target).await {
                            tracing::warn!(target = %target, error = %error, "a target could not be swept");
                        }
                    }
                    Ok(false) => {}
                    Err(error) => tracing::warn!(error = %error, "the turn to sweep could not be taken"),
                }
            }
        }
    }

    /// Look for accounts that nobody uses and for people to be forgotten, by schedule; one broker at a time.
    pub(super) async fn tidy(self: Arc<Self>) {
        if let Err(error) = self.broker.fold_names().await {
            tracing::warn!(error = %error, "names could not be folded; at the next start");
        }
        while self.until_due(&self.rhythm.tidy).await {
            if !matches!(self.has_turn("tidy", Duration::from_secs(300)).await, Ok(true)) {
                continue;
            }
            match self.broker.look_for_unused().await {
                Ok((0, 0)) => {}
                Ok((told, ended)) => tracing::info!(told, ended, "accounts that nobody uses"),
                Err(error) => tracing::warn!(error = %error, "unused accounts could not be looked for; next time"),
            }
            match self.broker.forget_people().await {
                Ok(0) => {}
                Ok(forgotten) => tracing::info!(forgotten, "people who are gone are forgotten"),
                Err(error) => tracing::warn!(error = %error, "people could not be forgotten; next time"),
            }
        }
    }

    /// Delete what nobody will ask for again, by schedule; one broker at a time.
    pub(super) async fn prune(self: Arc<Self>) {
        while self.until_due(&self.rhythm.prune).await {
            if !matches!(self.has_turn("prune", Duration::from_secs(300)).await, Ok(true)) {
                continue;
            }
            let before = self.broker.now().minus_std(KEEP);
            loop {
                match self.broker.prune(before).await {
                    Ok(0) => break,
                    Ok(gone) => tracing::debug!(gone, "pruned"),
                    Err(error) => {
                        tracing::warn!(error = %error, "pruning stopped; it goes on next time");
                        break;
                    }
                }
            }
        }
    }

    /// Wait for the next instant of a schedule; false when closing.
    pub(super) async fn until_due(&self, schedule: &super::Schedule) -> bool {
        let next = schedule.after(self.broker.now());
        loop {
            let now = self.broker.now();
            match next {
                Some(next) if next <= now => return true,
                // Short naps: the clock may be stepped, and may be a manual one.
                Some(next) => {
                    if !self.pause(next.since(now).min(Duration::from_secs(1))).await {
                        return false;
                    }
                }
                None => {
                    self.closing().cancelled().await;
                    return false;
                }
            }
        }
    }
}
