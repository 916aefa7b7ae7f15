//! Where nodes are at a point.
//!
//! Tables hold the names of a node as they are now (`Links`). A name at a point is one of two things: it is a name
//! now and nothing happened to it since the point, or something happened to it, and then the list of changes after
//! the point holds it. So names at a point are found from the present names, each checked in the view, and from an
//! index over the names that changed since.
//!
//! While apply goes on, the order of looking matters: present names first, then the index is brought up to the
//! newest change. A node that was moved before its present names were read has its old name in the index then; one
//! that is moved later still had its name when it was read. What the index holds is about the past and stays true.
//!
//! Memory grows with the number of names changed since the point, and with the directories above what is asked for.

use super::View;
use crate::error::JournalError;
use crate::id::{Edge, NodeId, RootNo};
use crate::lsn::Lsn;
use crate::state::links_of;
use crate::state::rows::{Change, change_key, read};
use crate::tables::Space;
use crate::tree::TreeIo;
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};

/// Deeper than any tree; ends walks in a damaged one.
const DEPTH_MAX: usize = 1 << 20;
/// Changed names looked up at a time while the index is filled.
const BATCH: usize = 4096;

/// Finds the names of nodes at a point.
pub struct Places<'v, T: TreeIo> {
    view: &'v View<T>,
    index: Mutex<Index>,
    /// Places of directories that were asked for; `None`: in a kept area, or not there.
    directories: Mutex<HashMap<NodeId, Option<Edge>>>,
}

struct Index {
    names: HashMap<NodeId, Vec<Edge>>,
    /// All changes up to here are in it.
    scanned: Lsn,
}

impl<'v, T: TreeIo> Places<'v, T> {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(view: &'v View<T>) -> Self {
        Self::seeded(view, view.lsn(), HashMap::new())
    }

    /// With the names at the point that changed after it up to `scanned`, by node.
    pub(crate) fn seeded(view: &'v View<T>, scanned: Lsn, names: HashMap<NodeId, Vec<Edge>>) -> Self {
        let index = Mutex::new(Index { names, scanned });
        Places { view, index, directories: Mutex::default() }
    }

    /// The view it finds names in.
    #[must_use]
    pub fn view(&self) -> &'v View<T> {
        self.view
    }

    /// All names of a node at the point, in no order; none if it was removed then or did not exist. Names in
    /// directories that are removed themselves are among them.
    ///
    /// # Errors
    /// As the tables.
    pub fn names(&self, node: NodeId) -> Result<Vec<Edge>, JournalError> {
        let present = links_of(&**self.view.tables(), node)?;
        self.catch_up()?;
        // Nothing has changed since the point, so nothing had when the present names were read.
        if self.index.lock().scanned == self.view.lsn() {
            return Ok(present.into_iter().filter(|edge| !edge.parent.is_kept_area()).collect());
        }
        let mut names = self.index.lock().names.get(&node).cloned().unwrap_or_default();
        for edge in present {
            if !edge.parent.is_kept_area() && !names.contains(&edge) && self.view.lookup(&edge)? == Some(node)
            {
                names.push(edge);
            }
        }
        Ok(names)
    }

    /// One name of a node at the point. What has a single name (a directory) has no other.
    ///
    /// # Errors
    /// As the tables.
    pub fn place(&self, node: NodeId) -> Result<Option<Edge>, JournalError> {
        if let Some(edge) = self.indexed(node) {
            return Ok(Some(edge));
        }
        for edge in links_of(&**self.view.tables(), node)? {
            if !edge.parent.is_kept_area() && self.view.lookup(&edge)? == Some(node) {
                return Ok(Some(edge));
            }
        }
        self.catch_up()?;
        Ok(self.indexed(node))
    }

    fn indexed(&self, node: NodeId) -> Option<Edge> {
        self.index.lock().names.get(&node).and_then(|names| names.first()).cloned()
    }

    /// The place of a directory, remembered.
    ///
    /// # Errors
    /// As the tables.
    pub fn directory(&self, node: NodeId) -> Result<Option<Edge>, JournalError> {
        if let Some(place) = self.directories.lock().get(&node) {
            return Ok(place.clone());
        }
        let place = self.place(node)?;
        self.directories.lock().insert(node, place.clone());
        Ok(place)
    }

    /// The root a directory hangs under at the point; `None` if it was removed then or did not exist.
    ///
    /// # Errors
    /// As the tables.
    pub fn root_of(&self, directory: NodeId) -> Result<Option<RootNo>, JournalError> {
        let mut at = directory;
        for _ in 0..DEPTH_MAX {
            if let Some(root) = at.as_root_or_kept() {
                return Ok((!at.is_kept_area()).then_some(root));
            }
            match self.directory(at)? {
                Some(edge) => at = edge.parent,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Root and path below it of a directory at the point; `None` if it was removed then or did not exist.
    ///
    /// # Errors
    /// As the tables.
    pub fn path_of(&self, directory: NodeId) -> Result<Option<(RootNo, Vec<u8>)>, JournalError> {
        let mut names: Vec<Edge> = Vec::new();
        let mut at = directory;
        loop {
            if let Some(root) = at.as_root_or_kept() {
                if at.is_kept_area() {
                    return Ok(None);
                }
                let mut path = Vec::new();
                for edge in names.iter().rev() {
                    path = join(&path, edge.name.as_bytes());
                }
                return Ok(Some((root, path)));
            }
            match self.directory(at)? {
                Some(edge) if names.len() < DEPTH_MAX => {
                    at = edge.parent;
                    names.push(edge);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Root and path of a name at the point; `None` if its directory was removed then or did not exist.
    ///
    /// # Errors
    /// As the tables.
    pub fn path(&self, edge: &Edge) -> Result<Option<(RootNo, Vec<u8>)>, JournalError> {
        let parent = self.path_of(edge.parent)?;
        Ok(parent.map(|(root, path)| (root, join(&path, edge.name.as_bytes()))))
    }

    /// Brings the index up to the newest change.
    fn catch_up(&self) -> Result<(), JournalError> {
        let tables = &**self.view.tables();
        let scanned = self.index.lock().scanned;
        let from = change_key(scanned.successor(), 0);
        let to = change_key(Lsn::MAX, u32::MAX);
        // The newest change first: all batches up to it are visible to the walk that follows.
        let Some(newest) = tables.range(Space::Changes, &from, &to).next_back() else { return Ok(()) };
        let newest = newest?.0.get(..16).and_then(Lsn::from_key).unwrap_or(scanned);
        let mut changed = BTreeSet::new();
        for row in tables.range(Space::Changes, &from, &to) {
            if let Change::Name(edge) = read(Space::Changes, &row?.1)? {
                changed.insert(edge);
                if changed.len() >= BATCH {
                    self.add(std::mem::take(&mut changed))?;
                }
            }
        }
        self.add(changed)?;
        self.index.lock().scanned = newest;
        Ok(())
    }

    fn add(&self, changed: BTreeSet<Edge>) -> Result<(), JournalError> {
        for edge in changed {
            if let Some(node) = self.view.lookup(&edge)? {
                let mut index = self.index.lock();
                let names = index.names.entry(node).or_default();
                if !names.contains(&edge) {
                    names.push(edge);
                    self.directories.lock().remove(&node);
                }
            }
        }
        Ok(())
    }
}

/// `path` and `name` with a slash between them.
#[must_use]
pub fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}
