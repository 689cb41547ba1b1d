//! What is bounded, and what a bound may not cost: sweeps that read page by page, kill switches that end part by part,
//! limits that hold however many ask at once.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use sqlx::{Connection, Executor};
use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, NewLock, WorkloadChange},
    },
    connectors::faulty::{Behaviour, Call},
    domain::{
        grant::{EndReason, GrantState},
        id::GrantId,
        request::RequestState,
    },
    store::LockKind,
};

use crate::{
    on_both,
    verbs_help::*,
    verbs_machine::log_explains_rows,
    world::{Db, Plan, World, want},
};

/// A world where nobody holds too much.
async fn roomy(db: Db) -> World {
    let mut plan = Plan::on(db);
    plan.settings.max_live_grants = None;
    plan.build().await
}

async fn asks(world: &World, who: &str, entitlement: &str, times: usize) -> Vec<Result<String, BrokerError>> {
    let asking = (0..times).map(|_| async {
        let request = world.ask(who, want(entitlement, 3600)).await?;
        Ok(request.grants.first().map_or(request.id.clone(), |grant| grant.id.clone()))
    });
    join_all(asking).await
}

async fn a_sweep_pages_through_what_is_active(db: Db) {
    const MANY: usize = 300;
    let world = roomy(db).await;
    let grants: BTreeSet<String> = asks(&world, "ana", READERS, MANY).await.into_iter().map(Result::unwrap).collect();
    let (first, last) = (grants.first().unwrap(), grants.last().unwrap());
    sql(&world, &format!("DELETE FROM memberships WHERE grant_id IN ('{first}', '{last}')")).await;
    // Active since the same instant as the sweep began is not active all the while.
    world.advance(1);
    let eve = world.who("eve").await;
    let swept = world.broker.sweep_target(&eve, DIRECTORY).await.unwrap();
    assert_eq!(swept.found, MANY as u64 - 2);
    let missing: BTreeSet<String> = swept.missing.iter().cloned().collect();
    assert_eq!(missing, [first.clone(), last.clone()].into());
    assert!(swept.orphans_ended.is_empty() && swept.wider.is_empty());
    // What leaves no objects is not looked for, one by one or at all.
    asks(&world, "ana", READ, 3).await;
    let asked = world.faults(TOKEN).calls(Call::Verify);
    world.broker.sweep_target(&eve, TOKEN).await.unwrap();
    assert_eq!(world.faults(TOKEN).calls(Call::Verify), asked);
}

async fn what_ended_while_a_target_was_read_is_no_orphan(db: Db) {
    let world = World::on(db).await;
    let (early, late) = (world.open("ana", READERS, 60).await, world.open("ben", READERS, 600).await);
    let live = world.open("ana", ONCALL, 3600).await;
    let lost = world.open("ana", READERS, 3600).await;
    sql(&world, &format!("DELETE FROM grants WHERE id = '{}'", lost.id)).await;
    world.advance(100);
    world.settle().await;
    world.advance(1);
    let begun = world.now();
    world.advance(600);
    world.settle().await;
    let ids: Vec<GrantId> = [&early, &late, &live, &lost].iter().map(|g| grant_id(&g.id)).collect();
    let known = world.store().live_among(&ids, begun).await.unwrap();
    let known: BTreeSet<String> = known.into_iter().map(|row| row.unwrap().id.to_string()).collect();
    assert_eq!(known, [late.id, live.id].into());
    let swept = world.broker.sweep_target(&world.who("eve").await, DIRECTORY).await.unwrap();
    assert_eq!(swept.orphans_ended.len(), 1, "what no row is left of: {swept:?}");
}

