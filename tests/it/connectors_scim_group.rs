//! Temporary membership in a group of a real SCIM server that we did not write.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::json;
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

use crate::{
    connectors::{self, TARGET, config},
    connectors_postgres::{new_grant, now},
    servers::{
        scim::{ScimServer, TOKEN},
        way::{self, Mood, Way},
    },
};

struct Suite {
    server: ScimServer,
    surroundings: connectors::World,
    group: String,
    account: String,
    frozen: std::sync::Mutex<bool>,
    way: Way,
}

impl Suite {
    async fn new() -> Self {
        let server = ScimServer::start().await;
        let surroundings = connectors::World::new(Arc::new(SystemClock::new()));
        let holder = connectors::wish(new_grant(), json!({})).holder_name;
        let account = server.plant(json!({"userName": holder, "active": true})).await;
        let group = server.make_group("Editors").await;
        let port = server.url().rsplit(':').next().unwrap().split('/').next().unwrap().parse().unwrap();
        let way = Way::to(port, way::HTTP).await;
        Self { server, surroundings, group, account, frozen: std::sync::Mutex::new(false), way }
    }

    fn connector(&self) -> Arc<dyn Connector> {
        let mut settings = self.server.settings();
        settings["url"] = json!(format!("http://127.0.0.1:{}/v2", self.way.port));
        let mut config = config("scim_group", &settings);
        config.timeout_seconds = 3;
        build(&config, &self.surroundings.parts()).unwrap()
    }

    async fn intent(&self, c: &dyn Connector) -> Intent {
        let wish = connectors::wish(new_grant(), json!({"group": "Editors"}));
        let intent = connectors::intent(c, wish, now().plus_std(Duration::from_mins(10))).await;
        self.surroundings.ledger.intend(TARGET, &intent);
        intent
    }

    async fn close(&self, c: &dyn Connector, recipe: &Recipe) -> Presence {
        self.surroundings.ledger.end(recipe.grant);
        c.revoke(recipe).await.unwrap();
        c.verify(recipe).await
    }
}

#[async_trait]
impl Harness for Suite {
    async fn connector(&self) -> Result<Arc<dyn Connector>, String> {
        Ok(Self::connector(self))
    }

    fn ledger(&self) -> &FakeLedger {
        &self.surroundings.ledger
    }

    fn target(&self) -> &'static str {
        TARGET
    }

    fn wish(&self, grant: GrantId) -> Wish {
        connectors::wish(grant, json!({"group": "Editors"}))
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
        Ok(self.server.members(&self.group).await.contains(&self.account))
    }

    fn shares_access(&self) -> bool {
        true
    }

    fn lists(&self) -> bool {
        false
    }

    fn own_secrets(&self) -> Vec<String> {
        vec![TOKEN.into()]
    }

    /// It keeps everything in memory, so it is stopped and not ended: it does not answer.
    async fn trouble(&self, trouble: Trouble) -> Result<bool, String> {
        match trouble {
            Trouble::Down => return Ok(false),
            Trouble::Hangs => {}
            Trouble::Lies => self.way.set(Mood::Lies),
            Trouble::LosesAnswers => self.way.set(Mood::LosesAnswers),
            Trouble::Slow => self.way.set(Mood::Slow(Duration::from_millis(50))),
        }
        if trouble != Trouble::Hangs {
            return Ok(true);
        }
        self.server.signal("STOP").await;
        *self.frozen.lock().unwrap() = true;
        Ok(true)
    }

    async fn heal(&self) -> Result<(), String> {
        self.way.set(Mood::Pass);
        let frozen = std::mem::take(&mut *self.frozen.lock().unwrap());
        if frozen {
            self.server.signal("CONT").await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn scim_group_conforms() {
    let suite = Suite::new().await;
    if let Err(broken) = conformance::run(&suite).await {
        panic!("{broken}");
    }
    assert_eq!(suite.server.members(&suite.group).await, Vec::<String>::new());
}

#[tokio::test]
async fn scim_group_leaves_a_standing_member_in() {
    let suite = Suite::new().await;
    let c = suite.connector();
    let add = json!({"op": "add", "path": "members", "value": [{"value": suite.account}]});
    suite.server.patch(&format!("/Groups/{}", suite.group), add).await;
    let intent = suite.intent(c.as_ref()).await;
    let applied = c.activate(&intent).await.unwrap();
    assert_eq!(applied["was_member"], true);
    let gone = suite.close(c.as_ref(), &intent.recipe).await;
    assert!(matches!(gone, Presence::Absent(evidence) if evidence["was_member"] == true));
    assert_eq!(suite.server.members(&suite.group).await, std::slice::from_ref(&suite.account));
}

#[tokio::test]
async fn scim_group_refuses_who_has_no_account_and_groups_that_are_not_there() {
    let suite = Suite::new().await;
    let c = suite.connector();
    let wish = |group: &str| connectors::wish(new_grant(), json!({"group": group}));
    assert!(matches!(c.prepare(&wish("Nobody")).await, Err(Fault::Refused(_))));
    suite
        .server
        .patch(&format!("/Users/{}", suite.account), json!({"op": "replace", "path": "active", "value": false}))
        .await;
    assert!(matches!(c.prepare(&wish("Editors")).await, Err(Fault::Refused(_))));
    assert!(c.validate(&json!({"group": " "})).is_err() && c.validate(&json!({"grupo": "x"})).is_err());
}
