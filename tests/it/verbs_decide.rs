//! Decide: quorum over several groups, shortening, denial, lapsing, four eyes, and decisions in the same instant.

use tidegate::{
    broker::{
        BrokerError,
        input::{Ask, Decide, NewLock},
    },
    domain::{grant::GrantState, request::RequestState},
    store::LockKind,
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, World, want},
};

async fn a_quorum_is_of_different_people(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let request = ask_ledger(&world).await;
    let first = approve(&world, "ben", &request).await.unwrap();
    assert_eq!((first.state, first.approvals.have), (RequestState::Pending, 1));
    refused!(approve(&world, "ben", &request).await, BrokerError::State(_));
    refused!(deny(&world, "ben", &request).await, BrokerError::State(_));
    let second = approve(&world, "eve", &request).await.unwrap();
    assert_eq!((second.state, second.approvals.have), (RequestState::Approved, 2));
    assert_eq!(second.grants[0].state, GrantState::Active);
}

async fn every_group_of_a_bundle_has_its_own_quorum(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let ask = Ask { ticket: Some("INC-7".to_owned()), ..wants(&[ADMIN, LEDGER], 600) };
    let request = world.ask("ana", ask.clone()).await.unwrap();
    assert_eq!(request.approvals.needed, 3);
    assert_eq!(request.approvals.from, ["approvers", "tidegate-admins"]);
    // Of both needs; eve's groups are not asked for the first.
    assert_eq!(approve(&world, "ben", &request).await.unwrap().approvals.have, 2);
    assert_eq!(approve(&world, "eve", &request).await.unwrap().state, RequestState::Approved);
    // Two administrators make the quorum of one need, and the other is still open.
    person(&world, "gil", &["tidegate-admins"]).await;
    let request = world.ask("ana", ask).await.unwrap();
    approve(&world, "eve", &request).await.unwrap();
    let both = approve(&world, "gil", &request).await.unwrap();
    assert_eq!((both.state, both.approvals.have), (RequestState::Pending, 2));
    assert!(both.grants.is_empty());
}

async fn an_approver_may_shorten_and_not_prolong(db: Db) {
    let world = World::on(db).await;
    let request = world.ask("ana", want(ADMIN, 3600)).await.unwrap();
    let ben = world.who("ben").await;
    let longer = Decide { duration: Some(ttl(3601)), ..Decide::default() };
    let error = world.broker.approve(&ben, request_id(&request), longer).await;
    refused!(error, BrokerError::Invalid { field: "duration", .. });
    let shorter = Decide { duration: Some(ttl(300)), comment: "five minutes will do".to_owned(), ..Decide::default() };
    let request = world.broker.approve(&ben, request_id(&request), shorter).await.unwrap();
    assert_eq!(request.duration, 300);
    let grant = world.grant(&request.grants[0].id).await;
    assert_eq!(grant.not_after, Some(world.now().plus(ttl(300))));
    world.advance(301);
    world.settle().await;
    assert_eq!(world.state(&request.grants[0].id).await, GrantState::Ended);
}

async fn the_shortest_of_several_approvals_holds(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let request = ask_ledger(&world).await;
    let ben = Decide { duration: Some(ttl(60)), ..Decide::default() };
    world.broker.approve(&world.who("ben").await, request_id(&request), ben).await.unwrap();
    let eve = Decide { duration: Some(ttl(120)), ..Decide::default() };
    let done = world.broker.approve(&world.who("eve").await, request_id(&request), eve).await.unwrap();
    assert_eq!(done.duration, 60);
    assert_eq!(world.grant(&done.grants[0].id).await.ttl, ttl(60));
}

async fn one_denial_is_enough_and_final(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let request = ask_ledger(&world).await;
    approve(&world, "ben", &request).await.unwrap();
    assert_eq!(deny(&world, "eve", &request).await.unwrap().state, RequestState::Denied);
    person(&world, "gil", &["approvers"]).await;
    refused!(approve(&world, "gil", &request).await, BrokerError::State(_));
    let ana = world.who("ana").await;
    refused!(world.broker.cancel(&ana, request_id(&request), String::new()).await, BrokerError::State(_));
    assert_eq!(world.actions().await.iter().filter(|a| *a == "grant.activating").count(), 1, "of being on call only");
}

