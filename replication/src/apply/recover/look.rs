//! The first step of recovery: finding what there is, and refusing what should not be there.
//!
//! Nothing is changed here. An older node is recognised by its inode wherever it is met; anything else must stand where
//! the window put something of its kind, with nothing in it but what the window put there. A tree in which that is not
//! so was changed by somebody else, and is left as it is.

use super::{Work, failed, staged_node};
use journal::state::State;
use journal::{Edge, JournalError, Name, NodeId, RootNo, TreeIo};
use std::collections::BTreeSet;

impl<T: TreeIo> Work<'_, T> {
    /// Step 1. A directory that the window did not move is opened where the tables say; one that it moved, where it
    /// is found. Looking at one name may reveal the directory of others, so it goes round until nothing new shows.
    pub(super) fn look(&mut self) -> Result<(), JournalError> {
        let roots: BTreeSet<RootNo> =
            self.edges.iter().filter_map(|edge| edge.parent.as_root_or_kept()).collect();
        for root in roots {
            let kept = self.tree.kept(root).map_err(failed("open the kept area", NodeId::kept(root)))?;
            for name in self.tree.list(&kept).map_err(failed("list the kept area", NodeId::kept(root)))? {
                if staged_node(&name).is_some() {
                    self.met(&kept, &[NodeId::kept(root)], &name)?;
                }
            }
        }
        let mut left: Vec<Edge> = self.edges.iter().cloned().collect();
        loop {
            let before = left.len();
            let mut waiting = Vec::new();
            for edge in left {
                match self.now_at(edge.parent)? {
                    Some(dir) => self.met(&dir, &[edge.parent], &edge.name)?,
                    None => waiting.push(edge),
                }
            }
            left = waiting;
            // What is left lies in directories created in the window: their contents are met with them.
            if left.is_empty() || left.len() == before {
                return Ok(());
            }
        }
    }

    /// The directory of a node as the tree stands now, if it can be told yet.
    fn now_at(&mut self, node: NodeId) -> Result<Option<T::Dir>, JournalError> {
        if let Some(dir) = self.fixed(node)? {
            return Ok(Some(dir));
        }
        if let Some(dir) = self.directories.get(&node) {
            return Ok(Some(dir.clone()));
        }
        if self.new.contains(&node) {
            return Ok(None);
        }
        let row = self.row(node)?;
        let (dir, name) = if self.moved.get(&row.inode) == Some(&node) {
            match self.found.get(&node).and_then(|places| places.first()) {
                Some((dir, name)) => (dir.clone(), name.clone()),
                None => return Ok(None),
            }
        } else {
            let links = State::links(&**self.journal.tables(), node)?;
            let Some(edge) = links.into_iter().next() else { return Ok(None) };
            match self.now_at(edge.parent)? {
                Some(dir) => (dir, edge.name),
                None => return Ok(None),
            }
        };
        let opened = self.tree.open_dir(&dir, &name).map_err(failed("open a directory", node))?;
        self.directories.insert(node, opened.clone());
        Ok(Some(opened))
    }

    /// Takes note of what stands at a name of a directory, which may be any of `parents`.
    fn met(&mut self, dir: &T::Dir, parents: &[NodeId], name: &Name) -> Result<(), JournalError> {
        let object = parents.first().copied().unwrap_or(NodeId(0));
        let Some(stat) = self.tree.stat(dir, name).map_err(failed("stat", object))? else { return Ok(()) };
        match self.moved.get(&stat.inode) {
            Some(node) => {
                let places = self.found.entry(*node).or_default();
                places.push((dir.clone(), name.clone()));
                Ok(())
            }
            // An older node the window did not move cannot stand at a name the window touched.
            None => {
                let directory = stat.kind.is_directory();
                let edges = parents.iter().map(|parent| Edge::new(*parent, name.clone()));
                let made = edges.filter_map(|edge| self.expected.get(&edge)).flatten();
                let made: Vec<NodeId> =
                    made.filter(|(_, made)| *made == directory).map(|(node, _)| *node).collect();
                if made.is_empty() {
                    self.foreign = Some(name.clone());
                    return Ok(());
                }
                self.strangers.push((dir.clone(), name.clone(), directory));
                if !directory {
                    return Ok(());
                }
                let inside = self.tree.open_dir(dir, name).map_err(failed("open a directory", object))?;
                for name in self.tree.list(&inside).map_err(failed("list", object))? {
                    self.met(&inside, &made, &name)?;
                }
                Ok(())
            }
        }
    }

    /// What must be true before anything is moved or removed.
    pub(super) fn check(&self) -> Result<(), JournalError> {
        if let Some(name) = &self.foreign {
            let object = String::from_utf8_lossy(name.as_bytes()).into_owned();
            let what = "it stands where a capture has something else";
            return Err(JournalError::Drift { object, what });
        }
        match self.moved.values().find(|node| !self.found.contains_key(node)) {
            Some(node) => {
                let what = "a node older than the durable cursor is missing";
                Err(JournalError::Drift { object: node.to_string(), what })
            }
            None => Ok(()),
        }
    }
}
