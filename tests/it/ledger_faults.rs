//! Loops that panic, policy files that change under a running broker, what runs by the clock, and what operators see of it.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;
use tidegate::{
    broker::Broker,
    ports::{
        clock::{Clock, SystemClock},
        notifier::{Message, Notifier, NotifyError},
    },
    worker::{Rhythm, Workers},
};

use crate::{
    crash_child::{Child, Home, PROGRAM, Start},
    on_both,
    verbs_help::*,
    world::{Db, Plan, World, want},
};

/// Panics until it is told not to.
struct Bomb {
    armed: AtomicBool,
    went_off: AtomicBool,
}

#[async_trait]
impl Notifier for Bomb {
    fn name(&self) -> &'static str {
        "bomb"
    }

    async fn deliver(&self, _: &Message) -> Result<(), NotifyError> {
        self.went_off.store(true, Ordering::SeqCst);
        assert!(!self.armed.load(Ordering::SeqCst), "the notifier panics, as the test wants");
        Ok(())
    }
}

/// Run workers of that rhythm beside a world, until the broker closes.
async fn with_rhythm(
    world: &World,
    rhythm: Rhythm,
    notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    during: impl AsyncFnOnce(),
) {
    let broker = Arc::clone(&world.broker);
    let running = tokio::spawn(Workers { broker, notifiers, rhythm, node: "this".to_owned() }.run());
    during().await;
    world.broker.close(Duration::from_secs(5)).await;
    running.await.unwrap();
}

async fn red(broker: &Broker) -> Vec<String> {
    broker.ready().await.checks.into_iter().filter(|c| !c.ok).map(|c| c.name).collect()
}

async fn a_loop_that_panics_is_told_of_and_begins_anew(db: Db) {
    let home = Home::new(db, &json!({}), "").await;
    let point = format!("panic:{}@20", "reap.look");
    let Start::Up(child) = home.start(Some(&point)).await.unwrap() else { panic!("not up: {}", home.log()) };
    let ready = async || child.call(Method::GET, "/readyz", "eve", None).await.unwrap().0.as_u16();
    eventually("the readiness check tells", || async { ready().await == 503 }).await;
    assert!(home.log().contains("a worker panicked"), "{}", home.log());
    eventually("it begins anew", || async { ready().await == 200 }).await;
    for entitlement in [READ, READERS] {
        let asked = child.ask(entitlement, 600).await.unwrap();
        let path = format!("/v1/grants/{}/release", asked["grants"][0]["id"].as_str().unwrap());
        child.post(&path, "ana", json!({})).await.unwrap();
    }
    let grants = child.settled(Duration::from_secs(30)).await.unwrap();
    assert!(grants.iter().all(|grant| grant["state"] == "ended"), "{grants:?}");
    child.kill().await;
}

/// It harms that delivery only, which is tried again.
async fn a_receiver_that_panics_is_spoken_to_again(db: Db) {
    let world = World::on(db).await;
    let message = "INSERT INTO outbox (id, notifier, kind, at, data, due_at, attempts, epoch) \
                   VALUES ('msg_01ARZ3NDEKTSV4RRFFQ69G5FAV', 'bomb', 'test', 1, '{}', 1, 0, 0)";
    sql(&world, message).await;
    let bomb = Arc::new(Bomb { armed: AtomicBool::new(true), went_off: AtomicBool::new(false) });
    let notifiers = BTreeMap::from([("bomb".to_owned(), Arc::clone(&bomb) as Arc<dyn Notifier>)]);
    with_rhythm(&world, Rhythm::default(), notifiers, async || {
        eventually("it panics", || async { bomb.went_off.load(Ordering::SeqCst) }).await;
        bomb.armed.store(false, Ordering::SeqCst);
        eventually("it is tried again", || async {
            // Beyond the lease that the panic left, and the rest that the receiver was given.
            world.advance(61);
            table(&world, "SELECT id FROM outbox WHERE due_at IS NOT NULL").await.is_empty()
        })
        .await;
        assert!(red(&world.broker).await.is_empty(), "{db:?}: the loop went on");
    })
    .await;
}

/// The committer panics in the middle: what it had in hand is answered, and it goes on.
async fn a_committer_that_panics_answers_and_goes_on(db: Db) {
    let home = Home::new(db, &json!({}), "").await;
    let Start::Up(child) = home.start(Some("panic:store.before_commit@40")).await.unwrap() else {
        panic!("not up: {}", home.log());
    };
    let (mut failed, mut done) = (0, 0);
    for _ in 0..40 {
        match child.ask(READ, 600).await {
            Ok(_) => done += 1,
            Err(_) => failed += 1,
        }
    }
    assert!(home.log().contains("the committer panicked"), "{}", home.log());
    assert!(done >= 38 && failed <= 1, "{done} done, {failed} failed");
    child.get("/readyz", "eve").await.unwrap();
    home.verify_log(&child).await.unwrap();
    child.kill().await;
}

