//! Speaks SCIM 2.0 (RFC 7643, 7644) to servers that others run, and expects of them as little as can be.
//!
//! Sends what every server takes: lower-case operations with a path and one attribute each, real booleans. Takes what
//! servers really answer: other media types, no body, a page of HTML. Follows no redirect and no `Location`; speaks to
//! the configured host alone. Stores nothing and knows nothing of grants or accounts.

mod features;
mod group;
mod list;
pub mod resource;
mod settings;
mod transport;
mod user;

pub use features::Features;
pub use group::Group;
pub use list::Listed;
pub use settings::{BadSettings, Settings};
pub use transport::ScimClient;
pub use user::account;
