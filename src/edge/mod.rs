//! Inbound adapters: parse, call exactly one broker verb, render. They have no rules of their own and never see the
//! store.

pub mod http;

pub use http::{EdgeParts, Limits, Rate, openapi, router};
