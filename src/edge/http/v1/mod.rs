//! `/v1`, one file an endpoint.

pub(super) mod audit;
pub(super) mod deliveries;
pub(super) mod entitlements;
pub(super) mod events;
pub(super) mod grants;
pub(super) mod groups;
pub(super) mod identities;
pub(super) mod locks;
pub(super) mod me;
pub(super) mod policy;
pub(super) mod requests;
pub(super) mod reviews;
pub(super) mod slack_link;
pub(super) mod sources;
pub(super) mod sync;
pub(super) mod targets;
pub(super) mod tokens;
pub(super) mod workloads;
