//! `/v1/targets`.

pub(crate) mod check;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod sweep;
