//! `/v1/policy`.

pub(crate) mod simulate;
