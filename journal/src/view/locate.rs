//! From a node to its place in the replica tree, now.
//!
//! Directories are opened one component at a time from the root and remembered; an open directory follows its own
//! renames. What is found is compared by inode with the node's row. Apply publishes rows before it moves names, so a
//! mismatch is looked at again for a while before it is called drift, or at once where the tree is known to be at rest.

use crate::error::JournalError;
use crate::id::{Edge, Name, NodeId};
use crate::journal::{Moment, Motion};
use crate::state::State;
use crate::tables::Tables;
use crate::tree::{TreeFile, TreeIo};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Open directories remembered by one locator.
const DIRECTORIES_MAX: usize = 256;
/// How long a mismatch may last while apply moves names. Apply holds no batch longer than its own time limit.
const SETTLE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(1);

/// A place: an open directory and the entry in it.
pub struct Located<D> {
    /// The directory.
    pub dir: D,
    /// The entry.
    pub edge: Edge,
}

fn failed(operation: &'static str, name: &Name) -> impl FnOnce(io::Error) -> JournalError {
    let object = String::from_utf8_lossy(name.as_bytes()).into_owned();
    move |source| JournalError::Tree { operation, object, source }
}

/// What was found. `None` where an error says what is there, or is not; any other says nothing about the tree, and whoever
/// took it for drift would stop for good over a bad moment.
fn unless_refused<R>(
    result: io::Result<R>,
    operation: &'static str,
    name: &Name,
) -> Result<Option<R>, JournalError> {
    use rustix::io::Errno;
    // The last is what a tree says of a pipe or a device where a file should be.
    const NOT_THERE: [Errno; 6] =
        [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::NXIO, Errno::ISDIR, Errno::INVAL];
    match result {
        Ok(found) => Ok(Some(found)),
        Err(source) if Errno::from_io_error(&source).is_some_and(|errno| NOT_THERE.contains(&errno)) => {
            Ok(None)
        }
        Err(source) => Err(failed(operation, name)(source)),
    }
}

/// A directory that was open is not known to its server any more.
fn is_stale(error: &JournalError) -> bool {
    let stale = Some(rustix::io::Errno::STALE.raw_os_error());
    matches!(error, JournalError::Tree { source, .. } if source.raw_os_error() == stale)
}

/// Finds nodes in the tree.
pub struct Locator<T: TreeIo> {
    tables: Arc<dyn Tables>,
    tree: Arc<T>,
    directories: Mutex<HashMap<NodeId, T::Dir>>,
    settle: Duration,
    motion: Option<Arc<Motion>>,
    /// When a wait began that was in vain.
    in_vain: Mutex<Moment>,
}

impl<T: TreeIo> Locator<T> {
    /// A locator with nothing remembered.
    #[must_use]
    pub fn new(tables: Arc<dyn Tables>, tree: Arc<T>) -> Self {
        let directories = Mutex::new(HashMap::new());
        Locator { tables, tree, directories, settle: SETTLE, motion: None, in_vain: Mutex::default() }
    }

