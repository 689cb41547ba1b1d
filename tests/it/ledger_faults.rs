//! Loops that panic, policy files that change under a running broker, what runs by the clock, and what operators see of it.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::AtomicBool, sync::atomic::Ordering, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tidegate::{
    broker::Broker,
    ports::notifier::{Message, Notifier, NotifyError},
    worker::{Rhythm, Workers},
};

use crate::{
    crash_child::{Child, Home, Start},
    on_both,
    verbs_help::*,
    world::{Db, Plan, World, want},
};

/// Panics until it is told not to.
struct Bomb {
    armed: AtomicBool,
}

#[async_trait]
impl Notifier for Bomb {
    fn name(&self) -> &'static str {
        "bomb"
    }

    async fn deliver(&self, _: &Message) -> Result<(), NotifyError> {
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
    let mut plan = Plan::on(db);
    plan.settings.notifiers = vec!["bomb".to_owned()];
    let world = plan.build().await;
    let bomb = Arc::new(Bomb { armed: AtomicBool::new(true) });
    let notifiers = BTreeMap::from([("bomb".to_owned(), Arc::clone(&bomb) as Arc<dyn Notifier>)]);
    let rhythm = Rhythm { restart: Duration::from_millis(500), ..Rhythm::default() };
    with_rhythm(&world, rhythm, notifiers, async || {
        world.ask("ana", want(ADMIN, 600)).await.unwrap();
        eventually("the readiness check tells", || async { red(&world.broker).await == ["workers"] }).await;
        let grant = world.open("ben", READERS, 60).await;
        world.advance(61);
        eventually("the others go on", || async { world.state(&grant.id).await.is_terminal() }).await;
        bomb.armed.store(false, Ordering::SeqCst);
        eventually("it begins anew", || async { red(&world.broker).await.is_empty() }).await;
        eventually("it does its work", || async {
            // Beyond the lease that the panic left.
            world.advance(61);
            table(&world, "SELECT id FROM outbox WHERE due_at IS NOT NULL").await.is_empty()
        })
        .await;
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
        edit(&catalog, "max_ttl = \"8h\"", "max_ttl = \"7h\"");
        eventually("it is taken up", || async { told("policy.loaded").await == 1 }).await;
        let second = version();
        assert_ne!(first, second);
        refused!(world.ask("ana", want(READ, 8 * 3600)).await, tidegate::broker::BrokerError::Invalid { .. });
        // One with an error changes nothing, and is told of once.
        edit(&catalog, "max_ttl = \"7h\"", "max_ttl = \"never\"");
        eventually("it is refused", || async { told("policy.rejected").await == 1 }).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!((told("policy.rejected").await, version()), (1, second.clone()));
        world.ask("ana", want(READ, 600)).await.unwrap();
        edit(&catalog, "max_ttl = \"never\"", "max_ttl = \"8h\"");
        eventually("and mended", || async { told("policy.loaded").await == 2 && version() == first }).await;
    })
    .await;
    let loaded = events(&world).await.into_iter().find(|e| e.action == "policy.rejected").unwrap();
    assert!(loaded.details["to"].as_str().unwrap().contains("catalog.toml"), "{:?}", loaded.details);
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

on_both!(
    a_loop_that_panics_is_told_of_and_begins_anew,
    a_committer_that_panics_answers_and_goes_on,
    changed_policy_files_are_taken_up_or_refused,
    targets_are_swept_and_old_rows_pruned_by_the_clock,
    operators_see_what_is_late,
);
