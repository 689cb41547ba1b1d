//! No page reads a table from end to end: PostgreSQL is asked for the plan of every query that the pages make. It is told
//! to avoid such scans wherever it can, so that one that remains has no index to use, however large the table is.

use tidegate::store::Options;

use crate::{
    http_app::{App, open, portal},
    servers::postgres::Postgres,
    web_app::Browser,
    world::{Db, Plan},
};

/// Tables that grow with people and history.
const LARGE: [&str; 9] = [
    "identities",
    "memberships",
    "requests",
    "request_approvers",
    "approvals",
    "grants",
    "audit_events",
    "sessions",
    "tokens",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_reads_a_large_table_from_end_to_end() {
    let server = Postgres::dedicated(&[
        "fsync=off",
        "enable_seqscan=off",
        "jit=off",
        "session_preload_libraries=auto_explain",
        "auto_explain.log_min_duration=0",
        "auto_explain.log_nested_statements=on",
    ]);
    let database = server.fresh_database().await;
    let url = format!("postgres://postgres@127.0.0.1:{}/{database}", server.port());
    let world = Plan::on(Db::Postgres).build_on(Options::new(url)).await;
    let app = App::build(world, open(), portal()).await;
    let before = server.log().len();
    let (ana, ben, eve) =
        (Browser::of(&app, "ana").await, Browser::of(&app, "ben").await, Browser::of(&app, "eve").await);
    let pending = ana.ask("tokens:orders-admin", "order 4411").await;
    let granted = ana.ask("tokens:orders-read", "order 4411").await;
    let page = ana.page(&granted).await;
    let grant = format!("/grants/grt_{}", &page.html.split("/grants/grt_").nth(1).unwrap()[..26]);
    for path in [
        "/",
        "/catalog",
        "/request?e=ssh:deploy",
        &pending,
        "/approvals",
        "/grants",
        "/grants?show=over",
        &grant,
        "/people",
        "/people/me",
        "/agents",
        "/audit",
        "/policies",
    ] {
        for (browser, who) in [(&ana, "ana"), (&ben, "ben"), (&eve, "eve")] {
            let shown = browser.open(path).await;
            assert!(!shown.status.is_server_error(), "{path} as {who}: {}", shown.html);
        }
    }
    let about = pending.trim_start_matches("/requests/");
    eve.page(&format!("/audit?about={about}")).await;
    eve.page("/people/ana").await;
    eve.page("/audit?before=5").await;
    ben.decide(&pending, "approve", &[]).await;
    ana.post(&format!("{grant}/release"), &[]).await;
    let log = server.log();
    let log = &log[before..];
    assert!(log.matches("Query Text:").count() > 100, "the server explains its queries");
    let mut found: Vec<String> = Vec::new();
    let mut text = "";
    for line in log.lines() {
        if let Some((_, query)) = line.split_once("Query Text: ") {
            text = query;
        }
        if let Some((_, rest)) = line.split_once("Seq Scan on ") {
            let table = rest.split_whitespace().next().unwrap_or_default();
            if LARGE.contains(&table) {
                found.push(format!("{table}: {text}"));
            }
        }
    }
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "read from end to end:\n{}", found.join("\n"));
}
