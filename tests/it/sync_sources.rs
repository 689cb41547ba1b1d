//! Feeds and directories that are read: who joins, changes, leaves; what is refused; when it stops.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Value, json};
use tidegate::{
    broker::{
        BrokerError, Settings,
        review::Review,
        sync_view::{ReadingReport, RunView},
    },
    domain::{id::RunId, identity::Identity, roster::SourceConfig},
};

use crate::{
    on_both,
    servers::scim::ScimServer,
    sync_accounts::application,
    verbs_help::{events, groups, refused},
    world::{Db, Plan, World},
};

/// A world with a feed of people, and whatever else is planned.
pub struct Fed {
    pub world: World,
    file: PathBuf,
    _dir: Arc<tempfile::TempDir>,
}

/// A feed that is the file `file`.
fn feed(file: &std::path::Path, more: &Value) -> SourceConfig {
    let mut config = json!({
        "id": "hr", "kind": "feed", "settings": {"data_file": file},
        "mapping": {
            "external_id": "no", "name": "login", "display_name": "full", "email": "mail", "active": "active",
            "contract_end": "until", "groups": "teams", "department": "dept",
        },
    });
    for (name, value) in more.as_object().unwrap() {
        config[name] = value.clone();
    }
    serde_json::from_value(config).unwrap()
}

const HEADER: &str = "no,login,full,mail,active,until,teams,dept\n";

/// One line of the feed.
pub fn line(no: u32, login: &str, active: &str, teams: &str) -> String {
    format!("{no},{login},Person {login},{login}@example.com,{active},,{teams},Sales\n")
}

impl Fed {
    pub async fn build(mut plan: Plan) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let file = dir.path().join("people.csv");
        plan.sources.push(feed(&file, &json!({})));
        Self { world: plan.build().await, file, _dir: dir }
    }

    pub fn write(&self, lines: &[String]) {
        std::fs::write(&self.file, format!("{HEADER}{}", lines.concat())).unwrap();
    }

    /// Read the feed; what it came to.
    pub async fn read(&self, accept: bool) -> ReadingReport {
        let view = run(&self.world, "hr", "apply", accept).await;
        assert_eq!(view.error, None);
        view.reading.unwrap()
    }

    /// Write the feed, read it, and settle what follows.
    pub async fn feed(&self, lines: &[String]) -> ReadingReport {
        self.write(lines);
        let report = self.read(false).await;
        self.world.settle().await;
        report
    }

    pub async fn person(&self, name: &str) -> Identity {
        self.world.store().subject_by_name(name, self.world.now()).await.unwrap().expect("a person").identity
    }
}

/// Begin a run and see it through.
pub async fn run(world: &World, name: &str, verb: &str, accept: bool) -> RunView {
    let eve = world.who("eve").await;
    let id: RunId = world.broker.start_sync(&eve, name, verb, accept).await.unwrap();
    world.settle().await;
    let view = world.broker.sync_run(&eve, id).await.unwrap();
    assert_ne!(view.state, "running");
    view
}

async fn people_join_change_and_leave_as_the_feed_says(db: Db) {
    let fed = Fed::build(Plan::on(db)).await;
    let report = fed
        .feed(&[line(1, "zoe", "yes", "hr-sales;hr-all"), line(2, "yan", "1", "hr-all"), line(3, "old", "no", "")])
        .await;
    assert_eq!((report.read, report.joined, report.applied, report.conflicts.len()), (3, 2, true, 0), "{report:?}");
    let zoe = fed.person("zoe").await;
    assert_eq!((zoe.external_id.as_deref(), zoe.email.as_deref()), (Some("1"), Some("zoe@example.com")));
    assert_eq!(zoe.attributes["department"], "Sales");
    assert_eq!(groups(&fed.world, "zoe").await, ["hr-all", "hr-sales"]);

    // A rename keeps the identity; a lost group is lost; the same again is nothing.
    let lines = [line(1, "zoe.new", "yes", "hr-all"), line(2, "yan", "1", "hr-all")];
    assert_eq!(fed.feed(&lines).await.changed, 1);
    assert_eq!(fed.person("zoe.new").await.id, zoe.id);
    assert_eq!(groups(&fed.world, "zoe.new").await, ["hr-all"]);
    let before = events(&fed.world).await.len();
    assert_eq!(fed.feed(&lines).await.unchanged, 2);
    let quiet: Vec<String> = events(&fed.world).await.split_off(before).into_iter().map(|e| e.action).collect();
    assert_eq!(quiet, ["sync.started", "sync.finished"]);

    // Said to be inactive, and no longer there: both have left. Whoever is back is back.
    let report = fed.feed(&[line(1, "zoe.new", "inactive", "hr-all")]).await;
    assert_eq!((report.left, report.leavers.len()), (2, 2));
    assert!(!fed.person("zoe.new").await.active && !fed.person("yan").await.active);
    assert_eq!(fed.feed(&[line(1, "zoe.new", "yes", "hr-all")]).await.changed, 1);
    assert!(fed.person("zoe.new").await.active);
    assert!(!fed.person("yan").await.active);
}

