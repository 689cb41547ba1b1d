//! State changes a second by broker verbs, 64 callers at once, beside the bare loop.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use tidegate::{
    broker::{Broker, input::Ask, view::Asked},
    domain::{grant::GrantState, time::Ttl},
};

use crate::{
    bare,
    world::{CALLERS, Latencies, compose_at, cpu_seconds, ctx, engineers},
};

const LASTING: Duration = Duration::from_secs(5);

pub fn ask(seconds: u32) -> Ask {
    Ask {
        entitlements: vec!["tokens:orders-read".to_owned()],
        duration: Ttl::from_seconds(seconds),
        reason: "bench".to_owned(),
        ..Ask::default()
    }
}

pub async fn run(database: Option<&str>) {
    let home = tempfile::tempdir().unwrap();
    let composed = compose_at(home.path(), database).await;
    let broker = composed.broker;
    let ids = engineers(&broker, CALLERS * 32).await;
    let mut best = (0.0_f64, Vec::new());
    let (commits, events) = (broker.store().stats().commits.load(Relaxed), broker.store().stats().events.load(Relaxed));
    let (mut limit, mut cpu) = (0.0_f64, 0.0);
    // In turns: what else the machine does meanwhile falls on both.
    for _ in 0..3 {
        let before = cpu_seconds();
        let (rate, latencies) = round(&broker, &ids).await;
        if rate > best.0 {
            cpu = (cpu_seconds() - before) / latencies.len() as f64 * 1e6;
            best = (rate, latencies);
        }
        limit = limit.max(bare::changes_per_second(home.path(), None, LASTING).await);
    }
    let commits = broker.store().stats().commits.load(Relaxed) - commits;
    let events = broker.store().stats().events.load(Relaxed) - events;
    let latencies = Latencies::new(best.1);
    println!("verbs: auto-approved request, create -> active, {CALLERS} callers, best of 3 × {LASTING:?}");
    println!(
        "  broker     {:>8.0} state changes/s   ({:.0} requests/s; {}; {cpu:.0} µs of processor each)",
        best.0,
        best.0 / bare::CHANGES as f64,
        latencies.line()
    );
    println!("  bare loop  {limit:>8.0} state changes/s   (SQLite, same rows, 64 to a commit)");
    println!("  ratio      {:>8.2}   (wanted on SQLite: 0.50)", best.0 / limit);
    println!(
        "  commits    {commits} for {events} state changes: {:.1} to a commit (wanted: 10)",
        events as f64 / commits as f64
    );
}

async fn round(broker: &Arc<Broker>, ids: &[tidegate::domain::id::IdentityId]) -> (f64, Vec<f64>) {
    let start = Instant::now();
    let events = broker.store().stats().events.load(Relaxed);
    let callers: Vec<_> = ids
        .chunks(ids.len() / CALLERS)
        .map(|ids| {
            let (broker, ids) = (Arc::clone(broker), ids.to_vec());
            tokio::spawn(async move {
                let mut people = Vec::new();
                for id in ids {
                    people.push(ctx(&broker, id).await);
                }
                let mut latencies = Vec::new();
                for turn in 0.. {
                    if start.elapsed() >= LASTING {
                        break;
                    }
                    let one = Instant::now();
                    let now = tidegate::broker::Ctx { now: broker.now(), ..people[turn % people.len()].clone() };
                    match broker.ask(&now, ask(3600)).await.unwrap() {
                        Asked::Recorded(view) => assert_eq!(view.grants[0].state, GrantState::Active),
                        other => panic!("{other:?}"),
                    }
                    latencies.push(one.elapsed().as_secs_f64());
                }
                latencies
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    let changes = broker.store().stats().events.load(Relaxed) - events;
    (changes as f64 / start.elapsed().as_secs_f64(), all)
}
