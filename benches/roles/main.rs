//! Temporary roles of a PostgreSQL server: made, claimed and ended a second through the connector; and, beside it,
//! through OpenBao's database engine on the same server.
//!
//! Started by `benches/roles/run`, which starts the servers. Figures and commands: `docs/performance.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench may panic, print and read the machine's clock"
)]

#[path = "../ledger/client.rs"]
mod client;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};
use tidegate::{
    connectors::postgres::Postgres,
    domain::{
        grant::{Claim, Intent, Recipe},
        id::{GrantId, IdentityId},
        time::Ttl,
    },
    ports::{
        clock::{Clock, SystemClock},
        connector::{Connector, Presence, Wish},
        entropy::{Entropy, SystemEntropy},
    },
};

/// Callers at once: what a target may have in flight if its configuration says nothing.
const CALLERS: usize = 16;

fn env<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Some(port) = env::<u16>("ROLES_POSTGRES_PORT") else {
        println!("roles: needs a PostgreSQL server of its own; run benches/roles/run");
        return;
    };
    let count = env("ROLES_COUNT").unwrap_or(1000);
    let (made, claimed, ended) = through_connector(port, count).await;
    println!("roles: {count} temporary roles of PostgreSQL, {CALLERS} callers");
    println!("  tidegate  made {made:.0}/s  claimed {claimed:.0}/s  ended and verified {ended:.0}/s");
    let together = 1.0 / (1.0 / made + 1.0 / claimed);
    println!("            made and claimed, which is what OpenBao does in one: {together:.0}/s");
    let (Some(bao), Some(token)) = (env::<SocketAddr>("ROLES_OPENBAO"), env::<String>("ROLES_OPENBAO_TOKEN")) else {
        println!("  OpenBao is not here: see benches/roles/run");
        return;
    };
    let (bao_made, bao_ended) = through_openbao(bao, &token, count.min(500)).await;
    println!("  OpenBao   made {bao_made:.0}/s  ended {bao_ended:.0}/s (nothing verified, no sessions cut)");
    println!(
        "  ratio     made {:.1}  made and claimed {:.1}  ended {:.1} (wanted 5)",
        made / bao_made,
        together / bao_made,
        ended / bao_ended
    );
}

/// Do it for each of `0..count`, so many at once; how many a second.
async fn each<F: Future<Output = ()> + Send + 'static>(count: usize, one: impl Fn(usize) -> F + Sync) -> f64 {
    use futures::StreamExt;
    let start = Instant::now();
    futures::stream::iter((0..count).map(|n| tokio::spawn(one(n))))
        .buffer_unordered(CALLERS)
        .for_each(async |done| done.unwrap())
        .await;
    count as f64 / start.elapsed().as_secs_f64()
}

async fn through_connector(port: u16, count: usize) -> (f64, f64, f64) {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy::new());
    let settings = json!({
        "host": "127.0.0.1", "port": port, "user": "postgres", "tls": "disable", "drop_owned": true,
    });
    let connector = Arc::new(Postgres::new(settings.as_object().unwrap(), Arc::clone(&entropy)).unwrap());
    let now = SystemClock::new().now();
    let holder = IdentityId::new(entropy.ulid(now).unwrap());
    let parameters = json!({"roles": ["app_read"]});
    let wishes: Vec<Wish> = (0..count)
        .map(|_| Wish {
            grant: GrantId::new(entropy.ulid(now).unwrap()),
            holder,
            holder_name: "bench".to_owned(),
            entitlement: "db:read".into(),
            parameters: parameters.clone(),
        })
        .collect();
    let mut intents = Vec::with_capacity(count);
    for wish in &wishes {
        let recipe: Recipe = connector.prepare(wish).await.unwrap();
        intents.push(Intent {
            recipe,
            holder,
            holder_name: wish.holder_name.clone(),
            entitlement: Arc::clone(&wish.entitlement),
            parameters: parameters.clone(),
            not_after: now.plus(Ttl::seconds_or_one(3600)),
        });
    }
    let intents = Arc::new(intents);
    let with = || (Arc::clone(&connector), Arc::clone(&intents));
    let made = each(count, |n| {
        let (connector, intents) = with();
        async move { drop(connector.activate(&intents[n]).await.unwrap()) }
    });
    let made = made.await;
    let claimed = each(count, |n| {
        let (connector, intents) = with();
        let claim = Claim { serial: n as u64 + 1, number: 1, at: now };
        async move { drop(connector.mint(&intents[n], &claim).await.unwrap()) }
    });
    let claimed = claimed.await;
    let ended = each(count, |n| {
        let (connector, intents) = with();
        async move {
            connector.revoke(&intents[n].recipe).await.unwrap();
            assert!(matches!(connector.verify(&intents[n].recipe).await, Presence::Absent(_)));
        }
    });
    (made, claimed, ended.await)
}

async fn through_openbao(bao: SocketAddr, token: &str, count: usize) -> (f64, f64) {
    let leases = Arc::new(std::sync::Mutex::new(Vec::new()));
    let start = Instant::now();
    let next = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (leases, next, token) = (Arc::clone(&leases), Arc::clone(&next), token.to_owned());
            tokio::spawn(async move {
                let mut connection = client::Connection::open(bao, &token).await;
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let (status, body) = connection.send("GET", "/v1/database/creds/read", "").await;
                    assert_eq!(status, 200, "{body}");
                    let body: Value = serde_json::from_str(&body).unwrap();
                    leases.lock().unwrap().push(body["lease_id"].as_str().unwrap().to_owned());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let made = count as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (leases, token) = (Arc::clone(&leases), token.to_owned());
            tokio::spawn(async move {
                let mut connection = client::Connection::open(bao, &token).await;
                loop {
                    let Some(lease) = leases.lock().unwrap().pop() else { break };
                    let body = json!({"lease_id": lease, "sync": true}).to_string();
                    let (status, body) = connection.send("PUT", "/v1/sys/leases/revoke", &body).await;
                    assert!(status < 300, "{body}");
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    (made, count as f64 / start.elapsed().as_secs_f64())
}
