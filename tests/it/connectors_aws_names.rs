//! AWS: keys of another account, names and marks that moved, and looks that prove nothing.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tidegate::{
    connectors::{build, conformance::Harness},
    domain::grant::{Recipe, object_name},
    ports::{
        clock::SystemClock,
        connector::{Fault, Presence},
    },
};

use crate::{
    connectors::wish,
    connectors_aws::{Members, Roles, broker, target},
    servers::moto::{ACCOUNT, unique},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_keys_of_another_account_prove_nothing() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let it = Members::new().await;
    // The same names, in an account that the keys are not of.
    let other = |arn: &str| arn.replace(ACCOUNT, "210987654321");
    let role = other(&roles.role);
    let settings = json!({"roles": [role], "broker": broker(&roles.world, &roles.gate.url())});
    let sts = build(&target("aws_sts", 2, &settings), &roles.world.parts()).unwrap();
    let group = other(&it.group);
    let settings = json!({
        "groups": [group], "users": {"ana": it.user}, "between_looks_seconds": 0,
        "broker": broker(&it.world, &it.gate.url()),
    });
    let iam = build(&target("aws_iam_group", 2, &settings), &it.world.parts()).unwrap();
    for (connector, parameters) in [(&sts, json!({"role": role})), (&iam, json!({"group": group}))] {
        let said = connector.prepare(&wish(it.world.grant(), parameters)).await;
        assert!(matches!(&said, Err(Fault::Unavailable(why)) if why.contains("210987654321")), "{said:?}");
        assert!(connector.sweep().await.is_err());
    }
    // Recipes of this very account, where the names lead to nothing of ours.
    let grant = it.world.grant();
    let object = object_name(grant);
    let recipe = Recipe { grant, object: object.clone(), data: json!({"role": role}) };
    assert!(matches!(sts.verify(&recipe).await, Presence::Unknown(_)));
    let data =
        json!({"shared": {"key": format!("{}/{}", group.rsplit('/').next().unwrap(), it.user), "was_there": false}});
    let recipe = Recipe { grant, object, data };
    assert!(matches!(iam.verify(&recipe).await, Presence::Unknown(_)));
    assert!(iam.revoke(&recipe).await.is_err());
    assert_eq!(it.gate.calls("RemoveUserFromGroup"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iam_group_names_that_moved_are_found_by_id() {
    let it = Members::new().await;
    let connector = it.connect();
    let (group, user) = (it.group.rsplit('/').next().unwrap().to_owned(), it.user.clone());
    for (moves_user, moves_group) in [(true, false), (false, true), (true, true)] {
        let one = it.open(connector.as_ref()).await;
        let (mut now_user, mut now_group) = (user.clone(), group.clone());
        if moves_user {
            now_user = unique("renamed");
            it.moto.iam(&[("Action", "UpdateUser"), ("UserName", &user), ("NewUserName", &now_user)]).await;
            // Somebody else gets the name.
            it.moto.iam(&[("Action", "CreateUser"), ("UserName", &user)]).await;
        }
        if moves_group {
            now_group = unique("renamed");
            it.moto.iam(&[("Action", "UpdateGroup"), ("GroupName", &group), ("NewGroupName", &now_group)]).await;
            it.moto.iam(&[("Action", "CreateGroup"), ("GroupName", &group)]).await;
            it.moto.iam(&[("Action", "AddUserToGroup"), ("GroupName", &group), ("UserName", &user)]).await;
        }
        assert_eq!(it.moto.members(&now_group).await, std::slice::from_ref(&now_user));
        it.world.ledger.end(one.recipe.grant);
        let seen = connector.verify(&one.recipe).await;
        assert!(matches!(seen, Presence::Present(_)), "{moves_user} {moves_group}: {seen:?}");
        it.close(connector.as_ref(), &one.recipe).await;
        assert!(it.moto.members(&now_group).await.is_empty());
        if moves_group {
            assert_eq!(it.moto.members(&group).await, std::slice::from_ref(&user), "another group, not ours");
            it.change("RemoveUserFromGroup").await;
            it.moto.iam(&[("Action", "DeleteGroup"), ("GroupName", &group)]).await;
            it.moto.iam(&[("Action", "UpdateGroup"), ("GroupName", &now_group), ("NewGroupName", &group)]).await;
        }
        if moves_user {
            it.moto.iam(&[("Action", "DeleteUser"), ("UserName", &user)]).await;
            it.moto.iam(&[("Action", "UpdateUser"), ("UserName", &now_user), ("NewUserName", &user)]).await;
        }
    }
    // A recipe of old knows names only.
    let one = it.open(connector.as_ref()).await;
    let data = json!({"shared": {"key": format!("{group}/{user}"), "was_there": false}});
    it.close(connector.as_ref(), &Recipe { data, ..one.recipe.clone() }).await;
    assert!(!it.is_member().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_a_mark_that_was_changed_strands_nothing_and_a_lost_deny_is_drift() {
    let roles = Roles::new(Arc::new(SystemClock::new())).await;
    let connector = roles.connect();
    let one = roles.intent(connector.as_ref(), Duration::from_mins(30)).await;
    connector.activate(&one).await.unwrap();
    connector.mint(&one, &roles.claim(&one)).await.unwrap();
    let settings = json!({"roles": [roles.role], "mark": "other", "broker": broker(&roles.world, &roles.gate.url())});
    let renamed = build(&target("aws_sts", 2, &settings), &roles.world.parts()).unwrap();
    roles.remove_foreign(&one.recipe.object).await.unwrap();
    let Presence::Present(seen) = renamed.verify(&one.recipe).await else { panic!("absent") };
    assert_eq!(seen[tidegate::ports::connector::DRIFT], "missing");
    connector.activate(&one).await.unwrap();
    roles.world.ledger.end(one.recipe.grant);
    renamed.revoke(&one.recipe).await.unwrap();
    assert!(matches!(renamed.verify(&one.recipe).await, Presence::Absent(_)));
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Absent(_)));
    assert!(roles.denied(&one.recipe.object).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iam_group_one_look_is_no_proof() {
    let it = Members::new().await;
    let settings = json!({
        "groups": [it.group], "users": {"ana": it.user}, "between_looks_seconds": 1,
        "broker": broker(&it.world, &it.gate.url()),
    });
    let connector = build(&target("aws_iam_group", 5, &settings), &it.world.parts()).unwrap();
    let one = it.open(connector.as_ref()).await;
    it.world.ledger.end(one.recipe.grant);
    // In at the first look, and out at the second: the second alone proves nothing.
    let (seen, ()) = tokio::join!(connector.verify(&one.recipe), async {
        while it.gate.calls("ListGroupsForUser") < 3 {
            tokio::task::yield_now().await;
        }
        it.change("RemoveUserFromGroup").await;
    });
    assert!(matches!(seen, Presence::Present(_)), "{seen:?}");
    assert!(matches!(connector.verify(&one.recipe).await, Presence::Absent(said) if said["looks"][1].is_object()));
}
