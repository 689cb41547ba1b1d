//! jsonwebtoken's crypto provider over ring: signs EdDSA and ES256, verifies those and the RSA and P-384 signatures of
//! identity providers. It knows no HMAC, so a public key can never be taken for a shared secret.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    jwk::{EllipticCurve, ThumbprintHash},
    signature::{Error as Bad, Signer, Verifier},
};
use ring::{
    digest,
    rand::SystemRandom,
    rsa,
    signature::{self as rs, KeyPair},
};

/// ring, for jsonwebtoken.
pub static RING: CryptoProvider = CryptoProvider {
    signer_factory,
    verifier_factory,
    key_utils: KeyUtils {
        rsa_pub_components_from_private_key: rsa_public,
        rsa_pub_components_from_public_key: |_| Err(ErrorKind::UnsupportedAlgorithm.into()),
        ec_pub_components_from_private_key: ec_public,
        ed_pub_components_from_private_key: ed_public,
        compute_digest: hash,
    },
};

/// ring takes the randomness of ECDSA from the system only: its trait is sealed.
#[allow(clippy::disallowed_methods, reason = "ring's ECDSA accepts no generator but the system's")]
pub fn system_random() -> SystemRandom {
    SystemRandom::new()
}

enum Key {
    Ec(Box<rs::EcdsaKeyPair>),
    Ed(Box<rs::Ed25519KeyPair>),
}

struct RingSigner(Algorithm, Key);

impl Signer<Vec<u8>> for RingSigner {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, Bad> {
        match &self.1 {
            Key::Ec(key) => Ok(key.sign(&system_random(), message).map_err(|_| Bad::new())?.as_ref().to_vec()),
            Key::Ed(key) => Ok(key.sign(message).as_ref().to_vec()),
        }
    }
}

impl JwtSigner for RingSigner {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is jsonwebtoken's")]
fn signer_factory(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    let pair = match (algorithm, key.family()) {
        (Algorithm::ES256, AlgorithmFamily::Ec) => Key::Ec(Box::new(
            rs::EcdsaKeyPair::from_pkcs8(&rs::ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes(), &system_random())
                .map_err(|_| ErrorKind::InvalidEcdsaKey)?,
        )),
        (Algorithm::EdDSA, AlgorithmFamily::Ed) => Key::Ed(Box::new(
            rs::Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes()).map_err(|_| ErrorKind::InvalidEddsaKey)?,
        )),
        (Algorithm::ES256 | Algorithm::EdDSA, _) => return Err(ErrorKind::InvalidKeyFormat.into()),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(Box::new(RingSigner(*algorithm, pair)))
}

enum Check {
    Bytes(&'static dyn rs::VerificationAlgorithm),
    Rsa(&'static rs::RsaParameters),
}

struct RingVerifier(Algorithm, Check, DecodingKey);

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Bad> {
        let checked = match (&self.1, self.2.kind()) {
            (Check::Bytes(algorithm), DecodingKeyKind::SecretOrDer(key)) => {
                rs::UnparsedPublicKey::new(*algorithm, key).verify(message, signature)
            }
            (Check::Rsa(parameters), DecodingKeyKind::SecretOrDer(key)) => {
                rs::UnparsedPublicKey::new(*parameters, key).verify(message, signature)
            }
            (Check::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                rs::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Check::Bytes(_), DecodingKeyKind::RsaModulusExponent { .. }) => return Err(Bad::new()),
        };
        checked.map_err(|_| Bad::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is jsonwebtoken's")]
fn verifier_factory(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    let (family, check) = match algorithm {
        Algorithm::EdDSA => (AlgorithmFamily::Ed, Check::Bytes(&rs::ED25519)),
        Algorithm::ES256 => (AlgorithmFamily::Ec, Check::Bytes(&rs::ECDSA_P256_SHA256_FIXED)),
        Algorithm::ES384 => (AlgorithmFamily::Ec, Check::Bytes(&rs::ECDSA_P384_SHA384_FIXED)),
        Algorithm::RS256 => (AlgorithmFamily::Rsa, Check::Rsa(&rs::RSA_PKCS1_2048_8192_SHA256)),
        Algorithm::RS384 => (AlgorithmFamily::Rsa, Check::Rsa(&rs::RSA_PKCS1_2048_8192_SHA384)),
        Algorithm::RS512 => (AlgorithmFamily::Rsa, Check::Rsa(&rs::RSA_PKCS1_2048_8192_SHA512)),
        Algorithm::PS256 => (AlgorithmFamily::Rsa, Check::Rsa(&rs::RSA_PSS_2048_8192_SHA256)),
        Algorithm::PS384 => (AlgorithmFamily::Rsa, Check::Rsa(&rs::RSA_PSS_2048_8192_SHA384)),
        Algorithm::PS512 => (AlgorithmFamily::Rsa, Check::Rsa(&rs::RSA_PSS_2048_8192_SHA512)),
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    if key.family() != family {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(RingVerifier(*algorithm, check, key.clone())))
}

fn rsa_public(der: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let key = rs::RsaKeyPair::from_der(der).map_err(|e| ErrorKind::InvalidRsaKey(e.to_string()))?;
    let parts = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
    Ok((parts.n, parts.e))
}

fn ec_public(der: &[u8], algorithm: Algorithm) -> Result<(EllipticCurve, Vec<u8>, Vec<u8>), Error> {
    if algorithm != Algorithm::ES256 {
        return Err(ErrorKind::UnsupportedAlgorithm.into());
    }
    let key = rs::EcdsaKeyPair::from_pkcs8(&rs::ECDSA_P256_SHA256_FIXED_SIGNING, der, &system_random())
        .map_err(|_| ErrorKind::InvalidEcdsaKey)?;
    let (x, y) = p256_point(key.public_key().as_ref()).ok_or(ErrorKind::InvalidEcdsaKey)?;
    Ok((EllipticCurve::P256, x.to_vec(), y.to_vec()))
}

/// The coordinates of an uncompressed P-256 point.
pub fn p256_point(point: &[u8]) -> Option<(&[u8], &[u8])> {
    match point {
        [4, rest @ ..] if rest.len() == 64 => Some(rest.split_at(32)),
        _ => None,
    }
}

fn ed_public(der: &[u8], curve: &EllipticCurve) -> Result<Vec<u8>, Error> {
    if *curve != EllipticCurve::Ed25519 {
        return Err(ErrorKind::UnsupportedAlgorithm.into());
    }
    let key = rs::Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(key.public_key().as_ref().to_vec())
}

#[allow(clippy::needless_pass_by_value, reason = "the signature is jsonwebtoken's")]
fn hash(bytes: &[u8], hash: ThumbprintHash) -> Result<Vec<u8>, Error> {
    let algorithm = match hash {
        ThumbprintHash::SHA256 => &digest::SHA256,
        ThumbprintHash::SHA384 => &digest::SHA384,
        ThumbprintHash::SHA512 => &digest::SHA512,
        #[allow(unreachable_patterns, reason = "the enum may grow")]
        _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
    };
    Ok(digest::digest(algorithm, bytes).as_ref().to_vec())
}
