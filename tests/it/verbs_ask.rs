//! Ask: bundles, scheduled starts, dry runs, on behalf of others, tickets, emergencies, repeats.

use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, RequestQuery},
        view::Asked,
    },
    connectors::faulty::Call,
    domain::{
        decision::Verdict,
        grant::{EndReason, GrantState},
        request::RequestState,
    },
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, Plan, World, want},
};

async fn a_bundle_is_one_request_with_a_grant_for_each(db: Db) {
    let world = World::on(db).await;
    let ask = Ask { duration: None, ..wants(&[READ, READERS, READ], 1) };
    let request = world.ask("ana", ask).await.unwrap();
    assert_eq!(request.state, RequestState::Approved);
    assert_eq!(request.duration, 3600, "the shortest of the defaults");
    assert_eq!(request.grants.iter().map(|g| g.entitlement.as_str()).collect::<Vec<_>>(), [READ, READERS]);
    assert!(request.grants.iter().all(|g| g.state == GrantState::Active));
    assert!(groups(&world, "ana").await.contains(&"readers".to_owned()));
}

async fn a_bundle_waits_for_its_strictest_part(db: Db) {
    let world = World::on(db).await;
    let request = world.ask("ana", wants(&[READ, ADMIN], 600)).await.unwrap();
    assert_eq!(request.state, RequestState::Pending);
    assert!(request.grants.is_empty());
    let request = approve(&world, "ben", &request).await.unwrap();
    assert_eq!(request.grants.iter().filter(|g| g.state == GrantState::Active).count(), 2);
}

async fn a_bundle_with_a_denied_part_records_nothing(db: Db) {
    let world = World::on(db).await;
    refused!(world.ask("ana", wants(&[READ, LEDGER], 600)).await, BrokerError::Denied { .. });
    let eve = world.who("eve").await;
    assert!(world.broker.requests(&eve, RequestQuery::default()).await.unwrap().items.is_empty());
    assert!(world.actions().await.is_empty());
}

async fn access_that_starts_later_begins_then_and_lasts_from_then(db: Db) {
    let world = World::on(db).await;
    let start = world.now().plus(ttl(3600));
    let ask = Ask { start_at: Some(start), ..want(READERS, 600) };
    let grant = world.ask("ana", ask).await.unwrap().grants.remove(0);
    assert_eq!(grant.state, GrantState::Scheduled);
    world.advance(3599);
    world.settle().await;
    assert_eq!(world.faults(DIRECTORY).calls(Call::Activate), 0);
    assert_eq!(world.state(&grant.id).await, GrantState::Scheduled);
    world.advance(61);
    world.settle().await;
    let opened = world.grant(&grant.id).await;
    assert_eq!(opened.state, GrantState::Active);
    assert_eq!(opened.not_after, Some(world.now().plus(ttl(600))), "the clock starts at activation");
    assert!(groups(&world, "ana").await.contains(&"readers".to_owned()));
}

/// What happens between the decision and the start, and how the grant ends instead of starting.
async fn does_not_start_after(db: Db, change: impl AsyncFn(&World), reason: EndReason) {
    let world = World::on(db).await;
    let ask = Ask { start_at: Some(world.now().plus(ttl(3600))), ..want(READERS, 600) };
    let grant = world.ask("ana", ask).await.unwrap().grants.remove(0);
    change(&world).await;
    world.advance(3601);
    world.settle().await;
    let ended = world.grant(&grant.id).await;
    assert_eq!((ended.state, ended.end_reason), (GrantState::Ended, Some(reason)));
    assert_eq!(world.faults(DIRECTORY).calls(Call::Activate), 0);
    assert_eq!(story_of(&world, &grant.id).await, ["grant.scheduled", "grant.ended"]);
}

async fn eligibility_is_decided_again_at_the_start(db: Db) {
    does_not_start_after(db, async |world| leaves_groups(world, "ana").await, EndReason::Revoked).await;
    let leave = async |world: &World| sql(world, "UPDATE identities SET active = 0 WHERE name = 'ana'").await;
    does_not_start_after(db, leave, EndReason::Offboarded).await;
    // Set past the verb, which would have ended it at once.
    let lock = async |world: &World| lock_by_sql(world, "target", "dev-directory").await;
    does_not_start_after(db, lock, EndReason::Locked).await;
}

