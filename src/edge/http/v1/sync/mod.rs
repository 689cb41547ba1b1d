//! `/v1/sync`: applications that accounts are kept aligned in, and sources that are read.

pub(crate) mod accounts;
pub(crate) mod done;
pub(crate) mod explain;
pub(crate) mod list;
pub(crate) mod read;
pub(crate) mod run;
pub(crate) mod tasks;
