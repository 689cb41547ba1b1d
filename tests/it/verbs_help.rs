//! What the tests of the verbs share: people, raw SQL past the store, and short ways to say common things.

use std::{future::Future, path::Path, time::Duration};

use sqlx::{AssertSqlSafe, ConnectOptions, Row, any::AnyConnectOptions};
use tidegate::{
    app::Policies,
    broker::{
        BrokerError,
        input::{Ask, Decide},
        view::RequestView,
    },
    connectors::faulty::Call,
    domain::{
        audit::Event,
        grant::GrantState,
        id::{GrantId, IdentityId, LockId, RequestId},
        identity::{Identity, IdentityKind},
        request::RequestState,
        time::Ttl,
    },
    store::{AuditFilter, StoreError},
};

use crate::world::{Db, Plan, World, want};

pub const READ: &str = "tokens:orders-read";
pub const ADMIN: &str = "tokens:orders-admin";
pub const LEDGER: &str = "tokens:ledger-admin";
pub const READERS: &str = "directory:readers";
pub const ONCALL: &str = "directory:oncall";
/// The rule for emergencies, in the policies that ship.
pub const EMERGENCY: &str = "@id(\"oncall-asks-ledger-emergency\")";
pub const DIRECTORY: &str = "dev-directory";
pub const TOKEN: &str = "dev-token";

/// A world whose targets are given up on after a second.
pub async fn hasty(db: Db) -> World {
    plan(db).build().await
}

pub fn plan(db: Db) -> Plan {
    let mut plan = Plan::on(db);
    for target in &mut plan.targets {
        target.timeout_seconds = 1;
    }
    plan
}

/// A copy of the policies that ship, to be edited.
pub fn policies(dir: &Path) -> Policies {
    for file in ["access.cedar", "catalog.toml", "guardrails.cedar", "schema.cedarschema"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(file);
        std::fs::copy(from, dir.join(file)).unwrap();
    }
    Policies::Directory(dir.to_owned())
}

/// Replace a text in a file that must have it.
pub fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {}", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

/// Run statements past the store.
pub async fn sql(world: &World, text: &str) {
    let options: AnyConnectOptions = world.database.url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap_or_else(|e| panic!("{text}: {e}"));
}

/// The rows of a statement, columns joined by `|`, past the store. Texts only: cast the others.
pub async fn table(world: &World, text: &str) -> Vec<String> {
    let options: AnyConnectOptions = world.database.url.parse().unwrap();
    let mut connection = options.connect().await.unwrap();
    let rows = sqlx::query(AssertSqlSafe(text)).fetch_all(&mut connection).await.unwrap();
    rows.iter()
        .map(|row| {
            let cells = (0..row.len()).map(|i| row.try_get::<Option<String>, _>(i).unwrap().unwrap_or_default());
            cells.collect::<Vec<_>>().join("|")
        })
        .collect()
}

/// Somebody more in the directory.
pub async fn person(world: &World, name: &str, groups: &[&str]) -> IdentityId {
    let now = world.now();
    let id = IdentityId::new(world.broker.entropy().ulid(now).unwrap());
    let new = Identity::new(id, IdentityKind::Person, name);
    let mut ids = Vec::new();
    for group in groups {
        ids.push(world.store().group(group).await.unwrap().expect("a seeded group").id);
    }
    loop {
        let mut tx = world.store().begin().await.unwrap();
        let written = async {
            tx.insert_identity(&new, now).await?;
            for group in &ids {
                tx.add_standing(*group, &[new.id], None, now).await?;
            }
            Ok::<_, StoreError>(())
        }
        .await;
        if let Some(result) = tx.end(written).await {
            result.unwrap();
            return new.id;
        }
    }
}

/// A kill switch that fell while another broker was in the middle of something: nothing is ended by it here.
pub async fn lock_by_sql(world: &World, kind: &str, value: &str) {
    let lock = LockId::new(world.broker.entropy().ulid(world.now()).unwrap());
    let eve = world.who("eve").await.actor_id();
    let text = format!(
        "INSERT INTO locks (id, kind, value, reason, actor_id, created_at) \
         VALUES ('{lock}', '{kind}', '{value}', 'incident', '{eve}', 0)"
    );
    sql(world, &text).await;
}

