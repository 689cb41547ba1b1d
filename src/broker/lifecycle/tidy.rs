//! What nobody uses is told of and then ends; what is known of people who are gone is forgotten. Both by a schedule.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::super::{Broker, BrokerError, record::Cause};
use crate::{
    domain::{
        id::{CorrelationId, IdentityId},
        identity::{ADMIN_GROUP, Identity, Subject},
        time::Timestamp,
    },
    store::{StoreError, Unused},
};

/// When accounts that nobody uses end.
#[derive(Debug, Clone, Copy)]
pub struct UnusedRule {
    /// Not seen for so long: whoever answers for it is told…
    pub after: Duration,
    /// …and so much later it is deactivated.
    pub grace: Duration,
    /// Also what a source owns; otherwise only what is kept here and what came by a first login.
    pub of_sources: bool,
}

/// Rows looked at in one go.
const PAGE: u32 = 200;

impl Broker {
    /// Look for accounts that nobody uses: tell whoever answers for them, and end those of whom was told long enough ago.
    /// How many were told of, and how many ended.
    pub async fn look_for_unused(&self) -> Result<(usize, usize), BrokerError> {
        let Some(rule) = self.settings.unused.filter(|_| !self.is_observing()) else { return Ok((0, 0)) };
        let now = self.now();
        let (mut told, mut ended) = (0, 0);
        let mut after = String::new();
        loop {
            let page = self.store.warned_before(now.minus_std(rule.grace), &after, PAGE, now).await?;
            let Some(last) = page.last() else { break };
            after = last.subject.identity.id.to_string();
            for unused in &page {
                ended += usize::from(self.end_unused(rule, unused, now).await?);
            }
        }
        after.clear();
        loop {
            let page = self.store.unused_since(now.minus_std(rule.after), &after, PAGE, now).await?;
            let Some(last) = page.last() else { break };
            after = last.subject.identity.id.to_string();
            for unused in page.iter().filter(|u| rule.of_sources || u.subject.identity.source.is_none()) {
                told += usize::from(self.tell_of_unused(rule, unused, now).await?);
            }
        }
        if ended > 0 {
            self.wake();
        }
        Ok((told, ended))
    }

