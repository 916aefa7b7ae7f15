//! A session: one entity as of one LSN, made from a view and stored in a repository.
//!
//! The tree of a session holds the directories above the root's path on the master, then the root as the view shows
//! it, so that a restore by any program comes out at the master's path. A node is stored as the journal knows it: its
//! inode is the journal's own id of the node, which no other node ever gets, with a device number of the scenario's. So
//! names of one file are joined by (device, inode) also across directories of which one was stored long before the
//! other.
//!
//! Two ways lead to the tree, and they come to the same bytes (a test holds that: equal views give equal tree ids).
//! [`scan`] walks the view. [`delta`] takes what the journal says changed since the session before and edits the
//! directories touched; nothing else is listed or read.
//!
//! **Why a session is complete.** Blobs are durable, then the index, then the record, and before the record is written
//! the writer proves that all the session needs is still there ([`BlobWriter::commit`]). What is taken over from the
//! session before is there as long as that session is. If something was removed meanwhile, the session is made anew by
//! looking at everything, which stores again what is missing.

pub mod content;
pub mod copy;
mod crew;
pub mod delta;
mod directory;
pub mod error;
mod finish;
pub mod node;
pub mod scan;
pub mod totals;

pub use error::SessionError;
pub use finish::RecordOptions;
pub(crate) use finish::directories;
pub use totals::Totals;

use crate::repository::writer::{Commit, Stage, Stages};
use crate::repository::{BlobWriter, Id, Lock, Node, Repository};
use journal::view::View;
use journal::{RootNo, TreeIo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often a session is made anew when what it counts on is removed meanwhile.
const ATTEMPTS_MAX: u32 = 3;

/// What is backed up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// The root in the view.
    pub root: RootNo,
    /// Its absolute path on the master.
    pub path: Vec<u8>,
    /// Joins names of one file together with the journal's id: the same for all sessions of a scenario.
    pub device: u64,
}

/// The session before, if the journal can still say what changed since.
pub struct Previous<'v, T: TreeIo> {
    /// The tree as it was then.
    pub view: &'v View<T>,
    /// The session's id.
    pub session: Id,
    /// Its tree.
    pub tree: Id,
}

/// Receives progress. Cheap: called for every object.
pub trait Monitor: Sync {
    /// Objects and bytes looked at so far.
    fn progress(&self, objects: u64, bytes: u64);
    /// Whether to stop. Nothing of the session is left then but data that the next prune removes.
    fn cancelled(&self) -> bool;
    /// Everything is looked at from now on; what came before does not count.
    fn begins_whole(&self) {}
    /// An object of the session and its absolute path; in no order, from several threads, and only of those that were
    /// looked at.
    fn object(&self, _path: &[u8], _node: &Node) {}
    /// What the session before has at an absolute path, and what this one has there; in no order, from several threads. Each
    /// path at most once, some with nothing different. Only of a session that is made from the one before; until
    /// [`begins_whole`](Self::begins_whole), these are all differences, but for the root's own entry and what
    /// [`untold`](Self::untold) says.
    fn changed(&self, _path: &[u8], _before: Option<&Node>, _after: Option<&Node>) {}
    /// There are differences that are not told one by one: a directory has come from elsewhere, or is gone, with all
    /// below it. What is told as having been there before was elsewhere then.
    fn untold(&self) {}
}

/// Nobody listens and nobody cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMonitor;

impl Monitor for NoMonitor {
    fn progress(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        false
    }
}

/// An object that is not in the session as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Absolute path on the master.
    pub path: Vec<u8>,
    /// Why, for people.
    pub reason: String,
}

/// Objects listed as missed; more are counted.
pub const MISSED_MAX: usize = 1000;

/// What making a tree did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Names looked at of objects that are no directories.
    pub files: u64,
    /// Directories looked at.
    pub directories: u64,
    /// Bytes of the files looked at.
    pub bytes: u64,
    /// Bytes read from the view.
    pub bytes_read: u64,
    /// Bytes of blobs that were new to the repository, before compression.
    pub bytes_new: u64,
    /// Bytes that the new blobs take.
    pub bytes_stored: u64,
    /// New blobs of data.
    pub data_blobs: u64,
    /// New blobs of trees.
    pub tree_blobs: u64,
    /// Objects missed.
    pub missed_count: u64,
    /// The first of them.
    pub missed: Vec<Missed>,
}

/// What all parts of a session in the making share.
pub(crate) struct Work<'a, T: TreeIo> {
    pub view: &'a View<T>,
    pub entity: &'a Entity,
    pub writer: &'a BlobWriter,
    pub monitor: &'a dyn Monitor,
    counts: Mutex<Counts>,
    looked_at: (AtomicU64, AtomicU64),
}

impl<'a, T: TreeIo> Work<'a, T> {
    fn new(view: &'a View<T>, entity: &'a Entity, writer: &'a BlobWriter, monitor: &'a dyn Monitor) -> Self {
        let looked_at = (AtomicU64::new(0), AtomicU64::new(0));
        Work { view, entity, writer, monitor, counts: Mutex::default(), looked_at }
    }

