//! The public conformance testers, against a running `tidegate dev`: no error, no warning, and nothing skipped but what the
//! testers themselves say a server may leave out.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    crash_child::{Child, Home},
    world::Db,
};

/// Where `.ci/deps` puts programs from PyPI.
fn tool(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let path = target.join("tools/venv/bin").join(name);
    assert!(path.exists(), "{} is missing: run `make deps`", path.display());
    path
}

async fn dev(db: Db) -> (Home, Child, String) {
    let home = Home::new(db, &json!({}), "").await;
    let child = home.up().await.unwrap();
    let token = std::fs::read_to_string(home.data().join("tokens/scim.token")).unwrap();
    (home, child, token)
}

async fn output(command: &mut Command) -> String {
    let done = command.stdin(Stdio::null()).output().await.unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{text}\n{}", String::from_utf8_lossy(&done.stderr));
    text + &String::from_utf8_lossy(&done.stderr)
}

async fn scim2_tester(db: Db) {
    let (_home, child, token) = dev(db).await;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/scim/run_scim2_tester.py");
    let mut command = Command::new(tool("python"));
    command.arg(script).env("SCIM_URL", format!("{}/scim/v2", child.url)).env("SCIM_TOKEN", token);
    let text = output(&mut command).await;
    let counts: Value = text.lines().find_map(|l| serde_json::from_str(l).ok()).unwrap();
    assert!(counts["SUCCESS"].as_u64().unwrap() >= 100, "{text}");
    assert_eq!(counts.as_object().unwrap().len(), 1, "{text}");
}

async fn scim_sanity(db: Db) {
    let (_home, child, token) = dev(db).await;
    let mut command = Command::new(tool("scim-sanity"));
    command.args(["probe", &format!("{}/scim/v2", child.url), "--token", &token, "--strict", "--json-output"]);
    let text = output(command.arg("--i-accept-side-effects")).await;
    let report: Value = serde_json::from_str(&text[text.find('{').unwrap()..=text.rfind('}').unwrap()]).unwrap();
    let results = report["results"].as_array().unwrap();
    let of = |status: &str| -> Vec<&str> {
        results.iter().filter(|r| r["status"] == status).map(|r| r["name"].as_str().unwrap()).collect()
    };
    assert!(of("pass").len() >= 28, "{text}");
    for status in ["fail", "error", "warn"] {
        assert_eq!(of(status), Vec::<&str>::new(), "{text}");
    }
    // Resource types of a draft that we do not advertise: workloads and agents are registered here, not by sources.
    assert_eq!(
        of("skip"),
        ["Agent CRUD Lifecycle", "AgenticApplication CRUD Lifecycle", "Agent Rapid Lifecycle"],
        "{text}"
    );
}

crate::on_both!(scim2_tester, scim_sanity);
