//! The shared suite on PostgreSQL, and a crash at every point where one can happen.

use std::{process::Command, sync::Arc};

use async_trait::async_trait;
use sqlx::{Connection, PgConnection};
use tidegate::{
    connectors::{
        conformance::{self, Harness, Trouble},
        fakes::FakeLedger,
    },
    domain::{
        grant::{Intent, Recipe},
        id::GrantId,
        secret::Minted,
        time::Timestamp,
    },
    ports::connector::{Connector, Presence, Wish},
};
use tokio::sync::Mutex;

use super::{LONG, World, execute, new_grant, now};
use crate::servers::{
    postgres::{Postgres, shared},
    way::{self, Mood, Way},
};

struct Suite<'a> {
    world: World<'a>,
    ledger: FakeLedger,
    session: Mutex<Option<PgConnection>>,
    trouble: Mutex<Option<Trouble>>,
    way: Way,
}

#[async_trait]
impl Harness for Suite<'_> {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(super::connector(
            &self.world.settings(&serde_json::json!({"port": self.way.port, "holder_port": self.world.server.port()})),
        ))
    }

    fn ledger(&self) -> &FakeLedger {
        &self.ledger
    }

    fn target(&self) -> &'static str {
        "prod-db"
    }

    fn wish(&self, grant: GrantId) -> Wish {
        self.world.wish(grant)
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
        let minted = minted.ok_or("nothing was minted")?;
        match self.world.login(minted, &self.world.database).await {
            Ok(mut holder) => {
                execute(&mut holder, "INSERT INTO data VALUES (1)").await.map_err(|e| e.to_string())?;
                Ok(true)
            }
            Err(e) if e.as_database_error().is_some() => Ok(false),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn hold_session(&self, _intent: &Intent, minted: Option<&Minted>) -> Result<(), String> {
        let minted = minted.ok_or("nothing was minted")?;
        let session = self.world.login(minted, &self.world.database).await.map_err(|e| e.to_string())?;
        *self.session.lock().await = Some(session);
        Ok(())
    }

    async fn session_alive(&self) -> Result<bool, String> {
        let mut session = self.session.lock().await.take().ok_or("no session is held")?;
        Ok(session.ping().await.is_ok())
    }

    async fn plant_foreign(&self, object: &str) -> Result<bool, String> {
        self.world.server.run("postgres", &format!("CREATE ROLE {object} LOGIN PASSWORD 'theirs'")).await;
        Ok(true)
    }

    async fn foreign_intact(&self, object: &str) -> Result<bool, String> {
        let options = self.world.server.options(object, "theirs", &self.world.database);
        Ok(PgConnection::connect_with(&options).await.is_ok())
    }

    async fn remove_foreign(&self, object: &str) -> Result<(), String> {
        self.world.server.run("postgres", &format!("DROP ROLE {object}")).await;
        Ok(())
    }

    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        match trouble {
            Trouble::Down => self.world.server.stop(),
            Trouble::Hangs => self.world.server.freeze(),
            Trouble::Lies => self.way.set(Mood::Lies),
            Trouble::LosesAnswers => self.way.set(Mood::LosesAnswers),
            Trouble::Slow => self.way.set(Mood::Slow(std::time::Duration::from_millis(100))),
        }
        *self.trouble.lock().await = Some(trouble);
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        match self.trouble.lock().await.take() {
            Some(Trouble::Down) => self.world.server.start(),
            Some(Trouble::Hangs) => self.world.server.thaw(),
            _ => self.way.set(Mood::Pass),
        }
        Ok(())
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![std::fs::read_to_string(self.world.password_file()).unwrap().trim().to_owned()]
    }
}

#[tokio::test]
async fn the_whole_suite() {
    let server = Postgres::dedicated(&["fsync=off"]);
    let (ledger, session, trouble) = (FakeLedger::new(), Mutex::new(None), Mutex::new(None));
    let way = Way::to(server.port(), way::POSTGRES).await;
    let suite = Suite { world: World::new(&server).await, ledger, session, trouble, way };
    if let Err(broken) = conformance::run(&suite).await {
        panic!("{broken}");
    }
    assert!(suite.way.changes() > 0, "nothing was lied about");
}

const VICTIM: &str = "connectors_postgres::conformance::victim";

/// A process of its own that is killed at each point in turn; afterwards only the recipe is known, and it is enough.
#[tokio::test]
async fn a_crash_at_any_point_is_cleaned_up_by_the_recipe() {
    let w = World::new(shared()).await;
    for point in [
        "postgres.activate.called",
        "postgres.mint.called",
        "postgres.revoke.nologin",
        "postgres.revoke.cut",
        "postgres.revoke.cleaned",
        "postgres.revoke.dropped",
    ] {
        let c = w.connector();
        let intent = w.intent(c.as_ref(), LONG).await;
        let told = serde_json::json!({
            "settings": w.settings(&serde_json::json!({})), "recipe": intent.recipe, "parameters": intent.parameters,
            "not_after": intent.not_after, "database": w.database,
        });
        let died = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", VICTIM, "--ignored"])
            .env("TIDEGATE_FAILPOINT", point)
            .env("TIDEGATE_TEST_VICTIM", told.to_string())
            .output()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&died.status), Some(9), "{point}: {died:?}");
        if point != "postgres.revoke.dropped" {
            assert!(matches!(c.verify(&intent.recipe).await, Presence::Present(_)), "{point}");
        }
        c.revoke(&intent.recipe).await.unwrap_or_else(|e| panic!("{point}: {e}"));
        let gone = c.verify(&intent.recipe).await;
        assert!(matches!(gone, Presence::Absent(_)), "{point}: {gone:?}");
    }
}

#[tokio::test]
#[ignore = "run by a_crash_at_any_point_is_cleaned_up_by_the_recipe, in a process of its own"]
async fn victim() {
    let Ok(told) = std::env::var("TIDEGATE_TEST_VICTIM") else { return };
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let c = super::connector(told["settings"].as_object().unwrap());
    let recipe: Recipe = serde_json::from_value(told["recipe"].clone()).unwrap();
    let wish = super::wish(recipe.grant, told["parameters"].clone());
    let not_after: Timestamp = told["not_after"].as_str().unwrap().parse().unwrap();
    let intent = super::intent(wish, recipe, not_after);
    c.activate(&intent).await.unwrap();
    let minted = c.mint(&intent, &super::claim(1)).await.unwrap();
    let port = told["settings"]["port"].as_u64().unwrap();
    let (user, database) = (minted.public["username"].as_str().unwrap(), told["database"].as_str().unwrap());
    let url = format!("postgres://{user}:{}@127.0.0.1:{port}/{database}", super::password(&minted));
    let mut holder = PgConnection::connect(&url).await.unwrap();
    execute(&mut holder, &format!("CREATE TABLE made_by_{user} ()")).await.unwrap();
    c.revoke(&intent.recipe).await.unwrap();
    panic!("nothing killed this process");
}
