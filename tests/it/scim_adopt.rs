//! Whom a source may take over: who came by a first login, by rule, whether it makes them or finds them and changes them.

use serde_json::json;
use tidegate::broker::review::Review;

use crate::{
    lifecycle_help::stands,
    lifecycle_source::{login, with_jit},
    on_both,
    scim_app::{ENTERPRISE, Scim, done, refused},
    verbs_help::events,
    world::Db,
};

/// Most identity providers look first, and change whom they find.
async fn who_is_looked_up_and_changed_is_adopted_by_rule(db: Db) {
    let scim = Scim::of(with_jit(db)).await;
    let world = &scim.app.world;
    let kim = world.broker.first_login(&login("kim"), "web").await.unwrap().identity.id.to_string();
    let lee = world.broker.first_login(&login("lee"), "web").await.unwrap().identity.id.to_string();
    let ned = world.broker.first_login(&login("ned"), "web").await.unwrap().identity.id.to_string();
    assert_eq!(scim.found("userName eq \"KIM@partner.example\"").await, ["kim@partner.example"]);
    let as_entra = json!([
        {"op": "Add", "path": "externalId", "value": "kim"}, {"op": "Replace", "path": "displayName", "value": "Kim K"},
    ]);
    done(&scim.patch(&format!("/Users/{kim}"), as_entra).await, 200);
    let as_okta = json!({
        "userName": "lee@partner.example", "active": true,
        "emails": [{"value": "Lee@Partner.example", "type": "work", "primary": true}],
    });
    done(&scim.put(&format!("/Users/{lee}"), as_okta).await, 200);
    for name in ["kim@partner.example", "lee@partner.example"] {
        let now = world.who(name).await.actor.identity;
        assert!(now.source.is_some() && now.answer_by.is_none() && now.contract_end.is_none(), "{db:?}: {now:?}");
    }
    let adopted = events(world).await.into_iter().filter(|e| e.action == "identity.adopted").count();
    assert_eq!(adopted, 2, "{db:?}: and the log says so");
    // Another e-mail is no proof; an administrator decides, once.
    let other = json!({"userName": "ned@partner.example", "emails": [{"value": "ned@elsewhere.example"}]});
    for _ in 0..2 {
        refused(&scim.put(&format!("/Users/{ned}"), other.clone()).await, 409, "uniqueness");
    }
    let eve = world.who("eve").await;
    assert_eq!(world.broker.review(&eve, Review::Collisions, 30).await.unwrap().len(), 1, "{db:?}");
    world.broker.resolve_collision(&eve, "okta", ned.parse().unwrap()).await.unwrap();
    done(&scim.put(&format!("/Users/{ned}"), other).await, 200);
    // Who is kept here, and came by no first login, is not asked about.
    let ana = world.who("ana").await.actor_id();
    refused(
        &scim.patch(&format!("/Users/{ana}"), json!([{"op": "add", "path": "title", "value": "x"}])).await,
        403,
        "",
    );
}

async fn who_administers_is_adopted_only_by_a_source_that_may_fill_that_group(db: Db) {
    let scim = Scim::of(with_jit(db)).await;
    let world = &scim.app.world;
    let kim = world.broker.first_login(&login("kim"), "web").await.unwrap().identity.id;
    stands(world, "tidegate-admins", kim).await;
    let whole = json!({"userName": "kim@partner.example", "externalId": "kim", "active": false});
    refused(&scim.post("/Users", whole.clone()).await, 409, "uniqueness");
    refused(&scim.put(&format!("/Users/{kim}"), whole).await, 409, "uniqueness");
    let now = world.who("kim@partner.example").await.actor.identity;
    assert!(now.active && now.source.is_none(), "{db:?}: {now:?}");
}

/// Our ids are names of accounts downstream: nobody bears another's.
async fn an_id_of_ours_is_nobodys_external_id(db: Db) {
    let scim = Scim::on(db).await;
    let victim = scim.user("victim").await;
    refused(&scim.post("/Users", json!({"userName": "m", "externalId": victim})).await, 400, "invalidValue");
    let path = format!("/Users/{}", scim.user("m").await);
    let patch = json!([{"op": "add", "path": "externalId", "value": victim}]);
    refused(&scim.patch(&path, patch).await, 400, "invalidValue");
    refused(&scim.put(&path, json!({"userName": "m", "externalId": victim})).await, 400, "invalidValue");
}

