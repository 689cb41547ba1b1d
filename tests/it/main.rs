//! Integration tests: one binary, real servers, started by the tests and stopped after them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![allow(missing_docs, reason = "tests are not an interface")]

mod architecture;
#[cfg(feature = "failpoints")]
mod connectors;
#[cfg(feature = "failpoints")]
mod connectors_directory;
mod connectors_postgres;
#[cfg(feature = "failpoints")]
mod connectors_ssh;
#[cfg(feature = "failpoints")]
mod connectors_token;
#[cfg(feature = "failpoints")]
mod crash_child;
#[cfg(feature = "failpoints")]
mod crash_matrix;
#[cfg(feature = "failpoints")]
mod faults_brokers;
#[cfg(feature = "failpoints")]
mod faults_custody;
#[cfg(feature = "failpoints")]
mod faults_server;
#[cfg(feature = "failpoints")]
mod faults_writer;
mod servers;
#[cfg(feature = "failpoints")]
mod story;
#[cfg(feature = "failpoints")]
mod world;
