//! Integration tests: one binary, real servers, started by the tests and stopped after them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may panic")]
#![allow(missing_docs, reason = "tests are not an interface")]

mod architecture;
mod connectors_postgres;
mod servers;
