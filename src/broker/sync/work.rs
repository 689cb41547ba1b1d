//! Work on due accounts: lease, bring to what they should be, record. Never given up.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{
    super::{Broker, BrokerError, bulkhead::Purpose, record::Cause},
    Downstream,
    align::{Aligned, Alignment, Deed, Verdict},
    wanted::{Wanted, wanted},
};
use crate::{
    domain::{account::AccountState, time::Timestamp},
    ports::connector::Fault,
    store::{AccountRow, StoreError, Tx, Worked},
};

/// How long an application may ask to be left alone before that counts as failing.
const PATIENCE: Duration = Duration::from_secs(3600);

/// An account that this worker has leased.
#[derive(Debug)]
pub struct Work {
    application: String,
    row: AccountRow,
}

impl Broker {
    /// Calls that an application may have in flight.
    pub fn application_concurrency(&self, id: &str) -> usize {
        self.downstream(id).map_or(1, |app| app.config.concurrency.max(1) as usize)
    }

    /// Take up to `limit` due accounts of an application: those of whom something may be taken away first, and only those
    /// while it fails to make any. None while it is left alone.
    pub async fn lease_accounts(&self, id: &str, limit: u32) -> Result<Vec<Work>, BrokerError> {
        let app = self.downstream(id)?;
        if app.held_back(Purpose::Revoke).is_some() {
            return Ok(Vec::new());
        }
        let only = app.held_back(Purpose::Issue).is_some();
        let now = self.now();
        let until = self.account_lease(app, now);
        loop {
            let mut tx = self.store.begin_background().await?;
            let taken = tx.lease_accounts(id, now, until, limit, only).await.map_err(BrokerError::from);
            if let Some(result) = tx.end(taken).await {
                let work = |row: AccountRow| Work { application: id.to_owned(), row };
                return Ok(result?.into_iter().map(work).collect());
            }
        }
    }

    /// Do what an account needs, and record it.
    pub async fn work_on(&self, work: Work) -> Result<(), BrokerError> {
        let app = Arc::clone(self.downstream(&work.application)?);
        let row = work.row;
        let now = self.now();
        let facts = match row.identity {
            Some(id) => self.store.facts(id, now).await?,
            None => None,
        };
        let wanted = match (&facts, &row.remote_id) {
            (Some(facts), _) => wanted(&app.config, facts, Some(&row), false, now),
            (None, Some(_)) => Wanted::Inactive { external_id: row.key.clone(), user_name: None, also_known_as: None },
            (None, None) => Wanted::Nothing,
        };
        if wanted == Wanted::Nothing {
            return self.forget(&row).await;
        }
        let Some(speaks) = &app.speaks else { return self.work_by_hand(&app, &row, &wanted).await };
        let lent = match &facts {
            Some(facts) => self.lent(&app, facts).await?,
            None => std::collections::BTreeSet::new(),
        };
        let mut alignment = Alignment {
            app: &app,
            speaks: speaks.as_ref(),
            ledger: &self.store,
            key: &row.key,
            remote_id: row.remote_id.as_deref(),
            lent: &lent,
            done: Aligned::default(),
        };
        let outcome = alignment.run(&wanted).await;
        let done = alignment.done;
        if let Ok(Verdict::Verified(_)) = &outcome
            && let Some(id) = &done.remote_id
            && let Some(other) = self.store.account_by_remote(&app.config.id, id).await?
            && other.key != row.key
        {
            let why = format!("the account {id} is that of {} already", other.key);
            return self
                .record_work(&app, &row, &wanted, Aligned { remote_id: None, ..done }, Err(Fault::Foreign(why)))
                .await;
        }
        self.record_work(&app, &row, &wanted, done, outcome).await
    }

