//! A point of a journal as an archive, without a repository between.
//!
//! The view is walked depth first, in the order of names, by one thread: the tape takes one member after the other. Nodes
//! are those that a session in a repository would have, the directories above the entity's root too, so an archive of a
//! point holds the same as a copy of its session.
//!
//! A file that the replica does not give is missed, or damaged if that shows while it is read, also because undo of its bytes has
//! rotted or somebody has cut it. What fails for all files (tables, a segment that cannot be read at all) ends the work.

use super::label::SessionLabel;
use super::sparse::{EXTENTS_MAX, HOLE_BYTES_MIN};
use super::writer::{SessionWriter, Source, SourceFailure, Wrote};
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
    let places = Places::new(view);
    let mut walk = Walk { view, entity, monitor, places: &places, writer, levels: Vec::new() };
    let root = NodeId::root(entity.root);
    let missing =
        || ArchiveError::Source { source: format!("the view has no root {}", entity.root.0).into() };
    let meta = view.meta(root).map_err(source)?.ok_or_else(missing)?;
    let mut path = Vec::new();
    for (name, id, meta) in directories(entity, root, &meta) {
        path = join(&path, name);
        walk.writer.node(&path, &node(entity, name, id, &meta, 0, Held::Nothing))?;
    }
    walk.levels.push(Level { entries: Box::new(view.list(root)), id: root, path });
    while walk.step()? {}
    walk.writer.finish()
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

struct Walk<'v, 'p, T: TreeIo, W: Write> {
    view: &'v View<T>,
    entity: &'v Entity,
    monitor: &'v dyn Monitor,
    places: &'p Places<'v, T>,
    writer: SessionWriter<W>,
    levels: Vec<Level<'v>>,
}

impl<'v, T: TreeIo, W: Write> Walk<'v, '_, T, W> {
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
            self.writer.missed(&path, what)?;
            return Ok(true);
        }
        self.entry(directory, path, name, id)?;
        let totals = self.writer.totals();
        self.monitor.progress(totals.members, totals.bytes);
        Ok(true)
    }

    fn entry(&mut self, directory: NodeId, path: Vec<u8>, name: Name, id: NodeId) -> Result<()> {
        let Some(seen) = self.view.look(id).map_err(source)? else {
            let gone = JournalError::NotFound { what: "node", name: id.to_string() };
            return self.writer.missed(&path, &chain(&gone)).map(drop);
        };
        let is_directory = seen.meta.kind.is_directory();
        let links = if is_directory { 0 } else { self.places.names(id).map_err(source)?.len().max(1) };
        let own = node(self.entity, name.as_bytes(), id, &seen.meta, links as u64, Held::Nothing);
        self.monitor.object(&[b"/", path.as_slice()].concat(), &own);
        if is_directory {
            self.writer.node(&path, &own)?;
            if self.levels.len() >= DEPTH_MAX {
                return self.writer.missed(&path, "too many directories are above it").map(drop);
            }
            self.levels.push(Level { entries: Box::new(self.view.list(id)), id, path });
            return Ok(());
        }
        if !seen.meta.kind.is_file() {
            return self.writer.node(&path, &own).map(drop);
        }
        self.file(&path, &own, Edge::new(directory, name), (id, &seen))
    }

    fn file(&mut self, path: &[u8], own: &Node, place: Edge, (id, seen): (NodeId, &Seen)) -> Result<()> {
        // At one point, a node has one content.
        let content = Id([0; 32]);
        if self.writer.link(path, own, &content)?.is_some() {
            return Ok(());
        }
        let opened = self.view.open_seen(id, seen, place);
        let found = opened.and_then(|mut file| Ok((data(&mut file)?, file)));
        let (data, file) = match found {
            Ok(found) => found,
            Err(error) if is_of_one(&error) => return self.writer.missed(path, &chain(&error)).map(drop),
            Err(error) => return Err(source(error)),
        };
        let mut bytes = OfView { file, monitor: self.monitor };
        self.writer.file((path, own), &content, &data, &mut bytes).map(drop)
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

struct OfView<'v, 'm, T: TreeIo> {
    file: ViewFile<'v, T>,
    monitor: &'m dyn Monitor,
}

impl<T: TreeIo> Source for OfView<'_, '_, T> {
    fn read_at(&mut self, room: &mut [u8], offset: u64) -> std::result::Result<usize, SourceFailure> {
        if self.monitor.cancelled() {
            return Err(SourceFailure::Cancelled);
        }
        if offset >= self.file.size() {
            // All was read; what was cut off behind our back was read as zeros.
            self.file.check_length().map_err(failure)?;
        }
        self.file.read_at(room, offset).map_err(failure)
    }
}
