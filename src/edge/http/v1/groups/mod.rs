//! `/v1/groups`.

pub(crate) mod remove_member;
