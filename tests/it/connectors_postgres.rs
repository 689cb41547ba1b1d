//! The PostgreSQL connector against a real server, with a broker that is no superuser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

#[cfg(feature = "failpoints")]
mod conformance;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tidegate::{
    connectors::postgres::Postgres as PostgresConnector,
    domain::{
        grant::{Claim, Intent, Recipe},
        id::{GrantId, IdentityId},
        secret::Minted,
        time::Timestamp,
    },
    ports::{
        clock::{Clock, SystemClock},
        connector::{Connector, Fault, Finding, Presence, Wish},
        entropy::{Entropy, SystemEntropy},
    },
};

use crate::servers::postgres::{Postgres, shared};

pub const BROKER_PASSWORD: &str = "the broker's own \\ password";

/// A database of its own, with a broker, a fixed role `app_…` that may use table `data`, and an heir `heir_…`.
pub struct World<'a> {
    pub server: &'a Postgres,
    pub database: String,
    dir: tempfile::TempDir,
}

impl<'a> World<'a> {
    pub async fn new(server: &'a Postgres) -> Self {
        let it = Self { server, database: server.fresh_database().await, dir: tempfile::tempdir().unwrap() };
        let (app, heir, broker) = (it.name("app"), it.name("heir"), it.name("broker"));
        let roles = format!(
            "CREATE ROLE {app} NOLOGIN; CREATE ROLE {heir} NOLOGIN; \
             CREATE ROLE {broker} LOGIN CREATEROLE PASSWORD '{}'; \
             GRANT pg_signal_backend, pg_read_all_stats, {heir} TO {broker}; GRANT {app} TO {broker} WITH ADMIN OPTION",
            BROKER_PASSWORD.replace('\'', "''")
        );
        server.run("postgres", &roles).await;
        it.open_to_app(&it.database).await;
        std::fs::write(it.password_file(), format!("{BROKER_PASSWORD}\n")).unwrap();
        it
    }

    pub fn name(&self, what: &str) -> String {
        format!("{what}_{}", self.database)
    }

    fn password_file(&self) -> std::path::PathBuf {
        self.dir.path().join("password")
    }

    /// Let the fixed role make things in a database, and the heir own them.
    async fn open_to_app(&self, database: &str) {
        let (app, heir) = (self.name("app"), self.name("heir"));
        let sql = format!(
            "CREATE TABLE data (x int); GRANT SELECT, INSERT ON data TO {app}; GRANT CREATE ON SCHEMA public TO {app}, {heir}"
        );
        self.server.run(database, &sql).await;
    }

    pub fn settings(&self, extra: &Value) -> serde_json::Map<String, Value> {
        let mut it = json!({
            "host": "127.0.0.1", "port": self.server.port(), "tls": "disable", "database": self.database,
            "user": self.name("broker"), "password_file": self.password_file(), "reassign_to": self.name("heir"),
            "connect_timeout_seconds": 2, "statement_timeout_seconds": 4,
        });
        it.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        it.as_object().unwrap().clone()
    }

    pub fn connector(&self) -> Arc<dyn Connector> {
        self.connector_with(&json!({}))
    }

    pub fn connector_with(&self, extra: &Value) -> Arc<dyn Connector> {
        connector(&self.settings(extra))
    }

    pub fn wish(&self, grant: GrantId) -> Wish {
        wish(grant, json!({"roles": [self.name("app")]}))
    }

    pub async fn intent(&self, c: &dyn Connector, lasting: Duration) -> Intent {
        self.intent_with(c, lasting, json!({"roles": [self.name("app")]})).await
    }

    async fn intent_with(&self, c: &dyn Connector, lasting: Duration, parameters: Value) -> Intent {
        let wish = wish(new_grant(), parameters);
        let recipe = c.prepare(&wish).await.unwrap();
        intent(wish, recipe, now().plus_std(lasting))
    }

    /// A live grant and its credential.
    async fn open(&self, c: &dyn Connector, lasting: Duration) -> (Intent, Minted) {
        let intent = self.intent(c, lasting).await;
        c.activate(&intent).await.unwrap();
        let minted = c.mint(&intent, &claim(1)).await.unwrap();
        (intent, minted)
    }

    /// Log in as the holder does.
    pub async fn login(&self, minted: &Minted, database: &str) -> Result<PgConnection, sqlx::Error> {
        let user = minted.public["username"].as_str().unwrap();
        self.server.options(user, password(minted), database).connect().await
    }

