//! Makes a key pair and a user certificate for it (PROTOCOL.certkeys of OpenSSH). Signs nothing else.

use ring::signature::{Ed25519KeyPair, KeyPair};
use ssh_key::{
    Algorithm, Certificate, LineEnding, PrivateKey, PublicKey, Signature,
    certificate::{Builder, CertType},
    private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData},
    public::{Ed25519PublicKey, KeyData},
};
use zeroize::Zeroizing;

use super::config::Parameters;
use crate::{
    domain::{secret::Secret, time::Timestamp},
    ports::{connector::Fault, entropy::Entropy, signer::Ed25519Key},
};

/// How long before its minting a certificate is valid already: hosts' clocks may be late.
const EARLY_SECONDS: i64 = 30;

/// What a certificate says.
pub struct Content<'a> {
    /// Recorded in the ledger before signing.
    pub serial: u64,
    /// Shown in the hosts' logs.
    pub key_id: &'a str,
    /// Minted at.
    pub at: Timestamp,
    /// No host accepts it from this instant on.
    pub before: Timestamp,
    /// The entitlement's part.
    pub parameters: &'a Parameters,
}

/// A certificate with its private key.
pub struct Issued {
    /// In OpenSSH's PEM.
    pub private_key: Secret,
    /// The line of an `id-cert.pub` file.
    pub certificate: String,
    /// The line of an `id.pub` file.
    pub public_key: String,
}

/// The authority's key, as the ssh-key crate wants to see it. The trait is the `signature` crate's, which both
/// libraries share and jsonwebtoken hands on.
struct Authority<'a>(&'a dyn Ed25519Key);

impl From<&Authority<'_>> for KeyData {
    fn from(authority: &Authority<'_>) -> Self {
        Self::Ed25519(Ed25519PublicKey(authority.0.public()))
    }
}

impl jsonwebtoken::signature::Signer<Signature> for Authority<'_> {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, jsonwebtoken::signature::Error> {
        Signature::new(Algorithm::Ed25519, self.0.sign(message)).map_err(jsonwebtoken::signature::Error::from_source)
    }
}

/// The authority's public key, for `TrustedUserCAKeys`: as key data and as a line.
pub fn authority(ca: &dyn Ed25519Key, comment: &str) -> Result<(Vec<u8>, String), ssh_key::Error> {
    let key = PublicKey::new(KeyData::from(&Authority(ca)), comment);
    Ok((key.to_bytes()?, key.to_openssh()?))
}

/// Make a key pair and certify it.
pub fn issue(ca: &dyn Ed25519Key, entropy: &dyn Entropy, content: &Content<'_>) -> Result<Issued, Fault> {
    let no_entropy = |e: crate::ports::entropy::EntropyError| Fault::Unavailable(e.to_string());
    let mut seed = Zeroizing::new([0_u8; 32]);
    entropy.fill(seed.as_mut_slice()).map_err(no_entropy)?;
    let mut nonce = vec![0_u8; Builder::RECOMMENDED_NONCE_SIZE];
    entropy.fill(&mut nonce).map_err(no_entropy)?;
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice())
        .map_err(|_| Fault::Unavailable("no key pair could be made".into()))?;
    let public = pair.public_key().as_ref().try_into().map(Ed25519PublicKey);
    let public = public.map_err(|_| Fault::Unavailable("no key pair could be made".into()))?;
    let keys = Ed25519Keypair { public, private: Ed25519PrivateKey::from_bytes(&seed) };
    build(ca, keys, nonce, content).map_err(|e| Fault::Refused(format!("the certificate could not be made: {e}")))
}

fn build(
    ca: &dyn Ed25519Key,
    keys: Ed25519Keypair,
    nonce: Vec<u8>,
    content: &Content<'_>,
) -> Result<Issued, ssh_key::Error> {
    let seconds = |s: i64| u64::try_from(s).unwrap_or(0);
    let private = PrivateKey::new(KeypairData::Ed25519(keys), content.key_id)?;
    let after = seconds(content.at.seconds().saturating_sub(EARLY_SECONDS));
    let mut builder =
        Builder::new(nonce, private.public_key().key_data().clone(), after, seconds(content.before.seconds()))?;
    builder.serial(content.serial)?.key_id(content.key_id)?.cert_type(CertType::User)?.comment(content.key_id)?;
    for principal in &content.parameters.principals {
        builder.valid_principal(principal)?;
    }
    if let Some(command) = &content.parameters.force_command {
        builder.critical_option("force-command", command)?;
    }
    if !content.parameters.source_address.is_empty() {
        builder.critical_option("source-address", content.parameters.source_address.join(","))?;
    }
    let mut extensions = content.parameters.extensions.clone();
    extensions.sort();
    extensions.dedup();
    for extension in extensions {
        builder.extension(extension, "")?;
    }
    let certificate: Certificate = builder.sign(&Authority(ca))?;
    let mut pem = private.to_openssh(LineEnding::LF)?;
    Ok(Issued {
        private_key: Secret::new(std::mem::take(&mut *pem)),
        certificate: certificate.to_openssh()?,
        public_key: private.public_key().to_openssh()?,
    })
}
