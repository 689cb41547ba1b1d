//! The Vault connector against a real OpenBao, whose database engine makes logins on a real PostgreSQL.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use tidegate::{
    connectors::{
        build,
        conformance::{self, Harness, Trouble},
        fakes::FakeLedger,
    },
    domain::{
        grant::{Claim, Intent, Recipe},
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
    connectors_postgres::{new_grant, now, password},
    servers::{
        openbao::{OpenBao, shared},
        postgres::{self, Postgres},
        way::{self, Mood, Way},
    },
};

const LONG: Duration = Duration::from_mins(10);

/// A mount, a policy and a broker of their own on a server that others use too.
pub struct World<'a> {
    pub bao: &'a OpenBao,
    pub far: &'a Postgres,
    surroundings: connectors::World,
    number: u32,
}

impl<'a> World<'a> {
    pub async fn new(bao: &'a OpenBao, far: &'a Postgres) -> Self {
        let surroundings = connectors::World::new(Arc::new(SystemClock::new()));
        let it = Self { bao, far, surroundings, number: OpenBao::fresh() };
        let (mount, n) = (it.mount(), it.number);
        bao.call(Method::POST, &format!("sys/mounts/{mount}"), Some(json!({"type": "database"}))).await;
        let url =
            format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", far.port());
        let connection = json!({
            "plugin_name": "postgresql-database-plugin", "connection_url": url, "username": "postgres",
            "password": "none", "allowed_roles": "*",
            // So that a test finds its own logins among those of others.
            "username_template": format!("v{n}-{{{{random 20}}}}"),
        });
        bao.call(Method::POST, &format!("{mount}/config/pg"), Some(connection)).await;
        it.role("ro", "1h", "24h").await;
        it.policy(&it.reader(), &format!("path \"{mount}/creds/*\" {{ capabilities = [\"read\"] }}")).await;
        it.policy(&it.broker(), &it.rights()).await;
        it.give_token(&[it.broker(), it.reader()]).await;
        it
    }

    /// A role of the engine, with leases this long.
    async fn role(&self, name: &str, default_ttl: &str, max_ttl: &str) {
        let made = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
        let role = json!({
            "db_name": "pg", "creation_statements": [made], "default_ttl": default_ttl, "max_ttl": max_ttl,
        });
        self.bao.call(Method::POST, &format!("{}/roles/{name}", self.mount()), Some(role)).await;
    }

    fn mount(&self) -> String {
        format!("db{}", self.number)
    }

    pub fn mark(&self) -> String {
        format!("broker{}", self.number)
    }

    pub fn path(&self) -> String {
        format!("{}/creds/ro", self.mount())
    }

    pub fn reader(&self) -> String {
        format!("reader{}", self.number)
    }

    fn broker(&self) -> String {
        format!("tidegate{}", self.number)
    }

    async fn policy(&self, name: &str, text: &str) {
        self.bao.call(Method::PUT, &format!("sys/policies/acl/{name}"), Some(json!({ "policy": text }))).await;
    }

    /// The policy of the sheet, with the path filled in.
    fn rights(&self) -> String {
        let sheet = include_str!("../../docs/connectors/vault.md");
        let policy = sheet.split("```hcl\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a policy");
        policy.replace("database/creds/orders-ro", &self.path())
    }

    pub fn token_file(&self) -> PathBuf {
        self.surroundings.path().join("token")
    }

    async fn give_token(&self, policies: &[String]) -> String {
        let token = self.bao.token(policies).await;
        std::fs::write(self.token_file(), format!("{token}\n")).unwrap();
        token
    }

    pub fn settings(&self) -> Value {
        json!({"address": self.bao.address(), "token_file": self.token_file(), "mark": self.mark()})
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        self.connector_within(5)
    }

    fn connector_within(&self, seconds: u32) -> Arc<dyn Connector> {
        let mut config = config("vault", &self.settings());
        config.timeout_seconds = seconds;
        let connector = build(&config, &self.surroundings.parts()).unwrap();
        connector.validate(&self.parameters()).unwrap();
        connector
    }

