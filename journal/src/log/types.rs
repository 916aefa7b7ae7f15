//! What the log layer gives and takes: positions, records, options. No behaviour beyond names and order.

use crate::event::PayloadAt;
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use bincode::{Decode, Encode};
use bytes::Bytes;
use std::fmt;

/// One of the two streams of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// What to do: files `00000001.seg`.
    Redo,
    /// How to take it back: files `00000001.undo`.
    Undo,
}

impl Stream {
    /// Both, in the order of the manifest.
    pub const ALL: [Stream; 2] = [Stream::Redo, Stream::Undo];

    /// Ending of the names of its segment files.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Stream::Redo => "seg",
            Stream::Undo => "undo",
        }
    }

    /// Name of the file of segment `number`: at least eight decimal digits, a dot, the suffix.
    #[must_use]
    pub fn file_name(self, number: u64) -> String {
        format!("{number:08}.{}", self.suffix())
    }

    /// Inverse of [`Stream::file_name`]; `None` for a name that is not exactly that of a segment.
    #[must_use]
    pub fn parse_file_name(name: &str) -> Option<(Stream, u64)> {
        let (digits, suffix) = name.split_once('.')?;
        let stream = Stream::ALL.into_iter().find(|stream| stream.suffix() == suffix)?;
        let number = digits.parse::<u64>().ok()?;
        (stream.file_name(number) == name).then_some((stream, number))
    }
}

/// A place in one stream. The order of places is the order in which records were appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct RecordAt {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Offset of the frame in the segment file, in bytes.
    pub offset: u64,
}

impl fmt::Display for RecordAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// A record to be appended. What `kind`, `version`, `head` and the payloads mean is the owner's business.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordDraft {
    /// What it is.
    pub kind: u8,
    /// Version of the layout of its head.
    pub version: u8,
    /// Its place in history, where it has one.
    pub lsn: Option<Lsn>,
    /// When it happened.
    pub time: Timestamp,
    /// Read by whoever scans the log; at most [`crate::log::HEAD_BYTES_MAX`] bytes.
    pub head: Vec<u8>,
    /// Read one by one, on demand; together at most [`crate::log::PAYLOAD_BYTES_MAX`] bytes.
    pub payloads: Vec<Bytes>,
}

impl RecordDraft {
    /// Bytes of head and payloads together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payloads.iter().map(Bytes::len).fold(self.head.len(), usize::saturating_add)
    }
}

/// Where a draft went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The record.
    pub at: RecordAt,
    /// Its payloads, in the order of the draft.
    pub payloads: Vec<PayloadAt>,
}

/// A committed record as it is read back; its payloads only by place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// As in the draft.
    pub kind: u8,
    /// As in the draft.
    pub version: u8,
    /// As in the draft.
    pub lsn: Option<Lsn>,
    /// As in the draft.
    pub time: Timestamp,
    /// Where it is.
    pub at: RecordAt,
    /// Where to read on behind it.
    pub next: RecordAt,
    /// As in the draft.
    pub head: Bytes,
    /// Where the payloads of the draft are, in its order.
    pub payloads: Vec<PayloadAt>,
}

/// What is known of a segment without reading it. "First" and "last" of LSNs and times mean least and greatest:
/// records of a local branch may stand behind later captures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Whether it is complete: it has a footer and is never written again.
    pub sealed: bool,
    /// Length of the file, for the live segment that of its committed part.
    pub bytes: u64,
    /// Bytes that thinning has given up of it.
    pub thinned: u64,
    /// Whether points were given up with it.
    pub is_thinned: bool,
    /// Committed records in it.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Least LSN in it, if any record has one.
    pub lsn_first: Option<Lsn>,
    /// Greatest LSN in it.
    pub lsn_last: Option<Lsn>,
    /// Least time in it, if there are records.
    pub time_first: Option<Timestamp>,
    /// Greatest time in it.
    pub time_last: Option<Timestamp>,
}

/// How a journal is opened.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A segment is sealed by the first commit that leaves it this long (bytes). It may be longer by one batch.
    pub segment_bytes_max: u64,
    /// Bytes that are gathered in memory before they are written to the segment.
    pub buffer_bytes: usize,
    /// The redo stream was acknowledged as durable up to here by somebody who remembers it: less on disk is damage.
    pub durable_hint: Option<RecordAt>,
    /// The same for the undo stream.
    pub undo_durable_hint: Option<RecordAt>,
    /// Identity a new journal gets; random if `None`. Without effect on one that exists.
    pub identity: Option<super::Identity>,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            segment_bytes_max: 64 << 20,
            buffer_bytes: 1 << 20,
            durable_hint: None,
            undo_durable_hint: None,
            identity: None,
        }
    }
}
