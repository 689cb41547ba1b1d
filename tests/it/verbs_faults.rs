//! Faults: targets that are down, hang and lie; clocks that step; policy files with errors; two brokers on one ledger.

use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, GrantQuery},
    },
    connectors::faulty::{Behaviour, Call},
    domain::grant::{EndReason, GrantState},
};

use crate::{
    on_both,
    verbs_help::*,
    verbs_machine::log_explains_rows,
    world::{Db, Plan, World, want},
};

fn members() -> &'static str {
    "SELECT grant_id FROM memberships WHERE grant_id <> ''"
}

async fn a_target_that_fails_to_open_leaves_nothing(db: Db) {
    let world = hasty(db).await;
    for behaviour in [
        Behaviour::Refuses,
        Behaviour::Fails(9),
        Behaviour::Hangs,
        Behaviour::Panics,
        Behaviour::EffectThenTimeout,
        Behaviour::EffectThenHangs,
    ] {
        world.faults(DIRECTORY).set(Call::Activate, behaviour);
        let grant = world.open("ana", READERS, 600).await;
        assert_ne!(grant.state, GrantState::Active, "{behaviour:?}");
        world.faults(DIRECTORY).heal();
        world.settle().await;
        let failed = world.grant(&grant.id).await;
        assert_eq!((failed.state, failed.end_reason), (GrantState::Failed, Some(EndReason::Refused)), "{behaviour:?}");
        assert!(failed.evidence.is_some() && failed.last_error.is_some());
        assert!(table(&world, members()).await.is_empty(), "{behaviour:?}");
        // Beyond the breaker, should it have opened.
        world.advance(120);
    }
    log_explains_rows(&world).await;
}

async fn a_fault_that_passes_is_tried_again_at_once(db: Db) {
    let world = World::on(db).await;
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::Fails(1));
    assert_eq!(world.open("ana", READERS, 600).await.state, GrantState::Active);
    assert_eq!(world.faults(DIRECTORY).calls(Call::Activate), 2);
    // It was opened once before the answer was lost: opened again, it is one membership.
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::EffectThenTimeout);
    let twice = world.open("ben", READERS, 600).await;
    world.faults(DIRECTORY).heal();
    world.settle().await;
    assert_eq!(world.state(&twice.id).await, GrantState::Failed);
    assert_eq!(table(&world, members()).await.len(), 1);
}

async fn a_target_that_cannot_be_read_is_waited_for_within_the_start_window(db: Db) {
    let world = World::on(db).await;
    world.faults(DIRECTORY).set(Call::Prepare, Behaviour::Fails(2));
    let grant = world.open("ana", READERS, 600).await;
    assert_eq!(grant.state, GrantState::Scheduled);
    for _ in 0..3 {
        world.advance(30);
        world.settle().await;
    }
    let opened = world.grant(&grant.id).await;
    assert_eq!(opened.state, GrantState::Active);
    assert!(
        opened.not_after
            > Some(grant.requested.at.parse::<tidegate::domain::time::Timestamp>().unwrap().plus(ttl(600)))
    );
    // Beyond the window it fails, and says why.
    world.faults(DIRECTORY).set(Call::Prepare, Behaviour::Fails(1000));
    let never = world.open("ben", READERS, 600).await;
    for _ in 0..12 {
        world.advance(120);
        world.settle().await;
    }
    let failed = world.grant(&never.id).await;
    assert_eq!(failed.state, GrantState::Failed);
    assert_eq!(failed.not_after, None);
    log_explains_rows(&world).await;
}

async fn a_target_that_is_down_at_revocation_is_revoked_when_it_is_back(db: Db) {
    let world = hasty(db).await;
    for behaviour in [Behaviour::Fails(3), Behaviour::Hangs, Behaviour::Panics, Behaviour::Refuses] {
        let grant = world.open("ana", READERS, 60).await;
        world.faults(DIRECTORY).set(Call::Revoke, behaviour);
        world.advance(61);
        world.workers.round().await.unwrap();
        let trying = world.grant(&grant.id).await;
        assert_eq!((trying.state, trying.attempts), (GrantState::Revoking, 1), "{behaviour:?}");
        assert!(trying.last_error.is_some());
        world.faults(DIRECTORY).heal();
        world.advance(60);
        world.settle().await;
        assert_eq!(world.state(&grant.id).await, GrantState::Ended, "{behaviour:?}");
        assert!(table(&world, members()).await.is_empty());
    }
}

async fn an_answer_that_was_lost_is_as_good_as_none(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 60).await;
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::EffectThenTimeout);
    world.advance(61);
    world.settle().await;
    // Verified although revoking failed: it had had its effect.
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
}

async fn opening_that_fails_does_not_keep_revocation_waiting(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 60).await;
    world.faults(DIRECTORY).set(Call::Prepare, Behaviour::Fails(1000));
    for _ in 0..8 {
        world.open("ben", READERS, 3600).await;
    }
    world.advance(61);
    world.open("ben", READERS, 3600).await;
    let eve = world.who("eve").await;
    let health = world.broker.target(&eve, DIRECTORY).await.unwrap().health;
    assert!(health.contains("held back"), "{health}");
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    assert_eq!(world.grant(&grant.id).await.attempts, 0);
}