    pub fn parameters(&self) -> Value {
        json!({"path": self.path(), "policies": [self.reader()]})
    }

    async fn intent(&self, c: &dyn Connector, lasting: Duration) -> Intent {
        self.intent_with(c, lasting, self.parameters()).await
    }

    async fn intent_with(&self, c: &dyn Connector, lasting: Duration, parameters: Value) -> Intent {
        connectors::intent(c, connectors::wish(new_grant(), parameters), now().plus_std(lasting)).await
    }

    async fn open(&self, c: &dyn Connector, lasting: Duration) -> (Intent, Minted) {
        let intent = self.intent(c, lasting).await;
        c.activate(&intent).await.unwrap();
        let minted = c.mint(&intent, &claim(1)).await.unwrap();
        (intent, minted)
    }

    /// Does the login work at the far system?
    pub async fn works(&self, minted: &Minted) -> bool {
        let user = minted.public["username"].as_str().unwrap();
        self.far.options(user, password(minted), "postgres").connect().await.is_ok()
    }

    /// Logins of this world at the far system.
    pub async fn logins(&self) -> u32 {
        let sql = format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v{}-%'", self.number);
        self.far.ask("postgres", &sql).await.unwrap().parse().unwrap()
    }

    /// Token roles of this world.
    pub async fn grants(&self) -> BTreeSet<String> {
        let (_, list) = self.bao.ask(Method::GET, "auth/token/roles?list=true", None, self.bao.root()).await;
        let mut ours = BTreeSet::new();
        for name in list["data"]["keys"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let (_, role) = self.bao.ask(Method::GET, &format!("auth/token/roles/{name}"), None, self.bao.root()).await;
            if role["data"]["path_suffix"] == self.mark() {
                ours.insert(name.to_owned());
            }
        }
        ours
    }

