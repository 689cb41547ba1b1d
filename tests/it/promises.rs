//! A test for each promise of the design: P1 to P7. The others are in `promises_later`.

use std::{path::Path, sync::Mutex, time::Duration};

use tidegate::{
    broker::{
        BrokerError,
        input::{GrantQuery, NewLock, NewWorkload, Paging, RequestQuery},
    },
    connectors::faulty::{Behaviour, Call},
    domain::{
        capability::{Description, RevocationClass, Rights},
        grant::GrantState,
        identity::IdentityKind,
        request::RequestState,
        time::Timestamp,
    },
    policy::{Files, PolicyEngine, TargetDirectory},
    ports::connector::BadParameters,
    store::{AuditFilter, LockKind},
};

use crate::{
    on_both,
    verbs_help::*,
    verbs_machine::log_explains_rows,
    world::{Db, Plan, World, want},
};

/// Workers that run by themselves until the broker closes.
async fn with_workers(world: &World, plan: Plan, during: impl AsyncFnOnce(&World)) {
    let mut other = world.another(plan).await;
    let idle = tidegate::worker::Workers {
        broker: std::sync::Arc::clone(&other.broker),
        notifiers: std::collections::BTreeMap::new(),
        rhythm: tidegate::worker::Rhythm::default(),
        node: "idle".to_owned(),
    };
    let workers = std::mem::replace(&mut other.workers, idle);
    let running = tokio::spawn(workers.run());
    during(&other).await;
    other.broker.close(Duration::from_secs(5)).await;
    running.await.unwrap();
}

async fn becomes(world: &World, grant: &str, state: GrantState) {
    eventually("the state", || async { world.state(grant).await == state }).await;
}

async fn p01_no_credential_works_after_its_end(db: Db) {
    let world = World::on(db).await;
    let token = world.open("ana", READ, 60).await;
    let member = world.open("ana", READERS, 60).await;
    let secret = claim(&world, "ana", &token.id).await.unwrap();
    with_workers(&world, Plan::on(db), async |other| {
        other.advance(59);
        assert!(is_live(other, &secret).await);
        assert!(groups(other, "ana").await.contains(&"readers".to_owned()));
        other.advance(1);
        // In that very instant, whether the reaper has looked or not.
        assert!(!is_live(other, &secret).await);
        assert!(!groups(other, "ana").await.contains(&"readers".to_owned()));
        let both = async {
            becomes(other, &member.id, GrantState::Ended).await;
            becomes(other, &token.id, GrantState::Ended).await;
        };
        tokio::time::timeout(Duration::from_secs(5), both).await.expect("within five seconds");
    })
    .await;
}

/// A target whose access does not end by itself.
struct NoBackstop;

impl TargetDirectory for NoBackstop {
    fn describe(&self, _target: &str) -> Option<Description> {
        Some(Description {
            kind: "x".into(),
            summary: String::new(),
            revocation_class: RevocationClass::Immediate,
            native_expiry: false,
            read_back: true,
            cuts_sessions: true,
            mints_secrets: false,
            replaces_copies: false,
            residual_window_seconds: 0,
            residual_window: String::new(),
            enforcement_seconds: 5,
            rights: Rights::default(),
            after_crash: String::new(),
        })
    }

    fn validate(&self, _target: &str, _parameters: &serde_json::Value) -> Result<(), BadParameters> {
        Ok(())
    }
}

async fn p02_with_the_broker_dead_the_access_ends_by_itself(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    policies(dir.path());
    let load = || PolicyEngine::from_files(Files::read(dir.path()).unwrap(), Box::new(NoBackstop));
    assert!(load().unwrap_err().to_string().contains("allow_no_backstop = true"));
    edit(&dir.path().join("catalog.toml"), "approvers = [", "allow_no_backstop = true\napprovers = [");
    load().unwrap();

    let world = World::on(db).await;
    let token = world.open("ana", READ, 60).await;
    world.open("ana", READERS, 60).await;
    let secret = claim(&world, "ana", &token.id).await.unwrap();
    let ends = world.grant(&token.id).await.not_after.unwrap();
    world.broker.close(Duration::from_secs(5)).await;
    // What a verifier reads of the token, and what a decision reads of the directory, with nobody left to revoke.
    let payload = secret.split('.').nth(1).unwrap();
    let payload = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, payload).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert!(Timestamp::from_seconds(claims["exp"].as_i64().unwrap()) <= ends);
    let rows = "SELECT CAST(not_after AS TEXT) FROM memberships WHERE grant_id <> ''";
    assert_eq!(table(&world, rows).await, [ends.micros().to_string()]);
}

