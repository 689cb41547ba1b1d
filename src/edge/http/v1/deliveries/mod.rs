//! `/v1/deliveries`: what was told to webhooks and other notifiers.

pub mod list;
pub mod replay;
