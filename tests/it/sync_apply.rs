//! Plan, apply, verify, drift against a real SCIM server.

use serde_json::{Value, json};
use tidegate::{
    broker::{
        BrokerError,
        input::Paging,
        sync_view::{Action, Report, RunView},
    },
    domain::{
        account::{AccountState, ApplicationConfig},
        identity::Identity,
    },
};

use crate::{
    on_both,
    servers::scim::ScimServer,
    sync_accounts::{application, state},
    sync_sources::{Fed, line, run},
    verbs_help::{events, refused, table},
    world::{Db, Plan},
};

/// Only people of the feed have accounts: those of the seed are in none of its groups.
fn scoped(server: &ScimServer, more: &Value) -> ApplicationConfig {
    let mut config = json!({"scope": {"groups": ["hr-all"]}});
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    application(server, config)
}

async fn fed(db: Db, config: ApplicationConfig) -> Fed {
    let mut plan = Plan::on(db);
    plan.applications.push(config);
    Fed::build(plan).await
}

async fn report(fed: &Fed, verb: &str) -> Report {
    let view: RunView = run(&fed.world, "wiki", verb, false).await;
    assert_eq!(view.error, None);
    view.report.unwrap()
}

fn actions(report: &Report) -> Vec<(Action, &str)> {
    let mut all: Vec<(Action, &str)> = report.items.iter().map(|i| (i.action, i.name.as_str())).collect();
    all.sort_unstable();
    all
}

async fn a_plan_says_what_apply_does_and_the_next_one_is_empty(db: Db) {
    let server = ScimServer::start().await;
    let fed = fed(db, scoped(&server, &json!({}))).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all"), line(3, "out", "yes", "")]).await;
    // Made by the event, not by a run; those outside the scope have no account and leave no row.
    assert!(
        server.user("zoe").await.is_some() && server.user("out").await.is_none() && server.user("ana").await.is_none()
    );
    let outside = fed.person("out").await;
    assert_eq!(fed.world.store().account("wiki", &outside.id.to_string()).await.unwrap(), None);

    // By hand, behind our back: one deleted, one edited, one made by name, one of nobody.
    let id = |user: &Value| user["id"].as_str().unwrap().to_owned();
    let (zoe, yan) = (server.user("zoe").await.unwrap(), server.user("yan").await.unwrap());
    server.call(reqwest::Method::DELETE, &format!("/Users/{}", id(&zoe)), None).await;
    server
        .patch(&format!("/Users/{}", id(&yan)), json!({"op": "replace", "path": "displayName", "value": "Mallory"}))
        .await;
    server.plant(json!({"userName": "stranger", "active": true})).await;
    let found = report(&fed, "plan").await;
    assert_eq!(actions(&found), [(Action::Create, "zoe"), (Action::Update, "yan"), (Action::Orphan, "stranger")]);
    let edited = found.items.iter().find(|i| i.name == "yan").unwrap();
    assert_eq!(
        (edited.differences[0].is.as_deref(), edited.differences[0].should.as_deref()),
        (Some("Mallory"), Some("Person yan"))
    );
    assert_eq!(server.user("yan").await.unwrap()["displayName"], "Mallory", "a plan changes nothing");

    let drift = report(&fed, "drift").await;
    assert_eq!(actions(&drift), actions(&found));
    assert_eq!(state(&fed.world, fed.person("yan").await.id).await, AccountState::Drifted);
    let drifted = events(&fed.world).await.into_iter().filter(|e| e.action == "account.drift").count();
    assert_eq!(drifted, 2);

    let view = run(&fed.world, "wiki", "apply", false).await;
    assert_eq!(view.accounts.get("corrected"), Some(&2), "{view:?}");
    assert_eq!(server.user("yan").await.unwrap()["displayName"], "Person yan");
    assert_ne!(id(&server.user("zoe").await.unwrap()), id(&zoe), "made again");
    assert_eq!(server.user("stranger").await.unwrap()["active"], true, "an orphan is only told of");
    assert_eq!(actions(&report(&fed, "plan").await), [(Action::Orphan, "stranger")]);
    let eve = fed.world.who("eve").await;
    let list = fed.world.broker.accounts(&eve, "wiki", Some(AccountState::Corrected), Paging::default()).await.unwrap();
    assert_eq!(list.items.len(), 2);
}

