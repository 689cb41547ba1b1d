//! The LDAP connector against a real OpenLDAP server, over TLS.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tidegate::{
    connectors::{
        build,
        conformance::{self, Harness, Trouble},
        fakes::FakeLedger,
    },
    domain::{
        grant::{Intent, Recipe, object_name},
        id::GrantId,
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        clock::SystemClock,
        connector::{Connector, Fault, Presence, Wish},
    },
};
use tokio::sync::Mutex;

use crate::{
    connectors::{self, TARGET, config},
    connectors_postgres::{new_grant, now},
    servers::{
        slapd::{BROKER, PASSWORD, Slapd},
        way::{self, Mood, Tls, Way},
    },
};

const LONG: Duration = Duration::from_mins(10);
pub const OPS: &str = "cn=ops,ou=groups,dc=example";
pub const ODD: &str = "cn=a\\, b \\28c\\29,ou=groups,dc=example";
const UNIX: &str = "cn=unix,ou=groups,dc=example";
pub const ANA: &str = "uid=ana,ou=people,dc=example";
pub const BEN: &str = "uid=ben,ou=people,dc=example";

/// A directory and a broker's surroundings.
pub struct World {
    pub slapd: Slapd,
    pub surroundings: connectors::World,
}

impl World {
    pub fn new() -> Self {
        let it = Self { slapd: Slapd::start(), surroundings: connectors::World::new(Arc::new(SystemClock::new())) };
        std::fs::write(it.password_file(), format!("{PASSWORD}\n")).unwrap();
        it
    }

    pub fn password_file(&self) -> PathBuf {
        self.surroundings.path().join("password")
    }

    pub fn settings(&self, more: &Value) -> Value {
        let mut it = json!({
            "url": self.slapd.ldaps(), "tls_root_cert": self.slapd.ca(), "bind_dn": BROKER,
            "password_file": self.password_file(), "user_base": "ou=people,dc=example",
            "group_base": "ou=groups,dc=example",
        });
        it.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        it
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        self.connector_with(&json!({"placeholder": "cn=nobody"}))
    }

    pub fn connector_with(&self, more: &Value) -> Arc<dyn Connector> {
        let mut config = config("ldap", &self.settings(more));
        config.timeout_seconds = 5;
        build(&config, &self.surroundings.parts()).unwrap()
    }

    pub fn ledger(&self) -> &FakeLedger {
        &self.surroundings.ledger
    }

    /// An intent that the ledger knows.
    pub async fn intent(&self, c: &dyn Connector, group: &str) -> Intent {
        let wish = connectors::wish(new_grant(), json!({ "group": group }));
        let intent = connectors::intent(c, wish, now().plus_std(LONG)).await;
        self.ledger().intend(TARGET, &intent);
        intent
    }

    pub async fn open(&self, c: &dyn Connector, group: &str) -> Intent {
        let intent = self.intent(c, group).await;
        c.activate(&intent).await.unwrap();
        intent
    }

    pub async fn close(&self, c: &dyn Connector, recipe: &Recipe) -> Value {
        self.ledger().end(recipe.grant);
        c.revoke(recipe).await.unwrap();
        match c.verify(recipe).await {
            Presence::Absent(evidence) => evidence,
            other => panic!("not absent: {other:?}"),
        }
    }

    pub async fn members(&self, group: &str) -> Vec<String> {
        self.slapd.values(group, "member").await
    }

    /// Grants whose marks the groups bear, as the ledger writes them. Who is marked is in, and who is in is marked.
    pub async fn consistent_grants(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut grants = BTreeSet::new();
        for group in [OPS, ODD] {
            let marks = self.marks(group).await;
            let member = self.members(group).await.iter().any(|m| m == ANA);
            anyhow::ensure!(member != marks.is_empty(), "{group}: a member: {member}, marks: {marks:?}");
            grants.extend(marks.iter().filter_map(|m| Some(m.split(' ').nth(1)?.to_owned())));
        }
        Ok(grants)
    }

    async fn marks(&self, group: &str) -> Vec<String> {
        let all = self.slapd.values(group, "description").await;
        all.into_iter().filter(|text| text.starts_with("tidegate ")).collect()
    }
}

