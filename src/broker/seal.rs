//! Seal the audit log: add new events to the Merkle tree and sign its head.

use serde_json::json;

use super::{Broker, BrokerError};
use crate::{
    domain::{
        checkpoint::{Checkpoint as Head, VerifierKey},
        merkle::{Frontier, Hash, Node},
    },
    store::{Checkpoint, StoreError},
};

/// Signs tree heads; the key stays in its adapter.
pub trait CheckpointSigner: Send + Sync {
    /// The public half, under the log's origin.
    fn key(&self) -> &VerifierKey;

    /// The 64 bytes of an Ed25519 signature.
    fn sign(&self, message: &[u8]) -> Vec<u8>;
}

/// Events in one step; the next step follows at once.
const STEP: u64 = 4096;

impl Broker {
    /// Seal what is not sealed yet, at most one step; how many events that were.
    pub async fn seal(&self) -> Result<u64, BrokerError> {
        // Two nodes that sign heads of one log would contradict each other.
        if self.is_observing() {
            return Ok(0);
        }
        let size = self.store.audit_size().await?;
        let last = self.store.last_checkpoint().await?;
        let sealed = last.as_ref().map_or(0, |c| c.size);
        if size <= sealed {
            return Ok(0);
        }
        let broken = |what: &'static str| StoreError::Corrupt {
            table: "audit_checkpoints",
            id: sealed.to_string(),
            what: what.to_owned(),
        };
        let mut frontier = match &last {
            Some(checkpoint) => Frontier::from_bytes(&checkpoint.frontier).map_err(|_| broken("frontier"))?,
            None => Frontier::default(),
        };
        let count = (size - sealed).min(STEP);
        let mut nodes: Vec<Node> = Vec::new();
        for hash in self.store.audit_hashes(0, sealed, count).await? {
            nodes.extend(frontier.append(Hash::from_slice(&hash).ok_or_else(|| broken("leaf hash"))?));
        }
        if frontier.size() != sealed + count {
            return Err(broken("events are missing from the log").into());
        }
        let now = self.now();
        let key = self.checkpoints.key();
        let head = Head::new(key.name(), frontier.size(), frontier.root());
        let note = head
            .and_then(|h| h.sign(key, |text| Ok(self.checkpoints.sign(text))))
            .map_err(|e| crate::ports::signer::SignError(e.to_string()))?;
        let checkpoint = Checkpoint {
            size: frontier.size(),
            root: frontier.root().as_bytes().to_vec(),
            frontier: frontier.to_bytes(),
            note,
            at: now,
        };
        loop {
            let mut tx = self.store.begin_background().await?;
            let written = async {
                for node in &nodes {
                    tx.insert_audit_node(node.level, node.index, node.hash.as_bytes()).await?;
                }
                tx.insert_checkpoint(&checkpoint).await
            }
            .await;
            match tx.end(written).await {
                None => {}
                // Another broker sealed the same size: the same tree.
                Some(Ok(()) | Err(StoreError::Conflict)) => break,
                Some(Err(other)) => return Err(other.into()),
            }
        }
        metrics::gauge!("tidegate_audit_sealed_size").set(checkpoint.size as f64);
        tracing::debug!(size = checkpoint.size, details = %json!({"events": count}), "sealed");
        Ok(count)
    }
}
