//! Contract ends, dormant accounts and secrets: what the clock alone brings about, and what reviews say.

use tidegate::{
    broker::{Heard, input::NewWorkload, review::Review},
    domain::{
        grant::{EndReason, GrantState},
        identity::IdentityKind,
    },
};

use crate::{
    lifecycle_help::*,
    on_both,
    verbs_help::{ADMIN, READ, events, sql},
    world::{Db, World, want},
};

async fn a_contract_ends_by_the_clock_alone(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    let end = world.now().plus(crate::verbs_help::ttl(3600));
    joins(&world, &okta, "kim", &["engineers"]).await;
    let grant = world.open("kim", READ, 7200).await.id;
    let short = world.open("kim", "ssh:web-login", 600).await.id;
    // Shortened later: what reaches beyond it is cut short, the rest stays as it is.
    hear(&world, &okta, &Heard { contract_end: Some(end), ..person("kim") }).await.unwrap();
    world.settle().await;
    assert_eq!(world.grant(&grant).await.not_after, Some(end), "{db:?}");
    assert_eq!(world.grant(&short).await.not_after, Some(world.now().plus(crate::verbs_help::ttl(600))));
    assert!(world.ask("kim", want(READ, 7200)).await.is_err(), "{db:?}: nothing reaches beyond it");
    let personal = world.broker.create_token(&world.who("kim").await, None, "laptop".to_owned(), None).await.unwrap();

    world.advance(3600);
    assert!(world.broker.authenticate(personal.token.expose(), "test").await.is_err(), "at the very instant");
    world.settle().await;
    let kim = world.who("kim").await;
    assert!(!kim.actor.identity.active, "{db:?}: the source said nothing");
    let ended = world.grant(&grant).await;
    assert_eq!(ended.state, GrantState::Ended);
    assert!(matches!(ended.end_reason, Some(EndReason::Offboarded | EndReason::Expired)));
    let event = events(&world).await.into_iter().find(|e| e.action == "identity.deactivated").unwrap();
    assert_eq!(event.via, "clock");
    assert_eq!(event.details["why"], "its contract has ended");
}

async fn a_contract_that_is_over_already_ends_all_at_once(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "kim", &["engineers"]).await;
    let grant = world.open("kim", ADMIN, 600).await.id;
    world.advance(60);
    hear(&world, &okta, &Heard { contract_end: Some(world.now()), ..person("kim") }).await.unwrap();
    world.settle().await;
    assert_eq!(world.grant(&grant).await.end_reason, Some(EndReason::Offboarded), "{db:?}");
    assert_eq!(world.state(&grant).await, GrantState::Ended);
    assert!(!world.who("kim").await.actor.identity.active);
}

async fn reviews_say_what_is_stale_and_what_settles_it(db: Db) {
    let world = World::on(db).await;
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    let used = world.broker.create_token(&ana, None, "used".to_owned(), None).await.unwrap();
    let new = NewWorkload {
        name: "idle".to_owned(),
        display_name: None,
        kind: IdentityKind::Workload,
        owner: Some("ana".to_owned()),
        backup_owner: None,
        team: None,
        groups: Vec::new(),
        secret_ttl: None,
    };
    world.broker.register_workload(&eve, new).await.unwrap();
    world.advance(40 * 86_400);
    let fresh = world.broker.create_token(&world.who("ana").await, None, "fresh".to_owned(), None).await.unwrap();
    assert!(world.broker.authenticate(used.token.expose(), "test").await.is_err(), "it has expired");
    world.broker.authenticate(fresh.token.expose(), "test").await.unwrap();
    world.broker.authenticate(fresh.token.expose(), "test").await.unwrap();
    assert_eq!(world.broker.record_sightings().await.unwrap(), 1, "{db:?}: once an hour, not with each call");
    let eve = world.who("eve").await;
    let lines = world.broker.review(&eve, Review::Dormant, 30).await.unwrap();
    let names = |about: &str| -> Vec<String> {
        lines.iter().filter(|l| l.about == about).map(|l| l.identity.as_ref().unwrap().name.clone()).collect()
    };
    let accounts = names("account");
    assert!(!accounts.contains(&"ana".to_owned()) && accounts.contains(&"ben".to_owned()), "{db:?}: {accounts:?}");
    assert_eq!(names("secret"), ["idle"], "{db:?}: {lines:?}");
    let ben = lines.iter().find(|l| l.identity.as_ref().unwrap().name == "ben").unwrap();
    assert!(ben.steps[0].command.starts_with("tidegate review deactivate ben"), "{ben:?}");
    // The one step.
    let id = world.who("ben").await.actor_id();
    let after = world.broker.deactivate_identity(&eve, id, "dormant").await.unwrap();
    assert!(!after.active);
    assert!(world.broker.deactivate_identity(&eve, eve.actor_id(), "me").await.is_err(), "not oneself");

    let standing = world.broker.review(&eve, Review::Standing, 30).await.unwrap();
    assert!(standing.is_empty(), "{standing:?}");
    stands(&world, "oncall", world.who("ana").await.actor_id()).await;
    let standing = world.broker.review(&eve, Review::Standing, 30).await.unwrap();
    assert!(standing[0].why.contains("directory:oncall gives it for 8h"), "{standing:?}");
    world.broker.remove_standing(&eve, "oncall", "ana").await.unwrap();
    assert!(world.broker.review(&eve, Review::Standing, 30).await.unwrap().is_empty());

    let advice = world.broker.review(&eve, Review::Advice, 30).await.unwrap();
    let of = |target: &str| advice.iter().find(|l| l.thing.as_deref() == Some(target)).unwrap().why.clone();
    assert!(of("dev-ssh").starts_with("both: "), "{advice:?}");
    assert!(world.broker.review(&world.who("ana").await, Review::Advice, 30).await.is_err(), "not for everybody");

    sql(&world, "UPDATE identities SET orphaned_at = 1 WHERE name = 'idle'").await;
    let orphans = world.broker.review(&eve, Review::Orphans, 30).await.unwrap();
    assert_eq!(orphans[0].identity.as_ref().unwrap().name, "idle");
    assert_eq!(orphans[0].steps.len(), 2);
}

on_both!(
    a_contract_ends_by_the_clock_alone,
    a_contract_that_is_over_already_ends_all_at_once,
    reviews_say_what_is_stale_and_what_settles_it,
);
