//! Requests a second over HTTP, beside a bare axum handler with the same bodies on the same cores, and beside one that
//! also writes the same rows.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tidegate::{
    domain::time::Ttl,
    edge::{EdgeParts, Limits, Portal, router},
    ports::entropy::SystemEntropy,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};

use crate::{
    bare::{Bare, Rows, TOGETHER},
    client::Connection,
    world::{CALLERS, Latencies, compose_at, cpu_seconds, engineers},
};

const LASTING: Duration = Duration::from_secs(5);

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).into_future());
    address
}

/// Parses the same body and answers one of the same size.
fn bare(answer: Value) -> Router {
    let answer = Arc::new(answer);
    Router::new().route(
        "/",
        post(move |Json(_body): Json<Value>| {
            let answer = Arc::clone(&answer);
            async move { (axum::http::StatusCode::CREATED, Json((*answer).clone())) }
        }),
    )
}

/// The same, after the same rows are durable: up to 64 state changes to a commit, on one connection, as fast as one can.
fn durable(answer: Value, mut bare: Bare, rows: Rows) -> Router {
    let answer = Arc::new(answer);
    let (hand_in, mut waiting) = mpsc::unbounded_channel::<oneshot::Sender<()>>();
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, TOGETHER / rows.changes()).await > 0 {
            bare.commit(rows, batch.len()).await;
            for waiter in batch.drain(..) {
                let _ = waiter.send(());
            }
        }
    });
    Router::new().route(
        "/",
        post(move |Json(_body): Json<Value>| {
            let (answer, hand_in) = (Arc::clone(&answer), hand_in.clone());
            async move {
                let (done, committed) = oneshot::channel();
                hand_in.send(done).unwrap();
                committed.await.unwrap();
                (axum::http::StatusCode::CREATED, Json((*answer).clone()))
            }
        }),
    )
}

pub async fn run(database: Option<&str>) {
    let home = tempfile::tempdir().unwrap();
    let composed = compose_at(home.path(), database).await;
    let broker = composed.broker;
    let ids = engineers(&broker, CALLERS).await;
    let mut tokens = Vec::new();
    for id in ids {
        let made = broker.create_token_at_console(id, "bench", Ttl::seconds_or_one(3600)).await.unwrap();
        tokens.push(made.token.expose().to_owned());
    }
    let limits = Limits { per_identity: None, per_address: None, ..Limits::default() };
    let parts = EdgeParts {
        broker: Arc::clone(&broker),
        prometheus: None,
        limits,
        entropy: Arc::new(SystemEntropy::new()),
        portal: Portal::default(),
    };
    let ours = serve(router(parts)).await;
    let ask = json!({"entitlements": ["tokens:orders-read"], "duration": "1h", "reason": "bench"}).to_string();
    let mut first = Connection::open(ours, &tokens[0]).await;
    let (status, answer) = first.send("POST", "/v1/requests", &ask).await;
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let grant = answer["grants"][0]["id"].as_str().unwrap().to_owned();
    let (status, handover) = first.send("POST", &format!("/v1/grants/{grant}/credential"), "{}").await;
    assert!(status < 300, "{handover}");
    let handover: Value = serde_json::from_str(&handover).unwrap();
    println!("http: {CALLERS} connections, best of 3 × {LASTING:?}, load generator in the same process");
    let limits = async |answer: Value, rows| {
        let writes = durable(answer.clone(), Bare::open(home.path(), None).await, rows);
        (serve(bare(answer)).await, serve(writes).await)
    };
    let beside = limits(answer, Rows::Request).await;
    compare("create -> active", ours, &tokens, &ask, beside, &Paths::Fixed("/v1/requests".to_owned())).await;
    let mut paths = Vec::new();
    for token in &tokens {
        let mut connection = Connection::open(ours, token).await;
        let (_, answer) = connection.send("POST", "/v1/requests", &ask).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        paths.push(format!("/v1/grants/{}/credential", answer["grants"][0]["id"].as_str().unwrap()));
    }
    let beside = limits(handover, Rows::Claim).await;
    compare("claim of a token", ours, &tokens, "{}", beside, &Paths::Each(paths)).await;
}

enum Paths {
    Fixed(String),
    Each(Vec<String>),
}

impl Paths {
    fn of(&self, caller: usize) -> &str {
        match self {
            Self::Fixed(path) => path,
            Self::Each(paths) => &paths[caller],
        }
    }
}

async fn compare(
    what: &str,
    ours: SocketAddr,
    tokens: &[String],
    body: &str,
    (bare, durable): (SocketAddr, SocketAddr),
    paths: &Paths,
) {
    let (mut rate, mut limit, mut durably) = (0.0_f64, 0.0_f64, 0.0_f64);
    let (mut latencies, mut cpu) = (Vec::new(), 0.0);
    // In turns: what else the machine does meanwhile falls on all.
    for _ in 0..3 {
        let before = cpu_seconds();
        let (r, l) = load(ours, tokens, body, |caller| paths.of(caller).to_owned()).await;
        if r > rate {
            cpu = (cpu_seconds() - before) / l.len() as f64 * 1e6;
            (rate, latencies) = (r, l);
        }
        limit = limit.max(load(bare, tokens, body, |_| "/".to_owned()).await.0);
        durably = durably.max(load(durable, tokens, body, |_| "/".to_owned()).await.0);
    }
    let latencies = Latencies::new(latencies);
    println!("  {what}: {rate:.0}/s ({}; {cpu:.0} µs of processor each)", latencies.line());
    println!("    bare handler {limit:.0}/s: ratio {:.3} (wanted 0.35)", rate / limit);
    println!("    bare handler that writes the rows {durably:.0}/s: ratio {:.2}", rate / durably);
    println!("    p99 / p50 {:.1} (wanted 10)", latencies.at(0.99) / latencies.at(0.5));
}

async fn load(to: SocketAddr, tokens: &[String], body: &str, path: impl Fn(usize) -> String) -> (f64, Vec<f64>) {
    let start = Instant::now();
    let callers: Vec<_> = tokens
        .iter()
        .enumerate()
        .map(|(i, token)| {
            let (token, body, path) = (token.clone(), body.to_owned(), path(i));
            tokio::spawn(async move {
                let mut connection = Connection::open(to, &token).await;
                let mut latencies = Vec::new();
                while start.elapsed() < LASTING {
                    let one = Instant::now();
                    let (status, answer) = connection.send("POST", &path, &body).await;
                    assert!(status < 300, "{status} {answer}");
                    latencies.push(one.elapsed().as_secs_f64());
                }
                latencies
            })
        })
        .collect();
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    (all.len() as f64 / start.elapsed().as_secs_f64(), all)
}