struct Suite {
    world: World,
    more: Value,
    group: &'static str,
    attribute: &'static str,
    member: &'static str,
    trouble: Mutex<Option<Trouble>>,
    way: Way,
    reads: bool,
}

impl Suite {
    /// Through a way that reads what is said in clear, over `ldaps` or after `start_tls`; or, as the settings say, through
    /// one that sees bytes.
    async fn new(
        world: World,
        more: Value,
        reads: Option<&'static str>,
        group: &'static str,
        attribute: &'static str,
        member: &'static str,
    ) -> Self {
        let port = |url: String| url.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let way = match reads {
            None => Way::to(port(world.slapd.ldaps()), way::HONEST).await,
            Some(how) => {
                let tls = (how != "clear").then(|| Tls::of(world.slapd.dir(), how == "start_tls"));
                Way::reading("127.0.0.1", port(world.slapd.ldap()), tls, way::LDAP).await
            }
        };
        let mut more = more;
        if reads == Some("clear") {
            more["tls_root_cert"] = Value::Null;
        }
        if reads == Some("start_tls") {
            more["start_tls"] = json!(true);
        }
        if more.get("url").is_none() {
            let scheme = if matches!(reads, Some("clear" | "start_tls")) { "ldap" } else { "ldaps" };
            more["url"] = json!(format!("{scheme}://127.0.0.1:{}", way.port));
        }
        Self { world, more, group, attribute, member, trouble: Mutex::new(None), way, reads: reads.is_some() }
    }
}

#[async_trait]
impl Harness for Suite {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        let mut config = config("ldap", &self.world.settings(&self.more));
        config.timeout_seconds = 2;
        build(&config, &self.world.surroundings.parts()).map_err(|e| e.to_string())
    }

    fn ledger(&self) -> &FakeLedger {
        self.world.ledger()
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
        Ok(self.world.slapd.values(self.group, self.attribute).await.iter().any(|m| m == self.member))
    }

    fn shares_access(&self) -> bool {
        true
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        match trouble {
            Trouble::Down => self.world.slapd.stop(),
            Trouble::Hangs => self.world.slapd.freeze(),
            Trouble::Lies if !self.reads => return Ok(false),
            Trouble::Lies => self.way.set(Mood::Lies),
            Trouble::LosesAnswers | Trouble::Slow if self.more["url"] == self.world.slapd.ldap() => return Ok(false),
            Trouble::LosesAnswers => self.way.set(Mood::LosesAnswers),
            Trouble::Slow => self.way.set(Mood::Slow(Duration::from_millis(100))),
        }
        *self.trouble.lock().await = Some(trouble);
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        match self.trouble.lock().await.take() {
            Some(Trouble::Down) => self.world.slapd.again(),
            Some(Trouble::Hangs) => self.world.slapd.thaw(),
            _ => self.way.set(Mood::Pass),
        }
        Ok(())
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![PASSWORD.into()]
    }
}

#[tokio::test]
async fn ldap_conforms_with_names_over_ldaps() {
    let more = json!({"placeholder": "cn=nobody"});
    let suite = Suite::new(World::new(), more, None, OPS, "member", ANA).await;
    if let Err(broken) = conformance::run(&suite).await {
        panic!("{broken}");
    }
    assert_eq!(suite.world.members(OPS).await, [BEN]);
    assert_eq!(suite.world.slapd.values(OPS, "description").await, ["People who operate"]);
}

#[tokio::test]
async fn ldap_conforms_at_a_server_that_lies() {
    for reads in ["clear", "ldaps", "start_tls"] {
        let more = json!({"placeholder": "cn=nobody"});
        let suite = Suite::new(World::new(), more, Some(reads), OPS, "member", ANA).await;
        for case in
            ["a_lie_is_not_believed", "a_lost_answer_is_made_good", "a_slow_target_is_waited_for", "secrets_never_show"]
        {
            if let Err(broken) = conformance::run_case(&suite, case).await {
                panic!("{reads}: {broken}");
            }
        }
        assert!(suite.way.changes() > 0, "{reads}: nothing was lied about");
        assert_eq!(suite.world.members(OPS).await, [BEN], "{reads}");
    }
}

