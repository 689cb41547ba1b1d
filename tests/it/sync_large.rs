//! A comparison of a large estate: everything is read once, nothing is written, memory does not grow with it. Small unless
//! the environment says otherwise: `TIDEGATE_PEOPLE=100000 TIDEGATE_GRANTS=10000`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    on_both,
    verbs_help::{READ, sql, table},
    world::{Db, Plan},
};

fn number(name: &str, small: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(small)
}

/// An application that has everybody as they should be, without keeping anything: it makes up each page.
struct Mirror {
    people: u64,
    pages: AtomicU64,
    singles: AtomicU64,
}

#[derive(serde::Deserialize)]
struct Page {
    #[serde(rename = "startIndex", default)]
    start: u64,
    #[serde(default)]
    count: u64,
}

/// The ids of the people that the test plants: of one length, in order.
fn id(n: u64) -> String {
    format!("idn_01K0000000000000000{n:07}")
}

async fn users(State(mirror): State<Arc<Mirror>>, Query(page): Query<Page>) -> Json<Value> {
    mirror.pages.fetch_add(1, Ordering::Relaxed);
    let first = page.start.max(1);
    let last = (first + page.count.clamp(1, 500) - 1).min(mirror.people);
    let users: Vec<Value> = (first..=last)
        .map(|n| {
            json!({
                "id": format!("r{n}"), "externalId": id(n), "userName": format!("p{n}"), "active": true,
                "displayName": format!("Person {n}"), "emails": [{"type": "work", "value": format!("p{n}@x.org")}],
            })
        })
        .collect();
    Json(json!({"totalResults": mirror.people, "startIndex": first, "itemsPerPage": users.len(), "Resources": users}))
}

async fn single(State(mirror): State<Arc<Mirror>>) -> http::StatusCode {
    mirror.singles.fetch_add(1, Ordering::Relaxed);
    http::StatusCode::NOT_FOUND
}

/// Resident memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn an_estate_that_is_as_it_should_be_is_read_once(db: Db) {
    let (people, grants) = (number("TIDEGATE_PEOPLE", 3_000), number("TIDEGATE_GRANTS", 50));
    let mirror = Arc::new(Mirror { people, pages: AtomicU64::new(0), singles: AtomicU64::new(0) });
    let router =
        Router::new().route("/Users", get(users)).route("/Users/{id}", get(single)).with_state(Arc::clone(&mirror));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let config = json!({
        "id": "wiki", "kind": "scim", "scope": {"attributes": {"department": ["estate"]}},
        "settings": {"url": url, "allow_loopback": true, "page_size": 500},
    });
    let mut plan = Plan::on(db);
    plan.settings.max_live_grants = None;
    plan.applications.push(serde_json::from_value(config).unwrap());
    let world = plan.build().await;
    // Straight into the ledger: how people come in is tried elsewhere.
    for first in (1..=people).step_by(500) {
        let last = (first + 499).min(people);
        let rows = |row: &dyn Fn(u64) -> String| (first..=last).map(row).collect::<Vec<_>>().join(", ");
        let identity = |n: u64| {
            format!(
                "('{}', 'person', 'p{n}', 'p{n}', 'Person {n}', 'person {n}', 'p{n}@x.org', 'p{n}@x.org', 1, \
                 '{{\"department\":\"estate\"}}', 1, 0, 0)",
                id(n)
            )
        };
        sql(&world, &format!(
            "INSERT INTO identities (id, kind, name, name_key, display_name, display_key, email, email_key, active, \
             attributes, version, created_at, updated_at) VALUES {}", rows(&identity))).await;
        let account = |n: u64| {
            format!(
                "('wiki', '{}', '{}', 'r{n}', 'x', 'aligned', 0, 0, 0, 1, '{}')",
                id(n),
                id(n),
                id(n).replace("idn_", "cor_")
            )
        };
        sql(&world, &format!(
            "INSERT INTO accounts (application, account_key, identity_id, remote_id, pushed, state, attempts, changes, leased, \
             epoch, correlation_id) VALUES {}", rows(&account))).await;
    }
    for _ in 0..grants {
        world.open("ana", READ, 3600).await;
    }
    let changes = async || table(&world, "SELECT CAST(size AS TEXT) FROM audit_head").await.remove(0);
    crate::sync_sources::run(&world, "wiki", "plan", false).await;
    mirror.pages.store(0, Ordering::Relaxed);
    let (before, memory_before) = (changes().await, memory());
    let view = crate::sync_sources::run(&world, "wiki", "apply", false).await;
    let (after, memory_after) = (changes().await, memory());
    let report = view.report.unwrap();
    assert_eq!((report.read, report.aligned, report.marked), (people, people, 0), "{db:?}: {report:?}");
    assert_eq!(mirror.pages.load(Ordering::Relaxed), people.div_ceil(500), "{db:?}: each page once");
    assert_eq!(mirror.singles.load(Ordering::Relaxed), 0, "{db:?}: nobody is asked about one by one");
    let events = after.parse::<u64>().unwrap() - before.parse::<u64>().unwrap();
    assert_eq!(events, 2, "{db:?}: that it began and that it is done");
    let grown = memory_after.saturating_sub(memory_before);
    assert!(grown < 64 * 1024, "{db:?}: {grown} KiB more for {people} people");
    let drift = world.broker.sweep_by_clock("dev-token").await;
    assert!(drift.is_ok(), "{db:?}: {drift:?}");
    server.abort();
}

on_both!(an_estate_that_is_as_it_should_be_is_read_once);
