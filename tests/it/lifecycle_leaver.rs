//! Somebody leaves: everything ends with the commit that says so, at whatever moment it comes, and one correlation id
//! shows it all with evidence.

use std::{sync::Arc, time::Duration};

use tidegate::{
    broker::{
        BrokerError, Heard, Hearing,
        input::{Ask, Decide, NewWorkload, WorkloadChange},
    },
    connectors::faulty::{Behaviour, Call},
    domain::{
        grant::{EndReason, GrantState},
        identity::IdentityKind,
        request::RequestState,
    },
};
use tokio::time::Instant;

use crate::{
    lifecycle_help::*,
    on_both,
    verbs_help::{
        ADMIN, DIRECTORY, LEDGER, READ, READERS, TOKEN, approve, called, claim, grant_id, groups, hasty, is_live,
        request_id, request_state, sql, table, ttl,
    },
    world::{Db, Plan, World, want},
};

async fn everything_ends_at_once_and_one_id_shows_it_all(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    let kim = joins(&world, &okta, "kim", &["engineers"]).await;
    let mut grants = Vec::new();
    for n in 0..20 {
        grants.push(world.open("kim", [READ, READERS, "ssh:web-login"][n % 3], 600).await.id);
    }
    let token = claim(&world, "kim", &grants[0]).await.unwrap();
    let pending = world.ask("kim", want(ADMIN, 600)).await.unwrap();
    let later = Ask { start_at: Some(world.now().plus(ttl(3600))), ..want(READ, 600) };
    let scheduled = world.ask("kim", later).await.unwrap().grants[0].id.clone();
    let personal = world.broker.create_token(&world.who("kim").await, None, "laptop".to_owned(), None).await.unwrap();
    world.broker.authenticate(personal.token.expose(), "test").await.unwrap();

    let ctx = call(&world, &okta);
    assert_eq!(world.broker.hear(&ctx, &gone("kim")).await.unwrap(), Hearing::Left(kim));
    // All of this with the very commit, before any worker has looked.
    assert!(matches!(
        world.broker.authenticate(personal.token.expose(), "test").await,
        Err(BrokerError::Unauthenticated)
    ));
    assert_eq!(request_state(&world, &pending).await, RequestState::Cancelled);
    assert_eq!(world.state(&scheduled).await, GrantState::Ended);
    for id in &grants {
        let grant = world.grant(id).await;
        assert_eq!((grant.state, grant.end_reason), (GrantState::Revoking, Some(EndReason::Offboarded)), "{db:?}");
        assert_eq!(grant.ended_by, Some(ctx.correlation));
    }
    assert!(!is_live(&world, &token).await);

    world.settle().await;
    for id in &grants {
        let grant = world.grant(id).await;
        assert!(grant.state == GrantState::Ended && grant.evidence.is_some(), "{db:?}: {grant:?}");
    }
    let log = of_call(&world, ctx.correlation).await;
    assert_eq!(log[0].action, "identity.deactivated", "the call comes first");
    let counts = counted(&log);
    assert_eq!(counts["grant.revoking"], 20, "{counts:?}");
    assert_eq!(counts["grant.ended"], 21, "{counts:?}");
    assert_eq!(counts["request.cancelled"], 1, "{counts:?}");
    assert_eq!(counts["identity.offboarded"], 1, "{counts:?}");
    let evidence = log.iter().filter(|e| e.action == "grant.ended" && e.details["evidence"].is_object()).count();
    assert_eq!(evidence, 20, "each revocation has its evidence");
    let told = log.iter().find(|e| e.action == "request.cancelled").unwrap();
    assert!(told.details["why"].as_str().unwrap().contains("deactivated"), "{told:?}");
}

/// `active=true` again: the account is back, nothing that it held is.
async fn who_returns_holds_nothing(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    let grant = world.open("kim", READ, 600).await;
    let personal = world.broker.create_token(&world.who("kim").await, None, "laptop".to_owned(), None).await.unwrap();
    world.advance(1);
    hear(&world, &okta, &gone("kim")).await.unwrap();
    world.settle().await;
    world.advance(1);
    assert!(matches!(hear(&world, &okta, &person("kim")).await.unwrap(), Hearing::Changed(_)));
    world.settle().await;
    assert!(world.who("kim").await.actor.identity.active);
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    assert!(world.broker.authenticate(personal.token.expose(), "test").await.is_err(), "old tokens stay ended");
    assert_eq!(world.open("kim", READ, 600).await.state, GrantState::Active, "and may ask again");
}