    async fn forget(&self, row: &AccountRow) -> Result<(), BrokerError> {
        let now = self.now();
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = tx.forget_account(row, now).await.map_err(BrokerError::from);
            if let Some(result) = tx.end(written).await {
                return unless_taken(result);
            }
        }
    }

    async fn record_work(
        &self,
        app: &Downstream,
        row: &AccountRow,
        wanted: &Wanted,
        done: Aligned,
        outcome: Result<Verdict, Fault>,
    ) -> Result<(), BrokerError> {
        let now = self.now();
        let worked = self.worked(app, row, wanted, &done, &outcome, now)?;
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                tx.record_account(row, &worked, now).await?;
                let appeared = done.deeds.iter().any(|d| matches!(d, Deed::Created | Deed::Adopted));
                match wanted {
                    Wanted::Present(_) if appeared => self.ask_for_role(&mut tx, app, row, now).await?,
                    Wanted::Present(_) => {}
                    _ if app.config.role_task.is_some() => self.forget_role(&mut tx, row, now).await?,
                    _ => {}
                }
                self.note_work(&mut tx, row, wanted, &done, &outcome, &worked, now)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                unless_taken(result)?;
                break;
            }
        }
        crate::failpoint::hit("sync.recorded");
        let result = if worked.last_error.is_none() { "verified" } else { "postponed" };
        metrics::counter!("tidegate_account_work_total", "application" => app.config.id.to_string(), "result" => result)
            .increment(1);
        Ok(())
    }

    fn worked(
        &self,
        app: &Downstream,
        row: &AccountRow,
        wanted: &Wanted,
        done: &Aligned,
        outcome: &Result<Verdict, Fault>,
        now: Timestamp,
    ) -> Result<Worked, BrokerError> {
        let gone = matches!(wanted, Wanted::Inactive { .. } | Wanted::Deleted { .. });
        let attempts = row.attempts.saturating_add(1);
        let (state, attempts, due_at, last_error) = match outcome {
            Ok(Verdict::Verified(_)) => {
                let state = match row.identity {
                    None => AccountState::Orphan,
                    Some(_) if done.deeds.is_empty() => AccountState::Aligned,
                    Some(_) => AccountState::Corrected,
                };
                (state, 0, None, None)
            }
            Ok(Verdict::Differs(why)) => {
                let due = now.plus_std(self.backoff(attempts)?);
                (AccountState::NotVerified, attempts, Some(due), Some(why.clone()))
            }
            Err(fault @ Fault::Unavailable(_)) => {
                let state = if gone { AccountState::NotVerified } else { AccountState::Pending };
                // It says itself when it wants to be asked again; that is no failure, unless it says so for too long.
                let (attempts, due) = match app.speaks.as_ref().and_then(|a| a.busy_until()) {
                    Some(until) => {
                        let patient = row.failing_since.is_none_or(|since| since.plus_std(PATIENCE) > now);
                        (if patient { row.attempts } else { attempts }, until)
                    }
                    None => (attempts, now.plus_std(self.backoff(attempts)?)),
                };
                (state, attempts, Some(due), Some(fault.to_string()))
            }
            Err(fault) => {
                let due = now.plus_std(self.backoff(attempts)?);
                (AccountState::Failed, attempts, Some(due), Some(fault.to_string()))
            }
        };
        let verified = last_error.is_none();
        let inactive = verified && matches!(wanted, Wanted::Inactive { .. }) && done.remote_id.is_some();
        let deactivated_at = match wanted {
            Wanted::Present(_) => None,
            _ if inactive => row.deactivated_at.or(Some(now)),
            Wanted::Deleted { .. } if verified => None,
            _ => row.deactivated_at,
        };
        // Deletion comes due by itself.
        let retention = deactivated_at.filter(|_| inactive).zip(app.config.delete_after);
        Ok(Worked {
            remote_id: done.remote_id.clone(),
            pushed: if verified { Some(wanted.hash()) } else { row.pushed.clone() },
            state,
            deactivated_at,
            verified_at: if verified { Some(now) } else { row.verified_at },
            attempts,
            due_at: due_at.or(retention.map(|(since, after)| since.plus(after))),
            last_error,
        })
    }

    /// What was done, and what was read back, as events of the call that it follows from.
    #[allow(clippy::too_many_arguments, reason = "all of what was found out about one account, once")]
    fn note_work(
        &self,
        tx: &mut Tx,
        row: &AccountRow,
        wanted: &Wanted,
        done: &Aligned,
        outcome: &Result<Verdict, Fault>,
        worked: &Worked,
        now: Timestamp,
    ) -> Result<(), BrokerError> {
        let cause = Cause::worker(row.correlation, now);
        for deed in &done.deeds {
            let mut details = deed.details();
            if let Value::Object(details) = &mut details {
                details.insert("remote_id".to_owned(), json!(done.remote_id.as_ref().or(row.remote_id.as_ref())));
            }
            self.note_account(tx, &cause, deed.action(), row, details)?;
        }
        match (outcome, &worked.last_error) {
            // Once for each event that it follows from, and not at each look.
            (Ok(Verdict::Verified(evidence)), _)
                if !done.deeds.is_empty() || row.state != worked.state || row.pushed != worked.pushed =>
            {
                let details = json!({"should_be": wanted.verb(), "read_back": evidence, "digest": worked.pushed});
                self.note_account(tx, &cause, "account.verified", row, details)?;
            }
            (_, Some(why)) => {
                tracing::warn!(
                    application = row.application,
                    account = row.key,
                    attempts = worked.attempts,
                    error = why,
                    "an account is not as it should be"
                );
                let alarm = worked.attempts == self.settings.quarantine_after;
                if alarm {
                    tracing::error!(
                        application = row.application,
                        account = row.key,
                        error = why,
                        "an account could not be brought to what it should be"
                    );
                }
                let action = match worked.state {
                    AccountState::NotVerified => "account.not_verified",
                    AccountState::Failed => "account.failed",
                    _ => "account.postponed",
                };
                if row.state != worked.state || alarm {
                    let details = json!({
                        "should_be": wanted.verb(), "error": why, "attempts": worked.attempts, "next_try": worked.due_at,
                    });
                    self.note_account(tx, &cause, action, row, details)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn note_account(
        &self,
        tx: &mut Tx,
        cause: &Cause,
        action: &'static str,
        row: &AccountRow,
        details: Value,
    ) -> Result<(), BrokerError> {
        let mut event = self.event(cause, action, details)?;
        event.subject = row.identity;
        event.target = Some(row.application.clone());
        self.note(tx, event)
    }
}

/// Whoever lost the lease leaves the account to whoever has it.
fn unless_taken(result: Result<(), BrokerError>) -> Result<(), BrokerError> {
    match result {
        Err(BrokerError::Store(StoreError::Conflict)) => Ok(()),
        other => other,
    }
}
