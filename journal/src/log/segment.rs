//! Header and footer of a segment file, and the index by LSN that ends up in the footer.

use super::codec::{Put, Take};
use super::frame::{Chain, FrameKey, shorten};
use super::manifest::Identity;
use super::types::Stream;
use crate::lsn::Lsn;
use crate::meta::Timestamp;

/// First bytes of a segment file.
const SEGMENT_MAGIC: [u8; 8] = *b"REWINDSG";
/// Version of segments and frames this program writes, and the newest it reads. It reads all older ones, and goes on
/// writing a segment in the version it was begun in.
pub(super) const FORMAT_VERSION: u32 = 2;
/// The first version whose payloads may be packed.
const PACKING_VERSION: u32 = 2;
/// Length of a segment header; the first frame follows it.
pub(super) const SEGMENT_HEADER_BYTES: usize = 128;
/// The first frame of a segment.
pub(super) const FIRST_FRAME: u64 = SEGMENT_HEADER_BYTES as u64;
/// A new entry of the index begins when the last one began this many bytes ago.
const INDEX_SPACING_BYTES: u64 = 256 << 10;
/// Most entries of an index that is read.
const INDEX_ENTRIES_MAX: u32 = 1 << 18;

/// Number of a stream in files.
pub(super) const fn stream_code(stream: Stream) -> u8 {
    match stream {
        Stream::Redo => 1,
        Stream::Undo => 2,
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Version of its frames.
    pub(super) version: u32,
    pub(super) stream: Stream,
    pub(super) identity: Identity,
    pub(super) number: u64,
    pub(super) created: Timestamp,
    /// Value of the hash chain at the end of the segment before; zeros in the first one of a stream.
    pub(super) previous: Chain,
}

/// Why a segment header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged(&'static str),
    Newer(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        out.put(&SEGMENT_MAGIC);
        out.put_u32(self.version);
        out.put_u8(stream_code(self.stream));
        out.put(&[0; 3]);
        out.put(&self.identity.0);
        out.put_u64(self.number);
        out.put_i64(self.created.0);
        out.put(&self.previous);
        out.resize(SEGMENT_HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.put_u32(crc);
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, HeaderFault> {
        let (checked, crc) = bytes.split_at(SEGMENT_HEADER_BYTES - 4);
        if !checked.starts_with(&SEGMENT_MAGIC) {
            return Err(HeaderFault::Damaged("this is no segment file"));
        }
        if Take(crc).u32() != Some(crc32c::crc32c(checked)) {
            return Err(HeaderFault::Damaged("the segment header does not match its checksum"));
        }
        let mut take = Take(checked);
        let malformed = HeaderFault::Damaged("the segment header is malformed");
        let version = take.bytes(SEGMENT_MAGIC.len()).and_then(|_| take.u32()).ok_or(malformed)?;
        if version > FORMAT_VERSION {
            return Err(HeaderFault::Newer(version));
        }
        Self::fields(version, &mut take).filter(|_| version > 0).ok_or(malformed)
    }

    fn fields(version: u32, take: &mut Take<'_>) -> Option<Self> {
        let code = take.u8()?;
        let stream = Stream::ALL.into_iter().find(|stream| stream_code(*stream) == code)?;
        let padding = take.array::<3>()?;
        let identity = Identity(take.array()?);
        let (number, created, previous) = (take.u64()?, Timestamp(take.i64()?), take.array()?);
        let rest_is_zero = padding.iter().chain(take.0).all(|byte| *byte == 0);
        rest_is_zero.then_some(SegmentHeader { version, stream, identity, number, created, previous })
    }

    /// Value of the hash chain in front of the first frame.
    pub(super) fn chain(&self) -> Chain {
        shorten(&blake3::hash(&self.encode()))
    }

    pub(super) fn key(&self) -> FrameKey {
        FrameKey::new(&self.identity, self.stream, self.number, self.version >= PACKING_VERSION)
    }
}

/// Least and greatest.
pub(super) type Range<T> = Option<(T, T)>;

fn widen<T: Ord + Copy>(range: &mut Range<T>, with: Range<T>) {
    *range = match (*range, with) {
        (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
        (None, other) | (other, None) => other,
    };
}

/// Counts and extremes over records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) records: u64,
    /// Of payloads as they were given, not as they are stored.
    pub(super) payload_bytes: u64,
    pub(super) lsns: Range<Lsn>,
    pub(super) times: Range<Timestamp>,
}

/// Length of an encoded summary.
pub(super) const SUMMARY_BYTES: usize = 72;

impl Summary {
    pub(super) fn note(&mut self, lsn: Option<Lsn>, time: Timestamp, payload_bytes: u64) {
        let lsns = lsn.map(|lsn| (lsn, lsn));
        self.merge(&Summary { records: 1, payload_bytes, lsns, times: Some((time, time)) });
    }

    pub(super) fn merge(&mut self, other: &Summary) {
        self.records += other.records;
        self.payload_bytes += other.payload_bytes;
        widen(&mut self.lsns, other.lsns);
        widen(&mut self.times, other.times);
    }

    /// [`SUMMARY_BYTES`] bytes; whether there are times follows from the number of records.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.records);
        out.put_u64(self.payload_bytes);
        let (first, last) = self.times.unwrap_or_default();
        out.put_i64(first.0);
        out.put_i64(last.0);
        encode_lsns(self.lsns, out);
    }

    pub(super) fn decode(take: &mut Take<'_>) -> Option<Self> {
        let (records, payload_bytes) = (take.u64()?, take.u64()?);
        let times = (Timestamp(take.i64()?), Timestamp(take.i64()?));
        let lsns = decode_lsns(take)?;
        Some(Summary { records, payload_bytes, lsns, times: (records > 0).then_some(times) })
    }
}

/// Forty bytes: whether there are any (as eight bytes, to keep alignment), least, greatest.
fn encode_lsns(lsns: Range<Lsn>, out: &mut Vec<u8>) {
    let (first, last) = lsns.unwrap_or_default();
    out.put_u64(u64::from(lsns.is_some()));
    out.put_lsn(first);
    out.put_lsn(last);
}

fn decode_lsns(take: &mut Take<'_>) -> Option<Range<Lsn>> {
    let some = take.u64()?;
    let lsns = (take.lsn()?, take.lsn()?);
    match some {
        0 => Some(None),
        1 => Some(Some(lsns)),
        _ => None,
    }
}

/// Which LSNs stand in which stretch of a segment: one entry for each [`INDEX_SPACING_BYTES`] or so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    entries: Vec<IndexEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IndexEntry {
    /// First record of the stretch.
    offset: u64,
    lsns: Range<Lsn>,
}

