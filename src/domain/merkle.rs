//! The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1): hashing, roots, inclusion and consistency proofs.
//!
//! Nothing here reads a store. Leaf hashes (level 0) and the hashes of complete subtrees at levels 8, 16, 24… (tiles
//! of 256 nodes, as in C2SP tlog-tiles) are kept elsewhere; a `*_plan` says which ranges of them a proof needs, the
//! caller fetches them into [`Nodes`], and the builder makes the proof. [`Frontier`] is the right edge of the tree:
//! with it a leaf is appended and the root computed in O(log n), without reading what came before.

use std::{fmt, str::FromStr};

use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

mod proof;
#[cfg(test)]
mod tests;

pub use proof::{
    Nodes, Range, consistency_plan, consistency_proof, inclusion_plan, inclusion_proof, root, root_plan,
    verify_consistency, verify_inclusion,
};

/// Stored levels are the multiples of this; a tile holds `1 << STEP` nodes of one stored level.
pub const STEP: u32 = 8;

/// A SHA-256 hash: of a leaf, a node or a whole tree. Text form is lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

impl Hash {
    /// From its 32 bytes.
    pub const fn new(bytes: [u8; SHA256_OUTPUT_LEN]) -> Self {
        Self(bytes)
    }

    /// From a column or a decoded text; `None` unless it is 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; SHA256_OUTPUT_LEN] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash {
    type Err = MerkleError;

    fn from_str(s: &str) -> Result<Self, MerkleError> {
        let canonical = !s.bytes().any(|b| b.is_ascii_uppercase());
        hex::decode(s).ok().filter(|_| canonical).and_then(|b| Self::from_slice(&b)).ok_or(MerkleError::NotAHash)
    }
}

impl serde::Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a proof cannot be built or does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// Not 32 bytes in hexadecimal.
    #[error("not a SHA-256 hash: 64 lower-case hexadecimal digits are expected")]
    NotAHash,
    /// Asked about a leaf or a tree that is not there.
    #[error("position {position} lies outside a tree of {size} leaves")]
    OutOfRange {
        /// What was asked for.
        position: u64,
        /// How many leaves there are.
        size: u64,
    },
    /// The store did not give what the plan asked for.
    #[error("the stored hash at level {level}, index {index} is missing")]
    Missing {
        /// Height above the leaves.
        level: u32,
        /// Index within its level.
        index: u64,
    },
    /// A proof that is too short, too long or made for another tree.
    #[error("the proof does not lead to the root")]
    Mismatch,
    /// Stored bytes that are not a frontier.
    #[error("the stored frontier is damaged: its length does not fit its size")]
    BadFrontier,
}

/// Hash of a leaf: `SHA-256(0x00 || data)`.
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha256(&[&[0x00], data])
}

/// Hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[0x01], &left.0, &right.0])
}

/// Root of a tree without leaves: `SHA-256("")`.
pub fn empty_root() -> Hash {
    sha256(&[])
}

fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0_u8; SHA256_OUTPUT_LEN];
    out.copy_from_slice(context.finish().as_ref());
    Hash(out)
}

/// Root over leaf hashes.
pub fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.append(*leaf);
    }
    frontier.root()
}

/// A stored hash: the root of the complete subtree number `index` of height `level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Height above the leaves; a multiple of [`STEP`].
    pub level: u32,
    /// Index within its level.
    pub index: u64,
    /// The hash.
    pub hash: Hash,
}

fn fold(peaks: &[Hash]) -> Hash {
    peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
}

/// The right edge of a tree: the roots of its maximal complete subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    // INVARIANT: as many as `size` has one-bits.
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The tree of `size` leaves with these subtree roots, largest first.
    pub fn new(size: u64, peaks: Vec<Hash>) -> Result<Self, MerkleError> {
        if u32::try_from(peaks.len()) == Ok(size.count_ones()) {
            Ok(Self { size, peaks })
        } else {
            Err(MerkleError::BadFrontier)
        }
    }

    /// How many leaves the tree has.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the maximal complete subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Root of the tree.
    pub fn root(&self) -> Hash {
        fold(&self.peaks)
    }

    /// Append a leaf hash; its index is the size before. Answers the nodes above level 0 that are now complete and are
    /// to be stored: none, mostly; one with every 256th leaf, two with every 65,536th.
    pub fn append(&mut self, leaf: Hash) -> Vec<Node> {
        let (mut hash, mut level, mut index, mut complete) = (leaf, 0, self.size, Vec::new());
        while index & 1 == 1
            && let Some(left) = self.peaks.pop()
        {
            hash = node_hash(&left, &hash);
            index >>= 1;
            level += 1;
            if level % STEP == 0 {
                complete.push(Node { level, index, hash });
            }
        }
        self.peaks.push(hash);
        self.size += 1;
        complete
    }

    /// For storing: the size as 8 bytes, big-endian, then the peaks.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.size.to_be_bytes().to_vec();
        for peak in &self.peaks {
            out.extend_from_slice(&peak.0);
        }
        out
    }

    /// From what [`Frontier::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MerkleError> {
        let (size, rest) = bytes.split_first_chunk::<8>().ok_or(MerkleError::BadFrontier)?;
        let (peaks, tail) = rest.as_chunks::<SHA256_OUTPUT_LEN>();
        if !tail.is_empty() {
            return Err(MerkleError::BadFrontier);
        }
        Self::new(u64::from_be_bytes(*size), peaks.iter().copied().map(Hash).collect())
    }
}
