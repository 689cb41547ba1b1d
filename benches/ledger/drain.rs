//! 100,000 grants due in one second: how fast they are ended and verified, and what new requests feel of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Connection, Executor, query};
use tidegate::{
    broker::{Broker, Ctx},
    domain::{grant::object_name, id::GrantId, id::IdentityId},
};

use crate::{
    bare,
    verbs::ask,
    world::{Latencies, compose_at, ctx, engineers},
};

/// Half of them tokens, half of them memberships.
const GRANTS: usize = 100_000;
/// State changes of one end: revoking, ended.
const CHANGES: f64 = 2.0;

pub async fn run(database: Option<&str>) {
    let home = tempfile::tempdir().unwrap();
    let composed = compose_at(home.path(), database).await;
    let broker = Arc::clone(&composed.broker);
    let ids = engineers(&broker, 64).await;
    let ctx = ctx(&broker, ids[0]).await;
    let idle = Latencies::new(ask_for(&broker, &ctx, Duration::from_secs(3), || false).await);
    let due = broker.now().plus_std(Duration::from_secs(15));
    let url = database.map_or_else(|| format!("sqlite://{}", home.path().join("ledger.db").display()), str::to_owned);
    plant(&broker, &url, &ids, due.micros()).await;
    let working = tokio::spawn(composed.workers.run());
    while broker.now() < due {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let start = Instant::now();
    let counting = {
        let url = url.clone();
        tokio::spawn(async move {
            let mut db = AnyConnection::connect(&url).await.unwrap();
            loop {
                let left = "SELECT id FROM grants WHERE due_at IS NOT NULL AND correlation_id = 'cor_00000000000000000000000000' LIMIT 1";
                if query(left).fetch_optional(&mut db).await.unwrap().is_none() {
                    return start.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    let busy = Latencies::new(ask_for(&broker, &ctx, Duration::from_secs(600), || counting.is_finished()).await);
    let took = counting.await.unwrap();
    let mut db = AnyConnection::connect(&url).await.unwrap();
    let lag = |rank: usize| {
        format!(
            "SELECT (ended_at - not_after) AS lag FROM grants WHERE correlation_id = 'cor_00000000000000000000000000' AND state = 'ended' ORDER BY 1 LIMIT 1 OFFSET {rank}"
        )
    };
    let mut lags = Vec::new();
    for rank in [GRANTS / 2, GRANTS * 99 / 100, GRANTS - 1] {
        let row: (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(lag(rank))).fetch_one(&mut db).await.unwrap();
        lags.push(row.0 as f64 / 1e6);
    }
    broker.closing().cancel();
    let _ = working.await;
    let limit = bare::changes_per_second(home.path(), None, Duration::from_secs(5)).await;
    let rate = GRANTS as f64 * CHANGES / took.as_secs_f64();
    println!("drain: {GRANTS} grants due in one second, half tokens, half memberships");
    println!(
        "  drained and verified in {:.1} s: {:.0} grants/s, {rate:.0} state changes/s",
        took.as_secs_f64(),
        GRANTS as f64 / took.as_secs_f64()
    );
    println!("  lag p50 {:.2} s  p99 {:.2} s  max {:.2} s", lags[0], lags[1], lags[2]);
    println!("  bare loop {limit:.0} state changes/s: ratio {:.2} (wanted 0.30)", rate / limit);
    println!("  new request idle:   {}", idle.line());
    println!("  new request during: {}  p99 ratio {:.1} (wanted 3)", busy.line(), busy.at(0.99) / idle.at(0.99));
}

async fn ask_for(broker: &Arc<Broker>, ctx: &Ctx, lasting: Duration, done: impl Fn() -> bool) -> Vec<f64> {
    let start = Instant::now();
    let mut latencies = Vec::new();
    while start.elapsed() < lasting && !done() {
        let one = Instant::now();
        let ctx = Ctx { now: broker.now(), ..ctx.clone() };
        broker.ask(&ctx, ask(3600)).await.unwrap();
        latencies.push(one.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    latencies
}

/// Rows of live grants, as opening them one by one would have left them.
async fn plant(broker: &Broker, url: &str, holders: &[IdentityId], due: i64) {
    let mut db = AnyConnection::connect(url).await.unwrap();
    let oncall = broker.store().group("oncall").await.unwrap().unwrap();
    let now = broker.now();
    for chunk in 0..GRANTS / 1000 {
        db.execute("BEGIN").await.unwrap();
        for i in 0..1000 {
            let n = chunk * 1000 + i;
            let id = GrantId::new(broker.entropy().ulid(now).unwrap());
            let holder = holders[n % holders.len()];
            let (entitlement, target, parameters, data) = if n % 2 == 0 {
                (
                    "tokens:orders-read",
                    "dev-token",
                    r#"{"audience":"https://orders.example","scopes":["orders:read"],"algorithm":"EdDSA"}"#.to_owned(),
                    serde_json::json!({}),
                )
            } else {
                query("INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) VALUES ($1, $2, $3, $4, $4)")
                    .bind(oncall.id.to_string()).bind(holder.to_string()).bind(id.to_string()).bind(due)
                    .execute(&mut db).await.unwrap();
                (
                    "directory:oncall",
                    "dev-directory",
                    r#"{"group":"oncall"}"#.to_owned(),
                    serde_json::json!({"group": "oncall", "identity": holder, "was_standing": false}),
                )
            };
            let recipe = serde_json::json!({"grant": id, "object": object_name(id), "data": data}).to_string();
            query(
                "INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, not_after, parameters, \
                 recipe, activated_at, attempts, claims, due_at, epoch, correlation_id, created_at) \
                 VALUES ($1, 'req_00000000000000000000000000', $2, $3, $4, 'active', 60, $5, $6, $7, $8, 0, 0, $5, 0, \
                 'cor_00000000000000000000000000', $8)",
            )
            .bind(id.to_string()).bind(holder.to_string()).bind(entitlement).bind(target).bind(due).bind(parameters)
            .bind(recipe).bind(now.micros())
            .execute(&mut db).await.unwrap();
        }
        db.execute("COMMIT").await.unwrap();
    }
}
