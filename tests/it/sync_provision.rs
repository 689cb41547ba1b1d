//! Who makes an account: the sync, the first sign-in, nobody; and device managers.

use serde_json::json;
use tidegate::{
    broker::{BrokerError, input::Paging},
    domain::{
        account::{AccountState, ApplicationConfig},
        provision::MadeBy,
    },
};

use crate::{
    on_both,
    servers::{mdm::DeviceServer, scim::ScimServer},
    sync_accounts::{application, state},
    sync_sources::{Fed, line, run},
    verbs_help::{events, refused},
    world::{Db, Plan},
};

async fn fed(db: Db, config: ApplicationConfig) -> Fed {
    let mut plan = Plan::on(db);
    plan.applications.push(config);
    Fed::build(plan).await
}

/// Somebody signs in: the broker sees them.
async fn signs_in(fed: &Fed, name: &str) {
    let id = fed.person(name).await.id;
    let hour = tidegate::domain::time::Ttl::seconds_or_one(3600);
    let token = fed.world.broker.create_token_at_console(id, "test", hour).await.unwrap();
    fed.world.broker.authenticate(token.token.expose(), "test").await.unwrap();
    fed.world.settle().await;
}

async fn a_first_sign_in_makes_the_account_where_that_is_the_rule(db: Db) {
    let server = ScimServer::start().await;
    let rules = json!([
        {"by": "nobody", "groups": ["hr-none"], "reason": "they use the shared one"},
        {"by": "login", "groups": ["hr-late"], "reason": "they come late, if at all"},
    ]);
    let fed = fed(db, application(&server, json!({"scope": {"groups": ["hr-all"]}, "provision": rules}))).await;
    let lines = [
        line(1, "zoe", "yes", "hr-all"),
        line(2, "yan", "yes", "hr-all;hr-late"),
        line(3, "xia", "yes", "hr-all;hr-none"),
    ];
    fed.feed(&lines).await;
    assert!(server.user("zoe").await.is_some(), "{db:?}: by the sync, at once");
    assert!(server.user("yan").await.is_none() && server.user("xia").await.is_none(), "{db:?}: nothing is pushed");
    let report = run(&fed.world, "wiki", "plan", false).await.report.unwrap();
    assert_eq!(report.items, [], "{db:?}: nor to be");

    let (broker, eve) = (&fed.world.broker, fed.world.who("eve").await);
    let yan = broker.explain_account(&eve, "wiki", "yan").await.unwrap();
    assert_eq!((yan.made_by, yan.signed_in, yan.should_be.as_str()), (MadeBy::Login, false, "nothing"));
    assert!(yan.rule.contains("rule 2") && yan.rule.contains("come late"), "{yan:?}");
    assert_eq!(broker.explain_account(&eve, "wiki", "zoe").await.unwrap().made_by, MadeBy::Sync);
    assert_eq!(broker.explain_account(&eve, "wiki", "xia").await.unwrap().made_by, MadeBy::Nobody);
    assert!(!broker.explain_account(&eve, "wiki", "ana").await.unwrap().belongs);
    let ana = fed.world.who("ana").await;
    refused!(broker.explain_account(&ana, "wiki", "yan").await, BrokerError::Forbidden(_));
    refused!(broker.explain_account(&eve, "wiki", "nobody").await, BrokerError::NotFound(_));

    signs_in(&fed, "yan").await;
    signs_in(&fed, "xia").await;
    assert!(server.user("yan").await.is_some(), "{db:?}: with the first sign-in");
    assert!(server.user("xia").await.is_none(), "{db:?}: by nobody");
    let yan = broker.explain_account(&eve, "wiki", "yan").await.unwrap();
    assert_eq!((yan.signed_in, yan.should_be.as_str(), yan.state), (true, "present", Some(AccountState::Corrected)));
    // What is there by whatever way is adopted, kept, and closed with its holder.
    server.plant(json!({"userName": "xia", "active": true})).await;
    run(&fed.world, "wiki", "apply", false).await;
    assert_eq!(server.user("xia").await.unwrap()["displayName"], "Person xia", "{db:?}");
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "no", ""), line(3, "xia", "no", "")]).await;
    for name in ["yan", "xia"] {
        assert_eq!(server.user(name).await.unwrap()["active"], false, "{db:?}: {name}");
        assert_eq!(state(&fed.world, fed.person(name).await.id).await, AccountState::Corrected);
    }
}

