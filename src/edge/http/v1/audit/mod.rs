//! `/v1/audit`.

pub(crate) mod checkpoint;
pub(crate) mod checkpoints;
pub(crate) mod consistency;
pub(crate) mod list;
pub(crate) mod proof;
