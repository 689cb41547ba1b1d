//! How fast the ledger is, as ratios to limits that are measured in the same run on the same machine.
//!
//! `cargo bench --bench ledger -- verbs http drain start` runs what is named, everything if nothing is;
//! `--database postgres://…` puts the ledger there. Figures and commands: `docs/performance.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a bench may panic, print and read the machine's clock"
)]

mod bare;
mod client;
mod drain;
mod http;
mod start;
mod verbs;
mod world;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let database = args.iter().position(|a| a == "--database").and_then(|i| args.get(i + 1)).cloned();
    let named = |name: &str| {
        let any = ["verbs", "http", "drain", "start"].iter().any(|n| args.iter().any(|a| a == n));
        !any || args.iter().any(|a| a == name)
    };
    if named("verbs") {
        verbs::run(database.as_deref()).await;
    }
    if named("http") {
        http::run(database.as_deref()).await;
    }
    if named("drain") {
        drain::run(database.as_deref()).await;
    }
    if named("start") {
        start::run(database.as_deref()).await;
    }
}
