//! A leaver with a live PostgreSQL session: it dies, also if the broker is killed right after it was told.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use tokio::time::Instant;

use crate::{
    connectors_postgres::World as Target,
    crash_child::{Child, Home, Start},
    on_both,
    servers::postgres::shared,
    world::Db,
};

async fn home(db: Db, target: &Target<'_>) -> Home {
    let settings = target.settings(&json!({"mark": format!("leaver-{db:?}").to_lowercase(), "pool_size": 3}));
    let config = json!({
        "limits": {"lease_slack_seconds": 0},
        "target": [{"id": "prod-db", "kind": "postgres", "timeout_seconds": 4, "settings": settings}],
    });
    let entitlement = format!(
        "\n[[entitlement]]\nid = \"db:orders\"\ntarget = \"prod-db\"\ntitle = \"Orders\"\n\
         parameters = {{ roles = [\"{}\"] }}\ndefault_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = 1\n\
         approvers = [\"approvers\"]\n",
        target.name("app")
    );
    Home::new(db, &config, &entitlement).await
}

/// Ask, claim, log in.
async fn session(child: &Child) -> (String, PgConnection) {
    let request = child.ask("db:orders", 3600).await.unwrap();
    let grant = request["grants"][0]["id"].as_str().unwrap().to_owned();
    let once = child.post(&format!("/v1/grants/{grant}/credential"), "ana", json!({})).await.unwrap();
    let credential = &once["credential"];
    let text = |name: &str| credential[name].as_str().unwrap_or_else(|| panic!("no {name}: {credential}"));
    let session = shared().options(text("username"), text("password"), text("database")).connect().await.unwrap();
    (grant, session)
}

async fn lives(session: &mut PgConnection) -> bool {
    sqlx::raw_sql(AssertSqlSafe("SELECT 1")).execute(session).await.is_ok()
}

/// As Entra ID says it.
async fn deactivate(child: &Child) -> anyhow::Result<()> {
    let ana = child.people["ana"]["id"].as_str().unwrap();
    child.scim_patch(ana, json!({"op": "Replace", "path": "active", "value": "False"})).await
}

async fn ended_with_evidence(home: &Home, child: &Child, grant: &str, since: Instant) {
    loop {
        let now = child.get(&format!("/v1/grants/{grant}"), "eve").await.unwrap();
        if now["state"] == "ended" {
            assert_eq!(now["end_reason"], "offboarded", "{now}");
            assert!(now["evidence"].is_object(), "{now}");
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "{now}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    home.verify_log(child).await.unwrap();
    let told =
        home.rows("SELECT correlation_id FROM audit_events WHERE action = 'identity.deactivated'").await.unwrap();
    let log = child.get(&format!("/v1/audit?limit=200&correlation={}", told[0][0]), "eve").await.unwrap();
    let actions: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|e| e["event"]["action"].as_str().unwrap_or_default()).collect();
    for action in ["identity.deactivated", "grant.revoking", "grant.ended", "workload.orphaned"] {
        assert!(actions.contains(&action), "{action} is not among {actions:?}");
    }
}

#[allow(clippy::print_stdout, reason = "the figure is the point")]
async fn the_session_of_a_leaver_dies(db: Db) {
    let target = Target::new(shared()).await;
    let home = home(db, &target).await;
    let child = home.up().await.unwrap();
    let (grant, mut open) = session(&child).await;
    assert!(lives(&mut open).await);
    let began = Instant::now();
    deactivate(&child).await.expect("it went through");
    while lives(&mut open).await {
        assert!(began.elapsed() < Duration::from_secs(5), "{db:?}: the session lives on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{db:?}: the session died {:?} after the call", began.elapsed());
    ended_with_evidence(&home, &child, &grant, began).await;
    child.kill().await;
}

#[cfg(feature = "failpoints")]
async fn a_leaver_is_finished_after_a_kill(db: Db) {
    for point in ["lifecycle.recorded", "reap.before_revoke", "postgres.revoke.nologin", "reap.after_verify"] {
        let target = Target::new(shared()).await;
        let home = home(db, &target).await;
        let Start::Up(mut child) = home.start(Some(point)).await.unwrap() else { panic!("{point}: it did not start") };
        let (grant, mut open) = session(&child).await;
        drop(deactivate(&child).await);
        child.killed(Duration::from_secs(15)).await.unwrap_or_else(|e| panic!("{db:?} {point}: {e}"));
        let began = Instant::now();
        let child = home.up().await.unwrap();
        ended_with_evidence(&home, &child, &grant, began).await;
        assert!(!lives(&mut open).await, "{db:?} {point}");
        child.kill().await;
    }
}

#[cfg(feature = "failpoints")]
on_both!(the_session_of_a_leaver_dies, a_leaver_is_finished_after_a_kill);
#[cfg(not(feature = "failpoints"))]
on_both!(the_session_of_a_leaver_dies);