    async fn roles_named(&self, role: &str) -> String {
        self.server.ask("postgres", &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).await.unwrap()
    }
}

fn connector(settings: &serde_json::Map<String, Value>) -> Arc<dyn Connector> {
    Arc::new(PostgresConnector::new(settings, Arc::new(SystemEntropy::new())).unwrap())
}

fn wish(grant: GrantId, parameters: Value) -> Wish {
    Wish {
        grant,
        holder: IdentityId::new(ulid::Ulid::from_parts(1, 1)),
        holder_name: "ana".into(),
        entitlement: "db:readwrite".into(),
        parameters,
    }
}

fn intent(wish: Wish, recipe: Recipe, not_after: Timestamp) -> Intent {
    Intent {
        recipe,
        holder: wish.holder,
        holder_name: wish.holder_name,
        entitlement: wish.entitlement,
        parameters: wish.parameters,
        not_after,
    }
}

pub fn new_grant() -> GrantId {
    GrantId::new(SystemEntropy::new().ulid(now()).unwrap())
}

pub fn now() -> Timestamp {
    SystemClock::new().now()
}

fn claim(number: u32) -> Claim {
    Claim { serial: number.into(), number, at: now() }
}

pub fn password(minted: &Minted) -> &str {
    minted.secrets.iter().find(|(name, _)| *name == "password").map(|(_, s)| s.expose()).unwrap()
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}

pub const LONG: Duration = Duration::from_mins(10);

#[tokio::test]
async fn a_grant_from_open_to_proof() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let parameters = json!({
        "roles": [w.name("app")], "connection_limit": 1, "statement_timeout": "30s", "databases": [w.database],
    });
    let intent = w.intent_with(c.as_ref(), LONG, parameters).await;
    let applied = c.activate(&intent).await.unwrap();
    assert_eq!(applied["valid_until"], intent.not_after.to_string());
    assert_eq!(applied["member_of"], json!([w.name("app")]));
    assert_eq!(applied["connection_limit"], 1);
    let minted = c.mint(&intent, &claim(1)).await.unwrap();
    assert_eq!(minted.expires_at, intent.not_after);
    assert_eq!(minted.public["port"], w.server.port());
    assert_eq!(minted.public["database"], w.database.as_str());

    let mut holder = w.login(&minted, &w.database).await.unwrap();
    execute(&mut holder, "INSERT INTO data VALUES (1)").await.unwrap();
    let timeout: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut holder).await.unwrap();
    assert_eq!(timeout, "30s");
    assert!(w.login(&minted, &w.database).await.is_err(), "the connection limit holds");
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)));

    c.revoke(&intent.recipe).await.unwrap();
    assert!(holder.ping().await.is_err(), "the open session was cut");
    assert!(w.login(&minted, &w.database).await.is_err(), "login is refused after the end");
    let Presence::Absent(evidence) = c.verify(&intent.recipe).await else { panic!("not absent") };
    assert_eq!((&evidence["roles"], &evidence["sessions"]), (&json!(0), &json!(0)));
    for field in ["server_version", "system_identifier", "checked_at"] {
        assert!(evidence[field].as_str().is_some_and(|t| !t.is_empty()), "{field}: {evidence}");
    }
}

#[tokio::test]
async fn the_password_is_checked_and_never_in_the_servers_log() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    let user = minted.public["username"].as_str().unwrap();
    let wrong = w.server.options(user, "wrong", &w.database).connect().await.expect_err("refused");
    assert_eq!(wrong.as_database_error().unwrap().code().unwrap(), "28P01");
    w.login(&minted, &w.database).await.unwrap();
    c.revoke(&intent.recipe).await.unwrap();
    let log = w.server.log();
    assert!(log.contains(&format!("CREATE ROLE \"{user}\"")), "the log has every statement");
    assert!(log.contains("SCRAM-SHA-256$4096:"), "the verifier is what travels");
    assert!(!log.contains(password(&minted)));
}

#[tokio::test]
async fn a_second_claim_ends_the_first_copy_and_its_sessions() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let (intent, first) = w.open(c.as_ref(), LONG).await;
    let mut session = w.login(&first, &w.database).await.unwrap();
    let second = c.mint(&intent, &claim(2)).await.unwrap();
    assert!(session.ping().await.is_err());
    assert!(w.login(&first, &w.database).await.is_err());
    assert!(w.login(&second, &w.database).await.is_ok());
    c.revoke(&intent.recipe).await.unwrap();
    let gone = c.mint(&intent, &claim(3)).await.err();
    assert!(matches!(gone, Some(Fault::Refused(_))), "{gone:?}");
}

