//! The other direction: making the protected tree like a point of the past.
//!
//! Changes come as events in a valid serial order, in the way of [`journal::master`], and are carried out by the
//! agent's own thread, between two rounds. That is what makes them safe: the index then says exactly what the stream
//! has, and the replica has it on disk ([`super::CaptureSink::is_safe`]), so whatever stands in the way of a change
//! either is known down to its times, or is captured first. Nothing here tells the stream what was written: the
//! rounds that follow find it like anybody's changes.
//!
//! What is overwritten or removed is not destroyed but moved into the *stage*, a directory of our own in the root
//! that capture does not look at, and compared there once more: people reach it by no name any more, so what was
//! written until then shows. If it differs it goes back to where it was, capture looks at it, and the change is made
//! afterwards. Only what was found to be as the stream has it is deleted.
//!
//! New and changed files are made in the stage, synced, and then moved to their names, so they appear whole; a file
//! with several names, or one that somebody has open, is written in place and stays who it is. A changed file that is
//! replaced keeps its identity in the index, so only the blocks that changed travel.
//!
//! If the process is killed, the stage stays in the root. Whatever lies in it is found by the next rescan, known by
//! its inode, and a rewind that is begun again moves it back or removes it. Times of directories in which names were
//! touched are put back before a round can see them.

mod bytes;
mod check;
mod names;
mod stage;

pub(crate) use stage::STAGE_PREFIX;

use super::CaptureError;
use super::core::Core;
use super::hints::Hint;
use super::watch::Why;
use crate::os_tree::OsDir;
use bytes::Patch;
use journal::{Edge, Event, Name, NodeId, NotWritten, RootNo, Timestamp, TreeIo, Unwritten, Written, Xattrs};
use rustix::io::Errno;
use stage::Stage;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

/// Skipped objects listed in one answer; all are counted.
const SKIPPED_MAX: usize = 64;
/// Directories held open at a time.
const OPEN_MAX: usize = 128;

/// Changes to be made.
#[derive(Debug)]
pub struct WriteRequest {
    /// What belongs together; another number ends what is under way.
    pub session: u64,
    /// Its place in the session, from 0.
    pub number: u32,
    /// The root all of them lie in.
    pub root: RootNo,
    /// In the way of [`journal::master`].
    pub events: Vec<Event>,
    /// Nothing follows.
    pub last: bool,
}

/// Why a change was not made.
pub(super) enum Trouble {
    /// Something is not as the stream has it: it is to be captured first.
    Moved,
    /// What stands there cannot be kept by the journal, so it must not go; or we may not do it.
    Unkept(Errno),
    /// The system refuses.
    Refused(CaptureError),
    /// The agent itself cannot go on.
    Fatal(CaptureError),
}

impl From<CaptureError> for Trouble {
    fn from(error: CaptureError) -> Self {
        Trouble::Fatal(error)
    }
}

pub(super) type Try<T> = Result<T, Trouble>;

/// What came of a turn.
pub(super) enum Turn {
    /// All of it is done.
    Done,
    /// It came to something that is not as the stream has it. To be called again when that is captured.
    Again,
    /// The system refuses; the request has failed.
    Failed(CaptureError),
}

/// A node made anew in this session, directories for as long as it lasts.
struct Made {
    edge: Edge,
    inode: u64,
    directory: bool,
}

/// A request under way.
#[derive(Default)]
pub(super) struct Batch {
    pub root: Option<RootNo>,
    events: Vec<Event>,
    next: usize,
    /// The bytes of new files are in the stage.
    filled: bool,
    /// Changed files that wait to be moved to their names.
    ready: Vec<Patch>,
    pub last: bool,
    written: Written,
}

/// What is kept between the requests of a rewind.
#[derive(Default)]
pub(super) struct Session {
    pub id: u64,
    /// The number of the next request.
    pub next: u32,
    stages: BTreeMap<RootNo, Stage>,
    made: HashMap<NodeId, Made>,
    /// New files whose names have not come yet, where they are in the stage.
    new_files: HashMap<NodeId, Name>,
    /// The file whose bytes are being changed.
    patch: Option<Patch>,
    /// The file whose bytes may not be changed: what else is said of it is passed over.
    left_out: Option<NodeId>,
    /// Extended attributes that wait for the attributes of the node.
    xattrs: Option<(NodeId, Xattrs)>,
    /// Nodes between two names, where they are in the stage.
    parked: HashMap<NodeId, Name>,
    /// Directories removed by this request, where they are in the stage: something may yet be taken out of them.
    lifted: HashMap<NodeId, Name>,
    directories: HashMap<NodeId, OsDir>,
    /// Directories whose names were touched, with the times they had.
    touched: HashMap<NodeId, (OsDir, Timestamp)>,
}

impl Batch {
    pub(super) fn new(request: WriteRequest) -> Self {
        let WriteRequest { root, events, last, .. } = request;
        Batch { root: Some(root), events, last, ..Batch::default() }
    }

    /// How far it is: grows with everything done.
    pub(super) fn progress(&self) -> (bool, usize, usize) {
        (self.filled, self.next, usize::MAX - self.ready.len())
    }

