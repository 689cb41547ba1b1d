//! One person's whole story, with real servers: made by SCIM, put into a group, asked for before any sign-in, at work in a
//! database, gone by one call of the identity provider, and the log of that call as the proof.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tidegate::{
    app::{Policies, seed_targets},
    domain::{catalog::TargetConfig, time::Ttl},
    ports::clock::{Clock, ManualClock, SystemClock},
};

use crate::{
    connectors_postgres::World as Target,
    crash_child::policies,
    on_both,
    scim_app::{ENTERPRISE, PATCH_OP, Scim, done},
    servers::{postgres::shared, scim::ScimServer},
    sync_accounts::application,
    world::{Db, Plan},
};

const NAME: &str = "kim@contoso.example";

fn plan(db: Db, target: &Target<'_>, wiki: &ScimServer, dir: &std::path::Path) -> Plan {
    let entitlement = format!(
        "\n[[entitlement]]\nid = \"db:orders\"\ntarget = \"prod-db\"\ntitle = \"Orders\"\n\
         parameters = {{ roles = [\"{}\"] }}\ndefault_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = 2\n\
         approvers = [\"approvers\"]\n",
        target.name("app")
    );
    policies(dir, &entitlement);
    let mark = format!("story-{db:?}").to_lowercase();
    let database = TargetConfig {
        id: "prod-db".into(),
        kind: "postgres".to_owned(),
        concurrency: 4,
        timeout_seconds: 5,
        settings: target.settings(&json!({"mark": mark, "pool_size": 3})),
    };
    let mapping = json!({"userName": "name", "displayName": "display_name"});
    let mut plan = Plan::on(db);
    plan.targets = seed_targets();
    plan.targets.push(database);
    plan.applications.push(application(wiki, json!({"scope": {"groups": ["engineers"]}, "mapping": mapping})));
    plan.policies = Policies::Directory(dir.to_owned());
    // The database has a clock of its own.
    plan.clock = Arc::new(ManualClock::at(SystemClock::new().now()));
    plan
}

/// As Entra ID says it.
async fn entra(scim: &Scim, path: &str, operations: Value) -> String {
    let body = json!({"schemas": [PATCH_OP], "Operations": operations});
    let answer =
        scim.as_other("PATCH", &format!("{path}?aadOptscim062020&excludedAttributes=members"), Some(body)).await;
    done(&answer, 200);
    answer.header("x-request-id").to_owned()
}

async fn lives(session: &mut PgConnection) -> bool {
    sqlx::raw_sql(AssertSqlSafe("SELECT 1")).execute(session).await.is_ok()
}

async fn a_person_comes_works_and_is_gone(db: Db) {
    let target = Target::new(shared()).await;
    let wiki = ScimServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let scim = Scim::of(plan(db, &target, &wiki, dir.path())).await;
    let (app, world) = (&scim.app, &scim.app.world);
    world.broker.hand_over_to_source("entra").await.unwrap();

    // Made, and put into a group: there is an account in the application before anybody signed in.
    let made = json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User", ENTERPRISE], "externalId": "0a21f0f2",
        "userName": NAME, "active": true, "displayName": "Kim K", "name": {"givenName": "Kim", "familyName": "K"},
        "emails": [{"value": NAME, "type": "work", "primary": true}], ENTERPRISE: {"department": "Orders"},
    });
    let made = scim.as_other("POST", "/Users", Some(made)).await;
    done(&made, 201);
    let kim = made.text("id");
    let groups = scim.as_other("GET", "/Groups?filter=displayName%20eq%20%22Engineers%22", None).await;
    let group = groups.body["Resources"][0]["id"].as_str().expect("engineers").to_owned();
    let member = json!([{"op": "Add", "path": "members", "value": [{"$ref": null, "value": kim}]}]);
    entra(&scim, &format!("/Groups/{group}"), member).await;
    world.settle().await;
    assert_eq!(wiki.user(NAME).await.expect("an account")["active"], true, "{db:?}");

    // Asked for by whoever may ask on the person's behalf, and approved by somebody else.
    let ask = json!({
        "entitlements": ["db:orders"], "duration": 3600, "reason": "order 4411 is stuck", "on_behalf_of": NAME,
    });
    let request = app.post("eve", "/v1/requests", ask).await;
    assert!(request.status.is_success(), "{}", request.body);
    assert_eq!(request.body["state"], "pending", "{}", request.body);
    let path = format!("/v1/requests/{}/approve", request.text("id"));
    let approved = app.post("ben", &path, json!({})).await;
    assert!(approved.status.is_success(), "{}", approved.body);
    let grant = approved.body["grants"][0]["id"].as_str().expect("a grant").to_owned();

    // The first token is made at the console; with it the credential is claimed, and a session opened.
    let token =
        world.broker.create_token_at_console(kim.parse().unwrap(), "first", Ttl::seconds_or_one(3600)).await.unwrap();
    let as_kim = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.token.expose()));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
        app.answer(request).await
    };
    let claimed = as_kim("POST", &format!("/v1/grants/{grant}/credential")).await;
    assert!(claimed.status.is_success(), "{}", claimed.body);
    let text = |name: &str| claimed.body["credential"][name].as_str().expect("a part of a credential").to_owned();
    let role = text("username");
    let mut session =
        shared().options(&role, &text("password"), &text("database")).connect().await.expect("it lets in");
    assert!(lives(&mut session).await);

    // Gone.
    let call =
        entra(&scim, &format!("/Users/{kim}"), json!([{"op": "Replace", "path": "active", "value": "False"}])).await;
    assert_eq!(as_kim("GET", "/v1/me").await.status, StatusCode::UNAUTHORIZED, "{db:?}: at once");
    world.settle().await;
    assert!(!lives(&mut session).await, "{db:?}: the session is dead");
    let mut admin = shared().options("postgres", "", "postgres").connect().await.unwrap();
    let (roles,): (i64,) = sqlx::query_as("SELECT count(*) FROM pg_roles WHERE rolname = $1")
        .bind(&role)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(roles, 0, "{db:?}: and the role is gone");
    assert_eq!(wiki.user(NAME).await.expect("kept")["active"], false, "{db:?}: and the account is closed");

    // One question to the log shows it all.
    let log = app.get("eve", &format!("/v1/audit?limit=200&correlation={call}")).await;
    let events: Vec<&Value> = log.body["items"].as_array().unwrap().iter().map(|e| &e["event"]).collect();
    let told: Vec<&str> = events.iter().map(|e| e["action"].as_str().unwrap()).collect();
    let one = |action: &str| {
        let found = events.iter().find(|e| e["action"] == action);
        *found.unwrap_or_else(|| panic!("{db:?}: {action} is not among {told:?}"))
    };
    for action in ["identity.deactivated", "identity.offboarded", "grant.revoking", "account.deactivated"] {
        assert_eq!(one(action)["subject"], json!(kim), "{db:?}: {action}");
    }
    let ended = one("grant.ended");
    assert_eq!((&ended["target"], &ended["details"]["reason"]), (&json!("prod-db"), &json!("offboarded")));
    assert!(ended["details"]["evidence"].is_object(), "{ended}");
    let verified = one("account.verified");
    assert_eq!((&verified["target"], &verified["details"]["read_back"]["active"]), (&json!("wiki"), &json!(false)));
    assert!(events.iter().all(|e| e["correlation"] == json!(call) || e["cause"] == json!(call)), "{log:?}");
}

on_both!(a_person_comes_works_and_is_gone);