/// An access token that a workload had before it was stopped does not come back with it.
async fn access_tokens_from_before_stay_refused(db: Db) {
    let world = World::on(db).await;
    let ana = world.who("ana").await;
    let new = NewWorkload {
        name: "nightly".to_owned(),
        display_name: None,
        kind: IdentityKind::Workload,
        owner: None,
        backup_owner: None,
        team: None,
        groups: Vec::new(),
        secret_ttl: None,
    };
    let made = world.broker.register_workload(&ana, new).await.unwrap();
    let secret = made.client_secret.unwrap();
    let token = world.broker.client_token(&made.client_id, &secret, None).await.unwrap();
    let token = token.access_token.expose().to_owned();
    world.broker.authenticate(&token, "test").await.unwrap();
    assert!(is_live(&world, &token).await);
    let id = made.client_id.parse().unwrap();
    for active in [false, true] {
        world.advance(1);
        let change = WorkloadChange { active: Some(active), ..WorkloadChange::default() };
        // Its owner switches it off; only an administrator switches it on again.
        let who = if active { "eve" } else { "ana" };
        world.broker.update_workload(&world.who(who).await, id, change).await.unwrap();
        assert!(world.broker.authenticate(&token, "test").await.is_err(), "{db:?}: active {active}");
        assert!(!is_live(&world, &token).await, "{db:?}: active {active}");
    }
    assert!(world.broker.client_token(&made.client_id, &secret, None).await.is_err());
}

async fn a_name_that_is_free_again_is_somebody_else(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    let first = joins(&world, &okta, "kim", &["engineers"]).await;
    let grant = world.open("kim", READ, 600).await;
    hear(&world, &okta, &Heard { deleted: true, ..person("kim") }).await.unwrap();
    world.settle().await;
    let second = Heard { external_id: "another".to_owned(), email: None, ..person("kim") };
    let Hearing::Joined(id) = hear(&world, &okta, &second).await.unwrap() else { panic!("nobody joined") };
    assert_ne!(id, first, "{db:?}");
    assert!(groups(&world, "kim").await.is_empty());
    assert_eq!(world.grant(&grant.id).await.holder, first);
    let kim = world.who("kim").await;
    assert!(matches!(world.broker.grant(&kim, grant_id(&grant.id)).await, Err(BrokerError::NotFound(_))));
}

async fn leaving_while_a_claim_is_in_flight(db: Db) {
    let world = Arc::new(hasty(db).await);
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    let grant = world.open("kim", READ, 600).await;
    world.faults(TOKEN).set(Call::Mint, Behaviour::EffectThenHangs);
    let claiming = {
        let (world, id) = (Arc::clone(&world), grant.id.clone());
        tokio::spawn(async move { claim(&world, "kim", &id).await })
    };
    called(&world, TOKEN, Call::Mint, 1).await;
    hear(&world, &okta, &gone("kim")).await.unwrap();
    assert!(claiming.await.unwrap().is_err(), "{db:?}: nothing is handed over");
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    let ended = world.grant(&grant.id).await;
    assert_eq!(ended.end_reason, Some(EndReason::Offboarded));
}

async fn leaving_while_a_grant_is_activating(db: Db) {
    let world = Arc::new(hasty(db).await);
    let okta = source(&world, "okta").await;
    let kim = joins(&world, &okta, "kim", &["engineers"]).await;
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::EffectThenHangs);
    let asking = {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.ask("kim", want(READERS, 600)).await })
    };
    called(&world, DIRECTORY, Call::Activate, 1).await;
    let ctx = call(&world, &okta);
    world.broker.hear(&ctx, &gone("kim")).await.unwrap();
    world.faults(DIRECTORY).heal();
    let id = asking.await.unwrap().unwrap().grants[0].id.clone();
    world.settle().await;
    world.advance(120);
    world.settle().await;
    let grant = world.grant(&id).await;
    assert_eq!((grant.state, grant.end_reason), (GrantState::Ended, Some(EndReason::Offboarded)), "{db:?}");
    let left = format!("SELECT group_id FROM memberships WHERE identity_id = '{kim}' AND grant_id <> ''");
    assert!(table(&world, &left).await.is_empty(), "{db:?}");
    let actions = counted(&of_call(&world, ctx.correlation).await).keys().map(|a| (*a).to_owned()).collect::<Vec<_>>();
    for action in ["grant.end_requested", "grant.revoking", "grant.ended"] {
        assert!(actions.iter().any(|a| a == action), "{db:?}: {action} is not in {actions:?}");
    }
}

/// A grant whose asking began before its holder left, and was recorded after: it is not opened.
async fn nothing_is_granted_to_who_has_left(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    let kim = world.who("kim").await;
    let pending = world.ask("ana", want(ADMIN, 600)).await.unwrap();
    hear(&world, &okta, &gone("kim")).await.unwrap();
    assert!(world.broker.ask(&kim, want(READ, 600)).await.is_err(), "{db:?}");
    assert!(table(&world, "SELECT id FROM grants").await.is_empty());
    // Nor does a decision count of somebody who had signed in before.
    let okay = Decide::default();
    stands(&world, "approvers", kim.actor_id()).await;
    let mut late = kim.clone();
    late.actor.groups.insert("approvers".to_owned());
    assert!(world.broker.approve(&late, request_id(&pending), okay).await.is_err(), "{db:?}");
    assert_eq!(request_state(&world, &pending).await, RequestState::Pending);
}