    pub(super) fn into_written(self, moved: bool) -> Written {
        Written { moved, ..self.written }
    }

    fn skip(&mut self, root: RootNo, path: Vec<u8>, what: Unwritten, errno: i32) {
        self.written.skipped_count += 1;
        if self.written.skipped.len() < SKIPPED_MAX {
            self.written.skipped.push(NotWritten { root, path, what, errno });
        }
    }
}

/// What the kernel refuses for want of privilege or support, and what is left out then.
fn is_lack(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| matches!(errno, Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS))
}

fn raw(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// An error of the file system, with the path people know. What is forbidden is left out; all else ends the request.
fn refused(core: &Core, operation: &'static str, edge: &Edge, source: io::Error) -> Trouble {
    if is_lack(&source) {
        return Trouble::Unkept(Errno::from_io_error(&source).unwrap_or(Errno::PERM));
    }
    let facts = super::facts::Facts::default();
    let path = core.path_of_edge(&facts, edge).unwrap_or_else(|_| edge.name.as_bytes().to_vec());
    let top = core.root_of(&facts, edge.parent).ok().flatten().and_then(|root| core.root(root));
    let path = PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&path));
    let path = top.map_or_else(|| path.clone(), |top| top.path.join(&path));
    Trouble::Refused(CaptureError::File { operation, path, source })
}

/// Has a name looked at, bytes and all.
fn look_at(core: &mut Core, edge: &Edge) {
    let why = Why { name: true, content: true, attributes: true, ..Why::default() };
    let epoch = core.hints.epoch();
    core.hints.put_back(edge.clone(), Hint { why, epoch, ..Hint::default() });
}

impl Session {
    pub(super) fn new(id: u64) -> Self {
        Session { id, ..Session::default() }
    }

    /// Goes on with a request. The index is what the stream has, and the replica has it.
    pub(super) fn turn(&mut self, core: &mut Core, batch: &mut Batch) -> Result<Turn, CaptureError> {
        let result = self.work(core, batch);
        self.put_times_back(core)?;
        self.directories.clear();
        match result {
            Ok(()) => {
                self.lifted.clear();
                for stage in self.stages.values_mut() {
                    stage.trash.extend(stage.removed.drain(..));
                }
                self.made.retain(|_, made| made.directory);
                Ok(Turn::Done)
            }
            Err(Trouble::Moved) => Ok(Turn::Again),
            Err(Trouble::Unkept(errno)) => Ok(Turn::Failed(CaptureError::File {
                operation: "overwrite what the journal does not hold in",
                path: PathBuf::new(),
                source: errno.into(),
            })),
            Err(Trouble::Refused(error)) => Ok(Turn::Failed(error)),
            Err(Trouble::Fatal(error)) => Err(error),
        }
    }

    fn work(&mut self, core: &mut Core, batch: &mut Batch) -> Try<()> {
        let Some(root) = batch.root.filter(|_| !batch.events.is_empty()) else { return Ok(()) };
        if core.root(root).is_none_or(|root| root.lost) {
            let path = core.root(root).map(|root| root.path.clone()).unwrap_or_default();
            return Err(Trouble::Refused(CaptureError::RootLost { path }));
        }
        self.open_stage(core, root)?;
        if !batch.filled {
            for number in 0..batch.events.len() {
                if let Some(event) = batch.events.get(number) {
                    self.fill(core, root, event)?;
                }
            }
            self.sync_new(root, &batch.events)?;
            batch.filled = true;
        }
        self.drain(core)?;
        while let Some(event) = batch.events.get(batch.next).cloned() {
            let after = batch.events.get(batch.next + 1).cloned();
            let steps = match self.event(core, root, batch, &event, after.as_ref()) {
                Err(Trouble::Unkept(errno)) => {
                    self.leave_out(core, root, batch, &event, errno)?;
                    1
                }
                steps => steps?,
            };
            batch.next += steps;
        }
        self.place_ready(core, root, batch)
    }

    /// Lists what an event would have done.
    fn leave_out(
        &mut self,
        core: &Core,
        root: RootNo,
        batch: &mut Batch,
        event: &Event,
        errno: Errno,
    ) -> Try<()> {
        let (what, edge) = match event {
            Event::Create { at, .. } | Event::Link { at, .. } => (Unwritten::Node, Some(at.clone())),
            Event::Rename { to, .. } if !to.parent.is_kept_area() => (Unwritten::Node, Some(to.clone())),
            Event::Rename { from, .. } | Event::Remove { at: from, .. } => {
                (Unwritten::Removal, Some(from.clone()))
            }
            Event::SetAttributes { node, .. } => (Unwritten::Attributes, core.index.names_of(*node)?.pop()),
            Event::Write { node, .. } | Event::Punch { node, .. } | Event::Resize { node, .. } => {
                self.left_out = Some(*node);
                (Unwritten::Removal, core.index.names_of(*node)?.pop())
            }
            Event::SetXattrs { .. } | Event::Mark(_) => return Ok(()),
        };
        let path = edge.map(|edge| self.path_of(core, &edge)).unwrap_or_default();
        batch.skip(root, path, what, errno.raw_os_error());
        Ok(())
    }

