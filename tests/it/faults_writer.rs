//! The shared commits: changes that fail, are dropped half-way or are given up must take nothing of the others along,
//! and leave nothing of themselves.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sqlx::{AnyConnection, Connection, Row};
use tidegate::{
    domain::{
        audit::Event,
        grant::GrantState,
        id::{CorrelationId, EventId, GrantId, MessageId},
        time::Timestamp,
    },
    ports::notifier::Message,
    store::{Change, Ended, Options, Store, StoreError},
};

use crate::{
    on_both,
    world::{Db, World},
};

const CHANGES: u64 = 400;

fn event(n: u64) -> Event {
    Event {
        id: EventId::new(ulid::Ulid::from_parts(n, 1)),
        at: Timestamp::from_seconds(1),
        action: "test.change".to_owned(),
        actor: None,
        via: "test".to_owned(),
        subject: None,
        request: None,
        grant: None,
        target: None,
        correlation: CorrelationId::new(ulid::Ulid::from_parts(n, 2)),
        cause: None,
        details: serde_json::json!({"n": n}),
    }
}

/// What a change does in the middle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds,
    /// Writes, then says no.
    Fails,
    /// Writes, then is dropped.
    Dropped,
    /// Writes, says no, and is dropped while it is taken back.
    FailsAndGivenUp,
    /// Is dropped at any instant: it may have been committed, or not, but not in part.
    GivenUp,
}

fn fate(n: u64) -> Fate {
    match n % 10 {
        2 | 7 => Fate::Fails,
        4 => Fate::Dropped,
        5 => Fate::FailsAndGivenUp,
        9 => Fate::GivenUp,
        _ => Fate::Succeeds,
    }
}

async fn change(store: &Store, n: u64, fate: Fate) -> Result<(), StoreError> {
    loop {
        let mut tx = store.begin().await?;
        let written = async {
            tx.set_meta(&format!("test-{n}"), "a").await?;
            tx.set_meta(&format!("test-{n}-too"), "b").await?;
            tx.audit(event(n));
            if matches!(fate, Fate::Fails | Fate::FailsAndGivenUp) { Err(StoreError::Conflict) } else { Ok(()) }
        }
        .await;
        if fate == Fate::Dropped {
            drop(tx);
            return Err(StoreError::Conflict);
        }
        if let Some(result) = tx.end(written).await {
            return result;
        }
    }
}

async fn run(store: Arc<Store>, n: u64) -> Option<Result<(), StoreError>> {
    match fate(n) {
        // Spread over the whole life of a change, from the queue to the commit.
        fate @ (Fate::GivenUp | Fate::FailsAndGivenUp) => {
            let patience = Duration::from_micros((n * 7919) % 20_000);
            tokio::time::timeout(patience, change(&store, n, fate)).await.ok()
        }
        fate => Some(change(&store, n, fate).await),
    }
}

async fn names(world: &World) -> BTreeSet<String> {
    let mut ledger = AnyConnection::connect(&world.database.url).await.unwrap();
    let rows = sqlx::query("SELECT name FROM meta WHERE name LIKE 'test-%'").fetch_all(&mut ledger).await.unwrap();
    rows.iter().map(|r| r.get(0)).collect()
}

async fn changes_harm_only_themselves(db: Db) {
    let world = World::on(db).await;
    let store = Arc::new(world.store().clone());
    let before = store.audit_size().await.unwrap();
    let running: Vec<_> = (0..CHANGES).map(|n| tokio::spawn(run(Arc::clone(&store), n))).collect();
    let mut results = Vec::new();
    for task in running {
        let within = tokio::time::timeout(Duration::from_mins(1), task).await;
        results.push(within.expect("a change never came back").unwrap());
    }
    // Whatever was given up last is taken back before the next change.
    change(&store, CHANGES, Fate::Succeeds).await.unwrap();
    results.push(Some(Ok(())));

    let names = names(&world).await;
    let page = store.events(&tidegate::store::AuditFilter::default(), before, 10_000).await.unwrap();
    let seqs: Vec<u64> = page.items.iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (before..before + seqs.len() as u64).collect::<Vec<_>>(), "{db:?}: the log has holes");
    let logged: Vec<u64> = page
        .items
        .iter()
        .filter_map(|e| serde_json::from_str::<serde_json::Value>(&e.leaf).unwrap()["details"]["n"].as_u64())
        .collect();
    for (n, result) in (0..).zip(&results) {
        let there = names.contains(&format!("test-{n}"));
        let events = logged.iter().filter(|l| **l == n).count();
        assert_eq!(there, names.contains(&format!("test-{n}-too")), "{db:?}: half of {n} was committed");
        assert_eq!(usize::from(there), events, "{db:?}: {n} is there: {there}, and has {events} events");
        match (fate(n), result) {
            (_, Some(Ok(()))) => assert!(there, "{db:?}: {n} was confirmed and is lost"),
            (Fate::Succeeds, other) => panic!("{db:?}: {n} did nothing wrong: {other:?}"),
            (Fate::GivenUp, None) => {}
            (_, other) => assert!(!there, "{db:?}: {n} ended with {other:?} and is there"),
        }
    }
    assert_eq!(page.items.len() as u64, store.audit_size().await.unwrap() - before, "{db:?}");
}

