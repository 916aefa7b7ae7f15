//! From members in the order of a depth-first walk to trees, in the memory of one path.
//!
//! A directory's tree grows while members below it come, and is saved when the first comes that is not. So a directory that
//! lost its header is made up, with plain metadata, when something below it comes. Refused: members that go back to a
//! directory that was left, names out of order, more than [`OPEN_BYTES_MAX`] of trees at a time.

use super::{ArchiveError, Result};
use crate::repository::{BlobWriter, Id, Node, NodeKind, TreeBuilder};

/// Bytes of trees that are open at a time.
const OPEN_BYTES_MAX: usize = 2 << 30;
/// Permissions of a directory whose header is lost.
const MADE_UP: u32 = 0o755;

struct Level {
    node: Node,
    tree: TreeBuilder,
}

/// Trees under way.
pub(super) struct Trees<'w> {
    writer: &'w BlobWriter,
    top: TreeBuilder,
    levels: Vec<Level>,
    open_bytes: usize,
}

impl<'w> Trees<'w> {
    pub fn new(writer: &'w BlobWriter) -> Self {
        Self { writer, top: TreeBuilder::new(), levels: Vec::new(), open_bytes: 0 }
    }

    /// Adds a node at its path; of a file with its content.
    pub fn add(&mut self, path: &[u8], node: Node) -> Result<()> {
        self.enter(above(path))?;
        if node.kind == NodeKind::Directory {
            self.levels.push(Level { node, tree: TreeBuilder::new() });
            return Ok(());
        }
        self.put(&node)
    }

    /// The tree of the top, when all is in it.
    pub fn finish(mut self) -> Result<Id> {
        while !self.levels.is_empty() {
            self.leave()?;
        }
        Ok(self.writer.save_tree(&mut self.top)?.id)
    }

    /// Makes a directory the innermost one.
    fn enter(&mut self, above: &[u8]) -> Result<()> {
        let parts: Vec<&[u8]> = above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let open = self.levels.iter().zip(&parts).take_while(|(level, part)| level.node.name == **part);
        let common = open.count();
        while self.levels.len() > common {
            self.leave()?;
        }
        for part in parts.iter().skip(common) {
            let node = Node {
                name: part.to_vec(),
                kind: NodeKind::Directory,
                permissions: MADE_UP,
                ..Node::default()
            };
            self.levels.push(Level { node, tree: TreeBuilder::new() });
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let Some(Level { mut node, mut tree }) = self.levels.pop() else { return Ok(()) };
        self.open_bytes = self.open_bytes.saturating_sub(tree.bytes());
        node.subtree = Some(self.writer.save_tree(&mut tree)?.id);
        self.put(&node)
    }

    fn put(&mut self, node: &Node) -> Result<()> {
        let tree = self.levels.last_mut().map_or(&mut self.top, |level| &mut level.tree);
        let before = tree.bytes();
        tree.add(node)?;
        self.open_bytes += tree.bytes() - before;
        if self.open_bytes > OPEN_BYTES_MAX {
            let path = String::from_utf8_lossy(&node.name).into_owned();
            return Err(ArchiveError::Member { path, what: "the directories it is in are too large" });
        }
        Ok(())
    }
}

/// The directory of a path; empty at the top.
fn above(path: &[u8]) -> &[u8] {
    let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.get(..cut).unwrap_or_default()
}