    /// Look up by what they are now the names that an older version left to the database to fold. Once for each ledger, a
    /// page at a time; what a crash leaves is done at the next start.
    pub async fn fold_names(&self) -> Result<usize, BrokerError> {
        const DONE: &str = "names_folded";
        if self.is_observing() || self.store.meta(DONE).await?.is_some() {
            return Ok(0);
        }
        let (mut folded, mut after) = (0, String::new());
        loop {
            let page = self.store.names_beyond_ascii(&after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.id.to_string();
            folded += page.len();
            loop {
                let mut tx = self.store.begin_background().await?;
                let written = async {
                    for names in &page {
                        tx.fold_names(names).await?;
                    }
                    Ok::<_, StoreError>(())
                }
                .await;
                if let Some(result) = tx.end(written).await {
                    result?;
                    break;
                }
            }
        }
        self.store.remember(DONE, "1").await?;
        Ok(folded)
    }

    /// The clock speaks: a correlation of its own.
    fn clock(&self, now: Timestamp) -> Result<Cause, BrokerError> {
        Ok(Cause { via: "clock", ..Cause::worker(CorrelationId::new(self.entropy.ulid(now)?), now) })
    }

    async fn tell_of_unused(&self, rule: UnusedRule, unused: &Unused, now: Timestamp) -> Result<bool, BrokerError> {
        let Unused { subject, last_seen } = unused;
        let identity = &subject.identity;
        let ends = (!spared(subject)).then(|| now.plus_std(rule.grace));
        let cause = self.clock(now)?;
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                if !tx.mark_unused(identity.id, now.minus_std(rule.after), now).await? {
                    return Ok(false);
                }
                let details = json!({
                    "kind": identity.kind, "origin": identity.origin, "last_seen": last_seen,
                    "ask": answers_for(subject), "ends_at": ends,
                });
                let mut event = self.event(&cause, "identity.unused", details)?;
                event.subject = Some(identity.id);
                self.note(&mut tx, event)?;
                Ok::<_, BrokerError>(true)
            }
            .await;
            if let Some(result) = tx.end(written).await {
                return result;
            }
        }
    }

    async fn end_unused(&self, rule: UnusedRule, unused: &Unused, now: Timestamp) -> Result<bool, BrokerError> {
        let subject = &unused.subject;
        if spared(subject) {
            return Ok(false);
        }
        let cause = self.clock(now)?;
        let days = rule.after.as_secs() / 86_400;
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                // Whoever was seen meanwhile is in use.
                if !tx.is_unused(subject.identity.id).await? {
                    return Ok(false);
                }
                let after = Identity { active: false, answer_by: None, ..subject.identity.clone() };
                let details = json!({
                    "why": format!("nobody used it for {days} days, and whoever answers for it was told"),
                    "last_seen": unused.last_seen,
                });
                self.record_change(&mut tx, &cause, &subject.identity, &after, details).await?;
                Ok::<_, BrokerError>(true)
            }
            .await;
            match tx.end(written).await {
                None => {}
                // Somebody else changed it: the next look sees it.
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(false),
                Some(result) => return result,
            }
        }
    }

    /// Forget what is known of people who have been gone for long enough, and of whom nothing is open anywhere. What they
    /// did stays in the log under their id, and the log still verifies. How many there were.
    pub async fn forget_people(&self) -> Result<usize, BrokerError> {
        let Some(retention) = self.settings.erase_after.filter(|_| !self.is_observing()) else { return Ok(0) };
        let now = self.now();
        let before = now.minus_std(retention);
        let mut forgotten = 0;
        loop {
            let page = self.store.to_be_forgotten(before, PAGE).await?;
            let mut some = 0;
            for id in &page {
                some += usize::from(self.forget_one(*id, now).await?);
            }
            forgotten += some;
            if some == 0 || page.len() < PAGE as usize {
                break;
            }
        }
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = tx.forget_reports(before).await;
            if let Some(result) = tx.end(written).await {
                result?;
                return Ok(forgotten);
            }
        }
    }

    async fn forget_one(&self, id: IdentityId, now: Timestamp) -> Result<bool, BrokerError> {
        let cause = self.clock(now)?;
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                let Some(known) = tx.identity(id, now).await?.filter(|s| !s.identity.active) else { return Ok(false) };
                for group in tx.standing_groups(id).await? {
                    self.record_member(&mut tx, &cause, &group, id, false).await?;
                }
                // Membership may have moved its version.
                let known = tx.identity(id, now).await?.unwrap_or(known).identity;
                tx.forget_person(&blank(&known, now), now).await?;
                let mut event = self.event(&cause, "identity.erased", json!({"kind": known.kind}))?;
                event.subject = Some(id);
                self.note(&mut tx, event)?;
                Ok::<_, BrokerError>(true)
            }
            .await;
            match tx.end(written).await {
                None => {}
                Some(Err(BrokerError::Store(StoreError::Conflict))) => return Ok(false),
                Some(result) => return result,
            }
        }
    }
}

/// Who administers is told of and never ended by this: somebody must be left to let others in again.
fn spared(subject: &Subject) -> bool {
    subject.is_in(ADMIN_GROUP)
}

/// Who answers for it, by id.
fn answers_for(subject: &Subject) -> Option<String> {
    let identity = &subject.identity;
    let owner = identity.owner.or(identity.backup_owner).map(|id| id.to_string());
    owner.or_else(|| identity.attributes.get("manager").cloned())
}

/// What is left of a person: the id, and that they were here.
fn blank(known: &Identity, now: Timestamp) -> Identity {
    Identity {
        name: format!("erased-{}", known.id.ulid().to_string().to_lowercase()),
        display_name: "erased".to_owned(),
        email: None,
        external_id: None,
        attributes: BTreeMap::new(),
        contract_end: None,
        answer_by: None,
        deleted_at: known.deleted_at.or(Some(now)),
        ..known.clone()
    }
}