/// A change as rows: `n % 8` says whether its condition holds, and whether a statement fails because of it.
fn rows(n: u64) -> Change {
    let mut change = Change::default();
    let id = if n % 8 == 6 { 0 } else { n };
    let id = MessageId::new(ulid::Ulid::from_parts(id, 3));
    let at = Timestamp::from_seconds(1);
    change.message("nobody", Message { id, kind: "test".to_owned(), at, data: serde_json::Value::Null });
    if n % 8 == 3 {
        // There is no such grant.
        let grant = GrantId::new(ulid::Ulid::from_parts(n, 4));
        change.ended = Some(Ended { grant, epoch: 0, state: GrantState::Ended, evidence: serde_json::Value::Null, at });
    }
    change.audit(event(1_000_000 + n));
    change
}

async fn rows_harm_only_themselves(db: Db) {
    let world = World::on(db).await;
    let store = Arc::new(world.store().clone());
    store.write(rows(0)).await.unwrap();
    let before = store.audit_size().await.unwrap();
    let running: Vec<_> = (1..CHANGES)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                // Statements of others are in the same commits, and fail too.
                let beside = change(&store, n, if n % 5 == 0 { Fate::Fails } else { Fate::Succeeds });
                let own = async {
                    if n % 2 == 0 { store.write(rows(n)).await } else { store.write_background(rows(n)).await }
                };
                let (beside, own) = tokio::join!(beside, own);
                assert_eq!(beside.is_ok(), n % 5 != 0, "{beside:?}");
                own
            })
        })
        .collect();
    let mut good = 0;
    for (n, task) in (1..CHANGES).zip(running) {
        let within = tokio::time::timeout(Duration::from_mins(1), task).await;
        match (n % 8, within.expect("a change never came back").unwrap()) {
            (3, Err(StoreError::Conflict)) | (6, Err(StoreError::Duplicate)) => {}
            (0..=2 | 4 | 5 | 7, Ok(_)) => good += 1,
            (_, other) => panic!("{db:?}: {n} ended with {other:?}"),
        }
    }
    let beside = (1..CHANGES).filter(|n| n % 5 != 0).count() as u64;
    assert_eq!(store.audit_size().await.unwrap() - before, good + beside, "{db:?}: as many events as changes");
    assert_eq!(store.outbox_depth().await.unwrap(), good + 1, "{db:?}");
}

/// Rows whose condition never holds, handed in without end, keep no statements out: each runs again once at most or
/// twice, and then goes before them.
async fn a_stream_of_conflicts_keeps_no_statements_out(db: Db) {
    const STATEMENTS: u64 = 20;
    let world = World::on(db).await;
    let store = Arc::new(world.store().clone());
    let stop = Arc::new(AtomicBool::new(false));
    let streams: Vec<_> = (0..16)
        .map(|stream| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let outcome = store.write(rows(8 * stream + 3)).await;
                    assert!(matches!(outcome, Err(StoreError::Conflict)), "{outcome:?}");
                }
            })
        })
        .collect();
    let before = store.stats().reruns.load(Ordering::Relaxed);
    for n in 0..STATEMENTS {
        let within = tokio::time::timeout(Duration::from_secs(30), change(&store, n, Fate::Succeeds)).await;
        within.unwrap_or_else(|_| panic!("{db:?}: {n} is kept out")).unwrap();
    }
    let reruns = store.stats().reruns.load(Ordering::Relaxed) - before;
    assert!(reruns <= 2 * STATEMENTS, "{db:?}: {reruns} for {STATEMENTS} changes");
    stop.store(true, Ordering::Relaxed);
    for stream in streams {
        stream.await.unwrap();
    }
}

