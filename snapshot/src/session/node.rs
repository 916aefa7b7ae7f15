//! From a node of the journal to a node of a session, its kind back again, and nothing else: what is here decides the
//! bytes of trees.
//!
//! What the format has and the journal has not: access time (the modification time stands for it), names of owners
//! (left out; numbers are kept). What the journal has and the format has not: allocation of holes.

use super::Entity;
use crate::repository::{Id, Node, NodeKind, Timestamp, Xattr};
use journal::{Kind, Meta, NodeId};

/// A point in time in the format's terms.
#[must_use]
pub fn time(at: journal::Timestamp) -> Timestamp {
    let nanoseconds = u32::try_from(at.0.rem_euclid(1_000_000_000)).unwrap_or_default();
    Timestamp { seconds: at.0.div_euclid(1_000_000_000), nanoseconds }
}

/// What a node of a session is to the journal; `None` where nobody knows what it is.
#[must_use]
pub fn kind(node: &Node) -> Option<Kind> {
    Some(match node.kind {
        NodeKind::File => Kind::File,
        NodeKind::Directory => Kind::Directory,
        NodeKind::Symlink => Kind::Symlink(node.link_target.clone()),
        NodeKind::Fifo => Kind::Fifo,
        NodeKind::Socket => Kind::Socket,
        NodeKind::CharacterDevice => Kind::CharDevice(node.device),
        NodeKind::BlockDevice => Kind::BlockDevice(node.device),
        NodeKind::Other => return None,
    })
}

/// What a node holds beside its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Blobs of a file.
    Content(Vec<Id>),
    /// Tree of a directory.
    Tree(Id),
    /// Nothing.
    Nothing,
}

/// The node to be stored. `links` is the number of its names; directories have none to count.
#[must_use]
pub fn node(entity: &Entity, name: &[u8], id: NodeId, meta: &Meta, links: u64, held: Held) -> Node {
    let attributes = &meta.attributes;
    let (modified, changed) = (time(attributes.mtime), time(attributes.ctime));
    let mut node = Node {
        name: name.to_vec(),
        permissions: attributes.mode,
        modified,
        accessed: modified,
        changed,
        uid: attributes.uid,
        gid: attributes.gid,
        inode: id.0,
        device_id: entity.device,
        links,
        ..Node::default()
    };
    node.xattrs =
        meta.xattrs.iter().map(|(name, value)| Xattr { name: name.clone(), value: value.clone() }).collect();
    match &meta.kind {
        Kind::File => (node.kind, node.size) = (NodeKind::File, meta.size),
        Kind::Directory => node.kind = NodeKind::Directory,
        Kind::Symlink(target) => (node.kind, node.link_target) = (NodeKind::Symlink, target.clone()),
        Kind::Fifo => node.kind = NodeKind::Fifo,
        Kind::Socket => node.kind = NodeKind::Socket,
        Kind::CharDevice(device) => (node.kind, node.device) = (NodeKind::CharacterDevice, *device),
        Kind::BlockDevice(device) => (node.kind, node.device) = (NodeKind::BlockDevice, *device),
    }
    match held {
        Held::Content(content) => node.content = content,
        Held::Tree(tree) => node.subtree = Some(tree),
        Held::Nothing => {}
    }
    node
}
