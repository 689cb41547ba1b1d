//! The registry of connectors, and what the tests of each kind share.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::{
    connectors::{
        Parts, build,
        fakes::{FakeDirectory, FakeLedger},
        kinds,
    },
    domain::{
        catalog::TargetConfig,
        grant::Intent,
        id::{GrantId, IdentityId},
        time::{Timestamp, Ttl},
    },
    keys::{FileSigner, KeyFiles},
    ports::{
        clock::{Clock, ManualClock},
        connector::{Connector, Wish},
        entropy::{Entropy, SystemEntropy},
    },
};
use ulid::Ulid;

pub const TARGET: &str = "t";

pub fn start() -> Timestamp {
    Timestamp::from_seconds(1_800_000_000)
}

/// A connector's surroundings, from which it can be built again and again.
pub struct World {
    pub home: TempDir,
    pub clock: Arc<dyn Clock>,
    pub ledger: Arc<FakeLedger>,
    pub directory: Arc<FakeDirectory>,
    grants: AtomicU64,
}

impl World {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            clock,
            ledger: Arc::new(FakeLedger::new()),
            directory: Arc::new(FakeDirectory::with_groups(&["oncall"])),
            grants: AtomicU64::new(0),
        }
    }

    pub fn still() -> Self {
        Self::new(Arc::new(ManualClock::at(start())))
    }

    /// As after a restart: the key files are read again, the ledger and the directory are the same.
    pub fn parts(&self) -> Parts {
        let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
        let keys = self.home.path().join("keys");
        let day = Ttl::seconds_or_one(86_400);
        let signer = FileSigner::open(&keys, "https://t.example", day, Arc::clone(&entropy), self.clock.now()).unwrap();
        Parts {
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&entropy),
            signer: Arc::new(signer),
            directory: Arc::clone(&self.directory) as _,
            revocations: Arc::clone(&self.ledger) as _,
            holdings: Arc::clone(&self.ledger) as _,
            keys: Arc::new(KeyFiles::new(&keys, entropy)),
            data_dir: self.home.path().to_owned(),
            observing: false,
        }
    }

    pub fn connector(&self, kind: &str, settings: &Value) -> Arc<dyn Connector> {
        build(&config(kind, settings), &self.parts()).unwrap()
    }

    pub fn grant(&self) -> GrantId {
        GrantId::new(Ulid::from_parts(2, u128::from(self.grants.fetch_add(1, Ordering::AcqRel))))
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }
}

pub fn config(kind: &str, settings: &Value) -> TargetConfig {
    serde_json::from_value(json!({"id": TARGET, "kind": kind, "timeout_seconds": 1, "settings": settings})).unwrap()
}

pub fn wish(grant: GrantId, parameters: Value) -> Wish {
    let holder = IdentityId::new(Ulid::from_parts(1, 1));
    Wish { grant, holder, holder_name: "ana".into(), entitlement: "t:e".into(), parameters }
}

pub async fn intent(connector: &dyn Connector, wish: Wish, not_after: Timestamp) -> Intent {
    let recipe = connector.prepare(&wish).await.unwrap();
    Intent {
        recipe,
        holder: wish.holder,
        holder_name: wish.holder_name,
        entitlement: wish.entitlement,
        parameters: wish.parameters,
        not_after,
    }
}

#[test]
fn every_kind_is_built_from_no_settings_and_says_what_it_is() {
    let world = World::still();
    for kind in ["directory", "ssh", "token"] {
        assert!(kinds().contains(&kind));
        assert_eq!(world.connector(kind, &json!({})).describe().kind, kind);
    }
}

#[test]
fn an_unknown_kind_or_setting_is_refused_with_the_known_ones() {
    let parts = World::still().parts();
    let text = build(&config("telnet", &json!({})), &parts).unwrap_err().to_string();
    assert!(text.contains("`telnet`") && text.contains("directory") && text.contains("ssh"), "{text}");
    for (kind, known) in [("directory", "allow_tidegate_groups"), ("ssh", "krl_file"), ("token", "max_token_life")] {
        let text = build(&config(kind, &json!({"colour": "blue"})), &parts).unwrap_err().to_string();
        assert!(text.contains("`colour`") && text.contains(known), "{text}");
    }
}
