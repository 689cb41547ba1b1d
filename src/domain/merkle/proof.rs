//! Proofs: which stored hashes they need, how they are built from them, and how they are checked.

use std::collections::BTreeMap;

use super::{Hash, MerkleError, STEP, empty_root, fold, node_hash};

/// A run of stored hashes within one tile: `count` of them at `level` (0 or a multiple of [`STEP`]) from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// Height above the leaves.
    pub level: u32,
    /// First index within the level.
    pub start: u64,
    /// How many.
    pub count: u64,
}

/// Stored hashes that were fetched for a plan.
#[derive(Debug, Clone, Default)]
pub struct Nodes(pub(super) BTreeMap<(u32, u64), Hash>);

impl Nodes {
    /// Nothing fetched yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Put one hash.
    pub fn insert(&mut self, level: u32, index: u64, hash: Hash) {
        self.0.insert((level, index), hash);
    }

    /// Put what was fetched for a range, in order of index.
    pub fn insert_range(&mut self, range: Range, hashes: impl IntoIterator<Item = Hash>) {
        for (index, hash) in (range.start..range.start.saturating_add(range.count)).zip(hashes) {
            self.insert(range.level, index, hash);
        }
    }
}

/// Hands out hashes of complete subtrees.
trait Subtrees {
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, MerkleError>;
}

/// The run of stored nodes under a complete subtree: at most 128 of them, all in one tile.
const fn stored_under(level: u32, index: u64) -> Range {
    let depth = level % STEP;
    Range { level: level - depth, start: index << depth, count: 1 << depth }
}

impl Subtrees for &Nodes {
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, MerkleError> {
        let range = stored_under(level, index);
        let mut row = (range.start..range.start + range.count)
            .map(|index| {
                let missing = MerkleError::Missing { level: range.level, index };
                self.0.get(&(range.level, index)).copied().ok_or(missing)
            })
            .collect::<Result<Vec<_>, _>>()?;
        while row.len() > 1 {
            row = row.chunks_exact(2).filter_map(|p| Some(node_hash(p.first()?, p.last()?))).collect();
        }
        row.first().copied().ok_or(MerkleError::Missing { level, index })
    }
}

/// Writes down what would be asked for.
#[derive(Default)]
struct Plan(Vec<Range>);

impl Subtrees for Plan {
    fn subtree(&mut self, level: u32, index: u64) -> Result<Hash, MerkleError> {
        self.0.push(stored_under(level, index));
        Ok(Hash::default())
    }
}

impl Plan {
    /// At most one range a tile.
    fn ranges(mut self) -> Vec<Range> {
        self.0.sort_unstable();
        let mut merged: Vec<Range> = Vec::new();
        for next in self.0 {
            match merged.last_mut() {
                Some(last) if last.level == next.level && last.start >> STEP == next.start >> STEP => {
                    last.count = last.count.max(next.start + next.count - last.start);
                }
                _ => merged.push(next),
            }
        }
        merged
    }
}

/// Largest power of two smaller than `n`, which is at least 2.
pub(super) const fn split(n: u64) -> u64 {
    1 << (u64::BITS - 1 - (n - 1).leading_zeros())
}

/// Root over the leaves `lo..hi`, where `lo` is where a subtree of that size can start.
fn subroot(lo: u64, hi: u64, from: &mut impl Subtrees) -> Result<Hash, MerkleError> {
    let (mut at, mut peaks) = (lo, Vec::new());
    while at < hi {
        let level = u64::BITS - 1 - (hi - at).leading_zeros();
        peaks.push(from.subtree(level, at >> level)?);
        at += 1 << level;
    }
    Ok(fold(&peaks))
}

fn inclusion(index: u64, size: u64, from: &mut impl Subtrees) -> Result<Vec<Hash>, MerkleError> {
    if index >= size {
        return Err(MerkleError::OutOfRange { position: index, size });
    }
    let (mut lo, mut hi, mut path) = (0, size, Vec::new());
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        if index < middle {
            path.push(subroot(middle, hi, from)?);
            hi = middle;
        } else {
            path.push(subroot(lo, middle, from)?);
            lo = middle;
        }
    }
    path.reverse();
    Ok(path)
}