impl SegmentIndex {
    /// Takes note of a record; offsets only grow.
    pub(super) fn note(&mut self, offset: u64, lsn: Option<Lsn>) {
        let lsns = lsn.map(|lsn| (lsn, lsn));
        match self.entries.last_mut() {
            Some(last) if offset < last.offset + INDEX_SPACING_BYTES => widen(&mut last.lsns, lsns),
            _ => self.entries.push(IndexEntry { offset, lsns }),
        }
    }

    /// Offset of a record at or in front of the first one whose LSN is `lsn` or greater; `None` if none is.
    pub(super) fn find(&self, lsn: Lsn) -> Option<u64> {
        let reaches = |entry: &&IndexEntry| entry.lsns.is_some_and(|(_, greatest)| greatest >= lsn);
        self.entries.iter().find(reaches).map(|entry| entry.offset)
    }
}

/// Head of a footer frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) summary: Summary,
    pub(super) index: SegmentIndex,
}

impl Footer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.summary.encode(&mut out);
        out.put_u64(self.index.entries.len() as u64);
        for entry in &self.index.entries {
            out.put_u64(entry.offset);
            encode_lsns(entry.lsns, &mut out);
        }
        out
    }

    /// `None` unless `bytes` is exactly one footer.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let summary = Summary::decode(&mut take)?;
        let count = take.u64()?;
        if count > u64::from(INDEX_ENTRIES_MAX) {
            return None;
        }
        let mut index = SegmentIndex::default();
        for _ in 0..count {
            index.entries.push(IndexEntry { offset: take.u64()?, lsns: decode_lsns(&mut take)? });
        }
        take.0.is_empty().then_some(Footer { summary, index })
    }
}

/// Head of a commit frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    /// Offset of the first frame of the batch; that of the commit frame itself if the batch is empty.
    pub(super) start: u64,
    /// Records in the batch.
    pub(super) records: u64,
}

impl Commit {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16);
        out.put_u64(self.start);
        out.put_u64(self.records);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let commit = Commit { start: take.u64()?, records: take.u64()? };
        take.0.is_empty().then_some(commit)
    }
}
