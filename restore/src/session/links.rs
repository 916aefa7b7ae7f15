//! Names of one file: known by device and inode as the session has them.
//!
//! Names are joined only if they also agree in kind, size and content, so that a number which a sloppy or hostile session
//! uses twice does not give a file the bytes of another. At most [`LINKS_MAX`] files are remembered; further ones come
//! out as files of their own.

use snapshot::repository::{Id, Node, NodeKind};
use std::collections::HashMap;

/// Files with names still to come that are remembered.
pub(super) const LINKS_MAX: usize = 1_000_000;

/// What names of one file have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LinkKey {
    device: u64,
    inode: u64,
    digest: u64,
}

impl LinkKey {
    /// `None` for a file with one name.
    pub fn of(node: &Node) -> Option<Self> {
        if node.links < 2 || node.kind == NodeKind::Directory {
            return None;
        }
        let mut bytes = vec![node.kind as u8];
        bytes.extend_from_slice(&node.size.to_le_bytes());
        bytes.extend_from_slice(&node.device.to_le_bytes());
        bytes.extend_from_slice(&node.link_target);
        bytes.extend(node.content.iter().flat_map(|id| id.0));
        let Id([a, b, c, d, e, f, g, h, ..]) = Id::of(&bytes);
        let digest = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Some(Self { device: node.device_id, inode: node.inode, digest })
    }
}

/// First names of files, until all names were met.
#[derive(Debug)]
pub(super) struct Links<V> {
    known: HashMap<LinkKey, (V, u64)>,
}

impl<V: Clone> Links<V> {
    pub fn new() -> Self {
        Self { known: HashMap::new() }
    }

    /// The first name of the file, if this is a further one.
    pub fn further(&mut self, key: &LinkKey) -> Option<V> {
        let (first, left) = self.known.get_mut(key)?;
        let first = first.clone();
        *left -= 1;
        if *left == 0 {
            self.known.remove(key);
        }
        Some(first)
    }

    /// Remembers a first name. False if there are too many.
    pub fn remember(&mut self, key: LinkKey, links: u64, first: V) -> bool {
        let room = self.known.len() < LINKS_MAX;
        if room && links > 1 {
            self.known.insert(key, (first, links - 1));
        }
        room
    }
}
