//! AWS with IAM's rights looked at: what a membership gives, and that the policies of the sheets are enough and no more.
//!
//! moto looks at actions and at the resources of roles, at no condition, and asks nobody for `sts:SetSourceIdentity` and
//! `sts:TagSession`.

use std::{process::Command, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tidegate::{
    connectors::build,
    ports::{
        clock::SystemClock,
        connector::{Connector, Finding, Presence},
    },
};

use crate::{
    connectors::{TARGET, World, intent, wish},
    connectors_aws::{credentials, target},
    servers::moto::{ACCOUNT, Moto, texts, tool},
};

type Keys = (String, String);

/// A user with keys and, perhaps, rights of their own. While nobody's rights are looked at.
async fn user(moto: &Moto, name: &str, policy: Option<&str>) -> Keys {
    moto.iam(&[("Action", "CreateUser"), ("UserName", name)]).await;
    if let Some(policy) = policy {
        allow(moto, name, policy).await;
    }
    let made = moto.iam(&[("Action", "CreateAccessKey"), ("UserName", name)]).await;
    (texts(&made, "AccessKeyId").remove(0), texts(&made, "SecretAccessKey").remove(0))
}

async fn allow(moto: &Moto, name: &str, policy: &str) {
    let form = [("Action", "PutUserPolicy"), ("UserName", name), ("PolicyName", "p"), ("PolicyDocument", policy)];
    moto.iam(&form).await;
}

/// A policy without one of its actions. moto knows the resources of roles only: others are any.
fn without(policy: &str, action: &str) -> String {
    let mut policy: Value = serde_json::from_str(policy).unwrap();
    for statement in policy["Statement"].as_array_mut().unwrap() {
        if !statement["Resource"].to_string().contains(":role/") {
            statement["Resource"] = json!("*");
        }
        let mut left = actions_of(statement);
        left.retain(|a| a != action);
        // A statement must name an action.
        left.push("iam:NoSuchAction".into());
        statement["Action"] = json!(left);
    }
    policy.to_string()
}

fn actions_of(statement: &Value) -> Vec<String> {
    let action = &statement["Action"];
    let one = action.as_str().map(|a| vec![a.to_owned()]);
    one.unwrap_or_else(|| action.as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect())
}

fn actions(policy: &str) -> Vec<String> {
    let policy: Value = serde_json::from_str(policy).unwrap();
    policy["Statement"].as_array().unwrap().iter().flat_map(actions_of).collect()
}

/// With the sheet's policy nothing is missing; without any one of its actions, that one is named.
async fn is_enough_and_nothing_less(moto: &Moto, c: &dyn Connector, unasked: &[&str]) {
    let policy = c.describe().rights.statements;
    let findings = c.check().await;
    assert!(findings.iter().all(|f| f.ok), "{findings:#?}");
    for action in actions(&policy) {
        moto.enforce(false).await;
        allow(moto, "broker", &without(&policy, &action)).await;
        moto.enforce(true).await;
        let findings = c.check().await;
        let bad: Vec<&Finding> = findings.iter().filter(|f| !f.ok).collect();
        if unasked.contains(&action.as_str()) {
            continue;
        }
        let named = bad.iter().any(|f| format!("{} {}", f.name, f.detail).contains(&action));
        assert!(named, "without {action}: {findings:#?}");
        assert!(bad.iter().all(|f| f.fix.as_ref().is_some_and(|fix| fix.contains(&action))), "{action}: {bad:#?}");
    }
    moto.enforce(false).await;
    allow(moto, "broker", &without(&policy, "none")).await;
    moto.enforce(true).await;
}

/// May whoever has these keys list the account's users?
fn may_list(moto: &Moto, keys: &Keys) -> bool {
    let out = Command::new(tool("aws"))
        .args(["--endpoint-url", &moto.url(), "--region", "us-east-1", "iam", "list-users"])
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", &keys.0)
        .env("AWS_SECRET_ACCESS_KEY", &keys.1)
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() || said.contains("AccessDenied"), "{said}");
    out.status.success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iam_group_gives_a_right_and_takes_it_and_needs_no_more_than_it_says() {
    let moto = Moto::start(Some(1_000_000));
    let world = World::new(Arc::new(SystemClock::new()));
    let group = format!("arn:aws:iam::{ACCOUNT}:group/readers");
    let connect = |keys: &Keys| {
        let file = credentials(world.path(), &keys.0, &keys.1);
        let broker = json!({"credentials_file": file, "region": "us-east-1", "endpoint_url": moto.url()});
        let settings = json!({"groups": [group], "between_looks_seconds": 0, "broker": broker});
        build(&target("aws_iam_group", 10, &settings), &world.parts()).unwrap()
    };
    moto.iam(&[("Action", "CreateGroup"), ("GroupName", "readers")]).await;
    let right = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:ListUsers","Resource":"*"}]}"#;
    let form = [("Action", "PutGroupPolicy"), ("GroupName", "readers"), ("PolicyName", "p"), ("PolicyDocument", right)];
    moto.iam(&form).await;
    let policy = connect(&("AKIANOBODY".into(), "x".into())).describe().rights.statements;
    let policy = without(&policy, "none");
    let (broker, ana) = (user(&moto, "broker", Some(&policy)).await, user(&moto, "ana", None).await);
    moto.enforce(true).await;

    let c = connect(&broker);
    assert!(!may_list(&moto, &ana));
    let end = world.clock.now().plus_std(Duration::from_mins(5));
    let held = intent(c.as_ref(), wish(world.grant(), json!({ "group": group })), end).await;
    world.ledger.intend(TARGET, &held);
    c.activate(&held).await.unwrap();
    assert!(may_list(&moto, &ana), "the group's right is hers");
    world.ledger.end(held.recipe.grant);
    c.revoke(&held.recipe).await.unwrap();
    assert!(matches!(c.verify(&held.recipe).await, Presence::Absent(_)));
    assert!(!may_list(&moto, &ana), "and hers no more");

    is_enough_and_nothing_less(&moto, c.as_ref(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_sts_check_names_each_right_that_is_missing() {
    let moto = Moto::start(Some(1_000_000));
    let world = World::new(Arc::new(SystemClock::new()));
    let role = moto.role().await;
    let connect = |keys: &Keys| {
        let file = credentials(world.path(), &keys.0, &keys.1);
        let broker = json!({"credentials_file": file, "region": "us-east-1", "endpoint_url": moto.url()});
        build(&target("aws_sts", 10, &json!({"roles": [role], "broker": broker})), &world.parts()).unwrap()
    };
    let policy = connect(&("AKIANOBODY".into(), "x".into())).describe().rights.statements;
    let broker = user(&moto, "broker", Some(&policy)).await;
    moto.enforce(true).await;
    // Nobody is asked for these two there.
    is_enough_and_nothing_less(&moto, connect(&broker).as_ref(), &["sts:SetSourceIdentity", "sts:TagSession"]).await;
}
