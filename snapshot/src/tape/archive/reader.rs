//! Reading a session from bytes that anybody may have written.
//!
//! A header counts if it proves itself, says this session, and stands behind the one before. Where the next header
//! should be and is not, the reader goes on block by block until one is. Bytes that were lost on the way move nothing:
//! each header says where it stands.
//!
//! What a visitor is told of a member, it is told in two steps: the member with its content, and then, before the next
//! member, whether the content was proved. Whoever stores contents holds them back until then.
//!
//! An error of the input ends the session there, like a stream that breaks off: the verdict says so.

use super::catalog::{Catalog, LINE_BYTES_MAX};
use super::label::{LABEL_BYTES_MAX, SessionLabel};
use super::member::{Before, Head, Member, MemberKind, Role, Short};
use super::sparse::MapReader;
use super::spill::Spill;
use super::ustar::{Block, Ustar};
use super::verdict::{Verdict, judge};
use super::writer::hash_zeros;
use super::{ArchiveError, BLOCK_BYTES, MEMBERS_MAX, RECORDS_BYTES_MAX, Result, padding};
use crate::repository::{Id, NodeKind};
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest extended header that is looked at where no header was expected: each block there could claim to be one.
const SEARCHED_BYTES_MAX: u64 = 64 << 10;
const PIECE_BYTES: usize = 64 << 10;
/// Zeros that are hashed between two looks at whether to go on.
const ZEROS_AT_ONCE: u64 = 64 << 20;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With the next member.
    On,
    /// Not at all; there is no verdict on the rest then.
    Stop,
}

/// What is known of a member's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is what was written; members without content are right by their headers.
    Right,
    /// It is as it was written, which is not what the file held; why nobody could read it stands in the catalog.
    Unread,
    /// It is not what was written.
    Wrong(String),
    /// What would prove it is damaged; the catalog may know.
    Unknown,
}

/// Takes what an archive holds.
pub trait Visitor {
    /// A member; of a file, the content can be read here, as far as it is of interest.
    ///
    /// # Errors
    /// What ends the reading.
    fn member(&mut self, member: &Member, content: &mut Content<'_>) -> Result<Flow>;

    /// What is known of the member handed out last: once for each, before the next.
    ///
    /// # Errors
    /// What ends the reading.
    fn proof(&mut self, proof: Proof) -> Result<()>;

    /// Whether to stop in the middle of a content that nobody reads.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Bytes with a place, which can be put back.
struct Input<R> {
    inner: R,
    /// Bytes that were put back, the next one last.
    back: Vec<u8>,
    at: u64,
    failure: Option<String>,
}

trait Bytes {
    /// Reads some bytes; 0 at the end, and after a failure.
    fn some(&mut self, room: &mut [u8]) -> usize;
}

impl<R: Read> Bytes for Input<R> {
    fn some(&mut self, room: &mut [u8]) -> usize {
        if !self.back.is_empty() {
            let count = room.len().min(self.back.len());
            let from = self.back.split_off(self.back.len() - count);
            room.iter_mut().zip(from.iter().rev()).for_each(|(to, from)| *to = *from);
            self.at = self.at.saturating_add(count as u64);
            return count;
        }
        while self.failure.is_none() {
            match self.inner.read(room) {
                Ok(count) => {
                    let count = count.min(room.len());
                    self.at = self.at.saturating_add(count as u64);
                    return count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.failure = Some(crate::repository::chain(&error)),
            }
        }
        0
    }
}

impl<R: Read> Input<R> {
    /// Fills the room as far as there are bytes.
    fn fill(&mut self, room: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.some(rest) {
                0 => break,
                count => done += count,
            }
        }
        done
    }

    /// So many bytes, or as many as there are; memory follows what is there.
    fn take(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < count {
            let piece = (count - bytes.len() as u64).min(PIECE_BYTES as u64) as usize;
            let start = bytes.len();
            bytes.resize(start + piece, 0);
            let read = self.fill(bytes.get_mut(start..).unwrap_or_default());
            if read < piece {
                bytes.truncate(start + read);
                break;
            }
        }
        bytes
    }

    fn put_back(&mut self, bytes: &[u8]) {
        self.back.extend(bytes.iter().rev());
        self.at = self.at.saturating_sub(bytes.len() as u64);
    }
}

/// The content of a member: its bytes with zeros for holes.
pub struct Content<'a> {
    input: &'a mut dyn Bytes,
    hash: Sha256,
    size: u64,
    at: u64,
    extents: Vec<Range<u64>>,
    next: usize,
    /// Bytes in the archive that belong to it.
    left: u64,
    fault: Option<String>,
}

impl Content<'_> {
    /// Where there may be other bytes than zeros, in order.
    #[must_use]
    pub fn extents(&self) -> &[Range<u64>] {
        &self.extents
    }

