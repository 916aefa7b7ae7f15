//! Events: the vocabulary of the journal.
//!
//! A [`Capture`] is an atomic group: no view, point or cursor ever stops inside it. Its events are in a valid serial
//! order, each addressed by identity, never by path. Directories need not be attached while a capture is under way:
//! a node may be parked in the kept area of its root and placed later in the same capture, which is how swaps and
//! cycles of names are expressed.

use crate::digest::DIGEST_BYTES;
use crate::id::{Edge, NodeId, Origin, RootNo};
use crate::lsn::Lsn;
use crate::meta::{Attributes, Kind, Meta, Timestamp, Xattrs};
use bincode::{Decode, Encode};
use bytes::Bytes;

/// How a change was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Provenance {
    /// Owned write path: every write, in program order.
    Exact,
    /// Notified, then re-read and compared.
    Derived,
    /// Found by a rescan: when it happened is not known.
    Rescan,
    /// First synchronization: no rewind point exists yet, no undo is kept and payloads are not journaled.
    Synchronization,
    /// Done by the replica to its own tree: rewind, restore, return.
    Local,
}

/// How consistent a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Class {
    /// Anything else.
    Fuzzy,
    /// Exact capture, program order.
    Crash,
    /// The application was quiesced.
    Application,
}

/// First 16 bytes of the BLAKE3 hash of an extent's bytes.
pub type BlockHash = [u8; 16];

/// Bytes of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In memory; always what a new event carries. In a frame they follow the header.
    Inline(Bytes),
    /// In the journal, at this place of the redo log; read with `Journal::read_payload`.
    Stored(PayloadAt),
    /// Never journaled (first synchronization); only their hash and length are known here.
    External { hash: BlockHash, bytes: u32 },
    /// What an earlier change replaced, and a local change puts back: `skip` bytes into a payload of the undo log, which
    /// was durable before this was journaled. In memory `known` has them; read with `Journal::written`.
    Undone { at: PayloadAt, skip: u32, bytes: u32, known: Option<Bytes> },
}

impl Payload {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Payload::Inline(bytes) => bytes.len() as u64,
            Payload::Stored(at) => u64::from(at.bytes),
            Payload::External { bytes, .. } | Payload::Undone { bytes, .. } => u64::from(*bytes),
        }
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Place of payload bytes within one stream of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PayloadAt {
    /// Number of the segment.
    pub segment: u64,
    /// Offset of the first byte in the segment file.
    pub offset: u64,
    /// Length in bytes of the payload; in the segment there may be fewer.
    pub bytes: u32,
    /// CRC-32C of the payload.
    pub crc: u32,
    /// What lies in the segment, if it is packed.
    pub packed: Option<PackedAt>,
}

/// What lies in a segment in place of a payload that is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PackedAt {
    /// Length in bytes.
    pub bytes: u32,
    /// CRC-32C of these bytes.
    pub crc: u32,
}

impl PayloadAt {
    /// Bytes it takes in the segment.
    #[must_use]
    pub fn stored_bytes(&self) -> u32 {
        self.packed.map_or(self.bytes, |packed| packed.bytes)
    }

    /// CRC-32C of what lies in the segment.
    #[must_use]
    pub fn stored_crc(&self) -> u32 {
        self.packed.map_or(self.crc, |packed| packed.crc)
    }
}

/// One part of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new node under its first name. `meta.size` is 0 for files: writes and resizes follow.
    Create { node: NodeId, at: Edge, meta: Meta, origin: Option<Origin>, parent_mtime: Option<Timestamp> },
    /// One more name for a file.
    Link { node: NodeId, at: Edge, parent_mtime: Option<Timestamp> },
    /// The name is gone. The last name of a node, or a directory with all it holds, moves to the kept area.
    Remove { node: NodeId, at: Edge, parent_mtime: Option<Timestamp> },
    /// The node keeps everything but this name. `from` or `to` may lie in the kept area (parking, reviving).
    /// `to` is free: what it replaced was removed by an earlier event of the capture.
    Rename {
        node: NodeId,
        from: Edge,
        to: Edge,
        from_parent_mtime: Option<Timestamp>,
        to_parent_mtime: Option<Timestamp>,
    },
    /// Bytes of a file, at most [`WRITE_BYTES_MAX`] of them. Grows the file if they end behind its end.
    /// `before` is the hash of the bytes in the same range before (cut at the end of the file), where known.
    Write { node: NodeId, offset: u64, data: Payload, before: Option<BlockHash> },
    /// A range reads as zeros from now on and is a hole if the file system can. Does not change the size.
    Punch { node: NodeId, offset: u64, bytes: u64 },
    /// The file is cut or grown (with a hole) to this size.
    Resize { node: NodeId, size: u64 },
    /// Owner, permissions, times as they stand at the end of the capture.
    SetAttributes { node: NodeId, attributes: Attributes },
    /// The whole set of extended attributes.
    SetXattrs { node: NodeId, xattrs: Xattrs },
    /// Says something about the stream; changes no tree.
    Mark(Marker),
}