    /// What the server does in its own time is done when the far system shows it.
    async fn until_logins_are(&self, n: u32) {
        for _ in 0..100 {
            if self.logins().await == n {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(self.logins().await, n);
    }
}

fn claim(number: u32) -> Claim {
    Claim { serial: number.into(), number, at: now() }
}

async fn absent(c: &dyn Connector, recipe: &Recipe) -> Value {
    match c.verify(recipe).await {
        Presence::Absent(evidence) => evidence,
        other => panic!("not absent: {other:?}"),
    }
}

struct Suite<'a> {
    world: World<'a>,
    ledger: FakeLedger,
    trouble: Mutex<Option<Trouble>>,
    way: Way,
}

#[async_trait]
impl Harness for Suite<'_> {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        let mut settings = self.world.settings();
        settings["address"] = json!(format!("http://127.0.0.1:{}", self.way.port));
        let mut config = config("vault", &settings);
        config.timeout_seconds = 2;
        let connector = build(&config, &self.world.surroundings.parts()).map_err(|e| e.to_string())?;
        connector.validate(&self.world.parameters()).map_err(|e| e.to_string())?;
        Ok(connector)
    }

    fn ledger(&self) -> &FakeLedger {
        &self.ledger
    }

    fn target(&self) -> &'static str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        connectors::wish(grant, self.world.parameters())
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

    async fn works(&self, _intent: &Intent, minted: Option<&Minted>) -> Result<bool, String> {
        Ok(self.world.works(minted.ok_or("nothing was minted")?).await)
    }

    async fn plant_foreign(&self, object: &str) -> Result<bool, String> {
        let role = json!({"path_suffix": "somebody-else", "allowed_policies": ["default"]});
        self.world.bao.call(Method::POST, &format!("auth/token/roles/{object}"), Some(role)).await;
        let token = self.world.bao.call(Method::POST, &format!("auth/token/create/{object}"), Some(json!({}))).await;
        std::fs::write(self.world.surroundings.path().join("foreign"), token["auth"]["client_token"].as_str().unwrap())
            .map_err(|e| e.to_string())?;
        Ok(true)
    }

    async fn foreign_intact(&self, object: &str) -> Result<bool, String> {
        let role = self.world.bao.call(Method::GET, &format!("auth/token/roles/{object}"), None).await;
        let token = std::fs::read_to_string(self.world.surroundings.path().join("foreign")).unwrap();
        let (status, _) = self.world.bao.ask(Method::GET, "auth/token/lookup-self", None, &token).await;
        Ok(status == 200 && role["data"]["path_suffix"] == "somebody-else")
    }

    async fn remove_foreign(&self, object: &str) -> Result<(), String> {
        self.world.bao.call(Method::DELETE, &format!("auth/token/roles/{object}"), None).await;
        Ok(())
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        match trouble {
            Trouble::Down => self.world.bao.stop(),
            Trouble::Hangs => self.world.bao.freeze(),
            Trouble::Lies => self.way.set(Mood::Lies),
            Trouble::LosesAnswers => self.way.set(Mood::LosesAnswers),
            Trouble::Slow => self.way.set(Mood::Slow(Duration::from_millis(30))),
        }
        *self.trouble.lock().await = Some(trouble);
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        match self.trouble.lock().await.take() {
            Some(Trouble::Down) => self.world.bao.start().await,
            Some(Trouble::Hangs) => self.world.bao.thaw(),
            _ => self.way.set(Mood::Pass),
        }
        Ok(())
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![std::fs::read_to_string(self.world.token_file()).unwrap().trim().to_owned()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_conforms() {
    let bao = OpenBao::dedicated().await;
    let world = World::new(&bao, postgres::shared()).await;
    let way = Way::to(bao.address().rsplit(':').next().unwrap().parse().unwrap(), way::HTTP).await;
    let suite = Suite { world, ledger: FakeLedger::new(), trouble: Mutex::new(None), way };
    if let Err(broken) = conformance::run(&suite).await {
        panic!("{broken}");
    }
    suite.world.until_logins_are(0).await;
}

#[tokio::test]
async fn vault_no_time_is_not_no_limit() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let over = connectors::intent(c.as_ref(), connectors::wish(new_grant(), w.parameters()), now()).await;
    assert!(matches!(c.activate(&over).await, Err(Fault::Refused(why)) if why.contains("less than a second")));
    assert!(w.grants().await.is_empty());
    let (mut held, _) = w.open(c.as_ref(), LONG).await;
    held.not_after = now();
    assert!(matches!(c.mint(&held, &claim(2)).await, Err(Fault::Refused(_))));
    c.revoke(&held.recipe).await.unwrap();
    absent(c.as_ref(), &held.recipe).await;
}

#[tokio::test]
async fn vault_a_grant_from_open_to_proof() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let intent = w.intent(c.as_ref(), LONG).await;
    let applied = c.activate(&intent).await.unwrap();
    assert_eq!(applied["token_role"], intent.recipe.object);
    assert_eq!(w.logins().await, 0, "nothing is open before it is claimed");
    let minted = c.mint(&intent, &claim(1)).await.unwrap();
    assert!(w.works(&minted).await);
    // The lease of an hour was shortened to the grant's end, here and at the far system.
    assert!(minted.expires_at <= intent.not_after);
    let sql = format!(
        "SELECT bool_and(rolvaliduntil < now() + interval '11 minutes') FROM pg_roles WHERE rolname LIKE 'v{}-%'",
        w.number
    );
    assert_eq!(w.far.ask("postgres", &sql).await.as_deref(), Some("true"));
    let Presence::Present(seen) = c.verify(&intent.recipe).await else { panic!("not present") };
    assert_eq!((&seen["role"], &seen["tokens"]), (&json!("ours"), &json!(1)));

    c.revoke(&intent.recipe).await.unwrap();
    let evidence = absent(c.as_ref(), &intent.recipe).await;
    assert_eq!((&evidence["tokens"], &evidence["leases_waiting_for_their_end"]), (&json!(0), &json!([])));
    assert!(evidence["cluster_id"].as_str().is_some_and(|id| !id.is_empty()), "{evidence}");
    assert_eq!(w.logins().await, 0, "the far system's login is gone with the lease");
    assert!(!w.works(&minted).await);
    let gone = c.mint(&intent, &claim(2)).await.err();
    assert!(matches!(gone, Some(Fault::Refused(_))), "{gone:?}");
}

