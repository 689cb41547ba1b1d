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
#[cfg(feature = "failpoints")]
mod promises;
#[cfg(feature = "failpoints")]
mod promises_later;
mod servers;
#[cfg(feature = "failpoints")]
mod story;
#[cfg(feature = "failpoints")]
mod verbs_ask;
#[cfg(feature = "failpoints")]
mod verbs_decide;
#[cfg(feature = "failpoints")]
mod verbs_faults;
#[cfg(feature = "failpoints")]
mod verbs_grants;
#[cfg(feature = "failpoints")]
mod verbs_help;
#[cfg(feature = "failpoints")]
mod verbs_input;
#[cfg(feature = "failpoints")]
mod verbs_machine;
#[cfg(feature = "failpoints")]
mod verbs_reads;
#[cfg(feature = "failpoints")]
mod world;
