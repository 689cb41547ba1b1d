//! AWS in trouble, as the whole broker takes it: throttling under many grants, a server that goes away, orphans planted
//! by hand, and two grants on one membership.

use std::{fmt::Write, fs, time::Duration};

use serde_json::{Value, json};
use tidegate::{
    app::Policies,
    domain::{
        capability::RevocationClass,
        grant::{EndReason, GrantState, object_name},
        id::GrantId,
    },
    ports::clock::{Clock, SystemClock},
};

use crate::{
    connectors_aws::{credentials, is_denied},
    on_both,
    servers::moto::{ACCOUNT, Gate, Mode, Moto, shared, unique},
    verbs_help::*,
    world::{Db, Plan, World},
};

struct Aws {
    world: World,
    gate: Gate,
    role: String,
    group: String,
    user: String,
    _home: tempfile::TempDir,
}

/// A world with a role and a group of that account, which ana may have for the asking.
async fn aws(db: Db, moto: &Moto, max_session: &str) -> Aws {
    let home = tempfile::tempdir().unwrap();
    let gate = Gate::before(moto).await;
    let role = moto.role().await;
    let (group, user) = (unique("group"), unique("user"));
    moto.iam(&[("Action", "CreateGroup"), ("GroupName", &group)]).await;
    moto.iam(&[("Action", "CreateUser"), ("UserName", &user)]).await;
    let group = format!("arn:aws:iam::{ACCOUNT}:group/{group}");
    let broker = json!({
        "credentials_file": credentials(home.path(), "AKIABROKER", "secret"),
        "region": "us-east-1",
        "endpoint_url": gate.url(),
    });
    let mut plan = Plan::on(db);
    for (id, kind, settings) in [
        ("aws", "aws_sts", json!({"roles": [role], "max_session": max_session, "broker": broker})),
        (
            "aws-groups",
            "aws_iam_group",
            json!({"groups": [group], "users": {"ana": user}, "between_looks_seconds": 0, "broker": broker}),
        ),
    ] {
        let target: Value = json!({"id": id, "kind": kind, "timeout_seconds": 20, "settings": settings});
        plan.targets.push(serde_json::from_value(target).unwrap());
    }
    policies(home.path());
    let mut catalog = fs::read_to_string(home.path().join("catalog.toml")).unwrap();
    for (id, target, parameters, more) in [
        ("aws:deploy", "aws", format!("role = \"{role}\""), ""),
        ("aws:group", "aws-groups", format!("group = \"{group}\""), "allow_no_backstop = true\n"),
    ] {
        let _ = write!(
            catalog,
            "\n[[entitlement]]\nid = \"{id}\"\ntarget = \"{target}\"\ntitle = \"AWS\"\nparameters = {{ {parameters} }}\n\
             default_ttl = \"1h\"\nmax_ttl = \"4h\"\nsensitivity = 1\napprovers = [\"approvers\"]\n{more}"
        );
    }
    fs::write(home.path().join("catalog.toml"), catalog).unwrap();
    plan.policies = Policies::Directory(home.path().to_owned());
    let world = plan.build().await;
    world.clock.set(SystemClock::new().now());
    Aws { world, gate, role, group, user, _home: home }
}

impl Aws {
    async fn release(&self, grant: &str) {
        self.world.broker.release(&self.world.who("ana").await, grant_id(grant)).await.unwrap();
    }

    /// Let retries come due until the grant stands so.
    async fn becomes(&self, grant: &str, state: GrantState) {
        for _ in 0..40 {
            self.world.settle().await;
            if self.world.state(grant).await == state {
                return;
            }
            self.world.advance(10);
        }
        panic!("{grant} is {:?}: {:?}", self.world.state(grant).await, self.world.grant(grant).await.last_error);
    }
}

