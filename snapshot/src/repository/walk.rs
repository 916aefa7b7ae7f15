//! All nodes below a tree, with their paths.
//!
//! A directory's nodes come one after the other in the order of the tree, then those of its first subdirectory, and so
//! on; so a directory is always handed out before what is in it. No recursion: what waits are subdirectories of the
//! directories on the way, 32 bytes and a name each.
//!
//! Hostile trees: they cannot be cyclic, since a tree is named by its hash. But a few that name each other twice can stand
//! for more paths than there are atoms, so whoever walks has to count and stop. Refused are paths of more than
//! [`PATH_BYTES_MAX`] bytes or [`TREE_DEPTH_MAX`] parts.

use super::Repository;
use super::error::RepositoryError;
use super::id::{BlobKind, Id};
use super::tree::{Node, read_tree};

/// Longest path that is handed out, in bytes.
pub const PATH_BYTES_MAX: usize = 256 << 10;
/// Most directories above each other.
pub const TREE_DEPTH_MAX: usize = 8192;

/// How a walk goes on after a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// On, and into the node if it is a directory.
    Into,
    /// On, but not into it.
    Over,
    /// No further.
    Stop,
}

/// Takes each node with its path from the root, without a leading slash.
pub type EachNode<'a> = dyn FnMut(&[u8], Node) -> Step + 'a;

/// Makes the path of a directory that of what is in it.
pub(super) fn push_part(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// A directory on the way to where the walk is.
struct Level {
    /// Bytes of its path.
    length: usize,
    /// Its subdirectories that wait, the first one last.
    waiting: Vec<(Vec<u8>, Id)>,
}

impl Repository {
    /// Hands out the nodes of one tree in their order until `each` returns false.
    ///
    /// # Errors
    /// As [`Repository::load_blob`] and [`read_tree`].
    pub fn load_tree(&self, tree: &Id, each: &mut dyn FnMut(Node) -> bool) -> Result<(), RepositoryError> {
        read_tree(tree, &self.load_blob(BlobKind::Tree, tree)?, each)
    }

    /// Hands out all nodes below a tree. Whether it went to the end.
    ///
    /// # Errors
    /// As [`Repository::load_tree`]; `TooLarge` for a path beyond the limits. What came before was handed out.
    pub fn walk(&self, root: &Id, each: &mut EachNode<'_>) -> Result<bool, RepositoryError> {
        let mut path: Vec<u8> = Vec::new();
        let mut levels: Vec<Level> = Vec::new();
        let mut next = Some(*root);
        while let Some(tree) = next {
            let length = path.len();
            let mut waiting = Vec::new();
            let mut end = None;
            self.load_tree(&tree, &mut |node| {
                path.truncate(length);
                push_part(&mut path, &node.name);
                if path.len() > PATH_BYTES_MAX {
                    let (size, limit) = (path.len() as u64, PATH_BYTES_MAX as u64);
                    end = Some(Err(RepositoryError::TooLarge { what: "a path", size, limit }));
                    return false;
                }
                let directory = node.subtree.map(|id| (node.name.clone(), id));
                match each(&path, node) {
                    Step::Into => waiting.extend(directory),
                    Step::Over => {}
                    Step::Stop => end = Some(Ok(false)),
                }
                end.is_none()
            })?;
            if let Some(end) = end {
                return end;
            }
            waiting.reverse();
            levels.push(Level { length, waiting });
            if levels.len() > TREE_DEPTH_MAX {
                let (size, limit) = (levels.len() as u64, TREE_DEPTH_MAX as u64);
                return Err(RepositoryError::TooLarge { what: "the depth of a tree", size, limit });
            }
            next = None;
            while let (None, Some(Level { length, waiting })) = (next, levels.last_mut()) {
                path.truncate(*length);
                match waiting.pop() {
                    Some((name, id)) => {
                        push_part(&mut path, &name);
                        next = Some(id);
                    }
                    None => drop(levels.pop()),
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
