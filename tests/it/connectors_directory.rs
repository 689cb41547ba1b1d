//! Temporary membership: the conformance suite, and what is peculiar to it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
use tidegate::{
    connectors::{
        build,
        conformance::{self, Harness, Trouble},
        fakes::{FakeLedger, Mood},
        faulty::{Behaviour, Call, Faulty},
    },
    domain::{
        grant::{Intent, Recipe, object_name},
        id::{GrantId, GroupId},
        identity::{self, Identity, IdentityKind},
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        clock::ManualClock,
        connector::{Connector, Fault, Presence, Wish},
    },
    store::{Options, Store, StoreError},
};

use crate::connectors::{TARGET, World, config, intent, start, wish};

struct Group {
    world: World,
    clock: Arc<ManualClock>,
    fault: Option<(Call, Behaviour)>,
}

impl Group {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        Self { world: World::new(Arc::clone(&clock) as _), clock, fault: None }
    }
}

#[async_trait]
impl Harness for Group {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        let (connector, faults) = Faulty::around(self.world.connector("directory", &json!({})));
        if let Some((call, behaviour)) = self.fault {
            faults.set(call, behaviour);
        }
        Ok(connector)
    }

    fn ledger(&self) -> &FakeLedger {
        &self.world.ledger
    }

    fn target(&self) -> &str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        wish(grant, json!({"group": "oncall"}))
    }

    fn grant(&self) -> GrantId {
        self.world.grant()
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    async fn pass_until(&self, at: Timestamp) {
        self.clock.set(at);
    }

    async fn works(&self, intent: &Intent, _minted: Option<&Minted>) -> Result<bool, String> {
        Ok(self.world.directory.decides("oncall", intent.holder, self.now()))
    }

    fn shares_access(&self) -> bool {
        true
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        self.world.directory.set_mood(match trouble {
            Trouble::Down => Mood::Failing,
            Trouble::Hangs => Mood::Hanging,
            // It is no server that could lie or lose an answer.
            Trouble::Lies | Trouble::LosesAnswers | Trouble::Slow => return Ok(false),
        });
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        self.world.directory.set_mood(Mood::Well);
        Ok(())
    }
}

#[tokio::test]
async fn directory_conforms() {
    conformance::run(&Group::new()).await.unwrap();
}

/// The built-in directory itself, on embedded SQLite.
struct Embedded {
    group: Group,
    store: Store,
}

impl Embedded {
    async fn open() -> Self {
        let group = Group::new();
        let store = Store::open(&Options::sqlite(&group.world.path().join("tidegate.db"))).await.unwrap();
        let holder = Identity::new(wish(group.world.grant(), json!({})).holder, IdentityKind::Person, "ana");
        let oncall = identity::Group::new(GroupId::new(ulid::Ulid::from_parts(3, 1)), "oncall", start());
        let mut tx = store.begin().await.unwrap();
        tx.insert_identity(&holder, start()).await.unwrap();
        tx.insert_group(&oncall).await.unwrap();
        tx.end(Ok::<_, StoreError>(())).await.unwrap().unwrap();
        Self { group, store }
    }
}

#[async_trait]
impl Harness for Embedded {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        let mut parts = self.group.world.parts();
        parts.directory = Arc::new(self.store.clone());
        build(&config("directory", &json!({})), &parts).map_err(|e| e.to_string())
    }

    fn ledger(&self) -> &FakeLedger {
        self.group.ledger()
    }

    fn target(&self) -> &str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        self.group.wish(grant)
    }

    fn grant(&self) -> GrantId {
        self.group.grant()
    }

    fn now(&self) -> Timestamp {
        self.group.now()
    }

    async fn pass_until(&self, at: Timestamp) {
        self.group.pass_until(at).await;
    }

    async fn works(&self, intent: &Intent, _minted: Option<&Minted>) -> Result<bool, String> {
        let subject = self.store.subject(intent.holder, self.now()).await.map_err(|e| e.to_string())?;
        Ok(subject.is_some_and(|s| s.is_in("oncall")))
    }

    fn shares_access(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn directory_conforms_on_the_embedded_store() {
    let embedded = Embedded::open().await;
    conformance::run(&embedded).await.unwrap();
    embedded.store.close().await;
}

#[tokio::test]
async fn conformance_catches_connectors_that_do_not_keep_their_word() {
    for (call, behaviour) in [
        (Call::Activate, Behaviour::Lies),
        (Call::Activate, Behaviour::EffectThenTimeout),
        (Call::Revoke, Behaviour::Lies),
        (Call::Revoke, Behaviour::Refuses),
        (Call::Verify, Behaviour::Lies),
        (Call::Verify, Behaviour::Fails(1)),
        (Call::Sweep, Behaviour::Lies),
        (Call::Check, Behaviour::Lies),
        (Call::Prepare, Behaviour::Lies),
    ] {
        let mut group = Group::new();
        group.fault = Some((call, behaviour));
        let played = conformance::run(&group).await;
        assert!(played.is_err(), "{call:?} {behaviour:?} was not caught");
    }
}

#[tokio::test]
async fn directory_keeps_a_standing_membership_and_says_so() {
    let world = World::still();
    let connector = world.connector("directory", &json!({}));
    let wish = wish(world.grant(), json!({"group": "oncall"}));
    world.directory.add_standing("oncall", wish.holder);
    let intent = intent(connector.as_ref(), wish, start().plus_std(Duration::from_mins(1))).await;
    assert_eq!(intent.recipe.data["was_standing"], true);
    connector.activate(&intent).await.unwrap();
    connector.revoke(&intent.recipe).await.unwrap();
    let Presence::Absent(evidence) = connector.verify(&intent.recipe).await else { panic!("not absent") };
    assert_eq!(evidence["standing"], true);
    assert!(world.directory.decides("oncall", intent.holder, start()));
}

#[tokio::test]
async fn directory_that_says_yes_and_does_nothing_is_caught() {
    let world = World::still();
    let connector = world.connector("directory", &json!({}));
    let wish = wish(world.grant(), json!({"group": "oncall"}));
    let mut intent = intent(connector.as_ref(), wish, start().plus_std(Duration::from_mins(1))).await;
    world.directory.set_deaf(true);
    assert!(matches!(connector.activate(&intent).await, Err(Fault::Unavailable(_))));
    world.directory.set_deaf(false);
    connector.activate(&intent).await.unwrap();
    world.directory.set_deaf(true);
    connector.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(connector.verify(&intent.recipe).await, Presence::Present(_)));
    intent.recipe.data = json!({"nonsense": true});
    assert!(matches!(connector.revoke(&intent.recipe).await, Err(Fault::Refused(_))));
    assert!(matches!(connector.verify(&intent.recipe).await, Presence::Unknown(_)));
}

