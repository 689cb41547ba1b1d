//! Is the server there, and are the broker's rights enough? Every finding that is not as it should be comes with the
//! policy to copy. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::json;

use super::{
    client::Client,
    config::{Parameters, Settings},
};
use crate::ports::connector::{Fault, Finding};

/// The broker's own token, as the server sees it.
#[derive(Deserialize)]
struct Own {
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    policies: Vec<String>,
    #[serde(default)]
    identity_policies: Option<Vec<String>>,
}

/// Look at everything that a grant will need. `entitlements` are what the catalog was seen to name.
pub(super) async fn check(client: &Client, settings: &Settings, entitlements: &[Parameters]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(fault) = look(client, settings, entitlements, &mut findings).await {
        let name = if findings.is_empty() { "reachable" } else { "can be looked at" };
        let fix = "check `address`, `tls_root_cert`, `namespace` and the token file of the target, and that the server \
                   runs and is unsealed";
        findings.push(bad(name, fault.to_string(), fix.into()));
    }
    findings
}

fn good(name: &str, detail: String) -> Finding {
    Finding { name: name.into(), ok: true, detail, fix: None }
}

fn bad(name: &str, detail: String, fix: String) -> Finding {
    Finding { name: name.into(), ok: false, detail, fix: Some(fix) }
}

async fn look(
    client: &Client,
    settings: &Settings,
    entitlements: &[Parameters],
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let health = client.health().await?;
    findings.push(if health.sealed {
        bad("unsealed", format!("version {} is sealed", health.version), "unseal the server".into())
    } else {
        good("reachable", format!("version {}, cluster {}", health.version, health.cluster_id))
    });
    let own: Own = client.call(reqwest::Method::GET, "auth/token/lookup-self", None).await?;
    let root = own.policies.iter().any(|p| p == "root");
    let lasts = if own.ttl == 0 { "for ever".to_owned() } else { format!("for another {} s", own.ttl) };
    findings
        .push(good("the broker's token is accepted", format!("it lasts {lasts}, with {}", own.policies.join(", "))));
    rights(client, settings, entitlements, findings).await?;
    if root {
        return Ok(());
    }
    let mine: BTreeSet<&String> = own.policies.iter().chain(own.identity_policies.iter().flatten()).collect();
    for policy in entitlements.iter().flat_map(|e| &e.policies).collect::<BTreeSet<_>>() {
        let title = format!("may hand on policy {policy}");
        findings.push(if mine.contains(policy) {
            good(&title, "the broker's token has it".into())
        } else {
            let fix = format!("give the broker's token the policy too: a token hands on only what it has ({policy})");
            bad(&title, "the broker's token has not got it".into(), fix)
        });
    }
    Ok(())
}

/// What the server says that the broker's token may do, path by path.
async fn rights(
    client: &Client,
    settings: &Settings,
    entitlements: &[Parameters],
    findings: &mut Vec<Finding>,
) -> Result<(), Fault> {
    let mut wanted: Vec<(String, String, &[&str])> = vec![
        ("auth/token/roles/tg-check".into(), "auth/token/roles/tg-*".into(), &["create", "read", "update", "delete"]),
        ("auth/token/roles".into(), "auth/token/roles".into(), &["list"]),
        ("auth/token/create/tg-check".into(), "auth/token/create/tg-*".into(), &["update"]),
        (
            format!("sys/leases/revoke-prefix/auth/token/create/tg-check/{}", settings.mark),
            "sys/leases/revoke-prefix/auth/token/create/tg-*".into(),
            &["update", "sudo"],
        ),
        ("sys/leases/lookup".into(), "sys/leases/lookup".into(), &["update"]),
        (
            "sys/leases/lookup/auth/token/create/".into(),
            "sys/leases/lookup/auth/token/create/*".into(),
            &["list", "sudo"],
        ),
        ("sys/leases/renew".into(), "sys/leases/renew".into(), &["update"]),
        ("sys/leases/revoke".into(), "sys/leases/revoke".into(), &["update"]),
    ];
    for path in entitlements.iter().map(|e| &e.path).collect::<BTreeSet<_>>() {
        wanted.push((format!("sys/leases/lookup/{path}/"), format!("sys/leases/lookup/{path}/*"), &["list", "sudo"]));
    }
    let paths: Vec<&String> = wanted.iter().map(|(path, _, _)| path).collect();
    let has: BTreeMap<String, serde_json::Value> = client
        .call(reqwest::Method::PUT, "sys/capabilities-self", Some(&json!({ "paths": paths })))
        .await
        .map_err(Fault::from)?;
    for (path, rule, needs) in &wanted {
        let has: Vec<&str> =
            has.get(path).and_then(|v| v.as_array()).into_iter().flatten().filter_map(|v| v.as_str()).collect();
        let missing: Vec<&&str> = needs.iter().filter(|n| !has.contains(n) && !has.contains(&"root")).collect();
        let title = format!("may use {rule}");
        findings.push(if missing.is_empty() {
            good(&title, needs.join(", "))
        } else {
            let detail = format!("lacks {}", missing.iter().map(|n| **n).collect::<Vec<_>>().join(", "));
            let list = needs.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
            bad(&title, detail, format!("path \"{rule}\" {{ capabilities = [{list}] }}"))
        });
    }
    Ok(())
}
