//! [`LogReader`]: committed records in order, across segments, without their payload bytes.
//!
//! A reader looks only at bytes in front of the committed end, which never change, so it needs no lock while it
//! reads. Each frame is checked against its checksums and, from the second one on, against the hash chain.

use super::frame::{Chain, FrameType};
use super::recover::read_header;
use super::scan::{Frame, Scanner, Step};
use super::segment::{FIRST_FRAME, Footer};
use super::shared::Inner;
use super::types::{RecordAt, StoredRecord};
use crate::error::JournalError;
use std::sync::Arc;

/// Iterator over committed records. After `None` it may be asked again and gives what was committed meanwhile; after
/// an error it has ended.
pub struct LogReader {
    inner: Arc<Inner>,
    at: RecordAt,
    /// Chain at the end of the segment before, where it was read.
    previous: Option<Chain>,
    scanner: Option<Scanner>,
    failed: bool,
}

impl LogReader {
    pub(super) fn new(inner: Arc<Inner>, from: RecordAt) -> Self {
        LogReader { inner, at: from, previous: None, scanner: None, failed: false }
    }

    /// Where it reads on.
    #[must_use]
    pub fn position(&self) -> RecordAt {
        self.at
    }

    /// How far the segment may be read now, and whether it grows no more.
    fn limit(&self) -> Result<(u64, bool), JournalError> {
        let segment = self.at.segment;
        if let Some(end) = self.inner.live(|live| (live.number == segment).then_some(live.end)) {
            return Ok((end, false));
        }
        let entry = self.inner.expected(segment).ok_or_else(|| self.inner.no_such_segment(segment))?.1;
        // Not sealed and not live: it is being made the live one this very moment, and holds nothing yet.
        Ok(if entry.sealed { (entry.bytes, true) } else { (FIRST_FRAME, false) })
    }

    fn open(&self) -> Result<Scanner, JournalError> {
        let segment = self.at.segment;
        let (mut expected, _) =
            self.inner.expected(segment).ok_or_else(|| self.inner.no_such_segment(segment))?;
        expected.previous = self.previous.or(expected.previous);
        let (file, _) = self.inner.file(segment)?;
        let header = read_header(&*file, &expected)?;
        let mut scanner = Scanner::new(file, header.key(), self.at, FIRST_FRAME);
        scanner.chain = (self.at.offset == FIRST_FRAME).then(|| header.chain());
        Ok(scanner)
    }

    fn advance(&mut self) -> Result<Option<StoredRecord>, JournalError> {
        loop {
            // Looked up before reading: a segment that is sealed later is asked about again.
            let (limit, complete) = self.limit()?;
            let mut scanner = match self.scanner.take() {
                Some(scanner) => scanner,
                None => self.open()?,
            };
            scanner.limit = scanner.limit.max(limit);
            let step = scanner.step().map_err(|source| JournalError::File {
                operation: "read",
                path: self.inner.path(self.at.segment),
                source,
            })?;
            match step {
                Step::Frame(frame) if frame.header.frame == FrameType::Footer => {
                    self.previous = Some(frame.header.chain);
                    self.at = RecordAt { segment: self.at.segment + 1, offset: FIRST_FRAME };
                }
                Step::Frame(frame) => {
                    self.at.offset = frame.next;
                    self.scanner = Some(scanner);
                    if frame.header.frame == FrameType::Record {
                        return Ok(Some(stored(frame)));
                    }
                }
                Step::End if !complete => {
                    self.scanner = Some(scanner);
                    return Ok(None);
                }
                Step::End => return Err(self.damaged("the segment has no footer")),
                Step::Bad(what) => return Err(self.damaged(what)),
            }
        }
    }

    fn damaged(&self, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.inner.path(self.at.segment), offset: self.at.offset, what }
    }
}

fn stored(frame: Frame) -> StoredRecord {
    let Frame { at, next, header, head, payloads } = frame;
    StoredRecord {
        kind: header.kind,
        version: header.version,
        lsn: header.lsn,
        time: header.time,
        at,
        next: RecordAt { segment: at.segment, offset: next },
        head,
        payloads,
    }
}

impl Iterator for LogReader {
    type Item = Result<StoredRecord, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let result = self.advance();
        self.failed = result.is_err();
        result.transpose()
    }
}

/// The footer of a sealed segment.
pub(super) fn read_footer(inner: &Arc<Inner>, number: u64) -> Result<Footer, JournalError> {
    let (expected, entry) = inner.expected(number).ok_or_else(|| inner.no_such_segment(number))?;
    let (file, _) = inner.file(number)?;
    let key = read_header(&*file, &expected)?.key();
    let at = RecordAt { segment: number, offset: entry.footer };
    let step = Scanner::new(file, key, at, entry.bytes).step().map_err(|e| expected.unreadable(e))?;
    match step {
        Step::Frame(frame) => Footer::decode(&frame.head)
            .ok_or_else(|| expected.damaged(entry.footer, "the footer is malformed")),
        Step::End => Err(expected.damaged(entry.footer, "the segment has no footer")),
        Step::Bad(what) => Err(expected.damaged(entry.footer, what)),
    }
}
