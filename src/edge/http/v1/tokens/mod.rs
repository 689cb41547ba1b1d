//! `/v1/tokens`.

pub(crate) mod create;
