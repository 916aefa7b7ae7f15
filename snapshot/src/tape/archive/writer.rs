//! Writing a session: label, members as they come, catalog.
//!
//! A file's size stands in its header before its data. If the source then gives other bytes than it said, or none, the
//! member is completed with zeros and the file is *damaged*: the next header and the catalog say so, the totals count it, and
//! the caller is told. The stream stays whole.
//!
//! After an error nothing more can be written: the caller gives the archive up.

use super::catalog::Catalog;
use super::label::SessionLabel;
use super::links::Links;
use super::member::{Before, Member, MemberKind, Role, Short, encode};
use super::{
    ArchiveError, BLOCK_BYTES, LISTED_MAX, MEMBERS_MAX, Result, ZEROS, padding, path_refusal, sparse,
};
use crate::repository::{Id, Node, NodeKind, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::error::Error;
use std::io::{Read, Write};
use std::ops::Range;
use std::path::Path;

/// Bytes that are read from a source at a time.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Why a source gives no bytes.
#[derive(Debug)]
pub enum SourceFailure {
    /// This file cannot be read; why, for people.
    File(String),
    /// Nothing can.
    All(Box<dyn Error + Send + Sync>),
    /// Somebody asked to stop.
    Cancelled,
}

/// The bytes of a file.
pub trait Source {
    /// Bytes at an offset, at most `limit`; offsets ascend. None at the end.
    ///
    /// # Errors
    /// See [`SourceFailure`].
    fn bytes(&mut self, offset: u64, limit: usize) -> std::result::Result<&[u8], SourceFailure>;

    /// The SHA-256 of all bytes of a file of `size`, if that is proved without hashing them here; then [`Source::bytes`]
    /// gives these bytes. Asked for before the first of them.
    fn proven(&mut self, _size: u64) -> Option<Id> {
        None
    }
}

/// What a session has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Objects, directories among them, that have a member.
    pub members: u64,
    /// Names of objects that are no directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Bytes of the files, each name counted.
    pub bytes: u64,
    /// Files whose content is not what it should be.
    pub damaged: u64,
    /// Objects that are not in the archive.
    pub missed: u64,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is in the archive.
    Whole,
    /// It is there, with zeros for what could not be read, and known to be wrong.
    Damaged(String),
    /// It is not there.
    Missed(String),
}

/// A session that was written.
#[derive(Debug)]
pub struct Wrote<W> {
    /// What it was written to.
    pub out: W,
    /// Bytes of the stream, without padding to blocks of a tape.
    pub bytes: u64,
    /// What it holds.
    pub totals: Totals,
    /// Damaged and missed objects by path, and why; the first [`LISTED_MAX`].
    pub listed: Vec<(Vec<u8>, String)>,
}

/// A file to be written.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub path: &'a [u8],
    pub node: &'a Node,
    /// Names one content: names of one inode with the same become hard links.
    pub content: &'a Id,
    /// Where there may be other bytes than zeros.
    pub data: &'a [Range<u64>],
}

/// Writes one session.
pub struct SessionWriter<W: Write> {
    out: W,
    at: u64,
    session: Short,
    before: Before,
    catalog: Catalog,
    links: Links,
    totals: Totals,
    listed: Vec<(Vec<u8>, String)>,
    piece: Vec<u8>,
}

/// A file of ours.
pub(super) fn own(path: String, size: u64, time: Timestamp) -> (Vec<u8>, Node) {
    let name = path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
    let (modified, accessed, changed) = (time, time, time);
    let node = Node { name, permissions: 0o644, modified, accessed, changed, size, ..Node::default() };
    (path.into_bytes(), node)
}

impl<W: Write> SessionWriter<W> {
    /// Writes the label. Scratch files are made in `scratch`.
    ///
    /// # Errors
    /// `Write`, `Scratch`.
    pub fn begin(out: W, label: &SessionLabel, scratch: &Path) -> Result<Self> {
        let mut writer = Self {
            out,
            at: 0,
            session: label.short(),
            before: Before::Nothing,
            catalog: Catalog::new(scratch, label.json())?,
            links: Links::new(scratch)?,
            totals: Totals::default(),
            listed: Vec::new(),
            piece: vec![0; PIECE_BYTES],
        };
        let path = format!(".rewind/{}/session.json", label.id().short());
        let (path, node) = own(path, label.json().len() as u64, label.fields().written);
        writer.header(Role::Label, &mut member(&path, &node))?;
        writer.put(label.json())?;
        writer.pad(node.size)?;
        writer.before = Before::Content(Id::of(label.json()));
        Ok(writer)
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.at
    }

