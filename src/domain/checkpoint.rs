//! Signed checkpoints of the audit log: C2SP tlog-checkpoint (<https://c2sp.org/tlog-checkpoint>) in a C2SP signed
//! note (<https://c2sp.org/signed-note>), Ed25519.
//!
//! The private key is never here: signing takes a closure. Reading is strict: what is not exactly of the form is
//! refused, and no text is given out before a signature of a known key has held.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, signature};

use super::merkle::Hash;

/// Signature type byte of plain Ed25519.
const ED25519: u8 = 0x01;
/// Signature lines beyond this are refused.
const MAX_SIGNATURES: usize = 100;
/// Notes beyond this are refused.
const MAX_NOTE: usize = 1 << 16;

/// Why a key, a note or a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// Not `<name>+<key id>+<key>`, or the key id is not that of the key.
    #[error("not a verifier key: `<name>+<key id in hex>+<key in base64>` is expected")]
    BadKey,
    /// A name that is empty or has white space or `+` in it.
    #[error("`{0}` cannot name a signing key or a log: no white space, no `+`, not empty")]
    BadName(String),
    /// Not a signed note at all.
    #[error("not a signed note: {0}")]
    BadNote(&'static str),
    /// Not the text of a checkpoint.
    #[error("not a checkpoint: {0}")]
    BadCheckpoint(&'static str),
    /// None of the signatures is by a key that is trusted.
    #[error("the note bears no signature by a trusted key")]
    UnknownKey,
    /// A signature that says it is by a trusted key and is not.
    #[error("the signature by `{0}` does not hold: the note was changed or signed by another key")]
    BadSignature(String),
    /// The signer did not sign.
    #[error("the checkpoint could not be signed: {0}")]
    Signer(String),
}

fn check_name(name: &str) -> Result<(), CheckpointError> {
    let bad = name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+');
    if bad { Err(CheckpointError::BadName(name.chars().take(80).collect())) } else { Ok(()) }
}

/// A public key that checkpoints are checked with. Text form: `<name>+<key id>+<base64(0x01 || key)>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// The Ed25519 key `public` under this name, which should be the log's origin.
    pub fn new(name: &str, public: [u8; 32]) -> Result<Self, CheckpointError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), public })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of `SHA-256(name || 0x0A || 0x01 || public key)`.
    pub fn id(&self) -> [u8; 4] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(self.name.as_bytes());
        context.update(&[b'\n', ED25519]);
        context.update(&self.public);
        let full = context.finish();
        full.as_ref().first_chunk::<4>().copied().unwrap_or_default()
    }

    fn holds(&self, text: &str, signature: &[u8]) -> bool {
        signature::UnparsedPublicKey::new(&signature::ED25519, self.public).verify(text.as_bytes(), signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut typed = vec![ED25519];
        typed.extend_from_slice(&self.public);
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), STANDARD.encode(typed))
    }
}

impl FromStr for VerifierKey {
    type Err = CheckpointError;

    fn from_str(s: &str) -> Result<Self, CheckpointError> {
        let mut parts = s.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CheckpointError::BadKey);
        };
        let typed = STANDARD.decode(key).map_err(|_| CheckpointError::BadKey)?;
        let Some((&ED25519, public)) = typed.split_first() else { return Err(CheckpointError::BadKey) };
        let public = public.try_into().map_err(|_| CheckpointError::BadKey)?;
        let key = Self::new(name, public)?;
        if hex::encode(key.id()) == id { Ok(key) } else { Err(CheckpointError::BadKey) }
    }
}