#[tokio::test]
async fn directory_refuses_an_unknown_group_first_and_finds_it_absent_later() {
    let world = World::still();
    let connector = world.connector("directory", &json!({}));
    let wish = wish(world.grant(), json!({"group": "nobody-knows"}));
    assert!(matches!(connector.prepare(&wish).await, Err(Fault::Refused(_))));
    let data = json!({"group": "nobody-knows", "identity": wish.holder});
    let recipe = Recipe { grant: wish.grant, object: object_name(wish.grant), data };
    assert_eq!(connector.revoke(&recipe).await, Ok(()));
    assert!(matches!(connector.verify(&recipe).await, Presence::Absent(_)));
}

#[test]
fn directory_power_over_tidegate_itself_must_be_allowed() {
    let world = World::still();
    let plain = world.connector("directory", &json!({}));
    let bold = world.connector("directory", &json!({"allow_tidegate_groups": true}));
    assert_eq!(plain.validate(&json!({"group": "oncall"})), Ok(()));
    for group in ["tidegate-admins", "Tidegate-Auditors", " tidegate-admins "] {
        let text = plain.validate(&json!({ "group": group })).unwrap_err().to_string();
        assert!(text.contains("allow_tidegate_groups"), "{text}");
        assert_eq!(bold.validate(&json!({ "group": group })), Ok(()));
    }
    for bad in [json!({}), json!({"group": ""}), json!({"group": "x", "role": "y"})] {
        assert!(plain.validate(&bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn faulty_connector_does_as_it_is_told() {
    let world = World::still();
    let (connector, faults) = Faulty::around(world.connector("directory", &json!({})));
    let wish = wish(world.grant(), json!({"group": "oncall"}));
    let intent = intent(connector.as_ref(), wish, start().plus_std(Duration::from_mins(1))).await;
    let member = || world.directory.decides("oncall", intent.holder, start());

    faults.set(Call::Activate, Behaviour::Lies);
    assert!(connector.activate(&intent).await.is_ok() && !member());
    faults.set(Call::Activate, Behaviour::Fails(2));
    assert!(connector.activate(&intent).await.is_err() && !member());
    assert!(connector.activate(&intent).await.is_err() && !member());
    assert!(connector.activate(&intent).await.is_ok() && member());
    faults.set(Call::Revoke, Behaviour::Lies);
    assert!(connector.revoke(&intent.recipe).await.is_ok() && member());
    assert!(matches!(connector.verify(&intent.recipe).await, Presence::Present(_)));
    faults.set(Call::Revoke, Behaviour::EffectThenTimeout);
    assert!(matches!(connector.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))) && !member());
    faults.set(Call::Verify, Behaviour::Hangs);
    assert!(tokio::time::timeout(Duration::from_millis(20), connector.verify(&intent.recipe)).await.is_err());
    faults.set(Call::Sweep, Behaviour::Panics);
    let swept = Arc::clone(&connector);
    assert!(tokio::spawn(async move { swept.sweep().await }).await.unwrap_err().is_panic());
    faults.heal();
    assert!(matches!(connector.verify(&intent.recipe).await, Presence::Absent(_)));
    assert_eq!((faults.calls(Call::Activate), faults.calls(Call::Verify)), (4, 3));
}
