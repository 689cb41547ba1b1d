//! One binary of integration tests: every file is a module, every server is real.

mod connectors_postgres;
mod servers;
