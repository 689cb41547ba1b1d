//! Several brokers on one ledger, and clocks that jump: everything still happens once.

use std::{collections::BTreeMap, time::Duration};

use tidegate::{
    broker::{
        BrokerError,
        input::{Decide, Extend},
    },
    connectors::faulty::{Behaviour, Call},
    domain::{
        grant::{EndReason, GrantState},
        id::{GrantId, RequestId},
        time::Ttl,
    },
};

use crate::{
    on_both,
    world::{Db, Plan, World, want},
};

async fn two(db: Db) -> (World, World) {
    let one = World::on(db).await;
    let other = one.another(Plan::on(db)).await;
    assert!(!other.broker.is_observing(), "{db:?}: a replica is no clone");
    (one, other)
}

/// How often each action happened to each grant.
async fn per_grant(world: &World, action: &str) -> BTreeMap<String, usize> {
    let page = world.store().events(&tidegate::store::AuditFilter::default(), 0, 10_000).await.unwrap();
    let mut counts = BTreeMap::new();
    for event in page.items {
        let event: serde_json::Value = serde_json::from_str(&event.leaf).unwrap();
        if event["action"] == action {
            *counts.entry(event["grant"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    counts
}

async fn two_brokers_end_each_grant_once(db: Db) {
    const GRANTS: usize = 60;
    let (one, other) = two(db).await;
    let mut grants = Vec::new();
    for n in 0..GRANTS {
        let world = if n % 2 == 0 { &one } else { &other };
        let entitlement = ["tokens:orders-read", "ssh:web-login", "directory:readers"][n % 3];
        grants.push(world.open("ana", entitlement, 60).await.id);
    }
    one.advance(61);
    let rounds = futures::future::join_all((0..4).map(|n| {
        let world = if n % 2 == 0 { &one } else { &other };
        world.settle()
    }));
    rounds.await;
    for id in &grants {
        assert_eq!(one.state(id).await, GrantState::Ended, "{db:?}: {id}");
    }
    for action in ["grant.revoking", "grant.ended"] {
        let counts = per_grant(&one, action).await;
        assert_eq!(counts.len(), GRANTS, "{db:?}: {action}");
        assert!(counts.values().all(|n| *n == 1), "{db:?}: {action} more than once: {counts:?}");
    }
    let revoked: u64 = ["dev-token", "dev-ssh", "dev-directory"]
        .iter()
        .map(|t| one.faults(t).calls(Call::Revoke) + other.faults(t).calls(Call::Revoke))
        .sum();
    assert_eq!(revoked, GRANTS as u64, "{db:?}: the fenced lease lets one broker call the target");
}

async fn one_decision_wins_across_brokers(db: Db) {
    let (one, other) = two(db).await;
    for n in 0..12 {
        let request = one.ask("ana", want("tokens:orders-admin", 600)).await.unwrap();
        let id: RequestId = request.id.parse().unwrap();
        let (ben, ben_too) = (one.who("ben").await, other.who("ben").await);
        let (a, b) = if n % 3 == 0 {
            tokio::join!(
                one.broker.approve(&ben, id, Decide::default()),
                other.broker.deny(&ben_too, id, Decide::default())
            )
        } else {
            tokio::join!(
                one.broker.approve(&ben, id, Decide::default()),
                other.broker.approve(&ben_too, id, Decide::default())
            )
        };
        let won = usize::from(a.is_ok()) + usize::from(b.is_ok());
        assert_eq!(won, 1, "{db:?} {n}: {:?} {:?}", a.err(), b.err());
        let lost = a.err().or(b.err()).unwrap();
        assert!(matches!(lost, BrokerError::State(_)), "{db:?} {n}: {lost:?}");
        let grants = one.store().grants_of(id).await.unwrap();
        let approved = one.store().request(id).await.unwrap().unwrap().state.as_str() == "approved";
        assert_eq!(grants.len(), usize::from(approved), "{db:?} {n}");
        assert!(grants.iter().all(|g| g.state == GrantState::Active), "{db:?} {n}: {grants:?}");
    }
}

async fn claims_across_brokers_are_numbered_once(db: Db) {
    let (one, other) = two(db).await;
    let grant = one.open("ana", "ssh:web-login", 600).await;
    let id: GrantId = grant.id.parse().unwrap();
    let ana = one.who("ana").await;
    let claims = futures::future::join_all((0..12).map(|n| {
        let broker = if n % 2 == 0 { &one.broker } else { &other.broker };
        broker.claim(&ana, id)
    }));
    let mut numbers: Vec<u32> = Vec::new();
    for claim in claims.await {
        match claim {
            Ok(handover) => numbers.push(handover.claim.number),
            Err(BrokerError::State(_)) => {}
            Err(other) => panic!("{db:?}: {other:?}"),
        }
    }
    numbers.sort_unstable();
    assert!(!numbers.is_empty(), "{db:?}: somebody must get it");
    assert_eq!(numbers, (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(), "{db:?}");
    assert_eq!(one.grant(&grant.id).await.claims as usize, numbers.len(), "{db:?}");
}

/// The end of a grant meets everything else that may happen to it.
async fn an_end_meets_an_extension_and_a_claim(db: Db) {
    let (one, other) = two(db).await;
    let (ana, eve) = (one.who("ana").await, other.who("eve").await);
    for n in 0..6 {
        let grant = one.open("ana", "tokens:orders-read", 600).await;
        let id: GrantId = grant.id.parse().unwrap();
        let extend = Extend {
            duration: Ttl::from_seconds(60).unwrap(),
            reason: "longer".to_owned(),
            from: None,
            idempotency: None,
        };
        let reap = async {
            while !one.state(&grant.id).await.is_terminal() {
                one.settle().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let (_, _, ended, ()) = tokio::join!(
            one.broker.extend(&ana, id, extend),
            one.broker.claim(&ana, id),
            other.broker.revoke(&eve, id, "enough".to_owned()),
            reap,
        );
        ended.unwrap();
        let now = one.grant(&grant.id).await;
        assert_eq!((now.state, now.end_reason), (GrantState::Ended, Some(EndReason::Revoked)), "{db:?} {n}");
        let extend = Extend {
            duration: Ttl::from_seconds(60).unwrap(),
            reason: "longer".to_owned(),
            from: None,
            idempotency: None,
        };
        assert!(one.broker.extend(&ana, id, extend).await.is_err(), "{db:?} {n}: over is over");
        assert!(other.broker.claim(&ana, id).await.is_err(), "{db:?} {n}: over is over");
    }
}

async fn single_tasks_take_turns(db: Db) {
    async fn take(world: &World, owner: &str, lasting: u64) -> bool {
        loop {
            let now = world.now();
            let mut tx = world.store().begin().await.unwrap();
            let taken = tx.take_lease("sweep:dev-token", owner, now, now.plus_std(Duration::from_secs(lasting))).await;
            if let Some(result) = tx.end(taken).await {
                return result.unwrap();
            }
        }
    }
    let (one, other) = two(db).await;
    let mut holders = Vec::new();
    for (world, owner) in [(&one, "one"), (&other, "other"), (&one, "one")] {
        if take(world, owner, 300).await {
            holders.push(owner);
        }
    }
    assert_eq!(holders, ["one", "one"], "{db:?}: only its holder renews a turn");
    one.advance(301);
    let (a, b) = tokio::join!(take(&one, "one", 300), take(&other, "other", 300));
    assert!(a ^ b, "{db:?}: exactly one gets a turn that is free: {a} {b}");
}

async fn a_broker_that_dies_is_succeeded(db: Db) {
    let (one, other) = two(db).await;
    let grant = one.open("ana", "directory:readers", 60).await;
    one.faults("dev-directory").set(Call::Revoke, Behaviour::Hangs);
    one.advance(61);
    // The first broker takes the row and hangs: from outside it is dead.
    assert_eq!(one.broker.lease_due("dev-directory", 10).await.unwrap().len(), 1, "{db:?}");
    other.settle().await;
    assert_eq!(other.state(&grant.id).await, GrantState::Revoking, "{db:?}: the lease holds");
    one.advance(120);
    other.settle().await;
    assert_eq!(other.state(&grant.id).await, GrantState::Ended, "{db:?}");
}

/// Who comes too late with an outcome changes nothing.
async fn a_late_outcome_is_fenced_off(db: Db) {
    let (one, other) = two(db).await;
    let grant = one.open("ana", "directory:readers", 60).await;
    one.advance(61);
    let due = one.broker.lease_due("dev-directory", 10).await.unwrap().remove(0);
    one.advance(120);
    other.settle().await;
    let before = other.grant(&grant.id).await;
    let outcome = one.broker.settle(due).await;
    one.broker.record_outcome(&outcome).await.unwrap();
    let after = other.grant(&grant.id).await;
    assert_eq!((before.state, before.epoch, before.ended_at), (after.state, after.epoch, after.ended_at), "{db:?}");
    assert_eq!(per_grant(&one, "grant.ended").await.values().sum::<usize>(), 1, "{db:?}");
}

async fn a_clock_that_jumps_neither_revives_nor_strands(db: Db) {
    let world = World::on(db).await;
    let start = world.now();
    let short = world.open("ana", "directory:readers", 60).await;
    let long = world.open("ana", "tokens:orders-read", 7200).await;

    // Back by an hour: nothing ends early, nothing new is confused.
    world.clock.set(start.minus_std(Duration::from_hours(1)));
    world.settle().await;
    assert_eq!(world.state(&short.id).await, GrantState::Active, "{db:?}");
    let in_the_past = world.open("ana", "ssh:web-login", 60).await;
    assert_eq!(in_the_past.state, GrantState::Active, "{db:?}");
    world.broker.seal().await.unwrap();

    // Forward beyond the short ones.
    world.clock.set(start.plus_std(Duration::from_secs(61)));
    world.settle().await;
    for id in [&short.id, &in_the_past.id] {
        assert_eq!(world.state(id).await, GrantState::Ended, "{db:?}");
    }
    assert_eq!(world.state(&long.id).await, GrantState::Active, "{db:?}");

    // Back again: what has ended stays so, and cannot be claimed or extended.
    world.clock.set(start);
    world.settle().await;
    let ana = world.who("ana").await;
    let id: GrantId = in_the_past.id.parse().unwrap();
    assert!(world.broker.claim(&ana, id).await.is_err(), "{db:?}");
    assert_eq!(world.state(&short.id).await, GrantState::Ended, "{db:?}");

    // A year forward: everything is over, each once.
    world.clock.set(start.plus_std(Duration::from_hours(366 * 24)));
    world.settle().await;
    assert_eq!(world.state(&long.id).await, GrantState::Ended, "{db:?}");
    let ended = per_grant(&world, "grant.ended").await;
    assert!(ended.len() == 3 && ended.values().all(|n| *n == 1), "{db:?}: {ended:?}");
    world.broker.seal().await.unwrap();
    let sealed = world.store().last_checkpoint().await.unwrap().unwrap().size;
    assert_eq!(sealed, world.store().audit_size().await.unwrap(), "{db:?}");
}

on_both!(
    two_brokers_end_each_grant_once,
    one_decision_wins_across_brokers,
    claims_across_brokers_are_numbered_once,
    an_end_meets_an_extension_and_a_claim,
    single_tasks_take_turns,
    a_broker_that_dies_is_succeeded,
    a_late_outcome_is_fenced_off,
    a_clock_that_jumps_neither_revives_nor_strands,
);
