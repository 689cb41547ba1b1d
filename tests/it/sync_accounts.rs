//! Accounts in a real SCIM server follow the directory, and are read back.

use serde_json::{Value, json};
use tidegate::{
    broker::input::{NewWorkload, WorkloadChange},
    domain::{
        account::{AccountState, ApplicationConfig},
        id::IdentityId,
        identity::IdentityKind,
    },
};

use crate::{
    on_both,
    servers::scim::{ScimServer, TOKEN},
    verbs_help::events,
    world::{Db, Plan, World},
};

/// An application at that server, with more of its configuration.
pub fn application(server: &ScimServer, more: Value) -> ApplicationConfig {
    let mut config = json!({"id": "wiki", "kind": "scim", "timeout_seconds": 5, "settings": server.settings()});
    let Value::Object(more) = more else { panic!("more of a configuration is a table") };
    for (name, value) in more {
        config[name] = value;
    }
    serde_json::from_value(config).unwrap()
}

pub async fn world(db: Db, config: ApplicationConfig) -> World {
    let mut plan = Plan::on(db);
    plan.applications = vec![config];
    plan.build().await
}

async fn workload(world: &World, name: &str) -> IdentityId {
    let new = NewWorkload {
        name: name.to_owned(),
        kind: IdentityKind::Workload,
        display_name: Some("The bot".to_owned()),
        owner: None,
        backup_owner: None,
        team: None,
        groups: Vec::new(),
        secret_ttl: None,
    };
    let view = world.broker.register_workload(&world.who("eve").await, new).await.unwrap();
    view.identity.id.parse().unwrap()
}

pub async fn state(world: &World, id: IdentityId) -> AccountState {
    let row = world.store().account("wiki", &id.to_string()).await.unwrap();
    row.unwrap_or_else(|| panic!("no account of {id}")).state
}

/// Actions about accounts, each with whether it bears the correlation of the event before that is not about one.
pub async fn account_actions(world: &World) -> Vec<String> {
    let mut cause = None;
    let mut actions = Vec::new();
    for event in events(world).await {
        if event.action.starts_with("account.") {
            assert_eq!(Some(event.correlation), cause, "{} has another cause", event.action);
            actions.push(event.action);
        } else if event.subject.is_some() {
            cause = Some(event.correlation);
        }
    }
    actions
}

async fn an_account_is_made_and_closed_with_its_identity(db: Db) {
    let server = ScimServer::start().await;
    let world = world(db, application(&server, json!({"scope": {"kinds": ["workload"]}}))).await;
    let id = workload(&world, "build-bot").await;
    assert_eq!(state(&world, id).await, AccountState::Pending);
    world.settle().await;
    let user = server.user("build-bot").await.expect("an account");
    assert_eq!((&user["externalId"], &user["active"]), (&json!(id.to_string()), &json!(true)));
    assert_eq!(user["displayName"], "The bot");
    assert_eq!(state(&world, id).await, AccountState::Corrected);
    assert_eq!(account_actions(&world).await, ["account.created", "account.verified"]);

    let change = WorkloadChange { active: Some(false), ..WorkloadChange::default() };
    world.broker.update_workload(&world.who("eve").await, id, change).await.unwrap();
    world.settle().await;
    assert_eq!(server.user("build-bot").await.unwrap()["active"], false);
    let actions = account_actions(&world).await;
    assert_eq!(actions[2..], ["account.deactivated", "account.verified"]);
    let log = events(&world).await;
    let proof = log.iter().rfind(|e| e.action == "account.verified").unwrap();
    assert_eq!(proof.details["read_back"]["active"], false);
    assert_eq!(proof.target.as_deref(), Some("wiki"));
    assert!(!serde_json::to_string(&log).unwrap().contains(TOKEN));
}

on_both!(an_account_is_made_and_closed_with_its_identity);
