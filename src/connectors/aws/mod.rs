//! What the AWS connectors share: how the broker comes in, one call with its retries, and the few operations of IAM.
//!
//! Holds no rule of a target: who may be opened and how it ends is in `aws_sts` and `aws_iam_group`.

mod account;
mod arn;
mod error;
mod iam;

pub use self::{
    account::{Account, Broker},
    arn::Arn,
    error::ApiError,
};
