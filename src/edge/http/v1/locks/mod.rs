//! `/v1/locks`.

pub(crate) mod create;
pub(crate) mod lift;
pub(crate) mod list;
