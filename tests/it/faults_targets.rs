//! PostgreSQL and LDAP in trouble, as the whole broker takes it: lies, stale answers, a server with too much to do, and
//! one that goes away midway.

use std::{fmt::Write, fs, time::Duration};

use serde_json::{Value, json};
use tidegate::{
    app::Policies,
    domain::grant::GrantState,
    ports::{
        clock::{Clock, SystemClock},
        connector::{Fault, Presence},
    },
};

use crate::{
    connectors_ldap::{BEN, ODD, OPS, World as Directory},
    connectors_postgres::World as Database,
    on_both,
    servers::{
        postgres::{Postgres, shared},
        way::{self, Mood, Tls, Way},
    },
    verbs_help::*,
    world::{Db, Plan, World},
};

/// A world with one more target, on which ana may have this for the asking.
async fn world(db: Db, kind: &str, settings: Value, entitlements: &[(&str, String)]) -> World {
    let home = tempfile::tempdir().unwrap();
    let mut plan = Plan::on(db);
    let target = json!({"id": "far", "kind": kind, "timeout_seconds": 10, "settings": settings});
    plan.targets.push(serde_json::from_value(target).unwrap());
    policies(home.path());
    let mut catalog = fs::read_to_string(home.path().join("catalog.toml")).unwrap();
    for (id, parameters) in entitlements {
        let _ = write!(
            catalog,
            "\n[[entitlement]]\nid = \"{id}\"\ntarget = \"far\"\ntitle = \"Far\"\nparameters = {{ {parameters} }}\n\
             default_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = 1\napprovers = [\"approvers\"]\n\
             allow_no_backstop = true\n"
        );
    }
    fs::write(home.path().join("catalog.toml"), catalog).unwrap();
    plan.policies = Policies::Directory(home.path().to_owned());
    let world = plan.build().await;
    world.clock.set(SystemClock::new().now());
    world
}

/// A role on that server, by that way.
async fn roles(db: Db, database: &Database<'_>, way: &Way, more: Value) -> World {
    let mut settings = database.settings(&more);
    settings.insert("port".into(), json!(way.port));
    settings.insert("mark".into(), json!(format!("far-{db:?}").to_lowercase()));
    world(db, "postgres", Value::Object(settings), &[("far:role", format!("roles = [\"{}\"]", database.name("app")))])
        .await
}

/// Two groups of that directory, by that way.
async fn groups(db: Db, directory: &Directory, more: &Value) -> World {
    let mut settings = directory.settings(more);
    settings["placeholder"] = json!("cn=nobody");
    let quoted = |group: &str| format!("group = {}", serde_json::to_string(group).unwrap());
    world(db, "ldap", settings, &[("far:ops", quoted(OPS)), ("far:odd", quoted(ODD))]).await
}

async fn release(world: &World, grant: &str) {
    world.broker.release(&world.who("ana").await, grant_id(grant)).await.unwrap();
}

/// Let retries come due until the grant stands so.
async fn becomes(world: &World, grant: &str, state: GrantState) {
    for _ in 0..40 {
        world.settle().await;
        if world.state(grant).await == state {
            return;
        }
        world.advance(10);
    }
    panic!("{grant} is {:?}: {:?}", world.state(grant).await, world.grant(grant).await.last_error);
}

/// For a quarter of an hour: whatever is tried, it is not taken for gone.
async fn is_never_ended(world: &World, grant: &str) {
    for _ in 0..15 {
        world.settle().await;
        let row = world.grant(grant).await;
        assert!(matches!(row.state, GrantState::Revoking | GrantState::Quarantined), "{row:?}");
        world.advance(60);
    }
    assert_eq!(world.state(grant).await, GrantState::Quarantined);
}

