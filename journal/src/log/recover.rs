//! Telling a torn tail from rot.
//!
//! After a power cut the unsynced end of the live segment may be missing, torn or out of order: frames may be whole
//! behind a hole, and a commit frame may be whole although payload bytes of its batch are not. A batch is written
//! only after the fsync of the one before has returned, so all of this concerns the last batch only, and the commit
//! frame of each batch says so: its durable position is not in front of the end of the last batch that held records.
//!
//! Hence two rules. What ends at or in front of a position known durable was once whole on disk: if it is not now,
//! it has rotted, and that is an error. What lies behind every such position counts only if all of it, payload bytes
//! included, matches; else it is cut. Positions known durable come from the frames in front of the first bad place,
//! from whole headers behind it, from the manifest, and from whoever was told. That a frame behind a hole is whole
//! proves nothing; only the position *in* it does.

use super::frame::{Chain, FrameType};
use super::manifest::Identity;
use super::scan::{Frame, Scanner, Step};
use super::segment::{
    Commit, FIRST_FRAME, Footer, HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader, Summary,
};
use super::types::{RecordAt, Stream};
use crate::disk::DiskFile;
use crate::error::JournalError;
use crate::lsn::Lsn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which segment a file must be.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) stream: Stream,
    pub(super) number: u64,
    /// End of the hash chain of the segment before, where that is known.
    pub(super) previous: Option<Chain>,
}

impl Expected {
    pub(super) fn damaged(&self, offset: u64, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.path.clone(), offset, what }
    }

    pub(super) fn unreadable(&self, source: io::Error) -> JournalError {
        JournalError::File { operation: "read", path: self.path.clone(), source }
    }
}

/// Reads and checks the header of a segment file.
pub(super) fn read_header(file: &dyn DiskFile, expected: &Expected) -> Result<SegmentHeader, JournalError> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(&mut bytes, 0).map_err(|source| expected.unreadable(source))?;
    if read != SEGMENT_HEADER_BYTES {
        return Err(expected.damaged(0, "the file ends within the segment header"));
    }
    let header = SegmentHeader::decode(&bytes).map_err(|fault| match fault {
        HeaderFault::Damaged(what) => expected.damaged(0, what),
        HeaderFault::Newer(version) => JournalError::NewerVersion { path: expected.path.clone(), version },
    })?;
    if header.identity != expected.identity {
        return Err(expected.damaged(0, "the segment belongs to another journal"));
    }
    if (header.stream, header.number) != (expected.stream, expected.number) {
        return Err(expected.damaged(0, "the segment belongs elsewhere"));
    }
    if expected.previous.is_some_and(|previous| previous != header.previous) {
        return Err(expected.damaged(0, "the segment does not follow the one before"));
    }
    Ok(header)
}

/// What the frames of a segment add up to, one after the other. Shared with `verify`.
#[derive(Debug)]
pub(super) struct Walk {
    /// End of the last commit frame, and the chain there.
    pub(super) committed: u64,
    pub(super) chain: Chain,
    /// Committed records.
    pub(super) footer: Footer,
    /// Where the footer frame starts, once there was one.
    pub(super) footer_at: Option<u64>,
    /// Greatest position a frame called durable.
    pub(super) durable: RecordAt,
    /// Start and end of the last committed batch with records, and its frames.
    last: Option<(u64, u64)>,
    pub(super) last_frames: Vec<Frame>,
    number: u64,
    batch: Vec<Frame>,
}

impl Walk {
    pub(super) fn new(header: &SegmentHeader, durable: RecordAt) -> Self {
        Walk {
            committed: FIRST_FRAME,
            chain: header.chain(),
            footer: Footer::default(),
            footer_at: None,
            durable,
            last: None,
            last_frames: Vec::new(),
            number: header.number,
            batch: Vec::new(),
        }
    }