/// Take somebody out of all groups, as the source of truth would.
pub async fn leaves_groups(world: &World, name: &str) {
    let id = world.who(name).await.actor_id();
    sql(world, &format!("DELETE FROM memberships WHERE identity_id = '{id}' AND grant_id = ''")).await;
}

pub fn wants(entitlements: &[&str], seconds: u32) -> Ask {
    Ask { entitlements: entitlements.iter().map(|e| (*e).to_owned()).collect(), ..want("", seconds) }
}

pub fn ttl(seconds: u32) -> Ttl {
    Ttl::from_seconds(seconds).unwrap()
}

pub fn request_id(view: &RequestView) -> RequestId {
    view.id.parse().unwrap()
}

pub fn grant_id(id: &str) -> GrantId {
    id.parse().unwrap()
}

pub async fn approve(world: &World, who: &str, request: &RequestView) -> Result<RequestView, BrokerError> {
    world.broker.approve(&world.who(who).await, request_id(request), Decide::default()).await
}

pub async fn deny(world: &World, who: &str, request: &RequestView) -> Result<RequestView, BrokerError> {
    world.broker.deny(&world.who(who).await, request_id(request), Decide::default()).await
}

pub async fn request_state(world: &World, request: &RequestView) -> RequestState {
    world.store().request(request_id(request)).await.unwrap().unwrap().state
}

/// Make `ana` on call, so that she may ask for the ledger.
pub async fn on_call(world: &World) {
    world.open("ana", ONCALL, 7 * 86_400).await;
}

/// Ask for the ledger as somebody on call, with a ticket.
pub async fn ask_ledger(world: &World) -> RequestView {
    let ask = Ask { ticket: Some("INC-7".to_owned()), ..want(LEDGER, 600) };
    world.ask("ana", ask).await.unwrap()
}

/// Every event of the audit log.
pub async fn events(world: &World) -> Vec<Event> {
    let page = world.store().events(&AuditFilter::default(), 0, 100_000).await.unwrap();
    page.items.iter().map(|e| serde_json::from_str(&e.leaf).unwrap()).collect()
}

/// Actions of the events about one grant.
pub async fn story_of(world: &World, grant: &str) -> Vec<String> {
    let id = grant_id(grant);
    events(world).await.into_iter().filter(|e| e.grant == Some(id)).map(|e| e.action).collect()
}

/// Groups of somebody at this moment.
pub async fn groups(world: &World, name: &str) -> Vec<String> {
    world.who(name).await.actor.groups.into_iter().collect()
}

/// Wait until something holds that other tasks bring about.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            // No event tells of all of it; busy waiting would hold up what is waited for.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Wait until a call to the target has begun.
pub async fn called(world: &World, target: &str, call: Call, times: u64) {
    eventually("the call", || async { world.faults(target).calls(call) >= times }).await;
}

/// What a claim handed over: the token.
pub async fn claim(world: &World, who: &str, grant: &str) -> Result<String, BrokerError> {
    let handover = world.broker.claim(&world.who(who).await, grant_id(grant)).await?;
    Ok(handover.minted.secrets[0].1.expose().to_owned())
}

/// Does a verifier that asks see a live token?
pub async fn is_live(world: &World, token: &str) -> bool {
    let answer = world.broker.introspect(&world.who("eve").await, token).await.unwrap();
    answer["active"].as_bool().unwrap()
}

/// Let time pass in steps until nothing more is live, as retries come due.
pub async fn wind_down(world: &World) {
    for _ in 0..40 {
        world.advance(1000);
        world.settle().await;
        let live = table(world, "SELECT id FROM grants WHERE state NOT IN ('ended', 'failed')").await;
        if live.is_empty() {
            return;
        }
    }
    panic!("something stays live");
}

/// The states of all grants.
pub async fn states(world: &World) -> Vec<GrantState> {
    let rows = table(world, "SELECT state FROM grants ORDER BY id").await;
    rows.iter().map(|s| GrantState::parse(s).unwrap()).collect()
}

macro_rules! refused {
    ($result:expr, $kind:pat) => {
        match $result {
            Err($kind) => {}
            Err(other) => panic!("another error: {other:?}"),
            Ok(_) => panic!("it was not refused"),
        }
    };
}
pub(crate) use refused;
