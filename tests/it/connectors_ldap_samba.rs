//! The LDAP connector in a real domain: Samba as its domain controller, over TLS.
//!
//! Samba knows no time-limited membership, so nothing here ends by itself; that is proven as bytes in
//! `connectors_ldap_ad`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ldap3::Mod;
use serde_json::{Value, json};
use tidegate::{
    connectors::{
        build,
        conformance::{self, Harness, Trouble},
        fakes::FakeLedger,
    },
    domain::{
        grant::{Intent, Recipe},
        id::GrantId,
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        clock::SystemClock,
        connector::{Connector, Fault, Presence, Wish},
    },
};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    connectors::{self, TARGET, config},
    connectors_postgres::{new_grant, now},
    servers::{
        samba::{BASE, BROKER, PASSWORD, Samba, exclusive},
        way::{self, Mood, Tls, Way},
    },
};

const OPS: &str = "CN=ops,OU=Groups,DC=example,DC=test";
const EMPTY: &str = "CN=empty,OU=Groups,DC=example,DC=test";
const ANA: &str = "CN=ana,OU=People,DC=example,DC=test";
const BEN: &str = "CN=ben,OU=People,DC=example,DC=test";
const MEMBER: &str = "bf9679c0-0de6-11d0-a285-00aa003049e2";

/// The domain, and a broker's surroundings.
struct World {
    samba: MutexGuard<'static, Samba>,
    surroundings: connectors::World,
}

impl World {
    async fn new() -> Self {
        let surroundings = connectors::World::new(Arc::new(SystemClock::new()));
        let it = Self { samba: exclusive().await, surroundings };
        it.write_password(PASSWORD);
        it
    }

    fn write_password(&self, password: &str) {
        std::fs::write(self.surroundings.path().join("password"), format!("{password}\n")).unwrap();
    }

    fn connector_with(&self, more: &Value) -> Arc<dyn Connector> {
        let mut settings = json!({
            "url": self.samba.ldaps(), "tls_root_cert": self.samba.ca(), "bind_dn": BROKER,
            "password_file": self.surroundings.path().join("password"), "style": "active-directory",
            "user_base": format!("OU=People,{BASE}"), "group_base": format!("OU=Groups,{BASE}"),
            "mark_attribute": "extensionName",
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut config = config("ldap", &settings);
        config.timeout_seconds = 5;
        build(&config, &self.surroundings.parts()).unwrap()
    }

    fn connector(&self) -> Arc<dyn Connector> {
        self.connector_with(&json!({}))
    }

    async fn open(&self, c: &dyn Connector, group: &str) -> Intent {
        let wish = connectors::wish(new_grant(), json!({ "group": group }));
        let intent = connectors::intent(c, wish, now().plus_std(Duration::from_mins(10))).await;
        self.surroundings.ledger.intend(TARGET, &intent);
        c.activate(&intent).await.unwrap();
        intent
    }

    async fn close(&self, c: &dyn Connector, recipe: &Recipe) -> Value {
        self.surroundings.ledger.end(recipe.grant);
        c.revoke(recipe).await.unwrap();
        match c.verify(recipe).await {
            Presence::Absent(evidence) => evidence,
            other => panic!("not absent: {other:?}"),
        }
    }

    async fn members(&self, group: &str) -> Vec<String> {
        self.samba.values(group, "member").await
    }

    async fn marks(&self, group: &str) -> Vec<String> {
        self.samba.values(group, "extensionName").await
    }
}

struct Suite {
    world: World,
    more: Value,
    group: &'static str,
    way: Way,
    trouble: Mutex<Option<Trouble>>,
}

impl Suite {
    /// Through a way that reads what is said inside TLS.
    async fn new(more: Value, group: &'static str) -> Self {
        let world = World::new().await;
        let ca = world.samba.ca();
        let dir = ca.parent().unwrap();
        let tls = Tls::of(dir, false).onward(dir, world.samba.ip());
        let way = Way::reading(world.samba.ip(), 636, Some(tls), way::LDAP).await;
        let mut more = more;
        more["url"] = json!(format!("ldaps://127.0.0.1:{}", way.port));
        Self { world, more, group, way, trouble: Mutex::new(None) }
    }
}

#[async_trait]
impl Harness for Suite {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(self.world.connector_with(&self.more))
    }

    fn ledger(&self) -> &FakeLedger {
        &self.world.surroundings.ledger
    }

    fn target(&self) -> &'static str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        connectors::wish(grant, json!({"group": self.group}))
    }