#[tokio::test]
async fn ldap_conforms_with_user_ids_over_start_tls() {
    let world = World::new();
    let more = json!({
        "url": world.slapd.ldap(), "start_tls": true, "member_attribute": "memberUid", "member_value": "uid",
    });
    let suite = Suite::new(world, more, None, UNIX, "memberUid", "ana").await;
    if let Err(broken) = conformance::run(&suite).await {
        panic!("{broken}");
    }
    assert!(suite.world.slapd.values(UNIX, "memberUid").await.is_empty());
}

#[tokio::test]
async fn ldap_two_grants_on_one_membership_end_in_both_orders() {
    let w = World::new();
    let c = w.connector();
    for last_first in [false, true] {
        let (one, two) = (w.open(c.as_ref(), OPS).await, w.open(c.as_ref(), OPS).await);
        assert_eq!(two.recipe.shared().map(|s| s.was_there), Some(false), "the first grant is no standing membership");
        assert_eq!(w.marks(OPS).await.len(), 2);
        let (first, second) = if last_first { (&two, &one) } else { (&one, &two) };
        let evidence = w.close(c.as_ref(), &first.recipe).await;
        assert_eq!(evidence["other_grants"], json!([second.recipe.grant]));
        assert_eq!(w.members(OPS).await, [ANA, BEN]);
        assert!(matches!(c.verify(&second.recipe).await, Presence::Present(_)));
        w.close(c.as_ref(), &second.recipe).await;
        assert_eq!(w.members(OPS).await, [BEN]);
        assert!(w.marks(OPS).await.is_empty());
    }
}

#[tokio::test]
async fn ldap_a_standing_member_who_asks_stays_one() {
    let w = World::new();
    let c = w.connector();
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: modify\nadd: member\nmember: {ANA}\n"));
    let intent = w.open(c.as_ref(), OPS).await;
    assert_eq!(intent.recipe.shared().map(|s| s.was_there), Some(true));
    assert!(w.marks(OPS).await.is_empty(), "what is not ours is not marked as ours");
    assert!(c.sweep().await.unwrap().is_empty());
    let evidence = w.close(c.as_ref(), &intent.recipe).await;
    assert_eq!((&evidence["member"], &evidence["was_member"]), (&json!(true), &json!(true)));
    assert_eq!(w.members(OPS).await, [ANA, BEN]);
}

#[tokio::test]
async fn ldap_orphans_are_found_and_ended_and_others_are_not() {
    let w = World::new();
    let c = w.connector();
    let live = w.open(c.as_ref(), ODD).await;
    let (orphan, other) = (new_grant(), new_grant());
    w.slapd.ldif(&format!(
        "dn: {OPS}\nchangetype: modify\nadd: member\nmember: {ANA}\n-\nadd: description\n\
         description: tidegate {orphan} {ANA}\ndescription: other {other} {BEN}\ndescription: tidegate is a broker\n"
    ));
    let found = c.sweep().await.unwrap();
    let mut grants: Vec<GrantId> = found.iter().map(|f| f.grant).collect();
    grants.sort_unstable();
    let mut expected = [live.recipe.grant, orphan];
    expected.sort_unstable();
    assert_eq!(grants, expected, "{found:?}");
    let it = found.into_iter().find(|f| f.grant == orphan).unwrap();
    assert_eq!(it.object, object_name(orphan));
    w.close(c.as_ref(), &Recipe { grant: it.grant, object: it.object, data: it.data }).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    let texts = w.slapd.values(OPS, "description").await;
    assert_eq!(texts, ["People who operate", &format!("other {other} {BEN}"), "tidegate is a broker"]);
    assert_eq!(c.sweep().await.unwrap().len(), 1);
    w.close(c.as_ref(), &live.recipe).await;
    assert!(c.sweep().await.unwrap().is_empty());
}

#[tokio::test]
async fn ldap_the_last_member_makes_room_for_a_placeholder() {
    let w = World::new();
    let bare = w.connector_with(&json!({}));
    bare.validate(&json!({ "group": OPS })).unwrap();
    assert!(bare.check().await.iter().any(|f| !f.ok && f.fix.as_ref().is_some_and(|fix| fix.contains("placeholder"))));
    let intent = w.open(bare.as_ref(), OPS).await;
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: modify\ndelete: member\nmember: {BEN}\n"));
    w.ledger().end(intent.recipe.grant);
    let refused = bare.revoke(&intent.recipe).await;
    assert!(matches!(&refused, Err(Fault::Refused(text)) if text.contains("`placeholder`")), "{refused:?}");
    assert!(matches!(bare.verify(&intent.recipe).await, Presence::Present(_)));
    let c = w.connector();
    w.close(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.members(OPS).await, ["cn=nobody"]);
}

