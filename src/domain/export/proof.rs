//! Proofs that stand on their own: one event is in the log; one checkpoint grew out of another.

use serde::{Deserialize, Serialize};

use crate::domain::{
    checkpoint::{Checkpoint, CheckpointError, VerifierKey},
    merkle::{Hash, MerkleError, leaf_hash, verify_consistency, verify_inclusion},
};

/// That one event is in the log, for anybody who has the log's verifier key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The event's index in the log, from 0.
    pub index: u64,
    /// The exact bytes that were hashed.
    pub leaf: String,
    /// Size of the log that the path is for; that of the checkpoint.
    pub size: u64,
    /// From the leaf to the root: RFC 6962 §2.1.1.
    pub path: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
    /// The key that signed it, for convenience; it proves nothing unless it is known from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_key: Option<VerifierKey>,
}

/// That the log at `new` begins with the log at `old`: nothing in between was rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// The earlier signed note.
    pub old: String,
    /// The later signed note.
    pub new: String,
    /// RFC 6962 §2.1.2.
    pub path: Vec<Hash>,
    /// The key that signed both, for convenience; it proves nothing unless it is known from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verifier_key: Option<VerifierKey>,
}

/// Why a proof does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The note is not signed as it must be.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The hashes do not lead to the signed root.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// The proof speaks of another size than its checkpoint.
    #[error("the proof is for a log of {proof} events and its checkpoint for {checkpoint}")]
    Size {
        /// What the proof says.
        proof: u64,
        /// What is signed.
        checkpoint: u64,
    },
    /// The notes are of two logs.
    #[error("the checkpoints are of two logs, `{0}` and `{1}`")]
    Origins(String, String),
}

/// Does the proof hold under one of these keys? Gives the checkpoint that it leads to.
pub fn verify_proof(proof: &Proof, keys: &[VerifierKey]) -> Result<Checkpoint, ProofError> {
    let (checkpoint, _) = Checkpoint::open(&proof.checkpoint, keys)?;
    if checkpoint.size != proof.size {
        return Err(ProofError::Size { proof: proof.size, checkpoint: checkpoint.size });
    }
    let leaf = leaf_hash(proof.leaf.as_bytes());
    verify_inclusion(&leaf, proof.index, proof.size, &proof.path, &checkpoint.root)?;
    Ok(checkpoint)
}

/// Did the log only grow between the two checkpoints? Gives both.
pub fn verify_growth(growth: &Growth, keys: &[VerifierKey]) -> Result<(Checkpoint, Checkpoint), ProofError> {
    let (old, _) = Checkpoint::open(&growth.old, keys)?;
    let (new, _) = Checkpoint::open(&growth.new, keys)?;
    if old.origin != new.origin {
        return Err(ProofError::Origins(old.origin, new.origin));
    }
    verify_consistency((old.size, &old.root), (new.size, &new.root), &growth.path)?;
    Ok((old, new))
}