async fn a_request_lapses_and_cannot_be_approved_after(db: Db) {
    let world = World::on(db).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    world.advance(4 * 3600);
    // Nobody has looked yet, and it is over all the same.
    refused!(approve(&world, "ben", &request).await, BrokerError::State(_));
    assert_eq!(request_state(&world, &request).await, RequestState::Pending);
    world.settle().await;
    assert_eq!(request_state(&world, &request).await, RequestState::Lapsed);
    refused!(approve(&world, "ben", &request).await, BrokerError::State(_));
    assert_eq!(world.actions().await, ["request.created", "request.lapsed"]);
}

async fn a_request_for_later_lapses_at_its_start(db: Db) {
    let world = World::on(db).await;
    let start = world.now().plus(ttl(600));
    let request = world.ask("ana", Ask { start_at: Some(start), ..want(ADMIN, 600) }).await.unwrap();
    assert_eq!(request.lapses_at, Some(start.to_string()));
    world.advance(601);
    refused!(approve(&world, "ben", &request).await, BrokerError::State(_));
}

async fn of_decisions_in_the_same_instant_exactly_one_wins(db: Db) {
    let world = World::on(db).await;
    person(&world, "cleo", &["engineers", "approvers"]).await;
    for _ in 0..6 {
        let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
        let id = request_id(&request);
        let (ben, cleo, ana) = (world.who("ben").await, world.who("cleo").await, world.who("ana").await);
        let (yes, no, back) = tokio::join!(
            world.broker.approve(&ben, id, Decide::default()),
            world.broker.deny(&cleo, id, Decide::default()),
            world.broker.cancel(&ana, id, String::new()),
        );
        let won = [yes.is_ok(), no.is_ok(), back.is_ok()];
        assert_eq!(won.iter().filter(|w| **w).count(), 1, "{won:?}");
        for lost in [yes.err(), no.err(), back.err()].into_iter().flatten() {
            assert!(matches!(lost, BrokerError::State(_)), "{lost:?}");
        }
        let grants = world.store().grants_of(id).await.unwrap();
        assert_eq!(grants.len(), usize::from(won[0]));
        let expected = [RequestState::Approved, RequestState::Denied, RequestState::Cancelled];
        let winner = won.iter().position(|w| *w).unwrap();
        assert_eq!(request_state(&world, &request).await, expected[winner]);
    }
}

async fn two_approvals_in_the_same_instant_both_count_once(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    for _ in 0..6 {
        let request = ask_ledger(&world).await;
        let (ben, eve) = tokio::join!(approve(&world, "ben", &request), approve(&world, "eve", &request));
        let states = [ben.unwrap().state, eve.unwrap().state];
        assert!(states.contains(&RequestState::Approved), "{states:?}");
        assert_eq!(world.store().grants_of(request_id(&request)).await.unwrap().len(), 1);
    }
}

async fn the_same_approval_twice_at_once_counts_once(db: Db) {
    let world = World::on(db).await;
    on_call(&world).await;
    let request = ask_ledger(&world).await;
    let (one, two) = tokio::join!(approve(&world, "ben", &request), approve(&world, "ben", &request));
    assert!(one.is_ok() ^ two.is_ok());
    assert_eq!(request_state(&world, &request).await, RequestState::Pending);
}

