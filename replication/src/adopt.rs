//! Adoption: a tree that was there before the journal becomes the journal's first point.
//!
//! The replica root of a new scenario may hold an older copy of what is to be protected. [`adopt`] walks it and writes
//! captures of provenance `Synchronization` that say what is there: names, metadata, and sizes. Bytes are not read:
//! they lie in the tree already, and from the first capture of a master on undo keeps what is replaced. After the last
//! of these captures the journal stands exactly as after a first synchronization from a master that held this tree, so
//! every later reader (views, rewind, the namespace for a master's index) works as it is, and the synchronization that
//! follows is a later one, which records undo like any event.
//!
//! Who mints: a captured LSN is the master's to mint, and here no master has minted any. The journal must be new (this
//! is checked); a master that meets it later goes on after what is journaled, as it does whenever it meets a journal.
//! What the master is not told by these captures: its own inodes and change times, so it finds nodes by their paths
//! and trusts size and modification time (row B3 of the behaviours), both once only.
//!
//! Crash: the caller gives a journal in a directory that nothing refers to and puts it in its place when this has
//! returned. Until then nothing exists; the tree is only read. Hence no step here needs to be repeatable.
//!
//! Hostile trees: no path is resolved, one component at a time, never over a link or a mount point. What is mounted
//! below the root belongs to another file system, where nothing could be kept by renaming: it is left out and listed.
//! Whatever cannot be listed or looked at ends the adoption with its path, for the tree would not be known. Memory
//! holds the names of the directories on the way down and a bounded batch; hard links met so far are in the tables.

use journal::journal::Journal;
use journal::log::{Part, RecordAt};
use journal::record::{Applied, UndoPart, UndoRecord};
use journal::{
    Capture, Edge, Event, JournalError, Kind, Lsn, Marker, Meta, Name, NodeId, Provenance, RootNo,
    SkippedWhat, Space, Timestamp, TreeIo, TreeStat, Xattrs,
};
use parking_lot::{Condvar, Mutex};
use std::io;
use std::sync::Arc;

/// Events of one capture, and about how many bytes.
const CAPTURE_EVENTS: usize = 512;
const CAPTURE_BYTES: usize = 256 << 10;
/// Inodes of one cursor record.
const INODES: usize = 20_000;
/// Extended attributes of one node longer than this together are left out, and listed.
const XATTRS_BYTES_MAX: usize = 1 << 20;
/// Directories on the way down that are held open.
const OPEN_MAX: usize = 128;
const CROSSES_DEVICES: i32 = 18;
const TOO_LONG: i32 = 7;
const NOT_SUPPORTED: i32 = 95;

/// Paths remembered of what was left out.
const LEFT_OUT_MAX: usize = 200;

/// Something that could not be taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The root.
    pub root: RootNo,
    /// Path relative to it.
    pub path: Vec<u8>,
    /// What of it.
    pub what: SkippedWhat,
    /// Why, as an error number.
    pub errno: i32,
}

/// What was found in a tree that was adopted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The point that shows the tree as it was found.
    pub lsn: Lsn,
    /// Nodes that are no directories; one with several names counts once.
    pub files: u64,
    /// Directories, roots among them.
    pub directories: u64,
    /// Length of all files in bytes.
    pub bytes: u64,
    /// Names of which something was left out.
    pub skipped: u64,
    /// The first of them.
    pub left_out: Vec<LeftOut>,
}

