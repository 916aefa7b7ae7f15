//! A point of a journal as an archive, without a repository between.
//!
//! The view is walked depth first, in the order of names, and files are read, by one thread ([`super::ahead`]); another
//! writes: the tape takes one member after the other. Nodes are those that a session in a repository would have, the directories above the entity's root too, so an archive of a
//! point holds the same as a copy of its session.
//!
//! A file that the replica does not give is missed, or damaged if that shows while it is read, also because undo of its bytes has
//! rotted or somebody has cut it. What fails for all files (tables, a segment that cannot be read at all) ends the work.

use super::ahead::{Ahead, Found, write};
use super::label::SessionLabel;
use super::sparse::{EXTENTS_MAX, HOLE_BYTES_MIN, refusal, stored};
use super::writer::{SessionWriter, SourceFailure, Wrote};
use super::{ArchiveError, Result, path_refusal};
use crate::repository::{Id, Node, chain};
use crate::session::node::{Held, node};
use crate::session::{Entity, Monitor, directories};
use journal::view::{Places, Seen, View, ViewFile, join};
use journal::{Edge, JournalError, Name, NodeId, TreeIo};
use std::io::Write;
use std::ops::Range;
use std::path::Path;

/// Directories above each other.
const DEPTH_MAX: usize = crate::repository::walk::TREE_DEPTH_MAX;

type Entries<'a> = Box<dyn Iterator<Item = std::result::Result<(Name, NodeId), JournalError>> + 'a>;

/// A directory on the way.
struct Level<'a> {
    entries: Entries<'a>,
    id: NodeId,
    /// Path of a member, without a slash in front.
    path: Vec<u8>,
}