    /// Takes the next frame, or says why it cannot stand here.
    pub(super) fn take(&mut self, mut frame: Frame) -> Result<(), &'static str> {
        if self.footer_at.is_some() {
            return Err("a frame stands behind the footer");
        }
        match frame.header.frame {
            FrameType::Record => {
                self.durable = self.durable.max(frame.header.durable);
                frame.head = bytes::Bytes::new();
                self.batch.push(frame);
                return Ok(());
            }
            FrameType::Commit => self.commit(&frame)?,
            FrameType::Footer => {
                self.vouches(&frame)?;
                let footer = Footer::decode(&frame.head).ok_or("the footer is malformed")?;
                if !self.batch.is_empty() || footer != self.footer {
                    return Err("the footer does not agree with the records");
                }
                self.footer_at = Some(frame.at.offset);
            }
        }
        self.durable = self.durable.max(frame.header.durable);
        self.committed = frame.next;
        self.chain = frame.header.chain;
        Ok(())
    }

    /// A batch is closed only once the one before is durable, and says so.
    fn vouches(&self, frame: &Frame) -> Result<(), &'static str> {
        let last = self.last.map_or(0, |(_, end)| end);
        let vouched = frame.header.durable >= RecordAt { segment: self.number, offset: last };
        if last == 0 || vouched { Ok(()) } else { Err("the frame does not vouch for the batch before it") }
    }

    fn commit(&mut self, frame: &Frame) -> Result<(), &'static str> {
        self.vouches(frame)?;
        let start = self.batch.first().map_or(frame.at.offset, |first| first.at.offset);
        let found = Commit { start, records: self.batch.len() as u64 };
        if Commit::decode(&frame.head) != Some(found) {
            return Err("the commit frame does not agree with its batch");
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        for frame in &self.batch {
            note(&mut self.footer, frame.at.offset, frame.header.lsn, &summary_of(frame));
        }
        self.last = Some((start, frame.next));
        self.last_frames = std::mem::take(&mut self.batch);
        Ok(())
    }

    /// Forgets the batch under way: its beginning could not be read.
    pub(super) fn lose_batch(&mut self) {
        self.batch.clear();
        self.last = None;
    }
}

/// Takes note of a committed record.
pub(super) fn note(footer: &mut Footer, offset: u64, lsn: Option<Lsn>, summary: &Summary) {
    footer.summary.merge(summary);
    footer.index.note(offset, lsn);
}

fn summary_of(frame: &Frame) -> Summary {
    let mut summary = Summary::default();
    let given = frame.payloads.iter().map(|payload| u64::from(payload.bytes)).sum();
    summary.note(frame.header.lsn, frame.header.time, given);
    summary
}

/// What a live segment holds for certain.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) header: SegmentHeader,
    /// End of the last commit frame that counts: here the file is cut.
    pub(super) end: u64,
    pub(super) chain: Chain,
    pub(super) footer: Footer,
    /// Where the footer starts if the segment was sealed but the manifest does not say so yet.
    pub(super) footer_at: Option<u64>,
    /// Greatest position that frames or manifest call durable.
    pub(super) vouched: RecordAt,
    /// Bytes behind `end`.
    pub(super) tail_bytes: u64,
}

/// Finds out what the live segment holds. `known` is a position known durable from elsewhere. Changes nothing.
///
/// # Errors
/// `Damaged` where bytes that had been durable are not what was written; `File` if the file cannot be read.
pub(super) fn recover(
    file: &Arc<dyn DiskFile>,
    expected: &Expected,
    known: RecordAt,
) -> Result<Recovered, JournalError> {
    let header = read_header(&**file, expected)?;
    let length = file.len().map_err(|source| expected.unreadable(source))?;
    let (mut walk, stop) = walk_to(file, expected, &header, known, length)?;
    let number = header.number;
    if walk.durable > (RecordAt { segment: number, offset: walk.committed }) {
        let (offset, what) = stop.unwrap_or((length, "the file ends in front of what was durable"));
        return Err(expected.damaged(offset, what));
    }
    if let Some((start, end)) = walk.last
        && walk.durable < (RecordAt { segment: number, offset: end })
    {
        let mut scanner = Scanner::new(file.clone(), header.key(), walk_start(number), length);
        let frames = std::mem::take(&mut walk.last_frames);
        for frame in &frames {
            if scanner.check_payloads(frame).map_err(|source| expected.unreadable(source))?.is_err() {
                walk = walk_to(file, expected, &header, known, start)?.0;
                break;
            }
        }
    }
    let Walk { committed: end, chain, footer, footer_at, durable: vouched, .. } = walk;
    Ok(Recovered { header, end, chain, footer, footer_at, vouched, tail_bytes: length.saturating_sub(end) })
}

