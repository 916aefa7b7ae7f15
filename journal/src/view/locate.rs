//! From a node to its place in the replica tree, now.
//!
//! Directories are opened one component at a time from the root and remembered; an open directory follows its own
//! renames. What is found is compared by inode with the node's row. Apply publishes rows before it moves names, so a
//! mismatch is looked at again for a while before it is called drift.

use crate::error::JournalError;
use crate::id::{Edge, NodeId};
use crate::state::State;
use crate::tables::Tables;
use crate::tree::{TreeFile, TreeIo};
use parking_lot::Mutex;
use std::collections::HashMap;
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

/// Finds nodes in the tree.
pub struct Locator<T: TreeIo> {
    tables: Arc<dyn Tables>,
    tree: Arc<T>,
    directories: Mutex<HashMap<NodeId, T::Dir>>,
    settle: Duration,
}

impl<T: TreeIo> Locator<T> {
    /// A locator with nothing remembered.
    #[must_use]
    pub fn new(tables: Arc<dyn Tables>, tree: Arc<T>) -> Self {
        Locator { tables, tree, directories: Mutex::new(HashMap::new()), settle: SETTLE }
    }

    /// How long a mismatch may last; zero where nothing moves meanwhile.
    #[must_use]
    pub fn settling(mut self, settle: Duration) -> Self {
        self.settle = settle;
        self
    }

    /// Opens the bytes of a file by identity.
    ///
    /// # Errors
    /// `Drift` if the tree does not hold the node where the tables say, `Tree` if it cannot be opened.
    pub fn open_file(&self, node: NodeId) -> Result<T::File, JournalError> {
        let give_up = Instant::now() + self.settle;
        loop {
            if let Some(file) = self.try_open(node)? {
                return Ok(file);
            }
            if Instant::now() >= give_up {
                return Err(JournalError::Drift {
                    object: node.to_string(),
                    what: "it is not where it belongs",
                });
            }
            self.directories.lock().clear();
            std::thread::sleep(PAUSE);
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
    /// Those of the tables; `Tree` if what was opened cannot be examined.
    pub fn open_at(&self, edge: &Edge, inode: u64) -> Result<Option<T::File>, JournalError> {
        let Some(dir) = self.directory(edge.parent)? else { return Ok(None) };
        let Ok(file) = self.tree.open_file(&dir, &edge.name, false) else { return Ok(None) };
        let found = file.stat().map_err(|source| JournalError::Tree {
            operation: "stat",
            object: String::from_utf8_lossy(edge.name.as_bytes()).into_owned(),
            source,
        })?;
        Ok((inode != 0 && found.inode == inode).then_some(file))
    }

    /// The open directory of a node; `None` if it is not where the tables say at this moment.
    ///
    /// # Errors
    /// Those of the tables, and `Tree` if a root cannot be opened.
    pub fn directory(&self, node: NodeId) -> Result<Option<T::Dir>, JournalError> {
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
            let Ok(next) = self.tree.open_dir(&dir, &edge.name) else { return Ok(None) };
            let row = State::node(&*self.tables, node)?;
            let inode = self.tree.stat_dir(&next).ok().map(|stat| stat.inode);
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