/// Why a tree was not adopted. Nothing has happened to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The journal holds something, or cannot be written.
    #[error("write the journal of an adopted tree")]
    Journal(#[from] JournalError),
    /// A part of the tree cannot be looked at.
    #[error("{operation} {path}, below root {root}")]
    Tree { operation: &'static str, root: u16, path: String, source: io::Error },
    /// The kept area holds what an earlier scenario left.
    #[error("the kept area beside root {root} is not empty")]
    Kept { root: u16 },
    /// Whoever asked for it changed their mind.
    #[error("cancelled")]
    Cancelled,
}

/// Journals the trees of all roots as they are. `journal` must be new. `watch` is told how many objects were found,
/// now and then, and says whether to go on. Returns when everything is durable; the journal is to be closed then, and
/// its tables thrown away.
///
/// # Errors
/// As [`AdoptError`]; the journal is worth nothing then.
pub fn adopt<T: TreeIo>(
    journal: &Arc<Journal>,
    tree: &T,
    roots: u16,
    watch: &mut dyn FnMut(u64) -> bool,
) -> Result<Adopted, AdoptError> {
    if journal.journaled() != Lsn::ZERO {
        return Err(AdoptError::Journal(JournalError::Inconsistent {
            lsn: journal.journaled(),
            what: "a tree is adopted into a journal that holds captures",
        }));
    }
    let mut walk = Walk::new(journal, tree, watch);
    walk.mark(RootNo(0), Marker::SynchronizationStarted { first: true })?;
    for root in (0..roots).map(RootNo) {
        walk.root(root)?;
    }
    walk.finish()
}

/// A directory on the way down.
struct Level<D> {
    node: NodeId,
    /// Its name in the directory above; none for a root.
    name: Option<Name>,
    /// Closed where the way down is long.
    dir: Option<D>,
    rest: std::vec::IntoIter<Name>,
}

struct Walk<'a, T: TreeIo> {
    journal: &'a Arc<Journal>,
    tree: &'a T,
    watch: &'a mut dyn FnMut(u64) -> bool,
    time: Timestamp,
    lsn: Lsn,
    next_node: u64,
    levels: Vec<Level<T::Dir>>,
    events: Vec<Event>,
    bytes: usize,
    inodes: Vec<(NodeId, u64)>,
    found: Adopted,
    written: Arc<(Mutex<Written>, Condvar)>,
}

/// What the journal's writer said last.
#[derive(Default)]
struct Written {
    upto: Lsn,
    at: RecordAt,
    failure: Option<JournalError>,
}

impl<'a, T: TreeIo> Walk<'a, T> {
    fn new(journal: &'a Arc<Journal>, tree: &'a T, watch: &'a mut dyn FnMut(u64) -> bool) -> Self {
        Walk {
            journal,
            tree,
            watch,
            time: journal.clock().now(),
            lsn: Lsn::ZERO,
            next_node: NodeId::FIRST_FREE.0,
            levels: Vec::new(),
            events: Vec::new(),
            bytes: 0,
            inodes: Vec::new(),
            found: Adopted::default(),
            written: Arc::default(),
        }
    }

    /// One root: its own metadata, then all that is below it.
    fn root(&mut self, root: RootNo) -> Result<(), AdoptError> {
        let failed = self.failed("open", root);
        let kept = self.tree.kept(root).and_then(|kept| self.tree.list(&kept)).map_err(&failed)?;
        // What a scrub put aside is of no scenario, and nothing of ours is looked for there.
        if kept.iter().any(|name| name.as_bytes() != crate::apply::STRANGE.as_bytes()) {
            return Err(AdoptError::Kept { root: root.0 });
        }
        let dir = self.tree.root(root).map_err(&failed)?;
        let stat = self.tree.stat_dir(&dir).map_err(&failed)?;
        let node = NodeId::root(root);
        let xattrs = self.tree.dir_xattrs(&dir);
        let xattrs = self.bounded(root, xattrs, None)?;
        let attributes = stat.attributes;
        self.push(root, Event::SetAttributes { node, attributes }, 100)?;
        if !xattrs.is_empty() {
            let bytes = xattrs_bytes(&xattrs);
            self.push(root, Event::SetXattrs { node, xattrs }, bytes)?;
        }
        self.found.directories += 1;
        let names = self.tree.list(&dir).map_err(self.failed("list", root))?;
        self.levels.push(Level { node, name: None, dir: Some(dir), rest: names.into_iter() });
        while let Some(level) = self.levels.last_mut() {
            match level.rest.next() {
                Some(name) => self.entry(root, name)?,
                None => _ = self.levels.pop(),
            }
        }
        self.flush(root)
    }

