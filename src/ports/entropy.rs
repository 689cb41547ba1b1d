//! Randomness comes from here and from nowhere else.

use ring::rand::{SecureRandom, SystemRandom};
use ulid::Ulid;

use crate::domain::time::Timestamp;

/// The one source of randomness.
pub trait Entropy: Send + Sync {
    /// Fill with unpredictable bytes.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError>;

    /// A ULID for that instant.
    fn ulid(&self, at: Timestamp) -> Result<Ulid, EntropyError> {
        let mut random = [0_u8; 16];
        self.fill(&mut random[..10])?;
        let millis = u64::try_from(at.micros().div_euclid(1000)).unwrap_or(0);
        Ok(Ulid::from_parts(millis, u128::from_le_bytes(random)))
    }

    /// `n` random bytes (at most 64) in URL-safe base64 without padding: 32 bytes make 43 characters.
    fn text(&self, n: usize) -> Result<crate::domain::secret::Secret, EntropyError> {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        let mut bytes = zeroize::Zeroizing::new([0_u8; 64]);
        let part = bytes.get_mut(..n).ok_or(EntropyError)?;
        self.fill(part)?;
        Ok(crate::domain::secret::Secret::new(URL_SAFE_NO_PAD.encode(part)))
    }
}

/// The machine gave no randomness; nothing that needs it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random number generator failed")]
pub struct EntropyError;

/// The operating system's generator.
#[derive(Debug)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Ready to use.
    #[allow(clippy::disallowed_methods, reason = "the one place where the system's generator is opened")]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(bytes).map_err(|_| EntropyError)
    }
}
