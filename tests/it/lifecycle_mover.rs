//! Facts change: what depended on them ends, the rest stays, and everybody who is concerned is told why.

use tidegate::{
    broker::{Heard, input::Ask},
    domain::{
        grant::{EndReason, GrantState},
        request::RequestState,
    },
};

use crate::{
    lifecycle_help::*,
    on_both,
    verbs_help::{ADMIN, LEDGER, ONCALL, READ, READERS, events, request_state, table, ttl},
    world::{Db, Plan, World, want},
};

async fn who_loses_a_group_loses_what_depended_on_it(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers", "oncall"]).await;
    let low = world.open("kim", READ, 600).await.id;
    let high = world.open("kim", ADMIN, 600).await.id;
    let pending = world.ask("kim", want(ADMIN, 600)).await.unwrap();
    let later = Ask { start_at: Some(world.now().plus(ttl(3600))), ..want(READERS, 600) };
    let scheduled = world.ask("kim", later).await.unwrap().grants[0].id.clone();
    let ask = Ask { ticket: Some("INC-7".to_owned()), ..want(LEDGER, 600) };
    let ledger = world.ask("kim", ask).await.unwrap();

    let eve = world.who("eve").await;
    world.broker.remove_standing(&eve, "engineers", "kim").await.unwrap();
    world.settle().await;
    for id in [&low, &high] {
        let grant = world.grant(id).await;
        assert_eq!((grant.state, grant.end_reason), (GrantState::Ended, Some(EndReason::Revoked)), "{db:?}");
        assert_eq!(grant.ended_by, Some(eve.correlation), "{db:?}: the call that changed the facts");
    }
    assert_eq!(world.state(&scheduled).await, GrantState::Ended, "{db:?}: never starts");
    assert_eq!(request_state(&world, &pending).await, RequestState::Cancelled);
    assert_eq!(request_state(&world, &ledger).await, RequestState::Pending, "{db:?}: rests on another group");
    let log = of_call(&world, eve.correlation).await;
    let told = log.iter().find(|e| e.action == "identity.reconsidered").expect("they are told");
    assert_eq!(told.details["ended"].as_array().unwrap().len(), 3, "{told:?}");
    let ben = world.who("ben").await.actor_id().to_string();
    assert!(told.details["tell"].as_array().unwrap().iter().any(|t| *t == ben), "{db:?}: who approved is told");
    let why = log.iter().find(|e| e.action == "grant.revoking").unwrap().details["why"].as_str().unwrap().to_owned();
    assert!(why.starts_with("mover: policy:"), "{why}");
}

async fn what_still_holds_stays(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers", "readers"]).await;
    let kept = [world.open("kim", READ, 600).await.id, world.open("kim", ADMIN, 600).await.id];
    let eve = world.who("eve").await;
    world.broker.remove_standing(&eve, "readers", "kim").await.unwrap();
    let mut elsewhere = person("kim");
    elsewhere.attributes.insert("department".to_owned(), "sales".to_owned());
    hear(&world, &okta, &elsewhere).await.unwrap();
    world.settle().await;
    for id in &kept {
        assert_eq!(world.state(id).await, GrantState::Active, "{db:?}");
    }
    assert!(events(&world).await.iter().all(|e| e.action != "identity.reconsidered"), "{db:?}: nothing to tell");
    assert!(table(&world, "SELECT id FROM identities WHERE recheck IS NOT NULL").await.is_empty());
    // Only a name for people: nobody is looked at.
    hear(&world, &okta, &Heard { display_name: "Kim K.".to_owned(), ..elsewhere }).await.unwrap();
    assert!(table(&world, "SELECT id FROM identities WHERE recheck IS NOT NULL").await.is_empty());
}

/// A temporary membership ends, and with it what it opened the way to.
async fn what_rested_on_a_temporary_membership_ends_with_it(db: Db) {
    let world = World::on(db).await;
    let oncall = world.open("ana", ONCALL, 600).await.id;
    let ask = Ask { ticket: Some("INC-7".to_owned()), ..want(LEDGER, 3000) };
    let request = world.ask("ana", ask).await.unwrap();
    world.advance(601);
    world.settle().await;
    assert_eq!(world.state(&oncall).await, GrantState::Ended);
    assert_eq!(request_state(&world, &request).await, RequestState::Cancelled, "{db:?}");
}