#[tokio::test]
async fn vault_leases_that_nobody_saw_end_with_the_grant() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let (intent, _) = w.open(c.as_ref(), LONG).await;
    // As if the broker had died between the making of the token and the answer.
    let made = json!({"policies": [w.reader()], "ttl": "5m"});
    let made = w.bao.call(Method::POST, &format!("auth/token/create/{}", intent.recipe.object), Some(made)).await;
    let unseen = made["auth"]["client_token"].as_str().unwrap().to_owned();
    assert_eq!(w.bao.ask(Method::GET, &w.path(), None, &unseen).await.0, 200);
    assert_eq!(w.bao.ask(Method::GET, &w.path(), None, &unseen).await.0, 200);
    assert_eq!(w.logins().await, 3);
    c.revoke(&intent.recipe).await.unwrap();
    absent(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.logins().await, 0);
    assert_eq!(w.bao.ask(Method::GET, &w.path(), None, &unseen).await.0, 403);
}

#[tokio::test]
async fn vault_a_second_claim_ends_the_first_copy() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let (intent, first) = w.open(c.as_ref(), LONG).await;
    let second = c.mint(&intent, &claim(2)).await.unwrap();
    assert!(!w.works(&first).await);
    assert!(w.works(&second).await);
    assert_eq!(w.logins().await, 1);
    c.revoke(&intent.recipe).await.unwrap();
}

#[tokio::test]
async fn vault_an_end_that_the_far_system_did_not_have_is_not_believed() {
    let far = Postgres::dedicated(&["fsync=off"]);
    let w = World::new(shared().await, &far).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    far.stop();
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))));
    let Presence::Present(seen) = c.verify(&intent.recipe).await else { panic!("believed") };
    assert_eq!(seen["leases_waiting_for_their_end"].as_array().unwrap().len(), 1, "{seen}");
    assert_eq!(seen["tokens"], 0);
    far.start();
    assert!(w.works(&minted).await, "the login is still there");
    c.revoke(&intent.recipe).await.unwrap();
    absent(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.logins().await, 0);
}

#[tokio::test]
async fn vault_the_brokers_token_is_read_again_and_holders_notice_nothing() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    let old = std::fs::read_to_string(w.token_file()).unwrap();
    let ended = json!({"token": old.trim()});
    w.bao.call(Method::POST, "auth/token/revoke", Some(ended)).await;
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(text)) if text.contains("not accepted")));
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Unknown(_)));
    assert!(w.works(&minted).await, "what was handed over does not hang on the broker's token");
    w.give_token(&[w.broker(), w.reader()]).await;
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)));
    c.revoke(&intent.recipe).await.unwrap();
    absent(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.logins().await, 0);
}

#[tokio::test]
async fn vault_restarted_midway_goes_on_where_it_was() {
    let bao = OpenBao::dedicated().await;
    let w = World::new(&bao, postgres::shared()).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    bao.stop();
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))));
    assert!(matches!(c.sweep().await, Err(Fault::Unavailable(_))));
    bao.start().await;
    assert!(w.works(&minted).await);
    c.revoke(&intent.recipe).await.unwrap();
    absent(c.as_ref(), &intent.recipe).await;
    assert_eq!(w.logins().await, 0);
}