/// Whoever finds nothing to write and says no makes nobody run again.
async fn who_wrote_nothing_disturbs_nobody(db: Db) {
    let world = World::on(db).await;
    let store = Arc::new(world.store().clone());
    let before = store.stats().reruns.load(Ordering::Relaxed);
    let running: Vec<_> = (0..CHANGES)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                if n % 2 == 0 {
                    return change(&store, n, Fate::Succeeds).await;
                }
                let mut tx = store.begin().await?;
                let nobody = MessageId::new(ulid::Ulid::from_parts(n, 9)).to_string();
                let written = tx.settle_message(&nobody, 0, Timestamp::from_seconds(1), None).await;
                assert!(matches!(written, Err(StoreError::Conflict)));
                tx.end(written).await.expect("run again")
            })
        })
        .collect();
    for (n, task) in (0..CHANGES).zip(running) {
        let result = tokio::time::timeout(Duration::from_mins(1), task).await.expect("it never came back").unwrap();
        assert_eq!(result.is_ok(), n % 2 == 0, "{db:?}: {result:?}");
    }
    assert_eq!(store.stats().reruns.load(Ordering::Relaxed), before, "{db:?}");
}

/// Whatever was handed in while the store closes gets an answer.
async fn closing_leaves_nobody_waiting(db: Db) {
    let world = World::on(db).await;
    for round in 0..40 {
        let store = Store::open(&Options::new(world.database.url.as_str())).await.unwrap();
        let running: Vec<_> = (0..8_u64)
            .map(|n| {
                let store = store.clone();
                tokio::spawn(async move {
                    for i in 0.. {
                        let n = (round * 8 + n) * 100_000 + i;
                        let written = if n % 2 == 0 {
                            store.write(Change { events: vec![event(n)], ..Change::default() }).await.map(drop)
                        } else {
                            change(&store, n, Fate::Succeeds).await
                        };
                        if written.is_err() {
                            return;
                        }
                    }
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(2 + round % 7)).await;
        tokio::time::timeout(Duration::from_secs(20), store.close()).await.expect("closing hangs");
        for task in running {
            tokio::time::timeout(Duration::from_secs(20), task).await.expect("somebody waits for ever").unwrap();
        }
    }
}

/// A way to a server that can fall silent: connections stay, and nothing passes.
struct Line {
    port: u16,
    silent: tokio::sync::watch::Sender<bool>,
}

impl Line {
    async fn to(server: String) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silent, hears) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut hears) = (server.clone(), hears.clone());
                tokio::spawn(async move {
                    let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                    let silence = async { drop(hears.wait_for(|silent| *silent).await) };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = silence => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, silent }
    }
}

/// Not refused, not closed: no answer at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_falls_silent_holds_nobody_up_for_long() {
    let world = World::on(Db::Postgres).await;
    let url: url::Url = world.database.url.parse().unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let line = Line::to(server).await;
    let mut through = url.clone();
    through.set_port(Some(line.port)).unwrap();
    let patience = Duration::from_secs(2);
    let store = Store::open(&Options { patience, writers: 1, ..Options::new(through.as_str()) }).await.unwrap();
    change(&store, 1, Fate::Succeeds).await.unwrap();
    line.silent.send_replace(true);
    let silence = async {
        let (rows, statements) = tokio::join!(store.write(rows(2)), change(&store, 3, Fate::Succeeds));
        assert!(matches!(rows, Err(StoreError::Unconfirmed | StoreError::Unavailable(_))), "{rows:?}");
        assert!(statements.is_err(), "{statements:?}");
    };
    tokio::time::timeout(Duration::from_secs(30), silence).await.expect("somebody waits for ever");
    line.silent.send_replace(false);
    let healed = async {
        while let Err(error) = change(&store, 4, Fate::Succeeds).await {
            assert!(error.is_transient(), "{error:?}");
        }
    };
    tokio::time::timeout(Duration::from_secs(30), healed).await.expect("it never came back");
}

on_both!(
    changes_harm_only_themselves,
    rows_harm_only_themselves,
    a_stream_of_conflicts_keeps_no_statements_out,
    who_wrote_nothing_disturbs_nobody,
    closing_leaves_nobody_waiting
);
