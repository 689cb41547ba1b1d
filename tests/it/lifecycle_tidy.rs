//! What nobody uses ends, what is known of people who are gone is forgotten, and guests have somebody who answers for them.

use std::time::Duration;

use tidegate::{
    broker::{BrokerError, Settings, UnusedRule, review::Review},
    domain::{
        id::IdentityId,
        identity::Origin,
        jit::{FirstLogin, JitRule},
        time::Ttl,
    },
};

use crate::{
    lifecycle_help::*,
    lifecycle_source::login,
    on_both,
    scim_app::{ENTERPRISE, Scim, done},
    verbs_help::{READ, events, refused, sql, table},
    world::{Db, Plan, World},
};
use serde_json::json;

const DAY: u64 = 86_400;

async fn unused(db: Db, of_sources: bool) -> World {
    let rule = UnusedRule { after: Duration::from_secs(90 * DAY), grace: Duration::from_secs(14 * DAY), of_sources };
    Plan { settings: Settings { unused: Some(rule), ..Settings::default() }, ..Plan::on(db) }.build().await
}

async fn active(world: &World, name: &str) -> bool {
    world.store().subject_by_name(name, world.now()).await.unwrap().unwrap().identity.active
}

async fn seen(world: &World, name: &str) {
    let identity = world.store().subject_by_name(name, world.now()).await.unwrap().unwrap().identity;
    let token = world.broker.create_token_at_console(identity.id, "test", Ttl::seconds_or_one(3600)).await.unwrap();
    if identity.kind.is_non_human() {
        world.broker.authenticate_client(name, token.token.expose(), "test").await.unwrap();
    } else {
        world.broker.authenticate(token.token.expose(), "test").await.unwrap();
    }
    world.settle().await;
}

async fn what_nobody_uses_is_told_of_and_then_ends(db: Db) {
    let world = unused(db, false).await;
    let okta = source(&world, "okta").await;
    joins(&world, &okta, "sourced", &[]).await;
    assert_eq!(world.broker.look_for_unused().await.unwrap(), (0, 0), "{db:?}: nobody yet");
    world.advance(91 * DAY);
    seen(&world, "ana").await;
    let (told, ended) = world.broker.look_for_unused().await.unwrap();
    assert_eq!((told, ended), (3, 0), "{db:?}: ben, eve and the bot");
    assert_eq!(world.broker.look_for_unused().await.unwrap(), (0, 0), "{db:?}: once");
    let log = events(&world).await;
    let bot = world.store().subject_by_name("deploy-bot", world.now()).await.unwrap().unwrap().identity;
    let event = log.iter().find(|e| e.action == "identity.unused" && e.subject == Some(bot.id)).unwrap();
    assert_eq!(event.details["ask"], json!(bot.owner.map(|o| o.to_string())), "{db:?}: its owner is asked");
    assert!(event.details["ends_at"].is_string());
    let eve = world.store().subject_by_name("eve", world.now()).await.unwrap().unwrap().identity.id;
    let event = log.iter().find(|e| e.action == "identity.unused" && e.subject == Some(eve)).unwrap();
    assert!(event.details["ends_at"].is_null(), "{db:?}: who administers is not ended");
    // Used meanwhile: it stays.
    world.advance(10 * DAY);
    seen(&world, "deploy-bot").await;
    world.advance(5 * DAY);
    let (_, ended) = world.broker.look_for_unused().await.unwrap();
    assert_eq!(ended, 1, "{db:?}");
    assert!(!active(&world, "ben").await && active(&world, "eve").await && active(&world, "deploy-bot").await);
    assert!(active(&world, "sourced").await && active(&world, "ana").await, "{db:?}: what a source owns is its own");
    let ended = events(&world).await.into_iter().find(|e| e.action == "identity.deactivated").unwrap();
    assert_eq!(ended.via, "clock");
    assert!(ended.details["why"].as_str().unwrap().contains("90 days"), "{ended:?}");
    // Where it is wanted, that too.
    let strict = unused(db, true).await;
    let okta = source(&strict, "okta").await;
    joins(&strict, &okta, "sourced", &[]).await;
    strict.advance(91 * DAY);
    strict.broker.look_for_unused().await.unwrap();
    strict.advance(14 * DAY);
    strict.broker.look_for_unused().await.unwrap();
    assert!(!active(&strict, "sourced").await, "{db:?}");
}