async fn approvals_go_with_their_approver(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["approvers"]).await;
    joins(&world, &okta, "lee", &["approvers"]).await;
    crate::verbs_help::on_call(&world).await;
    let ask = Ask { ticket: Some("INC-7".to_owned()), ..want(LEDGER, 600) };
    let request = world.ask("ana", ask).await.unwrap();
    approve(&world, "kim", &request).await.unwrap();
    hear(&world, &okta, &gone("kim")).await.unwrap();
    world.settle().await;
    approve(&world, "lee", &request).await.unwrap();
    assert_eq!(request_state(&world, &request).await, RequestState::Pending, "{db:?}: one that counts is not two");
    approve(&world, "ben", &request).await.unwrap();
    assert_eq!(request_state(&world, &request).await, RequestState::Approved);
}

/// The broker that heard of it dies; another one finds it in the ledger.
async fn caught_up_by_whoever_comes_next(db: Db) {
    let one = World::on(db).await;
    let okta = source(&one, "okta").await;
    joins(&one, &okta, "kim", &["engineers"]).await;
    let grant = one.open("kim", READERS, 600).await;
    hear(&one, &okta, &gone("kim")).await.unwrap();
    one.broker.close(Duration::from_secs(5)).await;
    let next = one.another(Plan::on(db)).await;
    next.settle().await;
    assert_eq!(next.state(&grant.id).await, GrantState::Ended, "{db:?}");
    assert!(table(&next, "SELECT id FROM identities WHERE recheck IS NOT NULL").await.is_empty());
}

/// What another change was writing in that very moment and the leaver could not see is ended right after.
async fn what_was_missed_is_ended_right_after(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    let kim = joins(&world, &okta, "kim", &["engineers"]).await;
    let grant = world.open("kim", READ, 600).await;
    hear(&world, &okta, &gone("kim")).await.unwrap();
    // As if it had been recorded as active by a commit that came second.
    let undo =
        format!("UPDATE grants SET state = 'active', end_reason = NULL, due_at = not_after WHERE holder_id = '{kim}'");
    sql(&world, &undo).await;
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended, "{db:?}");
}

async fn orphans_lose_what_is_privileged_and_wait_for_an_answer(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    let (kim, eve) = (world.who("kim").await, world.who("eve").await);
    let mut made = Vec::new();
    for (name, kind) in [("bot", IdentityKind::Workload), ("aide", IdentityKind::Agent)] {
        let new = NewWorkload {
            name: name.to_owned(),
            display_name: None,
            kind,
            owner: Some("kim".to_owned()),
            backup_owner: Some("ben".to_owned()),
            team: None,
            groups: vec!["workloads".to_owned()],
            secret_ttl: None,
        };
        made.push(world.broker.register_workload(&eve, new).await.unwrap());
    }
    stands(&world, "engineers", made[1].client_id.parse().unwrap()).await;
    let low = world.open("bot", READ, 3600).await.id;
    let high = world.open("bot", "ssh:deploy", 3600).await.id;
    let acting = world.open("aide", READ, 3600).await.id;
    let on_behalf = Ask { on_behalf_of: Some("bot".to_owned()), ..want("ssh:deploy", 600) };
    let pending = world.broker.ask(&kim, on_behalf).await;
    assert!(pending.is_ok(), "{:?}", pending.err());

    let ctx = call(&world, &okta);
    world.broker.hear(&ctx, &gone("kim")).await.unwrap();
    assert_eq!(world.grant(&acting).await.end_reason, Some(EndReason::Offboarded), "agents act for somebody");
    let waiting = table(&world, "SELECT id FROM requests WHERE state = 'pending'").await;
    assert!(waiting.is_empty(), "{db:?}: what the leaver asked for on its behalf is taken back");
    world.settle().await;
    assert_eq!(world.state(&high).await, GrantState::Ended, "{db:?}: privileged");
    assert_eq!(world.state(&low).await, GrantState::Active, "{db:?}: goes on for a while");
    assert_eq!(counted(&of_call(&world, ctx.correlation).await)["workload.orphaned"], 2);
    assert!(world.ask("bot", want("ssh:deploy", 600)).await.is_err(), "{db:?}: nor anything privileged again");

    // Whoever is asked takes it over: its secret ends, for whoever answered for it may have seen it.
    let ben = world.who("ben").await;
    let bot = made[0].client_id.parse().unwrap();
    let accept = WorkloadChange { owner: Some("ben".to_owned()), rotate_secret: true, ..WorkloadChange::default() };
    assert!(
        world.broker.update_workload(&world.who("ana").await, bot, accept.clone()).await.is_err(),
        "not by just anybody"
    );
    let after = world.broker.update_workload(&ben, bot, accept).await.unwrap();
    assert!(after.identity.orphaned_at.is_none() && after.identity.answer_by.is_none());
    assert_eq!(after.identity.owner.unwrap().name, "ben");
    let old = made[0].client_secret.clone().unwrap();
    assert!(world.broker.client_token(&made[0].client_id, &old, None).await.is_err(), "{db:?}: the old secret fails");
    assert!(world.broker.client_token(&made[0].client_id, &after.client_secret.unwrap(), None).await.is_ok());

    // Nobody answers for the other: the clock ends it.
    world.advance(7 * 86_400 + 1);
    world.settle().await;
    assert!(!world.who("aide").await.actor.identity.active, "{db:?}: decommissioned");
    assert!(world.who("bot").await.actor.identity.active);
}

