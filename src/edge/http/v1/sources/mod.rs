//! `/v1/sources`.

pub(crate) mod accept;
