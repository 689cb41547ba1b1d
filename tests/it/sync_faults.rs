//! Applications that lie, are down, are busy, lose answers; a broker that is killed in the middle; a great many accounts.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate::{
    domain::account::{AccountState, ApplicationConfig},
    store::AccountRow,
};

use crate::{
    crash_child::{Home, Start},
    on_both,
    servers::{
        lying::{Liar, Mood},
        scim::ScimServer,
    },
    sync_sources::{Fed, line, run},
    verbs_help::{events, sql, table},
    world::{Db, Plan},
};

fn config(liar: &Liar) -> ApplicationConfig {
    let config = json!({
        "id": "wiki", "kind": "scim", "timeout_seconds": 5, "settings": liar.settings(), "scope": {"groups": ["hr-all"]},
        "mapping": {"userName": "name", "displayName": "display_name"},
    });
    serde_json::from_value(config).unwrap()
}

async fn fed(db: Db, liar: &Liar) -> Fed {
    let mut plan = Plan::on(db);
    plan.applications.push(config(liar));
    Fed::build(plan).await
}

async fn row(fed: &Fed, name: &str) -> AccountRow {
    let id = fed.person(name).await.id;
    fed.world.store().account("wiki", &id.to_string()).await.unwrap().expect("an account")
}

fn here(name: &str, active: &str) -> Vec<String> {
    vec![line(1, name, active, "hr-all")]
}

/// Let time pass until what waits has been tried again.
async fn later(fed: &Fed, seconds: u64) {
    fed.world.advance(seconds);
    fed.world.settle().await;
}

async fn a_liar_is_not_believed_and_is_told_of(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.feed(&here("zoe", "yes")).await;
    assert_eq!(row(&fed, "zoe").await.state, AccountState::Corrected);
    liar.set(Mood::Lies);
    fed.feed(&here("zoe", "no")).await;
    for _ in 0..8 {
        later(&fed, 1000).await;
        assert_eq!(row(&fed, "zoe").await.state, AccountState::NotVerified, "200 is no proof");
    }
    let told = events(&fed.world).await.into_iter().filter(|e| e.action == "account.not_verified");
    let told: Vec<Value> = told.map(|e| e.details["error"].clone()).collect();
    // When it began, and once more when it would not end.
    assert_eq!(told, vec![json!("read back, it is still active"); 2]);
    liar.set(Mood::Well);
    later(&fed, 1000).await;
    assert_eq!(
        (row(&fed, "zoe").await.state, &liar.user("zoe").unwrap()["active"]),
        (AccountState::Corrected, &json!(false))
    );
}

async fn a_day_of_silence_delays_a_leaver_and_loses_nobody(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.feed(&here("zoe", "yes")).await;
    liar.set(Mood::Down);
    fed.feed(&here("zoe", "no")).await;
    liar.calls();
    for _ in 0..96 {
        later(&fed, 900).await;
        assert_eq!(row(&fed, "zoe").await.state, AccountState::NotVerified);
    }
    let calls = liar.calls().len();
    assert!((20..=400).contains(&calls), "asked again and again, and no storm: {calls}");
    // Gone with its URL is no proof either.
    liar.set(Mood::Moved);
    later(&fed, 1000).await;
    let now = row(&fed, "zoe").await;
    assert_eq!(now.state, AccountState::NotVerified);
    assert!(now.last_error.unwrap().contains("404"));
    liar.set(Mood::Well);
    later(&fed, 1000).await;
    later(&fed, 1000).await;
    assert_eq!(liar.user("zoe").unwrap()["active"], false);
    assert_eq!(row(&fed, "zoe").await.state, AccountState::Corrected);
}

async fn who_asks_to_be_left_alone_is_left_alone(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    liar.set(Mood::Busy);
    fed.feed(&here("zoe", "yes")).await;
    liar.calls();
    liar.set(Mood::Well);
    later(&fed, 3500).await;
    assert_eq!(liar.calls(), Vec::<String>::new());
    assert_eq!(row(&fed, "zoe").await.attempts, 0, "that is no failure");
    later(&fed, 200).await;
    assert_eq!(row(&fed, "zoe").await.state, AccountState::Corrected);
}

async fn one_that_is_refused_harms_only_itself(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    liar.set(Mood::Refuses("yan".to_owned()));
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all"), line(3, "xia", "yes", "hr-all")])
        .await;
    let failed = row(&fed, "yan").await;
    assert_eq!(failed.state, AccountState::Failed);
    assert!(failed.last_error.unwrap().contains("that name is not for us"));
    for name in ["zoe", "xia"] {
        assert_eq!(row(&fed, name).await.state, AccountState::Corrected);
    }
    let view = run(&fed.world, "wiki", "apply", false).await;
    assert_eq!(view.accounts.get("failed"), Some(&1), "{view:?}");
}

