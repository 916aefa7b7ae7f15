//! A session of a repository as an archive.
//!
//! Trees are walked depth first, in the order of names; a level of the walk holds its tree's text. Files are read blob
//! by blob. Where a blob takes next to nothing it may be zeros: it is looked at before the file's header is written, so
//! that zeros become holes.
//!
//! A blob that is damaged or gone makes its file damaged, a tree what is below it missed: both are told and counted. A
//! store that does not answer ends the work: all files would be missed.

use super::label::SessionLabel;
use super::sparse::{HOLE_BYTES_MIN, data_of};
use super::writer::{SessionWriter, Source, SourceFailure, Wrote};
use super::{ArchiveError, Result, path_refusal};
use crate::repository::tree::{RawNode, RawTree};
use crate::repository::{
    BlobKind, Id, Node, NodeKind, Repository, RepositoryError, RepositoryErrorKind, chain,
};
use crate::session::Monitor;
use std::collections::HashSet;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// A blob that shrank to less than a part of this may hold long runs of zeros.
const SHRUNK: u64 = 16;
/// Blobs remembered as zeros.
const ZEROS_MAX: usize = 4096;
/// Bytes of trees that are open at a time.
const OPEN_BYTES_MAX: usize = 2 << 30;

/// A directory on the way.
struct Level {
    tree: Id,
    json: Vec<u8>,
    /// The texts of its nodes in `json`, in order of names.
    nodes: Vec<Range<usize>>,
    next: usize,
    /// Bytes of its path.
    path: usize,
}

/// Writes the session whose root tree is `tree`. Scratch files are made in `scratch`.
///
/// # Errors
/// `Repository` if the root or the store cannot be read; `Write`, `Scratch`, `TooMany`, `Cancelled`.
pub fn from_repository<W: Write>(
    repository: &Repository,
    (label, tree): (&SessionLabel, &Id),
    out: W,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Wrote<W>> {
    let writer = SessionWriter::begin(out, label, scratch)?;
    let top = level(repository, *tree, 0)?;
    let open_bytes = top.json.len();
    let zeros = HashSet::new();
    let mut walk =
        Walk { repository, monitor, writer, levels: vec![top], path: Vec::new(), zeros, open_bytes };
    while walk.step()? {}
    walk.writer.finish()
}

fn level(repository: &Repository, tree: Id, path: usize) -> std::result::Result<Level, RepositoryError> {
    let json = repository.load_blob(BlobKind::Tree, &tree)?;
    let raw = RawTree::new(&tree, &json)?;
    let start = json.as_ptr() as usize;
    let nodes = raw
        .nodes()
        .map(|node| {
            let at = (node.text().as_ptr() as usize).saturating_sub(start);
            at..at + node.text().len()
        })
        .collect();
    drop(raw);
    Ok(Level { tree, json, nodes, next: 0, path })
}

struct Walk<'r, W: Write> {
    repository: &'r Repository,
    monitor: &'r dyn Monitor,
    writer: SessionWriter<W>,
    levels: Vec<Level>,
    path: Vec<u8>,
    /// Blobs that are nothing but zeros.
    zeros: HashSet<Id>,
    open_bytes: usize,
}

