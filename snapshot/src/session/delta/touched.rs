//! Which directories need new trees, and which of their names.

use journal::view::{Difference, Places};
use journal::{Edge, JournalError, Name, NodeId, RootNo, TreeIo};
use std::collections::{BTreeSet, HashMap};

/// Touched names by directory; with a directory its name in the one above is touched, up to the root.
pub(super) struct Touched {
    root: RootNo,
    directories: HashMap<NodeId, BTreeSet<Name>>,
}

impl Touched {
    /// Everything below a root that can differ between the points of a difference.
    pub fn find<T: TreeIo>(difference: &Difference<'_, T>, root: RootNo) -> Result<Self, JournalError> {
        let mut touched = Touched { root, directories: HashMap::new() };
        let places = difference.to();
        // A name more or less of a file is told in all its names.
        let renamed = difference.names().iter().flat_map(|change| [change.from, change.to]).flatten();
        let nodes: BTreeSet<NodeId> = renamed
            .chain(difference.nodes().iter().copied())
            .chain(difference.files().iter().copied())
            .collect();
        for change in difference.names() {
            touched.name(places, change.edge.clone())?;
        }
        for node in nodes {
            if node.as_root_or_kept() == Some(root) && !node.is_kept_area() {
                touched.directories.entry(node).or_default();
            }
            for edge in places.names(node)? {
                touched.name(places, edge)?;
            }
        }
        Ok(touched)
    }

    fn name<T: TreeIo>(&mut self, places: &Places<'_, T>, edge: Edge) -> Result<(), JournalError> {
        if let Some(names) = self.directories.get_mut(&edge.parent) {
            names.insert(edge.name);
            return Ok(());
        }
        let mut above = Vec::new();
        let mut at = edge.parent;
        while at.as_root_or_kept().is_none() {
            // In a directory that is gone.
            let Some(place) = places.directory(at)? else { return Ok(()) };
            at = place.parent;
            above.push(place);
        }
        if at != NodeId::root(self.root) {
            return Ok(());
        }
        for edge in above.into_iter().chain([edge]) {
            self.directories.entry(edge.parent).or_default().insert(edge.name);
        }
        Ok(())
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.directories.is_empty()
    }

    /// Whether a directory needs a new tree.
    pub fn contains(&self, directory: NodeId) -> bool {
        self.directories.contains_key(&directory)
    }

    /// The touched names of a directory, sorted.
    pub fn names(&self, directory: NodeId) -> Vec<Name> {
        self.directories.get(&directory).into_iter().flatten().cloned().collect()
    }
}
