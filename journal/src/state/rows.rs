//! Keys and rows of the tables.
//!
//! Keys are built so that byte order is the order in which they are read: ids and LSNs big-endian, names ended by a
//! zero byte (no name holds one) where something follows. Values are bincode bodies. All of it is a projection, so a
//! change of any row raises [`TABLES_VERSION`] and the tables are rebuilt.

use crate::error::JournalError;
use crate::event::{Class, Provenance};
use crate::id::{Edge, Name, NodeId, Origin, RootNo};
use crate::lsn::Lsn;
use crate::meta::{Meta, Timestamp};
use crate::record::{DataUndo, decode, encode};
use crate::tables::{Put, Space};
use bincode::{Decode, Encode};

/// Version of all rows; other tables are deleted and rebuilt.
pub const TABLES_VERSION: u32 = 6;

/// Bytes of a file that share one range of keys in [`Space::DataUndo`].
pub const CHUNK_BYTES: u64 = 64 << 10;

/// A node as applied last.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct NodeRow {
    /// Everything but names and bytes.
    pub meta: Meta,
    /// Inode on the replica, 0 until it is created there.
    pub inode: u64,
    /// The master's inode.
    pub origin: Option<Origin>,
    /// Set while it is in the kept area: the LSN that removed it, captured and local half.
    pub kept_since: Option<(u64, u64)>,
    /// False if its bytes were lost with a crash of the first synchronization and must be sent again.
    pub content_known: bool,
    /// If they were: how many of the first bytes are known.
    pub known_bytes: u64,
    /// The greatest size it ever had, for regular files.
    pub longest: u64,
}

impl NodeRow {
    /// Bytes from here on are not those of the master.
    pub fn lose(&mut self, from: u64) {
        self.known_bytes = if self.content_known { from } else { self.known_bytes.min(from) };
        self.content_known = false;
    }

    /// These bytes are those of the master. What was lost is sent again from the beginning to the end, so it is enough
    /// to know how far that has come.
    pub fn learn(&mut self, range: &std::ops::Range<u64>) {
        if range.start <= self.known_bytes {
            self.known_bytes = self.known_bytes.max(range.end);
        }
    }

    /// Takes note of the size the file has after a change of its bytes.
    pub fn resize(&mut self, size: u64) {
        self.meta.size = size;
        self.longest = self.longest.max(size);
        if self.content_known || self.known_bytes >= size {
            (self.content_known, self.known_bytes) = (true, 0);
        }
    }
}

/// What a capture touched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Change {
    /// A name.
    Name(Edge),
    /// Metadata of a node.
    Node(NodeId),
    /// Bytes of a file.
    Data(NodeId),
}

/// What kind of change a point is, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum PointKind {
    /// A node appeared.
    Created,
    /// Bytes of a file changed.
    Modified,
    /// A name changed.
    Renamed,
    /// A node went.
    Removed,
    /// Owner, mode, times or extended attributes changed.
    Attributes,
    /// Barrier, gap, synchronization.
    Marker,
}

/// What a person sees of a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PointRow {
    /// The master's clock.
    pub time: Timestamp,
    /// Kind of change.
    pub kind: PointKind,
    /// Root.
    pub root: RootNo,
    /// Path below the root; of a marker, what it says.
    pub path: Vec<u8>,
    /// Old path of a rename, where it was looked up (`restore::points::old_path`); rows are kept without it.
    pub from: Option<Vec<u8>>,
    /// Bytes written.
    pub bytes: u64,
    /// How it was seen.
    pub provenance: Provenance,
    /// How consistent it is.
    pub class: Class,
}

/// Decodes a row.
///
/// # Errors
/// `BadRow`: the projection must be rebuilt.
pub fn read<T: Decode<()>>(space: Space, bytes: &[u8]) -> Result<T, JournalError> {
    decode(bytes).map_err(|_| JournalError::BadRow { space: space.name() })
}

/// Encodes a row.
#[must_use]
pub fn write<T: Encode>(row: &T) -> Vec<u8> {
    encode(row)
}

/// Key in [`Space::Names`].
#[must_use]
pub fn name_key(edge: &Edge) -> Vec<u8> {
    [&edge.parent.to_key(), edge.name.as_bytes()].concat()
}

/// The name in a key of [`Space::Names`].
///
/// # Errors
/// `BadRow` if the key is none.
pub fn edge_of_name_key(key: &[u8]) -> Result<Edge, JournalError> {
    let bad = JournalError::BadRow { space: Space::Names.name() };
    let edge = key
        .split_at_checked(8)
        .and_then(|(parent, name)| Some(Edge { parent: NodeId::from_key(parent)?, name: Name::new(name)? }));
    edge.ok_or(bad)
}

