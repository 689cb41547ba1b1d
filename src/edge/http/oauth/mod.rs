//! OAuth 2 for workloads: `client_credentials` (RFC 6749 §4.4), revocation (RFC 7009), introspection (RFC 7662),
//! metadata (RFC 8414). No redirects, no refresh tokens, no people: those have personal tokens.

mod client;
mod form;
pub(crate) mod introspect;
pub(crate) mod jwks;
pub(crate) mod metadata;
mod refusal;
pub(crate) mod revoke;
pub(crate) mod token;

pub(crate) use refusal::Document as ErrorDocument;