    /// Its size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads the map of a file with holes.
    fn map(&mut self) {
        let mut map = MapReader::new(self.size);
        let mut block = [0; BLOCK_BYTES];
        let complete = loop {
            let fits = self.left >= BLOCK_BYTES as u64 && self.exact(&mut block);
            match map.block(&block).filter(|_| fits) {
                Some(false) => {}
                complete => break complete.is_some(),
            }
        };
        let stored: u64 = map.extents.iter().map(|one| one.end - one.start).sum();
        self.extents = map.extents;
        if !complete || stored != self.left {
            self.fault.get_or_insert_with(|| "the map of its holes is damaged".to_owned());
        }
    }

    fn exact(&mut self, room: &mut [u8]) -> bool {
        let mut done = 0;
        while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.stored(rest) {
                0 => return false,
                count => done += count,
            }
        }
        true
    }

    /// Bytes as they lie in the archive.
    fn stored(&mut self, room: &mut [u8]) -> usize {
        let count = self.input.some(room);
        self.left = self.left.saturating_sub(count as u64);
        if count == 0 && !room.is_empty() {
            self.fault.get_or_insert_with(|| "the archive breaks off in it".to_owned());
        }
        count
    }

    /// Reads what nobody wanted. False if it was cancelled.
    fn drain(&mut self, cancelled: &dyn Fn() -> bool) -> bool {
        let mut piece = [0; PIECE_BYTES];
        while self.fault.is_none() && self.at < self.size {
            if cancelled() {
                return false;
            }
            match self.extents.get(self.next) {
                Some(extent) if extent.start <= self.at => drop(self.read(&mut piece)),
                extent => {
                    let end = extent.map_or(self.size, |extent| extent.start);
                    let end = end.min(self.at.saturating_add(ZEROS_AT_ONCE));
                    hash_zeros(&mut self.hash, end - self.at);
                    self.at = end;
                }
            }
        }
        // Behind a fault, bytes up to the next header.
        while self.left > 0 {
            let room = piece.get_mut(..self.left.min(PIECE_BYTES as u64) as usize).unwrap_or_default();
            if self.stored(room) == 0 {
                break;
            }
            if cancelled() {
                return false;
            }
        }
        true
    }
}

impl Read for Content<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if let Some(fault) = &self.fault {
            return Err(io::Error::new(ErrorKind::InvalidData, fault.clone()));
        }
        if self.at >= self.size || room.is_empty() {
            return Ok(0);
        }
        let extent = self.extents.get(self.next).cloned().unwrap_or(self.size..self.size);
        let is_hole = self.at < extent.start;
        let end = if is_hole { extent.start } else { extent.end };
        let wanted = (end - self.at).min(room.len() as u64) as usize;
        let room = room.get_mut(..wanted).unwrap_or_default();
        let count = if is_hole {
            room.fill(0);
            wanted
        } else {
            self.stored(room)
        };
        if let Some(fault) = self.fault.as_ref().filter(|_| count == 0) {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, fault.clone()));
        }
        self.hash.update(room.get(..count).unwrap_or_default());
        self.at += count as u64;
        if !is_hole && self.at == extent.end {
            self.next += 1;
        }
        Ok(count)
    }
}

/// A member that waits for its proof.
struct Pending {
    member: Member,
    hash: Option<Id>,
    fault: Option<String>,
}

