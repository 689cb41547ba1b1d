//! What every way in over HTTP shares: the middleware around each call, who calls, bodies, limits, refusals.
//!
//! Knows no endpoint and no resource; the edges beside it (`http`, `scim`, `web`…) are built on it and never see each
//! other.

pub mod auth;
pub mod body;
pub mod call;
pub mod feed;
mod gate;
pub mod metrics;
pub mod path;
pub mod portal;
pub mod problem;
mod refusal;
pub mod state;

pub use portal::Portal;
pub use state::{Edge, EdgeParts, Limits, Rate};
