//! The whole log, looked through: which events, how many of what, whether it holds, and all of it to take away. For
//! administrators and auditors. No look goes further than a bounded run of the log: what lies before is asked for next.

use std::ops::Range;

use super::{
    Broker, BrokerError, Ctx,
    audit::shown,
    input::LogQuery,
    view::{EventView, LogCheck, LogPage},
};
use crate::{
    domain::{
        checkpoint::{Checkpoint as Head, VerifierKey},
        merkle::{Hash, Nodes, leaf_hash, root, root_plan},
        time::Timestamp,
    },
    store::{LogFilter, StoreError, StoredEvent},
};

/// Events that one look goes through at most.
const RUN: u64 = 20_000;
/// Events whose actions are counted.
const COUNTED: u64 = 2_000;
/// Newest events that a check hashes again.
const HASHED: u64 = 1_000;

impl Broker {
    /// The newest events before `before` that fit, latest first, in words.
    pub async fn log_page(
        &self,
        ctx: &Ctx,
        query: &LogQuery,
        before: Option<u64>,
        rows: u32,
    ) -> Result<LogPage, BrokerError> {
        only_readers(ctx)?;
        let size = self.store.audit_size().await?;
        let filter = self.log_filter(ctx, query).await?;
        let Range { start: first, end } = self.log_range(query, size).await?;
        let end = before.unwrap_or(end).min(end);
        let start = end.saturating_sub(RUN).max(first);
        let found = self.store.log_run(&filter, start..end, rows).await?;
        let full = found.len() >= rows as usize;
        let last = found.last().map_or(start, |e| e.seq);
        let older = if full { (last > first).then_some(last) } else { (start > first).then_some(start) };
        let intact = found.iter().all(hashes_to_itself);
        let mut entries = Vec::with_capacity(found.len());
        for stored in &found {
            entries.push(self.log_entry(stored).await);
        }
        let facets = self.store.log_actions(end.saturating_sub(COUNTED).max(first)..end).await?;
        Ok(LogPage { entries, size, older, intact, facets })
    }

    /// Events that fit, oldest first, from `from` on, and where to go on: for taking them away. Ends at the signed head.
    pub async fn log_export(
        &self,
        ctx: &Ctx,
        query: &LogQuery,
        from: u64,
        upto: u64,
    ) -> Result<(Vec<EventView>, Option<u64>), BrokerError> {
        /// Events of one step.
        const STEP: u64 = 500;
        only_readers(ctx)?;
        let filter = self.log_filter(ctx, query).await?;
        let range = self.log_range(query, upto).await?;
        let (start, end) = (from.max(range.start), range.end);
        let stop = start.saturating_add(STEP).min(end);
        let mut found = self.store.log_run(&filter, start..stop, u32::MAX).await?;
        found.reverse();
        Ok((found.iter().map(shown).collect(), (stop < end).then_some(stop)))
    }

    /// The newest signed head: its text, and how many events it covers.
    pub async fn signed_head(&self, ctx: &Ctx) -> Result<(String, u64), BrokerError> {
        only_readers(ctx)?;
        let last = self.store.last_checkpoint().await?.ok_or(BrokerError::NotFound("checkpoint"))?;
        Ok((last.note, last.size))
    }

    /// The key that signs the log.
    pub fn log_key(&self) -> &VerifierKey {
        self.checkpoints.key()
    }

