//! A view as what a session is compared with.

use crate::session::meta::Meta as Wanted;
use crate::session::target::Found;
use crate::session::walk::Standing;
use journal::view::View;
use journal::{Edge, JournalError, Kind, Meta, Name, NodeId, TreeIo};
use snapshot::repository::{Node, NodeKind, Xattr};
use snapshot::session::node::time;
use std::io;

/// The tree that a view shows.
pub(super) struct ViewTree<'v, T: TreeIo> {
    pub view: &'v View<T>,
}

/// A name that a file system would not hold concerns one object; all else is the journal's, and ends the restore.
pub(super) fn name(bytes: &[u8]) -> io::Result<Name> {
    Name::new(bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file system holds this name"))
}

/// The kind of a node in the words of sessions.
pub(super) fn kind(kind: &Kind) -> NodeKind {
    match kind {
        Kind::File => NodeKind::File,
        Kind::Directory => NodeKind::Directory,
        Kind::Symlink(_) => NodeKind::Symlink,
        Kind::Fifo => NodeKind::Fifo,
        Kind::Socket => NodeKind::Socket,
        Kind::CharDevice(_) => NodeKind::CharacterDevice,
        Kind::BlockDevice(_) => NodeKind::BlockDevice,
    }
}

/// Longest target of a symbolic link, and most a set of extended attributes takes, in any kernel.
const LINK_TARGET_BYTES_MAX: usize = 4095;
const XATTR_NAME_BYTES_MAX: usize = 255;
const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
const XATTRS_BYTES_MAX: usize = 128 << 10;

/// Why no tree can hold an object, if none can. What a session says is not believed: such an object would be refused by
/// the kernel in the middle of applying it, or not fit into the journal.
pub(super) fn unfit(node: &Node, meta: &Wanted) -> Option<&'static str> {
    let target = &node.link_target;
    let length = |xattr: &Xattr| xattr.name.len() + xattr.value.len();
    let bad_xattr = |xattr: &Xattr| {
        let name = &xattr.name;
        name.is_empty()
            || name.len() > XATTR_NAME_BYTES_MAX
            || name.contains(&0)
            || xattr.value.len() > XATTR_VALUE_BYTES_MAX
    };
    if node.kind == NodeKind::Other {
        Some("an object of a kind that is not known")
    } else if node.kind == NodeKind::Symlink
        && (target.is_empty() || target.len() > LINK_TARGET_BYTES_MAX || target.contains(&0))
    {
        Some("no file system holds a link with this target")
    } else if meta.xattrs.iter().any(bad_xattr)
        || meta.xattrs.iter().map(length).sum::<usize>() > XATTRS_BYTES_MAX
    {
        Some("no file system holds these extended attributes")
    } else if meta.uid == u32::MAX || meta.gid == u32::MAX {
        // To the kernel this number means: leave it.
        Some("nothing can be owned by this number")
    } else {
        None
    }
}

fn found(node: NodeId, meta: &Meta) -> Found {
    let attributes = &meta.attributes;
    Found {
        kind: kind(&meta.kind),
        size: meta.size,
        mode: attributes.mode & 0o7777,
        modified: time(attributes.mtime),
        device: match meta.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => device,
            _ => 0,
        },
        identity: (0, node.0),
        uid: attributes.uid,
        gid: attributes.gid,
    }
}

impl<T: TreeIo> ViewTree<'_, T> {
    fn look(&self, edge: &Edge) -> Result<Option<Found>, JournalError> {
        let Some(node) = self.view.lookup(edge)? else { return Ok(None) };
        Ok(self.view.meta(node)?.map(|meta| found(node, &meta)))
    }
}

impl<T: TreeIo> Standing for ViewTree<'_, T> {
    type Dir = NodeId;

    fn stat(&self, dir: &NodeId, at: &[u8]) -> io::Result<Option<Found>> {
        self.look(&Edge::new(*dir, name(at)?)).map_err(io::Error::other)
    }

    fn list(&self, dir: &NodeId, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        for entry in self.view.list(*dir) {
            each(entry.map_err(io::Error::other)?.0.as_bytes());
        }
        Ok(())
    }

    fn is_fatal(&self, error: &io::Error) -> bool {
        error.kind() != io::ErrorKind::InvalidInput
    }
}