    fn grant(&self) -> GrantId {
        new_grant()
    }

    fn now(&self) -> Timestamp {
        now()
    }

    async fn pass_until(&self, at: Timestamp) {
        tokio::time::sleep(at.since(now())).await;
    }

    async fn works(&self, _intent: &Intent, _minted: Option<&Minted>) -> Result<bool, String> {
        Ok(self.world.members(self.group).await.iter().any(|m| m == ANA))
    }

    fn shares_access(&self) -> bool {
        true
    }

    fn lists(&self) -> bool {
        self.more["mark_attribute"] != ""
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        match trouble {
            Trouble::Down => self.world.samba.stop(),
            Trouble::Hangs => self.world.samba.freeze(),
            Trouble::Lies => self.way.set(Mood::Lies),
            Trouble::LosesAnswers => self.way.set(Mood::LosesAnswers),
            Trouble::Slow => self.way.set(Mood::Slow(Duration::from_millis(100))),
        }
        *self.trouble.lock().await = Some(trouble);
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        match self.trouble.lock().await.take() {
            Some(Trouble::Down) => self.world.samba.again(),
            Some(Trouble::Hangs) => self.world.samba.thaw(),
            _ => self.way.set(Mood::Pass),
        }
        Ok(())
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }
}

#[tokio::test]
async fn samba_conforms_with_marks() {
    let suite = Suite::new(json!({}), OPS).await;
    if let Err(broken) = conformance::run(&suite).await {
        panic!("{broken}");
    }
    assert!(suite.way.changes() > 0, "nothing was lied about");
    assert_eq!(suite.world.members(OPS).await, [BEN]);
    assert!(suite.world.marks(OPS).await.is_empty());
}

/// As a domain is by default: nothing can be marked there. The group has nobody in it.
#[tokio::test]
async fn samba_conforms_without_marks() {
    let suite = Suite::new(json!({"mark_attribute": ""}), EMPTY).await;
    for case in conformance::CASES.iter().filter(|case| **case != "a_target_in_trouble_is_not_believed") {
        if let Err(broken) = conformance::run_case(&suite, case).await {
            panic!("{broken}");
        }
    }
    assert!(suite.world.members(EMPTY).await.is_empty());
}

#[tokio::test]
async fn samba_says_what_a_domain_says_of_what_is_there_and_what_is_not() {
    let w = World::new().await;
    let member = |dn: &str| [dn.to_owned()].into();
    let (add, delete) =
        (|dn| Mod::Add("member".to_owned(), member(dn)), |dn| Mod::Delete("member".to_owned(), member(dn)));
    assert_eq!(w.samba.modify(OPS, vec![add(BEN)]).await, 68, "entryAlreadyExists");
    assert_eq!(w.samba.modify(OPS, vec![delete(ANA)]).await, 53, "unwillingToPerform");
    // Both are done, if the look that follows says so.
    let c = w.connector();
    let held = w.open(c.as_ref(), OPS).await;
    c.activate(&held).await.unwrap();
    assert_eq!(w.samba.modify(OPS, vec![delete(ANA)]).await, 0);
    let evidence = w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(evidence["member"], false);
    assert_eq!(w.samba.bound(BROKER, "wrong").await.map(drop).map_err(|e| e.to_string().contains("49")), Err(true));
}

