//! Tidegate: a just-in-time privileged access broker that proves access is gone.
//!
//! Layers, each of which sees only those to its left:
//! `domain ← ports ← policy, store ← broker ← worker, edge ← app ← cli, main`;
//! `connectors`, `applications`, `sources`, `notify`, `keys` and `oidc` see only `ports`, `domain` and the clients they
//! speak through.

pub mod app;
pub mod applications;
pub mod broker;
pub mod cli;
pub mod config;
pub mod connectors;
pub mod domain;
pub mod edge;
pub mod failpoint;
pub mod keys;
pub mod lifecycle;
pub mod notify;
pub mod oidc;
pub mod outbound;
pub mod policy;
pub mod ports;
pub mod scim_client;
pub mod sources;
pub mod store;
pub mod telemetry;
pub mod worker;
