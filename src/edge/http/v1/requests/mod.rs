//! `/v1/requests`.

pub(crate) mod approve;
pub(crate) mod cancel;
pub(crate) mod create;
pub(crate) mod deny;
pub(crate) mod list;
pub(crate) mod read;
