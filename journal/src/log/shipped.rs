//! Segments of the redo stream away from their journal: raw bytes out, and checked records back in.
//!
//! [`Log::read_raw`] gives bytes of a segment in front of the committed end: durable, and never changed again. Whoever
//! keeps them elsewhere can lay them out as a file again and open it as a [`ShippedSegment`], which has no manifest to
//! lean on: the journal's id and the number of the segment are given, the header must be theirs, every frame must match
//! its checksums and the hash chain, batches must add up, and the file must end exactly behind a commit or the footer.
//! That the bytes are the right ones, and all of them, follows from the chain alone: each segment begins with the value
//! at which the one before ended.

use super::frame::{Chain, FrameType};
use super::manifest::Identity;
use super::pack::Packer;
use super::recover::{Expected, Walk, open_named, read_header};
use super::scan::{Scanner, Step};
use super::segment::FIRST_FRAME;
use super::stream::Log;
use super::types::{RecordAt, StoredRecord, Stream};
use crate::disk::{Disk, DiskFile};
use crate::error::JournalError;
use crate::event::PayloadAt;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

impl Log {
    /// `bytes` bytes of a segment from `offset` on, as they lie in the file. All of them must be in front of what
    /// [`Log::segments`] says of the segment.
    ///
    /// # Errors
    /// `NotFound` if the segment does not count any more; `Damaged` if it does not reach that far; `File`.
    pub fn read_raw(&self, segment: u64, offset: u64, bytes: usize) -> Result<Vec<u8>, JournalError> {
        let inner = self.inner();
        let (file, limit) = inner.file(segment)?;
        let limit = inner.live(|live| if live.number == segment { live.end } else { limit });
        let beyond =
            || JournalError::Damaged { path: inner.path(segment), offset, what: "the segment ends earlier" };
        if offset.checked_add(bytes as u64).is_none_or(|end| end > limit) {
            return Err(beyond());
        }
        let mut buffer = vec![0; bytes];
        let read = file.read_at(&mut buffer, offset).map_err(inner.failed("read", segment))?;
        if read == bytes { Ok(buffer) } else { Err(beyond()) }
    }
}

/// A segment of a redo stream that was kept elsewhere.
pub struct ShippedSegment {
    expected: Expected,
    file: Arc<dyn DiskFile>,
    limit: u64,
    scanner: Scanner,
    walk: Walk,
    ended: bool,
    packer: Packer,
}

impl ShippedSegment {
    /// Opens the file of segment `number` of the journal `journal`, whole or cut behind a commit. `previous` is what
    /// [`ShippedSegment::chain`] said at the end of the segment before, if that was read.
    ///
    /// # Errors
    /// `Damaged` if it is another segment, or does not follow; `NewerVersion`; `File`.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        journal: [u8; 16],
        number: u64,
        previous: Option<[u8; 16]>,
    ) -> Result<Self, JournalError> {
        let (path, identity) = (path.to_owned(), Identity(journal));
        let expected = Expected { path, identity, stream: Stream::Redo, number, previous };
        let file = open_named(disk, &expected.path)?;
        let limit = file.len().map_err(|source| expected.unreadable(source))?;
        let header = read_header(&*file, &expected)?;
        let at = RecordAt { segment: number, offset: FIRST_FRAME };
        let mut scanner = Scanner::new(file.clone(), header.key(), at, limit);
        scanner.chain = Some(header.chain());
        let walk = Walk::new(&header, RecordAt::default());
        let packer = Packer::default();
        Ok(ShippedSegment { expected, file, limit, scanner, walk, ended: false, packer })
    }

    /// Value of the hash chain at the end of a whole segment whose records were all read; else none.
    #[must_use]
    pub fn chain(&self) -> Option<[u8; 16]> {
        let chain: Chain = self.walk.chain;
        (self.ended && self.walk.footer_at.is_some()).then_some(chain)
    }

    /// The bytes of a payload of one of its records, expanded if they are packed.
    ///
    /// # Errors
    /// `Damaged` if they do not match their checksums; `File`.
    pub fn payload(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        let damaged = |what| self.expected.damaged(at.offset, what);
        let end = at.offset.checked_add(u64::from(at.stored_bytes()));
        if at.segment != self.expected.number
            || end.is_none_or(|end| end > self.limit)
            || at.stored_bytes() as usize > super::PAYLOAD_BYTES_MAX
        {
            return Err(damaged("the payload lies outside its segment"));
        }
        let mut bytes = vec![0; at.stored_bytes() as usize];
        let read = self.file.read_at(&mut bytes, at.offset).map_err(|e| self.expected.unreadable(e))?;
        bytes.truncate(read);
        self.packer.unpack(&at, bytes.into()).map_err(damaged)
    }

    /// The next record, in order; none behind the last.
    ///
    /// # Errors
    /// `Damaged` with the offset at which the file is not what was written; `File`.
    pub fn next_record(&mut self) -> Result<Option<StoredRecord>, JournalError> {
        while !self.ended {
            let offset = self.scanner.offset;
            match self.scanner.step().map_err(|source| self.expected.unreadable(source))? {
                Step::Bad(what) => return Err(self.expected.damaged(offset, what)),
                Step::End if self.walk.committed != self.limit => {
                    return Err(self.expected.damaged(offset, "the file ends within a batch"));
                }
                Step::End => self.ended = true,
                Step::Frame(frame) => {
                    let record = (frame.header.frame == FrameType::Record).then(|| StoredRecord {
                        kind: frame.header.kind,
                        version: frame.header.version,
                        lsn: frame.header.lsn,
                        time: frame.header.time,
                        at: frame.at,
                        next: RecordAt { segment: frame.at.segment, offset: frame.next },
                        head: frame.head.clone(),
                        payloads: frame.payloads.clone(),
                    });
                    self.walk.take(frame).map_err(|what| self.expected.damaged(offset, what))?;
                    if record.is_some() {
                        return Ok(record);
                    }
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
