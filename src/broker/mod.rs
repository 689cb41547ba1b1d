//! The use-cases, one file a verb: authorise, decide, write state + audit event + outbox in one transaction.

mod context;
mod error;
pub mod input;
pub mod view;

pub use context::Ctx;
pub use error::BrokerError;