async fn half_an_object_is_refused_and_nothing_is_lost(db: Db) {
    let fed = Fed::build(Plan::on(db)).await;
    fed.feed(&[line(1, "zoe", "yes", ""), line(2, "yan", "yes", ""), line(3, "xia", "yes", "")]).await;
    // The second line breaks off; the third is not there any more.
    let report = fed.feed(&[line(1, "zoe", "yes", ""), "2,ya".to_owned()]).await;
    assert!(report.incomplete, "{report:?}");
    let refused = &report.refused[0];
    assert_eq!((refused.line, refused.external_id.as_deref()), (3, None));
    assert!(fed.person("yan").await.active && fed.person("xia").await.active, "nobody is gone for half a file");
    // A line with a name and without sense harms only itself.
    let report = fed.feed(&[line(1, "zoe", "perhaps", ""), line(2, "yan", "no", ""), line(3, "xia", "yes", "")]).await;
    assert_eq!((report.refused[0].field.as_str(), report.refused[0].line), ("active", 2));
    assert_eq!((report.incomplete, report.left), (false, 1));
    assert!(fed.person("zoe").await.active);
    // Nothing at all is a broken feed and no empty one.
    assert!(fed.feed(&[]).await.incomplete);
    assert!(fed.person("zoe").await.active);
}

async fn a_shrinking_feed_stops_and_asks(db: Db) {
    let fed = Fed::build(Plan::on(db)).await;
    let all: Vec<String> = (1..=20).map(|n| line(n, &format!("p{n:02}"), "yes", "")).collect();
    assert_eq!(fed.feed(&all).await.joined, 20);
    // 30 % are gone.
    fed.world.advance(1);
    let report = fed.feed(&all[..14]).await;
    assert!(report.stopped.as_ref().is_some_and(|s| s.contains("--accept")), "{report:?}");
    assert_eq!((report.left, report.leavers.len(), report.applied), (6, 6, false));
    assert!(fed.person("p20").await.active);
    assert!(fed.world.actions().await.contains(&"source.stopped".to_owned()));
    let view = fed.world.broker.sync_view(&fed.world.who("eve").await, "hr").await.unwrap();
    assert_eq!(view.last_run.unwrap().state, "stopped");
    let report = fed.read(true).await;
    assert_eq!((report.left, report.applied), (6, true));
    assert!(!fed.person("p20").await.active && fed.person("p01").await.active);
}