async fn a_lock_falls_at_once_and_ends_part_by_part(db: Db) {
    const MANY: usize = 520;
    let world = roomy(db).await;
    let (live, others) = (asks(&world, "ana", READ, MANY).await, world.open("ana", "ssh:web-login", 600).await);
    assert!(live.iter().all(Result::is_ok));
    let eve = world.who("eve").await;
    let commits = || world.store().stats().commits.load(std::sync::atomic::Ordering::Relaxed);
    let before = commits();
    let lock = NewLock { kind: LockKind::Entitlement, value: READ.to_owned(), reason: "incident".to_owned() };
    assert_eq!(world.broker.lock(&eve, lock).await.unwrap().ending, Some(MANY as u64));
    assert_eq!(commits() - before, 3, "the lock, a part, and the rest");
    let left = table(&world, &format!("SELECT id FROM grants WHERE entitlement = '{READ}' AND state = 'active'")).await;
    assert!(left.is_empty(), "{}", left.len());
    world.settle().await;
    let states: BTreeSet<String> = table(&world, "SELECT DISTINCT state FROM grants").await.into_iter().collect();
    assert_eq!(states, ["active".to_owned(), "ended".to_owned()].into());
    assert_eq!(world.state(&others.id).await, GrantState::Active);
    log_explains_rows(&world).await;
}

async fn a_lock_whose_broker_died_is_carried_out_by_another(db: Db) {
    for kind in ["identity", "target", "entitlement"] {
        let world = World::on(db).await;
        let live = world.open("ana", ONCALL, 3600).await;
        let later = Ask { start_at: Some(world.now().plus(ttl(600))), ..want(ONCALL, 600) };
        let later = approve(&world, "ben", &world.ask("ana", later).await.unwrap()).await.unwrap().grants.remove(0);
        let others = world.open("ben", READ, 3600).await;
        // Recorded, and then nothing: as it is after a crash.
        let ana = world.who("ana").await.actor_id().to_string();
        let value = match kind {
            "identity" => &ana,
            "target" => DIRECTORY,
            _ => ONCALL,
        };
        lock_by_sql(&world, kind, value).await;
        world.settle().await;
        for id in [&live.id, &later.id] {
            let grant = world.grant(id).await;
            assert_eq!((grant.state, grant.end_reason), (GrantState::Ended, Some(EndReason::Locked)), "{kind}");
        }
        assert_eq!(world.state(&others.id).await, GrantState::Active, "{kind}");
        log_explains_rows(&world).await;
    }
}

async fn under_a_lock_nothing_is_claimed_that_is_not_ended_yet(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READ, 3600).await;
    lock_by_sql(&world, "target", TOKEN).await;
    refused!(claim(&world, "ana", &grant.id).await, BrokerError::Locked { .. });
}

async fn an_owner_who_was_locked_meanwhile_is_seen_when_it_opens(db: Db) {
    let world = hasty(db).await;
    world.faults(TOKEN).set(Call::Activate, Behaviour::EffectThenHangs);
    let ana = world.who("ana").await.actor_id().to_string();
    let locking = async {
        called(&world, TOKEN, Call::Activate, 1).await;
        lock_by_sql(&world, "identity", &ana).await;
        world.faults(TOKEN).heal();
    };
    // The holder is not locked, nor is who asked: whoever answers for it is.
    let ask = Ask { on_behalf_of: Some("deploy-bot".to_owned()), ..want(READ, 600) };
    let (asked, ()) = tokio::join!(world.ask("eve", ask), locking);
    assert_ne!(asked.unwrap().grants[0].state, GrantState::Active);
}

async fn what_is_due_and_taken_up_by_nobody_is_late(db: Db) {
    let world = hasty(db).await;
    let grant = world.open("ana", READERS, 60).await;
    assert_eq!(world.broker.late().await.unwrap().oldest, Duration::ZERO);
    world.advance(100);
    let late = world.broker.late().await.unwrap();
    assert_eq!((late.oldest.as_secs(), late.due[DIRECTORY], late.due[TOKEN]), (40, 1, 0));
    // Taken up, and not ended: it should have been over since its end, not since somebody tried.
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Refuses);
    world.workers.round().await.unwrap();
    assert_eq!(world.state(&grant.id).await, GrantState::Revoking);
    let late = world.broker.late().await.unwrap();
    assert_eq!((late.oldest.as_secs(), late.due[DIRECTORY]), (40, 0));
    // A target that is no longer configured is not forgotten.
    sql(&world, "UPDATE grants SET target = 'gone', due_at = 1").await;
    assert_eq!(world.broker.late().await.unwrap().due["gone"], 1);
}

