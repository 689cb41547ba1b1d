//! Two targets on one place, and refusals that go with an empty sight.

use serde_json::json;
use tidegate::{
    app::seed_targets,
    connectors::faulty::{Behaviour, Call},
    domain::{catalog::TargetConfig, grant::GrantState},
};

use crate::{
    on_both,
    verbs_help::*,
    world::{Db, Plan, World},
};

async fn a_sweep_leaves_the_live_grants_of_other_targets_alone(db: Db) {
    const SECOND: &str = "same-directory";
    let mut plan = Plan::on(db);
    let directory = plan.targets.iter().find(|t| &*t.id == DIRECTORY).unwrap();
    plan.targets.push(TargetConfig { id: SECOND.into(), ..directory.clone() });
    let world = plan.build().await;
    let grant = world.open("ana", READERS, 600).await;
    let eve = world.who("eve").await;
    let swept = world.broker.sweep_target(&eve, SECOND).await.unwrap();
    assert_eq!((swept.found, swept.orphans_ended.len(), swept.orphans_left.len()), (1, 0, 0));
    assert_eq!(world.state(&grant.id).await, GrantState::Active);
    let memberships = "SELECT grant_id FROM memberships WHERE grant_id <> ''";
    assert_eq!(table(&world, memberships).await.len(), 1);
    world.advance(601);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
}

async fn a_refusal_with_an_empty_sight_ends_nothing(db: Db) {
    let world = World::on(db).await;
    let grant = world.open("ana", READERS, 60).await;
    // As when the broker's rights at the target are taken away: it may change nothing, and sees nothing.
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Refuses);
    world.faults(DIRECTORY).set(Call::Verify, Behaviour::Lies);
    world.advance(61);
    world.workers.round().await.unwrap();
    let trying = world.grant(&grant.id).await;
    assert_eq!((trying.state, trying.attempts), (GrantState::Revoking, 1));
    assert!(trying.last_error.unwrap().contains("refused to take it away"));
    world.faults(DIRECTORY).heal();
    world.advance(60);
    world.settle().await;
    assert_eq!(world.state(&grant.id).await, GrantState::Ended);
    // What was never open is no such case.
    world.faults(DIRECTORY).set(Call::Activate, Behaviour::Refuses);
    world.faults(DIRECTORY).set(Call::Revoke, Behaviour::Refuses);
    let never = world.open("ben", READERS, 60).await;
    world.settle().await;
    assert_eq!(world.state(&never.id).await, GrantState::Failed);
}

on_both!(a_sweep_leaves_the_live_grants_of_other_targets_alone, a_refusal_with_an_empty_sight_ends_nothing);

#[tokio::test]
async fn two_targets_on_one_place_are_refused_at_the_start() {
    let ldap = |id: &str, base: &str| -> TargetConfig {
        serde_json::from_value(json!({"id": id, "kind": "ldap", "settings": {
            "url": "ldaps://ldap.example.org", "bind_dn": "cn=tidegate,dc=example", "password_file": "/run/password",
            "user_base": "ou=people,dc=example", "group_base": base, "mark": id,
        }}))
        .unwrap()
    };
    for (second, together) in [("ou=teams,dc=example", true), ("OU=Night,ou=groups,dc=example", false)] {
        let mut plan = Plan::on(Db::Sqlite);
        plan.targets = seed_targets();
        plan.targets.extend([ldap("one", "ou=groups,dc=example"), ldap("two", second)]);
        let built = tokio::spawn(plan.build()).await;
        assert_eq!(built.is_ok(), together, "{second}");
        if let Err(refused) = built {
            let why = refused.into_panic();
            let why = why.downcast_ref::<String>().unwrap();
            assert!(why.contains("`one` and `two` are on the same place"), "{why}");
        }
    }
}