async fn p03_what_was_begun_and_not_recorded_is_ended_by_name(db: Db) {
    let world = World::on(db).await;
    // The membership is made, and the broker never learns of it.
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::EffectThenHangs);
    let asking = tokio::time::timeout(Duration::from_millis(500), world.ask("ana", want(READERS, 3600)));
    assert!(asking.await.is_err());
    called(&world, DIRECTORY, Call::Activate, 1).await;
    let made = "SELECT grant_id FROM memberships WHERE grant_id <> ''";
    eventually("the membership", || async { table(&world, made).await.len() == 1 }).await;
    let grant = table(&world, "SELECT id FROM grants").await.remove(0);
    // Another broker on the same ledger, as after a restart.
    let next = world.another(Plan::on(db)).await;
    next.settle().await;
    assert_eq!(next.state(&grant).await, GrantState::Activating, "whoever opens it may still be alive");
    next.advance(120);
    next.settle().await;
    assert_eq!(next.state(&grant).await, GrantState::Failed);
    assert!(next.grant(&grant).await.evidence.is_some());
    assert!(table(&world, made).await.is_empty());
    log_explains_rows(&next).await;
}

/// What this process logs of Tidegate, down to the finest level.
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Capture;

impl std::io::Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle.as_bytes())
}

fn files_of(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() { files_of(&entry, found) } else { found.push(entry) }
    }
}

async fn p04_a_secret_is_written_nowhere(db: Db) {
    let subscriber = tracing_subscriber::fmt().with_env_filter("tidegate=trace").with_writer(|| Capture).finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
    let world = World::on(db).await;
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    let mut secrets: Vec<String> = Vec::new();
    for entitlement in [READ, "ssh:web-login"] {
        let grant = world.open("ana", entitlement, 600).await;
        for _ in 0..2 {
            let handover = world.broker.claim(&ana, grant_id(&grant.id)).await.unwrap();
            secrets.extend(handover.minted.secrets.iter().map(|(_, s)| s.expose().to_owned()));
        }
    }
    let personal = world.broker.create_token(&ana, None, "laptop".to_owned(), None).await.unwrap();
    secrets.push(personal.token.expose().to_owned());
    let new = NewWorkload {
        name: "canary".to_owned(),
        display_name: None,
        kind: IdentityKind::Workload,
        owner: None,
        backup_owner: None,
        team: None,
        groups: Vec::new(),
        secret_ttl: None,
    };
    let workload = world.broker.register_workload(&eve, new).await.unwrap();
    let client_secret = workload.client_secret.unwrap();
    let issued = world.broker.client_token(&workload.client_id, &client_secret, None).await.unwrap();
    world.broker.authenticate(personal.token.expose(), "test").await.unwrap();
    world.broker.introspect(&eve, issued.access_token.expose()).await.unwrap();
    secrets.extend([client_secret, issued.access_token.expose().to_owned()]);
    world.advance(601);
    world.settle().await;
    world.broker.seal().await.unwrap();
    // Pieces that are long enough to be unmistakable: lines of keys, parts of tokens.
    let pieces: Vec<String> = secrets
        .iter()
        .flat_map(|s| s.split(['.', '\n']))
        .filter(|p| p.len() > 30 && !p.starts_with("-----") && !p.starts_with("ssh-") && !p.starts_with("eyJ"))
        // Also a part of one is too much.
        .map(|p| p.chars().take(32).collect())
        .collect();
    assert!(pieces.len() >= 6, "{}", pieces.len());
    let mut places: Vec<(String, Vec<u8>)> = vec![("the log".to_owned(), LOGGED.lock().unwrap().clone())];
    assert!(!places[0].1.is_empty(), "the log was captured");
    for leaf in world.store().events(&AuditFilter::default(), 0, 10_000).await.unwrap().items {
        places.push((format!("event {}", leaf.seq), leaf.leaf.into_bytes()));
    }
    let mut files = Vec::new();
    files_of(world.data_dir.parent().unwrap(), &mut files);
    assert!(db == Db::Postgres || files.iter().any(|f| f.ends_with("ledger.db")), "{files:?}");
    places.extend(files.iter().map(|f| (f.display().to_string(), std::fs::read(f).unwrap_or_default())));
    if db == Db::Postgres {
        for name in table(&world, "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").await {
            let rows = table(&world, &format!("SELECT t::text FROM {name} t")).await;
            places.push((name, rows.join("\n").into_bytes()));
        }
    }
    for (place, bytes) in &places {
        for piece in &pieces {
            assert!(!holds(bytes, piece), "a secret is in {place}");
        }
    }
    // The search finds what is there: hashes stand for the tokens.
    assert!(places.iter().any(|(_, bytes)| holds(bytes, "token.created")));
}

