//! Where things were in the session before, and what it holds there.
//!
//! What has moved is looked up by name in the old tree of the directory it was in. Of what moves, much comes from one
//! directory, so old trees are kept as they were parsed: a thousand files that leave a directory cost one look at its
//! tree, not a thousand.

use crate::repository::tree::read_tree;
use crate::repository::{BlobKind, Id, Node, Repository};
use crate::session::SessionError;
use journal::view::Places;
use journal::{NodeId, TreeIo};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Bytes of old trees that are kept parsed; at least one tree is.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// What the session before has under a name.
#[derive(Clone, Debug)]
pub(in crate::session) struct Was {
    pub inode: u64,
    pub size: u64,
    pub content: Vec<Id>,
    pub subtree: Option<Id>,
}

impl From<Node> for Was {
    fn from(node: Node) -> Self {
        Was { inode: node.inode, size: node.size, content: node.content, subtree: node.subtree }
    }
}

/// A tree, by name.
type Listing = HashMap<Vec<u8>, Was>;

/// The session before, as far as it is asked for.
pub(super) struct Before<'d, 'v, T: TreeIo> {
    repository: Arc<Repository>,
    places: &'d Places<'v, T>,
    /// Trees of directories.
    directories: HashMap<NodeId, Option<Id>>,
    /// Parsed trees and the bytes they were parsed from, the last used at the end.
    listings: VecDeque<(Id, usize, Listing)>,
}

impl<'d, 'v, T: TreeIo> Before<'d, 'v, T> {
    /// `places`: those of the session before; `root` and its tree there.
    pub fn new(repository: Arc<Repository>, places: &'d Places<'v, T>, root: (NodeId, Id)) -> Self {
        let directories = HashMap::from([(root.0, Some(root.1))]);
        Before { repository, places, directories, listings: VecDeque::new() }
    }

    /// Remembers the tree of a directory.
    pub fn know(&mut self, directory: NodeId, tree: Option<Id>) {
        self.directories.insert(directory, tree);
    }

    /// The tree that a directory had, wherever it was.
    pub fn directory(&mut self, id: NodeId) -> Result<Option<Id>, SessionError> {
        let failed = SessionError::journal("find where a directory was");
        let mut down = Vec::new();
        let mut at = id;
        let mut tree = loop {
            if let Some(known) = self.directories.get(&at) {
                break *known;
            }
            if at.as_root_or_kept().is_some() {
                break None;
            }
            match self.places.directory(at).map_err(&failed)? {
                Some(edge) => {
                    down.push((at, edge.name));
                    at = edge.parent;
                }
                None => break None,
            }
        };
        for (directory, name) in down.into_iter().rev() {
            if let Some(above) = tree {
                let was = self.entry(above, name.as_bytes())?;
                tree = was.filter(|was| was.inode == directory.0).and_then(|was| was.subtree);
            }
            self.directories.insert(directory, tree);
        }
        Ok(tree)
    }

    /// A file as it was, under any of its names.
    pub fn file(&mut self, id: NodeId) -> Result<Option<Was>, SessionError> {
        let failed = SessionError::journal("find where a file was");
        for edge in self.places.names(id).map_err(&failed)? {
            let Some(tree) = self.directory(edge.parent)? else { continue };
            let found = self.entry(tree, edge.name.as_bytes())?;
            if let Some(was) = found.filter(|was| was.inode == id.0) {
                return Ok(Some(was));
            }
        }
        Ok(None)
    }

    /// What a tree has under a name.
    fn entry(&mut self, tree: Id, name: &[u8]) -> Result<Option<Was>, SessionError> {
        let known = self.listings.iter().position(|(id, ..)| *id == tree);
        let listing = match known.and_then(|at| self.listings.remove(at)) {
            Some(listing) => listing,
            None => self.parse(tree)?,
        };
        let found = listing.2.get(name).cloned();
        self.listings.push_back(listing);
        Ok(found)
    }

    /// Parses a tree, and makes room for it.
    fn parse(&mut self, tree: Id) -> Result<(Id, usize, Listing), SessionError> {
        let json = self.repository.load_blob(BlobKind::Tree, &tree)?;
        let mut kept: usize = self.listings.iter().map(|(_, bytes, _)| bytes).sum();
        while kept + json.len() > KEPT_BYTES_MAX
            && let Some((_, bytes, _)) = self.listings.pop_front()
        {
            kept -= bytes;
        }
        let mut listing = Listing::new();
        read_tree(&tree, &json, &mut |mut node| {
            listing.insert(std::mem::take(&mut node.name), node.into());
            true
        })?;
        Ok((tree, json.len(), listing))
    }
}
