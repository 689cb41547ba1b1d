//! Traits only: what the core needs from the world. Adapters implement them; nothing here does I/O.

pub mod chat;
pub mod clock;
pub mod connector;
pub mod directory;
pub mod entropy;
pub mod notifier;
pub mod revocations;
pub mod signer;