/// Let retries come due until the grant is quarantined.
async fn until_quarantined(world: &World, grant: &str) {
    for _ in 0..10 {
        world.advance(901);
        world.workers.round().await.unwrap();
        if world.state(grant).await == GrantState::Quarantined {
            return;
        }
    }
    panic!("{:?}", world.grant(grant).await);
}

async fn p05_a_lying_target_ends_in_quarantine_and_not_in_ended(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 60).await;
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Lies);
    until_quarantined(&world, &grant.id).await;
    let stuck = world.grant(&grant.id).await;
    assert!(stuck.evidence.is_none() && stuck.ended_at.is_none());
    assert!(stuck.last_error.unwrap().contains("still there"));
    assert!(!story_of(&world, &grant.id).await.contains(&"grant.ended".to_owned()));
    // One that cannot say whether it is gone is believed no more than one that says no.
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Honest);
    world.faults(DIRECTORY).set(Call::Verify, Behaviour::Fails(1));
    world.advance(901);
    world.workers.round().await.unwrap();
    assert_eq!(world.state(&grant.id).await, GrantState::Quarantined);
    world.advance(901);
    world.settle().await;
    let ended = world.grant(&grant.id).await;
    assert_eq!(ended.state, GrantState::Ended);
    assert_eq!(ended.evidence.unwrap()["row_of_this_grant"], "absent");
}

async fn p06_revocation_is_tried_for_ever_and_attested_only_by_a_named_person(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 60).await;
    let id = grant_id(&grant.id);
    let (ana, eve) = (world.who("ana").await, world.who("eve").await);
    refused!(world.broker.attest(&eve, id, "x".into()).await, BrokerError::State(_));
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Refuses);
    until_quarantined(&world, &grant.id).await;
    let mut waits = Vec::new();
    for _ in 0..25 {
        let row = world.grant(&grant.id).await;
        let wait = row.due_at.expect("a next try").since(world.now());
        waits.push(wait.as_secs());
        world.advance(wait.as_secs() + 1);
        let before = world.faults(DIRECTORY).calls(Call::Revoke);
        world.workers.round().await.unwrap();
        assert_eq!(world.faults(DIRECTORY).calls(Call::Revoke), before + 1, "tried again");
        assert_eq!(world.state(&grant.id).await, GrantState::Quarantined);
    }
    assert!(waits.iter().all(|w| *w <= 900) && *waits.last().unwrap() >= 600, "{waits:?}");
    // Alerted and listed.
    assert!(world.actions().await.contains(&"grant.quarantined".to_owned()));
    assert_eq!(world.store().revocation_health().await.unwrap().0, 1);
    let listed = GrantQuery { state: Some(GrantState::Quarantined), ..GrantQuery::default() };
    assert_eq!(world.broker.grants(&eve, listed).await.unwrap().items[0].id, grant.id);
    // Away only by a named person who administers, with a reason, and not for oneself.
    refused!(world.broker.attest(&ana, id, "gone".into()).await, BrokerError::Forbidden(_));
    refused!(world.broker.attest(&eve, id, " ".into()).await, BrokerError::Invalid { field: "reason", .. });
    let mut robot = world.who("deploy-bot").await;
    robot.actor.groups.insert("tidegate-admins".to_owned());
    refused!(world.broker.attest(&robot, id, "gone".into()).await, BrokerError::Forbidden(_));
    let mut holder = ana;
    holder.actor.groups.insert("tidegate-admins".to_owned());
    refused!(world.broker.attest(&holder, id, "gone".into()).await, BrokerError::Forbidden(_));
    let view = world.broker.attest(&eve, id, "the group was deleted by hand".into()).await.unwrap();
    assert_eq!(view.state, GrantState::Ended);
    let evidence = view.evidence.unwrap();
    assert_eq!((evidence["name"].as_str(), evidence["verified"].as_bool()), (Some("eve"), Some(false)));
    let attested = events(&world).await.into_iter().find(|e| e.action == "grant.attested").unwrap();
    assert_eq!(attested.actor, Some(eve.actor_id()));
    // And what was attested wrongly is found by the sweep.
    world.faults(DIRECTORY).heal();
    let swept = world.broker.sweep_target(&eve, DIRECTORY).await.unwrap();
    assert_eq!(swept.orphans_ended.len(), 1);
}