async fn a_team_that_is_gone_leaves_orphans(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    let team = group(&world, "Payments").await;
    let kim = joins(&world, &okta, "kim", &["payments"]).await;
    let new = |name: &str| NewWorkload {
        name: name.to_owned(),
        display_name: None,
        kind: IdentityKind::Workload,
        owner: Some("ben".to_owned()),
        backup_owner: None,
        team: Some("payments".to_owned()),
        groups: Vec::new(),
        secret_ttl: None,
    };
    let eve = world.who("eve").await;
    world.broker.register_workload(&eve, new("ledger-job")).await.unwrap();
    world.settle().await;
    let orphaned = async || world.who("ledger-job").await.actor.identity.orphaned_at.is_some();
    assert!(!orphaned().await);
    // Renamed, and it is the same team.
    loop {
        let mut tx = world.store().begin().await.unwrap();
        let renamed = tidegate::domain::identity::Group { name: "Billing".to_owned(), ..team.clone() };
        let written = tx.update_group(&renamed, world.now()).await;
        if let Some(result) = tx.end(written).await {
            result.unwrap();
            break;
        }
    }
    stands(&world, "billing", world.who("ana").await.actor_id()).await;
    world.broker.remove_standing(&eve, "billing", "ana").await.unwrap();
    world.settle().await;
    assert!(!orphaned().await, "{db:?}: kim is still there");
    // Its last person leaves.
    hear(&world, &okta, &gone("kim")).await.unwrap();
    world.settle().await;
    assert!(orphaned().await, "{db:?}: {kim}");
    let accept = WorkloadChange { owner: Some("ben".to_owned()), ..WorkloadChange::default() };
    let id = world.who("ledger-job").await.actor_id();
    world.broker.update_workload(&world.who("ben").await, id, accept).await.unwrap();
    world.settle().await;
    assert!(!orphaned().await, "{db:?}: its owner said that it goes on");
}

/// With the workers running: the whole of it within five seconds.
#[allow(clippy::print_stdout, reason = "the figure is the point")]
async fn twenty_grants_end_within_five_seconds(db: Db) {
    let mut world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    for n in 0..20 {
        world.open("kim", [READ, READERS, "ssh:web-login"][n % 3], 600).await;
    }
    let spare = world.another(Plan::on(db)).await;
    let running = tokio::spawn(std::mem::replace(&mut world.workers, spare.workers).run());
    let began = Instant::now();
    hear(&world, &okta, &gone("kim")).await.unwrap();
    crate::verbs_help::eventually("all ended", || async {
        table(&world, "SELECT id FROM grants WHERE state <> 'ended' OR evidence IS NULL").await.is_empty()
    })
    .await;
    let took = began.elapsed();
    println!("{db:?}: 20 grants ended and verified {took:?} after the call");
    assert!(took < Duration::from_secs(5), "{db:?}: {took:?}");
    world.broker.close(Duration::from_secs(5)).await;
    running.await.unwrap();
}

on_both!(
    everything_ends_at_once_and_one_id_shows_it_all,
    who_returns_holds_nothing,
    access_tokens_from_before_stay_refused,
    a_name_that_is_free_again_is_somebody_else,
    leaving_while_a_claim_is_in_flight,
    leaving_while_a_grant_is_activating,
    nothing_is_granted_to_who_has_left,
    approvals_go_with_their_approver,
    caught_up_by_whoever_comes_next,
    what_was_missed_is_ended_right_after,
    orphans_lose_what_is_privileged_and_wait_for_an_answer,
    a_team_that_is_gone_leaves_orphans,
    twenty_grants_end_within_five_seconds,
);