impl Event {
    /// Bytes of files that it carries.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Event::Write { data, .. } => data.len(),
            _ => 0,
        }
    }

    /// About what it takes in memory and in a record, in bytes: what it carries, its names, and some for itself.
    #[must_use]
    pub fn weight(&self) -> u64 {
        const ITSELF: u64 = 256;
        let xattrs = |xattrs: &Xattrs| -> u64 {
            xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64 + 64).sum()
        };
        let more = match self {
            Event::Create { meta, .. } => {
                let target = if let Kind::Symlink(target) = &meta.kind { target.len() as u64 } else { 0 };
                target + xattrs(&meta.xattrs)
            }
            Event::Write { data, .. } => data.len(),
            Event::SetXattrs { xattrs: all, .. } => xattrs(all),
            Event::Rename { from, to, .. } => (from.name.as_bytes().len() + to.name.as_bytes().len()) as u64,
            _ => 0,
        };
        ITSELF + more
    }
}

/// Longest payload of one write event.
pub const WRITE_BYTES_MAX: usize = 1 << 20;

/// What a marker says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Marker {
    /// Everything noticed on the master before it is in the stream before it.
    Barrier { cookie: u64, class: Class },
    /// The first synchronization, or a later one, begins.
    SynchronizationStarted { first: bool },
    /// "All modifications during synchronization are replicated": from here on every LSN is a rewind point.
    SynchronizationCompleted { files: u64, directories: u64, bytes: u64 },
    /// Capture may have missed something from here on, within the subtree (path relative to the root, empty: all).
    GapOpened { gap: u64, root: RootNo, path: Vec<u8>, cause: GapCause },
    /// The gap was rescanned; the tree is again as captured.
    GapClosed { gap: u64 },
    /// Something on the master could not be kept, and why (`errno`). Path relative to its root.
    Skipped { root: RootNo, path: Vec<u8>, what: SkippedWhat, errno: i32 },
    /// What was skipped before is kept again, or gone.
    Unskipped { root: RootNo, path: Vec<u8> },
    /// The digest of a root ([`crate::digest`]) as the stream has it up to here, behind a barrier.
    Digest { root: RootNo, digest: [u8; DIGEST_BYTES] },
}

/// Why capture may have missed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum GapCause {
    /// The kernel's queue overflowed.
    QueueOverflow,
    /// No more directories can be watched.
    WatchLimit,
    /// A watch was lost (moved, unmounted).
    WatchLost,
    /// The agent was not running.
    AgentDown,
    /// The spool reached its limit.
    SpoolFull,
    /// The scenario was stopped.
    Stopped,
}

impl std::fmt::Display for GapCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GapCause::QueueOverflow => "the kernel's queue of notifications overflowed",
            GapCause::WatchLimit => "no more directories can be watched",
            GapCause::WatchLost => "the root is not the directory it was",
            GapCause::AgentDown => "capture was not running",
            GapCause::SpoolFull => "the spool reached its limit",
            GapCause::Stopped => "the scenario was stopped",
        })
    }
}

impl SkippedWhat {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            SkippedWhat::Node => "node",
            SkippedWhat::Content => "content",
            SkippedWhat::Xattrs => "xattrs",
            SkippedWhat::MountPoint => "mount point",
        }
    }
}

/// In words, for people; programs look at the variant.
impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lossy = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        match self {
            Marker::Barrier { .. } => f.write_str("barrier"),
            Marker::SynchronizationStarted { first: true } => f.write_str("first synchronization started"),
            Marker::SynchronizationStarted { first: false } => f.write_str("synchronization started"),
            Marker::SynchronizationCompleted { .. } => {
                f.write_str("all modifications during synchronization are replicated")
            }
            Marker::GapOpened { gap, cause, .. } => write!(f, "gap {gap} opened: {cause}"),
            Marker::GapClosed { gap } => write!(f, "gap {gap} closed: everything was compared"),
            Marker::Skipped { path, what, errno, .. } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "skipped {} of {}: {error}", what.word(), lossy(path))
            }
            Marker::Unskipped { path, .. } => write!(f, "no longer skipped: {}", lossy(path)),
            Marker::Digest { root, .. } => write!(f, "digest of root {}", root.0),
        }
    }
}

/// What of a node was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum SkippedWhat {
    /// The node itself.
    Node,
    /// Its bytes.
    Content,
    /// Its extended attributes.
    Xattrs,
    /// What is mounted on it.
    MountPoint,
}

/// One reconciled change as seen on the master, or done by the replica: becomes one LSN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its place in history.
    pub lsn: Lsn,
    /// The master's clock when it was captured, non-decreasing over LSNs.
    pub time: Timestamp,
    /// How it was seen.
    pub provenance: Provenance,
    /// Root the change lies in.
    pub root: RootNo,
    /// For people and for search: path relative to the root of what changed; ids are what counts.
    pub path: Vec<u8>,
    /// Its events, in a valid serial order.
    pub events: Vec<Event>,
}
