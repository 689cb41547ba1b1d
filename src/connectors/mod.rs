//! Adapters to targets, one folder a kind, and the registry that makes one from configuration.
//!
//! Connectors see only `ports` and `domain`. They store nothing: what they need is in a grant's recipe, in the ledger
//! behind `ports::revocations`, or at the target.

#[cfg(any(test, feature = "failpoints"))]
pub mod conformance;
#[cfg(any(test, feature = "failpoints"))]
pub mod fakes;
pub mod postgres;