    /// What was written so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.at;
        self.out.write_all(bytes).map_err(|source| ArchiveError::Write { offset, source })?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        self.put(ZEROS.get(..padding(size)).unwrap_or_default())
    }

    /// Writes a header; says why if the member cannot be archived.
    fn header(&mut self, role: Role, member: &mut Member) -> Result<Option<&'static str>> {
        member.offset = self.at;
        match encode(self.session, role, self.before, member) {
            Ok(blocks) => {
                self.put(&blocks)?;
                self.before = Before::Nothing;
                Ok(None)
            }
            Err(what) => Ok(Some(what)),
        }
    }

    fn list(&mut self, path: &[u8], reason: &str) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push((path.to_vec(), reason.to_owned()));
        }
    }

    fn count(&mut self, node: &Node) {
        let directory = node.kind == NodeKind::Directory;
        self.totals.members += 1;
        self.totals.files += u64::from(!directory);
        self.totals.directories += u64::from(directory);
        self.totals.bytes = self.totals.bytes.saturating_add(if directory { 0 } else { node.size });
    }

    /// An object that cannot be archived: it is listed, and counted.
    ///
    /// # Errors
    /// `Scratch`.
    pub fn missed(&mut self, path: &[u8], reason: &str) -> Result<Stored> {
        self.catalog.missed(path, reason)?;
        self.totals.missed += 1;
        self.list(path, reason);
        Ok(Stored::Missed(reason.to_owned()))
    }

    fn has_room(&self) -> Result<()> {
        let limit = MEMBERS_MAX;
        if self.totals.members >= limit { Err(ArchiveError::TooMany { limit }) } else { Ok(()) }
    }

    /// Writes an object that is no file. `path` is the path on the master without the leading slash.
    ///
    /// # Errors
    /// `Write`, `Scratch`, `TooMany`.
    pub fn node(&mut self, path: &[u8], node: &Node) -> Result<Stored> {
        self.has_room()?;
        let mut member = member(path, node);
        // A size of what has no content would be taken for bytes that follow.
        member.stored = 0;
        if let Some(what) = self.header(Role::Object, &mut member)? {
            return self.missed(path, what);
        }
        self.count(node);
        self.catalog.member(&member, None, None)?;
        Ok(Stored::Whole)
    }

    /// Writes one more name of a file, if it was written before under another; `None` if it was not. `content` names the
    /// content, see [`file`](Self::file).
    ///
    /// # Errors
    /// As [`node`](Self::node).
    pub fn link(&mut self, path: &[u8], node: &Node, content: &Id) -> Result<Option<Stored>> {
        self.has_room()?;
        if path_refusal(path).is_some() {
            return Ok(None);
        }
        let Some(first) = self.links.first(node, content)? else { return Ok(None) };
        let mut member = Member { kind: MemberKind::Link, first, stored: 0, ..member(path, node) };
        if let Some(what) = self.header(Role::Object, &mut member)? {
            return self.missed(path, what).map(Some);
        }
        self.count(node);
        self.catalog.member(&member, None, None)?;
        Ok(Some(Stored::Whole))
    }

    /// Writes a file. `content` names its content: names of one inode (device and inode number) with the same content
    /// become hard links. `data`: where there may be other bytes than zeros, in order; the rest is holes.
    ///
    /// # Errors
    /// As [`node`](Self::node); `Source`, `Cancelled` as the source says.
    pub fn file(
        &mut self,
        (path, node): (&[u8], &Node),
        content: &Id,
        data: &[Range<u64>],
        source: &mut dyn Source,
    ) -> Result<Stored> {
        if let Some(stored) = self.link(path, node, content)? {
            return Ok(stored);
        }
        self.content(Input { path, node, content, data }, source)
    }

    fn content(&mut self, input: Input<'_>, source: &mut dyn Source) -> Result<Stored> {
        let Input { path, node, content, data } = input;
        let size = node.size;
        if let Some(what) = sparse::refusal(data, size) {
            return self.missed(path, what);
        }
        let extents = sparse::stored(data, size);
        let mut member = member(path, node);
        let map = extents.as_ref().map(|extents| sparse::encode(extents, size));
        if let (Some(extents), Some(map)) = (&extents, &map) {
            member.sparse = true;
            member.stored = map.len() as u64 + extents.iter().map(|one| one.end - one.start).sum::<u64>();
        }
        if let Some(what) = self.header(Role::Object, &mut member)? {
            return self.missed(path, what);
        }
        self.put(&map.unwrap_or_default())?;
        // Of a file with holes not all bytes are read.
        let proven = if extents.is_none() { source.proven(size) } else { None };
        let mut copy = Copy { hash: Sha256::new(), is_hashed: proven.is_none(), at: 0, damage: None };
        let whole = [Range { start: 0, end: size }];
        for extent in extents.as_deref().unwrap_or(&whole) {
            copy.zeros(extent.start);
            self.extent(&mut copy, extent.end, source)?;
        }
        copy.zeros(size);
        copy.look_behind(size, source)?;
        self.pad(member.stored)?;
        let hash = proven.unwrap_or_else(|| Id(copy.hash.finalize().into()));
        self.count(node);
        self.catalog.member(&member, Some(hash), copy.damage.as_deref())?;
        let Some(reason) = copy.damage else {
            self.before = Before::Content(hash);
            self.links.remember(node, content, path)?;
            return Ok(Stored::Whole);
        };
        self.before = Before::Damaged;
        self.totals.damaged += 1;
        self.list(path, &reason);
        Ok(Stored::Damaged(reason))
    }

    /// Copies from where the copy is up to `end`, zeros where there is nothing.
    fn extent(&mut self, copy: &mut Copy, end: u64, source: &mut dyn Source) -> Result<()> {
        while copy.at < end {
            let wanted = (end - copy.at).min(PIECE_BYTES as u64) as usize;
            let bytes = copy.next(wanted, source)?;
            if bytes.is_empty() {
                let at = copy.at;
                copy.damage.get_or_insert_with(|| format!("it ends at {at}, before its size"));
            }
            let bytes = if bytes.is_empty() { ZEROS.get(..wanted).unwrap_or(&ZEROS) } else { bytes };
            copy.take(bytes);
            self.put(bytes)?;
        }
        Ok(())
    }

    /// Writes the catalog and the end.
    ///
    /// # Errors
    /// `Write`, `Scratch`.
    pub fn finish(mut self) -> Result<Wrote<W>> {
        let directory = String::from_utf8_lossy(&self.session).into_owned();
        let (size, mut text) = self.catalog.finish(self.totals)?;
        let (path, node) = own(format!(".rewind/{directory}/catalog.jsonl"), size, Timestamp::now());
        self.header(Role::Catalog, &mut member(&path, &node))?;
        let mut left = size;
        let mut piece = std::mem::take(&mut self.piece);
        while left > 0 {
            let wanted = left.min(PIECE_BYTES as u64) as usize;
            let room = piece.get_mut(..wanted).unwrap_or_default();
            text.read_exact(room).map_err(ArchiveError::scratch("read"))?;
            self.put(room)?;
            left -= wanted as u64;
        }
        self.pad(size)?;
        self.put(&[0; 2 * BLOCK_BYTES])?;
        let offset = self.at;
        self.out.flush().map_err(|source| ArchiveError::Write { offset, source })?;
        Ok(Wrote { out: self.out, bytes: self.at, totals: self.totals, listed: self.listed })
    }
}

