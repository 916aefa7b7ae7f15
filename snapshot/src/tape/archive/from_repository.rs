//! A session of a repository as an archive.
//!
//! Trees are walked depth first, in the order of names; a level of the walk holds its tree's text. Blobs are loaded ahead of who
//! writes, several at a time ([`super::ahead`]). A file of one blob has that blob's id for its SHA-256, which was proved when
//! it was loaded. Where a blob takes next to nothing it may be zeros: it is looked at before the file's header is written, so
//! that zeros become holes.
//!
//! A blob that is damaged or gone makes its file damaged, a tree what is below it missed: both are told and counted. A
//! store that does not answer ends the work: all files would be missed.

use super::ahead::{Ahead, Found, Group, Loading, write};
use super::label::SessionLabel;
use super::sparse::{HOLE_BYTES_MIN, data_of, refusal, stored};
use super::writer::{SessionWriter, SourceFailure, Wrote};
use super::{ArchiveError, Result, path_refusal};
use crate::repository::index::Location;
use crate::repository::read::PackRead;
use crate::repository::tree::{RawNode, RawTree};
use crate::repository::{
    BlobKind, Id, Node, NodeKind, Repository, RepositoryError, RepositoryErrorKind, chain,
};
use crate::session::Monitor;
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// A blob that shrank to less than a part of this may hold long runs of zeros.
const SHRUNK: u64 = 16;
/// Blobs remembered as zeros.
const ZEROS_MAX: usize = 4096;
/// Bytes of blobs of a file that were looked at and are kept, and one more blob.
const LOOKED_BYTES_MAX: usize = 16 << 20;
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
    let load = |blobs: &[Location], room: Vec<u8>| load(repository, monitor, blobs, room);
    let loading = Loading { load: &load, connections: repository.store().connections() };
    write(writer, monitor, Some(loading), |out| {
        let (open_bytes, zeros, levels) = (top.json.len(), HashSet::new(), vec![top]);
        let (path, looked) = (Vec::new(), HashMap::new());
        let mut walk = Walk { repository, monitor, out, levels, path, zeros, looked, open_bytes };
        while walk.step()? {}
        Ok(())
    })
}

/// Loads blobs, those of one pack together.
fn load(
    repository: &Repository,
    monitor: &dyn Monitor,
    wanted: &[Location],
    mut bytes: Vec<u8>,
) -> std::result::Result<Group, SourceFailure> {
    bytes.clear();
    let mut order: Vec<(usize, &Location)> = wanted.iter().enumerate().collect();
    order.sort_unstable_by_key(|(_, place)| (place.pack, place.offset));
    let unread = || Err(SourceFailure::File("it was not read".to_owned()));
    let mut blobs: Vec<_> = wanted.iter().map(|_| unread()).collect();
    let mut end = None;
    for of_pack in order.chunk_by(|(_, one), (_, other)| one.pack == other.pack) {
        let Some((_, first)) = of_pack.first() else { continue };
        let read = PackRead { pack: first.pack, blobs: of_pack.iter().map(|(_, place)| **place).collect() };
        let mut numbers = of_pack.iter().map(|(number, _)| *number);
        repository.read_pack(&read, &mut |place, plain| {
            let Some(slot) = numbers.next().and_then(|number| blobs.get_mut(number)) else { return false };
            *slot = match plain {
                // What lies behind it in its file was placed by that length.
                Ok(plain) if plain.len() as u64 != place.plain_bytes() => {
                    Err(SourceFailure::File(format!("blob {} is not as long as the index says", place.id)))
                }
                Ok(plain) => {
                    let from = bytes.len();
                    bytes.extend_from_slice(plain);
                    Ok(from..bytes.len())
                }
                Err(error) => match failure(error) {
                    all @ SourceFailure::All(_) => {
                        end = Some(all);
                        return false;
                    }
                    of_one => Err(of_one),
                },
            };
            if monitor.cancelled() {
                end = Some(SourceFailure::Cancelled);
            }
            end.is_none()
        });
        if let Some(end) = end {
            return Err(end);
        }
    }
    Ok(Group { bytes, blobs })
}