    /// Forgets what was counted: everything is looked at again.
    fn begin_anew(&self) {
        let mut counts = self.counts.lock();
        // What was stored stays stored.
        let Counts { bytes_read, bytes_new, bytes_stored, data_blobs, tree_blobs, .. } = *counts;
        *counts = Counts { bytes_read, bytes_new, bytes_stored, data_blobs, tree_blobs, ..Counts::default() };
    }

    pub fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut self.counts.lock());
    }

    /// An object was put into the tree.
    pub fn object(&self, path: &[u8], node: &Node) {
        let directory = node.subtree.is_some();
        self.count(|counts| {
            counts.files += u64::from(!directory);
            counts.directories += u64::from(directory);
            counts.bytes += node.size;
        });
        let objects = self.looked_at.0.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.looked_at.1.fetch_add(node.size, Ordering::Relaxed) + node.size;
        self.monitor.progress(objects, bytes);
        self.monitor.object(path, node);
    }

    pub fn missed(&self, path: &[u8], error: &dyn std::error::Error) {
        let missed = Missed { path: path.to_vec(), reason: crate::repository::chain(error) };
        self.count(|counts| {
            counts.missed_count += 1;
            if counts.missed.len() < MISSED_MAX {
                counts.missed.push(missed);
            }
        });
    }

    pub fn check(&self) -> Result<(), SessionError> {
        if self.monitor.cancelled() { Err(SessionError::Cancelled) } else { Ok(()) }
    }
}

/// A session that was made.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: Id,
    /// Its tree.
    pub tree: Id,
    /// Whether the journal said what changed, or all was looked at.
    pub incremental: bool,
    /// What is wrong with the session before, if that is why all was looked at.
    pub unusable: Option<String>,
    /// What it holds.
    pub totals: Totals,
    /// What was done.
    pub counts: Counts,
    /// Packs and index files written.
    pub written: crate::repository::writer::Written,
    /// Where the time went.
    pub stages: Arc<Stages>,
}

/// Makes a session of what `view` shows of an entity, and waits until it is durable. `lock` is the caller's on the
/// repository; it is checked before the record is written.
///
/// # Errors
/// `Cancelled`; those of the repository, after which nothing of the session is there; `Journal` if tables or undo
/// cannot be read. A file that cannot be read is missed, not an error.
pub fn back_up<T: TreeIo + Sync>(
    view: &View<T>,
    previous: Option<&Previous<'_, T>>,
    entity: &Entity,
    (repository, lock): (&Arc<Repository>, &Lock),
    record: &RecordOptions,
    monitor: &dyn Monitor,
) -> Result<Session, SessionError>
where
    T::File: Send,
    T::Dir: Send + Sync,
{
    repository.reload_index()?;
    let writer = BlobWriter::new(Arc::clone(repository), crate::repository::WriterOptions::default())?;
    // After the writer has looked at the index: what it finds there from now on is looked at again at the end.
    let before = previous.and_then(|previous| finish::recorded(repository, &previous.session));
    let previous = previous.filter(|_| before.is_some());
    let totals = before.as_ref().and_then(Totals::of_record);
    let work = Work::new(view, entity, &writer, monitor);
    let mut unusable = None;
    if let Some(previous) = previous {
        writer.builds_upon(&previous.session);
    }
    let edited = match previous.map(|previous| delta::build(&work, previous, totals)) {
        None => None,
        // Looking at everything stores again what is missing, and holds little in memory.
        Some(Err(error)) if error.wants_whole() => {
            unusable = Some(crate::repository::chain(&error));
            work.begin_anew();
            None
        }
        Some(edited) => edited?,
    };
    let mut incremental = edited.is_some();
    let scan = || {
        monitor.begins_whole();
        scan::build(&work).map(|root| (root, Totals::counted(&work.counts.lock())))
    };
    let (mut root, mut totals) = match edited {
        Some(edited) => edited,
        None => scan()?,
    };
    for _ in 0..ATTEMPTS_MAX {
        let tree = finish::above(&work, root)?;
        work.check()?;
        let parent = previous.map(|previous| previous.session).filter(|_| incremental);
        let session = finish::record((tree, totals), record, entity, parent, &work.counts.lock());
        match writer.stages().time(Stage::Commit, || writer.commit(lock, &session))? {
            Commit::Recorded(id) => {
                let (counts, written) = (work.counts.into_inner(), writer.written());
                let stages = Arc::clone(writer.stages());
                return Ok(Session { id, tree, incremental, unusable, totals, counts, written, stages });
            }
            // Somebody removed what we counted on; all is looked at, and what is missing is stored again.
            Commit::Missing(missing) => {
                let first = missing.first().map(|one| format!("{} blob {} is missing", one.kind, one.id));
                unusable = first.filter(|_| incremental).or(unusable);
                incremental = false;
                work.begin_anew();
                (root, totals) = scan()?;
            }
        }
    }
    Err(SessionError::Removed { attempts: ATTEMPTS_MAX })
}
