//! OpenSSH key revocation lists, written and read (PROTOCOL.krl of OpenSSH).
//!
//! We list revoked certificates of one certificate authority by serial, and nothing else. The bytes follow from the
//! serials and the instant alone. The reader takes what the writer makes and ranges; anything else is an error, so
//! that a list which we do not fully understand is never taken for a proof.

use std::collections::BTreeSet;

use crate::domain::time::Timestamp;

const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SERIAL_LIST: u8 = 0x20;
const SERIAL_RANGE: u8 = 0x21;

/// A list of revoked serials of one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Krl {
    /// Grows with every list; we take the microseconds of the instant.
    pub version: u64,
    /// Unix seconds at which it was made.
    pub generated: u64,
    /// Revoked serials.
    pub serials: Serials,
}

/// Revoked serials: single ones and inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Serials {
    /// One by one.
    pub single: BTreeSet<u64>,
    /// From and to, both included.
    pub ranges: Vec<(u64, u64)>,
}

impl Serials {
    /// Is this serial revoked?
    pub fn contains(&self, serial: u64) -> bool {
        self.single.contains(&serial) || self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&serial))
    }

    /// How many entries.
    pub fn entries(&self) -> usize {
        self.single.len() + self.ranges.len()
    }
}

/// Bytes that are not a list of ours. Says where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a revocation list of ours: {0}")]
pub struct NotAKrl(&'static str);

/// An SSH string: its length and its bytes.
fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    // INVARIANT: no list comes near 4 GiB; a longer one would be cut here and refused by the reader.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// The list as bytes. `ca` is the authority's public key in SSH wire form. Serial 0 cannot be revoked by serial and is
/// left out; the ledger never gives it.
pub fn write(ca: &[u8], comment: &str, serials: &BTreeSet<u64>, at: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + ca.len() + serials.len() * 8);
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&FORMAT.to_be_bytes());
    out.extend_from_slice(&u64::try_from(at.micros()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&u64::try_from(at.seconds()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(&0_u64.to_be_bytes());
    put_string(&mut out, b"");
    put_string(&mut out, comment.as_bytes());
    let listed: Vec<u8> = serials.iter().filter(|s| **s != 0).flat_map(|s| s.to_be_bytes()).collect();
    if !listed.is_empty() {
        let mut section = Vec::with_capacity(64 + ca.len() + listed.len());
        put_string(&mut section, ca);
        put_string(&mut section, b"");
        section.push(SERIAL_LIST);
        put_string(&mut section, &listed);
        out.push(SECTION_CERTIFICATES);
        put_string(&mut out, &section);
    }
    out
}

/// Read a list; serials of other authorities are not counted.
pub fn read(bytes: &[u8], ca: &[u8]) -> Result<Krl, NotAKrl> {
    let mut file = Reader(bytes);
    if file.u64()? != MAGIC {
        return Err(NotAKrl("the magic number is missing"));
    }
    if file.u32()? != FORMAT {
        return Err(NotAKrl("the format is not version 1"));
    }
    let (version, generated) = (file.u64()?, file.u64()?);
    let (_flags, _reserved, _comment) = (file.u64()?, file.string()?, file.string()?);
    let mut serials = Serials::default();
    while !file.0.is_empty() {
        if file.u8()? != SECTION_CERTIFICATES {
            return Err(NotAKrl("a section of another type"));
        }
        let mut section = Reader(file.string()?);
        let ours = section.string()? == ca;
        let _reserved = section.string()?;
        while !section.0.is_empty() {
            let kind = section.u8()?;
            let mut part = Reader(section.string()?);
            while !part.0.is_empty() {
                let first = part.u64()?;
                match kind {
                    SERIAL_LIST if ours => {
                        serials.single.insert(first);
                    }
                    SERIAL_RANGE if ours => serials.ranges.push((first, part.u64()?)),
                    SERIAL_LIST => {}
                    SERIAL_RANGE => {
                        part.u64()?;
                    }
                    _ => return Err(NotAKrl("certificates revoked in another way than by serial")),
                }
            }
        }
    }
    Ok(Krl { version, generated, serials })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], NotAKrl> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(NotAKrl("it ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotAKrl> {
        self.take(N)?.try_into().map_err(|_| NotAKrl("it ends early"))
    }

    fn u8(&mut self) -> Result<u8, NotAKrl> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, NotAKrl> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, NotAKrl> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], NotAKrl> {
        let n = self.u32()?;
        self.take(usize::try_from(n).map_err(|_| NotAKrl("a text is too long"))?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: Timestamp = Timestamp::from_seconds(1_800_000_000);

    #[test]
    fn an_empty_list_is_a_header() {
        let bytes = write(b"ca", "t", &BTreeSet::new(), AT);
        assert_eq!(bytes.len(), 8 + 4 + 8 + 8 + 8 + 4 + 5);
        assert_eq!(&bytes[..8], b"SSHKRL\n\0");
        let krl = read(&bytes, b"ca").unwrap();
        assert_eq!((krl.version, krl.generated, krl.serials.entries()), (1_800_000_000_000_000, 1_800_000_000, 0));
    }

    #[test]
    fn another_authoritys_serials_do_not_count() {
        let bytes = write(b"other", "t", &BTreeSet::from([1, 2]), AT);
        assert!(!read(&bytes, b"ca").unwrap().serials.contains(1));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(serials in proptest::collection::btree_set(1_u64.., 0..50)) {
            let bytes = write(b"ca", "t", &serials, AT);
            prop_assert_eq!(&bytes, &write(b"ca", "t", &serials, AT));
            prop_assert_eq!(read(&bytes, b"ca").unwrap().serials.single, serials);
        }

        #[test]
        fn a_cut_list_is_never_believed(serials in proptest::collection::btree_set(1_u64.., 1..50), cut in 1_usize..60) {
            let bytes = write(b"ca", "t", &serials, AT);
            let short = &bytes[..bytes.len() - cut.min(bytes.len())];
            // Cut exactly after the header it is a list, but one without the serials.
            let seen = read(short, b"ca").map(|k| k.serials.entries());
            prop_assert!(seen.is_err() || seen == Ok(0));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut list = write(b"ca", "t", &BTreeSet::new(), AT);
            list.extend_from_slice(&bytes);
            let _ = read(&list, b"ca");
            let _ = read(&bytes, b"ca");
        }
    }
}
