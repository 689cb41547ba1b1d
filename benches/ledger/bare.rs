//! The limit: the same rows as an auto-approved request that becomes active, or as a claim, and nothing else.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Connection, Executor, query};
use tidegate::store::{Options, Store};

/// State changes (audit events) of one auto-approved request: created, approved, activating, active.
pub const CHANGES: usize = 4;
/// State changes in one commit.
pub const TOGETHER: usize = 64;

/// Which rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Of a request that becomes active.
    Request,
    /// Of a claim.
    Claim,
}

impl Rows {
    pub const fn changes(self) -> usize {
        match self {
            Self::Request => CHANGES,
            Self::Claim => 1,
        }
    }
}

/// One connection that writes, one statement a row.
pub struct Bare {
    db: AnyConnection,
    sqlite: bool,
    leaf: String,
    json: String,
    n: i64,
    _home: tempfile::TempDir,
}

/// As many people as ask in the other rounds: rows of one person alone would lie side by side in every index.
fn who(n: i64) -> String {
    format!("idn_{:026}", n * 7919 % 2048)
}

const CALL: &str = "cor_01M83M86G3NH4M509DP73GY8BY";

impl Bare {
    /// A fresh file each time, so that every round begins alike.
    pub async fn open(home: &Path, database: Option<&str>) -> Self {
        let fresh = tempfile::tempdir_in(home).unwrap();
        let options = database.map_or_else(|| Options::sqlite(&fresh.path().join("bare.db")), Options::new);
        // Makes the schema.
        Store::open(&options).await.unwrap().close().await;
        let mut db = AnyConnection::connect(&options.url).await.unwrap();
        let sqlite = database.is_none();
        if sqlite {
            db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -16000").await.unwrap();
        }
        Self { db, sqlite, leaf: "x".repeat(420), json: "y".repeat(300), n: 0, _home: fresh }
    }

    /// So many requests or claims in one commit.
    pub async fn commit(&mut self, rows: Rows, count: usize) {
        self.db.execute(if self.sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await.unwrap();
        for _ in 0..count {
            match rows {
                Rows::Request => self.request().await,
                Rows::Claim => self.claim().await,
            }
        }
        let events = (count * rows.changes()) as i64;
        query("UPDATE audit_head SET size = size + $1 WHERE one = 1").bind(events).execute(&mut self.db).await.unwrap();
        self.db.execute("COMMIT").await.unwrap();
    }

    async fn request(&mut self) {
        let (n, json, db) = (self.n, &self.json, &mut self.db);
        let (request, grant, who) = (format!("req_{n:026}"), format!("grt_{n:026}"), who(n));
        query(
            "INSERT INTO requests (id, requester_id, subject_id, entitlements, ttl, reason, ticket, emergency, start_at, \
             state, policy_version, needs, trace, lapses_at, due_at, created_at, decided_at, correlation_id) \
             VALUES ($1, $2, $2, '[\"tokens:orders-read\"]', 600, 'bench', NULL, 0, NULL, 'approved', 'v', '[]', $3, \
             $4, NULL, $4, $4, $5)",
        )
        .bind(&request).bind(&who).bind(json).bind(n).bind(CALL)
        .execute(&mut *db).await.unwrap();
        query(
            "INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, \
             parameters, recipe, attempts, claims, max_claims, due_at, epoch, correlation_id, created_at) \
             VALUES ($1, $2, $3, 'tokens:orders-read', 'dev-token', 'activating', 600, NULL, $4, $5, $5, 0, 0, NULL, $4, 0, $6, $4)",
        )
        .bind(&grant).bind(&request).bind(&who).bind(n).bind(json).bind(CALL)
        .execute(&mut *db).await.unwrap();
        query("UPDATE grants SET state = 'active', applied = $1, activated_at = $2, due_at = not_after WHERE id = $3 AND epoch = 0 AND state = 'activating'")
            .bind(json).bind(n).bind(&grant)
            .execute(&mut *db).await.unwrap();
        for i in 0..CHANGES as i64 {
            self.event(n * CHANGES as i64 + i, &request, (i >= 2).then_some(&grant)).await;
        }
        self.n += 1;
    }

    /// The first grant is claimed again and again.
    async fn claim(&mut self) {
        let (n, grant) = (self.n, format!("grt_{:026}", 0));
        if n == 0 {
            self.request().await;
        }
        query("UPDATE grants SET claims = claims + 1 WHERE id = $1 AND state = 'active'")
            .bind(&grant)
            .execute(&mut self.db)
            .await
            .unwrap();
        query("INSERT INTO claims (grant_id, number, at, expires_at) VALUES ($1, $2, $3, $3) RETURNING serial")
            .bind(&grant)
            .bind(n)
            .bind(n)
            .fetch_one(&mut self.db)
            .await
            .unwrap();
        self.event(1_000_000 + n, &format!("req_{:026}", 0), Some(&grant)).await;
        self.n += 1;
    }

    async fn event(&mut self, n: i64, request: &str, grant: Option<&String>) {
        let seq = 1_000_000_000 + n;
        query(
            "INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, leaf, hash) \
             VALUES ($1, $2, $3, 'grant.active', $4, $5, $6, $7, $8)",
        )
        .bind(seq)
        .bind(format!("evt_{seq:026}"))
        .bind(n)
        .bind(request)
        .bind(grant)
        .bind(CALL)
        .bind(&self.leaf)
        .bind(vec![7_u8; 32])
        .execute(&mut self.db)
        .await
        .unwrap();
    }
}

/// State changes a second of the bare loop, 64 to a commit.
pub async fn changes_per_second(home: &Path, database: Option<&str>, lasting: Duration) -> f64 {
    let mut bare = Bare::open(home, database).await;
    let start = Instant::now();
    while start.elapsed() < lasting {
        bare.commit(Rows::Request, TOGETHER / CHANGES).await;
    }
    bare.n as f64 * CHANGES as f64 / start.elapsed().as_secs_f64()
}