async fn a_lost_answer_makes_no_second_account(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    liar.set(Mood::LosesAnswers);
    fed.feed(&here("zoe", "yes")).await;
    assert_eq!((liar.count(), row(&fed, "zoe").await.remote_id), (1, None));
    liar.set(Mood::Well);
    later(&fed, 1000).await;
    assert_eq!(liar.count(), 1);
    assert_eq!(row(&fed, "zoe").await.remote_id.as_deref(), Some("u1"));
    let actions = fed.world.actions().await;
    assert!(actions.contains(&"account.adopted".to_owned()) && !actions.contains(&"account.created".to_owned()));
}

async fn a_method_that_is_missing_is_no_account_that_is_missing(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.feed(&here("zoe", "yes")).await;
    liar.set(Mood::NoPatch);
    fed.feed(&here("zoe.new", "yes")).await;
    let user = liar.user("zoe.new").expect("renamed by PUT");
    assert_eq!((&user["id"], &user["unknown"]), (&json!("u1"), &json!("kept")), "what we do not know is put back");
    // And remembered.
    liar.calls();
    fed.feed(&here("zoe", "yes")).await;
    assert!(!liar.calls().iter().any(|c| c.starts_with("PATCH")));
}

async fn no_redirect_is_followed_and_a_token_is_read_again_once(db: Db) {
    let (liar, elsewhere) = (Liar::start().await, Liar::start().await);
    let fed = fed(db, &liar).await;
    liar.set(Mood::Redirects(format!("{}/Users", elsewhere.url)));
    fed.feed(&here("zoe", "yes")).await;
    assert_eq!(row(&fed, "zoe").await.state, AccountState::Failed);
    assert_eq!(elsewhere.calls(), Vec::<String>::new());
    liar.set(Mood::WantsToken("second".to_owned()));
    later(&fed, 1000).await;
    assert_eq!(row(&fed, "zoe").await.state, AccountState::Failed);
    std::fs::write(liar.token_file(), "second\n").unwrap();
    later(&fed, 1000).await;
    assert_eq!(row(&fed, "zoe").await.state, AccountState::Corrected);
}

async fn a_run_whose_broker_died_is_taken_up_again(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.write(&here("zoe", "yes"));
    let eve = fed.world.who("eve").await;
    let id = fed.world.broker.start_sync(&eve, "hr", "apply", false).await.unwrap();
    // Somebody took it and was never heard of again.
    assert_eq!(fed.world.broker.lease_runs(4).await.unwrap().len(), 1);
    fed.world.settle().await;
    assert_eq!(fed.world.broker.sync_run(&eve, id).await.unwrap().state, "running");
    later(&fed, 200).await;
    assert_eq!(fed.world.broker.sync_run(&eve, id).await.unwrap().state, "done");
    assert!(liar.user("zoe").is_some());
}

/// How much of it: a few by default, 100,000 by `TIDEGATE_SYNC_ACCOUNTS=100000`.
fn accounts() -> usize {
    std::env::var("TIDEGATE_SYNC_ACCOUNTS").ok().and_then(|n| n.parse().ok()).unwrap_or(3000)
}