#[tokio::test]
async fn vault_check_says_what_is_missing_and_its_fixes_are_enough() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    assert!(c.check().await.iter().all(|f| f.ok), "{:#?}", c.check().await);
    w.policy(&w.broker(), "path \"sys/leases/renew\" { capabilities = [\"update\"] }").await;
    w.give_token(&[w.broker()]).await;
    let intent = w.intent(c.as_ref(), LONG).await;
    let refused = c.activate(&intent).await;
    assert!(
        matches!(refused, Err(Fault::Refused(_))),
        "a right that is missing is no reason to try again: {refused:?}"
    );
    let findings = c.check().await;
    let bad: Vec<_> = findings.iter().filter(|f| !f.ok).collect();
    assert!(bad.len() >= 8, "{findings:#?}");
    let rules: Vec<String> = bad.iter().filter_map(|f| f.fix.clone()).filter(|fix| fix.starts_with("path ")).collect();
    w.policy(
        &w.broker(),
        &format!("{}\n{}", rules.join("\n"), "path \"sys/leases/renew\" { capabilities = [\"update\"] }"),
    )
    .await;
    w.give_token(&[w.broker(), w.reader()]).await;
    assert!(c.check().await.iter().all(|f| f.ok), "{:#?}", c.check().await);
    c.activate(&intent).await.unwrap();
    c.mint(&intent, &claim(1)).await.unwrap();
    c.revoke(&intent.recipe).await.unwrap();
    absent(c.as_ref(), &intent.recipe).await;
}

#[tokio::test]
async fn vault_the_brokers_rights_do_not_reach_beyond_its_policies() {
    let w = World::new(shared().await, postgres::shared()).await;
    let token = std::fs::read_to_string(w.token_file()).unwrap().trim().to_owned();
    let role = format!("tg-{}", ulid::Ulid::from_parts(1, u128::from(w.number)).to_string().to_lowercase());
    let greedy = json!({"allowed_policies": ["root", "default"]});
    let (status, _) = w.bao.ask(Method::POST, &format!("auth/token/roles/{role}"), Some(greedy), &token).await;
    assert_eq!(status, 403, "the policy of the sheet lets no role hand out what the broker has not got");
    let plain = json!({"orphan": true, "path_suffix": w.mark()});
    let (status, said) = w.bao.ask(Method::POST, &format!("auth/token/roles/{role}"), Some(plain), &token).await;
    assert_eq!(status, 204, "{said}");
    let more = json!({"policies": ["somebody-elses"]});
    let (status, said) = w.bao.ask(Method::POST, &format!("auth/token/create/{role}"), Some(more), &token).await;
    assert_eq!(status, 400, "{said}");
}

#[tokio::test]
async fn vault_orphans_are_found_and_ended_and_others_are_not() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let live = w.intent(c.as_ref(), LONG).await;
    c.activate(&live).await.unwrap();
    // Planted by hand: a role with our mark, a token of it, two leases, and no row in any ledger.
    let orphan = new_grant();
    let name = tidegate::domain::grant::object_name(orphan);
    let role = json!({"orphan": true, "path_suffix": w.mark()});
    w.bao.call(Method::POST, &format!("auth/token/roles/{name}"), Some(role)).await;
    let made =
        w.bao.call(Method::POST, &format!("auth/token/create/{name}"), Some(json!({"policies": [w.reader()]}))).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    for _ in 0..2 {
        assert_eq!(w.bao.ask(Method::GET, &w.path(), None, token).await.0, 200);
    }
    // Somebody deletes the role: its token is found nevertheless.
    w.bao.call(Method::DELETE, &format!("auth/token/roles/{name}"), None).await;
    // Another broker's, and something that only looks like ours.
    let other = tidegate::domain::grant::object_name(new_grant());
    w.bao.call(Method::POST, &format!("auth/token/roles/{other}"), Some(json!({"path_suffix": "other"}))).await;
    w.bao.call(Method::POST, "auth/token/roles/tg-mine", Some(json!({"path_suffix": w.mark()}))).await;

    let found = c.sweep().await.unwrap();
    let grants: Vec<GrantId> = found.iter().map(|f| f.grant).collect();
    assert_eq!(grants, [live.recipe.grant, orphan], "{found:?}");
    let it = found.into_iter().find(|f| f.grant == orphan).unwrap();
    assert!(it.native_expiry.is_some_and(|at| at > now()));
    let recipe = Recipe { grant: it.grant, object: it.object, data: it.data };
    c.revoke(&recipe).await.unwrap();
    absent(c.as_ref(), &recipe).await;
    assert_eq!(w.logins().await, 0);
    assert_eq!(c.sweep().await.unwrap().len(), 1);
    c.revoke(&live.recipe).await.unwrap();
    for name in [other, "tg-mine".into()] {
        w.bao.call(Method::DELETE, &format!("auth/token/roles/{name}"), None).await;
    }
}

