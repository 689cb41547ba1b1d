//! What is measured and printed, not asserted: `cargo test --release --features failpoints --test it -- measured
//! --include-ignored --nocapture --test-threads 1`. The figures belong to the machine; see `docs/performance.md`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tidegate::{
    app::{Composed, Policies, Setup, compose, seed_directory, seed_targets},
    broker::{Broker, Settings},
    connectors::faulty::{Behaviour, Call, Faults, Faulty},
    domain::{catalog::TargetConfig, grant::GrantState, id::CorrelationId, time::Timestamp},
    ports::{
        clock::{Clock, SystemClock},
        connector::Presence,
        entropy::SystemEntropy,
    },
    store::Options,
    worker::Rhythm,
};

use crate::{
    connectors_postgres::{LONG, World, new_grant, now},
    servers::postgres::Postgres,
    world::want,
};

#[allow(clippy::disallowed_methods, reason = "a test measures")]
fn stopwatch() -> std::time::Instant {
    std::time::Instant::now()
}

/// Roles that are made and ended.
const ROLES: usize = 1_000;
const CONNECTIONS: usize = 8;
const AT_ONCE: usize = 32;

/// The bare loop sends the statements that the connector sends, over as many connections, and looks at no answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; see docs/performance.md"]
async fn postgres_measured_against_a_bare_client() {
    let server = Postgres::dedicated(&["fsync=off"]);
    let w = World::new(&server).await;
    let rate = |took: Duration| ROLES as f64 / took.as_secs_f64();
    let c = w.connector_with(&json!({ "pool_size": CONNECTIONS }));

    // Rounds take turns, and the best of each counts.
    let (mut best, mut bare) = ([Duration::MAX; 2], [Duration::MAX; 2]);
    for _ in 0..3 {
        for (least, took) in bare.iter_mut().zip(bare_loop(&w).await) {
            *least = took.min(*least);
        }
        let mut intents = Vec::new();
        for _ in 0..ROLES {
            intents.push(w.intent(c.as_ref(), LONG).await);
        }
        let started = stopwatch();
        let c = &c;
        let open = |i| async move { c.activate(i).await.map(drop).unwrap() };
        futures::stream::iter(&intents).map(open).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        best[0] = best[0].min(started.elapsed());
        let started = stopwatch();
        let end = |i: &tidegate::domain::grant::Intent| {
            let recipe = i.recipe.clone();
            async move {
                c.revoke(&recipe).await.unwrap();
                assert!(matches!(c.verify(&recipe).await, Presence::Absent(_)));
            }
        };
        futures::stream::iter(&intents).map(end).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        best[1] = best[1].min(started.elapsed());
    }
    for (what, (ours, bare)) in ["opened", "ended and verified"].iter().zip(best.into_iter().zip(bare)) {
        eprintln!(
            "PostgreSQL roles {what} a second: {:.0} (bare {:.0}, ratio {:.2})",
            rate(ours),
            rate(bare),
            bare.as_secs_f64() / ours.as_secs_f64()
        );
    }
}

/// What opening, and what ending and looking, takes a client that does nothing else.
async fn bare_loop(w: &World<'_>) -> [Duration; 2] {
    let options = w.server.options(&w.name("broker"), crate::connectors_postgres::BROKER_PASSWORD, &w.database);
    let pool: Vec<tokio::sync::Mutex<PgConnection>> = futures::stream::iter(0..CONNECTIONS)
        .then(|_| async { tokio::sync::Mutex::new(PgConnection::connect_with(&options).await.unwrap()) })
        .collect()
        .await;
    let names: Vec<String> =
        (0..ROLES).map(|_| format!("bare_{}", new_grant().ulid().to_string().to_lowercase())).collect();
    let (pool, app) = (&pool, w.name("app"));
    let facts = |name: &str| {
        format!(
            "SELECT r.rolname::text, r.oid::int8, shobj_description(r.oid, 'pg_authid'), \
             (extract(epoch FROM r.rolvaliduntil) * 1000000)::int8, r.rolconnlimit, \
             (SELECT coalesce(json_agg(g.rolname ORDER BY g.rolname), '[]')::text FROM pg_auth_members m \
             JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid) FROM pg_roles r WHERE r.rolname = '{name}'"
        )
    };
    let cut = |name: &str| {
        format!(
            "SELECT (SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a WHERE a.usename = '{name}'), \
             (SELECT coalesce(json_agg(x.datname), '[]')::text FROM (SELECT d.datname FROM pg_shdepend s \
             LEFT JOIN pg_database d ON d.oid = s.dbid WHERE s.refclassid = 'pg_authid'::regclass \
             AND s.refobjid = (SELECT oid FROM pg_roles WHERE rolname = '{name}') \
             UNION SELECT p.database FROM pg_prepared_xacts p WHERE p.owner = '{name}') x)"
        )
    };
    let seen = |name: &str| {
        format!(
            "SELECT pg_is_in_recovery(), (SELECT count(*) FROM pg_roles WHERE rolname = '{name}'), \
             (SELECT count(*) FROM pg_stat_activity WHERE usename = '{name}'), \
             (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid <> 0 \
             AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = a.usesysid)), current_setting('server_version'), \
             (SELECT system_identifier::text FROM pg_control_system())"
        )
    };
    let open = |name: &str| {
        vec![format!(
            "CREATE ROLE \"{name}\" NOLOGIN CONNECTION LIMIT -1 VALID UNTIL '2100-01-01' IN ROLE \"{app}\"; \
             COMMENT ON ROLE \"{name}\" IS 'bare'; {}",
            facts(name)
        )]
    };
    let end = |name: &str| {
        vec![
            facts(name),
            format!(
                "BEGIN; ALTER ROLE \"{name}\" NOLOGIN PASSWORD NULL VALID UNTIL '-infinity'; COMMIT; {}",
                cut(name)
            ),
            format!("BEGIN; DROP ROLE IF EXISTS \"{name}\"; COMMIT; {}", cut(name)),
            seen(name),
        ]
    };
    let mut took = [Duration::ZERO; 2];
    for (all, took) in [&open as &(dyn Fn(&str) -> Vec<String> + Sync), &end].into_iter().zip(&mut took) {
        let started = stopwatch();
        let work = names.iter().enumerate().map(|(n, name)| {
            let texts = all(name);
            async move {
                for text in texts {
                    let mut connection = pool[n % CONNECTIONS].lock().await;
                    sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut *connection).await.unwrap();
                }
            }
        });
        futures::stream::iter(work).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        *took = started.elapsed();
    }
    took
}

