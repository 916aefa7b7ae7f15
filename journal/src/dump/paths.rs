//! Where nodes are now, as paths below their roots.

use crate::error::JournalError;
use crate::id::{Edge, NodeId, RootNo};
use crate::state::State;
use crate::tables::Tables;
use std::collections::HashMap;

/// Directories whose paths are remembered; more make it forget all.
const REMEMBERED_MAX: usize = 4096;
/// Names above a node; deeper is a cycle, or of no use to a reader.
const DEPTH_MAX: usize = 4096;

/// The root, whether the node is in its kept area, and the path below.
type Place = (RootNo, bool, Vec<u8>);

/// Finds where nodes are now. An entry may move while it is looked for; what is found is for people.
pub struct Paths<'t> {
    tables: &'t dyn Tables,
    directories: HashMap<NodeId, Place>,
}

impl<'t> Paths<'t> {
    /// Looks in these tables.
    #[must_use]
    pub fn new(tables: &'t dyn Tables) -> Self {
        Paths { tables, directories: HashMap::new() }
    }

    /// One of the places of a node; `None` if it has none.
    ///
    /// # Errors
    /// As the tables.
    pub fn node(&mut self, node: NodeId) -> Result<Option<Place>, JournalError> {
        if let Some(root) = node.as_root_or_kept() {
            return Ok(Some((root, node.is_kept_area(), Vec::new())));
        }
        match State::links(self.tables, node)?.into_iter().next() {
            Some(edge) => self.edge(&edge),
            None => Ok(None),
        }
    }

    /// The place of a name; `None` if its directory has none.
    ///
    /// # Errors
    /// As the tables.
    pub fn edge(&mut self, edge: &Edge) -> Result<Option<Place>, JournalError> {
        let mut names = vec![edge.name.clone()];
        let mut at = edge.parent;
        let (root, kept, mut path) = loop {
            if let Some(root) = at.as_root_or_kept() {
                break (root, at.is_kept_area(), Vec::new());
            }
            if let Some(known) = self.directories.get(&at) {
                break known.clone();
            }
            let Some(above) = State::links(self.tables, at)?.into_iter().next() else { return Ok(None) };
            names.push(above.name);
            at = above.parent;
            if names.len() > DEPTH_MAX {
                return Ok(None);
            }
        };
        // All but the first of the names are those of the directories down to the parent.
        for (index, name) in names.iter().enumerate().rev() {
            if index == 0 && edge.parent.as_root_or_kept().is_none() {
                if self.directories.len() >= REMEMBERED_MAX {
                    self.directories.clear();
                }
                self.directories.insert(edge.parent, (root, kept, path.clone()));
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
        }
        Ok(Some((root, kept, path)))
    }
}
