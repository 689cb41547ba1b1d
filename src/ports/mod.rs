//! Traits only: what the core needs from the world. Adapters implement them; nothing here does I/O.

pub mod application;
pub mod chat;
pub mod clock;
pub mod connector;
pub mod directory;
pub mod entropy;
pub mod holdings;
pub mod identity_provider;
pub mod notifier;
pub mod revocations;
pub mod roster;
pub mod signer;
