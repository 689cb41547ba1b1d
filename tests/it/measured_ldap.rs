//! LDAP memberships beside a bare client: measured and printed, not asserted. See `docs/performance.md`.

use std::{collections::HashSet, fmt::Write, time::Duration};

use futures::StreamExt;
use ldap3::{Mod, Scope};
use serde_json::json;
use tidegate::ports::connector::Presence;

use crate::{
    connectors_ldap::{ANA, BEN, World},
    connectors_postgres::new_grant,
    servers::slapd::{BROKER, PASSWORD},
};

/// Memberships that the measuring test makes and ends.
const MEASURED: usize = 2_000;

/// The ratio to a bare loop of the same changes over as many connections belongs to the machine: it is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; see docs/performance.md"]
async fn ldap_measured_against_a_bare_client() {
    const CONNECTIONS: usize = 4;
    const AT_ONCE: usize = 16;
    let w = World::new();
    let mut ldif = String::new();
    for n in 0..MEASURED {
        let _ = write!(
            ldif,
            "dn: cn=g{n},ou=groups,dc=example\nchangetype: add\nobjectClass: groupOfNames\ncn: g{n}\nmember: {BEN}\n\n"
        );
    }
    w.slapd.ldif(&ldif);
    #[allow(clippy::disallowed_methods, reason = "a test measures")]
    let stopwatch = std::time::Instant::now;
    let group = |n: usize| format!("cn=g{n},ou=groups,dc=example");
    let rate = |d: Duration| MEASURED as f64 / d.as_secs_f64();

    let mut handles = Vec::new();
    for _ in 0..CONNECTIONS {
        handles.push(w.slapd.bound(BROKER, PASSWORD).await);
    }
    let everything = "(objectClass=*)";
    let (mut bare, grant) = ([Duration::ZERO; 2], new_grant());
    for (adds, took) in [true, false].into_iter().zip(&mut bare) {
        let started = stopwatch();
        let change = |n: usize| {
            let mut ldap = handles[n % CONNECTIONS].clone();
            let (mut second, mut third) = (ldap.clone(), ldap.clone());
            async move {
                let mark = format!("tidegate {grant} {ANA}");
                let value = |v: &str| HashSet::from([v.to_owned()]);
                let mods = [("member", ANA), ("description", mark.as_str())].map(|(name, v)| {
                    if adds { Mod::Add(name.to_owned(), value(v)) } else { Mod::Delete(name.to_owned(), value(v)) }
                });
                ldap.modify(&group(n), mods.to_vec()).await.unwrap().success().unwrap();
                // The look: the entry and the member, at once; of who is out, what he is called now.
                let group = group(n);
                let entry = second.search(&group, Scope::Base, everything, ["description", "entryUUID"]);
                let (entry, member) = tokio::join!(entry, third.compare(&group, "member", ANA));
                entry.unwrap().success().unwrap();
                if !member.unwrap().equal().unwrap() {
                    ldap.search(ANA, Scope::Base, everything, ["entryUUID"]).await.unwrap().success().unwrap();
                }
            }
        };
        futures::stream::iter(0..MEASURED).map(change).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
        *took = started.elapsed();
    }

    let c = w.connector_with(&json!({"url": w.slapd.ldap(), "tls_root_cert": null, "connections": CONNECTIONS}));
    let mut intents = Vec::new();
    for n in 0..MEASURED {
        intents.push(w.intent(c.as_ref(), &group(n)).await);
    }
    let started = stopwatch();
    futures::stream::iter(&intents)
        .map(|i| async { c.activate(i).await.map(drop).unwrap() })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let opening = started.elapsed();
    let started = stopwatch();
    futures::stream::iter(&intents)
        .map(|i| async {
            w.ledger().end(i.recipe.grant);
            c.revoke(&i.recipe).await.unwrap();
            assert!(matches!(c.verify(&i.recipe).await, Presence::Absent(_)));
        })
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    let ending = started.elapsed();
    eprintln!(
        "memberships a second: opened {:.0} (bare {:.0}, ratio {:.2}), ended and verified {:.0} (bare {:.0}, ratio {:.2})",
        rate(opening),
        rate(bare[0]),
        bare[0].as_secs_f64() / opening.as_secs_f64(),
        rate(ending),
        rate(bare[1]),
        bare[1].as_secs_f64() / ending.as_secs_f64(),
    );
}
