//! Ed25519 keys by name: the audit log's checkpoint key and SSH certificate authorities.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ring::signature::{Ed25519KeyPair, KeyPair};
use zeroize::Zeroizing;

use super::files::{self, KeyFileError};
use crate::ports::{
    entropy::Entropy,
    signer::{Ed25519Key, KeyError, KeyVault},
};

/// What stands before the 32 bytes of an Ed25519 seed in PKCS#8 (RFC 8410 §7).
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A new Ed25519 key as PKCS#8.
pub fn generate_ed25519(entropy: &dyn Entropy) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let mut pkcs8 = Zeroizing::new(vec![0_u8; PKCS8_HEAD.len() + 32]);
    let (head, seed) = pkcs8.split_at_mut(PKCS8_HEAD.len());
    head.copy_from_slice(&PKCS8_HEAD);
    entropy.fill(seed)?;
    Ok(pkcs8)
}

/// An Ed25519 key pair. It signs and shows its public half; it has no `Debug`.
pub struct SigningPair(Ed25519KeyPair);

impl SigningPair {
    /// From PKCS#8; `None` if that is not an Ed25519 key.
    pub(super) fn from_pkcs8(pkcs8: &[u8]) -> Option<Self> {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok().map(Self)
    }

    fn open(path: &Path, entropy: &dyn Entropy) -> Result<Self, KeyFileError> {
        files::open_dir(path.parent().unwrap_or_else(|| Path::new(".")))?;
        let pkcs8 = if let Some(found) = files::read(path)? {
            found
        } else {
            files::write_new(path, &generate_ed25519(entropy)?, entropy)?;
            files::read(path)?.unwrap_or_default()
        };
        Self::from_pkcs8(&pkcs8)
            .ok_or_else(|| KeyFileError::Malformed { path: path.to_owned(), want: "an Ed25519 private key" })
    }
}

impl Ed25519Key for SigningPair {
    fn public(&self) -> [u8; 32] {
        self.0.public_key().as_ref().try_into().unwrap_or([0; 32])
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).as_ref().try_into().unwrap_or([0; 64])
    }
}

/// The key that signs the audit log's checkpoints; made on first use.
pub fn checkpoint_key(dir: &Path, entropy: &dyn Entropy) -> Result<SigningPair, KeyFileError> {
    SigningPair::open(&dir.join("checkpoint.pem"), entropy)
}

/// The SSH certificate authority of that name; made on first use.
pub fn ssh_ca(dir: &Path, name: &str, entropy: &dyn Entropy) -> Result<SigningPair, KeyFileError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) {
        return Err(KeyFileError::Name(name.chars().take(80).collect()));
    }
    SigningPair::open(&dir.join(format!("ssh-ca-{name}.pem")), entropy)
}

/// The key directory as connectors see it.
pub struct KeyFiles {
    dir: PathBuf,
    entropy: Arc<dyn Entropy>,
}

impl KeyFiles {
    /// Keys in that directory, which is made when the first key is.
    pub fn new(dir: &Path, entropy: Arc<dyn Entropy>) -> Self {
        Self { dir: dir.to_owned(), entropy }
    }
}

impl KeyVault for KeyFiles {
    fn ssh_ca(&self, name: &str) -> Result<Arc<dyn Ed25519Key>, KeyError> {
        match ssh_ca(&self.dir, name, self.entropy.as_ref()) {
            Ok(pair) => Ok(Arc::new(pair)),
            Err(KeyFileError::Io { action, path, source }) => {
                Err(KeyError(format!("cannot {action} {}: {source}", path.display())))
            }
            Err(e) => Err(KeyError(e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::ports::entropy::SystemEntropy;

    fn keys(home: &tempfile::TempDir) -> PathBuf {
        home.path().join("keys")
    }

    #[test]
    fn a_named_key_is_made_once_and_signs() {
        let dir = tempfile::tempdir().unwrap();
        let entropy = SystemEntropy::new();
        let one = ssh_ca(&keys(&dir), "prod", &entropy).unwrap();
        let again = ssh_ca(&keys(&dir), "prod", &entropy).unwrap();
        let other = checkpoint_key(&keys(&dir), &entropy).unwrap();
        assert_eq!(one.public(), again.public());
        assert_ne!(one.public(), other.public());
        assert!(UnparsedPublicKey::new(&ED25519, again.public()).verify(b"m", &one.sign(b"m")).is_ok());
    }

    #[test]
    fn names_stay_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", "../x", "A", "a/b", &"a".repeat(65)] {
            assert!(matches!(ssh_ca(&keys(&dir), name, &SystemEntropy::new()), Err(KeyFileError::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_broken_key_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        files::open_dir(&keys(&dir)).unwrap();
        files::write_new(&keys(&dir).join("checkpoint.pem"), b"not a key", &SystemEntropy::new()).unwrap();
        assert!(matches!(checkpoint_key(&keys(&dir), &SystemEntropy::new()), Err(KeyFileError::Malformed { .. })));
    }
}