#[tokio::test]
async fn what_the_holder_made_goes_to_the_heir_in_every_database() {
    let w = World::new(shared()).await;
    let other = w.server.fresh_database().await;
    w.open_to_app(&other).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    for database in [&w.database, &other] {
        let mut holder = w.login(&minted, database).await.unwrap();
        let sql = "CREATE TABLE mine (x int); GRANT SELECT ON mine TO PUBLIC; CREATE TEMP TABLE brief (x int); \
                   CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; \
                   ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC";
        execute(&mut holder, sql).await.unwrap();
    }
    c.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)));
    for database in [&w.database, &other] {
        let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'mine'";
        assert_eq!(w.server.ask(database, owner).await.unwrap(), w.name("heir"));
        let function = "SELECT proowner::regrole || ' ' || prosecdef FROM pg_proc WHERE proname = 'f'";
        assert_eq!(w.server.ask(database, function).await.unwrap(), format!("{} false", w.name("heir")));
    }
}

#[tokio::test]
async fn rights_that_a_superuser_gave_to_the_role_need_a_superuser_to_end() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    let (role, database) = (intent.recipe.object.as_str(), &w.database);
    w.server
        .run(database, &format!("GRANT ALL ON data TO {role}; GRANT CREATE ON DATABASE {database} TO {role}"))
        .await;
    let refused = c.revoke(&intent.recipe).await;
    let fix = format!("DROP OWNED BY \"{role}\"");
    assert!(matches!(&refused, Err(Fault::Refused(text)) if text.contains(&fix)), "{refused:?}");
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)));
    assert!(w.login(&minted, database).await.is_err(), "until then it cannot log in");
    w.server.run(database, &fix).await;
    c.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)));
}

#[tokio::test]
async fn what_the_holder_made_is_dropped_if_so_configured() {
    let w = World::new(shared()).await;
    let c = w.connector_with(&json!({"reassign_to": null, "drop_owned": true}));
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    let mut holder = w.login(&minted, &w.database).await.unwrap();
    execute(&mut holder, "CREATE TABLE mine (x int)").await.unwrap();
    c.revoke(&intent.recipe).await.unwrap();
    assert_eq!(w.server.ask(&w.database, "to_regclass('public.mine')").await, None);
    assert_eq!(w.roles_named(&intent.recipe.object).await, "0");
}

#[tokio::test]
async fn a_foreign_role_with_our_name_is_untouched() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let intent = w.intent(c.as_ref(), LONG).await;
    let role = intent.recipe.object.clone();
    // Another broker's comment is as foreign as none.
    w.server
        .run("postgres", &format!("CREATE ROLE {role} LOGIN; COMMENT ON ROLE {role} IS 'other grant {}'", new_grant()))
        .await;
    let state = format!("SELECT to_json(r)::text FROM pg_roles r WHERE rolname = '{role}'");
    let before = w.server.ask("postgres", &state).await;
    assert!(matches!(c.activate(&intent).await, Err(Fault::Foreign(_))));
    assert!(matches!(c.mint(&intent, &claim(1)).await.err(), Some(Fault::Foreign(_))));
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Foreign(_))));
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)));
    assert!(!c.sweep().await.unwrap().iter().any(|f| f.object == role));
    assert_eq!(w.server.ask("postgres", &state).await, before);
    w.server.run("postgres", &format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_repeated_activation_adopts_and_sets_right() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let (mut intent, minted) = w.open(c.as_ref(), LONG).await;
    let (role, extra) = (intent.recipe.object.clone(), w.name("extra"));
    w.server
        .run("postgres", &format!("CREATE ROLE {extra}; GRANT {extra} TO {role}; REVOKE {} FROM {role}", w.name("app")))
        .await;
    intent.not_after = intent.not_after.plus_std(LONG);
    let applied = c.activate(&intent).await.unwrap();
    assert_eq!(applied["valid_until"], intent.not_after.to_string());
    assert_eq!(applied["member_of"], json!([w.name("app")]));
    assert!(w.login(&minted, &w.database).await.is_ok(), "the holder's copy still works");
    let found = c.sweep().await.unwrap();
    let found = found.iter().find(|f| f.object == role).unwrap();
    assert_eq!((found.grant, found.native_expiry), (intent.recipe.grant, Some(intent.not_after)));
    c.revoke(&intent.recipe).await.unwrap();
}

