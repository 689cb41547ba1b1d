//! The integration tests, as one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

#[cfg(feature = "failpoints")]
mod connectors;
#[cfg(feature = "failpoints")]
mod connectors_directory;
#[cfg(feature = "failpoints")]
mod connectors_ssh;
#[cfg(feature = "failpoints")]
mod connectors_token;
#[cfg(feature = "failpoints")]
mod servers;
