//! `/v1/requests`.

pub(crate) mod approve;
pub(crate) mod cancel;
pub(crate) mod comment;
pub(crate) mod create;
pub(crate) mod deny;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod take_up;