impl serde::Serialize for VerifierKey {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for VerifierKey {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// Sign a text, which must end in a newline. `sign` gives the 64 bytes of the Ed25519 signature of the text by the
/// private half of `key`; a signature that does not hold is not let out.
pub fn sign_note(
    text: &str,
    key: &VerifierKey,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
) -> Result<String, CheckpointError> {
    check_text(text)?;
    let bytes = sign(text.as_bytes()).map_err(CheckpointError::Signer)?;
    if !key.holds(text, &bytes) {
        return Err(CheckpointError::Signer("the signature is not by the key whose name it would bear".to_owned()));
    }
    Ok(format!("{text}\n— {} {}\n", key.name, STANDARD.encode([&key.id(), bytes.as_slice()].concat())))
}

fn check_text(text: &str) -> Result<(), CheckpointError> {
    if text.chars().any(|c| c < ' ' && c != '\n') {
        Err(CheckpointError::BadNote("it has control characters"))
    } else if !text.ends_with('\n') {
        Err(CheckpointError::BadNote("the text does not end in a newline"))
    } else {
        Ok(())
    }
}

/// The text of a signed note, and the first of `keys` whose signature on it holds. Signatures by other keys are passed
/// over; one that bears the name and id of a given key and does not hold refuses the note.
pub fn open_note<'n, 'k>(
    note: &'n str,
    keys: &'k [VerifierKey],
) -> Result<(&'n str, &'k VerifierKey), CheckpointError> {
    if note.len() > MAX_NOTE {
        return Err(CheckpointError::BadNote("it is too long"));
    }
    let bare = CheckpointError::BadNote("no blank line stands between text and signatures");
    let at = note.rfind("\n\n").ok_or(bare)?;
    let (Some(text), Some(lines)) = (note.get(..=at), note.get(at + 2..)) else {
        return Err(CheckpointError::BadNote("it cannot be split"));
    };
    check_text(text)?;
    check_text(lines)?;
    let mut by = None;
    for (count, line) in lines.split_terminator('\n').enumerate() {
        if count >= MAX_SIGNATURES {
            return Err(CheckpointError::BadNote("it has too many signatures"));
        }
        let form = CheckpointError::BadNote("a signature line is not `— <name> <base64>`");
        let (name, encoded) = line.strip_prefix("— ").and_then(|l| l.split_once(' ')).ok_or(form.clone())?;
        check_name(name)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| form.clone())?;
        let (id, signature) = bytes.split_first_chunk::<4>().filter(|(_, s)| !s.is_empty()).ok_or(form)?;
        for key in keys.iter().filter(|k| k.name == name && k.id() == *id) {
            if !key.holds(text, signature) {
                return Err(CheckpointError::BadSignature(name.to_owned()));
            }
            by = by.or(Some(key));
        }
    }
    by.map(|key| (text, key)).ok_or(CheckpointError::UnknownKey)
}

/// The head of the log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's unique name, like `example.com/tidegate`.
    pub origin: String,
    /// How many events the log holds.
    pub size: u64,
    /// Root of their Merkle tree.
    pub root: Hash,
    /// Opaque lines after the root; Tidegate writes none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// The head of `origin` at this size.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Self, CheckpointError> {
        check_name(origin)?;
        Ok(Self { origin: origin.to_owned(), size, root, extensions: Vec::new() })
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()));
        for line in &self.extensions {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// As a signed note; see [`sign_note`].
    pub fn sign(
        &self,
        key: &VerifierKey,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<String, CheckpointError> {
        sign_note(&self.text(), key, sign)
    }

    /// From a signed note, if the signature of one of `keys` holds; which one, too.
    pub fn open<'k>(note: &str, keys: &'k [VerifierKey]) -> Result<(Self, &'k VerifierKey), CheckpointError> {
        let (text, key) = open_note(note, keys)?;
        Ok((text.parse()?, key))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Reads the bare text. Whoever calls this must have checked the signature.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let bad = CheckpointError::BadCheckpoint;
        let mut lines = text.strip_suffix('\n').ok_or(bad("it does not end in a newline"))?.split('\n');
        let origin = lines.next().filter(|l| !l.is_empty()).ok_or(bad("it has no origin"))?;
        let digits = lines.next().ok_or(bad("it has no size"))?;
        let size: u64 = digits.parse().map_err(|_| bad("its size is not a number"))?;
        if size.to_string() != digits {
            return Err(bad("its size is not in plain decimal form"));
        }
        let encoded = lines.next().ok_or(bad("it has no root hash"))?;
        let root = STANDARD.decode(encoded).ok().and_then(|b| Hash::from_slice(&b));
        let root = root.ok_or(bad("its root is not a SHA-256 hash in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(bad("it has an empty line"));
        }
        Ok(Self { origin: origin.to_owned(), size, root, extensions })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use ring::signature::{Ed25519KeyPair, KeyPair};

    use super::*;

    /// A key pair that is the same in every run.
    pub(crate) fn pair(name: &str, seed: u8) -> (VerifierKey, impl Fn(&[u8]) -> Result<Vec<u8>, String>) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = VerifierKey::new(name, pair.public_key().as_ref().try_into().unwrap()).unwrap();
        (key, move |text: &[u8]| Ok(pair.sign(text).as_ref().to_vec()))
    }

    /// The vectors of golang.org/x/mod/sumdb/note.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const PETER_SEED: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
    const TEXT: &str =
        "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
    const SIGNED: &str =
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn the_published_note_opens_and_is_signed_alike() {
        let key: VerifierKey = PETER.parse().unwrap();
        assert_eq!(key.to_string(), PETER);
        let note = format!("{TEXT}\n{SIGNED}");
        let keys = [key.clone()];
        assert_eq!(open_note(&note, &keys), Ok((TEXT, &key)));

        let seed = STANDARD.decode(PETER_SEED).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed[1..]).unwrap();
        assert_eq!(sign_note(TEXT, &key, |t| Ok(pair.sign(t).as_ref().to_vec())), Ok(note));
    }

    #[test]
    fn signatures_by_others_are_passed_over() {
        let keys: [VerifierKey; 1] = [PETER.parse().unwrap()];
        let enoch = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";
        assert!(open_note(&format!("{TEXT}\n{enoch}{SIGNED}"), &keys).is_ok());
        assert_eq!(open_note(&format!("{TEXT}\n{enoch}"), &keys), Err(CheckpointError::UnknownKey));
        assert_eq!(open_note(&format!("{TEXT}\n{SIGNED}"), &[]), Err(CheckpointError::UnknownKey));
    }

    #[test]
    fn every_changed_byte_of_a_note_is_noticed() {
        let (key, sign) = pair("example.com/log", 7);
        let keys = [key];
        let note = Checkpoint::new("example.com/log", 12, Hash::new([9; 32])).unwrap().sign(&keys[0], sign).unwrap();
        assert!(Checkpoint::open(&note, &keys).is_ok());
        for at in 0..note.len() {
            for change in [1_u8, 2, 32] {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= change;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(Checkpoint::open(&changed, &keys).is_err(), "{at}: {changed}");
                }
            }
            assert!(note.get(..at).is_none_or(|cut| Checkpoint::open(cut, &keys).is_err()), "cut at {at}");
        }
    }

    #[test]
    fn malformed_notes_are_refused() {
        let keys: [VerifierKey; 1] = [PETER.parse().unwrap()];
        for bad in [
            String::new(),
            format!("{TEXT}{SIGNED}"),
            format!("{TEXT}\n"),
            format!("{TEXT}\n{SIGNED}x"),
            format!("{TEXT}\n{}", SIGNED.trim_end()),
            format!("{TEXT}\n{}", SIGNED.replace('—', "-")),
            format!("{TEXT}\n— PeterNeumann \n{SIGNED}"),
            format!("{TEXT}\n—  x08go/ZJkuBS9UG\n{SIGNED}"),
            format!("{TEXT}\n— a+b AAAAAAA=\n{SIGNED}"),
            format!("{}\n{SIGNED}", TEXT.replace(',', "\t")),
            format!("{TEXT}\n{}", SIGNED.replace('\n', "\r\n")),
            format!("{TEXT}\n{}", SIGNED.repeat(101)),
        ] {
            assert!(open_note(&bad, &keys).is_err(), "{bad:?}");
        }
        assert!(open_note(&format!("{TEXT}\n{}", SIGNED.repeat(2)), &keys).is_ok());
    }

    #[test]
    fn malformed_keys_are_refused() {
        for bad in [
            "",
            "PeterNeumann",
            "PeterNeumann+c74f20a3",
            "PeterNeumann+c74f20a3+",
            "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "Peter+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+BRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10",
            "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_text_of_a_checkpoint_is_that_of_the_specification() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(checkpoint.text(), text);
        let extended = format!("{text}ext\n");
        assert_eq!(extended.parse::<Checkpoint>().map(|c| c.text()), Ok(extended));
        let root = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";
        for bad in [
            format!("o\n1\n{root}"),
            format!("\n1\n{root}\n"),
            format!("o\n01\n{root}\n"),
            format!("o\n+1\n{root}\n"),
            format!("o\n-1\n{root}\n"),
            format!("o\n18446744073709551616\n{root}\n"),
            format!("o\n1\n{}\n", root.trim_end_matches('=')),
            format!("o\n1\n{root}\n\n"),
            "o\n1\nAAAA\n".to_owned(),
            "o\n1\n".to_owned(),
        ] {
            assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_signer_with_another_key_is_not_let_out() {
        let (key, _) = pair("example.com/log", 1);
        let (_, wrong) = pair("example.com/log", 2);
        let checkpoint = Checkpoint::new("example.com/log", 0, super::super::merkle::empty_root()).unwrap();
        assert!(matches!(checkpoint.sign(&key, wrong), Err(CheckpointError::Signer(_))));
        assert!(matches!(checkpoint.sign(&key, |_| Err("no disk".to_owned())), Err(CheckpointError::Signer(_))));
    }
}
