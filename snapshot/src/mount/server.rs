//! The thread that has the view: answers requests one after the other.

use super::filesystem::Answer;
use super::listing::{Listed, Listing, Pages};
use super::{DIRECTORIES_MAX, MountedRoot};
use fuser::{Errno, FileAttr, FileType, INodeNo};
use journal::view::{Places, View};
use journal::{Edge, JournalError, Kind, Meta, Name, NodeId, Timestamp, TreeIo};
use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

/// What a view shows never changes.
pub(super) const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// The top of the mount. No node has this id.
const TOP: u64 = 1;
/// Most bytes of one read.
const READ_BYTES_MAX: u32 = 16 << 20;
const BLOCK_BYTES: u32 = 4096;

/// Answers until the last sender is gone.
pub(super) fn serve<T: TreeIo>(view: &View<T>, roots: Vec<MountedRoot>, requests: Receiver<Answer<T>>) {
    let mut server =
        Server { view, places: Places::new(view), roots, directories: HashMap::new(), last_directory: 0 };
    for answer in requests {
        answer(&mut server);
    }
}

/// Answers for a view.
pub(super) struct Server<'v, T: TreeIo> {
    view: &'v View<T>,
    places: Places<'v, T>,
    roots: Vec<MountedRoot>,
    directories: HashMap<u64, Listing>,
    last_directory: u64,
}

impl<T: TreeIo> Server<'_, T> {
    /// The node behind an inode; `None`: the top, which holds the roots.
    fn node(&self, inode: u64) -> Option<NodeId> {
        match self.roots.as_slice() {
            [MountedRoot { root, into: None }] if inode == TOP => Some(NodeId::root(*root)),
            _ if inode == TOP => None,
            _ => Some(NodeId(inode)),
        }
    }

    fn inode(&self, node: NodeId) -> u64 {
        if self.node(TOP) == Some(node) { TOP } else { node.0 }
    }

    pub fn lookup(&mut self, parent: u64, name: &[u8]) -> Result<FileAttr, Errno> {
        let name = Name::new(name).ok_or(Errno::ENOENT)?;
        let found = match self.node(parent) {
            Some(parent) => self.view.lookup(&Edge::new(parent, name)).map_err(told)?,
            None => {
                let root = self.roots.iter().find(|root| root.into.as_ref() == Some(&name));
                root.map(|root| NodeId::root(root.root))
            }
        };
        self.attr(found.ok_or(Errno::ENOENT)?.0)
    }

    pub fn attr(&mut self, inode: u64) -> Result<FileAttr, Errno> {
        match self.node(inode) {
            Some(node) => {
                let meta = self.meta(node)?;
                let links = if meta.kind.is_directory() {
                    2
                } else {
                    self.places.names(node).map_err(told)?.len().max(1)
                };
                Ok(attributes(inode, &meta, links))
            }
            None => Ok(top()),
        }
    }

    pub fn link_target(&self, inode: u64) -> Result<Vec<u8>, Errno> {
        match self.of(inode)?.kind {
            Kind::Symlink(target) => Ok(target),
            _ => Err(Errno::EINVAL),
        }
    }

    pub fn read(&self, inode: u64, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let node = self.node(inode).ok_or(Errno::EISDIR)?;
        let mut file = self.view.open(node).map_err(told)?;
        let length = file.size().saturating_sub(offset).min(u64::from(size.min(READ_BYTES_MAX)));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = file.read_at(&mut bytes, offset).map_err(told)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    pub fn xattr(&self, inode: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let meta = self.of(inode)?;
        let found = meta.xattrs.into_iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value).ok_or(Errno::NO_XATTR)
    }

    pub fn xattr_names(&self, inode: u64) -> Result<Vec<u8>, Errno> {
        let meta = self.of(inode)?;
        Ok(meta.xattrs.into_iter().flat_map(|(name, _)| name.into_iter().chain([0])).collect())
    }

    pub fn open_directory(&mut self, inode: u64) -> Result<u64, Errno> {
        if self.directories.len() >= DIRECTORIES_MAX {
            return Err(Errno::ENFILE);
        }
        let above = match self.node(inode) {
            Some(node) => match self.places.directory(node).map_err(told)? {
                Some(place) => self.inode(place.parent),
                None => TOP,
            },
            None => TOP,
        };
        self.last_directory += 1;
        self.directories.insert(self.last_directory, Listing::new(inode, above));
        Ok(self.last_directory)
    }

    pub fn close_directory(&mut self, number: u64) {
        self.directories.remove(&number);
    }

    pub fn read_directory(
        &mut self,
        number: u64,
        offset: u64,
        full: impl FnMut(Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut listing = self.directories.remove(&number).ok_or(Errno::EBADF)?;
        let directory = self.node(listing.inode());
        let given = listing.give(&Source { server: self, directory }, offset, full);
        self.directories.insert(number, listing);
        given.map_err(told)
    }

    fn of(&self, inode: u64) -> Result<Meta, Errno> {
        self.meta(self.node(inode).ok_or(Errno::NO_XATTR)?)
    }

    fn meta(&self, node: NodeId) -> Result<Meta, Errno> {
        self.view.meta(node).map_err(told)?.ok_or(Errno::ENOENT)
    }
}