#[tokio::test]
async fn samba_overlapping_grants_end_in_both_orders_and_a_standing_member_stays() {
    let w = World::new().await;
    for more in [json!({}), json!({"mark_attribute": ""})] {
        let c = w.connector_with(&more);
        for last_first in [false, true] {
            let (one, two) = (w.open(c.as_ref(), OPS).await, w.open(c.as_ref(), OPS).await);
            assert_eq!(
                two.recipe.shared().map(|s| s.was_there),
                Some(false),
                "the first grant is no standing membership"
            );
            let (first, second) = if last_first { (&two, &one) } else { (&one, &two) };
            let evidence = w.close(c.as_ref(), &first.recipe).await;
            assert_eq!(evidence["other_grants"], json!([second.recipe.grant]));
            assert_eq!(w.members(OPS).await, [ANA, BEN]);
            w.close(c.as_ref(), &second.recipe).await;
            assert_eq!(w.members(OPS).await, [BEN]);
        }
        w.samba.modify(OPS, vec![Mod::Add("member".to_owned(), [ANA.to_owned()].into())]).await;
        let standing = w.open(c.as_ref(), OPS).await;
        assert_eq!(standing.recipe.shared().map(|s| s.was_there), Some(true));
        let found = c.sweep().await.unwrap();
        assert!(found.iter().all(|found| found.data["group"] != OPS), "a standing member is not ours: {found:?}");
        let evidence = w.close(c.as_ref(), &standing.recipe).await;
        assert_eq!((&evidence["member"], &evidence["was_member"]), (&json!(true), &json!(true)));
        assert_eq!(w.members(OPS).await, [ANA, BEN]);
        w.samba.modify(OPS, vec![Mod::Delete("member".to_owned(), [ANA.to_owned()].into())]).await;
    }
}

