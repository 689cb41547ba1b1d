//! What the portal has to know about the place where it runs.

use std::sync::Arc;

use crate::ports::identity_provider::IdentityProvider;

/// Settings of the portal. Without any, the paths of the portal answer 404.
#[derive(Clone, Default)]
pub struct Portal {
    /// Origins under which browsers reach it, `https://tidegate.example`; the first one is its own address. Forms from
    /// elsewhere are refused.
    pub origins: Vec<String>,
    /// People who may be chosen with one click: `tidegate dev` alone, on loopback.
    pub choices: Vec<String>,
    /// Where people show who they are.
    pub provider: Option<Arc<dyn IdentityProvider>>,
}

impl Portal {
    /// Its own address, without a slash at the end.
    pub fn origin(&self) -> &str {
        self.origins.first().map_or("", String::as_str)
    }

    /// Is it there at all?
    pub const fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Do cookies travel over TLS only?
    pub fn is_secure(&self) -> bool {
        self.origin().starts_with("https://")
    }
}