async fn an_application_that_makes_accounts_by_itself_is_only_closed_by_hand(db: Db) {
    let config = json!({
        "id": "legacy", "kind": "manual", "owner": "ben", "provision": "login", "role_task": "assign role",
        "scope": {"groups": ["hr-all"]},
    });
    let fed = fed(db, serde_json::from_value(config).unwrap()).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all")]).await;
    let broker = &fed.world.broker;
    let tasks = async || {
        let ben = fed.world.who("ben").await;
        broker.tasks(&ben, false, Paging::default()).await.unwrap().items
    };
    assert!(tasks().await.is_empty(), "{db:?}: nobody has anything to do when somebody joins");
    signs_in(&fed, "zoe").await;
    let task = tasks().await.remove(0);
    assert_eq!((task.what.as_str(), task.name.as_str()), ("assign_role", "zoe"), "{db:?}: and no role by default");
    broker.finish_task(&fed.world.who("ben").await, task.id.parse().unwrap(), "reader, IT-9").await.unwrap();
    fed.world.settle().await;
    assert!(tasks().await.is_empty());
    assert!(
        events(&fed.world).await.iter().any(|e| e.action == "task.done" && e.details["evidence"] == "reader, IT-9")
    );
    // Whoever never came has no account to close; whoever did waits for somebody.
    fed.feed(&[line(1, "zoe", "no", ""), line(2, "yan", "no", "")]).await;
    let open = tasks().await;
    assert_eq!(open.len(), 1, "{db:?}: {open:?}");
    assert_eq!((open[0].what.as_str(), open[0].name.as_str()), ("deactivate", "zoe"));
}

async fn a_device_manager_takes_back_what_a_leaver_has(db: Db) {
    let (server, devices) = (ScimServer::start().await, DeviceServer::start().await);
    let mut config = json!({
        "id": "wiki", "kind": "mdm", "timeout_seconds": 5, "settings": server.settings(), "scope": {"groups": ["hr-all"]},
        "owner": "ben", "role_task": "assign role", "groups": {"hr-admins": "Device admins"},
    });
    config["settings"]["devices"] = json!({"url": devices.url, "order": "wipe"});
    let admins = server.make_group("Device admins").await;
    let fed = fed(db, serde_json::from_value(config).unwrap()).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all;hr-admins"), line(2, "yan", "yes", "hr-all")]).await;
    let zoe = server.user("zoe").await.expect("a joiner is known to the device manager");
    assert_eq!(server.members(&admins).await, [zoe["id"].as_str().unwrap()], "{db:?}: what a group there may do");
    let ben = fed.world.who("ben").await;
    let tasks = fed.world.broker.tasks(&ben, false, Paging::default()).await.unwrap().items;
    assert_eq!(tasks.len(), 2, "{db:?}: roles are given by hand: {tasks:?}");
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all")]).await;
    assert!(server.members(&admins).await.is_empty(), "{db:?}");

    devices.enrol("zoe", "laptop-7");
    devices.enrol("zoe", "phone-8");
    devices.enrol("yan", "laptop-9");
    devices.devices.lock().unwrap().lazy = true;
    fed.feed(&[line(1, "zoe", "no", ""), line(2, "yan", "yes", "hr-all")]).await;
    assert_eq!(server.user("zoe").await.unwrap()["active"], false);
    assert_eq!(devices.orders(), ["wipe laptop-7", "wipe phone-8"], "{db:?}: hers and no others");
    let id = fed.person("zoe").await.id;
    assert_eq!(state(&fed.world, id).await, AccountState::NotVerified, "{db:?}: ordered is not done");
    let why = fed.world.store().account("wiki", &id.to_string()).await.unwrap().unwrap().last_error.unwrap();
    assert!(why.contains("laptop-7") && why.contains("phone-8"), "{why}");
    let verified = run(&fed.world, "wiki", "verify", false).await.report.unwrap();
    assert!(verified.items.iter().any(|i| i.name == "zoe"), "{db:?}: {verified:?}");
    assert_eq!(
        state(&fed.world, id).await,
        AccountState::NotVerified,
        "{db:?}: and reading the account proves nothing"
    );
    // One reports, one is not listed any more.
    devices.report("laptop-7", "wiped");
    devices.devices.lock().unwrap().all.retain(|(_, id, _)| id != "phone-8");
    fed.world.advance(3600);
    fed.world.settle().await;
    assert_eq!(state(&fed.world, id).await, AccountState::Aligned, "{db:?}");
    assert_eq!(devices.orders().len(), 2, "{db:?}: what is under way is not ordered again");
    let log = events(&fed.world).await;
    let left = log.iter().find(|e| e.action == "identity.deactivated").unwrap();
    let ordered = log.iter().find(|e| e.action == "devices.ordered").unwrap();
    let proof = log.iter().rfind(|e| e.action == "account.verified" && e.subject == Some(id)).unwrap();
    assert_eq!((ordered.correlation, proof.correlation), (left.correlation, left.correlation));
    assert_eq!(proof.details["read_back"]["taken_back"], json!([{"device": "laptop-7", "state": "wiped"}]), "{db:?}");
    let tasks = fed.world.broker.tasks(&fed.world.who("ben").await, false, Paging::default()).await.unwrap().items;
    assert_eq!(tasks.len(), 1, "{db:?}: whoever is gone needs no role: {tasks:?}");
}

on_both!(
    a_first_sign_in_makes_the_account_where_that_is_the_rule,
    an_application_that_makes_accounts_by_itself_is_only_closed_by_hand,
    a_device_manager_takes_back_what_a_leaver_has,
);