async fn what_is_known_of_people_who_are_gone_is_forgotten(db: Db) {
    let settings = Settings { erase_after: Some(Duration::from_secs(30 * DAY)), ..Settings::default() };
    let mut scim = Scim::of(Plan { settings, ..Plan::on(db) }).await;
    let canary = json!({
        "userName": "kim.canary", "displayName": "Kim Canary", "externalId": "ext-canary", "title": "Canary keeper",
        "emails": [{"value": "kim@canary.example"}], "name": {"familyName": "Canary"}, ENTERPRISE: {"department": "canaries"},
    });
    let id = scim.user_of(canary.clone()).await;
    let world = &scim.app.world;
    scim.group("crew", &[&id]).await;
    stands(world, "engineers", id.parse().unwrap()).await;
    world.broker.seal().await.unwrap();
    world.open("kim.canary", READ, 600).await;
    done(&scim.patch(&format!("/Users/{id}"), json!([{"op": "replace", "path": "active", "value": false}])).await, 200);
    assert_eq!(world.broker.forget_people().await.unwrap(), 0, "{db:?}: not yet");
    world.settle().await;
    world.advance(29 * DAY);
    assert_eq!(world.broker.forget_people().await.unwrap(), 0, "{db:?}: not yet");
    world.advance(2 * DAY);
    assert_eq!(world.broker.forget_people().await.unwrap(), 1, "{db:?}");
    assert_eq!(world.broker.forget_people().await.unwrap(), 0, "{db:?}: once");
    // Nowhere in the ledger, the log included.
    for (what, query) in [
        (
            "identities",
            "SELECT name || name_key || display_name || coalesce(email, '') || attributes || coalesce(external_id, '') FROM identities",
        ),
        ("documents", "SELECT document FROM scim_documents"),
        ("values", "SELECT value_key FROM scim_values"),
        ("log", "SELECT leaf FROM audit_events"),
    ] {
        let rows = table(world, query).await;
        let found: Vec<&String> = rows.iter().filter(|r| r.to_lowercase().contains("canar")).collect();
        assert!(found.is_empty(), "{db:?} {what}: {found:?}");
    }
    let identity: IdentityId = id.parse().unwrap();
    let log = events(world).await;
    assert!(log.iter().filter(|e| e.subject == Some(identity)).count() > 3, "{db:?}: what they did stays");
    assert!(log.iter().any(|e| e.action == "identity.erased" && e.subject == Some(identity)));
    // The log still verifies: every event is in the tree that is signed.
    while world.broker.seal().await.unwrap() > 0 {}
    let eve = world.who("eve").await;
    let first = log.iter().find(|e| e.subject == Some(identity)).unwrap();
    world.broker.proof(&eve, first.id).await.unwrap();
    // To its source the person is not there, and the same name is somebody new.
    scim.token = world.broker.create_source_token_at_console("okta", Ttl::seconds_or_one(3600)).await.unwrap().token;
    assert_eq!(scim.get(&format!("/Users/{id}")).await.status, 404, "{db:?}");
    let again = scim.user_of(canary).await;
    assert_ne!(again, id);
}