async fn a_change_keeps_the_account_and_a_leaver_closes_it(db: Db) {
    let server = ScimServer::start().await;
    let fed = fed(db, scoped(&server, &json!({"delete_after": "30d"}))).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all")]).await;
    let zoe = server.user("zoe").await.unwrap();
    fed.feed(&[line(1, "zoe.new", "yes", "hr-all"), line(2, "yan", "yes", "")]).await;
    let renamed = server.user("zoe.new").await.expect("the new name");
    assert_eq!(renamed["id"], zoe["id"], "a rename keeps the account");
    assert_eq!(renamed["emails"][0]["value"], "zoe.new@example.com");
    assert_eq!(server.user("yan").await.unwrap()["active"], false, "out of the scope");

    let before = events(&fed.world).await.len();
    fed.feed(&[line(1, "zoe.new", "no", "hr-all"), line(2, "yan", "yes", "")]).await;
    assert_eq!(server.user("zoe.new").await.unwrap()["active"], false);
    // One correlation from the reading to the proof.
    let story = events(&fed.world).await.split_off(before);
    let left = story.iter().find(|e| e.action == "identity.deactivated").unwrap();
    let proof = story.iter().find(|e| e.action == "account.verified").expect("read back");
    assert_eq!(left.correlation, proof.correlation);
    assert_eq!(proof.details["read_back"]["active"], false);

    // Deleted only after its time, by the clock alone.
    fed.world.advance(29 * 86_400);
    fed.world.settle().await;
    assert!(server.user("zoe.new").await.is_some());
    fed.world.advance(2 * 86_400);
    fed.world.settle().await;
    assert!(server.user("zoe.new").await.is_none() && server.user("yan").await.is_none());
    assert_eq!(report(&fed, "plan").await.items, []);
    // Back: a new account, and only for whoever is back.
    fed.feed(&[line(1, "zoe.new", "yes", "hr-all"), line(2, "yan", "yes", "")]).await;
    assert_eq!(server.user("zoe.new").await.unwrap()["active"], true);
    assert_eq!(server.users().await.len(), 1);
}

