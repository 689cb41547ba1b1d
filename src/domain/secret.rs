//! Secrets: a type that cannot be printed, cloned or serialised by accident.

use std::borrow::Cow;

use zeroize::Zeroizing;

/// A secret text. No `Debug`, `Clone`, `Display` or `Serialize`; wiped from memory when dropped.
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wrap a text; the caller's copy should not outlive this call.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself. Only connectors, token hashing and the one hand-over to the holder call this.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What a connector minted for one claim: public facts and secret fields, rendered once to the holder.
pub struct Minted {
    /// Public fields of the credential: user name, host, key id.
    pub public: serde_json::Map<String, serde_json::Value>,
    /// Secret fields by name: `password`, `token`, `private_key`.
    pub secrets: Vec<(Cow<'static, str>, Secret)>,
    /// When this copy stops working by itself.
    pub expires_at: super::time::Timestamp,
}
