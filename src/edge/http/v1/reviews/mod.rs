//! `/v1/reviews`.

pub(crate) mod read;
pub(crate) mod resolve;
