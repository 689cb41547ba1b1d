//! Accounts that are somebody else's are left alone, people whom a directory forgot to list are not taken for gone, and
//! who leaves does not wait behind who joins.

use serde_json::{Value, json};
use tidegate::domain::account::{AccountState, ApplicationConfig};

use crate::{
    on_both,
    scim_app::{Scim, done},
    servers::lying::{Liar, Mood},
    sync_sources::{Fed, line, run},
    verbs_help::{events, sql},
    world::{Db, Plan, World},
};

fn wiki(liar: &Liar, more: &Value) -> ApplicationConfig {
    let mut config = json!({
        "id": "wiki", "kind": "scim", "timeout_seconds": 5, "settings": liar.settings(), "scope": {"groups": ["hr-all"]},
        "mapping": {"userName": "name", "displayName": "display_name"},
    });
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

async fn fed(db: Db, liar: &Liar) -> Fed {
    let mut plan = Plan::on(db);
    plan.applications.push(wiki(liar, &json!({})));
    Fed::build(plan).await
}

async fn an_account_of_another_name_is_not_taken_over_by_what_a_source_calls_somebody(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    let victim = liar.plant(&json!({"userName": "victim", "externalId": "1", "displayName": "V", "active": true}));
    let ours = liar.plant(&json!({"userName": "yan", "externalId": "2", "displayName": "Y", "active": true}));
    fed.feed(&[line(1, "mallory", "yes", "hr-all"), line(2, "yan", "yes", "hr-all")]).await;
    let there = liar.user("victim").expect("left as it was");
    assert_eq!((&there["id"], &there["externalId"], &there["displayName"]), (&json!(victim), &json!("1"), &json!("V")));
    assert_ne!(liar.user("mallory").expect("one of its own")["id"], json!(victim), "{db:?}");
    assert_eq!(liar.user("yan").unwrap()["id"], json!(ours), "{db:?}: name and source's id agree");
}

async fn an_account_of_somebody_else_is_not_even_touched(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all")]).await;
    let zoe = liar.user("zoe").unwrap()["id"].as_str().unwrap().to_owned();
    // By hand, it gets another's name and loses ours.
    liar.edit(&zoe, "userName", &json!("yan"));
    liar.edit(&zoe, "externalId", &Value::Null);
    liar.calls();
    fed.feed(&[line(1, "zoe", "yes", "hr-all"), line(2, "yan", "yes", "hr-all")]).await;
    let changes: Vec<String> = liar.calls().into_iter().filter(|c| !c.starts_with("GET")).collect();
    assert_eq!(changes, Vec::<String>::new(), "{db:?}");
    let yan = fed.person("yan").await.id;
    let row = fed.world.store().account("wiki", &yan.to_string()).await.unwrap().unwrap();
    assert_eq!(row.state, AccountState::Failed, "{db:?}: {row:?}");
}

async fn pulled(db: Db, liar: &Liar) -> World {
    let mut plan = Plan::on(db);
    let config = json!({"id": "idp", "kind": "scim_pull", "settings": liar.settings(), "max_leavers_percent": 100});
    plan.sources.push(serde_json::from_value(config).unwrap());
    plan.build().await
}

async fn is_active(world: &World, name: &str) -> bool {
    world.store().subject_by_name(name, world.now()).await.unwrap().expect("a person").identity.active
}

async fn who_is_not_listed_is_asked_about_before_they_are_gone(db: Db) {
    let liar = Liar::start().await;
    let world = pulled(db, &liar).await;
    for name in ["p1", "p2", "p3", "p4"] {
        liar.plant(&json!({"userName": name, "active": true}));
    }
    let read = async || run(&world, "idp", "apply", false).await.reading.unwrap();
    assert_eq!(read().await.joined, 4);
    // It says four, and shows two.
    liar.set(Mood::EndsAfter(2));
    let short = read().await;
    assert!(short.incomplete && short.left == 0, "{db:?}: {short:?}");
    // It says three and shows three, and has four.
    liar.set(Mood::Hides("p3".to_owned()));
    let hidden = read().await;
    assert_eq!(hidden.left, 0, "{db:?}: {hidden:?}");
    for name in ["p1", "p2", "p3", "p4"] {
        assert!(is_active(&world, name).await, "{db:?}: {name}");
    }
    // Whoever is gone is gone.
    liar.set(Mood::Well);
    liar.remove("u4");
    assert_eq!(read().await.left, 1, "{db:?}");
    assert!(!is_active(&world, "p4").await);
}

async fn a_list_without_end_is_given_up(db: Db) {
    let liar = Liar::start().await;
    let world = pulled(db, &liar).await;
    liar.plant(&json!({"userName": "p1", "active": true}));
    liar.set(Mood::Repeats);
    let reading = run(&world, "idp", "apply", false);
    let view = tokio::time::timeout(std::time::Duration::from_secs(30), reading).await.expect("it ends");
    assert_eq!(view.reading.as_ref().map(|r| (r.joined, r.left)), Some((1, 0)), "{view:?}");
    let fed = fed(db, &liar).await;
    let comparing = run(&fed.world, "wiki", "plan", false);
    let view = tokio::time::timeout(std::time::Duration::from_secs(30), comparing).await.expect("it ends");
    assert!(view.error.is_some_and(|why| why.contains("again and again")), "{db:?}");
}

async fn who_leaves_does_not_wait_behind_who_joins(db: Db) {
    let liar = Liar::start().await;
    let mut plan = Plan::on(db);
    plan.applications.push(wiki(&liar, &json!({"concurrency": 4})));
    let fed = Fed::build(plan).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all")]).await;
    // Thirty join, and zoe leaves a moment later.
    let mut lines: Vec<String> = (2..32).map(|n| line(n, &format!("p{n}"), "yes", "hr-all")).collect();
    lines.push(line(1, "zoe", "yes", "hr-all"));
    fed.write(&lines);
    let eve = fed.world.who("eve").await;
    fed.world.broker.start_sync(&eve, "hr", "apply", false).await.unwrap();
    let carry = async || {
        for run in fed.world.broker.lease_runs(4).await.unwrap() {
            fed.world.broker.carry_out(run).await.unwrap();
        }
    };
    carry().await;
    fed.world.advance(1);
    lines.pop();
    lines.push(line(1, "zoe", "no", "hr-all"));
    fed.write(&lines);
    fed.world.broker.start_sync(&eve, "hr", "apply", false).await.unwrap();
    carry().await;
    for work in fed.world.broker.lease_accounts("wiki", 2).await.unwrap() {
        fed.world.broker.work_on(work).await.unwrap();
    }
    assert_eq!(liar.user("zoe").unwrap()["active"], false, "{db:?}: among the first two");
    fed.world.settle().await;
    assert!(liar.user("p31").is_some());
    // Nor do failures of making accounts hold them up.
    liar.set(Mood::Down);
    lines.pop();
    lines.extend((40..46).map(|n| line(n, &format!("x{n}"), "yes", "hr-all")));
    fed.write(&lines);
    fed.world.broker.start_sync(&eve, "hr", "apply", false).await.unwrap();
    carry().await;
    for _ in 0..6 {
        for work in fed.world.broker.lease_accounts("wiki", 1).await.unwrap() {
            fed.world.broker.work_on(work).await.unwrap();
        }
    }
    liar.set(Mood::Well);
    fed.write(&[&lines[1..], &[line(2, "p2", "no", "hr-all")]].concat());
    fed.world.broker.start_sync(&eve, "hr", "apply", false).await.unwrap();
    carry().await;
    let leased = fed.world.broker.lease_accounts("wiki", 4).await.unwrap();
    assert_eq!(leased.len(), 1, "{db:?}: joiners are held back, and she is not");
    for work in leased {
        fed.world.broker.work_on(work).await.unwrap();
    }
    assert_eq!(liar.user("p2").unwrap()["active"], false, "{db:?}");
}

/// Nobody can be added to the groups that administer and audit by a file.
async fn a_feed_does_not_fill_the_groups_that_audit(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    // One that is not there yet could be made, one that is there belongs to nobody.
    sql(
        &fed.world,
        "DELETE FROM memberships WHERE group_id IN (SELECT id FROM groups WHERE name_key = 'tidegate-auditors')",
    )
    .await;
    sql(&fed.world, "DELETE FROM groups WHERE name_key = 'tidegate-auditors'").await;
    let report = fed.feed(&[line(1, "zoe", "yes", "Tidegate-Auditors")]).await;
    assert_eq!(report.conflicts.len(), 1, "{db:?}: {report:?}");
    assert!(fed.world.store().group("tidegate-auditors").await.unwrap().is_none(), "{db:?}");
}

/// A contract that is over is a departure: a feed full of such is stopped like any other.
async fn contracts_that_are_over_are_departures(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    let people = |until: &str| -> Vec<String> {
        (0..20).map(|n| line(n, &format!("p{n}"), "yes", "").replace(",yes,,", &format!(",yes,{until},"))).collect()
    };
    fed.feed(&people("")).await;
    let report = fed.feed(&people("2020-01-01")).await;
    assert!(report.stopped.is_some() && !report.applied, "{db:?}: {report:?}");
    assert!(fed.person("p3").await.active);
}

async fn a_run_that_is_closed_on_is_left_to_its_lease(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.write(&[line(1, "zoe", "yes", "")]);
    let broker = &fed.world.broker;
    let id = broker.start_sync(&fed.world.who("eve").await, "hr", "apply", false).await.unwrap();
    let run = broker.lease_runs(1).await.unwrap().remove(0);
    broker.closing().cancel();
    broker.carry_out(run).await.unwrap();
    let run = fed.world.store().sync_run(id).await.unwrap().unwrap();
    assert_eq!((run.finished_at, run.error), (None, None), "{db:?}");
}

/// It may ask to be left alone; for hours, that is an alarm.
async fn asking_to_be_left_alone_for_ever_is_told_of(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    fed.feed(&[line(1, "zoe", "yes", "hr-all")]).await;
    liar.set(Mood::Busy);
    fed.feed(&[line(1, "zoe", "no", "hr-all")]).await;
    for _ in 0..12 {
        fed.world.advance(3700);
        fed.world.settle().await;
    }
    let told: Vec<_> = events(&fed.world).await.into_iter().filter(|e| e.action == "account.not_verified").collect();
    assert_eq!(told.len(), 2, "{db:?}: when it began, and once more: {told:?}");
}

async fn a_server_that_overlooks_filters_is_walked_through(db: Db) {
    let liar = Liar::start().await;
    let fed = fed(db, &liar).await;
    for name in ["a", "b", "c"] {
        liar.plant(&json!({"userName": name, "active": true}));
    }
    let there = liar.plant(&json!({"userName": "zoe", "active": true}));
    liar.set(Mood::Overlooks);
    fed.feed(&[line(1, "zoe", "yes", "hr-all")]).await;
    assert_eq!((liar.count(), liar.user("zoe").unwrap()["id"].clone()), (4, json!(there)), "{db:?}: adopted");
    let zoe = fed.person("zoe").await.id.to_string();
    assert_eq!(liar.user("zoe").unwrap()["externalId"], json!(zoe));
}

async fn a_group_of_another_name_is_looked_at_again(db: Db) {
    let liar = Liar::start().await;
    let mut plan = Plan::on(db);
    plan.applications.push(wiki(&liar, &json!({})));
    let scim = Scim::of(plan).await;
    let zoe = scim.user("zoe").await;
    let group = scim.group("hr-all", &[&zoe]).await;
    scim.app.world.settle().await;
    assert_eq!(liar.user("zoe").expect("an account")["active"], true);
    done(
        &scim
            .patch(&format!("/Groups/{group}"), json!([{"op": "replace", "path": "displayName", "value": "old"}]))
            .await,
        200,
    );
    scim.app.world.settle().await;
    assert_eq!(liar.user("zoe").unwrap()["active"], false, "{db:?}: outside the scope from now on");
}

on_both!(
    a_feed_does_not_fill_the_groups_that_audit,
    contracts_that_are_over_are_departures,
    a_run_that_is_closed_on_is_left_to_its_lease,
    asking_to_be_left_alone_for_ever_is_told_of,
    a_server_that_overlooks_filters_is_walked_through,
    a_group_of_another_name_is_looked_at_again,
    an_account_of_another_name_is_not_taken_over_by_what_a_source_calls_somebody,
    an_account_of_somebody_else_is_not_even_touched,
    who_is_not_listed_is_asked_about_before_they_are_gone,
    a_list_without_end_is_given_up,
    who_leaves_does_not_wait_behind_who_joins,
);