async fn the_same_person_from_two_sources_is_never_merged(db: Db) {
    let directory = ScimServer::start().await;
    directory
        .plant(json!({"userName": "zoe", "active": true, "emails": [{"type": "work", "value": "zoe@example.com"}]}))
        .await;
    directory.plant(json!({"userName": "wim", "displayName": "Wim W", "active": true})).await;
    let mut plan = Plan::on(db);
    let idp = json!({"id": "idp", "kind": "scim_pull", "settings": directory.settings()});
    plan.sources.push(serde_json::from_value(idp).unwrap());
    let fed = Fed::build(plan).await;
    fed.feed(&[line(1, "zoe", "yes", ""), line(7, "ana", "yes", "")]).await;
    let zoe = fed.person("zoe").await;
    // `ana` is kept here and is nobody's to take.
    let view = run(&fed.world, "idp", "apply", false).await;
    let report = view.reading.unwrap();
    assert_eq!((report.joined, report.conflicts.len()), (2, 1), "{report:?}");
    assert_eq!(fed.person("zoe").await, zoe);
    assert_eq!(fed.person("wim").await.display_name, "Wim W");
    assert_eq!(fed.person("ana").await.source, None);
    // By name or by e-mail: people decide, once, and the source takes over whom they say.
    let collisions = events(&fed.world).await.into_iter().filter(|e| e.action == "source.collision").count();
    assert_eq!(collisions, 2);
    let mut same_mail = line(8, "zoe.z", "yes", "");
    same_mail = same_mail.replace("zoe.z@example.com", "ZOE@example.com");
    assert_eq!(fed.feed(&[line(1, "zoe", "yes", ""), line(7, "ana", "yes", ""), same_mail]).await.conflicts.len(), 1);
    let eve = fed.world.who("eve").await;
    assert_eq!(fed.world.broker.review(&eve, Review::Collisions, 30).await.unwrap().len(), 2);
    let ana = fed.person("ana").await.id;
    fed.world.broker.resolve_collision(&eve, "hr", ana).await.unwrap();
    fed.feed(&[line(1, "zoe", "yes", ""), line(7, "ana", "yes", "")]).await;
    let ana = fed.person("ana").await;
    assert!(ana.source.is_some() && ana.external_id.as_deref() == Some("7"), "{ana:?}");
    // Deactivated there, deactivated here.
    let id = directory.user("wim").await.unwrap()["id"].as_str().unwrap().to_owned();
    directory.patch(&format!("/Users/{id}"), json!({"op": "replace", "path": "active", "value": false})).await;
    run(&fed.world, "idp", "apply", false).await;
    assert!(!fed.person("wim").await.active);
}

async fn only_administrators_run_and_only_onlookers_look(db: Db) {
    let server = ScimServer::start().await;
    let mut plan = Plan::on(db);
    plan.settings = Settings::default();
    plan.applications.push(application(&server, json!({})));
    let fed = Fed::build(plan).await;
    let (broker, ana) = (&fed.world.broker, fed.world.who("ana").await);
    refused!(broker.start_sync(&ana, "wiki", "apply", false).await, BrokerError::Forbidden(_));
    refused!(broker.syncs(&ana).await, BrokerError::Forbidden(_));
    let eve = fed.world.who("eve").await;
    refused!(broker.start_sync(&eve, "nothing", "plan", false).await, BrokerError::NotFound(_));
    refused!(broker.start_sync(&eve, "hr", "drift", false).await, BrokerError::Invalid { .. });
    let id = broker.start_sync(&eve, "wiki", "plan", false).await.unwrap();
    refused!(broker.sync_run(&ana, id).await, BrokerError::Forbidden(_));
    refused!(broker.start_sync(&eve, "wiki", "plan", false).await, BrokerError::State(_));
    let names: Vec<String> = broker.syncs(&eve).await.unwrap().into_iter().map(|s| s.id).collect();
    assert_eq!(names, ["wiki", "hr"]);
}

async fn a_schedule_reads_a_source_by_itself(db: Db) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("people.csv");
    std::fs::write(&file, format!("{HEADER}{}", line(1, "zoe", "yes", "hr-all"))).unwrap();
    let mut plan = Plan::on(db);
    plan.sources.push(feed(&file, &json!({"schedule": "*/5 * * * *"})));
    let world = plan.build().await;
    let (broker, clock) = (Arc::clone(&world.broker), Arc::clone(&world.clock));
    let running = tokio::spawn(world.workers.run());
    let there = async {
        loop {
            // The loop looks at the clock about once in a second.
            if broker.store().subject_by_name("zoe", broker.now()).await.unwrap().is_some() {
                break;
            }
            clock.advance(std::time::Duration::from_secs(30));
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), there).await.expect("it was read");
    broker.close(std::time::Duration::from_secs(5)).await;
    running.await.unwrap();
}

on_both!(
    a_schedule_reads_a_source_by_itself,
    people_join_change_and_leave_as_the_feed_says,
    half_an_object_is_refused_and_nothing_is_lost,
    a_shrinking_feed_stops_and_asks,
    the_same_person_from_two_sources_is_never_merged,
    only_administrators_run_and_only_onlookers_look,
);
