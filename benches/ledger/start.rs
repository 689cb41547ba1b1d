//! Start with a million live grants: time to ready, and memory beside an empty start.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use sqlx::{AnyConnection, Connection, Executor, query};
use tidegate::domain::grant::object_name;
use tidegate::domain::id::GrantId;

use crate::world::{compose_at, engineers};

const GRANTS: usize = 1_000_000;
const CHILD: &str = "TIDEGATE_BENCH_START";

/// In the child process: start, be ready, let the workers run, say what it took.
async fn child(home: &Path, database: Option<&str>) {
    let start = Instant::now();
    let composed = compose_at(home, database).await;
    assert!(composed.broker.ready().await.ready);
    let ready = start.elapsed();
    let broker = Arc::clone(&composed.broker);
    let working = tokio::spawn(composed.workers.run());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    println!("{} {}", ready.as_millis(), rss.trim().trim_end_matches(" kB"));
    broker.closing().cancel();
    let _ = working.await;
}

fn measure(home: &Path, database: Option<&str>) -> (u64, u64) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg("start").env(CHILD, home);
    if let Some(url) = database {
        command.args(["--database", url]);
    }
    let out = command.output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut words = text.split_whitespace().map(|w| w.parse().unwrap());
    (words.next().unwrap(), words.next().unwrap())
}

pub async fn run(database: Option<&str>) {
    if let Some(home) = std::env::var_os(CHILD) {
        return child(Path::new(&home), database).await;
    }
    let home = tempfile::tempdir().unwrap();
    let (empty_ready, empty_rss) = {
        let composed = compose_at(home.path(), database).await;
        composed.broker.close(Duration::from_secs(5)).await;
        measure(home.path(), database)
    };
    {
        let composed = compose_at(home.path(), database).await;
        let broker = &composed.broker;
        let ids = engineers(broker, 64).await;
        let url =
            database.map_or_else(|| format!("sqlite://{}", home.path().join("ledger.db").display()), str::to_owned);
        let mut db = AnyConnection::connect(&url).await.unwrap();
        let now = broker.now();
        let due = now.plus_std(Duration::from_secs(86_400)).micros();
        for _ in 0..GRANTS / 10_000 {
            db.execute("BEGIN").await.unwrap();
            for i in 0..10_000 {
                let id = GrantId::new(broker.entropy().ulid(now).unwrap());
                let recipe = serde_json::json!({"grant": id, "object": object_name(id), "data": {}}).to_string();
                query(
                    "INSERT INTO grants (id, request_id, holder_id, entitlement, target, state, ttl, not_after, parameters, \
                     recipe, activated_at, attempts, claims, due_at, epoch, correlation_id, created_at) \
                     VALUES ($1, 'req_00000000000000000000000000', $2, 'tokens:orders-read', 'dev-token', 'active', 60, $3, \
                     '{}', $4, $5, 0, 0, $3, 0, 'cor_00000000000000000000000000', $5)",
                )
                .bind(id.to_string()).bind(ids[i % ids.len()].to_string()).bind(due).bind(recipe).bind(now.micros())
                .execute(&mut db).await.unwrap();
            }
            db.execute("COMMIT").await.unwrap();
        }
        broker.close(Duration::from_secs(30)).await;
    }
    let (ready, rss) = measure(home.path(), database);
    println!("start: {GRANTS} live grants");
    println!("  ready after {ready} ms (empty: {empty_ready} ms; wanted 1000)");
    println!("  resident {} MB (empty: {} MB; wanted at most 50 more)", rss / 1024, empty_rss / 1024);
}