async fn what_is_there_already_is_adopted_and_what_is_others_is_not(db: Db) {
    let server = ScimServer::start().await;
    server.plant(json!({"userName": "zoe", "active": true, "title": "kept"})).await;
    server.plant(json!({"userName": "yan", "externalId": "somebody-elses", "active": true})).await;
    // Made by the same source for the application, before us.
    server.plant(json!({"userName": "xia", "externalId": "3", "active": true})).await;
    let fed = fed(db, scoped(&server, &json!({}))).await;
    let lines = [line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all"), line(3, "xia", "yes", "hr-all")];
    fed.feed(&lines).await;
    let who = |name: &'static str| fed.person(name);
    let zoe: Identity = who("zoe").await;
    let user = server.user("zoe").await.unwrap();
    assert_eq!((&user["externalId"], &user["title"]), (&json!(zoe.id.to_string()), &json!("kept")));
    assert_eq!(server.user("xia").await.unwrap()["externalId"], json!(who("xia").await.id.to_string()));
    assert_eq!(state(&fed.world, who("yan").await.id).await, AccountState::Failed);
    assert_eq!(server.user("yan").await.unwrap()["externalId"], "somebody-elses");
    assert_eq!(server.users().await.len(), 3);
    let adopted = events(&fed.world).await.into_iter().filter(|e| e.action == "account.adopted").count();
    assert_eq!(adopted, 2);
}

async fn orphans_are_deactivated_where_that_is_wanted(db: Db) {
    let server = ScimServer::start().await;
    let fed = fed(db, scoped(&server, &json!({"orphans": "deactivate"}))).await;
    server.plant(json!({"userName": "stranger", "active": true})).await;
    assert_eq!(actions(&report(&fed, "plan").await), [(Action::Deactivate, "stranger")]);
    assert_eq!(server.user("stranger").await.unwrap()["active"], true);
    run(&fed.world, "wiki", "apply", false).await;
    assert_eq!(server.user("stranger").await.unwrap()["active"], false);
    assert_eq!(report(&fed, "plan").await.items, []);
}

async fn mapped_groups_follow_and_lent_memberships_are_left_alone(db: Db) {
    let server = ScimServer::start().await;
    let editors = server.make_group("Wiki Editors").await;
    let others = server.make_group("Others").await;
    let mut plan = Plan::on(db);
    let groups = json!({"hr-editors": "Wiki Editors", "oncall": "Others"});
    plan.applications.push(scoped(&server, &json!({"groups": groups})));
    let fed = Fed::build(plan).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all;hr-editors"), line(2, "yan", "yes", "hr-all")]).await;
    let zoe = server.user("zoe").await.unwrap()["id"].as_str().unwrap().to_owned();
    let yan = server.user("yan").await.unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(server.members(&editors).await, std::slice::from_ref(&zoe));

    // Out of band: found, and set right.
    let add = json!({"op": "add", "path": "members", "value": [{"value": yan}]});
    server.patch(&format!("/Groups/{editors}"), add.clone()).await;
    let found = report(&fed, "plan").await;
    assert_eq!(actions(&found), [(Action::Update, "yan")]);
    assert_eq!(found.items[0].differences[0].attribute, "groups");
    run(&fed.world, "wiki", "apply", false).await;
    assert_eq!(server.members(&editors).await, std::slice::from_ref(&zoe));

    // While a grant of the ledger lends a group, the sync neither gives nor takes it.
    let (grant, oncall) =
        (fed.world.open("ana", "directory:oncall", 600).await, "SELECT id FROM groups WHERE name_key = 'oncall'");
    let (group, yan_id) = (table(&fed.world, oncall).await.remove(0), fed.person("yan").await.id);
    let lend = format!(
        "INSERT INTO memberships (group_id, identity_id, grant_id, not_after, created_at) VALUES ('{group}', '{yan_id}', '{}', {}, 0)",
        grant.id,
        fed.world.now().plus(tidegate::domain::time::Ttl::seconds_or_one(600)).micros(),
    );
    crate::verbs_help::sql(&fed.world, &lend).await;
    server.patch(&format!("/Groups/{others}"), add).await;
    assert_eq!(report(&fed, "plan").await.items, [], "a live one is not taken");
    fed.world.advance(700);
    fed.world.settle().await;
    assert_eq!(
        actions(&report(&fed, "plan").await),
        [(Action::Update, "yan")],
        "an ended one is not kept, nor given again"
    );
    run(&fed.world, "wiki", "apply", false).await;
    assert_eq!(server.members(&others).await, Vec::<String>::new());

    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all;hr-editors")]).await;
    assert_eq!(server.members(&editors).await, [yan]);
}

async fn an_application_without_an_interface_is_kept_by_tasks(db: Db) {
    let mut plan = Plan::on(db);
    let mdm = json!({"id": "mdm", "kind": "manual", "owner": "ben", "deadline": "2d", "scope": {"groups": ["hr-all"]}});
    plan.applications.push(serde_json::from_value(mdm).unwrap());
    let fed = Fed::build(plan).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all")]).await;
    let (broker, ben, zoe) = (&fed.world.broker, fed.world.who("ben").await, fed.person("zoe").await.id);
    let row = || async { fed.world.store().account("mdm", &zoe.to_string()).await.unwrap().unwrap() };
    let tasks = || async { broker.tasks(&ben, false, Paging::default()).await.unwrap().items };
    let task = tasks().await.remove(0);
    assert_eq!((task.what.as_str(), task.name.as_str(), task.owner.as_str()), ("create", "zoe", "ben"));
    assert_eq!(row().await.state, AccountState::NotVerified);
    let ana = fed.world.who("ana").await;
    assert_eq!(broker.tasks(&ana, false, Paging::default()).await.unwrap().items.len(), 0);
    refused!(broker.finish_task(&ana, task.id.parse().unwrap(), "done").await, BrokerError::NotFound(_));
    refused!(broker.finish_task(&ben, task.id.parse().unwrap(), "  ").await, BrokerError::Invalid { .. });
    broker.finish_task(&ben, task.id.parse().unwrap(), "enrolled, IT-7").await.unwrap();
    fed.world.settle().await;
    assert_eq!((row().await.state, tasks().await.len()), (AccountState::Corrected, 0));
    refused!(broker.finish_task(&ben, task.id.parse().unwrap(), "again").await, BrokerError::State(_));

    // A leaver is not verified as long as the task is open, and it is told of when it is overdue.
    fed.feed(&[line(1, "zoe", "no", "")]).await;
    let task = tasks().await.remove(0);
    assert_eq!(task.what, "deactivate");
    fed.world.advance(2 * 86_400 + 1);
    fed.world.settle().await;
    assert!(tasks().await.remove(0).overdue);
    assert_eq!(row().await.state, AccountState::NotVerified);
    assert!(fed.world.actions().await.contains(&"task.overdue".to_owned()));
    broker.finish_task(&fed.world.who("ben").await, task.id.parse().unwrap(), "wiped and retired, IT-8").await.unwrap();
    fed.world.settle().await;
    assert_eq!(row().await.state, AccountState::Corrected);
    let log = events(&fed.world).await;
    let left = log.iter().find(|e| e.action == "identity.deactivated").unwrap();
    let proof = log.iter().rfind(|e| e.action == "account.verified").unwrap();
    assert_eq!((left.correlation, &proof.details["evidence"]), (proof.correlation, &json!("wiped and retired, IT-8")));
}

on_both!(
    a_plan_says_what_apply_does_and_the_next_one_is_empty,
    a_change_keeps_the_account_and_a_leaver_closes_it,
    what_is_there_already_is_adopted_and_what_is_others_is_not,
    orphans_are_deactivated_where_that_is_wanted,
    mapped_groups_follow_and_lent_memberships_are_left_alone,
    an_application_without_an_interface_is_kept_by_tasks,
);
