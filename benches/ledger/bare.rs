//! The limit: a bare loop that writes the same rows as an auto-approved request that becomes active, nothing else.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Connection, Executor, query};
use tidegate::store::{Options, Store};

/// State changes (audit events) of one auto-approved request: created, approved, activating, active.
pub const CHANGES: usize = 4;

/// State changes a second of the bare loop, 64 to a commit.
pub async fn changes_per_second(home: &Path, database: Option<&str>, lasting: Duration) -> f64 {
    // A fresh file each time, so that every round begins alike.
    let fresh = tempfile::tempdir_in(home).unwrap();
    let options = database.map_or_else(|| Options::sqlite(&fresh.path().join("bare.db")), Options::new);
    // Makes the schema.
    Store::open(&options).await.unwrap().close().await;
    let mut db = AnyConnection::connect(&options.url).await.unwrap();
    if database.is_none() {
        db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -16000").await.unwrap();
    }
    let leaf = "x".repeat(420);
    let json = "y".repeat(300);
    let (start, mut n) = (Instant::now(), 0_i64);
    let base = 1_000_000_000;
    while start.elapsed() < lasting {
        db.execute(if database.is_none() { "BEGIN IMMEDIATE" } else { "BEGIN" }).await.unwrap();
        for _ in 0..64 / CHANGES {
            let (request, grant) = (format!("req_{n:026}"), format!("grt_{n:026}"));
            query(
                "INSERT INTO requests (id, requester_id, subject_id, entitlements, ttl, reason, ticket, emergency, start_at, \
                 state, policy_version, needs, trace, lapses_at, due_at, created_at, decided_at, correlation_id) \
                 VALUES ($1, $2, $2, '[\"tokens:orders-read\"]', 600, 'bench', NULL, 0, NULL, 'approved', 'v', '[]', $3, \
                 $4, NULL, $4, $4, $5)",
            )
            .bind(&request).bind("idn_01M83M86G3NH4M509DP73GY8BY").bind(&json).bind(n).bind("cor_01M83M86G3NH4M509DP73GY8BY")
            .execute(&mut db).await.unwrap();
            query(
                "INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, start_at, not_after, \
                 parameters, recipe, attempts, claims, max_claims, due_at, epoch, correlation_id, created_at) \
                 VALUES ($1, $2, $3, 'tokens:orders-read', 'dev-token', 'activating', 600, NULL, $4, $5, $5, 0, 0, NULL, $4, 0, $6, $4)",
            )
            .bind(&grant).bind(&request).bind("idn_01M83M86G3NH4M509DP73GY8BY").bind(n).bind(&json)
            .bind("cor_01M83M86G3NH4M509DP73GY8BY")
            .execute(&mut db).await.unwrap();
            query("UPDATE grants SET state = 'active', applied = $1, activated_at = $2, due_at = not_after WHERE id = $3 AND epoch = 0 AND state = 'activating'")
            .bind(&json).bind(n).bind(&grant)
            .execute(&mut db).await.unwrap();
            for i in 0..CHANGES as i64 {
                let seq = base + n * CHANGES as i64 + i;
                query(
                    "INSERT INTO audit_events (seq, id, at, action, request_id, grant_id, correlation_id, leaf, hash) \
                     VALUES ($1, $2, $3, 'grant.active', $4, $5, $6, $7, $8)",
                )
                .bind(seq)
                .bind(format!("evt_{seq:026}"))
                .bind(n)
                .bind(&request)
                .bind((i >= 2).then_some(&grant))
                .bind("cor_01M83M86G3NH4M509DP73GY8BY")
                .bind(&leaf)
                .bind(vec![7_u8; 32])
                .execute(&mut db)
                .await
                .unwrap();
            }
            n += 1;
        }
        query("UPDATE audit_head SET size = size + 64 WHERE one = 1").execute(&mut db).await.unwrap();
        db.execute("COMMIT").await.unwrap();
    }
    n as f64 * CHANGES as f64 / start.elapsed().as_secs_f64()
}
