//! `/v1/grants`.

pub(crate) mod attest;
pub(crate) mod claim;
pub(crate) mod extend;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod release;
pub(crate) mod revoke;
