//! The audit log as its readers see it: pages, checkpoints, proofs.

use super::{
    Broker, BrokerError, Ctx,
    input::AuditQuery,
    view::{EventView, List, LogEntry, LogPage},
};
use crate::{
    domain::{
        audit::Event,
        export::{Growth, Proof},
        id::EventId,
        merkle::{Hash, MerkleError, Nodes, consistency_plan, consistency_proof, inclusion_plan, inclusion_proof},
    },
    store::{AuditFilter, StoreError, StoredEvent},
};

impl Broker {
    /// Events, oldest first. Administrators and auditors see all; others name a request or grant that they may see.
    pub async fn audit(&self, ctx: &Ctx, query: AuditQuery) -> Result<List<EventView>, BrokerError> {
        if !ctx.sees_everything() {
            match (query.request, query.grant) {
                (Some(id), None) => drop(self.visible_request(ctx, id).await?),
                (None, Some(id)) => drop(self.visible_grant(ctx, id).await?),
                _ => {
                    return Err(BrokerError::Forbidden(
                        "name a request or a grant of yours; auditors see the whole log",
                    ));
                }
            }
        }
        let from = match query.page.after.as_deref() {
            None => 0,
            Some(text) => text
                .parse::<u64>()
                .map_err(|_| BrokerError::invalid("after", "is not a cursor of this list"))?
                .saturating_add(1),
        };
        let filter = AuditFilter { request: query.request, grant: query.grant, correlation: query.correlation };
        let page = self.store.events(&filter, from, query.page.rows()).await?;
        Ok(List { items: page.items.iter().map(shown).collect(), next: page.next })
    }

    /// The events about one request, grant or call, oldest first, in words.
    pub async fn log_of(&self, ctx: &Ctx, query: AuditQuery) -> Result<LogPage, BrokerError> {
        let found = self.audit(ctx, query).await?;
        let size = self.store.audit_size().await?;
        let mut entries = Vec::with_capacity(found.items.len());
        for view in found.items {
            let hash = hex::decode(&view.hash).unwrap_or_default();
            entries.push(self.log_entry(&StoredEvent { seq: view.seq, leaf: view.leaf, hash }).await);
        }
        Ok(LogPage { entries, size, older: None, intact: true, facets: Vec::new() })
    }

    pub(super) async fn log_entry(&self, stored: &StoredEvent) -> LogEntry {
        let mut entry = LogEntry { seq: stored.seq, hash: hex::encode(&stored.hash), ..LogEntry::default() };
        let Ok(event) = serde_json::from_str::<Event>(&stored.leaf) else {
            "an event that cannot be read".clone_into(&mut entry.action);
            return entry;
        };
        entry.id = event.id.to_string();
        entry.at = event.at.to_string();
        entry.via = event.via;
        entry.action = event.action;
        entry.actor = match event.actor {
            Some(id) => Some(self.name_of(id).await.to_string()),
            None => None,
        };
        entry.subject = match event.subject.filter(|s| Some(*s) != event.actor) {
            Some(id) => Some(self.name_of(id).await.to_string()),
            None => None,
        };
        entry.request = event.request.map(|r| r.to_string());
        entry.grant = event.grant.map(|g| g.to_string());
        entry.target = event.target;
        entry.details = event.details;
        entry
    }

    /// The newest signed head of the log.
    pub async fn checkpoint(&self, _ctx: &Ctx) -> Result<String, BrokerError> {
        self.seal().await?;
        let checkpoint = self.store.last_checkpoint().await?;
        checkpoint.map(|c| c.note).ok_or(BrokerError::NotFound("checkpoint"))
    }

    /// Signed heads larger than `after`, in order.
    pub async fn checkpoints(&self, _ctx: &Ctx, after: u64) -> Result<List<String>, BrokerError> {
        let found = self.store.checkpoints(after, 200).await?;
        let next = if found.len() == 200 { found.last().map(|c| c.size.to_string()) } else { None };
        Ok(List { items: found.into_iter().map(|c| c.note).collect(), next })
    }