/// Of two memberships that overlap the last one out counts, also if both go in one commit.
async fn nothing_changes_while_another_membership_lasts(db: Db) {
    let world = World::on(db).await;
    for (first, second) in [(600, 900), (600, 600)] {
        let one = world.open("ana", ONCALL, first).await.id;
        let other = world.open("ana", ONCALL, second).await.id;
        let ask = Ask { ticket: Some("INC-7".to_owned()), ..want(LEDGER, 3000) };
        let request = world.ask("ana", ask).await.unwrap();
        world.advance(601);
        world.settle().await;
        assert_eq!(world.state(&one).await, GrantState::Ended);
        if second > first {
            let version = "SELECT id FROM identities WHERE name = 'ana' AND recheck IS NOT NULL";
            assert!(table(&world, version).await.is_empty(), "{db:?}: nothing to decide again");
            assert_eq!(request_state(&world, &request).await, RequestState::Pending, "{db:?}");
            world.advance(300);
            world.settle().await;
        }
        assert_eq!(world.state(&other).await, GrantState::Ended);
        assert_eq!(request_state(&world, &request).await, RequestState::Cancelled, "{db:?}: none is left");
    }
}

async fn another_broker_sees_to_it(db: Db) {
    let one = World::on(db).await;
    let other = one.another(Plan::on(db)).await;
    let okta = source(&one, "okta").await;
    joins(&one, &okta, "kim", &["engineers"]).await;
    let grants = [one.open("kim", READ, 600).await.id, one.open("kim", READERS, 600).await.id];
    one.broker.remove_standing(&one.who("eve").await, "engineers", "kim").await.unwrap();
    let (a, b) = tokio::join!(one.settle(), other.settle());
    let ((), ()) = (a, b);
    other.settle().await;
    for id in &grants {
        assert_eq!(other.state(id).await, GrantState::Ended, "{db:?}");
    }
    let ended = events(&one).await.into_iter().filter(|e| e.action == "identity.reconsidered").count();
    assert_eq!(ended, 1, "{db:?}: decided once");
}

/// Renaming or deleting a large group marks its members and does no more.
async fn a_large_group_is_only_marked(db: Db) {
    let world = World::on(db).await;
    let crowd = group(&world, "crowd").await;
    let many = if db == Db::Sqlite { 5_000 } else { 2_000 };
    let mut text = String::from("BEGIN;");
    for n in 0..many {
        use std::fmt::Write;
        let id = tidegate::domain::id::IdentityId::new(ulid::Ulid::from_parts(1_000, n));
        write!(
            text,
            "INSERT INTO identities (id, kind, name, name_key, display_name, active, attributes, version, created_at, \
             updated_at) VALUES ('{id}', 'person', 'p{n}', 'p{n}', 'p', 1, '{{}}', 1, 0, 0);\
             INSERT INTO memberships (group_id, identity_id, grant_id, created_at) VALUES ('{}', '{id}', '', 0);",
            crowd.id
        )
        .unwrap();
    }
    text.push_str("COMMIT;");
    crate::verbs_help::sql(&world, &text).await;
    let before = world.store().audit_size().await.unwrap();
    let cause = call(&world, &source(&world, "okta").await);
    let recheck = tidegate::store::Recheck { cause: cause.correlation, at: world.now() };
    loop {
        let mut tx = world.store().begin().await.unwrap();
        let gone = tx.delete_group(crowd.id, recheck).await;
        if let Some(result) = tx.end(gone).await {
            result.unwrap();
            break;
        }
    }
    let marked = table(&world, "SELECT CAST(count(*) AS TEXT) FROM identities WHERE recheck IS NOT NULL").await;
    assert_eq!(marked, [many.to_string()], "{db:?}");
    for _ in 0..many / 32 + 2 {
        world.workers.round().await.unwrap();
    }
    let left = table(&world, "SELECT CAST(count(*) AS TEXT) FROM identities WHERE recheck IS NOT NULL").await;
    assert_eq!(left, ["0"], "{db:?}");
    assert_eq!(world.store().audit_size().await.unwrap(), before, "{db:?}: nobody held anything, nothing to say");
}

/// Who asked for somebody else must still answer for them when the somebody changes.
async fn a_former_manager_asks_for_nobody(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "boss", &[]).await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    let managed = |by: String| Heard { attributes: [("manager".to_owned(), by)].into(), ..person("kim") };
    let boss = world.who("boss").await.actor_id();
    hear(&world, &okta, &managed(boss.to_string())).await.unwrap();
    world.settle().await;
    let ask = Ask { on_behalf_of: Some("kim".to_owned()), ..want(ADMIN, 600) };
    let request = world.ask("boss", ask).await.unwrap();
    assert!(request.grants.is_empty(), "{db:?}: it waits");
    hear(&world, &okta, &managed("nobody".to_owned())).await.unwrap();
    world.settle().await;
    let why = events(&world).await.into_iter().find(|e| e.action == "request.cancelled");
    let why = why.unwrap_or_else(|| panic!("{db:?}: it was not cancelled")).details["why"].to_string();
    assert!(why.contains("no longer answers"), "{why}");
}

on_both!(
    a_former_manager_asks_for_nobody,
    who_loses_a_group_loses_what_depended_on_it,
    what_still_holds_stays,
    what_rested_on_a_temporary_membership_ends_with_it,
    nothing_changes_while_another_membership_lasts,
    another_broker_sees_to_it,
    a_large_group_is_only_marked,
);
