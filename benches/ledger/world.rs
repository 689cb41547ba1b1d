//! A broker with people who may ask.

use std::{path::Path, sync::Arc};

use tidegate::{
    app::{Composed, Policies, Setup, compose, seed_directory, seed_targets},
    broker::{Broker, Ctx, Settings},
    domain::{
        id::{CorrelationId, IdentityId},
        identity::{Identity, IdentityKind},
    },
    ports::{clock::SystemClock, entropy::SystemEntropy},
    store::Options,
    worker::Rhythm,
};

pub const CALLERS: usize = 64;

/// Latencies in seconds, sorted.
pub struct Latencies(Vec<f64>);

impl Latencies {
    pub fn new(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self(all)
    }

    pub fn at(&self, quantile: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * quantile) as usize).copied().unwrap_or(0.0)
    }

    pub fn line(&self) -> String {
        let ms = |q| self.at(q) * 1e3;
        format!("p50 {:.2} ms  p99 {:.2} ms  max {:.2} ms", ms(0.5), ms(0.99), ms(1.0))
    }
}

pub async fn compose_at(home: &Path, database: Option<&str>) -> Composed {
    let composed = compose(Setup {
        database: database.map_or_else(|| Options::sqlite(&home.join("ledger.db")), Options::new),
        data_dir: home.join("data"),
        policies: Policies::Seed,
        slack: None,
        targets: seed_targets(),
        applications: Vec::new(),
        sources: Vec::new(),
        notifiers: Vec::new(),
        issuer: "http://127.0.0.1:8420".to_owned(),
        settings: Settings { max_live_grants: None, ..Settings::default() },
        rhythm: Rhythm::default(),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy::new()),
        observe: false,
        wrap: None,
    })
    .await
    .unwrap();
    let b = &composed.broker;
    seed_directory().unwrap().apply(b.store(), b.entropy(), b.now()).await.unwrap();
    composed
}

/// So many engineers.
pub async fn engineers(broker: &Broker, count: usize) -> Vec<IdentityId> {
    let now = broker.now();
    let group = broker.store().group("engineers").await.unwrap().unwrap();
    let mut ids = Vec::new();
    for i in 0..count {
        let name = format!("engineer-{i}");
        if let Some(there) = broker.store().subject_by_name(&name, now).await.unwrap() {
            ids.push(there.identity.id);
            continue;
        }
        let id = IdentityId::new(broker.entropy().ulid(now).unwrap());
        let new = Identity {
            attributes: [("department".to_owned(), "engineering".to_owned())].into(),
            ..Identity::new(id, IdentityKind::Person, name)
        };
        let mut tx = broker.store().begin().await.unwrap();
        let made = async {
            tx.insert_identity(&new, now).await?;
            tx.add_standing(group.id, &[new.id], None, now).await
        }
        .await;
        tx.end(made).await.unwrap().unwrap();
        ids.push(new.id);
    }
    ids
}

pub async fn ctx(broker: &Broker, id: IdentityId) -> Ctx {
    let now = broker.now();
    let actor = broker.store().subject(id, now).await.unwrap().unwrap();
    Ctx {
        actor,
        via: "bench",
        correlation: CorrelationId::new(broker.entropy().ulid(now).unwrap()),
        now,
        until: None,
        session: None,
    }
}

/// Seconds of processor time that this process has used.
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit(')').next().unwrap();
    let ticks: f64 = after.split_whitespace().skip(11).take(2).map(|t| t.parse::<f64>().unwrap()).sum();
    ticks / 100.0
}
