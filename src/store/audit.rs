//! The audit log: events numbered densely in commit order, sealed in batches into a Merkle tree.

use std::sync::LazyLock;

use sqlx::{AnyConnection, any::AnyRow, query};

use super::{
    Page, Store, StoreError, Tx,
    row::Reader,
    rows::{Bound, RowsSql},
};
use crate::domain::{
    audit::Event,
    id::{EventId, GrantId, RequestId},
    merkle,
    time::Timestamp,
};

/// An event with its place in the log.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Leaf index.
    pub seq: u64,
    /// The bytes that were hashed.
    pub leaf: String,
    /// RFC 6962 leaf hash.
    pub hash: Vec<u8>,
}

/// A signed tree head.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Leaves in the tree.
    pub size: u64,
    /// Root hash.
    pub root: Vec<u8>,
    /// Right edge of the tree, to go on from.
    pub frontier: Vec<u8>,
    /// The signed note.
    pub note: String,
    /// When it was signed.
    pub at: Timestamp,
}

/// Which events to list. Oldest first.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only about this request.
    pub request: Option<RequestId>,
    /// Only about this grant.
    pub grant: Option<GrantId>,
    /// Only those that follow from one call, or that it brought about.
    pub correlation: Option<String>,
}

/// Which events of a run of the log. What is left empty fits everything.
#[derive(Debug, Clone, Default)]
pub struct LogFilter {
    /// This action, or all that begin so if it ends with a dot.
    pub action: String,
    /// Pieces of canonical JSON that must be in the event.
    pub mentions: Vec<String>,
}

static INSERT: LazyLock<RowsSql> = LazyLock::new(|| {
    let before = "INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, cause_id, \
                  leaf, hash) VALUES ";
    RowsSql::new(0, before, 10, "")
});

/// Number and write the events of a commit: the last statements before it.
pub(super) async fn append(connection: &mut AnyConnection, events: &[Event]) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let row = query("UPDATE audit_head SET size = size + $1 WHERE one = 1 RETURNING size")
        .bind(count)
        .fetch_one(&mut *connection)
        .await?;
    let first = Reader::new("audit_head", &row).integer("size")? - count;
    let numbered: Vec<(i64, &Event)> = (first..).zip(events).collect();
    let bind = |q: Bound, (seq, event): &(i64, &Event)| {
        let leaf = event.leaf();
        let hash = merkle::leaf_hash(leaf.as_bytes()).as_bytes().to_vec();
        q.bind(*seq)
            .bind(event.id.to_string())
            .bind(event.at.micros())
            .bind(event.action.clone())
            .bind(event.request.map(|r| r.to_string()))
            .bind(event.grant.map(|g| g.to_string()))
            .bind(event.correlation.to_string())
            .bind(event.cause.map(|c| c.to_string()))
            .bind(leaf)
            .bind(hash)
    };
    Ok(INSERT.run(connection, &numbered, bind).await?)
}

fn stored(row: &AnyRow) -> Result<StoredEvent, StoreError> {
    let r = Reader::new("audit_events", row);
    Ok(StoredEvent { seq: r.number("seq")?, leaf: r.text("leaf")?, hash: r.bytes("hash")? })
}

fn checkpoint(row: &AnyRow) -> Result<Checkpoint, StoreError> {
    let r = Reader::new("audit_checkpoints", row);
    Ok(Checkpoint {
        size: r.number("size")?,
        root: r.bytes("root")?,
        frontier: r.bytes("frontier")?,
        note: r.text("note")?,
        at: r.instant("at")?,
    })
}

impl Store {
    /// Events in the log, sealed or not.
    pub async fn audit_size(&self) -> Result<u64, StoreError> {
        let row = query("SELECT size FROM audit_head WHERE one = 1").fetch_one(&self.inner.readers).await?;
        Reader::new("audit_head", &row).number("size")
    }

    /// Events from `from` on, in order.
    pub async fn events(&self, filter: &AuditFilter, from: u64, limit: u32) -> Result<Page<StoredEvent>, StoreError> {
        const ALL: &str = "SELECT seq, leaf, hash FROM audit_events WHERE seq >= $1 AND $2 = '' ORDER BY seq LIMIT $3";
        const OF_REQUEST: &str =
            "SELECT seq, leaf, hash FROM audit_events WHERE seq >= $1 AND request_id = $2 ORDER BY seq LIMIT $3";
        const OF_GRANT: &str =
            "SELECT seq, leaf, hash FROM audit_events WHERE seq >= $1 AND grant_id = $2 ORDER BY seq LIMIT $3";
        const OF_CALL: &str = "SELECT seq, leaf, hash FROM audit_events WHERE seq >= $1 AND seq IN \
                               (SELECT seq FROM audit_events WHERE correlation_id = $2 \
                               UNION ALL SELECT seq FROM audit_events WHERE cause_id = $2) ORDER BY seq LIMIT $3";
        let (sql, value) = match (&filter.grant, &filter.request, &filter.correlation) {
            (Some(grant), ..) => (OF_GRANT, grant.to_string()),
            (_, Some(request), _) => (OF_REQUEST, request.to_string()),
            (.., Some(correlation)) => (OF_CALL, correlation.clone()),
            _ => (ALL, String::new()),
        };
        let rows = query(sql)
            .bind(i64::try_from(from).unwrap_or(i64::MAX))
            .bind(value)
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        let items = rows.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
        // The cursor is the last seq shown; the next page starts one later.
        Ok(Page::cut(items, limit, |e| e.seq.to_string()))
    }

