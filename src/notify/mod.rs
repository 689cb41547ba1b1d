//! Where messages from the outbox go: the log, and webhooks.
//!
//! Adapters of [`crate::ports::notifier::Notifier`]. They deliver one message once; when to try again and when to give
//! up is the outbox's business, so nothing here waits, retries or remembers.

pub mod log;
pub mod signing;
pub mod slack;
pub mod webhook;
