//! A whole broker in this process, on either database, with a clock moved by hand and connectors that can be told to
//! lie, hang and fail.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tidegate::{
    app::{Composed, Policies, Setup, compose, seed_directory, seed_targets},
    broker::{
        Broker, BrokerError, Ctx, InSession, Settings,
        input::{Ask, Decide},
        view::{Asked, GrantView, RequestView},
    },
    config::SlackConfig,
    connectors::faulty::{Faults, Faulty},
    domain::{
        account::ApplicationConfig,
        catalog::TargetConfig,
        grant::{Grant, GrantState},
        id::{CorrelationId, GrantId, RequestId, SessionId},
        roster::SourceConfig,
        time::{Timestamp, Ttl},
    },
    edge::slack::Slack,
    ports::{
        clock::{Clock, ManualClock},
        entropy::SystemEntropy,
    },
    store::{Options, Store},
    worker::{Rhythm, Workers},
};

use crate::servers;

/// On which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Db {
    Sqlite,
    Postgres,
}

/// Where a test's clock begins: a Monday noon.
pub const NOON: &str = "2026-11-23T12:00:00Z";

pub struct World {
    pub broker: Arc<Broker>,
    pub workers: Workers,
    pub slack: Option<Arc<Slack>>,
    pub clock: Arc<ManualClock>,
    /// By target.
    pub faults: BTreeMap<String, Arc<Faults>>,
    pub database: Options,
    pub data_dir: PathBuf,
    home: Arc<tempfile::TempDir>,
}

/// What can be different from the usual world.
pub struct Plan {
    pub db: Db,
    pub settings: Settings,
    pub targets: Vec<TargetConfig>,
    pub applications: Vec<ApplicationConfig>,
    pub sources: Vec<SourceConfig>,
    pub policies: Policies,
    pub slack: Option<SlackConfig>,
    pub clock: Arc<ManualClock>,
}

impl Plan {
    pub fn on(db: Db) -> Self {
        Self {
            db,
            settings: Settings::default(),
            targets: seed_targets(),
            applications: Vec::new(),
            sources: Vec::new(),
            policies: Policies::Seed,
            slack: None,
            clock: Arc::new(ManualClock::at(NOON.parse().unwrap())),
        }
    }

    pub async fn build(self) -> World {
        let home = Arc::new(tempfile::tempdir().unwrap());
        let database = match self.db {
            Db::Sqlite => Options::sqlite(&home.path().join("ledger.db")),
            Db::Postgres => Options::new(ledger_url().await),
        };
        let clock = Arc::clone(&self.clock);
        self.compose(home, database, clock).await
    }

    /// On a database that the test has set up itself.
    pub async fn build_on(self, database: Options) -> World {
        let clock = Arc::new(ManualClock::at(NOON.parse().unwrap()));
        self.compose(Arc::new(tempfile::tempdir().unwrap()), database, clock).await
    }

    async fn compose(self, home: Arc<tempfile::TempDir>, database: Options, clock: Arc<ManualClock>) -> World {
        let faults: Arc<Mutex<BTreeMap<String, Arc<Faults>>>> = Arc::default();
        let wrap = {
            let faults = Arc::clone(&faults);
            move |config: &TargetConfig, connector| {
                let (wrapped, handle) = Faulty::around(connector);
                faults.lock().unwrap().insert(config.id.to_string(), handle);
                wrapped
            }
        };
        let data_dir = home.path().join("data");
        let composed = compose(Setup {
            database: database.clone(),
            data_dir: data_dir.clone(),
            policies: self.policies,
            targets: self.targets,
            applications: self.applications,
            sources: self.sources,
            notifiers: Vec::new(),
            slack: self.slack,
            issuer: "http://127.0.0.1:8420".to_owned(),
            settings: self.settings,
            rhythm: Rhythm::default(),
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SystemEntropy::new()),
            observe: false,
            wrap: Some(Box::new(wrap)),
        })
        .await
        .unwrap();
        let Composed { broker, workers, slack, .. } = composed;
        let directory = seed_directory().unwrap();
        if !broker.is_observing() {
            directory.apply(broker.store(), broker.entropy(), clock.now()).await.unwrap();
        }
        let faults = faults.lock().unwrap().clone();
        World { broker, workers, slack, clock, faults, database, data_dir, home }
    }
}

/// The URL of a fresh, empty database on the shared server.
async fn ledger_url() -> String {
    let server = servers::postgres::shared();
    let name = server.fresh_database().await;
    format!("postgres://postgres@127.0.0.1:{}/{name}", server.port())
}

impl World {
    pub async fn on(db: Db) -> Self {
        Plan::on(db).build().await
    }