async fn a_clock_that_steps_neither_revives_nor_prolongs(db: Db) {
    let world = World::on(db).await;
    let noon = world.now();
    let grant = world.open("ana", READERS, 600).await;
    let token = world.open("ana", READ, 600).await;
    let secret = claim(&world, "ana", &token.id).await.unwrap();
    let ends = world.grant(&grant.id).await.not_after.unwrap();
    // Back by a day: nothing ends early, nothing is prolonged.
    world.clock.set(noon.minus_std(std::time::Duration::from_hours(24)));
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Active);
    assert_eq!(world.grant(&grant.id).await.not_after, Some(ends));
    let early = world.open("ana", READERS, 60).await;
    world.advance(61);
    world.settle().await;
    assert_eq!(world.state(&early.id).await, GrantState::Ended);
    // Forward by a year: everything ends, with evidence.
    world.clock.set(noon.plus(ttl(365 * 86_400)));
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    // And back again: what has ended stays ended.
    world.clock.set(noon);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    assert!(!is_live(&world, &secret).await);
    refused!(claim(&world, "ana", &token.id).await, BrokerError::State(_));
    assert_eq!(world.open("ana", READERS, 60).await.state, GrantState::Active);
    log_explains_rows(&world).await;
}

async fn policy_files_with_errors_change_nothing_and_say_where(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    let policies = policies(dir.path());
    let world = Plan { policies, ..Plan::on(db) }.build().await;
    let running = world.broker.policy().version().to_owned();
    for (file, from, to, told) in [
        ("catalog.toml", "max_ttl = \"8h\"", "max_ttl = \"soon\"", "soon"),
        ("catalog.toml", "target = \"dev-token\"", "target = \"nowhere\"", "nowhere"),
        ("catalog.toml", "[[entitlement]]", "[[entitlement]", "catalog.toml"),
        ("access.cedar", "permit (", "permti (", "access.cedar"),
        ("access.cedar", "resource.sensitivity <= 1", "resource.sensitivty <= 1", "sensitivty"),
        ("access.cedar", "@approvals(\"2\")", "@aprovals(\"2\")", "aprovals"),
    ] {
        let path = dir.path().join(file);
        let sound = std::fs::read_to_string(&path).unwrap();
        edit(&path, from, to);
        let problem = world.broker.policy_engine().reload().unwrap_err().to_string();
        assert!(problem.contains(file) && problem.contains(told), "{problem}");
        let numbered = |rest: &str| rest.strip_prefix(':').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
        assert!(problem.split(file).any(numbered), "no line: {problem}");
        assert_eq!(world.broker.policy().version(), running);
        assert_eq!(world.open("ana", READ, 60).await.state, GrantState::Active);
        std::fs::write(&path, sound).unwrap();
    }
    std::fs::remove_file(dir.path().join("catalog.toml")).unwrap();
    assert!(world.broker.policy_engine().reload().is_err());
    assert_eq!(world.broker.policy().version(), running);
}

async fn two_brokers_on_one_ledger_do_everything_once(db: Db) {
    let world = World::on(db).await;
    let other = world.another(Plan::on(db)).await;
    let mut grants = Vec::new();
    for i in 0..20 {
        let by = if i % 2 == 0 { &world } else { &other };
        grants.push(by.open(if i % 4 < 2 { "ana" } else { "deploy-bot" }, READ, 60).await);
    }
    let member = other.open("ana", READERS, 60).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let (here, there) = tokio::join!(approve(&world, "ben", &request), approve(&other, "ben", &request));
    assert!(here.is_ok() ^ there.is_ok());
    // What one grants is claimed at the other, and a claim at one ends the copy of the other.
    let first = claim(&other, "ana", &grants[0].id).await.unwrap();
    let second = claim(&world, "ana", &grants[0].id).await.unwrap();
    assert!(!is_live(&other, &first).await && is_live(&other, &second).await);
    let ask = Ask { idempotency: Some(("k".to_owned(), vec![1])), ..want(READ, 60) };
    let (one, two) = tokio::join!(world.ask("ben", ask.clone()), other.ask("ben", ask));
    assert_eq!(one.unwrap().id, two.unwrap().id);
    world.advance(61);
    let (one, two) = tokio::join!(
        async {
            world.settle().await;
        },
        async {
            other.settle().await;
        }
    );
    let ((), ()) = (one, two);
    world.settle().await;
    let all = other.broker.grants(&other.who("eve").await, GrantQuery::default()).await.unwrap().items;
    assert!(all.iter().filter(|g| g.entitlement != ADMIN).all(|g| g.state == GrantState::Ended));
    for id in grants.iter().map(|g| &g.id).chain([&member.id]) {
        let story = story_of(&world, id).await;
        assert_eq!(story.iter().filter(|a| *a == "grant.ended").count(), 1, "{story:?}");
        assert_eq!(story.iter().filter(|a| *a == "grant.revoking").count(), 1, "{story:?}");
    }
    let calls = world.faults(DIRECTORY).calls(Call::Revoke) + other.faults(DIRECTORY).calls(Call::Revoke);
    assert_eq!(calls, 1, "leases keep them apart");
    log_explains_rows(&world).await;
}

on_both!(
    a_target_that_fails_to_open_leaves_nothing,
    a_fault_that_passes_is_tried_again_at_once,
    a_target_that_cannot_be_read_is_waited_for_within_the_start_window,
    a_target_that_is_down_at_revocation_is_revoked_when_it_is_back,
    an_answer_that_was_lost_is_as_good_as_none,
    opening_that_fails_does_not_keep_revocation_waiting,
    a_clock_that_steps_neither_revives_nor_prolongs,
    policy_files_with_errors_change_nothing_and_say_where,
    two_brokers_on_one_ledger_do_everything_once,
);
