//! What the AWS connectors share: how the broker comes in, one call with its retries, and the few operations of IAM.
//!
//! Holds no rule of a target: who may be opened and how it ends is in `aws_sts` and `aws_iam_group`.

mod account;
mod arn;
mod check;
mod error;
mod iam;

pub use self::{
    account::{Account, Broker, Caller},
    arn::Arn,
    check::{finding, judged, look_at_caller},
    error::ApiError,
    iam::Named,
};