#[tokio::test]
async fn the_end_is_enforced_with_the_broker_dead() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), Duration::from_secs(3)).await;
    assert!(w.login(&minted, &w.database).await.is_ok());
    drop(c);
    tokio::time::sleep(intent.not_after.since(now()) + Duration::from_millis(200)).await;
    assert!(w.login(&minted, &w.database).await.is_err());
    w.connector().revoke(&intent.recipe).await.unwrap();
}

#[tokio::test]
async fn hostile_parameters_are_refused_before_the_server_hears_of_them() {
    let w = World::new(shared()).await;
    let c = w.connector();
    for parameters in [
        json!({"roles": ["x\"; DROP TABLE data; --"]}),
        json!({"roles": ["x' OR '1'='1"]}),
        json!({"roles": ["x\u{0}"]}),
        json!({"roles": [w.name("broker")]}),
        json!({"roles": [w.name("app")], "databases": ["a'b"]}),
        json!({"roles": "app"}),
    ] {
        assert!(c.validate(&parameters).is_err(), "{parameters}");
        let wish = Wish { parameters, ..w.wish(new_grant()) };
        assert!(matches!(c.prepare(&wish).await, Err(Fault::Refused(_))));
    }
    let mut recipe = c.prepare(&w.wish(new_grant())).await.unwrap();
    recipe.object = "postgres".into();
    assert!(matches!(c.revoke(&recipe).await, Err(Fault::Refused(_))), "a recipe cannot name another role");
    assert!(matches!(c.verify(&recipe).await, Presence::Unknown(_)));
}

#[tokio::test]
async fn a_role_that_is_missing_is_refused_by_the_server_and_leaves_nothing() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let intent = w.intent_with(c.as_ref(), LONG, json!({"roles": ["no_such_role"]})).await;
    let refused = c.activate(&intent).await;
    assert!(matches!(&refused, Err(Fault::Refused(text)) if text.contains("no_such_role")), "{refused:?}");
    assert_eq!(w.roles_named(&intent.recipe.object).await, "0");
    c.revoke(&intent.recipe).await.unwrap();
}

#[tokio::test]
async fn check_says_what_is_missing_and_its_fixes_are_enough() {
    let w = World::new(shared()).await;
    let (app, heir, weak) = (w.name("app2"), w.name("heir2"), w.name("weak"));
    w.server.run("postgres", &format!("CREATE ROLE {weak} LOGIN NOINHERIT PASSWORD 'weak'; CREATE ROLE {app}")).await;
    w.server.run("postgres", &format!("REVOKE CONNECT ON DATABASE {} FROM PUBLIC", w.database)).await;
    std::fs::write(w.password_file(), "weak").unwrap();
    let c = w.connector_with(&json!({
        "user": weak, "database": "postgres", "databases": ["postgres", w.database], "reassign_to": heir,
    }));
    c.validate(&json!({"roles": [app]})).unwrap();
    let findings = c.check().await;
    let bad: Vec<&Finding> = findings.iter().filter(|f| !f.ok).collect();
    assert!(bad.len() >= 5, "{findings:#?}");
    for finding in &bad {
        w.server.run("postgres", finding.fix.as_ref().expect("a fix")).await;
    }
    let after = c.check().await;
    assert!(after.iter().all(|f| f.ok), "{after:#?}");

    // A fixed role through which a holder could outlive the grant.
    w.server.run("postgres", &format!("ALTER ROLE {app} CREATEROLE")).await;
    let dangerous = c.check().await;
    assert!(dangerous.iter().any(|f| !f.ok && f.name.contains("cannot outlive")), "{dangerous:#?}");
}