/// Writes what `view` shows of an entity. Scratch files are made in `scratch`.
///
/// # Errors
/// `Source` if tables or undo cannot be read, or the view has no such root; `Write`, `Scratch`, `TooMany`, `Cancelled`.
pub fn from_view<T: TreeIo, W: Write>(
    view: &View<T>,
    (label, entity): (&SessionLabel, &Entity),
    out: W,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Wrote<W>> {
    let writer = SessionWriter::begin(out, label, scratch)?;
    write(writer, monitor, None, |out| {
        let places = Places::new(view);
        let mut walk = Walk { view, entity, monitor, places: &places, out, levels: Vec::new() };
        walk.begin()?;
        while walk.step()? {}
        Ok(())
    })
}

fn source(error: JournalError) -> ArchiveError {
    ArchiveError::Source { source: error.into() }
}

/// Whether an error is of one file, and others can still be read.
fn is_of_one(error: &JournalError) -> bool {
    matches!(
        error,
        JournalError::Tree { .. }
            | JournalError::Drift { .. }
            | JournalError::NotFound { .. }
            | JournalError::Damaged { .. }
    )
}

fn failure(error: JournalError) -> SourceFailure {
    if is_of_one(&error) { SourceFailure::File(chain(&error)) } else { SourceFailure::All(error.into()) }
}

struct Walk<'v, 'p, T: TreeIo> {
    view: &'v View<T>,
    entity: &'v Entity,
    monitor: &'v dyn Monitor,
    places: &'p Places<'v, T>,
    out: &'p mut Ahead,
    levels: Vec<Level<'v>>,
}

impl<'v, T: TreeIo> Walk<'v, '_, T> {
    /// The directories down to the root.
    fn begin(&mut self) -> Result<()> {
        let root = NodeId::root(self.entity.root);
        let missing =
            || ArchiveError::Source { source: format!("the view has no root {}", self.entity.root.0).into() };
        let meta = self.view.meta(root).map_err(source)?.ok_or_else(missing)?;
        let mut path = Vec::new();
        for (name, id, meta) in directories(self.entity, root, &meta) {
            path = join(&path, name);
            self.out.node(&path, node(self.entity, name, id, &meta, 0, Held::Nothing))?;
        }
        self.levels.push(Level { entries: Box::new(self.view.list(root)), id: root, path });
        Ok(())
    }

    /// Takes the next entry; false at the end.
    fn step(&mut self) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let Some(entry) = level.entries.next() else {
            self.levels.pop();
            return Ok(true);
        };
        if self.monitor.cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        let (name, id) = entry.map_err(source)?;
        let (directory, path) = (level.id, join(&level.path, name.as_bytes()));
        if let Some(what) = path_refusal(&path) {
            self.out.missed(&path, what.to_owned())?;
            return Ok(true);
        }
        self.entry(directory, path, name, id)?;
        Ok(true)
    }

    fn entry(&mut self, directory: NodeId, path: Vec<u8>, name: Name, id: NodeId) -> Result<()> {
        let Some(seen) = self.view.look(id).map_err(source)? else {
            let gone = JournalError::NotFound { what: "node", name: id.to_string() };
            return self.out.missed(&path, chain(&gone));
        };
        let is_directory = seen.meta.kind.is_directory();
        let links = if is_directory { 0 } else { self.places.names(id).map_err(source)?.len().max(1) };
        let own = node(self.entity, name.as_bytes(), id, &seen.meta, links as u64, Held::Nothing);
        self.monitor.object(&[b"/", path.as_slice()].concat(), &own);
        if is_directory {
            self.out.node(&path, own)?;
            if self.levels.len() >= DEPTH_MAX {
                return self.out.missed(&path, "too many directories are above it".to_owned());
            }
            self.levels.push(Level { entries: Box::new(self.view.list(id)), id, path });
            return Ok(());
        }
        if !seen.meta.kind.is_file() {
            return self.out.node(&path, own);
        }
        self.file(path, own, Edge::new(directory, name), (id, &seen))
    }

    fn file(&mut self, path: Vec<u8>, own: Node, place: Edge, (id, seen): (NodeId, &Seen)) -> Result<()> {
        // At one point, a node has one content.
        let content = Id([0; 32]);
        if self.out.is_linked(&path, &own, &content)? {
            return Ok(());
        }
        let opened = self.view.open_seen(id, seen, place);
        let found = opened.and_then(|mut file| Ok((data(&mut file)?, file)));
        let (data, mut file) = match found {
            Ok(found) => found,
            Err(error) if is_of_one(&error) => return self.out.missed(&path, chain(&error)),
            Err(error) => return Err(source(error)),
        };
        let size = own.size;
        if let Some(what) = refusal(&data, size) {
            return self.out.missed(&path, what.to_owned());
        }
        let extents = stored(&data, size);
        self.out.file(Found { path, node: own, content, data, only: None })?;
        let whole = [Range { start: 0, end: size }];
        for extent in extents.as_deref().unwrap_or(&whole) {
            if !self.read(&mut file, extent)? {
                return Ok(());
            }
        }
        // All was read; what was cut off behind our back was read as zeros.
        if let Err(error) = file.check_length() {
            return self.out.piece(size, Err(failure(error)));
        }
        Ok(())
    }

    /// Reads a stretch of a file; false if it does not give all of it.
    fn read(&mut self, file: &mut ViewFile<'_, T>, extent: &Range<u64>) -> Result<bool> {
        let mut at = extent.start;
        while at < extent.end {
            if self.monitor.cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let read = |room: &mut [u8]| file.read_at(room, at).map_err(failure);
            match self.out.read(at, extent.end - at, read)? {
                0 => return Ok(false),
                count => at += count as u64,
            }
        }
        Ok(true)
    }
}

/// Where a file may hold other bytes than zeros.
fn data<T: TreeIo>(file: &mut ViewFile<'_, T>) -> std::result::Result<Vec<Range<u64>>, JournalError> {
    let mut data: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while let Some(next) = file.next_data(at)? {
        // Whatever says less than it was asked for would be asked for ever.
        at = next.end.max(at + 1);
        let is_full = data.len() >= EXTENTS_MAX;
        match data.last_mut() {
            Some(last) if is_full => {
                last.end = file.size();
                break;
            }
            Some(last) if next.start < last.end.saturating_add(HOLE_BYTES_MIN) => last.end = next.end,
            _ => data.push(next),
        }
    }
    Ok(data)
}