async fn a_contract_that_ends_bounds_what_starts_later(db: Db) {
    let world = World::on(db).await;
    let end = world.now().plus(ttl(4000)).micros();
    let ask = Ask { start_at: Some(world.now().plus(ttl(3600))), ..want(READERS, 600) };
    let grant = world.ask("ana", ask.clone()).await.unwrap().grants.remove(0);
    sql(&world, &format!("UPDATE identities SET contract_end = {end} WHERE name = 'ana'")).await;
    refused!(world.ask("ana", ask).await, BrokerError::Invalid { field: "duration", .. });
    world.advance(3601);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
}

async fn a_dry_run_says_what_would_happen_and_records_nothing(db: Db) {
    let world = World::on(db).await;
    let ana = world.who("ana").await;
    let ask = Ask { dry_run: true, reason: String::new(), ..wants(&[READ, ADMIN], 600) };
    let Asked::Planned(plan) = world.broker.ask(&ana, ask).await.unwrap() else { panic!("recorded") };
    assert_eq!(plan.verdict, Verdict::Denied, "no reason was given");
    assert!(plan.entitlements[1].conditions.iter().any(|c| !c.met));
    let ask = Ask { dry_run: true, ..wants(&[READ, ADMIN], 600) };
    let Asked::Planned(plan) = world.broker.ask(&ana, ask).await.unwrap() else { panic!("recorded") };
    assert_eq!(plan.verdict, Verdict::Approval);
    assert_eq!((plan.approvals.needed, plan.approvals.from), (1, vec!["approvers".to_owned()]));
    let ask = Ask { dry_run: true, ..want(LEDGER, 600) };
    let Asked::Planned(plan) = world.broker.ask(&ana, ask).await.unwrap() else { panic!("recorded") };
    assert_eq!(plan.verdict, Verdict::Denied);
    assert!(world.actions().await.is_empty());
    assert_eq!(world.faults(TOKEN).calls(Call::Prepare), 0);
}

async fn an_owner_asks_for_a_workload_and_nobody_else_does(db: Db) {
    let world = World::on(db).await;
    let ask = Ask { on_behalf_of: Some("deploy-bot".to_owned()), ..want(READ, 600) };
    let request = world.ask("ana", ask.clone()).await.unwrap();
    assert_eq!((request.requester.name.as_str(), request.subject.name.as_str()), ("ana", "deploy-bot"));
    assert_eq!(request.grants[0].holder.name, "deploy-bot");
    assert_eq!(request.state, RequestState::Approved);
    // Whether it exists is nobody's business who may not ask for it.
    let one = world.ask("ben", ask.clone()).await.unwrap_err().to_string();
    let none = Ask { on_behalf_of: Some("nobody-of-that-name".to_owned()), ..ask.clone() };
    assert_eq!(one, world.ask("ben", none.clone()).await.unwrap_err().to_string());
    refused!(world.ask("ben", ask.clone()).await, BrokerError::Forbidden(_));
    refused!(world.ask("eve", none).await, BrokerError::NotFound("identity"));
    world.ask("eve", ask).await.unwrap();
}

async fn a_manager_asks_for_a_report_who_must_be_eligible(db: Db) {
    let world = World::on(db).await;
    let cleo = person(&world, "cleo", &[]).await;
    let ask = Ask { on_behalf_of: Some("ana".to_owned()), ..want(READ, 600) };
    refused!(world.ask("cleo", ask.clone()).await, BrokerError::Forbidden(_));
    sql(&world, &format!("UPDATE identities SET attributes = '{{\"manager\":\"{cleo}\"}}' WHERE name = 'ana'")).await;
    let request = world.ask("cleo", ask).await.unwrap();
    assert_eq!(request.grants[0].holder.name, "ana", "whose eligibility decided");
    refused!(world.ask("cleo", want(READ, 600)).await, BrokerError::Denied { .. });
}

async fn a_ticket_is_demanded_where_policy_says_so_and_recorded(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let error = world.ask("ana", want(LEDGER, 600)).await.unwrap_err();
    let BrokerError::Denied { conditions, .. } = error else { panic!("{error:?}") };
    assert!(conditions.iter().any(|c| c.text.contains("ticket") && !c.met), "{conditions:?}");
    let request = ask_ledger(&world).await;
    assert_eq!(request.ticket.as_deref(), Some("INC-7"));
    assert_eq!(request.approvals.needed, 2);
    let created = events(&world).await.into_iter().rfind(|e| e.action == "request.created").unwrap();
    assert_eq!(created.details["ticket"], "INC-7");
}