/// Grants of the healthy targets in each phase.
const GRANTS: u32 = 600;
/// What is due at the target that hangs.
const STUCK: u32 = 200;
/// Ends are spread over these seconds.
const SPREAD: u32 = 30;

/// One target that hangs, and how late the others' grants end: p99 with and without it, in turns on one broker.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; see docs/performance.md"]
async fn a_hanging_target_measured_by_the_lag_of_the_others() {
    const HANGING: &str = "dev-directory";
    let home = tempfile::tempdir().unwrap();
    let faults: Arc<std::sync::Mutex<BTreeMap<String, Arc<Faults>>>> = Arc::default();
    let wrap = {
        let faults = Arc::clone(&faults);
        move |config: &TargetConfig, connector| {
            let (wrapped, handle) = Faulty::around(connector);
            faults.lock().unwrap().insert(config.id.to_string(), handle);
            wrapped
        }
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let Composed { broker, workers, .. } = compose(Setup {
        database: Options::sqlite(&home.path().join("ledger.db")),
        data_dir: home.path().join("data"),
        policies: Policies::Seed,
        targets: seed_targets(),
        applications: Vec::new(),
        sources: Vec::new(),
        notifiers: Vec::new(),
        slack: None,
        issuer: "http://127.0.0.1:8420".to_owned(),
        settings: Settings { max_live_grants: None, ..Settings::default() },
        rhythm: Rhythm::default(),
        clock: Arc::clone(&clock),
        entropy: Arc::new(SystemEntropy::new()),
        observe: false,
        wrap: Some(Box::new(wrap)),
    })
    .await
    .unwrap();
    seed_directory().unwrap().apply(broker.store(), broker.entropy(), clock.now()).await.unwrap();
    let running = tokio::spawn(workers.run());
    let hanging = Arc::clone(&faults.lock().unwrap()[HANGING]);
    let mut lags: [Vec<f64>; 2] = Default::default();
    for round in 0..4 {
        let hangs = round % 2 == 1;
        if hangs {
            hanging.set(Call::Revoke, Behaviour::Hangs);
            hanging.set(Call::Verify, Behaviour::Hangs);
            for _ in 0..STUCK {
                open(&broker, clock.as_ref(), "directory:readers", 1).await;
            }
        }
        let mut grants = Vec::new();
        for n in 0..GRANTS {
            let entitlement = if n % 2 == 0 { "tokens:orders-read" } else { "ssh:web-login" };
            grants.push(open(&broker, clock.as_ref(), entitlement, 5 + n % SPREAD).await);
        }
        for id in grants {
            lags[usize::from(hangs)].push(ended(&broker, &id).await);
        }
        hanging.heal();
    }
    for lags in &mut lags {
        lags.sort_by(f64::total_cmp);
    }
    let at = |lags: &[f64], share: usize| lags[(lags.len() * share / 100).min(lags.len() - 1)];
    for (lags, what) in lags.iter().zip(["all are well", "one of three hangs"]) {
        eprintln!(
            "revocation lag of {} grants, {what}: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
            lags.len(),
            at(lags, 50) * 1e3,
            at(lags, 99) * 1e3,
            at(lags, 100) * 1e3
        );
    }
    eprintln!("the others' p99 with one that hangs: {:+.1} %", (at(&lags[1], 99) / at(&lags[0], 99) - 1.0) * 100.0);
    broker.close(Duration::from_secs(5)).await;
    running.abort();
}

async fn open(broker: &Arc<Broker>, clock: &dyn Clock, entitlement: &str, seconds: u32) -> String {
    let now = clock.now();
    let actor = broker.store().subject_by_name("ana", now).await.unwrap().expect("ana");
    let correlation = CorrelationId::new(broker.entropy().ulid(now).unwrap());
    let ctx = tidegate::broker::Ctx { actor, via: "test", correlation, now, until: None, session: None };
    match broker.ask(&ctx, want(entitlement, seconds)).await.unwrap() {
        tidegate::broker::view::Asked::Recorded(view) => view.grants[0].id.clone(),
        _ => panic!("not recorded"),
    }
}

/// Seconds from the grant's end to the proof of it.
async fn ended(broker: &Arc<Broker>, id: &str) -> f64 {
    for _ in 0..1_200 {
        let grant = broker.store().grant(id.parse().unwrap()).await.unwrap().expect("a grant");
        if grant.state == GrantState::Ended {
            let (due, at): (Timestamp, Timestamp) = (grant.not_after.unwrap(), grant.ended_at.unwrap());
            return at.since(due).as_secs_f64();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{id} does not end; now {}", now());
}