async fn postgres_that_lies_is_quarantined_and_never_ended(db: Db) {
    let database = Database::new(shared()).await;
    let way = Way::to(shared().port(), way::POSTGRES).await;
    let w = roles(db, &database, &way, json!({})).await;
    let held = w.open("ana", "far:role", 3600).await;
    assert_eq!(held.state, GrantState::Active);
    claim(&w, "ana", &held.id).await.unwrap();
    way.set(Mood::Lies);
    release(&w, &held.id).await;
    is_never_ended(&w, &held.id).await;
    // Nor is anything opened by it, or a password handed out that opens nothing.
    let opened = w.open("ana", "far:role", 600).await;
    w.settle().await;
    assert_ne!(w.state(&opened.id).await, GrantState::Active);
    way.set(Mood::Pass);
    w.advance(1000);
    becomes(&w, &held.id, GrantState::Ended).await;
    let evidence = w.grant(&held.id).await.evidence.unwrap();
    assert_eq!((&evidence["roles"], &evidence["sessions"]), (&json!(0), &json!(0)), "{evidence}");
    let again = w.open("ana", "far:role", 600).await;
    becomes(&w, &again.id, GrantState::Active).await;
    way.set(Mood::Lies);
    assert!(claim(&w, "ana", &again.id).await.is_err(), "the role does not let anybody in");
    way.set(Mood::Pass);
    release(&w, &again.id).await;
    becomes(&w, &again.id, GrantState::Ended).await;
}

async fn postgres_answers_that_are_lost_are_made_good(db: Db) {
    let database = Database::new(shared()).await;
    let way = Way::to(shared().port(), way::POSTGRES).await;
    let w = roles(db, &database, &way, json!({"statement_timeout_seconds": 1, "connect_timeout_seconds": 1})).await;
    let held = w.open("ana", "far:role", 3600).await;
    way.set(Mood::LosesAnswers);
    release(&w, &held.id).await;
    w.settle().await;
    assert_eq!(w.state(&held.id).await, GrantState::Revoking, "who does not answer has proven nothing");
    way.set(Mood::Pass);
    w.advance(60);
    becomes(&w, &held.id, GrantState::Ended).await;
}

async fn fifty_at_once_find_hardly_a_connection(db: Db) {
    let server = Postgres::dedicated(&["fsync=off", "max_connections=8", "superuser_reserved_connections=3"]);
    let database = Database::new(&server).await;
    let way = Way::to(server.port(), way::POSTGRES).await;
    let w = roles(db, &database, &way, json!({"pool_size": 16})).await;
    let asked = (0..50).map(|_| w.open("ana", "far:role", 3600));
    let grants = futures::future::join_all(asked).await;
    for grant in &grants {
        becomes(&w, &grant.id, GrantState::Active).await;
    }
    assert!(server.log().contains("connection slots are reserved"), "there was room for all");
    let ours = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tg\\_%'";
    assert_eq!(server.ask("postgres", ours).await.unwrap(), "50");
    futures::future::join_all(grants.iter().map(|grant| release(&w, &grant.id))).await;
    for grant in &grants {
        becomes(&w, &grant.id, GrantState::Ended).await;
    }
    assert_eq!(server.ask("postgres", ours).await.unwrap(), "0");
}

async fn ldap_that_lies_is_quarantined_and_never_ended(db: Db) {
    let directory = Directory::new();
    let tls = Tls::of(directory.slapd.dir(), false);
    let way = Way::reading("127.0.0.1", port(&directory.slapd.ldap()), Some(tls), way::LDAP).await;
    let w = groups(db, &directory, &json!({"url": format!("ldaps://127.0.0.1:{}", way.port)})).await;
    let held = w.open("ana", "far:ops", 3600).await;
    assert_eq!(held.state, GrantState::Active);
    way.set(Mood::Lies);
    release(&w, &held.id).await;
    is_never_ended(&w, &held.id).await;
    assert_eq!(directory.members(OPS).await.len(), 2, "she is in all the while");
    way.set(Mood::Pass);
    w.advance(1000);
    becomes(&w, &held.id, GrantState::Ended).await;
    assert_eq!(directory.members(OPS).await, [BEN]);
}