    fn entry(&mut self, root: RootNo, name: Name) -> Result<(), AdoptError> {
        let dir = self.directory(root)?;
        let Some(parent) = self.levels.last().map(|level| level.node) else { return Ok(()) };
        // Gone since the listing: then it is not there.
        let stat = self.tree.stat(&dir, &name).map_err(|e| self.error("look at", root, Some(&name), e))?;
        let Some(stat) = stat else { return Ok(()) };
        let xattrs = match self.tree.xattrs(&dir, &name, &stat.kind) {
            Err(error) if error.raw_os_error() == Some(CROSSES_DEVICES) => {
                return self.skip(root, Some(&name), SkippedWhat::MountPoint, CROSSES_DEVICES);
            }
            xattrs => self.bounded(root, xattrs, Some(&name))?,
        };
        let at = Edge::new(parent, name.clone());
        let linked = stat.links > 1 && !stat.kind.is_directory();
        let key = [&b"adopted"[..], &root.0.to_be_bytes(), &stat.inode.to_be_bytes()].concat();
        if linked && let Some(node) = self.journal.tables().get(Space::Links, &key)? {
            let node = NodeId::from_key(&node).ok_or(JournalError::BadRow { space: "links" })?;
            return self.push(root, Event::Link { node, at, parent_mtime: None }, 200);
        }
        let node = NodeId(self.next_node);
        self.next_node += 1;
        if linked {
            self.journal.tables().commit(vec![(Space::Links, key, Some(node.to_key().to_vec()))])?;
        }
        let inside = if stat.kind.is_directory() {
            let below = self.tree.open_dir(&dir, &name);
            let listed = below.and_then(|below| Ok((self.tree.list(&below)?, below)));
            Some(listed.map_err(|error| self.error("list", root, Some(&name), error))?)
        } else {
            None
        };
        self.create(root, node, at, &stat, xattrs)?;
        if let Some((names, below)) = inside {
            // The one above is opened again when its turn comes, if it has anything left.
            if let Some(far) =
                self.levels.len().checked_sub(OPEN_MAX).and_then(|far| self.levels.get_mut(far))
            {
                far.dir = None;
            }
            self.levels.push(Level { node, name: Some(name), dir: Some(below), rest: names.into_iter() });
        }
        Ok(())
    }

    fn create(
        &mut self,
        root: RootNo,
        node: NodeId,
        at: Edge,
        stat: &TreeStat,
        xattrs: Xattrs,
    ) -> Result<(), AdoptError> {
        let is_file = stat.kind.is_file();
        match stat.kind {
            Kind::Directory => self.found.directories += 1,
            _ => self.found.files += 1,
        }
        self.found.bytes = self.found.bytes.saturating_add(stat.size);
        let bytes = 300 + at.name.as_bytes().len() + xattrs_bytes(&xattrs);
        // The change time is the replica's own; the master's is not known.
        let attributes = journal::Attributes { ctime: Timestamp(0), ..stat.attributes };
        let meta = Meta { kind: stat.kind.clone(), size: 0, attributes, xattrs };
        self.push(root, Event::Create { node, at, meta, origin: None, parent_mtime: None }, bytes)?;
        if is_file && stat.size > 0 {
            self.push(root, Event::Resize { node, size: stat.size }, 50)?;
        }
        self.inodes.push((node, stat.inode));
        if self.inodes.len() >= INODES {
            self.cursor(true)?;
        }
        let objects = self.found.files + self.found.directories;
        if objects.is_multiple_of(256) && !(self.watch)(objects) {
            return Err(AdoptError::Cancelled);
        }
        Ok(())
    }

    /// The open directory of the last level; the way to it is opened again if it was closed.
    fn directory(&mut self, root: RootNo) -> Result<T::Dir, AdoptError> {
        if let Some(dir) = self.levels.last().and_then(|level| level.dir.clone()) {
            return Ok(dir);
        }
        let mut dir = self.tree.root(root).map_err(self.failed("open", root))?;
        let near = self.levels.len().saturating_sub(OPEN_MAX);
        for number in 0..self.levels.len() {
            let Some(level) = self.levels.get(number) else { break };
            if let Some(name) = &level.name {
                dir = match &level.dir {
                    Some(dir) => dir.clone(),
                    None => self
                        .tree
                        .open_dir(&dir, name)
                        .map_err(|error| self.error("open", root, Some(name), error))?,
                };
            }
            if let Some(level) = self.levels.get_mut(number).filter(|_| number >= near) {
                level.dir = Some(dir.clone());
            }
        }
        Ok(dir)
    }

    /// Extended attributes, unless they are too many; none where they cannot be had.
    fn bounded(
        &mut self,
        root: RootNo,
        xattrs: io::Result<Xattrs>,
        name: Option<&Name>,
    ) -> Result<Xattrs, AdoptError> {
        match xattrs {
            Ok(xattrs) if xattrs_bytes(&xattrs) <= XATTRS_BYTES_MAX => Ok(xattrs),
            Ok(_) => self.skip(root, name, SkippedWhat::Xattrs, TOO_LONG).map(|()| Xattrs::new()),
            Err(error) if error.raw_os_error() == Some(NOT_SUPPORTED) => Ok(Xattrs::new()),
            Err(error) => Err(self.error("read the extended attributes of", root, name, error)),
        }
    }

    fn skip(
        &mut self,
        root: RootNo,
        name: Option<&Name>,
        what: SkippedWhat,
        errno: i32,
    ) -> Result<(), AdoptError> {
        self.found.skipped += 1;
        let path = self.path(name);
        if self.found.left_out.len() < LEFT_OUT_MAX {
            self.found.left_out.push(LeftOut { root, path: path.clone(), what, errno });
        }
        let bytes = path.len();
        self.push(root, Event::Mark(Marker::Skipped { root, path, what, errno }), bytes)
    }