#[tokio::test]
async fn ldap_names_cannot_reach_around() {
    let w = World::new();
    let c = w.connector();
    let wish = |name: &str, group: &str| Wish {
        holder_name: name.into(),
        ..connectors::wish(new_grant(), json!({ "group": group }))
    };
    for name in ["*", "ana)(uid=*", "a*", "nobody", "ana\\", "\0", ""] {
        let refused = c.prepare(&wish(name, OPS)).await;
        assert!(matches!(refused, Err(Fault::Refused(_))), "{name:?}: {refused:?}");
    }
    for group in ["cn=none,ou=groups,dc=example", "ou=people,dc=example", "not a name", "cn=x,,ou=groups,dc=example"] {
        let refused = c.prepare(&wish("ana", group)).await;
        assert!(matches!(refused, Err(Fault::Refused(_))), "{group:?}: {refused:?}");
    }
    // What is odd and right works; however a group is written, it is the same group.
    let odd = wish("o,d (x*)", "CN=a\\2C b \\28c\\29, OU=groups,DC=example");
    let intent = connectors::intent(c.as_ref(), odd, now().plus_std(LONG)).await;
    w.ledger().intend(TARGET, &intent);
    c.activate(&intent).await.unwrap();
    assert_eq!(w.members(ODD).await.len(), 2);
    let plain = wish("o,d (x*)", "cn=a\\, b (c),ou=groups,dc=example");
    let second = connectors::intent(c.as_ref(), plain, now().plus_std(LONG)).await;
    assert_eq!(second.recipe.shared().map(|s| s.key), intent.recipe.shared().map(|s| s.key));
    assert!(!second.recipe.shared().unwrap().was_there);
    w.close(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.members(ODD).await, [BEN]);
}

#[tokio::test]
async fn ldap_what_others_changed_is_set_right_and_never_taken_for_done() {
    let w = World::new();
    let c = w.connector();
    let intent = w.open(c.as_ref(), OPS).await;
    // The membership alone goes, or its mark alone: a repeated call completes what is missing.
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: modify\ndelete: member\nmember: {ANA}\n"));
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)), "drift is seen");
    c.activate(&intent).await.unwrap();
    assert_eq!(w.members(OPS).await, [ANA, BEN]);
    let mark = format!("tidegate {} {ANA}", intent.recipe.grant);
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: modify\ndelete: description\ndescription: {mark}\n"));
    c.activate(&intent).await.unwrap();
    assert_eq!(w.marks(OPS).await, [mark.as_str()]);
    w.slapd.ldif(&format!("dn: {OPS}\nchangetype: modify\ndelete: description\ndescription: {mark}\n"));
    w.close(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    // The group goes, and every membership with it.
    let intent = w.open(c.as_ref(), UNIX.replace("unix", "a\\, b (c)").as_str()).await;
    w.slapd.ldif("dn: cn=a\\, b \\28c\\29,ou=groups,dc=example\nchangetype: delete\n");
    w.close(c.as_ref(), &intent.recipe).await;
}

#[tokio::test]
async fn ldap_restarted_midway_goes_on_where_it_was() {
    let w = World::new();
    let c = w.connector();
    let intent = w.open(c.as_ref(), OPS).await;
    w.slapd.stop();
    w.ledger().end(intent.recipe.grant);
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))));
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Unknown(_)));
    assert!(matches!(c.sweep().await, Err(Fault::Unavailable(_))));
    w.slapd.again();
    w.close(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    // Restarted between two calls: the dead connection is noticed and replaced within the call.
    w.slapd.stop();
    w.slapd.again();
    let intent = w.open(c.as_ref(), OPS).await;
    w.close(c.as_ref(), &intent.recipe).await;
}

