//! Sources: too many who leave at once, somebody who is known already, accounts that are made at a first login.

use tidegate::{
    broker::{BrokerError, Heard, Hearing, Settings, review::Review},
    domain::{
        grant::GrantState,
        identity::Origin,
        jit::{FirstLogin, JitRule},
    },
};

use crate::{
    lifecycle_help::*,
    on_both,
    verbs_help::{READ, events, refused, table},
    world::{Db, Plan, World},
};

async fn too_many_who_leave_at_once_are_held(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    let other = source(&world, "entra").await;
    for n in 0..40 {
        joins(&world, &okta, &format!("p{n}"), &["engineers"]).await;
    }
    joins(&world, &other, "lone", &[]).await;
    let grant = world.open("p7", READ, 600).await.id;
    // A few are never held up: four are 10 %, and fewer than five.
    for n in 0..4 {
        assert!(matches!(hear(&world, &okta, &gone(&format!("p{n}"))).await, Ok(Hearing::Left(_))), "{db:?}: {n}");
    }
    for n in 4..16 {
        refused!(hear(&world, &okta, &gone(&format!("p{n}"))).await, BrokerError::Held { .. });
    }
    world.settle().await;
    assert_eq!(world.state(&grant).await, GrantState::Active, "{db:?}: held, so nothing happened");
    assert!(
        matches!(hear(&world, &other, &gone("lone")).await, Ok(Hearing::Left(_))),
        "{db:?}: another source goes on"
    );
    assert!(
        matches!(hear(&world, &okta, &person("p20")).await, Ok(Hearing::Unchanged(_))),
        "{db:?}: nor other changes"
    );
    let held: Vec<_> = events(&world).await.into_iter().filter(|e| e.action == "source.held").collect();
    assert_eq!(held.len(), 1, "{db:?}: one alarm");
    let eve = world.who("eve").await;
    let lines = world.broker.review(&eve, Review::Held, 30).await.unwrap();
    assert_eq!(lines.len(), 12, "{db:?}: with the list");
    // One of them is said to be there after all.
    let back = Heard { display_name: "P 15".to_owned(), ..person("p15") };
    hear(&world, &okta, &back).await.unwrap();
    // Who is held stays so when the window is over, however often it is said; a single one leaves at once beside them.
    world.advance(2 * 3600);
    refused!(hear(&world, &okta, &gone("p14")).await, BrokerError::Held { .. });
    assert!(matches!(hear(&world, &okta, &gone("p16")).await, Ok(Hearing::Left(_))), "{db:?}: within the limit");
    world.settle().await;

    refused!(world.broker.accept_departures(&world.who("ana").await, "okta").await, BrokerError::Forbidden(_));
    let accepted = world.broker.accept_departures(&world.who("eve").await, "OKTA").await.unwrap();
    assert_eq!(accepted.people.len(), 11, "{db:?}: p4 to p14");
    for _ in 0..3 {
        world.settle().await;
    }
    let active = table(&world, "SELECT name FROM identities WHERE name LIKE 'p%' AND active = 1 ORDER BY name").await;
    assert_eq!(active.len(), 24, "{db:?}: nothing is lost: {active:?}");
    assert!(active.contains(&"p15".to_owned()));
    assert!(world.broker.review(&eve, Review::Held, 30).await.unwrap().is_empty());
    assert!(matches!(hear(&world, &okta, &gone("p30")).await, Ok(Hearing::Left(_))), "{db:?}: and the source goes on");
}

async fn the_window_of_the_breaker_slides(db: Db) {
    let world = World::on(db).await;
    let okta = source(&world, "okta").await;
    for n in 0..100 {
        joins(&world, &okta, &format!("p{n}"), &[]).await;
    }
    let leaves = async |n: usize| hear(&world, &okta, &gone(&format!("p{n}"))).await;
    // Ten of a hundred, late in one hour and early in the next: a window that begins anew would let ten more go.
    for n in 0..2 {
        assert!(leaves(n).await.is_ok(), "{db:?}: {n}");
    }
    world.advance(55 * 60);
    for n in 2..10 {
        assert!(leaves(n).await.is_ok(), "{db:?}: {n}");
    }
    world.advance(10 * 60);
    // The first two are out of sight by now; of the 98 who were there then, no more than one may follow the eight.
    assert!(leaves(10).await.is_ok(), "{db:?}");
    refused!(leaves(12).await, BrokerError::Held { .. });
    // Whoever comes back and leaves again is one person.
    hear(&world, &okta, &person("p10")).await.unwrap();
    assert!(leaves(10).await.is_ok(), "{db:?}: counted once");
    // The last of those who are held is there after all: the source is as if nothing had been, and raises a new alarm.
    world.settle().await;
    hear(&world, &okta, &Heard { display_name: "P 12".to_owned(), ..person("p12") }).await.unwrap();
    let held = table(&world, "SELECT source_id FROM departures WHERE held_at IS NOT NULL").await;
    assert!(held.is_empty(), "{db:?}: {held:?}");
    refused!(leaves(13).await, BrokerError::Held { .. });
    world.settle().await;
    let alarms = events(&world).await.into_iter().filter(|e| e.action == "source.held").count();
    assert_eq!(alarms, 2, "{db:?}");
}