fn consistency(old: u64, new: u64, from: &mut impl Subtrees) -> Result<Vec<Hash>, MerkleError> {
    if old > new {
        return Err(MerkleError::OutOfRange { position: old, size: new });
    }
    let mut path = Vec::new();
    if old == 0 || old == new {
        return Ok(path);
    }
    let (mut lo, mut hi, mut known) = (0, new, true);
    while old < hi {
        let middle = lo + split(hi - lo);
        if old <= middle {
            path.push(subroot(middle, hi, from)?);
            hi = middle;
        } else {
            path.push(subroot(lo, middle, from)?);
            lo = middle;
            known = false;
        }
    }
    if !known {
        path.push(subroot(lo, hi, from)?);
    }
    path.reverse();
    Ok(path)
}

fn plan(run: impl FnOnce(&mut Plan) -> Result<Vec<Hash>, MerkleError>) -> Result<Vec<Range>, MerkleError> {
    let mut plan = Plan::default();
    run(&mut plan)?;
    Ok(plan.ranges())
}

/// Which stored hashes [`inclusion_proof`] needs.
pub fn inclusion_plan(index: u64, size: u64) -> Result<Vec<Range>, MerkleError> {
    plan(|p| inclusion(index, size, p))
}

/// `PATH(index, D[size])` of RFC 6962 §2.1.1: that leaf `index` (from 0) is in the tree of `size` leaves.
pub fn inclusion_proof(index: u64, size: u64, nodes: &Nodes) -> Result<Vec<Hash>, MerkleError> {
    inclusion(index, size, &mut &*nodes)
}

/// Which stored hashes [`consistency_proof`] needs.
pub fn consistency_plan(old: u64, new: u64) -> Result<Vec<Range>, MerkleError> {
    plan(|p| consistency(old, new, p))
}

/// `PROOF(old, D[new])` of RFC 6962 §2.1.2: that the tree of `new` leaves begins with the tree of `old` leaves.
/// Empty if `old` is 0 or equals `new`.
pub fn consistency_proof(old: u64, new: u64, nodes: &Nodes) -> Result<Vec<Hash>, MerkleError> {
    consistency(old, new, &mut &*nodes)
}

/// Which stored hashes [`root`] needs.
pub fn root_plan(size: u64) -> Result<Vec<Range>, MerkleError> {
    plan(|p| subroot(0, size, p).map(|root| vec![root]))
}

/// Root of the first `size` leaves.
pub fn root(size: u64, nodes: &Nodes) -> Result<Hash, MerkleError> {
    subroot(0, size, &mut &*nodes)
}

/// Does the path lead from this leaf to this root? RFC 9162 §2.1.3.2.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::OutOfRange { position: index, size });
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if last == 0 {
            return Err(MerkleError::Mismatch);
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(MerkleError::Mismatch) }
}

/// Does the tree of `new` leaves begin with the tree of `old` leaves? RFC 9162 §2.1.4.2; every tree begins with the
/// empty one.
pub fn verify_consistency(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    path: &[Hash],
) -> Result<(), MerkleError> {
    if old > new {
        return Err(MerkleError::OutOfRange { position: old, size: new });
    }
    let holds = |yes: bool| if yes { Ok(()) } else { Err(MerkleError::Mismatch) };
    if old == new {
        return holds(path.is_empty() && old_root == new_root);
    }
    if old == 0 {
        return holds(path.is_empty() && *old_root == empty_root());
    }
    let (mut at, mut last) = (old - 1, new - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (first, rest) =
        if old.is_power_of_two() { (old_root, path) } else { path.split_first().ok_or(MerkleError::Mismatch)? };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(MerkleError::Mismatch);
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    holds(last == 0 && old_hash == *old_root && new_hash == *new_root)
}