    /// How long a mismatch may last; zero where nothing moves meanwhile.
    #[must_use]
    pub fn settling(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// A mismatch is believed at once where this says that the tree is at rest, and one movement is waited for once.
    #[must_use]
    pub fn watching(mut self, motion: Arc<Motion>) -> Self {
        self.motion = Some(motion);
        self
    }

    /// Opens the bytes of a file by identity.
    ///
    /// # Errors
    /// `Drift` if the tree does not hold the node where the tables say, `Tree` if it cannot be opened.
    pub fn open_file(&self, node: NodeId) -> Result<T::File, JournalError> {
        if let Some(file) = self.try_open(node)? {
            return Ok(file);
        }
        let since = Instant::now();
        let now = || self.motion.as_ref().map(|motion| motion.now());
        let first = now();
        loop {
            // A directory that is remembered may be the mistake.
            self.directories.lock().clear();
            let before = now();
            if let Some(file) = self.try_open(node)? {
                return Ok(file);
            }
            // Who began to move names meanwhile has his own time.
            let moves_anew = before != first && before.is_some_and(Moment::is_moving);
            let patience = if moves_anew { 2 * self.settle } else { self.settle };
            if self.is_final(before) || since.elapsed() >= patience {
                *self.in_vain.lock() = first.unwrap_or_default();
                return Err(JournalError::Drift {
                    object: node.to_string(),
                    what: "it is not where it belongs",
                });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Whether another look would show the same: nothing has moved since that moment, and what was under way then has
    /// been waited for, if anything was.
    fn is_final(&self, before: Option<Moment>) -> bool {
        let (Some(motion), Some(before)) = (&self.motion, before) else { return false };
        if !before.is_within_batch() {
            return before.is_same_batch(motion.now());
        }
        let vain = *self.in_vain.lock();
        let waited = if before.is_moving() { vain == before } else { vain.is_same_batch(before) };
        waited && motion.now() == before
    }

    /// Looks again, from the root, if an open directory has gone stale.
    fn unless_stale<R>(&self, look: impl Fn() -> Result<R, JournalError>) -> Result<R, JournalError> {
        match look() {
            Err(error) if is_stale(&error) => {
                self.directories.lock().clear();
                look()
            }
            done => done,
        }
    }

    fn try_open(&self, node: NodeId) -> Result<Option<T::File>, JournalError> {
        let Some(row) = State::node(&*self.tables, node)? else {
            return Err(JournalError::NotFound { what: "node", name: node.to_string() });
        };
        let Some(edge) = State::links(&*self.tables, node)?.into_iter().next() else { return Ok(None) };
        self.open_at(&edge, row.inode)
    }

    /// Opens what has a name now, if it is a file of that inode.
    ///
    /// # Errors
    /// Those of the tables; `Tree` if the system cannot tell.
    pub fn open_at(&self, edge: &Edge, inode: u64) -> Result<Option<T::File>, JournalError> {
        self.unless_stale(|| {
            let Some(dir) = self.walk(edge.parent)? else { return Ok(None) };
            let opened = self.tree.open_file(&dir, &edge.name, false);
            let Some(file) = unless_refused(opened, "open", &edge.name)? else { return Ok(None) };
            let found = file.stat().map_err(failed("stat", &edge.name))?;
            Ok((inode != 0 && found.inode == inode).then_some(file))
        })
    }

    /// The open directory of a node; `None` if it is not where the tables say at this moment.
    ///
    /// # Errors
    /// Those of the tables; `Tree` if a root cannot be opened, or the system cannot tell.
    pub fn directory(&self, node: NodeId) -> Result<Option<T::Dir>, JournalError> {
        self.unless_stale(|| self.walk(node))
    }

    fn walk(&self, node: NodeId) -> Result<Option<T::Dir>, JournalError> {
        let mut missing = Vec::new();
        let mut at = node;
        let mut dir = loop {
            if let Some(dir) = self.known(at)? {
                break dir;
            }
            let Some(edge) = State::links(&*self.tables, at)?.into_iter().next() else { return Ok(None) };
            let parent = edge.parent;
            missing.push((at, edge));
            if missing.len() > 1 << 20 {
                return Ok(None);
            }
            at = parent;
        };
        for (node, edge) in missing.into_iter().rev() {
            let opened = self.tree.open_dir(&dir, &edge.name);
            let Some(next) = unless_refused(opened, "open", &edge.name)? else { return Ok(None) };
            let row = State::node(&*self.tables, node)?;
            let found = unless_refused(self.tree.stat_dir(&next), "stat", &edge.name)?;
            let inode = found.map(|stat| stat.inode);
            if row.map(|row| row.inode).filter(|inode| *inode != 0) != inode {
                return Ok(None);
            }
            let mut directories = self.directories.lock();
            if directories.len() >= DIRECTORIES_MAX {
                directories.clear();
            }
            directories.insert(node, next.clone());
            dir = next;
        }
        Ok(Some(dir))
    }

    fn known(&self, node: NodeId) -> Result<Option<T::Dir>, JournalError> {
        if let Some(root) = node.as_root_or_kept() {
            let opened = if node.is_kept_area() { self.tree.kept(root) } else { self.tree.root(root) };
            return opened.map(Some).map_err(|source| JournalError::Tree {
                operation: "open the root",
                object: node.to_string(),
                source,
            });
        }
        Ok(self.directories.lock().get(&node).cloned())
    }
}
