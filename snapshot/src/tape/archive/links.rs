//! Which files have had a first name, so that further names become hard links.
//!
//! Paths lie in a scratch file; in memory is an entry for each file some of whose names are still to come, at most
//! [`LINKED_MAX`]. Names of files beyond that are stored as files of their own, each with its content; a repository joins them again
//! by device and inode.

use super::Result;
use super::spill::Spill;
use crate::repository::{Id, Node, NodeKind};
use std::collections::HashMap;
use std::path::Path;

/// Files with several names that are remembered at a time.
pub(super) const LINKED_MAX: usize = 1_000_000;

struct Known {
    at: u64,
    length: usize,
    left: u64,
    /// What the content is: names of an inode that changed between two looks are no links.
    content: (Id, u64),
}

/// First names.
pub(super) struct Links {
    known: HashMap<(u64, u64), Known>,
    paths: Spill,
}

fn has_more_names(node: &Node) -> bool {
    node.kind == NodeKind::File && node.links > 1 && node.inode != 0
}

impl Links {
    pub fn new(directory: &Path) -> Result<Self> {
        Ok(Self { known: HashMap::new(), paths: Spill::new(directory)? })
    }

    /// The name under which the file was stored with this content, if it was.
    pub fn first(&mut self, node: &Node, content: &Id) -> Result<Option<Vec<u8>>> {
        let key = (node.device_id, node.inode);
        let known = if has_more_names(node) { self.known.get_mut(&key) } else { None };
        let Some(known) = known.filter(|known| known.content == (*content, node.size)) else {
            return Ok(None);
        };
        known.left -= 1;
        let (at, length, is_last) = (known.at, known.length, known.left == 0);
        if is_last {
            self.known.remove(&key);
        }
        self.paths.read_at(at, length).map(Some)
    }

    /// The file was stored under this name.
    pub fn remember(&mut self, node: &Node, content: &Id, path: &[u8]) -> Result<()> {
        if has_more_names(node) && self.known.len() < LINKED_MAX {
            let (at, length, left) = (self.paths.add(path)?, path.len(), node.links - 1);
            let known = Known { at, length, left, content: (*content, node.size) };
            self.known.insert((node.device_id, node.inode), known);
        }
        Ok(())
    }
}
