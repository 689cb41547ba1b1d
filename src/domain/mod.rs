//! What Tidegate is about, in pure types: no I/O, no async, no framework, no clock.
//!
//! State machines live here as enums; every instant is a [`time::Timestamp`] handed in by the caller.

pub mod account;
pub mod audit;
pub mod capability;
pub mod catalog;
pub mod checkpoint;
pub mod decision;
pub mod export;
pub mod grant;
pub mod id;
pub mod identity;
pub mod jit;
pub mod merkle;
pub mod ocsf;
pub mod provision;
pub mod request;
pub mod roster;
pub mod scim;
pub mod secret;
pub mod slack;
pub mod time;
