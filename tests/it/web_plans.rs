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
const LARGE: [&str; 11] = [
    "identities",
    "memberships",
    "requests",
    "request_approvers",
    "approvals",
    "grants",
    "audit_events",
    "sessions",
    "tokens",
    "request_takers",
    "favourites",
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
        "/policies?entitlement=tokens:orders-admin&tests=1&from=a&to=b",
        "/directory",
        "/insights",
        "/integrations",
        "/system",
        "/break-glass",
        "/catalog?marked=1&label=system:%20orders",
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
    eve.page("/audit?q=by:ana+action:request.+since:2026-01-01+until:2036-01-01&verify=1").await;
    eve.page("/audit/export?format=csv&q=via:web").await;
    ben.post(&format!("{pending}/take-up"), &[]).await;
    ben.post(&format!("{pending}/comment"), &[("comment", "which order?")]).await;
    ana.post("/catalog/mark", &[("entitlement", "tokens:orders-read"), ("on", "1")]).await;
    ben.page("/approvals").await;
    ben.decide(&pending, "approve", &[]).await;
    ana.post(&format!("{grant}/release"), &[]).await;
    // Many rows are few statements: look-ups of the same kind are made together.
    for n in 0..15 {
        ana.ask("tokens:orders-admin", &format!("order {n}")).await;
    }
    let start = server.log().len();
    let inbox = ben.page("/approvals").await;
    let statements = server.log()[start..].matches("Query Text:").count();
    assert_eq!(inbox.html.matches("data-approve>").count(), 15);
    assert!(statements < 30, "{statements} statements for an inbox of 15");
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