async fn an_emergency_is_an_input_of_its_own(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let ask = Ask { emergency: true, ..want(LEDGER, 600) };
    let request = world.ask("ana", ask.clone()).await.unwrap();
    assert!(request.emergency);
    assert_eq!(request.approvals.needed, 1, "one is enough, without a ticket");
    let too_long = Ask { duration: Some(ttl(3600)), ..ask.clone() };
    refused!(world.ask("ana", too_long).await, BrokerError::Denied { .. });
    // It opens nothing that policy does not open for it.
    let elsewhere = Ask { emergency: true, ..want(ADMIN, 600) };
    assert_eq!(world.ask("ana", elsewhere).await.unwrap().state, RequestState::Pending);
    let created = events(&world).await.into_iter().rfind(|e| e.action == "request.created").unwrap();
    assert_eq!(created.details["emergency"], true);
}

/// Where a rule wants that whoever asks has just shown who they are: a token has not.
async fn who_must_have_just_signed_in_does_not_ask_by_token(db: Db) {
    let to = tempfile::tempdir().unwrap();
    let mut plan = plan(db);
    plan.policies = policies(to.path());
    edit(&to.path().join("access.cedar"), EMERGENCY, &format!("{EMERGENCY}\n@step_up(\"15m\")"));
    let world = plan.build().await;
    on_call(&world).await;
    let ask = Ask { emergency: true, ..want(LEDGER, 600) };
    refused!(world.ask("ana", ask.clone()).await, BrokerError::ProveAgain(_));
    let ana = world.in_portal("ana").await;
    let Asked::Planned(plan) = world.broker.ask(&ana, Ask { dry_run: true, ..ask.clone() }).await.unwrap() else {
        panic!("recorded")
    };
    assert_eq!(plan.step_up, Some(900));
    let Asked::Recorded(request) = world.broker.ask(&ana, ask.clone()).await.unwrap() else { panic!("not recorded") };
    assert!(request.emergency);
    world.advance(901);
    let stale = tidegate::broker::Ctx { now: world.now(), ..ana };
    refused!(world.broker.ask(&stale, ask).await, BrokerError::ProveAgain(_));
}

async fn a_repeat_is_answered_with_what_it_made_whatever_has_changed(db: Db) {
    let world = World::on(db).await;
    let ask = Ask { idempotency: Some(("k1".to_owned(), vec![1])), ..want(READ, 600) };
    let first = world.ask("ana", ask.clone()).await.unwrap();
    leaves_groups(&world, "ana").await;
    let ana = world.who("ana").await;
    let Asked::Repeated(again) = world.broker.ask(&ana, ask.clone()).await.unwrap() else { panic!("anew") };
    assert_eq!(again.id, first.id);
    // The key is the requester's own: somebody else's is another one.
    let other = world.ask("ben", ask).await.unwrap();
    assert_ne!(other.id, first.id);
}

async fn nobody_has_more_pending_or_live_than_the_limits(db: Db) {
    let mut plan = Plan::on(db);
    plan.settings.max_pending = 2;
    plan.settings.max_live_grants = Some(3);
    let world = plan.build().await;
    for _ in 0..2 {
        world.ask("ana", want(ADMIN, 600)).await.unwrap();
    }
    refused!(world.ask("ana", want(ADMIN, 600)).await, BrokerError::TooMany(_));
    for _ in 0..3 {
        world.ask("ana", want(READ, 600)).await.unwrap();
    }
    refused!(world.ask("ana", want(READ, 600)).await, BrokerError::TooMany(_));
    world.advance(601);
    world.settle().await;
    world.ask("ana", want(READ, 600)).await.unwrap();
}

on_both!(
    a_bundle_is_one_request_with_a_grant_for_each,
    a_bundle_waits_for_its_strictest_part,
    a_bundle_with_a_denied_part_records_nothing,
    access_that_starts_later_begins_then_and_lasts_from_then,
    eligibility_is_decided_again_at_the_start,
    a_contract_that_ends_bounds_what_starts_later,
    a_dry_run_says_what_would_happen_and_records_nothing,
    an_owner_asks_for_a_workload_and_nobody_else_does,
    a_manager_asks_for_a_report_who_must_be_eligible,
    a_ticket_is_demanded_where_policy_says_so_and_recorded,
    an_emergency_is_an_input_of_its_own,
    who_must_have_just_signed_in_does_not_ask_by_token,
    a_repeat_is_answered_with_what_it_made_whatever_has_changed,
    nobody_has_more_pending_or_live_than_the_limits,
);