pub(super) fn member(path: &[u8], node: &Node) -> Member {
    let node = Node { content: Vec::new(), subtree: None, ..node.clone() };
    let (kind, first, stored) = (MemberKind::Node, Vec::new(), node.size);
    Member { path: path.to_vec(), node, kind, first, offset: 0, stored, sparse: false }
}

/// A content on its way.
struct Copy {
    hash: Sha256,
    /// Whether the hash is not known without.
    is_hashed: bool,
    at: u64,
    /// Why it is not what it should be; from then on all is zeros.
    damage: Option<String>,
}

impl Copy {
    /// Bytes up to `end` that are not stored.
    fn zeros(&mut self, end: u64) {
        hash_zeros(&mut self.hash, end.saturating_sub(self.at));
        self.at = self.at.max(end);
    }

    /// The next bytes; none where there are none, and from then on.
    fn next<'s>(&mut self, limit: usize, source: &'s mut dyn Source) -> Result<&'s [u8]> {
        if self.damage.is_some() {
            return Ok(&[]);
        }
        match source.bytes(self.at, limit) {
            Ok(bytes) => Ok(bytes.get(..limit).unwrap_or(bytes)),
            Err(SourceFailure::File(reason)) => {
                self.damage = Some(reason);
                Ok(&[])
            }
            Err(SourceFailure::All(source)) => Err(ArchiveError::Source { source }),
            Err(SourceFailure::Cancelled) => Err(ArchiveError::Cancelled),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.is_hashed {
            self.hash.update(bytes);
        }
        self.at += bytes.len() as u64;
    }

    /// A file that goes on behind its size is not the file that was listed.
    fn look_behind(&mut self, size: u64, source: &mut dyn Source) -> Result<()> {
        if self.damage.is_none() && !self.next(1, source)?.is_empty() {
            self.damage = Some(format!("it goes on behind its size of {size}"));
        }
        Ok(())
    }
}

pub(super) fn hash_zeros(hash: &mut Sha256, mut count: u64) {
    while count > 0 {
        let piece = count.min(ZEROS.len() as u64);
        hash.update(ZEROS.get(..piece as usize).unwrap_or_default());
        count -= piece;
    }
}
