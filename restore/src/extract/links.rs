//! Files of several names: the first name made is remembered until the last one is.

use journal::view::Places;
use journal::{Edge, JournalError, NodeId, TreeIo};
use std::collections::HashMap;

/// Where the first name of a file was made, and how many are to come.
pub(super) struct Made {
    /// Path within the target.
    pub path: Vec<u8>,
    left: usize,
}

/// Names made of files that have several.
pub(super) struct Links<'v, T: TreeIo> {
    places: Places<'v, T>,
    made: HashMap<NodeId, Made>,
}

impl<'v, T: TreeIo> Links<'v, T> {
    pub fn new(places: Places<'v, T>) -> Self {
        Links { places, made: HashMap::new() }
    }

    /// Names of a node at the point, beside `known`.
    pub fn others(&self, node: NodeId, known: &Edge) -> Result<usize, JournalError> {
        Ok(self.places.names(node)?.iter().filter(|edge| *edge != known).count())
    }

    /// Remembers the first name of a node that has `others` more.
    pub fn remember(&mut self, node: NodeId, path: Vec<u8>, others: usize) {
        self.made.insert(node, Made { path, left: others });
    }

    /// The path of a name made before, if there is one; forgets it with the last name.
    pub fn first(&mut self, node: NodeId) -> Option<Vec<u8>> {
        let made = self.made.get_mut(&node)?;
        made.left = made.left.saturating_sub(1);
        let path = made.path.clone();
        if made.left == 0 {
            self.made.remove(&node);
        }
        Some(path)
    }
}