/// Reads one session.
pub struct SessionReader<R: Read> {
    input: Input<R>,
    scratch: PathBuf,
    session: Option<Short>,
    label: Option<SessionLabel>,
    /// The first header, if it is not the label's.
    first: Option<(Head, bool)>,
    last: Option<u64>,
    gaps: u64,
    members: u64,
}

impl<R: Read> SessionReader<R> {
    /// Finds the beginning of a session. Scratch files are made in `scratch`.
    ///
    /// # Errors
    /// `NotASession`; `Version` and `Encoding` of the label.
    pub fn open(input: R, scratch: &Path) -> Result<Self> {
        let input = Input { inner: input, back: Vec::new(), at: 0, failure: None };
        let (session, label, first, last) = (None, None, None, None);
        let scratch = scratch.to_path_buf();
        let mut reader = Self { input, scratch, session, label, first, last, gaps: 0, members: 0 };
        match reader.next() {
            None => return Err(ArchiveError::NotASession { bytes: reader.input.at }),
            Some((head, _)) if head.role == Role::Label => reader.read_label(&head.member)?,
            Some(other) => reader.first = Some(other),
        }
        Ok(reader)
    }

    /// The session's label; `None` if it is damaged. The catalog has it once more, see [`Verdict`].
    #[must_use]
    pub fn label(&self) -> Option<&SessionLabel> {
        self.label.as_ref()
    }

    fn read_label(&mut self, member: &Member) -> Result<()> {
        if member.stored > LABEL_BYTES_MAX {
            return Ok(());
        }
        let json = self.input.take(member.stored);
        self.input.take(padding(member.stored) as u64);
        match SessionLabel::parse(&json) {
            Ok(label) if Some(label.short()) == self.session => self.label = Some(label),
            Err(error @ (ArchiveError::Version { .. } | ArchiveError::Encoding { .. })) => return Err(error),
            // Damaged: the members say nonetheless what they are.
            _ => {}
        }
        Ok(())
    }

    /// The next header, and whether it stands where the one before ended.
    fn next(&mut self) -> Option<(Head, bool)> {
        let mut adjacent = true;
        loop {
            let at = self.input.at;
            let mut block = [0; BLOCK_BYTES];
            if self.input.fill(&mut block) < BLOCK_BYTES {
                return None;
            }
            if let Some(head) = self.head(&block, adjacent) {
                let stated = head.member.offset;
                if stated != at {
                    // Bytes are missing before it; what follows is where it says.
                    let length = self.input.at.saturating_sub(at);
                    self.input.at = stated.saturating_add(length);
                    adjacent = false;
                }
                self.session = Some(head.session);
                self.last = Some(stated);
                self.gaps += u64::from(!adjacent);
                return Some((head, adjacent));
            }
            adjacent = false;
        }
    }

    /// The header that begins with a block; if it is none, only the block was read.
    fn head(&mut self, block: &Block, expected: bool) -> Option<Head> {
        let extended = Ustar::decode(block)?;
        let limit = if expected { RECORDS_BYTES_MAX } else { SEARCHED_BYTES_MAX };
        let behind = match extended.typeflag {
            b'x' => BLOCK_BYTES as u64,
            b'g' => 0,
            _ => return None,
        };
        if extended.size > limit {
            return None;
        }
        let padded = extended.size + padding(extended.size) as u64;
        let bytes = self.input.take(padded + behind);
        let head = decode(extended.typeflag, &bytes, (extended.size, padded)).filter(|head| {
            self.session.is_none_or(|session| session == head.session)
                && self.last.is_none_or(|last| last < head.member.offset)
        });
        if head.is_none() {
            self.input.put_back(&bytes);
        }
        head
    }