    /// Events of a run of the log that fit, the newest first, at most `limit`.
    pub async fn log_run(
        &self,
        filter: &LogFilter,
        run: std::ops::Range<u64>,
        limit: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        const SQL: &str = "SELECT seq, leaf, hash FROM audit_events WHERE seq >= $1 AND seq < $2 \
                           AND ($3 = '' OR action = $3 OR action LIKE $4) AND leaf LIKE $5 AND leaf LIKE $6 \
                           AND leaf LIKE $7 AND leaf LIKE $8 ORDER BY seq DESC LIMIT $9";
        let bound = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let begins = if filter.action.ends_with('.') { format!("{}%", filter.action) } else { String::new() };
        let mut mentions = filter.mentions.iter().map(|m| format!("%{m}%")).chain(std::iter::repeat("%".to_owned()));
        let mut mention = || mentions.next().unwrap_or_default();
        let rows = query(SQL)
            .bind(bound(run.start))
            .bind(bound(run.end))
            .bind(filter.action.clone())
            .bind(begins)
            .bind(mention())
            .bind(mention())
            .bind(mention())
            .bind(mention())
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(stored).collect()
    }

    /// The actions in a run of the log, and how often each is there; the most frequent first.
    pub async fn log_actions(&self, run: std::ops::Range<u64>) -> Result<Vec<(String, u64)>, StoreError> {
        const SQL: &str = "SELECT action, count(*) AS times FROM audit_events WHERE seq >= $1 AND seq < $2 \
                           GROUP BY action ORDER BY times DESC, action";
        let bound = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let rows = query(SQL).bind(bound(run.start)).bind(bound(run.end)).fetch_all(&self.inner.readers).await?;
        let counted = |row: &AnyRow| {
            let r = Reader::new("audit_events", row);
            Ok((r.text("action")?, r.number("times")?))
        };
        rows.iter().map(counted).collect()
    }

    /// When an event happened.
    pub async fn event_instant(&self, seq: u64) -> Result<Option<Timestamp>, StoreError> {
        let row = query("SELECT seq, at FROM audit_events WHERE seq = $1")
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .fetch_optional(&self.inner.readers)
            .await?;
        row.map(|row| Reader::new("audit_events", &row).instant("at")).transpose()
    }

    /// One event by id.
    pub async fn event(&self, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        let row = query("SELECT seq, leaf, hash FROM audit_events WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(stored).transpose()
    }

    /// The newest checkpoint.
    pub async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let row = query("SELECT size, root, frontier, note, at FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(checkpoint).transpose()
    }

    /// Checkpoints larger than `after`, in order.
    pub async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
        let rows = query(
            "SELECT size, root, frontier, note, at FROM audit_checkpoints WHERE size > $1 ORDER BY size LIMIT $2",
        )
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(checkpoint).collect()
    }

    /// Hashes of `count` nodes from `start` on, on level 0 (leaves) or a stored level (a multiple of 8).
    pub async fn audit_hashes(&self, level: u32, start: u64, count: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let sql = if level == 0 {
            "SELECT hash FROM audit_events WHERE seq >= $1 AND seq < $2 AND $3 = 0 ORDER BY seq"
        } else {
            "SELECT hash FROM audit_nodes WHERE idx >= $1 AND idx < $2 AND level = $3 ORDER BY idx"
        };
        let bound = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let rows = query(sql)
            .bind(bound(start))
            .bind(bound(start.saturating_add(count)))
            .bind(i64::from(level))
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(|row| Reader::new("audit_nodes", row).bytes("hash")).collect()
    }
}

impl Tx {
    /// Keep a checkpoint; [`StoreError::Conflict`] if another broker sealed that size first.
    pub async fn insert_checkpoint(&mut self, c: &Checkpoint) -> Result<(), StoreError> {
        self.execute_one(
            query(
                "INSERT INTO audit_checkpoints (size, root, frontier, note, at) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (size) DO NOTHING",
            )
            .bind(i64::try_from(c.size).unwrap_or(i64::MAX))
            .bind(c.root.clone())
            .bind(c.frontier.clone())
            .bind(c.note.clone())
            .bind(c.at.micros()),
        )
        .await
    }

    /// Keep the hash of a complete subtree; again is done.
    pub async fn insert_audit_node(&mut self, level: u32, index: u64, hash: &[u8]) -> Result<(), StoreError> {
        self.execute(
            query("INSERT INTO audit_nodes (level, idx, hash) VALUES ($1, $2, $3) ON CONFLICT (level, idx) DO NOTHING")
                .bind(i64::from(level))
                .bind(i64::try_from(index).unwrap_or(i64::MAX))
                .bind(hash.to_vec()),
        )
        .await?;
        Ok(())
    }
}