    /// Does the log hold, as far as this broker can say of itself? The signature of the newest head is checked, its root is
    /// computed again from what is stored, and the newest events are hashed again. Who does not trust this server
    /// verifies an export elsewhere.
    pub async fn check_log(&self, ctx: &Ctx) -> Result<LogCheck, BrokerError> {
        only_readers(ctx)?;
        let Some(last) = self.store.last_checkpoint().await? else {
            return Ok(LogCheck { holds: true, size: 0, hashed: 0, problem: None });
        };
        let keys = [self.checkpoints.key().clone()];
        let start = last.size.saturating_sub(HASHED);
        let newest = self.store.log_run(&LogFilter::default(), start..last.size, u32::MAX).await?;
        let problem = match Head::open(&last.note, &keys) {
            Err(error) => Some(format!("the signature of the head does not hold: {error}")),
            Ok((head, _)) if head.size != last.size => Some("the head is of another size than its row says".to_owned()),
            Ok((head, _)) => match self.root_again(last.size).await? {
                Some(root) if root == head.root => None,
                Some(_) => Some("the stored hashes lead to another root than the signed one".to_owned()),
                None => Some("hashes are missing".to_owned()),
            },
        };
        let changed = newest.iter().find(|e| !hashes_to_itself(e));
        let missing = newest.len() as u64 != last.size - start;
        let problem = problem
            .or_else(|| changed.map(|e| format!("event {} is not what was hashed", e.seq)))
            .or_else(|| missing.then(|| "events are missing".to_owned()));
        Ok(LogCheck { holds: problem.is_none(), size: last.size, hashed: newest.len() as u64, problem })
    }

    async fn root_again(&self, size: u64) -> Result<Option<Hash>, BrokerError> {
        let Ok(plan) = root_plan(size) else { return Ok(None) };
        let mut nodes = Nodes::new();
        for range in plan {
            let hashes = self.store.audit_hashes(range.level, range.start, range.count).await?;
            nodes.insert_range(range, hashes.iter().filter_map(|h| Hash::from_slice(h)));
        }
        Ok(root(size, &nodes).ok())
    }

    /// What was asked for, as the store looks for it.
    async fn log_filter(&self, ctx: &Ctx, query: &LogQuery) -> Result<LogFilter, BrokerError> {
        let mut filter = LogFilter::default();
        if let Some(action) = &query.action {
            filter.action = plain("action", action)?;
        }
        for (field, key) in [("actor", &query.actor), ("subject", &query.subject)] {
            let Some(key) = key else { continue };
            let who = self
                .find_subject(key, ctx.now)
                .await?
                .ok_or_else(|| BrokerError::invalid(field, "nobody here has this name or id"))?;
            filter.mentions.push(format!("\"{field}\":\"{}\"", who.identity.id));
        }
        for (field, value) in [("via", &query.via), ("target", &query.target)] {
            let Some(value) = value else { continue };
            filter.mentions.push(format!("\"{field}\":\"{}\"", plain(field, value)?));
        }
        Ok(filter)
    }

    /// Where the time that was asked for lies in the log.
    async fn log_range(&self, query: &LogQuery, size: u64) -> Result<Range<u64>, BrokerError> {
        let start = match query.since {
            Some(at) => self.first_event_at(at, size).await?,
            None => 0,
        };
        let end = match query.until {
            Some(at) => self.first_event_at(at, size).await?,
            None => size,
        };
        Ok(start.min(end)..end)
    }

    /// The first event that is not before an instant. Events are in the order of commits, so in that of time but for
    /// moments.
    async fn first_event_at(&self, at: Timestamp, size: u64) -> Result<u64, StoreError> {
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.store.event_instant(middle).await? {
                Some(there) if there < at => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }
}

/// A name as it may stand in an event, and nothing that means more than itself when it is looked for.
fn plain(field: &'static str, text: &str) -> Result<String, BrokerError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._:/-".contains(c);
    if text.is_empty() || text.len() > 100 || !text.chars().all(fits) {
        return Err(BrokerError::invalid(field, "write a name as it stands in the log"));
    }
    Ok(text.to_owned())
}

fn hashes_to_itself(stored: &StoredEvent) -> bool {
    leaf_hash(stored.leaf.as_bytes()).as_bytes().as_slice() == stored.hash.as_slice()
}

fn only_readers(ctx: &Ctx) -> Result<(), BrokerError> {
    if ctx.sees_everything() {
        return Ok(());
    }
    Err(BrokerError::Forbidden("auditors see the whole log; others see what belongs to a request"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_themselves_and_no_more() {
        assert_eq!(plain("target", "prod-db").unwrap(), "prod-db");
        for bad in ["", "%", "a\"b", "a b", "a\\"] {
            assert!(plain("target", bad).is_err(), "{bad}");
        }
    }
}