    /// Reads to the end and says what is right.
    ///
    /// # Errors
    /// Those of the visitor; `Scratch`, `TooMany`. Damage is none: it is in the verdict. `Cancelled` if the visitor
    /// stopped.
    pub fn read(mut self, visitor: &mut dyn Visitor) -> Result<Verdict> {
        let mut seen = Catalog::bare(&self.scratch)?;
        let mut pending: Option<Pending> = None;
        let mut catalog = None;
        loop {
            let next = self.first.take().or_else(|| self.next());
            let proof = next.as_ref().filter(|(_, adjacent)| *adjacent).map(|(head, _)| head.before);
            if let Some(pending) = pending.take() {
                settle(pending, proof, &mut seen, visitor)?;
            }
            let Some((head, _)) = next else { break };
            match head.role {
                Role::Label => self.read_label(&head.member)?,
                Role::Catalog => {
                    catalog = Some(self.read_catalog(&head.member)?);
                    break;
                }
                Role::Object => {
                    let (hash, fault, flow) = self.visit(&head.member, visitor)?;
                    pending = Some(Pending { member: head.member, hash, fault });
                    if flow == Flow::Stop {
                        return Err(ArchiveError::Cancelled);
                    }
                }
            }
        }
        let mut verdict = judge(catalog, seen, self.label)?;
        verdict.gaps = self.gaps;
        verdict.failure = self.input.failure;
        Ok(verdict)
    }

    fn visit(
        &mut self,
        member: &Member,
        visitor: &mut dyn Visitor,
    ) -> Result<(Option<Id>, Option<String>, Flow)> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(ArchiveError::TooMany { limit: MEMBERS_MAX });
        }
        let has_content = member.kind == MemberKind::Node && member.node.kind == NodeKind::File;
        let size = if has_content { member.node.size } else { 0 };
        let mut content = Content {
            input: &mut self.input,
            hash: Sha256::new(),
            size,
            at: 0,
            extents: Vec::from_iter((size > 0).then_some(0..size)),
            next: 0,
            left: member.stored,
            fault: None,
        };
        if member.sparse {
            content.map();
        }
        let mut flow = visitor.member(member, &mut content)?;
        if flow == Flow::Stop || !content.drain(&|| visitor.cancelled()) {
            flow = Flow::Stop;
        }
        let (hash, fault) = (Id(content.hash.finalize().into()), content.fault);
        self.input.take(padding(member.stored) as u64);
        Ok((has_content.then_some(hash), fault, flow))
    }

    /// Copies the catalog, as far as it is there.
    fn read_catalog(&mut self, member: &Member) -> Result<Spill> {
        let mut spill = Spill::new(&self.scratch)?;
        let mut left = member.stored;
        while left > 0 {
            let piece = self.input.take(left.min(LINE_BYTES_MAX).min(PIECE_BYTES as u64));
            if piece.is_empty() {
                break;
            }
            left -= piece.len() as u64;
            spill.add(&piece)?;
        }
        Ok(spill)
    }
}

/// Takes a header apart: its records, and the block behind them.
fn decode(typeflag: u8, bytes: &[u8], (size, padded): (u64, u64)) -> Option<Head> {
    let records = bytes.get(..usize::try_from(size).ok()?)?;
    if typeflag == b'g' {
        return Head::decode_hidden(records);
    }
    Head::decode(records, bytes.get(usize::try_from(padded).ok()?..)?.try_into().ok()?)
}

/// Says what is known of a member, to the visitor and for the verdict.
fn settle(
    pending: Pending,
    before: Option<Before>,
    seen: &mut Catalog,
    visitor: &mut dyn Visitor,
) -> Result<()> {
    let Pending { member, hash, fault } = pending;
    let proof = match (fault, hash, before) {
        (Some(fault), ..) => Proof::Wrong(fault),
        (None, None, _) => Proof::Right,
        (None, Some(hash), Some(Before::Content(stated))) if hash == stated => Proof::Right,
        (None, Some(_), Some(Before::Content(_))) => {
            Proof::Wrong("its content is not what was written".to_owned())
        }
        (None, Some(_), Some(Before::Damaged)) => Proof::Unread,
        (None, Some(_), Some(Before::Nothing) | None) => Proof::Unknown,
    };
    seen.seen(&member, hash, &proof)?;
    visitor.proof(proof)
}