async fn fifty_grants_at_once_survive_throttling(db: Db) {
    let moto = shared();
    let it = aws(db, moto, "1h").await;
    it.gate.set(Mode::Throttles(2));
    let asked = (0..50).map(|_| it.world.open("ana", "aws:deploy", 3600));
    let grants = futures::future::join_all(asked).await;
    for grant in &grants {
        it.becomes(&grant.id, GrantState::Active).await;
    }
    assert_eq!(moto.policies(&it.role).await.len(), 50);
    for grant in &grants[..10] {
        claim(&it.world, "ana", &grant.id).await.unwrap();
    }
    let released = grants.iter().map(|grant| it.release(&grant.id));
    futures::future::join_all(released).await;
    for grant in &grants {
        it.becomes(&grant.id, GrantState::Ended).await;
    }
    let left = moto.policies(&it.role).await;
    assert_eq!(left.len(), 10, "those whose sessions may still live");
    for grant in &grants[..10] {
        assert!(is_denied(left.values(), &object_name(grant_id(&grant.id)), it.world.now()));
    }
}

async fn a_server_that_goes_away_midway_is_waited_for(db: Db) {
    let moto = Moto::start(None);
    let it = aws(db, &moto, "1h").await;
    let grant = it.world.open("ana", "aws:deploy", 3600).await;
    assert_eq!(grant.state, GrantState::Active);
    claim(&it.world, "ana", &grant.id).await.unwrap();
    let member = it.world.open("ana", "aws:group", 3600).await;
    assert_eq!(member.state, GrantState::Active);
    moto.down();
    it.release(&grant.id).await;
    it.release(&member.id).await;
    it.world.settle().await;
    for id in [&grant.id, &member.id] {
        let row = it.world.grant(id).await;
        assert_eq!((row.state, row.attempts), (GrantState::Revoking, 1));
    }
    // It comes back and knows nothing: neither the deny, nor the role, nor the user.
    assert!(moto.up());
    it.world.advance(60);
    it.becomes(&grant.id, GrantState::Ended).await;
    it.becomes(&member.id, GrantState::Ended).await;
    let evidence = it.world.grant(&grant.id).await.evidence.unwrap();
    assert!(evidence["deny"].as_str().unwrap().contains("role does not exist"), "{evidence}");
}

async fn orphans_planted_by_hand_are_ended_and_foreign_ones_left_alone(db: Db) {
    let moto = shared();
    let it = aws(db, moto, "1h").await;
    let mine = it.world.open("ana", "aws:deploy", 3600).await;
    let object = object_name(grant_id(&mine.id));
    let text = moto.policies(&it.role).await[&object].clone();
    let orphan = object_name(GrantId::new(it.world.broker.entropy().ulid(it.world.now()).unwrap()));
    let theirs = object_name(GrantId::new(it.world.broker.entropy().ulid(it.world.now()).unwrap()));
    let name = it.role.rsplit('/').next().unwrap();
    let allow = text.replace("Deny", "Allow").replace(&object, &theirs);
    for (policy, document) in
        [(&orphan, text.replace(&object, &orphan)), (&theirs, allow), (&"tg-notes".to_owned(), text.clone())]
    {
        let form =
            [("Action", "PutRolePolicy"), ("RoleName", name), ("PolicyName", policy), ("PolicyDocument", &document)];
        moto.iam(&form).await;
    }
    let before = moto.policies(&it.role).await;
    let swept = it.world.broker.sweep_target(&it.world.who("eve").await, "aws").await.unwrap();
    assert_eq!(swept.orphans_ended, std::slice::from_ref(&orphan));
    assert!(swept.orphans_left.is_empty() && swept.missing.is_empty() && swept.wider.is_empty(), "{swept:?}");
    let mut after = moto.policies(&it.role).await;
    // Whatever session it had is denied now, and the deny stays until none can live.
    assert!(is_denied([&after[&orphan]], &orphan, it.world.now()));
    assert_ne!(before[&orphan], after[&orphan]);
    after.insert(orphan.clone(), before[&orphan].clone());
    assert_eq!(before, after, "nothing else was touched");
    // Somebody makes ours last longer: that is told.
    let late =
        text.replace(text.split("CurrentTime\":\"").nth(1).unwrap().split('"').next().unwrap(), "2099-01-01T00:00:00Z");
    let sid = |text: &str| text.split("tidegate").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let late = late.replace(&sid(&text), "4070908800");
    let form = [("Action", "PutRolePolicy"), ("RoleName", name), ("PolicyName", &object), ("PolicyDocument", &late)];
    moto.iam(&form).await;
    let swept = it.world.broker.sweep_target(&it.world.who("eve").await, "aws").await.unwrap();
    assert_eq!(swept.wider, [object]);
}