    /// Proof that an event is in the log: the event, its path, and the signed head that it leads to.
    pub async fn proof(&self, ctx: &Ctx, id: EventId) -> Result<serde_json::Value, BrokerError> {
        let stored = self.store.event(id).await?.ok_or(BrokerError::NotFound("event"))?;
        let event: Event = serde_json::from_str(&stored.leaf).map_err(|e| corrupt(&stored, &e.to_string()))?;
        if !ctx.sees_everything() {
            match (event.request, event.grant) {
                (_, Some(grant)) => drop(self.visible_grant(ctx, grant).await?),
                (Some(request), None) => drop(self.visible_request(ctx, request).await?),
                _ => return Err(BrokerError::NotFound("event")),
            }
        }
        let checkpoint = loop {
            let last = self.store.last_checkpoint().await?.filter(|c| c.size > stored.seq);
            match last {
                Some(checkpoint) => break checkpoint,
                None if self.seal().await? == 0 => return Err(BrokerError::NotFound("checkpoint")),
                None => {}
            }
        };
        let plan = inclusion_plan(stored.seq, checkpoint.size).map_err(|e| corrupt(&stored, &e.to_string()))?;
        let mut nodes = Nodes::new();
        for range in plan {
            let hashes = self.store.audit_hashes(range.level, range.start, range.count).await?;
            nodes.insert_range(range, hashes.iter().filter_map(|h| Hash::from_slice(h)));
        }
        let path =
            inclusion_proof(stored.seq, checkpoint.size, &nodes).map_err(|e| corrupt(&stored, &e.to_string()))?;
        let proof = Proof {
            index: stored.seq,
            leaf: stored.leaf,
            size: checkpoint.size,
            path,
            checkpoint: checkpoint.note,
            verifier_key: Some(self.checkpoints.key().clone()),
        };
        Ok(serde_json::to_value(proof).unwrap_or_default())
    }

    /// Proof that the log at the size of one checkpoint begins with the log at the size of an earlier one.
    pub async fn consistency(&self, _ctx: &Ctx, from: u64, to: Option<u64>) -> Result<serde_json::Value, BrokerError> {
        let of = async |size: u64| {
            let found = self.store.checkpoints(size.saturating_sub(1), 1).await?;
            let found = found.into_iter().find(|c| c.size == size && size > 0);
            found.ok_or(BrokerError::NotFound("checkpoint of that size"))
        };
        let old = of(from).await?;
        let new = match to {
            Some(to) => of(to).await?,
            None => self.store.last_checkpoint().await?.ok_or(BrokerError::NotFound("checkpoint"))?,
        };
        let unfit = |e: MerkleError| BrokerError::invalid("to", e.to_string());
        let mut nodes = Nodes::new();
        for range in consistency_plan(old.size, new.size).map_err(unfit)? {
            let hashes = self.store.audit_hashes(range.level, range.start, range.count).await?;
            nodes.insert_range(range, hashes.iter().filter_map(|h| Hash::from_slice(h)));
        }
        let path = consistency_proof(old.size, new.size, &nodes).map_err(unfit)?;
        let key = Some(self.checkpoints.key().clone());
        let growth = Growth { old: old.note, new: new.note, path, verifier_key: key };
        Ok(serde_json::to_value(growth).unwrap_or_default())
    }

    /// The key that checkpoints are verified with.
    pub fn verifier_key(&self) -> String {
        self.checkpoints.key().to_string()
    }

    /// What the caller may see of the events from `from` on, and where to go on.
    pub async fn visible_events(&self, ctx: &Ctx, from: u64, limit: u32) -> Result<(Vec<EventView>, u64), BrokerError> {
        let page = self.store.events(&AuditFilter::default(), from, limit).await?;
        let next = page.items.last().map_or(from, |e| e.seq + 1);
        let mut visible = Vec::new();
        for stored in &page.items {
            if ctx.sees_everything() || self.concerns(ctx, stored).await? {
                visible.push(shown(stored));
            }
        }
        Ok((visible, next))
    }

    async fn concerns(&self, ctx: &Ctx, stored: &StoredEvent) -> Result<bool, BrokerError> {
        let Ok(event) = serde_json::from_str::<Event>(&stored.leaf) else { return Ok(false) };
        let me = ctx.actor_id();
        if event.actor == Some(me) || event.subject == Some(me) {
            return Ok(true);
        }
        let Some(request) = event.request else { return Ok(false) };
        match self.visible_request(ctx, request).await {
            Ok(_) => Ok(true),
            // What does not decode harms only itself: it is not shown, and the stream goes on.
            Err(BrokerError::NotFound(_) | BrokerError::Store(StoreError::Corrupt { .. })) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// How many events there are; streams of new ones begin here.
    pub async fn log_size(&self) -> Result<u64, BrokerError> {
        Ok(self.store.audit_size().await?)
    }
}

fn corrupt(stored: &StoredEvent, what: &str) -> BrokerError {
    StoreError::Corrupt { table: "audit_events", id: stored.seq.to_string(), what: what.to_owned() }.into()
}

pub(super) fn shown(stored: &StoredEvent) -> EventView {
    EventView {
        seq: stored.seq,
        hash: hex::encode(&stored.hash),
        leaf: stored.leaf.clone(),
        event: serde_json::from_str(&stored.leaf).unwrap_or_default(),
    }
}
