//! SCIM 2.0 without any I/O (RFC 7643, 7644): schemas, documents, filters, changes, projections.
//!
//! Attribute names are compared without case everywhere and written as the schema writes them. What vendors really send
//! is taken where it has one meaning; what is refused is refused with the RFC's own type.

pub mod core;
pub mod declared;
pub mod document;
pub mod error;
pub mod filter;
pub mod matching;
pub mod patch;
pub mod path;
pub mod projection;
pub mod schema;
#[cfg(test)]
mod tests;

pub use document::{Document, read_document};
pub use error::ScimError;
