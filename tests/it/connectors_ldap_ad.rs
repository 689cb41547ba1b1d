//! Time-limited membership of Active Directory, as bytes on the wire.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate::{
    connectors::build,
    domain::grant::Intent,
    ports::{
        clock::{Clock, ManualClock},
        connector::{Connector, Fault, Presence},
    },
};

use crate::{
    connectors::{TARGET, World, config, intent, start, wish},
    servers::active_directory::{ANA, ActiveDirectory, GROUP},
};

struct Domain {
    server: ActiveDirectory,
    world: World,
    clock: Arc<ManualClock>,
}

impl Domain {
    async fn start() -> Self {
        let clock = Arc::new(ManualClock::at(start()));
        let world = World::new(Arc::clone(&clock) as _);
        std::fs::write(world.path().join("password"), "secret\n").unwrap();
        Self { server: ActiveDirectory::start().await, world, clock }
    }

    fn connector(&self, more: &Value) -> Arc<dyn Connector> {
        let mut settings = json!({
            "url": format!("ldap://127.0.0.1:{}", self.server.port), "bind_dn": "CN=Tidegate,DC=example",
            "password_file": self.world.path().join("password"), "style": "active-directory",
            "user_base": "OU=People,DC=example", "group_base": "OU=Groups,DC=example", "time_limited": true,
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        build(&config("ldap", &settings), &self.world.parts()).unwrap()
    }

    async fn intend(&self, c: &dyn Connector, seconds: u64) -> Intent {
        let wish = wish(self.world.grant(), json!({ "group": GROUP }));
        let intent = intent(c, wish, self.clock.now().plus_std(Duration::from_secs(seconds))).await;
        self.world.ledger.intend(TARGET, &intent);
        intent
    }

    async fn close(&self, c: &dyn Connector, intent: &Intent) {
        self.world.ledger.end(intent.recipe.grant);
        c.revoke(&intent.recipe).await.unwrap();
        let seen = c.verify(&intent.recipe).await;
        assert!(matches!(seen, Presence::Absent(_)), "{seen:?}");
    }

    fn members(&self) -> Vec<String> {
        self.server.state.lock().unwrap().members.clone()
    }
}

#[tokio::test]
async fn ldap_time_limited_memberships_carry_the_longest_end() {
    let d = Domain::start().await;
    d.server.state.lock().unwrap().members = vec!["CN=Ben,OU=People,DC=example".into()];
    let c = d.connector(&json!({}));
    let (short, long) = (d.intend(c.as_ref(), 600).await, d.intend(c.as_ref(), 3600).await);
    c.activate(&short).await.unwrap();
    assert_eq!(d.server.state.lock().unwrap().changes, [format!("add member <TTL=3600,{ANA}>")]);
    let applied = c.activate(&long).await.unwrap();
    assert_eq!(applied["seen"]["ttl_seconds"], 3600, "values come in ranges: {applied}");
    d.clock.set(start().plus_std(Duration::from_secs(100)));
    // The longer one ends early: what is left lasts as long as the shorter one.
    d.close(c.as_ref(), &long).await;
    assert_eq!(d.members()[1], format!("<TTL=500,{ANA}>"));
    assert!(matches!(c.verify(&short.recipe).await, Presence::Present(_)));
    d.close(c.as_ref(), &short).await;
    assert_eq!(d.members(), ["CN=Ben,OU=People,DC=example"]);
}

#[tokio::test]
async fn ldap_an_extension_moves_the_time_in_one_change() {
    let d = Domain::start().await;
    let c = d.connector(&json!({}));
    let mut held = d.intend(c.as_ref(), 600).await;
    c.activate(&held).await.unwrap();
    held.not_after = start().plus_std(Duration::from_secs(7200));
    d.world.ledger.intend(TARGET, &held);
    c.activate(&held).await.unwrap();
    assert_eq!(d.members(), [format!("<TTL=7200,{ANA}>")]);
    let changes = d.server.state.lock().unwrap().changes.clone();
    assert_eq!(changes[1..], [format!("delete member {ANA}"), format!("add member <TTL=7200,{ANA}>")]);
    d.close(c.as_ref(), &held).await;
    // Out already, by its own end: Active Directory says 53, and a look says absent.
    d.close(c.as_ref(), &held).await;
}

#[tokio::test]
async fn ldap_a_domain_that_forgets_the_end_is_refused_and_cleaned() {
    let d = Domain::start().await;
    d.server.state.lock().unwrap().forgets_time = true;
    let c = d.connector(&json!({}));
    let held = d.intend(c.as_ref(), 600).await;
    let refused = c.activate(&held).await;
    assert!(matches!(&refused, Err(Fault::Refused(text)) if text.contains("time_limited")), "{refused:?}");
    d.close(c.as_ref(), &held).await;
    assert!(d.members().is_empty());
}

#[tokio::test]
async fn ldap_check_tells_a_domain_that_knows_time_limited_membership() {
    let d = Domain::start().await;
    for (limited, said) in [(true, "knows time-limited membership"), (false, "set `time_limited = true`")] {
        let c = d.connector(&json!({ "time_limited": limited }));
        c.validate(&json!({ "group": GROUP })).unwrap();
        let findings = c.check().await;
        assert!(findings.iter().any(|f| f.ok && f.detail.contains(said)), "{findings:#?}");
    }
}

#[tokio::test]
async fn ldap_a_domain_that_hides_its_members_is_not_believed() {
    let d = Domain::start().await;
    let c = d.connector(&json!({}));
    let held = d.intend(c.as_ref(), 600).await;
    c.activate(&held).await.unwrap();
    d.server.state.lock().unwrap().hides_members = true;
    d.world.ledger.end(held.recipe.grant);
    let seen = c.verify(&held.recipe).await;
    assert!(matches!(&seen, Presence::Unknown(why) if why.contains("no right")), "{seen:?}");
    assert!(c.prepare(&wish(d.world.grant(), json!({ "group": GROUP }))).await.is_err(), "nor of the prior state");
    d.server.state.lock().unwrap().hides_members = false;
    d.close(c.as_ref(), &held).await;
}
