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
mod http_access;
mod http_app;
mod http_events;
mod http_oauth;
mod http_requests;
mod servers;
#[cfg(feature = "failpoints")]
mod story;
#[cfg(feature = "failpoints")]
mod world;