async fn nothing_is_opened_for_which_the_lease_could_end_first(db: Db) {
    let world = hasty(db).await;
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::Hangs);
    let late = async {
        called(&world, DIRECTORY, Call::Activate, 1).await;
        // The first try is given up after a second; by then the lease is over.
        world.advance(60);
        world.faults(DIRECTORY).heal();
    };
    let (asked, ()) = tokio::join!(world.ask("ana", want(READERS, 600)), late);
    let grant = asked.unwrap().grants.remove(0);
    assert_eq!(world.faults(DIRECTORY).calls(Call::Activate), 1, "no second try");
    assert_ne!(grant.state, GrantState::Active);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Failed);
}

fn outcomes<T>(results: &[Result<T, BrokerError>]) -> (usize, usize) {
    let done = results.iter().filter(|r| r.is_ok()).count();
    let many = results.iter().filter(|r| matches!(r, Err(BrokerError::TooMany(_)))).count();
    assert_eq!(done + many, results.len(), "{:?}", results.iter().find_map(|r| r.as_ref().err()));
    (done, many)
}

async fn bounds_hold_however_many_ask_at_once(db: Db) {
    let bounded = || {
        let mut plan = Plan::on(db);
        (plan.settings.max_live_grants, plan.settings.max_pending) = (Some(5), 3);
        plan
    };
    let one = bounded().build().await;
    let other = one.another(bounded()).await;
    // A bundle counts as many.
    let bundle = wants(&[READ, "ssh:web-login", READERS, ONCALL, ADMIN, LEDGER], 600);
    refused!(one.ask("ana", bundle).await, BrokerError::TooMany(_));
    let (here, there) = tokio::join!(asks(&one, "ana", ADMIN, 8), asks(&other, "ana", ADMIN, 8));
    let all: Vec<_> = here.into_iter().chain(there).collect();
    assert_eq!(outcomes(&all), (3, 13), "pending");
    let (here, there) = tokio::join!(asks(&one, "ana", READ, 12), asks(&other, "ana", READ, 12));
    let all: Vec<_> = here.into_iter().chain(there).collect();
    assert_eq!(outcomes(&all), (5, 19), "live");
    // Also for what people decide on: one place is free.
    let first = table(&one, "SELECT id FROM grants ORDER BY id").await.remove(0);
    one.broker.release(&one.who("ana").await, grant_id(&first)).await.unwrap();
    one.settle().await;
    let pending: Vec<_> = table(&one, "SELECT id FROM requests WHERE state = 'pending' ORDER BY id").await;
    let deciding = [&one, &other, &one].into_iter().zip(&pending).map(|(world, id)| async move {
        let ben = world.who("ben").await;
        world.broker.approve(&ben, id.parse().unwrap(), tidegate::broker::input::Decide::default()).await
    });
    assert_eq!(outcomes(&join_all(deciding).await), (1, 2), "approved");
    let live = table(&one, "SELECT id FROM grants WHERE state NOT IN ('ended', 'failed')").await;
    assert_eq!(live.len(), 5);
    log_explains_rows(&one).await;
}