    /// Another broker on the same ledger, data directory and clock: a replica, or the same one after a restart.
    pub async fn another(&self, plan: Plan) -> Self {
        plan.compose(Arc::clone(&self.home), self.database.clone(), Arc::clone(&self.clock)).await
    }

    /// A broker on a copy of this ledger with a data directory of its own: a restored backup, a cloned node. This
    /// world's broker is closed for it.
    pub async fn copied(&self, plan: Plan) -> Self {
        self.broker.close(Duration::from_secs(5)).await;
        let home = Arc::new(tempfile::tempdir().unwrap());
        let database = if plan.db == Db::Sqlite {
            std::fs::copy(self.home.path().join("ledger.db"), home.path().join("ledger.db")).unwrap();
            Options::sqlite(&home.path().join("ledger.db"))
        } else {
            let url = ledger_url().await;
            let name = |url: &str| url.rsplit('/').next().unwrap().to_owned();
            let (from, to) = (name(&self.database.url), name(&url));
            let server = servers::postgres::shared();
            server.run("postgres", &format!("DROP DATABASE {to}")).await;
            let stop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname";
            server.run("postgres", &format!("{stop} = '{from}'")).await;
            server.run("postgres", &format!("CREATE DATABASE {to} TEMPLATE {from}")).await;
            Options::new(url)
        };
        plan.compose(home, database, Arc::clone(&self.clock)).await
    }

    pub fn store(&self) -> &Store {
        self.broker.store()
    }

    pub fn faults(&self, target: &str) -> &Faults {
        &self.faults[target]
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Acting as somebody of the seed.
    pub async fn who(&self, name: &str) -> Ctx {
        let actor = self.store().subject_by_name(name, self.now()).await.unwrap().expect("a seeded name");
        let ulid = self.broker.entropy().ulid(self.now()).unwrap();
        Ctx { actor, via: "test", correlation: CorrelationId::new(ulid), now: self.now(), until: None, session: None }
    }

    /// The same, signed in at the portal.
    pub async fn in_portal(&self, name: &str) -> Ctx {
        let ulid = self.broker.entropy().ulid(self.now()).unwrap();
        let session = InSession { id: SessionId::new(ulid), proved_at: self.now() };
        Ctx { via: "web", session: Some(session), ..self.who(name).await }
    }

    pub async fn ask(&self, who: &str, ask: Ask) -> Result<RequestView, BrokerError> {
        match self.broker.ask(&self.who(who).await, ask).await? {
            Asked::Recorded(view) | Asked::Repeated(view) => Ok(*view),
            Asked::Planned(plan) => panic!("only planned: {plan:?}"),
        }
    }

    /// Ask, have it approved if need be, and answer the one grant.
    pub async fn open(&self, who: &str, entitlement: &str, seconds: u32) -> GrantView {
        let mut request = self.ask(who, want(entitlement, seconds)).await.unwrap();
        if request.grants.is_empty() {
            let id: RequestId = request.id.parse().unwrap();
            let ben = self.who("ben").await;
            request = self.broker.approve(&ben, id, Decide::default()).await.unwrap();
        }
        request.grants.remove(0)
    }

    pub async fn grant(&self, id: &str) -> Grant {
        let id: GrantId = id.parse().unwrap();
        self.store().grant(id).await.unwrap().expect("a grant")
    }

    pub async fn state(&self, id: &str) -> GrantState {
        self.grant(id).await.state
    }

    /// Do what is due until nothing is.
    pub async fn settle(&self) {
        for _ in 0..50 {
            if self.workers.round().await.unwrap() == 0 {
                return;
            }
        }
        panic!("work does not end");
    }

    /// Actions of the audit log, in order.
    pub async fn actions(&self) -> Vec<String> {
        let page = self.store().events(&tidegate::store::AuditFilter::default(), 0, 10_000).await.unwrap();
        let action = |leaf: &str| {
            let event: serde_json::Value = serde_json::from_str(leaf).unwrap();
            event["action"].as_str().unwrap().to_owned()
        };
        // Whom the world begins with is not part of the story.
        page.items.iter().map(|e| action(&e.leaf)).filter(|a| a != "identity.created").collect()
    }
}

/// A plain ask for one entitlement.
pub fn want(entitlement: &str, seconds: u32) -> Ask {
    Ask {
        entitlements: vec![entitlement.to_owned()],
        duration: Ttl::from_seconds(seconds),
        reason: "order 4411 is stuck".to_owned(),
        ..Ask::default()
    }
}

/// Makes two tests of one async function: on SQLite and on PostgreSQL.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::world::Db::Sqlite).await; })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::world::Db::Postgres).await; })*
        }
    };
}
