//! `tidegate scim`, `sync` and `review` as administrators run them: the real binary, against a real `tidegate dev`.

use std::fs;

use serde_json::json;

use crate::{cli::Dev, crash_child::client, scim_app::PATCH_OP};

const CONFIG: &str = r#"
[[application]]
id = "mdm"
kind = "manual"
owner = "ben"
deadline = "2d"
scope = { groups = ["hr-all"] }

[[source]]
id = "hr"
kind = "feed"
settings = { data_file = "$HOME/people.csv" }
mapping = { external_id = "no", name = "login", groups = "teams", contract_end = "until" }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_gets_a_token_that_is_rotated_and_revoked() {
    let dev = Dev::with("");
    let call = async |token: &str, method: reqwest::Method, path: &str, body: serde_json::Value| {
        let url = format!("{}/scim/v2{path}", dev.access["url"].as_str().unwrap());
        client().request(method, url).bearer_auth(token.trim()).json(&body).send().await.unwrap().status().as_u16()
    };
    let (first, second) = (dev.file("first"), dev.file("second"));
    dev.expect(0, "eve", &["scim", "token", "create", "okta", "--out", first.to_str().unwrap()]);
    let tokens = || {
        let sources = dev.json("eve", &["scim", "status", "--json"]);
        let okta = sources.as_array().unwrap().iter().find(|s| s["name"] == "okta").expect("okta").clone();
        okta["tokens"].as_array().unwrap_or_else(|| panic!("{okta}")).clone()
    };
    let id = tokens()[0]["id"].clone();
    let token = fs::read_to_string(&first).unwrap();
    assert_eq!(call(&token, reqwest::Method::POST, "/Users", json!({"userName": "kim"})).await, 201);
    let status = dev.expect(0, "eve", &["scim", "status"]);
    assert!(status.contains("okta") && !status.contains(token.trim()), "{status}");
    assert_eq!(dev.run("ana", &["scim", "status"]).status.code(), dev.run("ana", &["sync", "ls"]).status.code());
    dev.expect(0, "eve", &["scim", "token", "rotate", "okta", "--at-once", "--out", second.to_str().unwrap()]);
    assert_eq!(call(&token, reqwest::Method::GET, "/Users", json!({})).await, 401, "{id}: at once");
    let token = fs::read_to_string(&second).unwrap();
    let now = tokens();
    let works = now.iter().find(|t| t["id"] != id).unwrap_or_else(|| panic!("{now:?}"));
    dev.expect(0, "eve", &["scim", "token", "revoke", "okta", works["id"].as_str().unwrap()]);
    let patch = json!({"schemas": [PATCH_OP], "Operations": [{"op": "add", "path": "title", "value": "x"}]});
    assert_eq!(call(&token, reqwest::Method::PATCH, "/Users/x", patch).await, 401);
}

#[test]
fn a_feed_is_planned_and_applied_and_what_people_do_is_said() {
    let dev = Dev::with(CONFIG);
    let people = dev.file("people.csv");
    fs::write(&people, "no,login,teams,until\n1,zoe,hr-all,\n2,ana,,\n").unwrap();
    let plan = dev.expect(0, "eve", &["sync", "plan", "hr"]);
    assert!(plan.contains('2') && !plan.is_empty(), "{plan}");
    dev.expect(0, "eve", &["sync", "apply", "hr", "--yes"]);
    // Whoever is somebody else's is left alone, and people decide.
    let found = dev.expect(0, "eve", &["review", "collisions"]);
    assert!(found.contains("ana"), "{found}");
    let tasks = dev.json("ben", &["sync", "tasks", "--json"]);
    let task = &tasks[0];
    assert_eq!((&task["what"], &task["name"]), (&json!("create"), &json!("zoe")), "{tasks}");
    dev.expect(0, "ben", &["sync", "done", task["id"].as_str().unwrap(), "--evidence", "enrolled, IT-7"]);
    for verb in ["verify", "drift", "plan"] {
        dev.run("eve", &["sync", verb, "mdm"]);
    }
    let list = dev.expect(0, "eve", &["sync", "ls"]);
    assert!(list.contains("mdm") && list.contains("hr"), "{list}");
    let all = dev.expect(0, "eve", &["review"]);
    assert!(all.contains("mdm"), "advice names applications too: {all}");
    for which in ["dormant", "orphans", "standing", "advice", "held"] {
        dev.expect(0, "eve", &["review", which]);
    }
    dev.expect(0, "eve", &["review", "adopt", "hr", "ana"]);
    assert!(!dev.expect(0, "eve", &["review", "collisions"]).contains("ana"));
    // Nobody is held back, so there is nothing to accept.
    assert_ne!(dev.run("eve", &["review", "accept", "hr", "--yes"]).status.code(), Some(0));
    let reason = ["review", "deactivate", "ben", "--reason", "left", "--yes"];
    let refused = dev.run("ana", &reason);
    assert_ne!(refused.status.code(), Some(0), "administrators only");
}

#[test]
fn the_log_of_one_call_is_one_question() {
    let dev = Dev::with("");
    let asked =
        dev.json("ana", &["request", "tokens:orders-read", "--for", "10m", "--reason", "order 4411", "-y", "--json"]);
    let id = asked["correlation_id"].as_str().unwrap_or_else(|| panic!("{asked}")).to_owned();
    let log = dev.expect(0, "eve", &["audit", "tail", "--correlation", &id]);
    assert!(log.contains("request.created") && log.lines().count() >= 2, "{log}");
    let nothing = dev.expect(0, "eve", &["audit", "tail", "--correlation", "cor_01KVF3T2M8XQ4B7N9D5R6S1W0Z"]);
    assert!(!nothing.contains("request.created"), "{nothing}");
}