async fn nobody_decides_on_their_own_chain(db: Db) {
    let world = World::on(db).await;
    person(&world, "cleo", &["approvers"]).await;
    let own = world.ask("ben", want(ADMIN, 600)).await.unwrap();
    refused!(approve(&world, "ben", &own).await, BrokerError::Forbidden(_));
    refused!(deny(&world, "ben", &own).await, BrokerError::Forbidden(_));
    // The owner of a workload, whoever asked for it.
    let group = world.store().group("approvers").await.unwrap().unwrap();
    let ana = world.who("ana").await.actor_id();
    let text = format!(
        "INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) \
         VALUES ('{}', '{ana}', '', NULL, 0)",
        group.id
    );
    sql(&world, &text).await;
    let bot = world.ask("deploy-bot", want("ssh:deploy", 600)).await.unwrap();
    refused!(approve(&world, "ana", &bot).await, BrokerError::Forbidden(_));
    let for_bot = Ask { on_behalf_of: Some("deploy-bot".to_owned()), ..want("ssh:deploy", 600) };
    let for_bot = world.ask("ana", for_bot).await.unwrap();
    refused!(approve(&world, "ana", &for_bot).await, BrokerError::Forbidden(_));
    refused!(approve(&world, "deploy-bot", &for_bot).await, BrokerError::Forbidden(_));
    assert_eq!(approve(&world, "cleo", &for_bot).await.unwrap().state, RequestState::Approved);
}

async fn a_request_that_nobody_could_approve_is_refused_at_once(db: Db) {
    let world = World::on(db).await;
    let error = world.ask("ben", want(ADMIN, 600)).await.unwrap_err();
    let BrokerError::NobodyCanApprove { needed: 1, groups, available: 0 } = &error else { panic!("{error:?}") };
    assert_eq!(groups, "approvers");
    assert!(world.actions().await.is_empty());
}

async fn who_is_not_asked_cannot_decide(db: Db) {
    let world = World::on(db).await;
    person(&world, "zoe", &["engineers"]).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    refused!(approve(&world, "zoe", &request).await, BrokerError::NotFound("request"));
    refused!(approve(&world, "eve", &request).await, BrokerError::Denied { .. });
    refused!(deny(&world, "eve", &request).await, BrokerError::Denied { .. });
    leaves_groups(&world, "ben").await;
    refused!(approve(&world, "ben", &request).await, BrokerError::NotFound("request"));
    assert_eq!(request_state(&world, &request).await, RequestState::Pending);
}

async fn who_is_asked_for_must_still_be_eligible(db: Db) {
    let world = World::on(db).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    leaves_groups(&world, "ana").await;
    refused!(approve(&world, "ben", &request).await, BrokerError::Denied { .. });
    assert_eq!(deny(&world, "ben", &request).await.unwrap().state, RequestState::Denied);
}

async fn only_its_parties_take_a_request_back(db: Db) {
    let world = World::on(db).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let ben = world.who("ben").await;
    refused!(world.broker.cancel(&ben, request_id(&request), String::new()).await, BrokerError::Forbidden(_));
    let ana = world.who("ana").await;
    let taken = world.broker.cancel(&ana, request_id(&request), "solved".to_owned()).await.unwrap();
    assert_eq!(taken.state, RequestState::Cancelled);
    refused!(approve(&world, "ben", &request).await, BrokerError::State(_));
}

async fn a_locked_approver_approves_nothing(db: Db) {
    let world = World::on(db).await;
    let request = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    let lock = NewLock { kind: LockKind::Identity, value: "ben".to_owned(), reason: "stolen laptop".to_owned() };
    world.broker.lock(&world.who("eve").await, lock).await.unwrap();
    refused!(approve(&world, "ben", &request).await, BrokerError::Locked { kind: "identity", .. });
    assert_eq!(request_state(&world, &request).await, RequestState::Pending);
}

on_both!(
    a_quorum_is_of_different_people,
    every_group_of_a_bundle_has_its_own_quorum,
    an_approver_may_shorten_and_not_prolong,
    the_shortest_of_several_approvals_holds,
    one_denial_is_enough_and_final,
    a_request_lapses_and_cannot_be_approved_after,
    a_request_for_later_lapses_at_its_start,
    of_decisions_in_the_same_instant_exactly_one_wins,
    two_approvals_in_the_same_instant_both_count_once,
    the_same_approval_twice_at_once_counts_once,
    nobody_decides_on_their_own_chain,
    a_request_that_nobody_could_approve_is_refused_at_once,
    who_is_not_asked_cannot_decide,
    who_is_asked_for_must_still_be_eligible,
    only_its_parties_take_a_request_back,
    a_locked_approver_approves_nothing,
);