/// Memory of this process, in KiB: now, and at most.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn unchanged_accounts_are_read_once_and_nothing_is_written(db: Db) {
    let liar = Liar::start().await;
    let mut plan = Plan::on(db);
    let mut config = config(&liar);
    config.scope = serde_json::from_value(json!({"attributes": {"crowd": ["yes"]}})).unwrap();
    config.mapping = serde_json::from_value(json!({"userName": "name"})).unwrap();
    config.settings.insert("page_size".to_owned(), json!(1000));
    plan.applications.push(config);
    let fed = Fed::build(plan).await;
    let n = accounts();
    let id = |i: usize| format!("idn_{}", ulid::Ulid::from_parts(1, i as u128 + 1));
    for part in (0..n).collect::<Vec<_>>().chunks(500) {
        let people: Vec<String> = part
            .iter()
            .map(|i| {
                format!(
                    "('{}', 'person', 'crowd{i}', 'crowd{i}', 'crowd{i}', 1, '{{\"crowd\":\"yes\"}}', 1, 0, 0)",
                    id(*i)
                )
            })
            .collect();
        let rows: Vec<String> = part
            .iter()
            .map(|i| {
                let (id, cause) = (id(*i), "cor_01ARZ3NDEKTSV4RRFFQ69G5FAV");
                format!("('wiki', '{id}', '{id}', 'c{i}', 'x', 'aligned', 0, 1, 0, 1, '{cause}')")
            })
            .collect();
        let text = format!(
            "INSERT INTO identities (id, kind, name, name_key, display_name, active, attributes, version, created_at, \
             updated_at) VALUES {}; INSERT INTO accounts (application, account_key, identity_id, remote_id, pushed, \
             state, attempts, changes, leased, epoch, correlation_id) VALUES {}",
            people.join(","),
            rows.join(",")
        );
        sql(&fed.world, &text).await;
    }
    liar.crowd((0..n).map(id).collect());
    let before = memory("VmRSS:");
    let changes = || fed.world.store().stats().events.load(std::sync::atomic::Ordering::Relaxed);
    let events_before = changes();
    let watch = tidegate::telemetry::Stopwatch::start();
    let view = run(&fed.world, "wiki", "apply", false).await;
    let report = view.report.unwrap();
    #[allow(clippy::print_stdout, reason = "the figure is what the measuring run is for")]
    {
        println!("{n} accounts in {:?}, memory {before} KiB before, {} KiB at most", watch.elapsed(), memory("VmHWM:"));
    }
    assert_eq!((report.read, report.aligned, report.marked), (n as u64, n as u64, 0), "{:?}", report.actions);
    let lists = liar.calls().into_iter().filter(|c| c == "GET /Users").count();
    assert_eq!(lists, n.div_ceil(1000), "each page once, and no account by itself");
    // The beginning and the end of the run, and nothing of any account.
    assert_eq!(changes() - events_before, 2);
    let touched = table(&fed.world, "SELECT account_key FROM accounts WHERE epoch <> 1 OR changes <> 1").await;
    assert_eq!(touched.len(), 0);
}

/// `kill -9` while accounts are made; after a restart each is there once and read back.
async fn a_killed_broker_goes_on_where_it_was(db: Db) {
    for point in ["sync.before_create@2", "sync.after_create@2", "sync.after_call@2", "sync.recorded@2"] {
        let server = ScimServer::start().await;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("people.csv");
        std::fs::write(&file, "no,login,teams\n1,zoe,hr-all\n2,yan,hr-all\n3,xia,hr-all\n").unwrap();
        let config = json!({
            "limits": {"lease_slack_seconds": 1},
            "application": [{
                "id": "wiki", "kind": "scim", "timeout_seconds": 1, "concurrency": 1, "settings": server.settings(),
                "scope": {"groups": ["hr-all"]},
            }],
            "source": [{
                "id": "hr", "kind": "feed", "settings": {"data_file": file},
                "mapping": {"external_id": "no", "name": "login", "groups": "teams"},
            }],
        });
        let home = Home::new(db, &config, "").await;
        let Start::Up(mut child) = home.start(Some(point)).await.unwrap() else { panic!("{point}: {}", home.log()) };
        // It may die within this very call.
        let _ = child.post("/v1/sync/hr/apply", "eve", json!({})).await;
        child.killed(Duration::from_secs(60)).await.unwrap_or_else(|e| panic!("{point}: {e}"));
        let child = home.up().await.unwrap();
        let states = "SELECT state FROM accounts ORDER BY account_key";
        let settled = async {
            loop {
                let rows = home.rows(states).await.unwrap_or_default();
                if rows.len() == 3 && rows.iter().all(|r| ["aligned", "corrected"].contains(&r[0].as_str())) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let within = tokio::time::timeout(Duration::from_secs(120), settled).await;
        assert!(within.is_ok(), "{point}: {:?}", home.rows(states).await);
        let mut names: Vec<String> =
            server.users().await.iter().map(|u| u["userName"].as_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["xia", "yan", "zoe"], "{point}");
        home.verify_log(&child).await.unwrap();
        child.kill().await;
    }
}

on_both!(
    a_liar_is_not_believed_and_is_told_of,
    a_day_of_silence_delays_a_leaver_and_loses_nobody,
    who_asks_to_be_left_alone_is_left_alone,
    one_that_is_refused_harms_only_itself,
    a_lost_answer_makes_no_second_account,
    a_method_that_is_missing_is_no_account_that_is_missing,
    no_redirect_is_followed_and_a_token_is_read_again_once,
    a_run_whose_broker_died_is_taken_up_again,
    unchanged_accounts_are_read_once_and_nothing_is_written,
    a_killed_broker_goes_on_where_it_was,
);
