//! Rows of the index and their bytes.

use super::super::CaptureError;
use super::super::look::{Look, Sort};
use bincode::{Decode, Encode};
use journal::digest::{NodeFacts, kind_hash};
use journal::{Attributes, Kind, Origin, RootNo, SkippedWhat, Timestamp};

/// What the index knows of a node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(in super::super) struct Row {
    pub root: RootNo,
    pub origin: Origin,
    /// [`Sort::code`].
    sort: u8,
    /// Stands for the kind, the target of a link or the number of a device included.
    pub kind: [u8; 16],
    /// Length in bytes as the stream has it.
    pub size: u64,
    pub attributes: Attributes,
    /// Stands for the extended attributes.
    pub xattrs: [u8; 16],
    /// Block size as a power of two; 0: no hashes are known.
    pub block_bits: u8,
    flags: u8,
}

/// The bytes of the stream may not be those of the master: read the file whatever its times say.
const CONTENT_UNKNOWN: u8 = 1;
/// It was read so soon after it was changed that a further change may not show in its times.
const RACY: u8 = 2;

impl Row {
    pub(in super::super) fn new(root: RootNo, origin: Origin, look: &Look, kind: &Kind) -> Self {
        Row {
            root,
            origin,
            sort: look.sort.code(),
            kind: kind_hash(kind),
            size: 0,
            attributes: look.attributes,
            xattrs: [0; 16],
            block_bits: 0,
            flags: 0,
        }
    }

    pub(in super::super) fn sort(&self) -> Sort {
        Sort::from_code(self.sort).unwrap_or(Sort::Socket)
    }

    fn set(&mut self, flag: u8, on: bool) {
        if on {
            self.flags |= flag;
        } else {
            self.flags &= !flag;
        }
    }

    pub(in super::super) fn content_unknown(&self) -> bool {
        self.flags & CONTENT_UNKNOWN != 0
    }

    pub(in super::super) fn set_content_unknown(&mut self, on: bool) {
        self.set(CONTENT_UNKNOWN, on);
    }

    /// Whether the stream never had the master's change time: the node was adopted.
    pub(in super::super) fn ctime_unknown(&self) -> bool {
        self.attributes.ctime == Timestamp(0)
    }

    pub(in super::super) fn racy(&self) -> bool {
        self.flags & RACY != 0
    }

    /// Whether a write since the last look must have moved the change time.
    pub(in super::super) fn is_dated(&self) -> bool {
        !self.racy() && !self.ctime_unknown()
    }

    pub(in super::super) fn set_racy(&mut self, on: bool) {
        self.set(RACY, on);
    }

    /// Whether a look shows nothing that the stream does not say. Directories change their ctime with every entry.
    pub(in super::super) fn same_as(&self, look: &Look) -> bool {
        let (a, b) = (&self.attributes, &look.attributes);
        self.sort() == look.sort
            && self.size == look.size
            && (a.mode, a.uid, a.gid, a.mtime) == (b.mode, b.uid, b.gid, b.mtime)
            && a.ctime == b.ctime
    }

    /// What of it is in a digest; `None` if no stream has said anything of it yet.
    pub(in super::super) fn facts(&self) -> Option<NodeFacts> {
        let Attributes { mode, uid, gid, mtime, .. } = self.attributes;
        let size = if self.sort() == Sort::File { self.size } else { 0 };
        (mode != u32::MAX).then_some(NodeFacts {
            kind: self.kind,
            size,
            mode,
            uid,
            gid,
            mtime,
            xattrs: self.xattrs,
        })
    }

    pub(in super::super) fn encode(&self) -> Result<Vec<u8>, CaptureError> {
        bincode::encode_to_vec(self, bincode::config::standard())
            .map_err(|_| CaptureError::BadRow { space: "nodes" })
    }

    pub(in super::super) fn decode(bytes: &[u8]) -> Result<Self, CaptureError> {
        let limited = bincode::config::standard().with_limit::<4096>();
        match bincode::decode_from_slice::<Row, _>(bytes, limited) {
            Ok((row, length)) if length == bytes.len() && Sort::from_code(row.sort).is_some() => Ok(row),
            _ => Err(CaptureError::BadRow { space: "nodes" }),
        }
    }
}

/// What of a name is missing in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(in super::super) struct SkipRow {
    pub root: RootNo,
    pub what: SkippedWhat,
    pub errno: i32,
    /// The path that was reported.
    pub path: Vec<u8>,
}

impl SkipRow {
    pub(super) fn encode(&self) -> Result<Vec<u8>, CaptureError> {
        bincode::encode_to_vec(self, bincode::config::standard())
            .map_err(|_| CaptureError::BadRow { space: "skips" })
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CaptureError> {
        let limited = bincode::config::standard().with_limit::<{ 1 << 20 }>();
        match bincode::decode_from_slice::<SkipRow, _>(bytes, limited) {
            Ok((row, length)) if length == bytes.len() => Ok(row),
            _ => Err(CaptureError::BadRow { space: "skips" }),
        }
    }
}