fn failure(error: RepositoryError) -> SourceFailure {
    if is_of_one(&error) { SourceFailure::File(chain(&error)) } else { SourceFailure::All(error.into()) }
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

struct Walk<'r, 'o> {
    repository: &'r Repository,
    monitor: &'r dyn Monitor,
    out: &'o mut Ahead,
    levels: Vec<Level>,
    path: Vec<u8>,
    /// Blobs that are nothing but zeros.
    zeros: HashSet<Id>,
    /// Blobs of the file that were looked at, so that they are not loaded again.
    looked: HashMap<Id, Vec<u8>>,
    open_bytes: usize,
}

impl Walk<'_, '_> {
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
                return self.out.missed(&self.path, reason).map(|()| true);
            }
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&node.name);
        if let Some(what) = path_refusal(&self.path) {
            self.out.missed(&self.path, what.to_owned())?;
            return Ok(true);
        }
        self.node(node)?;
        Ok(true)
    }

    fn node(&mut self, node: Node) -> Result<()> {
        match (node.kind, node.subtree) {
            (NodeKind::File, _) => self.file(node),
            (_, Some(tree)) => {
                self.out.node(&self.path, node)?;
                self.directory(tree)
            }
            _ => self.out.node(&self.path, node),
        }
    }

    fn directory(&mut self, tree: Id) -> Result<()> {
        match level(self.repository, tree, self.path.len()) {
            Ok(level) if self.open_bytes + level.json.len() > OPEN_BYTES_MAX => {
                self.out.missed(&self.path, "it and the directories above it are too large".to_owned())
            }
            Ok(level) => {
                self.open_bytes += level.json.len();
                self.levels.push(level);
                Ok(())
            }
            Err(error) if is_of_one(&error) => {
                self.out.missed(&self.path, format!("what is in it cannot be listed: {}", chain(&error)))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn file(&mut self, mut node: Node) -> Result<()> {
        let blobs = std::mem::take(&mut node.content);
        let content = content_id(&blobs);
        if self.out.is_linked(&self.path, &node, &content)? {
            return Ok(());
        }
        let index = self.repository.index()?;
        let places: Vec<_> = blobs.iter().map(|blob| (blob, index.lookup(BlobKind::Data, blob))).collect();
        let size = node.size;
        let data = self.data(&places, size)?;
        if let Some(what) = refusal(&data, size) {
            return self.out.missed(&self.path, what.to_owned());
        }
        let extents = stored(&data, size);
        let only = blobs.first().copied().filter(|_| blobs.len() == 1);
        self.out.file(Found { path: self.path.clone(), node, content, data, only })?;
        let mut extents = extents.as_deref().map(|extents| extents.iter().peekable());
        let mut at = 0_u64;
        for (blob, place) in places {
            let Some(place) = place else {
                // Perhaps another index has it; only then is it known where the next begins.
                let loaded = self.load(blob);
                let Ok(bytes) = loaded.as_ref().map(|bytes| bytes.len() as u64) else {
                    return self.out.piece(at, loaded);
                };
                self.out.piece(at, loaded)?;
                at = at.saturating_add(bytes);
                continue;
            };
            let end = at.saturating_add(place.plain_bytes());
            let is_read = extents.as_mut().is_none_or(|extents| {
                while extents.next_if(|extent| extent.end <= at).is_some() {}
                // What lies behind the size is not what was listed, which is to be seen.
                extents.peek().map_or(end > size, |extent| extent.start < end)
            });
            if is_read {
                match self.looked.remove(blob) {
                    Some(plain) => self.out.piece(at, Ok(plain))?,
                    None => self.out.blob(at, place)?,
                }
            }
            at = end;
        }
        self.looked.clear();
        Ok(())
    }

    /// One blob, now.
    fn load(&self, blob: &Id) -> std::result::Result<Vec<u8>, SourceFailure> {
        // Of a file that is looked at nothing is put out until all of it was.
        if self.monitor.cancelled() || self.out.is_over() {
            return Err(SourceFailure::Cancelled);
        }
        self.repository.load_blob(BlobKind::Data, blob).map_err(failure)
    }

    /// Where a file may hold other bytes than zeros.
    fn data(&mut self, blobs: &[(&Id, Option<Location>)], size: u64) -> Result<Vec<Range<u64>>> {
        // Of a file that was refused or broke off some may be left.
        self.looked.clear();
        let mut data: Vec<Range<u64>> = Vec::new();
        let mut at = 0_u64;
        let (mut before, mut looked) = (None, 0);
        for (blob, place) in blobs {
            // What is not there is found when it is read.
            let Some(place) = place else { return Ok(whole(size)) };
            let end = at.saturating_add(place.plain_bytes());
            let shrunk = u64::from(place.length) < place.plain_bytes() / SHRUNK || before == Some(*blob);
            if self.zeros.contains(*blob) {
                // A hole.
            } else if shrunk && end - at >= HOLE_BYTES_MIN {
                match self.load(blob) {
                    Ok(plain) => {
                        let count = data.len();
                        let last = data.last().cloned();
                        data_of(&plain, at, &mut data);
                        if data.len() == count && data.last() == last.as_ref() && self.zeros.len() < ZEROS_MAX
                        {
                            self.zeros.insert(**blob);
                        } else if looked < LOOKED_BYTES_MAX {
                            looked += plain.len();
                            self.looked.insert(**blob, plain);
                        }
                    }
                    Err(SourceFailure::File(_)) => return Ok(whole(size)),
                    Err(SourceFailure::All(source)) => return Err(ArchiveError::Source { source }),
                    Err(SourceFailure::Cancelled) => return Err(ArchiveError::Cancelled),
                }
            } else {
                match data.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => data.push(at..end),
                }
            }
            (at, before) = (end, Some(*blob));
        }
        if at == size { Ok(data) } else { Ok(whole(size)) }
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
fn content_id(blobs: &[Id]) -> Id {
    let ids: Vec<u8> = blobs.iter().flat_map(|blob| blob.0).collect();
    Id::of(&ids)
}
