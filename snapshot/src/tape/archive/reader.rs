//! Reading a session from bytes that anybody may have written.
//!
//! Headers are found by [`super::scan`]. A session that was compressed or encrypted is a carrier ([`super::carrier`]): the
//! archive in it is read as any other, and what is damaged of the carrier is told beside what is damaged of the archive.
//!
//! What a visitor is told of a member, it is told in two steps: the member with its content, and then, before the next
//! member, whether the content was proved. Whoever stores contents holds them back until then.
//!
//! An error of the input ends the session there, like a stream that breaks off: the verdict says so.

use super::carrier::{LABEL_NAME as CARRIER_LABEL, Pieces, Source, TapeKey};
use super::catalog::{Catalog, LINE_BYTES_MAX};
use super::label::{LABEL_BYTES_MAX, SessionLabel};
use super::member::{Before, Head, Member, MemberKind, Role};
use super::scan::{Bytes, Scanner};
use super::sparse::MapReader;
use super::spill::Spill;
use super::verdict::{Verdict, judge};
use super::writer::hash_zeros;
use super::{ArchiveError, BLOCK_BYTES, MEMBERS_MAX, Result, padding};
use crate::repository::{Id, NodeKind};
use sha2::{Digest, Sha256};
use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

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
    scan: Scanner<Source<R>>,
    scratch: PathBuf,
    label: Option<SessionLabel>,
    /// The first header, if it is not the label's.
    first: Option<(Head, bool)>,
    members: u64,
}

impl<R: Read> SessionReader<R> {
    /// Finds the beginning of a session that is not encrypted. Scratch files are made in `scratch`.
    ///
    /// # Errors
    /// As [`SessionReader::open_with`].
    pub fn open(input: R, scratch: &Path) -> Result<Self> {
        Self::open_with(input, None, scratch)
    }

    /// Finds the beginning of a session, and of the archive in it where it is a carrier. The key is for encrypted ones.
    ///
    /// # Errors
    /// `NotASession`; `Version` and `Encoding` of the label; `KeyWanted`, `WrongKey`, `Carrier` if the carrier cannot be opened.
    pub fn open_with(input: R, key: Option<&TapeKey>, scratch: &Path) -> Result<Self> {
        let mut outer = Scanner::new(input);
        let (mut first, mut label) = beginning(&mut outer);
        let mut scan = if is_carrier(first.as_ref(), label.as_ref()) {
            let json = label.take().and_then(|(_, json)| json);
            let pieces = Pieces::begin(outer, first.take(), json.as_deref())?;
            let session = pieces.session();
            let mut scan = Scanner::new(Source::open(pieces, key)?);
            (first, label) = beginning(&mut scan);
            let refused = match () {
                () if is_carrier(first.as_ref(), label.as_ref()) => Some("there is a carrier in it"),
                () if session.is_some() && scan.session.is_some_and(|inside| Some(inside) != session) => {
                    Some("what is in it is another session")
                }
                () => None,
            };
            if let Some(what) = refused {
                return Err(ArchiveError::Carrier { what: what.to_owned() });
            }
            scan
        } else {
            outer.map(Source::Plain)
        };
        if scan.session.is_none() {
            return Err(match scan.input.failure.take() {
                Some(what) if !matches!(scan.input.inner, Source::Plain(_)) => ArchiveError::Carrier { what },
                _ => ArchiveError::NotASession { bytes: scan.input.at },
            });
        }
        let scratch = scratch.to_path_buf();
        let mut reader = Self { scan, scratch, label: None, first, members: 0 };
        if let Some((_, Some(json))) = label {
            reader.believe(&json)?;
        }
        Ok(reader)
    }

    /// The session's label; `None` if it is damaged. The catalog has it once more, see [`Verdict`].
    #[must_use]
    pub fn label(&self) -> Option<&SessionLabel> {
        self.label.as_ref()
    }

    fn believe(&mut self, json: &[u8]) -> Result<()> {
        match SessionLabel::parse(json) {
            Ok(label) if Some(label.short()) == self.scan.session => self.label = Some(label),
            Err(error @ (ArchiveError::Version { .. } | ArchiveError::Encoding { .. })) => return Err(error),
            // Damaged: the members say nonetheless what they are.
            _ => {}
        }
        Ok(())
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
            let next = self.first.take().or_else(|| self.scan.next());
            let proof = next.as_ref().filter(|(_, adjacent)| *adjacent).map(|(head, _)| head.before);
            if let Some(pending) = pending.take() {
                settle(pending, proof, &mut seen, visitor)?;
            }
            let Some((head, _)) = next else { break };
            match head.role {
                Role::Label => {
                    if let Some(json) = label_json(&mut self.scan, &head.member) {
                        self.believe(&json)?;
                    }
                }
                // Of a carrier; here it is a stretch that nobody wrote.
                Role::Data | Role::End => self.scan.gaps += 1,
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
        verdict.gaps = self.scan.gaps;
        verdict.failure = self.scan.input.failure.take();
        let id = verdict.label.as_ref().map(SessionLabel::id);
        verdict.of_carrier(self.scan.input.inner.finish(id.as_ref()));
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
            input: &mut self.scan.input,
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
        self.scan.input.take(padding(member.stored) as u64);
        Ok((has_content.then_some(hash), fault, flow))
    }

    /// Copies the catalog, as far as it is there.
    fn read_catalog(&mut self, member: &Member) -> Result<Spill> {
        let mut spill = Spill::new(&self.scratch)?;
        let mut left = member.stored;
        while left > 0 {
            let piece = self.scan.input.take(left.min(LINE_BYTES_MAX).min(PIECE_BYTES as u64));
            if piece.is_empty() {
                break;
            }
            left -= piece.len() as u64;
            spill.add(&piece)?;
        }
        Ok(spill)
    }
}

/// The first header, if it is not a label's, and the label's member with its bytes, if it is.
type Beginning = (Option<(Head, bool)>, Option<(Member, Option<Vec<u8>>)>);

fn beginning<R: Read>(scan: &mut Scanner<R>) -> Beginning {
    match scan.next() {
        Some((head, _)) if head.role == Role::Label => {
            let json = label_json(scan, &head.member);
            (None, Some((head.member, json)))
        }
        other => (other, None),
    }
}

fn is_carrier(first: Option<&(Head, bool)>, label: Option<&(Member, Option<Vec<u8>>)>) -> bool {
    first.is_some_and(|(head, _)| matches!(head.role, Role::Data | Role::End))
        || label.is_some_and(|(member, _)| member.path.ends_with(CARRIER_LABEL))
}

/// The bytes of a label; `None` if they are more than any has.
fn label_json<R: Read>(scan: &mut Scanner<R>, member: &Member) -> Option<Vec<u8>> {
    if member.stored > LABEL_BYTES_MAX {
        return None;
    }
    let json = scan.input.take(member.stored);
    scan.input.take(padding(member.stored) as u64);
    Some(json)
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