async fn an_approval_counts_only_for_groups_that_its_approver_is_still_in(db: Db) {
    let world = World::on(db).await;
    let cleo = person(&world, "cleo", &["approvers", "tidegate-admins"]).await;
    on_call(&world).await;
    let ask = Ask { ticket: Some("INC-7".to_owned()), ..wants(&[ADMIN, LEDGER], 600) };
    let request = world.ask("ana", ask).await.unwrap();
    approve(&world, "cleo", &request).await.unwrap();
    let approvers = world.store().group("approvers").await.unwrap().unwrap().id;
    let left = format!("DELETE FROM memberships WHERE identity_id = '{cleo}' AND group_id = '{approvers}'");
    sql(&world, &left).await;
    let view = approve(&world, "eve", &request).await.unwrap();
    assert_eq!(view.state, RequestState::Pending, "nobody who approves tokens has approved");
    assert_eq!(approve(&world, "ben", &request).await.unwrap().state, RequestState::Approved);
}

/// Somebody's facts change in a transaction that is not committed while access is decided on the former ones.
async fn who_moves_while_it_is_decided_is_decided_again(db: Db) {
    let world = World::on(db).await;
    let mut mover = sqlx::AnyConnection::connect(&world.database.url).await.unwrap();
    mover.execute(if db == Db::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await.unwrap();
    mover.execute("UPDATE identities SET version = version + 1 WHERE name = 'ana'").await.unwrap();
    let moving = async {
        called(&world, TOKEN, Call::Prepare, 1).await;
        if db == Db::Postgres {
            let waits =
                "SELECT 'w' FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            eventually("who decides waits", || async { !table(&world, waits).await.is_empty() }).await;
        }
        mover.execute("COMMIT").await.unwrap();
    };
    let (asked, ()) = tokio::join!(world.ask("ana", want(READ, 600)), moving);
    asked.unwrap();
    let marked = table(&world, "SELECT name FROM identities WHERE recheck IS NOT NULL").await;
    assert_eq!(marked, ["ana"]);
}

async fn what_an_administrator_switched_off_its_owner_does_not_switch_on(db: Db) {
    let world = World::on(db).await;
    let id = world.who("deploy-bot").await.actor_id();
    let set = |active| WorkloadChange { active: Some(active), ..WorkloadChange::default() };
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    world.broker.update_workload(&eve, id, set(false)).await.unwrap();
    refused!(world.broker.update_workload(&ana, id, set(true)).await, BrokerError::Forbidden(_));
    world.broker.update_workload(&eve, id, set(true)).await.unwrap();
    // Its owner may switch it off; what its source deleted stays deleted.
    world.broker.update_workload(&ana, id, set(false)).await.unwrap();
    sql(&world, &format!("UPDATE identities SET deleted_at = 1 WHERE id = '{id}'")).await;
    refused!(world.broker.update_workload(&eve, id, set(true)).await, BrokerError::State(_));
}

async fn a_row_that_does_not_decode_ends_no_stream(db: Db) {
    let world = World::on(db).await;
    let bad = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let good = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    sql(&world, &format!("UPDATE requests SET needs = '[' WHERE id = '{}'", bad.id)).await;
    let (seen, _) = world.broker.visible_events(&world.who("ben").await, 0, 1000).await.unwrap();
    let about = |id: &str| seen.iter().any(|e| e.leaf.contains(id));
    assert!(about(&good.id) && !about(&bad.id));
}

on_both!(
    a_sweep_pages_through_what_is_active,
    what_ended_while_a_target_was_read_is_no_orphan,
    a_lock_falls_at_once_and_ends_part_by_part,
    a_lock_whose_broker_died_is_carried_out_by_another,
    under_a_lock_nothing_is_claimed_that_is_not_ended_yet,
    an_owner_who_was_locked_meanwhile_is_seen_when_it_opens,
    what_is_due_and_taken_up_by_nobody_is_late,
    nothing_is_opened_for_which_the_lease_could_end_first,
    bounds_hold_however_many_ask_at_once,
    an_approval_counts_only_for_groups_that_its_approver_is_still_in,
    who_moves_while_it_is_decided_is_decided_again,
    what_an_administrator_switched_off_its_owner_does_not_switch_on,
    a_row_that_does_not_decode_ends_no_stream,
);