#[tokio::test]
async fn a_rotated_broker_password_is_read_again() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let (intent, _) = w.open(c.as_ref(), LONG).await;
    w.server.run("postgres", &format!("ALTER ROLE {} PASSWORD 'next'", w.name("broker"))).await;
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", w.name("broker"));
    w.server.run("postgres", &cut).await;
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))), "the file still has the old one");
    std::fs::write(w.password_file(), "next\n").unwrap();
    c.revoke(&intent.recipe).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_at_once_and_the_same_one_sixteen_times() {
    let w = World::new(shared()).await;
    let c = w.connector();
    let run = |n: usize| {
        let (w, c) = (&w, &c);
        async move {
            let (intent, minted) = w.open(c.as_ref(), LONG).await;
            let session = w.login(&minted, &w.database).await.unwrap();
            c.revoke(&intent.recipe).await.unwrap_or_else(|e| panic!("{n}: {e}"));
            drop(session);
            assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)));
        }
    };
    futures::future::join_all((0..16).map(run)).await;

    let (intent, _) = w.open(c.as_ref(), LONG).await;
    let done = futures::future::join_all((0..16).map(|_| c.revoke(&intent.recipe))).await;
    assert!(done.iter().all(|d| d.as_ref().err().is_none_or(Fault::is_transient)), "{done:?}");
    assert!(done.iter().any(Result::is_ok));
    assert_eq!(w.roles_named(&intent.recipe.object).await, "0");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_and_proves_nothing() {
    let server = Postgres::dedicated(&["fsync=off", "max_prepared_transactions=10"]);
    let w = World::new(&server).await;
    let c = w.connector();
    let (intent, minted) = w.open(c.as_ref(), LONG).await;

    // A prepared transaction outlives its session, and holds on to the role.
    let mut holder = w.login(&minted, &w.database).await.unwrap();
    execute(&mut holder, "BEGIN; CREATE TABLE half (x int); PREPARE TRANSACTION 'it''s \\ half'").await.unwrap();
    drop(holder);

    server.stop();
    assert!(matches!(c.revoke(&intent.recipe).await, Err(Fault::Unavailable(_))));
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Unknown(_)));
    assert!(matches!(c.sweep().await, Err(Fault::Unavailable(_))));
    let findings = c.check().await;
    assert!(findings.iter().any(|f| !f.ok && f.name == "reachable"), "{findings:?}");
    server.start();
    c.revoke(&intent.recipe).await.unwrap();
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)));
    assert!(w.login(&minted, &w.database).await.is_err());

    // It accepts connections and never answers.
    server.freeze();
    let (revoked, seen) = (c.revoke(&intent.recipe).await, c.verify(&intent.recipe).await);
    server.thaw();
    assert!(matches!(revoked, Err(Fault::Unavailable(_))), "{revoked:?}");
    assert!(matches!(seen, Presence::Unknown(_)), "{seen:?}");

    // Somebody drops the role by hand under an open session: the session is still access.
    let (intent, minted) = w.open(c.as_ref(), LONG).await;
    let session = w.login(&minted, &w.database).await.unwrap();
    server.run("postgres", &format!("DROP ROLE {}", intent.recipe.object)).await;
    c.revoke(&intent.recipe).await.unwrap();
    let seen = c.verify(&intent.recipe).await;
    assert!(matches!(&seen, Presence::Present(e) if e["sessions_without_role"][0]["pid"].is_number()), "{seen:?}");
    session.close().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(c.verify(&intent.recipe).await, Presence::Absent(_)));
}

const ROLES: usize = 200;

/// Not an assertion of speed, which belongs to the machine: the numbers are printed.
#[tokio::test(flavor = "multi_thread")]
async fn roles_are_made_and_ended_quickly() {
    let w = World::new(shared()).await;
    let c = w.connector();
    #[allow(clippy::disallowed_methods, reason = "a test measures")]
    let stopwatch = Instant::now;
    let mut intents = Vec::new();
    for _ in 0..ROLES {
        intents.push(w.intent(c.as_ref(), LONG).await);
    }
    let started = stopwatch();
    let made: Vec<_> = futures::stream::iter(&intents).map(|i| c.activate(i)).buffer_unordered(8).collect().await;
    let making = started.elapsed();
    assert!(made.iter().all(Result::is_ok));
    let (first, started) = (claim(1), stopwatch());
    let minted: Vec<_> = futures::stream::iter(&intents).map(|i| c.mint(i, &first)).buffer_unordered(8).collect().await;
    let minting = started.elapsed();
    assert!(minted.iter().all(Result::is_ok));
    let started = stopwatch();
    let ended: Vec<_> =
        futures::stream::iter(&intents).map(|i| c.revoke(&i.recipe)).buffer_unordered(8).collect().await;
    let ending = started.elapsed();
    assert!(ended.iter().all(Result::is_ok));
    let rate = |d: Duration| f64::from(u32::try_from(ROLES).unwrap()) / d.as_secs_f64();
    eprintln!(
        "roles a second: made {:.0}, given a password {:.0}, ended {:.0}",
        rate(making),
        rate(minting),
        rate(ending)
    );
}