async fn changed_policy_files_are_taken_up_or_refused(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { policies: policies(dir.path()), ..Plan::on(db) };
    let world = plan.build().await;
    let rhythm = Rhythm { reload: Duration::from_millis(20), ..Rhythm::default() };
    let version = || world.broker.policy().version().to_owned();
    let told = async |action: &str| world.actions().await.iter().filter(|a| *a == action).count();
    with_rhythm(&world, rhythm, BTreeMap::new(), async || {
        let first = version();
        let catalog = dir.path().join("catalog.toml");
        edit(&catalog, "title = \"Read orders\"", "title = \"Look at orders\"");
        eventually("it is taken up", || async { told("policy.loaded").await == 1 }).await;
        let second = version();
        assert_ne!(first, second);
        // One with an error changes nothing, and is told of once.
        edit(&catalog, "title = \"Look at orders\"", "title = 7");
        eventually("it is refused", || async { told("policy.rejected").await == 1 }).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((told("policy.rejected").await, version()), (1, second.clone()));
        world.ask("ana", want(READ, 600)).await.unwrap();
        edit(&catalog, "title = 7", "title = \"Read orders\"");
        eventually("and mended", || async { told("policy.loaded").await == 2 && version() == first }).await;
        let refused = events(&world).await.into_iter().find(|e| e.action == "policy.rejected").unwrap();
        assert!(refused.details["to"].as_str().unwrap().contains("catalog.toml"), "{:?}", refused.details);
    })
    .await;
}

/// A schedule that comes due every minute of the test's clock.
fn every_minute() -> tidegate::worker::Schedule {
    "* * * * *".parse().unwrap()
}

async fn targets_are_swept_and_old_rows_pruned_by_the_clock(db: Db) {
    let world = World::on(db).await;
    let orphan = world.open("ana", READERS, 3600).await;
    sql(&world, &format!("DELETE FROM grants WHERE id = '{}'", orphan.id)).await;
    let ask = tidegate::broker::input::Ask { idempotency: Some(("k".to_owned(), vec![1])), ..want(READ, 60) };
    world.ask("ana", ask).await.unwrap();
    let keys = "SELECT key FROM idempotency_keys";
    assert_eq!(table(&world, keys).await.len(), 1);
    let rhythm = Rhythm { sweep: every_minute(), prune: every_minute(), ..Rhythm::default() };
    with_rhythm(&world, rhythm, BTreeMap::new(), async || {
        eventually("swept", || async {
            world.advance(61);
            world.actions().await.contains(&"orphan.revoked".to_owned())
        })
        .await;
        world.advance(24 * 3600);
        eventually("pruned", || async {
            world.advance(61);
            table(&world, keys).await.is_empty()
        })
        .await;
    })
    .await;
    assert!(table(&world, "SELECT grant_id FROM memberships WHERE grant_id <> ''").await.is_empty());
}