#[tokio::test]
async fn vault_a_secret_without_a_lease_is_refused() {
    let w = World::new(shared().await, postgres::shared()).await;
    let c = w.connector();
    let kv = format!("kv{}", w.number);
    w.bao.call(Method::POST, &format!("sys/mounts/{kv}"), Some(json!({"type": "kv"}))).await;
    w.bao.call(Method::POST, &format!("{kv}/static"), Some(json!({"password": "standing"}))).await;
    w.policy(&w.reader(), &format!("path \"{kv}/*\" {{ capabilities = [\"read\"] }}")).await;
    let more = format!("path \"sys/leases/lookup/{kv}/*\" {{ capabilities = [\"list\", \"sudo\"] }}");
    w.policy(&w.broker(), &format!("{}{more}", w.rights())).await;
    let parameters = json!({"path": format!("{kv}/static"), "policies": [w.reader()]});
    let intent = w.intent_with(c.as_ref(), LONG, parameters).await;
    c.activate(&intent).await.unwrap();
    let refused = c.mint(&intent, &claim(1)).await.err();
    assert!(matches!(&refused, Some(Fault::Refused(text)) if text.contains("without a lease")), "{refused:?}");
    c.revoke(&intent.recipe).await.unwrap();
}

#[tokio::test]
async fn vault_a_lease_lasts_as_long_as_the_engine_allows_and_says_so() {
    let w = World::new(shared().await, postgres::shared()).await;
    w.role("brief", "5s", "60s").await;
    w.role("short", "30s", "24h").await;
    let c = w.connector();
    for (role, longest) in [("brief", 60), ("short", 600)] {
        let path = format!("{}/creds/{role}", w.mount());
        let more = format!("path \"sys/leases/lookup/{path}/*\" {{ capabilities = [\"list\", \"sudo\"] }}");
        w.policy(&w.broker(), &format!("{}{more}", w.rights())).await;
        let parameters = json!({"path": path, "policies": [w.reader()]});
        let intent = w.intent_with(c.as_ref(), LONG, parameters).await;
        c.activate(&intent).await.unwrap();
        let minted = c.mint(&intent, &claim(1)).await.unwrap();
        let lasts = minted.expires_at.since(now()).as_secs();
        assert!(lasts.abs_diff(longest) <= 5, "{role}: {lasts} s");
        c.revoke(&intent.recipe).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vault_fifty_at_once_under_a_rate_limit() {
    let bao = OpenBao::dedicated().await;
    let w = World::new(&bao, postgres::shared()).await;
    let c = w.connector_within(30);
    let quota = json!({"rate": 120, "interval": "1s"});
    bao.call(Method::POST, "sys/quotas/rate-limit/all", Some(quota)).await;
    let run = |_| async {
        let (intent, _) = w.open(c.as_ref(), LONG).await;
        c.revoke(&intent.recipe).await.unwrap();
        absent(c.as_ref(), &intent.recipe).await;
    };
    futures::future::join_all((0..50).map(run)).await;
    bao.call(Method::DELETE, "sys/quotas/rate-limit/all", None).await;
    w.until_logins_are(0).await;
}

#[test]
fn vault_the_environment_may_name_the_token_file() {
    let world = connectors::World::still();
    let settings = json!({"address": "http://127.0.0.1:8200", "token_file_env": "TIDEGATE_NO_SUCH_VARIABLE"});
    let text = build(&config("vault", &settings), &world.parts()).unwrap_err().to_string();
    assert!(text.contains("TIDEGATE_NO_SUCH_VARIABLE"), "{text}");
    // Every test has a PATH; that it names no token is found out when the token is needed.
    let settings = json!({"address": "http://127.0.0.1:8200", "token_file_env": "PATH"});
    assert!(build(&config("vault", &settings), &world.parts()).is_ok());
}