async fn a_guest_has_an_end_and_somebody_who_answers(db: Db) {
    let rule = "issuer = \"https://idp.example\"\nemail_domain = \"partner.example\"\nends_after = \"30d\"\n\
                sponsor = \"ben\"\ngroups = [\"readers\"]\nnever_adopted = true";
    let jit: Vec<JitRule> = vec![toml::from_str(rule).unwrap()];
    assert_eq!(jit[0].fault(), None);
    let world = Plan { settings: Settings { jit, ..Settings::default() }, ..Plan::on(db) }.build().await;
    let kim = world.broker.first_login(&login("kim"), "web").await.unwrap().identity;
    let ben = world.who("ben").await.actor_id();
    assert_eq!((kim.origin, kim.owner), (Origin::Jit, Some(ben)), "{db:?}");
    assert!(kim.contract_end.is_some() && kim.answer_by.is_none());
    // Its sponsor leaves: the clock runs, unless somebody else answers.
    let eve = world.who("eve").await;
    world.broker.deactivate_identity(&eve, ben, "left").await.unwrap();
    world.settle().await;
    let orphan = world.who("kim@partner.example").await.actor.identity;
    assert!(orphan.orphaned_at.is_some() && orphan.answer_by.is_some(), "{db:?}: {orphan:?}");
    assert!(events(&world).await.iter().any(|e| e.action == "identity.orphaned" && e.subject == Some(kim.id)));
    let lines = world.broker.review(&eve, Review::Orphans, 30).await.unwrap();
    assert!(lines.iter().any(|l| l.about == "guest" && l.steps[0].command.contains("sponsor")), "{db:?}: {lines:?}");
    let Err(BrokerError::Denied { reasons, .. }) = world.broker.first_login(&login("lee"), "web").await else {
        panic!("{db:?}: nobody answers for the next one");
    };
    assert!(reasons[0].text.contains("administrator"));
    refused!(world.broker.sponsor_identity(&world.who("ana").await, kim.id, "ana").await, BrokerError::Forbidden(_));
    refused!(world.broker.sponsor_identity(&eve, kim.id, "ben").await, BrokerError::Invalid { .. });
    world.broker.sponsor_identity(&eve, kim.id, "ana").await.unwrap();
    let held = world.who("kim@partner.example").await.actor.identity;
    assert!(
        held.orphaned_at.is_none() && held.answer_by.is_none() && held.owner == Some(world.who("ana").await.actor_id())
    );
    let ana = world.who("ana").await.actor_id();
    world.broker.deactivate_identity(&world.who("eve").await, ana, "left too").await.unwrap();
    world.advance(8 * DAY);
    world.settle().await;
    assert!(!active(&world, "kim@partner.example").await, "{db:?}: nobody answered within a week");
    let gone = FirstLogin { ..login("kim") };
    refused!(world.broker.first_login(&gone, "web").await, BrokerError::Unauthenticated);
}

async fn names_beyond_ascii_are_found_in_any_case(db: Db) {
    let scim = Scim::on(db).await;
    let world = &scim.app.world;
    for name in ["\u{c9}mile \u{d6}ztürk", "\u{411}\u{43e}\u{440}\u{438}\u{441}", "Plain"] {
        scim.user_of(json!({"userName": name, "displayName": name, "emails": [{"value": format!("{name}@x.org")}]}))
            .await;
    }
    // As an older version left them.
    sql(world, "UPDATE identities SET display_key = display_name, email_key = email WHERE display_name <> 'Plain'")
        .await;
    assert!(scim.found("displayName eq \"\u{e9}MILE \u{d6}ZT\u{dc}RK\"").await.is_empty());
    assert_eq!(world.broker.fold_names().await.unwrap(), 2, "{db:?}");
    assert_eq!(world.broker.fold_names().await.unwrap(), 0, "{db:?}: once");
    assert_eq!(scim.found("displayName eq \"\u{e9}MILE \u{d6}ZT\u{dc}RK\"").await.len(), 1, "{db:?}");
    assert_eq!(scim.found("userName eq \"\u{431}\u{41e}\u{420}\u{418}\u{421}\"").await.len(), 1, "{db:?}");
    let found = world.store().subject_by_email("\u{411}\u{41e}\u{420}\u{418}\u{421}@X.ORG", world.now()).await.unwrap();
    assert!(found.is_some(), "{db:?}");
}

on_both!(
    what_nobody_uses_is_told_of_and_then_ends,
    what_is_known_of_people_who_are_gone_is_forgotten,
    a_guest_has_an_end_and_somebody_who_answers,
    names_beyond_ascii_are_found_in_any_case,
);