/// Key in [`Space::Links`] of a name beside the one in the node's own row.
#[must_use]
pub fn link_key(node: NodeId, edge: &Edge) -> Vec<u8> {
    [&node.to_key()[..], &edge.parent.to_key(), edge.name.as_bytes()].concat()
}

/// Value in [`Space::Links`] at the key of the node: one of its names, and whether it has others.
#[must_use]
pub fn link_row(edge: &Edge, more: bool) -> Vec<u8> {
    [&[u8::from(more)], &edge.parent.to_key()[..], edge.name.as_bytes()].concat()
}

/// What [`link_row`] wrote.
///
/// # Errors
/// `BadRow` if it did not.
pub fn parse_link_row(row: &[u8]) -> Result<(Edge, bool), JournalError> {
    let (more, edge) = row.split_first().ok_or(JournalError::BadRow { space: Space::Links.name() })?;
    Ok((edge_of_name_key(edge)?, *more != 0))
}

/// Key in [`Space::NameUndo`].
#[must_use]
pub fn name_undo_key(edge: &Edge, lsn: Lsn) -> Vec<u8> {
    [&edge.parent.to_key()[..], edge.name.as_bytes(), &[0], &lsn.to_key()].concat()
}

/// Name and LSN of a key in [`Space::NameUndo`].
///
/// # Errors
/// `BadRow` if the key is none.
pub fn parse_name_undo_key(key: &[u8]) -> Result<(Edge, Lsn), JournalError> {
    let parse = || {
        let (parent, rest) = key.split_at_checked(8)?;
        let (name, tail) = rest.split_at_checked(rest.len().checked_sub(17)?)?;
        let edge = Edge { parent: NodeId::from_key(parent)?, name: Name::new(name)? };
        Some((edge, Lsn::from_key(tail.get(1..)?)?))
    };
    parse().ok_or(JournalError::BadRow { space: Space::NameUndo.name() })
}

/// Key in [`Space::NodeUndo`].
#[must_use]
pub fn node_undo_key(node: NodeId, lsn: Lsn) -> Vec<u8> {
    [&node.to_key()[..], &lsn.to_key()].concat()
}

/// Prefix of keys in [`Space::DataUndo`] for a chunk of a file.
#[must_use]
pub fn data_chunk_key(node: NodeId, chunk: u64) -> Vec<u8> {
    [node.to_key(), chunk.to_be_bytes()].concat()
}

/// Key in [`Space::DataUndo`] from which undo of a chunk after `lsn` is read.
#[must_use]
pub fn data_undo_key(node: NodeId, chunk: u64, lsn: Lsn, within: u32) -> Vec<u8> {
    [&data_chunk_key(node, chunk)[..], &lsn.to_key(), &within.to_be_bytes()].concat()
}

/// Node, chunk, LSN and offset within the chunk of a key in [`Space::DataUndo`].
///
/// # Errors
/// `BadRow` if the key is none.
pub fn parse_data_undo_key(key: &[u8]) -> Result<(NodeId, u64, Lsn, u32), JournalError> {
    let parse = || {
        let node = NodeId::from_key(key.get(..8)?)?;
        let chunk = u64::from_be_bytes(key.get(8..16)?.try_into().ok()?);
        let lsn = Lsn::from_key(key.get(16..32)?)?;
        let within = u32::from_be_bytes(key.get(32..)?.try_into().ok()?);
        Some((node, chunk, lsn, within))
    };
    parse().ok_or(JournalError::BadRow { space: Space::DataUndo.name() })
}

/// Rows of [`Space::DataUndo`] for one extent: one for each chunk it touches, keyed by where it begins in it.
#[must_use]
pub fn data_undo_puts(lsn: Lsn, data: &DataUndo) -> Vec<Put> {
    let mut puts = Vec::new();
    let end = data.offset.saturating_add(u64::from(data.bytes));
    let mut at = data.offset;
    while at < end {
        let chunk = at / CHUNK_BYTES;
        let piece_end = end.min((chunk + 1).saturating_mul(CHUNK_BYTES));
        let moved = (at - data.offset) as u32;
        let source = data.source.further(moved);
        let key = data_undo_key(data.node, chunk, lsn, (at % CHUNK_BYTES) as u32);
        puts.push((Space::DataUndo, key, Some(write(&((piece_end - at) as u32, source)))));
        at = piece_end;
    }
    puts
}

/// Key in [`Space::Changes`].
#[must_use]
pub fn change_key(lsn: Lsn, number: u32) -> Vec<u8> {
    [&lsn.to_key()[..], &number.to_be_bytes()].concat()
}