/// What one source calls somebody is nothing to another.
async fn names_of_a_source_are_its_own(db: Db) {
    let scim = Scim::on(db).await;
    scim.user_of(json!({"userName": "a", "externalId": "7"})).await;
    done(&scim.as_other("POST", "/Users", Some(json!({"userName": "b", "externalId": "7"}))).await, 201);
    done(&scim.post("/Groups", json!({"displayName": "g", "externalId": "g7"})).await, 201);
    assert_eq!(scim.found("externalId eq \"7\"").await, ["a"]);
    assert_eq!(scim.found("externalId pr").await, ["a"]);
    let others = scim.as_other("GET", "/Users?filter=externalId%20eq%20%227%22", None).await;
    assert_eq!(others.body["Resources"][0]["userName"], "b", "{db:?}: {}", others.body);
    let groups = scim.as_other("GET", "/Groups?filter=externalId%20eq%20%22g7%22", None).await;
    assert_eq!(groups.body["totalResults"], 0, "{db:?}");
}

/// Neither sees the other before its commit, and yet nobody is made twice.
async fn two_sources_that_make_the_same_person_at_once_make_one(db: Db) {
    let scim = Scim::on(db).await;
    for n in 0..8 {
        let said =
            |who: &str| json!({"userName": format!("{who}-{n}"), "emails": [{"value": format!("Kim{n}@x.example")}]});
        let (one, other) =
            tokio::join!(scim.post("/Users", said("one")), scim.as_other("POST", "/Users", Some(said("other"))));
        let mut answers = [one.status.as_u16(), other.status.as_u16()];
        answers.sort_unstable();
        assert_eq!(answers, [201, 409], "{db:?}: {} {}", one.body, other.body);
    }
}

/// Who was said to be a manager before they came is made with all that follows, and who shares an e-mail in one source too.
async fn who_might_be_meant_already_is_made_with_all_that_follows(db: Db) {
    let scim = Scim::on(db).await;
    let world = &scim.app.world;
    scim.user_of(json!({"userName": "report", ENTERPRISE: {"manager": {"value": "boss"}}})).await;
    let shared = json!([{"value": "team@x.example"}]);
    let boss = scim.user_of(json!({"userName": "boss", "emails": shared})).await;
    assert_eq!(world.who("report").await.actor.identity.attributes["manager"], boss, "{db:?}");
    scim.user_of(json!({"userName": "deputy", "emails": shared})).await;
    let made = events(world).await.into_iter().filter(|e| e.action == "identity.created");
    assert_eq!(made.filter(|e| e.details["source"] == "okta").count(), 3, "{db:?}: each has its event");
}

async fn a_manager_may_come_later_and_in_a_list(db: Db) {
    let scim = Scim::on(db).await;
    let world = &scim.app.world;
    let said = json!({"manager": [{"value": "boss-7"}]});
    let kim =
        scim.user_of(json!({"userName": "kim", ENTERPRISE: said, "name": {"givenName": "Kim", "familyName": "K"}}));
    let kim = kim.await;
    let facts = async || world.who("kim").await.actor.identity.attributes;
    assert_eq!(facts().await["manager"], "boss-7");
    assert_eq!((facts().await["given_name"].as_str(), facts().await["family_name"].as_str()), ("Kim", "K"));
    let boss = scim.user_of(json!({"userName": "boss", "externalId": "boss-7"})).await;
    assert_eq!(facts().await["manager"], boss, "{db:?}");
    let gone = json!([{"op": "Replace", "path": format!("{ENTERPRISE}:manager"), "value": []}]);
    done(&scim.patch(&format!("/Users/{kim}"), gone).await, 200);
    assert!(!facts().await.contains_key("manager"), "{db:?}");
}

on_both!(
    names_of_a_source_are_its_own,
    a_manager_may_come_later_and_in_a_list,
    who_is_looked_up_and_changed_is_adopted_by_rule,
    who_administers_is_adopted_only_by_a_source_that_may_fill_that_group,
    an_id_of_ours_is_nobodys_external_id,
    two_sources_that_make_the_same_person_at_once_make_one,
    who_might_be_meant_already_is_made_with_all_that_follows,
);