async fn a_membership_is_counted_by_the_ledger_in_both_orders(db: Db) {
    let moto = shared();
    let it = aws(db, moto, "1h").await;
    for first in [0, 1] {
        let two = [it.world.open("ana", "aws:group", 3600).await.id, it.world.open("ana", "aws:group", 1800).await.id];
        assert!(moto.members(&it.group).await.contains(&it.user));
        it.release(&two[first]).await;
        it.becomes(&two[first], GrantState::Ended).await;
        assert!(moto.members(&it.group).await.contains(&it.user), "the other grant is still there");
        it.release(&two[1 - first]).await;
        it.becomes(&two[1 - first], GrantState::Ended).await;
        assert!(moto.members(&it.group).await.is_empty());
    }
    // Together.
    let two = [it.world.open("ana", "aws:group", 3600).await.id, it.world.open("ana", "aws:group", 3600).await.id];
    tokio::join!(it.release(&two[0]), it.release(&two[1]));
    for id in &two {
        it.becomes(id, GrantState::Ended).await;
    }
    assert!(moto.members(&it.group).await.is_empty());
}

async fn what_aws_would_refuse_fails_before_it_is_opened(db: Db) {
    let it = aws(db, shared(), "12h").await;
    let grant = it.world.open("ana", "aws:deploy", 3600).await;
    it.world.settle().await;
    let row = it.world.grant(&grant.id).await;
    assert_eq!((row.state, row.end_reason), (GrantState::Failed, Some(EndReason::Refused)));
    assert!(row.last_error.unwrap().contains("--max-session-duration 43200"));
    assert_eq!(it.gate.calls("PutRolePolicy") + it.gate.calls("AssumeRole"), 0);
}

async fn a_session_is_claimed_once_unless_the_catalog_says_more(db: Db) {
    let it = aws(db, shared(), "1h").await;
    let grant = it.world.open("ana", "aws:deploy", 600).await;
    claim(&it.world, "ana", &grant.id).await.unwrap();
    assert!(claim(&it.world, "ana", &grant.id).await.is_err());
    let shown = it.world.broker.target(&it.world.who("ana").await, "aws").await.unwrap();
    assert_eq!((shown.revocation_class, shown.replaces_copies), (RevocationClass::Propagating, false));
    // Its own end, with nobody doing anything: the role has said so since before there was a session.
    let policies = shared().policies(&it.role).await;
    let object = object_name(grant_id(&grant.id));
    let end = it.world.grant(&grant.id).await.not_after.unwrap();
    assert!(!is_denied(policies.values(), &object, end.minus_std(Duration::from_secs(2))));
    assert!(is_denied(policies.values(), &object, end.plus_std(Duration::from_secs(1))));
}

on_both!(
    fifty_grants_at_once_survive_throttling,
    a_server_that_goes_away_midway_is_waited_for,
    orphans_planted_by_hand_are_ended_and_foreign_ones_left_alone,
    a_membership_is_counted_by_the_ledger_in_both_orders,
    what_aws_would_refuse_fails_before_it_is_opened,
    a_session_is_claimed_once_unless_the_catalog_says_more,
);