async fn metric(child: &Child, name: &str) -> Option<f64> {
    let text = child.text("/metrics").await.unwrap();
    let line = text.lines().find(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn operators_see_what_is_late(db: Db) {
    let home = Home::new(db, &json!({}), "").await;
    let child = home.up().await.unwrap();
    child.ask(READ, 1).await.unwrap();
    child.ask(READERS, 3600).await.unwrap();
    eventually("the revocation is measured", || async {
        metric(&child, "tidegate_revocation_lag_seconds_count").await.is_some_and(|n| n >= 1.0)
    })
    .await;
    for name in [
        "tidegate_oldest_overdue_seconds",
        "tidegate_grants_quarantined",
        "tidegate_outbox_depth",
        "tidegate_audit_unsealed_events",
        "tidegate_due_grants{target=\"dev-token\"}",
        "tidegate_due_grants{target=\"dev-directory\"}",
        "tidegate_writer_queue",
        "tidegate_observing",
    ] {
        let seen = metric(&child, name).await;
        assert!(seen.is_some_and(|v| v < 60.0), "{name}: {seen:?}");
    }
    // What is due on a target that nobody serves any more is seen for as long as it lasts.
    let mut ledger = home.ledger().await.unwrap();
    let stray = "UPDATE grants SET target = 'gone', due_at = 9000000000000000 WHERE state = 'active'";
    sqlx::raw_sql(stray).execute(&mut ledger).await.unwrap();
    sqlx::raw_sql("UPDATE grants SET due_at = 1 WHERE target = 'gone'").execute(&mut ledger).await.unwrap();
    eventually("it is late", || async {
        metric(&child, "tidegate_oldest_overdue_seconds").await.is_some_and(|v| v > 1_000_000.0)
            || metric(&child, "tidegate_due_grants{target=\"gone\"}").await.is_some()
    })
    .await;
    child.kill().await;
}

/// Dies at a point while something is begun by the clock, ended by a sweep or attested; nothing is forgotten.
async fn what_is_cut_off_beside_the_story_is_taken_up(db: Db) {
    // A start by the clock: the intent is durable, the target was not called.
    let home = Home::new(db, &json!({}), "").await;
    let Start::Up(mut child) = home.start(Some("start.recorded")).await.unwrap() else { panic!("{}", home.log()) };
    let at = SystemClock::new().now().plus_std(Duration::from_secs(2)).to_string();
    let later = json!({"entitlements": [READERS], "duration": 600, "reason": "later", "start_at": at});
    child.post("/v1/requests", "ana", later).await.unwrap();
    child.killed(Duration::from_secs(30)).await.unwrap();
    assert_eq!(home.rows("SELECT state FROM grants").await.unwrap(), [["activating"]]);
    let child = home.up().await.unwrap();
    let grants = child.settled(Duration::from_secs(90)).await.unwrap();
    assert_eq!(grants[0]["state"], "failed");
    child.kill().await;

    // A sweep that dies around the ending of an orphan: the next one ends it, or finds nothing left.
    let temporary = "SELECT grant_id FROM memberships WHERE grant_id <> ''";
    for point in ["sweep.orphan_found", "sweep.orphan_ended"] {
        let Start::Up(mut child) = home.start(Some(point)).await.unwrap() else { panic!("{}", home.log()) };
        let asked = child.ask(READERS, 3600).await.unwrap();
        let grant = asked["grants"][0]["id"].as_str().unwrap().to_owned();
        let mut ledger = home.ledger().await.unwrap();
        let lost = format!("DELETE FROM grants WHERE id = '{grant}'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(lost)).execute(&mut ledger).await.unwrap();
        drop(ledger);
        assert!(child.post("/v1/targets/dev-directory/sweep", "eve", json!({})).await.is_err());
        child.killed(Duration::from_secs(10)).await.unwrap();
        let child = home.up().await.unwrap();
        child.post("/v1/targets/dev-directory/sweep", "eve", json!({})).await.unwrap();
        assert!(home.rows(temporary).await.unwrap().is_empty(), "{point}");
        child.kill().await;
    }

    // Attested, and nobody was told: it stands.
    let Start::Up(mut child) = home.start(Some("attest.recorded")).await.unwrap() else { panic!("{}", home.log()) };
    let asked = child.ask(READERS, 3600).await.unwrap();
    let grant = asked["grants"][0]["id"].as_str().unwrap().to_owned();
    let mut ledger = home.ledger().await.unwrap();
    let stuck = format!(
        "UPDATE grants SET state = 'quarantined', end_reason = 'revoked', revoking_at = 1, due_at = 9000000000000000 \
         WHERE id = '{grant}'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(stuck)).execute(&mut ledger).await.unwrap();
    drop(ledger);
    let path = format!("/v1/grants/{grant}/attest");
    assert!(child.post(&path, "eve", json!({"reason": "seen to be gone"})).await.is_err());
    child.killed(Duration::from_secs(10)).await.unwrap();
    let child = home.up().await.unwrap();
    let (status, _) = child.call(Method::POST, &path, "eve", Some(json!({"reason": "again"}))).await.unwrap();
    assert_eq!(status.as_u16(), 409, "it is ended already");
    let told = format!("SELECT action FROM audit_events WHERE grant_id = '{grant}' AND action = 'grant.attested'");
    assert_eq!(home.rows(&told).await.unwrap().len(), 1);
    child.kill().await;
}

/// The whole story, as anybody can have it played.
async fn the_tour_shows_and_checks_every_step(db: Db) {
    let home = Home::new(db, &json!({}), "").await;
    let mut tour = tokio::process::Command::new(PROGRAM);
    tour.args(["dev", "--tour", "--port", "0", "--data"]).arg(home.data()).env_remove("TIDEGATE_FAILPOINT");
    if let Some(url) = &home.database {
        tour.args(["--database", url]);
    }
    let played = tokio::time::timeout(Duration::from_secs(240), tour.kill_on_drop(true).output()).await;
    let out = played.expect("an end").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    for word in ["approve", "claim", "proof"] {
        assert!(said.to_lowercase().contains(word), "no {word} in {said}");
    }
}

#[test]
fn the_command_line_explains_a_decision_rule_by_rule() {
    let explain = |who: &str, what: &str| {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/policies");
        let mut command = std::process::Command::new(PROGRAM);
        let out = command.args(["policy", "explain", who, what, "--dir", dir, "--json"]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        (out.status.code(), text, String::from_utf8(out.stderr).unwrap())
    };
    let (code, auto, err) = explain("ana", READ);
    assert_eq!(code, Some(0), "{auto}{err}");
    assert!(auto.contains("everyday-is-automatic"), "{auto}");
    let (_, pending, _) = explain("ana", ADMIN);
    assert!(pending.contains("engineers-ask-elevated") && pending.contains("approvers"), "{pending}");
    let (code, nobody, err) = explain("nobody", READ);
    assert_ne!(code, Some(0), "{nobody}");
    assert!(err.contains("nobody") || nobody.contains("nobody"), "{err}");
}

on_both!(
    what_is_cut_off_beside_the_story_is_taken_up,
    the_tour_shows_and_checks_every_step,
    a_loop_that_panics_is_told_of_and_begins_anew,
    a_receiver_that_panics_is_spoken_to_again,
    a_committer_that_panics_answers_and_goes_on,
    changed_policy_files_are_taken_up_or_refused,
    targets_are_swept_and_old_rows_pruned_by_the_clock,
    operators_see_what_is_late,
);