/// Bytes read and written at a time.
const AGAIN_BYTES: usize = 1 << 20;

/// Writes what is kept behind the last position known durable once more, as it is: at most the last batch, see above. If
/// it was an fsync that failed, the kernel shows these bytes and holds them for clean: another fsync alone would succeed
/// and write nothing. A clean page may also be dropped at any moment, and shows then what the disk has; so what was
/// written is walked once more, now that no page of it is clean. If it is not what was found before, nothing is cut and
/// nothing is believed.
pub(super) fn write_again(
    file: &Arc<dyn DiskFile>,
    expected: &Expected,
    known: RecordAt,
    recovered: &Recovered,
) -> Result<(), JournalError> {
    let here = recovered.vouched.segment == recovered.header.number;
    let mut offset = if here { recovered.vouched.offset } else { FIRST_FRAME };
    let mut changed = false;
    while offset < recovered.end {
        let mut bytes = vec![0; AGAIN_BYTES.min((recovered.end - offset) as usize)];
        let read = file.read_at(&mut bytes, offset).map_err(|source| expected.unreadable(source))?;
        let some = bytes.get(..read).filter(|some| !some.is_empty());
        let some = some.ok_or_else(|| expected.damaged(offset, "the file ends while it is read"))?;
        file.write_at(some, offset).map_err(|source| JournalError::File {
            operation: "write again",
            path: expected.path.clone(),
            source,
        })?;
        offset += read as u64;
        changed = true;
    }
    if changed {
        let now = recover(file, expected, known)?;
        let found = |recovered: &Recovered| (recovered.end, recovered.chain, recovered.footer_at);
        if found(&now) != found(recovered) {
            let source =
                io::Error::other("it changes between two reads: a write to it was lost by the kernel");
            return Err(expected.unreadable(source));
        }
    }
    Ok(())
}

fn walk_start(segment: u64) -> RecordAt {
    RecordAt { segment, offset: FIRST_FRAME }
}

/// Where a walk met something that is no frame, and why it is none.
type Stop = Option<(u64, &'static str)>;

/// Walks the frames in front of `limit`; behind the first bad one only looks for durable positions.
fn walk_to(
    file: &Arc<dyn DiskFile>,
    expected: &Expected,
    header: &SegmentHeader,
    known: RecordAt,
    limit: u64,
) -> Result<(Walk, Stop), JournalError> {
    let unreadable = |source| expected.unreadable(source);
    let mut walk = Walk::new(header, known);
    let mut scanner = Scanner::new(file.clone(), header.key(), walk_start(header.number), limit);
    scanner.chain = Some(walk.chain);
    let (mut offset, what) = loop {
        let offset = scanner.offset;
        match scanner.step().map_err(unreadable)? {
            Step::End => return Ok((walk, None)),
            Step::Bad(what) => break (offset, what),
            Step::Frame(frame) => {
                if let Err(what) = walk.take(frame) {
                    break (offset, what);
                }
            }
        }
    };
    let stop = Some((offset, what));
    while let Some(found) = scanner.search(offset).map_err(unreadable)? {
        walk.durable = walk.durable.max(found.durable);
        offset = scanner.offset + 1;
    }
    Ok((walk, stop))
}

/// Opens the file of a segment the manifest names.
pub(super) fn open_named(
    disk: &dyn crate::disk::Disk,
    path: &Path,
) -> Result<Arc<dyn DiskFile>, JournalError> {
    disk.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => {
            let what = "the manifest names this file, but it is missing";
            JournalError::Damaged { path: path.to_owned(), offset: 0, what }
        }
        _ => JournalError::File { operation: "open", path: path.to_owned(), source },
    })
}
