//! Requests a second over HTTP, beside a bare axum handler with the same bodies on the same cores.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use tidegate::{
    broker::Broker,
    domain::time::Ttl,
    edge::{EdgeParts, Limits, Portal, router},
    ports::entropy::SystemEntropy,
};
use tokio::net::TcpListener;

use crate::{
    client::Connection,
    world::{CALLERS, Latencies, compose_at, engineers},
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
    let (status, answer) = first.post("/v1/requests", &ask).await;
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let grant = answer["grants"][0]["id"].as_str().unwrap().to_owned();
    let (status, handover) = first.post(&format!("/v1/grants/{grant}/credential"), "{}").await;
    assert!(status < 300, "{handover}");
    let handover: Value = serde_json::from_str(&handover).unwrap();
    println!("http: {CALLERS} connections, best of 3 × {LASTING:?}, load generator in the same process");
    pair(&broker, "create -> active", ours, &tokens, &ask, bare(answer), Paths::Fixed("/v1/requests".to_owned())).await;
    let mut paths = Vec::new();
    for token in &tokens {
        let mut connection = Connection::open(ours, token).await;
        let (_, answer) = connection.post("/v1/requests", &ask).await;
        let answer: Value = serde_json::from_str(&answer).unwrap();
        paths.push(format!("/v1/grants/{}/credential", answer["grants"][0]["id"].as_str().unwrap()));
    }
    pair(&broker, "claim of a token", ours, &tokens, "{}", bare(handover), Paths::Each(paths)).await;
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

async fn pair(
    _broker: &Arc<Broker>,
    what: &str,
    ours: SocketAddr,
    tokens: &[String],
    body: &str,
    bare: Router,
    paths: Paths,
) {
    let bare = serve(bare).await;
    let (mut rate, mut limit, mut latencies) = (0.0_f64, 0.0_f64, Vec::new());
    for _ in 0..3 {
        let (r, l) = load(ours, tokens, body, |caller| paths.of(caller).to_owned()).await;
        if r > rate {
            (rate, latencies) = (r, l);
        }
        limit = limit.max(load(bare, tokens, body, |_| "/".to_owned()).await.0);
    }
    let latencies = Latencies::new(latencies);
    println!("  {what}: {rate:.0}/s ({}), bare handler {limit:.0}/s", latencies.line());
    println!(
        "    ratio {:.3} (wanted 0.35), p99 / p50 {:.1} (wanted 10)",
        rate / limit,
        latencies.at(0.99) / latencies.at(0.5)
    );
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
                    let (status, answer) = connection.post(&path, &body).await;
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