#[tokio::test]
async fn ldap_a_rotated_broker_password_is_read_again() {
    let w = World::new();
    let c = w.connector();
    let intent = w.open(c.as_ref(), OPS).await;
    w.slapd.ldif(&format!("dn: {BROKER}\nchangetype: modify\nreplace: userPassword\nuserPassword: next\n"));
    // Connections that are open stay as they were; new ones are refused until the file says the new password.
    w.slapd.stop();
    w.slapd.again();
    w.ledger().end(intent.recipe.grant);
    let refused = c.revoke(&intent.recipe).await;
    assert!(matches!(&refused, Err(Fault::Unavailable(text)) if text.contains("invalid credentials")), "{refused:?}");
    std::fs::write(w.password_file(), "next\n").unwrap();
    w.close(c.as_ref(), &intent.recipe).await;
    std::fs::write(w.password_file(), "\n").unwrap();
    let fresh = w.connector();
    assert!(matches!(fresh.sweep().await, Err(Fault::Unavailable(text)) if text.contains("empty")), "never as nobody");
}

#[tokio::test]
async fn ldap_only_the_right_server_is_told_the_password() {
    let w = World::new();
    let stranger = Slapd::start();
    for url in [json!({"url": stranger.ldaps()}), json!({"url": stranger.ldap(), "start_tls": true})] {
        let c = w.connector_with(&url);
        let seen = c.sweep().await;
        assert!(matches!(&seen, Err(Fault::Unavailable(text)) if text.contains("certificate")), "{seen:?}");
    }
}

#[tokio::test]
async fn ldap_check_says_what_is_missing() {
    let w = World::new();
    let c = w.connector();
    c.validate(&json!({ "group": OPS })).unwrap();
    let well = c.check().await;
    assert!(well.iter().all(|f| f.ok), "{well:#?}");
    assert_eq!(w.members(OPS).await, [BEN], "nothing was changed");
    // Another group is not there, another attribute is not open to the broker.
    c.validate(&json!({"group": "cn=none,ou=groups,dc=example"})).unwrap();
    let findings = c.check().await;
    assert!(findings.iter().any(|f| !f.ok && f.name.contains("cn=none")), "{findings:#?}");
    let closed = w.connector_with(&json!({"placeholder": "cn=nobody", "mark_attribute": "businessCategory"}));
    closed.validate(&json!({ "group": OPS })).unwrap();
    let findings = closed.check().await;
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).collect();
    assert!(
        matches!(bad.as_slice(), [one] if one.name.contains("businessCategory") && one.fix.is_some()),
        "{findings:#?}"
    );
    let intent = w.intent(closed.as_ref(), OPS).await;
    let refused = closed.activate(&intent).await;
    assert!(matches!(&refused, Err(Fault::Refused(text)) if text.contains("insufficient access")), "{refused:?}");
    assert_eq!(w.members(OPS).await, [BEN], "all of a change or nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn ldap_fifty_at_once_on_one_membership_leave_nobody_in() {
    let w = World::new();
    let c = w.connector();
    let run = |_| async {
        let intent = w.open(c.as_ref(), OPS).await;
        w.ledger().end(intent.recipe.grant);
        // Others begin and end all the time; the broker tries again, and so does this.
        for _ in 0..50 {
            match c.revoke(&intent.recipe).await {
                Err(Fault::Unavailable(_)) => {}
                other => return other.unwrap(),
            }
        }
        panic!("never out");
    };
    futures::future::join_all((0..50).map(run)).await;
    assert_eq!(w.members(OPS).await, [BEN]);
    assert!(w.marks(OPS).await.is_empty());
}

#[test]
fn ldap_a_membership_that_does_not_end_by_itself_says_so() {
    let world = connectors::World::still();
    let settings = json!({
        "url": "ldaps://dc.example.org", "bind_dn": "cn=t,dc=example", "password_file": "/run/p",
        "user_base": "dc=example", "group_base": "dc=example", "style": "active-directory",
    });
    let plain = world.connector("ldap", &settings).describe();
    assert!(!plain.native_expiry);
    assert_eq!(plain.residual_window_seconds, 36_000);
    let mut limited = settings.clone();
    limited["time_limited"] = json!(true);
    assert!(world.connector("ldap", &limited).describe().native_expiry);
}