impl<W: Write> Walk<'_, W> {
    /// Takes the next node; false at the end.
    fn step(&mut self) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        self.path.truncate(level.path);
        let Some(range) = level.nodes.get(level.next).cloned() else {
            self.open_bytes = self.open_bytes.saturating_sub(level.json.len());
            self.levels.pop();
            return Ok(true);
        };
        if self.monitor.cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        level.next += 1;
        let text = level.json.get(range).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        let read = RawNode::read_text(level.tree, level.next - 1, text);
        let node = match read {
            Ok(node) => node,
            // Its name is part of what cannot be read.
            Err(error) => {
                let reason = format!("an entry of it cannot be read: {}", chain(&error));
                return self.writer.missed(&self.path, &reason).map(|_| true);
            }
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&node.name);
        if let Some(what) = path_refusal(&self.path) {
            self.writer.missed(&self.path, what)?;
            return Ok(true);
        }
        self.node(&node)?;
        self.monitor.progress(self.writer.totals().members, self.writer.totals().bytes);
        Ok(true)
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        match (node.kind, node.subtree) {
            (NodeKind::File, _) => self.file(node),
            (_, Some(tree)) => {
                self.writer.node(&self.path, node)?;
                self.directory(tree)
            }
            _ => self.writer.node(&self.path, node).map(drop),
        }
    }

    fn directory(&mut self, tree: Id) -> Result<()> {
        match level(self.repository, tree, self.path.len()) {
            Ok(level) if self.open_bytes + level.json.len() > OPEN_BYTES_MAX => {
                self.writer.missed(&self.path, "it and the directories above it are too large").map(drop)
            }
            Ok(level) => {
                self.open_bytes += level.json.len();
                self.levels.push(level);
                Ok(())
            }
            Err(error) if is_of_one(&error) => {
                self.writer
                    .missed(&self.path, &format!("what is in it cannot be listed: {}", chain(&error)))?;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn file(&mut self, node: &Node) -> Result<()> {
        let content = content_id(node);
        if self.writer.link(&self.path, node, &content)?.is_some() {
            return Ok(());
        }
        let mut blobs = Blobs::new(self.repository, self.monitor, &node.content);
        let data = self.data(node, &mut blobs)?;
        self.writer.file((&self.path, node), &content, &data, &mut blobs)?;
        Ok(())
    }

    /// Where a file may hold other bytes than zeros.
    fn data(&mut self, node: &Node, blobs: &mut Blobs<'_>) -> Result<Vec<Range<u64>>> {
        let index = self.repository.index()?;
        let mut data: Vec<Range<u64>> = Vec::new();
        let mut at = 0_u64;
        let mut before = None;
        for blob in &node.content {
            // What is not there is found when it is read.
            let Some(place) = index.lookup(BlobKind::Data, blob) else { return Ok(whole(node.size)) };
            let end = at.saturating_add(place.plain_bytes());
            let shrunk = u64::from(place.length) < place.plain_bytes() / SHRUNK || before == Some(blob);
            if self.zeros.contains(blob) {
                // A hole.
            } else if shrunk && end - at >= HOLE_BYTES_MIN {
                match blobs.load(blob) {
                    Ok(plain) => {
                        let count = data.len();
                        let last = data.last().cloned();
                        data_of(&plain, at, &mut data);
                        if data.len() == count && data.last() == last.as_ref() && self.zeros.len() < ZEROS_MAX
                        {
                            self.zeros.insert(*blob);
                        }
                    }
                    Err(SourceFailure::File(_)) => return Ok(whole(node.size)),
                    Err(SourceFailure::All(source)) => return Err(ArchiveError::Source { source }),
                    Err(SourceFailure::Cancelled) => return Err(ArchiveError::Cancelled),
                }
            } else {
                match data.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => data.push(at..end),
                }
            }
            (at, before) = (end, Some(blob));
        }
        if at == node.size { Ok(data) } else { Ok(whole(node.size)) }
    }
}

/// Whether an error is of one object, and others can still be read.
fn is_of_one(error: &RepositoryError) -> bool {
    matches!(
        error.kind(),
        RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound | RepositoryErrorKind::Refused
    )
}

/// All of a file, where nobody knows better.
fn whole(size: u64) -> Vec<Range<u64>> {
    Vec::from([Range { start: 0, end: size }])
}

/// Names the content of a file.
fn content_id(node: &Node) -> Id {
    let ids: Vec<u8> = node.content.iter().flat_map(|blob| blob.0).collect();
    Id::of(&ids)
}

/// The bytes of a file, blob by blob.
struct Blobs<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    blobs: &'a [Id],
    /// Which blob comes next, and where it begins in the file.
    next: (usize, u64),
    /// The blob at hand, and where it begins.
    plain: (Vec<u8>, u64),
}

impl<'a> Blobs<'a> {
    fn new(repository: &'a Repository, monitor: &'a dyn Monitor, blobs: &'a [Id]) -> Self {
        Self { repository, monitor, blobs, next: (0, 0), plain: (Vec::new(), 0) }
    }

    fn load(&self, blob: &Id) -> std::result::Result<Vec<u8>, SourceFailure> {
        if self.monitor.cancelled() {
            return Err(SourceFailure::Cancelled);
        }
        self.repository.load_blob(BlobKind::Data, blob).map_err(|error| {
            if is_of_one(&error) {
                SourceFailure::File(chain(&error))
            } else {
                SourceFailure::All(error.into())
            }
        })
    }

    /// Length of a blob without reading it, as the index says.
    fn length(&self, blob: &Id) -> Option<u64> {
        let index = self.repository.index().ok()?;
        index.lookup(BlobKind::Data, blob).map(|place| place.plain_bytes())
    }
}

impl Source for Blobs<'_> {
    fn read_at(&mut self, room: &mut [u8], offset: u64) -> std::result::Result<usize, SourceFailure> {
        loop {
            let (plain, start) = &self.plain;
            let skip = offset.checked_sub(*start).and_then(|skip| usize::try_from(skip).ok());
            if let Some(rest) = skip.and_then(|skip| plain.get(skip..)).filter(|rest| !rest.is_empty()) {
                let count = rest.len().min(room.len());
                room.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                return Ok(count);
            }
            let (number, start) = self.next;
            let Some(blob) = self.blobs.get(number) else { return Ok(0) };
            // What lies before is a hole and not read.
            match self.length(blob).filter(|length| start + length <= offset) {
                Some(length) => self.next = (number + 1, start + length),
                None => {
                    let plain = self.load(blob)?;
                    self.next = (number + 1, start + plain.len() as u64);
                    self.plain = (plain, start);
                }
            }
        }
    }
}
