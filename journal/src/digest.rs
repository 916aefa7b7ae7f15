//! Digests of a tree: two sides that keep one each find out by 32 bytes whether they mean the same tree.
//!
//! A digest is a multiset hash: the sum, modulo 2^64 in each of four lanes, of the BLAKE3 hash of every entry of the
//! tree. There is one entry for each name (directory, name, node) and one for each node (kind, size, mode, owner,
//! modification time, extended attributes). Taking an entry away is a subtraction, so a change costs what it touches,
//! in any order, and never the size of the tree.
//!
//! What is in no entry: the change time, which cannot be set on a replica; times of access; inode numbers; and bytes.
//! Of bytes the replica keeps no hashes (ARCHITECTURE.md, decision 1); the size and the modification time stand here,
//! a write says what it replaces, and the scrub reads the bytes themselves. A name or node of the kept area is no part
//! of the tree and has no entry.
//!
//! It tells mistakes from the truth, not forgeries: whoever may choose names freely and computes for long enough can
//! make two trees of one sum. Such a master could as well send a false tree.

use crate::id::{Edge, NodeId};
use crate::meta::{Kind, Timestamp, Xattrs};

/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// The sum of the hashes of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest([u64; 4]);

/// What of a node is in a digest. Two sides that know a node must say this alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFacts {
    /// [`kind_hash`] of its kind.
    pub kind: [u8; 16],
    /// Length in bytes; 0 for all but regular files.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// [`xattrs_hash`] of its extended attributes.
    pub xattrs: [u8; 16],
}

impl Digest {
    /// From what [`Digest::to_bytes`] gave.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; DIGEST_BYTES]) -> Self {
        let mut lanes = [0; 4];
        for (lane, bytes) in lanes.iter_mut().zip(bytes.chunks_exact(8)) {
            *lane = bytes.try_into().map_or(0, u64::from_le_bytes);
        }
        Digest(lanes)
    }

    /// 32 bytes, each lane little-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; DIGEST_BYTES] {
        let mut bytes = [0; DIGEST_BYTES];
        for (bytes, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            bytes.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }

    /// The digest with these entries too.
    #[must_use]
    pub fn plus(self, other: Digest) -> Self {
        let mut lanes = self.0;
        for (lane, other) in lanes.iter_mut().zip(other.0) {
            *lane = lane.wrapping_add(other);
        }
        Digest(lanes)
    }

    /// The digest without these entries.
    #[must_use]
    pub fn minus(self, other: Digest) -> Self {
        let mut lanes = self.0;
        for (lane, other) in lanes.iter_mut().zip(other.0) {
            *lane = lane.wrapping_sub(other);
        }
        Digest(lanes)
    }

    /// The entry of a name.
    #[must_use]
    pub fn of_name(edge: &Edge, node: NodeId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"name");
        hasher.update(&edge.parent.to_key());
        hasher.update(&node.to_key());
        hasher.update(edge.name.as_bytes());
        Digest::from_bytes(hasher.finalize().as_bytes())
    }

    /// The entry of a node.
    #[must_use]
    pub fn of_node(node: NodeId, facts: &NodeFacts) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"node");
        hasher.update(&node.to_key());
        hasher.update(&facts.kind);
        hasher.update(&facts.size.to_le_bytes());
        hasher.update(&facts.mode.to_le_bytes());
        hasher.update(&facts.uid.to_le_bytes());
        hasher.update(&facts.gid.to_le_bytes());
        hasher.update(&facts.mtime.0.to_le_bytes());
        hasher.update(&facts.xattrs);
        Digest::from_bytes(hasher.finalize().as_bytes())
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn short(hasher: &blake3::Hasher) -> [u8; 16] {
    hasher.finalize().as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Stands for a kind with what defines it: the target of a link, the number of a device.
#[must_use]
pub fn kind_hash(kind: &Kind) -> [u8; 16] {
    let (tag, more): (u8, &[u8]) = match kind {
        Kind::File => (0, &[]),
        Kind::Directory => (1, &[]),
        Kind::Symlink(target) => (2, target),
        Kind::Fifo => (3, &[]),
        Kind::Socket => (4, &[]),
        Kind::CharDevice(number) => (5, &number.to_le_bytes()),
        Kind::BlockDevice(number) => (6, &number.to_le_bytes()),
    };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[tag]);
    hasher.update(more);
    short(&hasher)
}

/// Stands for a set of extended attributes; zeros for none.
#[must_use]
pub fn xattrs_hash(set: &Xattrs) -> [u8; 16] {
    if set.is_empty() {
        return [0; 16];
    }
    let mut hasher = blake3::Hasher::new();
    for (name, value) in set {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value);
    }
    short(&hasher)
}

#[cfg(test)]
mod tests;
