//! `/v1/identities`.

pub(crate) mod deactivate;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod sponsor;