    /// Path relative to the root of a name in the last level.
    fn path(&self, name: Option<&Name>) -> Vec<u8> {
        let names = self.levels.iter().filter_map(|level| level.name.as_ref()).chain(name);
        names.map(Name::as_bytes).collect::<Vec<_>>().join(&b'/')
    }

    fn error(
        &self,
        operation: &'static str,
        root: RootNo,
        name: Option<&Name>,
        source: io::Error,
    ) -> AdoptError {
        let path = String::from_utf8_lossy(&self.path(name)).into_owned();
        let path = if path.is_empty() { "the root itself".to_owned() } else { path };
        AdoptError::Tree { operation, root: root.0, path, source }
    }

    fn failed(&self, operation: &'static str, root: RootNo) -> impl Fn(io::Error) -> AdoptError + use<T> {
        let path = "the root itself".to_owned();
        move |source| AdoptError::Tree { operation, root: root.0, path: path.clone(), source }
    }

    fn push(&mut self, root: RootNo, event: Event, bytes: usize) -> Result<(), AdoptError> {
        if self.events.len() >= CAPTURE_EVENTS || self.bytes + bytes > CAPTURE_BYTES {
            self.flush(root)?;
        }
        self.events.push(event);
        self.bytes += bytes;
        Ok(())
    }

    fn mark(&mut self, root: RootNo, marker: Marker) -> Result<(), AdoptError> {
        self.flush(root)?;
        self.events.push(Event::Mark(marker));
        self.flush(root)
    }

    /// Hands the batch to the journal's writer, which holds the walk back if it is behind.
    fn flush(&mut self, root: RootNo) -> Result<(), AdoptError> {
        if self.events.is_empty() {
            return Ok(());
        }
        self.lsn = Lsn::captured(self.lsn.captured + 1);
        self.bytes = 0;
        let capture = Capture {
            lsn: self.lsn,
            time: self.time,
            provenance: Provenance::Synchronization,
            root,
            path: Vec::new(),
            events: std::mem::take(&mut self.events),
        };
        let written = Arc::clone(&self.written);
        self.journal.submit(vec![Part { number: 0, last: true, capture }], move |durable| {
            let mut state = written.0.lock();
            match durable {
                Ok(durable) => {
                    if let Some(one) = durable.last() {
                        (state.upto, state.at) = (one.part.capture.lsn, one.at);
                    }
                }
                Err(error) => _ = state.failure.get_or_insert(error),
            }
            written.1.notify_all();
        });
        match self.written.0.lock().failure.take() {
            Some(error) => Err(AdoptError::Journal(error)),
            None => Ok(()),
        }
    }

    /// Waits until everything handed over is durable.
    fn settle(&self) -> Result<(), AdoptError> {
        let mut state = self.written.0.lock();
        while state.upto < self.lsn {
            if let Some(error) = state.failure.take() {
                return Err(AdoptError::Journal(error));
            }
            self.written.1.wait(&mut state);
        }
        Ok(())
    }

    /// Says which inodes the nodes have; without `more` also that the tree is as journaled.
    fn cursor(&mut self, more: bool) -> Result<(), AdoptError> {
        let redo = self.written.0.lock().at;
        let inodes = std::mem::take(&mut self.inodes);
        let applied = Applied { captured: self.lsn.captured, local: 0, redo, inodes, more };
        let now = self.journal.clock().now();
        self.journal.write_undo(|log| log.append(&UndoRecord::applied_draft(&applied, now)))?;
        Ok(())
    }

    fn finish(mut self) -> Result<Adopted, AdoptError> {
        let Adopted { files, directories, bytes, .. } = self.found;
        self.mark(RootNo(0), Marker::SynchronizationCompleted { files, directories, bytes })?;
        self.settle()?;
        // Nothing is replaced, but the undo stream must say how far the tree is.
        let undo = UndoPart { lsn: self.lsn, last: true, ..UndoPart::default() };
        let draft = undo.to_draft(self.time, Vec::new());
        self.journal.write_undo(|log| log.append(&draft))?;
        self.cursor(false)?;
        Ok(Adopted { lsn: self.lsn, ..self.found })
    }
}

fn xattrs_bytes(xattrs: &Xattrs) -> usize {
    xattrs.iter().map(|(name, value)| name.len() + value.len() + 20).sum()
}

#[cfg(test)]
mod tests;