#[tokio::test]
async fn samba_names_move_and_ids_stay() {
    let w = World::new().await;
    let c = w.connector();
    // The holder marries: the domain changes the member's name in the group by itself.
    let held = w.open(c.as_ref(), OPS).await;
    w.samba.rename(ANA, "CN=ana lee").await;
    let married = format!("CN=ana lee,OU=People,{BASE}");
    assert_eq!(w.members(OPS).await, [married.as_str(), BEN]);
    assert!(matches!(c.verify(&held.recipe).await, Presence::Present(_)), "she is in, by whatever name");
    // A grant under her new name is counted with the one under the old.
    let second = w.open(c.as_ref(), OPS).await;
    assert_eq!(second.recipe.shared(), held.recipe.shared());
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(w.members(OPS).await, [married.as_str(), BEN]);
    w.close(c.as_ref(), &second.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    w.samba.rename(&married, "CN=ana").await;

    // The group is renamed, and another one takes its name.
    let held = w.open(c.as_ref(), OPS).await;
    w.samba.rename(OPS, "CN=operators").await;
    let renamed = format!("CN=operators,OU=Groups,{BASE}");
    w.samba.rename(EMPTY, "CN=ops").await;
    w.samba.modify(OPS, vec![Mod::Add("member".to_owned(), [ANA.to_owned()].into())]).await;
    let seen = c.verify(&held.recipe).await;
    assert!(matches!(&seen, Presence::Present(said) if said["seen"]["found_as"] == renamed.as_str()), "{seen:?}");
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!((w.members(&renamed).await, w.members(OPS).await), (vec![BEN.to_owned()], vec![ANA.to_owned()]));
    w.samba.modify(OPS, vec![Mod::Delete("member".to_owned(), [ANA.to_owned()].into())]).await;
    w.samba.rename(OPS, "CN=empty").await;
    w.samba.rename(&renamed, "CN=ops").await;
}

#[tokio::test]
async fn samba_an_orphan_is_found_by_its_mark_and_ended() {
    let w = World::new().await;
    let c = w.connector();
    let orphan = new_grant();
    let texts = [format!("tidegate {orphan} {ANA}"), format!("other {} {BEN}", new_grant())];
    let mark = |text: &String| Mod::Add("extensionName".to_owned(), [text.clone()].into());
    let join = Mod::Add("member".to_owned(), [ANA.to_owned()].into());
    assert_eq!(w.samba.modify(OPS, texts.iter().map(mark).chain([join]).collect()).await, 0);
    let mut found = c.sweep().await.unwrap();
    found.retain(|found| found.data["group"] == OPS);
    let [it] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(it.grant, orphan);
    w.close(c.as_ref(), &Recipe { grant: orphan, object: it.object.clone(), data: it.data.clone() }).await;
    assert_eq!((w.members(OPS).await, w.marks(OPS).await), (vec![BEN.to_owned()], vec![texts[1].clone()]));
    w.samba.modify(OPS, vec![Mod::Delete("extensionName".to_owned(), [texts[1].clone()].into())]).await;
}

/// Samba compares what it does not show. What it says no of is believed only where the broker may see the members.
#[tokio::test]
async fn samba_a_broker_that_may_not_see_the_members_is_not_believed() {
    let w = World::new().await;
    let c = w.connector();
    let hidden = format!("CN=hidden,OU=Groups,{BASE}");
    let held = w.open(c.as_ref(), &hidden).await;
    w.surroundings.ledger.end(held.recipe.grant);
    w.samba.rule(&hidden, &format!("(OD;;RPWP;{MEMBER};;BROKER)"));
    assert!(matches!(c.verify(&held.recipe).await, Presence::Present(_)));
    w.samba.modify(&hidden, vec![Mod::Delete("member".to_owned(), [ANA.to_owned()].into())]).await;
    let seen = c.verify(&held.recipe).await;
    assert!(matches!(&seen, Presence::Unknown(why) if why.contains("no right")), "{seen:?}");
    let prepared = c.prepare(&connectors::wish(new_grant(), json!({ "group": hidden }))).await;
    assert!(prepared.is_err(), "the prior state is not known either");
}

#[tokio::test]
async fn samba_a_rotated_password_is_read_again_and_check_says_what_is_missing() {
    let w = World::new().await;
    let c = w.connector();
    c.validate(&json!({ "group": OPS })).unwrap();
    let well = c.check().await;
    assert!(well.iter().all(|f| f.ok), "what the sheet asks for is enough: {well:#?}");
    assert_eq!(w.members(OPS).await, [BEN], "nothing was changed");
    let held = w.open(c.as_ref(), OPS).await;
    w.samba.password(BROKER, "Another-Pass-5514").await;
    w.surroundings.ledger.end(held.recipe.grant);
    let fresh = w.connector();
    let refused = fresh.revoke(&held.recipe).await;
    assert!(matches!(&refused, Err(Fault::Unavailable(text)) if text.contains("invalid credentials")), "{refused:?}");
    w.write_password("Another-Pass-5514");
    w.close(fresh.as_ref(), &held.recipe).await;
    w.samba.password(BROKER, PASSWORD).await;
    w.write_password(PASSWORD);

    // Groups elsewhere in the domain are closed to the broker.
    let elsewhere = w.connector_with(&json!({"group_base": format!("CN=Users,{BASE}")}));
    let guests = format!("CN=Domain Guests,CN=Users,{BASE}");
    elsewhere.validate(&json!({ "group": guests })).unwrap();
    let findings = elsewhere.check().await;
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).collect();
    assert_eq!(bad.len(), 2, "{findings:#?}");
    for (finding, attribute) in bad.iter().zip(["member", "extensionName"]) {
        assert!(finding.name.contains(&format!("may change {attribute}")), "{finding:?}");
        assert!(finding.fix.as_ref().unwrap().contains(&format!("RPWP;{attribute}")), "{finding:?}");
    }
}

#[tokio::test]
async fn samba_is_spoken_to_over_start_tls_and_only_if_it_is_the_right_one() {
    let w = World::new().await;
    let c = w.connector_with(&json!({"url": w.samba.ldap(), "start_tls": true}));
    let held = w.open(c.as_ref(), OPS).await;
    w.close(c.as_ref(), &held.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    let stranger = w.connector_with(&json!({"tls_root_cert": null}));
    let seen = stranger.sweep().await;
    assert!(matches!(&seen, Err(Fault::Unavailable(text)) if text.contains("certificate")), "{seen:?}");
}