    /// Carries out one event, or two that belong together; how many.
    fn event(
        &mut self,
        core: &mut Core,
        root: RootNo,
        batch: &mut Batch,
        event: &Event,
        after: Option<&Event>,
    ) -> Try<usize> {
        match event {
            Event::Create { node, at, meta, .. } => self.create(core, root, batch, *node, at, meta)?,
            Event::Link { node, at, .. } => self.link(core, root, batch, *node, at)?,
            Event::Remove { node, at, .. } => return self.remove(core, root, batch, (*node, at), after),
            Event::Rename { node, from, to, .. } => self.rename(core, root, *node, from, to)?,
            Event::Write { node, .. } | Event::Punch { node, .. } | Event::Resize { node, .. } => {
                if !is_new(*node) {
                    self.change(core, root, *node, event)?;
                }
            }
            Event::SetXattrs { node, xattrs } => self.xattrs = Some((*node, xattrs.clone())),
            Event::SetAttributes { node, attributes } => self.finish(core, root, batch, *node, attributes)?,
            Event::Mark(_) => {}
        }
        Ok(1)
    }

    /// Reads the notifications that are there.
    fn drain(&self, core: &mut Core) -> Try<()> {
        core.drain()?;
        if core.overflowed { Err(Trouble::Moved) } else { Ok(()) }
    }

    fn stage(&self, root: RootNo) -> Try<&Stage> {
        self.stages.get(&root).ok_or(Trouble::Moved)
    }

    fn stage_mut(&mut self, root: RootNo) -> Try<&mut Stage> {
        self.stages.get_mut(&root).ok_or(Trouble::Moved)
    }

    /// Before names in a directory are touched: its times are put back afterwards.
    fn touch(&mut self, core: &mut Core, root: RootNo, node: NodeId, directory: &OsDir) -> Try<()> {
        if self.touched.contains_key(&node) {
            return Ok(());
        }
        if self.touched.len() >= OPEN_MAX {
            self.put_times_back(core)?;
        }
        let stat = self.stage(root)?.tree.stat_dir(directory);
        let stat = stat.map_err(|error| refused(core, "look at the directory of", &own(node), error))?;
        self.touched.insert(node, (directory.clone(), stat.attributes.mtime));
        Ok(())
    }

    fn put_times_back(&mut self, core: &mut Core) -> Result<(), CaptureError> {
        for (node, (directory, mtime)) in self.touched.drain() {
            let Some(stage) = self.stages.values().next() else { continue };
            let put = stage.tree.stat_dir(&directory).and_then(|stat| {
                let attributes = journal::Attributes { mtime, ..stat.attributes };
                stage.tree.set_dir_attributes(&directory, &attributes)
            });
            if let Err(error) = put {
                tracing::warn!(%node, %error, "cannot put back the times of a directory");
            }
            let epoch = core.hints.epoch();
            core.hints.directory(node, epoch);
        }
        Ok(())
    }

    /// Whether something removed waits to be deleted.
    pub(super) fn has_trash(&self) -> bool {
        self.stages.values().any(|stage| !stage.trash.is_empty())
    }

    /// Deletes some of what was removed.
    pub(super) fn sweep(&mut self, core: &mut Core) -> Result<(), CaptureError> {
        if let Some(stage) = self.stages.values_mut().find(|stage| !stage.trash.is_empty()) {
            stage.sweep(core)?;
        }
        Ok(())
    }

    /// Ends the session: everything written is durable, and nothing of ours is left in the roots.
    pub(super) fn end(&mut self, core: &mut Core) -> Result<(), CaptureError> {
        if let Some(patch) = self.patch.take() {
            self.discard(patch);
        }
        let new: Vec<Name> = self.new_files.drain().map(|(_, name)| name).collect();
        for stage in self.stages.values_mut() {
            // Numbers of one stage mean nothing in another: what is not there is passed over.
            let mine: Vec<Name> = new.iter().filter(|name| stage.owns(name)).cloned().collect();
            stage.trash.extend(mine);
            stage.trash.extend(stage.removed.drain(..));
            // What is between two names is somebody's, and found again by its inode.
            stage.keep |= self.parked.values().any(|name| stage.owns(name));
        }
        while self.has_trash() {
            self.sweep(core)?;
        }
        let synced = self.stages.values().map(|stage| stage.tree.sync()).find_map(Result::err);
        for (_, stage) in std::mem::take(&mut self.stages) {
            stage.close(core);
        }
        *self = Session::default();
        match synced {
            Some(source) => {
                Err(CaptureError::File { operation: "sync the file system of", path: PathBuf::new(), source })
            }
            None => Ok(()),
        }
    }

    /// Whether anything is under way.
    pub(super) fn is_open(&self) -> bool {
        self.id != 0 || !self.stages.is_empty()
    }
}

/// Nodes that are made anew.
const fn is_new(node: NodeId) -> bool {
    node.0 >> 63 == 1
}

/// A name that stands for a directory itself in messages.
fn own(node: NodeId) -> Edge {
    Edge::new(node, node.kept_name())
}