async fn the_same_person_from_two_sources_is_for_people_to_decide(db: Db) {
    let world = World::on(db).await;
    let (okta, entra) = (source(&world, "okta").await, source(&world, "entra").await);
    let kim = joins(&world, &okta, "kim", &[]).await;
    let mut same = person("kim.other");
    same.email = Some("KIM@example.com".to_owned());
    assert_eq!(hear(&world, &entra, &same).await.unwrap(), Hearing::Collided(kim), "{db:?}: by e-mail");
    assert_eq!(hear(&world, &entra, &same).await.unwrap(), Hearing::Collided(kim));
    let eve = world.who("eve").await;
    let lines = world.broker.review(&eve, Review::Collisions, 30).await.unwrap();
    assert_eq!(lines.len(), 1, "{db:?}: once");
    assert!(lines[0].why.contains("same email"), "{lines:?}");
    assert_eq!(events(&world).await.iter().filter(|e| e.action == "source.collision").count(), 1);
    world.broker.resolve_collision(&eve, "entra", kim).await.unwrap();
    assert_eq!(hear(&world, &entra, &same).await.unwrap(), Hearing::Adopted(kim), "{db:?}: an administrator said so");
    assert_eq!(world.who("kim.other").await.actor_id(), kim);
    // Who is kept here is not taken over silently either.
    let ana = world.who("ana").await.actor_id();
    assert_eq!(hear(&world, &okta, &person("ana")).await.unwrap(), Hearing::Collided(ana));
}

pub fn with_jit(db: Db) -> Plan {
    let rule = "issuer = \"https://idp.example\"\nemail_domain = \"partner.example\"\nends_after = \"30d\"\n\
                groups = [\"readers\", \"tidegate-admins\"]\ngrace = \"2d\"";
    let jit: Vec<JitRule> = vec![toml::from_str(rule).unwrap()];
    Plan { settings: Settings { jit, ..Settings::default() }, ..Plan::on(db) }
}

pub fn login(subject: &str) -> FirstLogin {
    FirstLogin {
        issuer: "https://idp.example".to_owned(),
        subject: subject.to_owned(),
        email: Some(format!("{subject}@partner.example")),
        email_verified: true,
        ..FirstLogin::default()
    }
}

async fn a_first_login_makes_an_account_where_a_rule_says_so(db: Db) {
    let world = with_jit(db).build().await;
    let kim = world.broker.first_login(&login("kim"), "web").await.unwrap();
    assert_eq!(kim.identity.origin, Origin::Jit);
    assert_eq!(kim.groups.iter().collect::<Vec<_>>(), ["readers"], "{db:?}: the least, and never to administer");
    assert_eq!(kim.identity.contract_end, Some(world.now().plus(crate::verbs_help::ttl(30 * 86_400))));
    let again = world.broker.first_login(&login("kim"), "web").await.unwrap();
    assert_eq!(again.identity.id, kim.identity.id, "{db:?}: one account");
    let lee = login("lee");
    let (a, b) = tokio::join!(world.broker.first_login(&lee, "web"), world.broker.first_login(&lee, "web"));
    assert_eq!(a.unwrap().identity.id, b.unwrap().identity.id, "{db:?}: twice at once");
    for refused in [
        FirstLogin { email_verified: false, ..login("x") },
        FirstLogin { issuer: "https://other.example".to_owned(), ..login("x") },
        FirstLogin { email: Some("x@elsewhere.example".to_owned()), ..login("x") },
        // Somebody of that e-mail is known, by another sign-in.
        FirstLogin { subject: "y".to_owned(), ..login("kim") },
    ] {
        let Err(BrokerError::Denied { reasons, .. }) = world.broker.first_login(&refused, "web").await else {
            panic!("{db:?}: {refused:?} was let in");
        };
        assert!(reasons[0].text.contains("administrator"), "it says what to do");
    }
    // Nobody takes it over: the clock ends it.
    world.advance(2 * 86_400);
    world.settle().await;
    assert!(!world.who("kim@partner.example").await.actor.identity.active, "{db:?}");
    refused!(world.broker.first_login(&login("kim"), "web").await, BrokerError::Unauthenticated);
}

async fn a_source_takes_over_what_a_first_login_made(db: Db) {
    let world = with_jit(db).build().await;
    let okta = source(&world, "okta").await;
    let by_id = world.broker.first_login(&login("kim"), "web").await.unwrap().identity.id;
    let by_mail = world.broker.first_login(&login("lee"), "web").await.unwrap().identity.id;
    let kim = Heard { external_id: "kim".to_owned(), ..person("kim.k") };
    assert_eq!(hear(&world, &okta, &kim).await.unwrap(), Hearing::Adopted(by_id), "{db:?}: by externalId");
    let mut lee = person("lee.l");
    lee.email = Some("Lee@Partner.example".to_owned());
    assert_eq!(hear(&world, &okta, &lee).await.unwrap(), Hearing::Adopted(by_mail), "{db:?}: by verified e-mail");
    for name in ["kim.k", "lee.l"] {
        let now = world.who(name).await.actor.identity;
        assert!(now.source.is_some() && now.answer_by.is_none() && now.contract_end.is_none(), "{db:?}: {now:?}");
    }
    world.advance(40 * 86_400);
    world.settle().await;
    assert!(world.who("kim.k").await.actor.identity.active, "{db:?}: the source answers for it");
    let known = world.broker.first_login(&login("kim"), "web").await.unwrap();
    assert_eq!(known.identity.id, by_id, "{db:?}: and signs in as before");
}

on_both!(
    too_many_who_leave_at_once_are_held,
    the_window_of_the_breaker_slides,
    the_same_person_from_two_sources_is_for_people_to_decide,
    a_first_login_makes_an_account_where_a_rule_says_so,
    a_source_takes_over_what_a_first_login_made,
);
