//! `/v1/workloads`.

pub(crate) mod list;
pub(crate) mod register;
pub(crate) mod update;
