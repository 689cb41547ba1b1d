//! The broker's keys: files under the key directory, made on first start, rotated, never logged.
//!
//! Every key is a PKCS#8 PEM file with mode 0600 in a directory with mode 0700; a file that others could read is
//! refused. Keys are parsed once. No type here prints its key, and no private key leaves this module.

mod files;
mod pair;
mod provider;
mod ring_set;
mod signer;

use std::sync::Once;

pub use files::KeyFileError;
pub use pair::{KeyFiles, SigningPair, checkpoint_key, ssh_ca};
pub use signer::FileSigner;

/// Install ring as the one crypto provider of TLS and of JSON Web Tokens. May be called as often as one likes; must be
/// called before the first HTTP client is built or token is checked.
pub fn init_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that a provider is there already, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let _ = provider::RING.install_default();
    });
}
