//! RFC 6962 Merkle tree hashing, inclusion and consistency proofs.
