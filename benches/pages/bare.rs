//! A bare handler beside which pages are measured: `GET /{bytes}` answers a body of that size from memory.
//!
//! `cargo bench --no-run --bench bare_page` builds it; `benches/pages/measure.py` runs it with a port.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench may panic and print")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    routing::get,
};

type Bodies = Arc<Mutex<HashMap<usize, Bytes>>>;

async fn body(State(bodies): State<Bodies>, Path(size): Path<usize>) -> Bytes {
    bodies.lock().unwrap().entry(size).or_insert_with(|| vec![b'x'; size].into()).clone()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let port = std::env::args().filter_map(|a| a.parse::<u16>().ok()).next_back().unwrap_or(0);
    let router = Router::new().route("/{size}", get(body)).with_state(Bodies::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    axum::serve(listener, router).await.unwrap();
}