/// The entries of one directory.
struct Source<'s, 'v, T: TreeIo> {
    server: &'s Server<'v, T>,
    directory: Option<NodeId>,
}

impl<T: TreeIo> Pages for Source<'_, '_, T> {
    fn page(&self, after: Option<&Name>) -> Result<Vec<(Name, NodeId)>, JournalError> {
        if let Some(directory) = self.directory {
            return self.server.view.list_page(directory, after);
        }
        let named = |root: &MountedRoot| Some((root.into.clone()?, NodeId::root(root.root)));
        let mut roots: Vec<_> = self.server.roots.iter().filter_map(named).collect();
        roots.sort();
        roots.retain(|(name, _)| after.is_none_or(|after| name > after));
        Ok(roots)
    }

    fn kind(&self, node: NodeId) -> Result<FileType, JournalError> {
        let missing = || JournalError::NotFound { what: "node", name: node.to_string() };
        Ok(file_type(&self.server.view.meta(node)?.ok_or_else(missing)?.kind))
    }
}

/// What the kernel is told of an error; people find it in the log.
fn told(error: JournalError) -> Errno {
    match error {
        JournalError::NotFound { .. } => Errno::ENOENT,
        error => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a mounted point cannot be read");
            Errno::EIO
        }
    }
}

fn file_type(kind: &Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice(_) => FileType::CharDevice,
        Kind::BlockDevice(_) => FileType::BlockDevice,
    }
}

fn time(at: Timestamp) -> SystemTime {
    let distance = Duration::from_nanos(at.0.unsigned_abs());
    let moved = if at.0 < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

fn attributes(inode: u64, meta: &Meta, links: usize) -> FileAttr {
    let size = match &meta.kind {
        Kind::Symlink(target) => target.len() as u64,
        _ => meta.size,
    };
    let (modified, changed) = (time(meta.attributes.mtime), time(meta.attributes.ctime));
    let device = match meta.kind {
        Kind::CharDevice(device) | Kind::BlockDevice(device) => device,
        _ => 0,
    };
    FileAttr {
        ino: INodeNo(inode),
        size,
        blocks: size.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: changed,
        crtime: modified,
        kind: file_type(&meta.kind),
        perm: (meta.attributes.mode & 0o7777) as u16,
        nlink: u32::try_from(links).unwrap_or(u32::MAX),
        uid: meta.attributes.uid,
        gid: meta.attributes.gid,
        // The kernel's own packing, of which it takes 32 bits.
        rdev: device as u32,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// The directory above the roots belongs to nobody's tree.
fn top() -> FileAttr {
    let epoch = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(TOP),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::Directory,
        perm: 0o755,
        nlink: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}