async fn fifty_at_once_find_a_busy_directory(db: Db) {
    let directory = Directory::new();
    let tls = Tls::of(directory.slapd.dir(), true);
    let way = Way::reading("127.0.0.1", port(&directory.slapd.ldap()), Some(tls), way::LDAP_BUSY).await;
    let url = format!("ldap://127.0.0.1:{}", way.port);
    let w = groups(db, &directory, &json!({"url": url, "start_tls": true})).await;
    way.set(Mood::LiesMostly(2));
    let asked = (0..50).map(|n| w.open("ana", if n % 2 == 0 { "far:ops" } else { "far:odd" }, 3600));
    let grants = futures::future::join_all(asked).await;
    for grant in &grants {
        becomes(&w, &grant.id, GrantState::Active).await;
    }
    assert!(way.changes() > 100, "{} changes: it was never busy", way.changes());
    assert_eq!(directory.consistent_grants().await.unwrap().len(), 50);
    futures::future::join_all(grants.iter().map(|grant| release(&w, &grant.id))).await;
    for grant in &grants {
        becomes(&w, &grant.id, GrantState::Ended).await;
    }
    for group in [OPS, ODD] {
        assert_eq!(directory.members(group).await, [BEN]);
    }
    // Where one ended while another did, a mark without a membership may be left: the sweep takes it away.
    way.set(Mood::Pass);
    w.broker.sweep_target(&w.who("eve").await, "far").await.unwrap();
    assert!(directory.consistent_grants().await.unwrap().is_empty());
}

fn port(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

on_both!(
    postgres_that_lies_is_quarantined_and_never_ended,
    postgres_answers_that_are_lost_are_made_good,
    fifty_at_once_find_hardly_a_connection,
    ldap_that_lies_is_quarantined_and_never_ended,
    fifty_at_once_find_a_busy_directory,
);

/// What a proxy that leads to a standby shows is an hour old: the role was not there then, and is now.
#[tokio::test]
async fn postgres_stale_answers_prove_nothing() {
    let server = Postgres::dedicated(&["fsync=off", "wal_level=replica", "max_wal_senders=4"]);
    let database = Database::new(&server).await;
    let standby = server.late_standby();
    let (c, stale) = (database.connector(), database.connector_with(&json!({"port": standby.port()})));
    let held = database.intent(c.as_ref(), Duration::from_mins(10)).await;
    c.activate(&held).await.unwrap();
    let _ = stale.revoke(&held.recipe).await;
    let seen = stale.verify(&held.recipe).await;
    assert!(matches!(&seen, Presence::Unknown(why) if why.contains("standby")), "{seen:?}");
    assert!(matches!(stale.sweep().await, Err(Fault::Unavailable(_))), "nothing is missed for an hour");
    let other = database.intent(c.as_ref(), Duration::from_mins(10)).await;
    let opened = stale.activate(&other).await;
    assert!(matches!(opened, Err(Fault::Unavailable(_))), "{opened:?}");
    assert!(matches!(c.verify(&held.recipe).await, Presence::Present(_)));
    c.revoke(&held.recipe).await.unwrap();
    assert!(matches!(c.verify(&held.recipe).await, Presence::Absent(_)));
}

/// Somebody between broker and server keeps answers and gives them again.
#[tokio::test]
async fn postgres_an_answer_of_before_is_not_taken_for_one_of_now() {
    let database = Database::new(shared()).await;
    let way = Way::to(shared().port(), way::HONEST).await;
    let c = database.connector_with(&json!({"port": way.port, "pool_size": 1}));
    let held = database.intent(c.as_ref(), Duration::from_mins(10)).await;
    way.set(Mood::Remembers);
    assert!(matches!(c.verify(&held.recipe).await, Presence::Absent(_)), "it is not there yet");
    way.set(Mood::Pass);
    c.activate(&held).await.unwrap();
    way.set(Mood::Replays);
    let seen = c.verify(&held.recipe).await;
    assert!(matches!(&seen, Presence::Unknown(why) if why.contains("another question")), "{seen:?}");
    way.set(Mood::Pass);
    assert!(matches!(c.verify(&held.recipe).await, Presence::Present(_)));
    c.revoke(&held.recipe).await.unwrap();
}