async fn p07_one_bad_row_or_target_harms_only_itself(db: Db) {
    let world = World::on(db).await;
    person(&world, "cleo", &["approvers"]).await;
    let bad = world.open("ana", READERS, 60).await;
    let good = world.open("ben", READERS, 60).await;
    let token = world.open("ana", READ, 60).await;
    let pending = world.ask("ana", want(ADMIN, 60)).await.unwrap();
    let unreadable = world.ask("ana", want(ADMIN, 60)).await.unwrap();
    sql(&world, &format!("UPDATE grants SET recipe = '{{' WHERE id = '{}'", bad.id)).await;
    sql(&world, &format!("UPDATE requests SET needs = '[' WHERE id = '{}'", unreadable.id)).await;
    sql(&world, "UPDATE identities SET attributes = 'x' WHERE name = 'cleo'").await;
    // Asking and listing go on.
    world.ask("ana", want(ADMIN, 60)).await.unwrap();
    let eve = world.who("eve").await;
    assert_eq!(world.broker.grants(&eve, GrantQuery::default()).await.unwrap().items.len(), 2);
    assert!(world.broker.requests(&eve, RequestQuery::default()).await.unwrap().items.len() >= 4);
    world.broker.identities(&eve, Paging::default()).await.unwrap();
    world.broker.sweep_target(&eve, DIRECTORY).await.unwrap();
    // Ending goes on, beside the row that does not decode.
    world.advance(61);
    world.settle().await;
    assert_eq!(world.state(&good.id).await, GrantState::Ended);
    assert_eq!(world.state(&token.id).await, GrantState::Ended);
    assert!(world.actions().await.contains(&"grant.unreadable".to_owned()));
    // Its recipe is lost; what the target itself shows of it is ended.
    world.broker.sweep_target(&eve, DIRECTORY).await.unwrap();
    assert!(table(&world, "SELECT grant_id FROM memberships WHERE grant_id <> ''").await.is_empty());
    // Lapsing goes on, and a kill switch still falls.
    world.advance(5 * 3600);
    world.settle().await;
    assert_eq!(request_state(&world, &pending).await, RequestState::Lapsed);
    let row = table(&world, &format!("SELECT state FROM requests WHERE id = '{}'", unreadable.id)).await;
    assert_eq!(row, ["lapsed"]);
    let live = world.open("ben", READERS, 60).await;
    let broken = world.open("ana", READERS, 60).await;
    sql(&world, &format!("UPDATE grants SET recipe = '{{' WHERE id = '{}'", broken.id)).await;
    let lock = NewLock { kind: LockKind::Target, value: DIRECTORY.to_owned(), reason: "incident".to_owned() };
    world.broker.lock(&eve, lock).await.unwrap();
    world.settle().await;
    assert_eq!(world.state(&live.id).await, GrantState::Ended);
}

async fn p07_a_hanging_target_and_a_panicking_connector_harm_only_themselves(db: Db) {
    let world = World::on(db).await;
    let plan = Plan::on(db);
    with_workers(&world, plan, async |other| {
        let member = other.open("ana", READERS, 60).await;
        let shell = other.open("ana", "ssh:web-login", 60).await;
        let token = other.open("ana", READ, 60).await;
        other.faults(DIRECTORY).set(Call::Revoke, Behaviour::Hangs);
        other.faults("dev-ssh").set(Call::Revoke, Behaviour::Panics);
        other.faults("dev-ssh").set(Call::Verify, Behaviour::Panics);
        other.advance(61);
        let ended = becomes(other, &token.id, GrantState::Ended);
        tokio::time::timeout(Duration::from_secs(9), ended).await.expect("before the hanging call is given up");
        // Each target has its own loop: these have begun, or begin in a moment, and do not end.
        becomes(other, &member.id, GrantState::Revoking).await;
        becomes(other, &shell.id, GrantState::Revoking).await;
        other.open("ana", READ, 60).await;
        other.faults("dev-ssh").heal();
        other.faults(DIRECTORY).heal();
        eventually("the panicking one is tried again", || async {
            other.advance(5);
            other.state(&shell.id).await == GrantState::Ended
        })
        .await;
    })
    .await;
}

on_both!(
    p01_no_credential_works_after_its_end,
    p02_with_the_broker_dead_the_access_ends_by_itself,
    p03_what_was_begun_and_not_recorded_is_ended_by_name,
    p04_a_secret_is_written_nowhere,
    p05_a_lying_target_ends_in_quarantine_and_not_in_ended,
    p06_revocation_is_tried_for_ever_and_attested_only_by_a_named_person,
    p07_one_bad_row_or_target_harms_only_itself,
    p07_a_hanging_target_and_a_panicking_connector_harm_only_themselves,
);
