//! Kernel notifications: one inotify watch a directory, turned into hints.
//!
//! A watch belongs to an inode, not to a path, so it follows renames of its directory. It is made through a descriptor
//! (`/proc/self/fd`), so no path is resolved and no link followed. inotify itself needs about a kilobyte of kernel
//! memory a directory and two map entries here: the one cost of capture that grows with the number of directories.
//!
//! What inotify cannot tell: it names the directory entry through which a file was changed. A file written through a
//! name that came into being and went again between two looks, or through a name outside the roots, or through a
//! mapping, is found when another hint or a rescan leads to it.
//!
//! All roots and the cookie directory share one instance. The kernel queues in order, so when the event of a cookie
//! comes out, every earlier event has come out.

use journal::{Name, NodeId};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What about a name deserves a look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Why {
    /// It came, went or moved.
    pub name: bool,
    /// Something moved here: perhaps from a name that was looked at already.
    pub arrived: bool,
    /// Bytes were written.
    pub content: bool,
    /// Owner, mode, times, extended attributes.
    pub attributes: bool,
}

impl Why {
    pub(super) fn merge(&mut self, other: Why) {
        self.name |= other.name;
        self.arrived |= other.arrived;
        self.content |= other.content;
        self.attributes |= other.attributes;
    }
}

/// One notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Look at this name.
    Name { directory: NodeId, name: Name, why: Why },
    /// Look at the directory itself.
    Directory(NodeId),
    /// A barrier's cookie came out.
    Cookie(Vec<u8>),
    /// The kernel dropped events: anything may have happened anywhere.
    Overflow,
    /// The directory's watch is gone with it, or the directory was moved itself (told of roots).
    Gone(NodeId),
}

/// Why a directory cannot be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WatchError {
    /// The limit of watches or kernel memory is reached.
    Limit,
    /// The kernel refuses (no right to read the directory).
    Denied(Errno),
    /// It is gone.
    Gone,
}

/// The inotify instance.
pub(super) struct Watch {
    fd: OwnedFd,
    by_wd: HashMap<i32, NodeId>,
    by_node: HashMap<NodeId, i32>,
    cookies: i32,
    limit: usize,
    buffer: Vec<MaybeUninit<u8>>,
}

const BUFFER_BYTES: usize = 64 << 10;

fn mask() -> WatchFlags {
    WatchFlags::ATTRIB
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::ONLYDIR
}

fn add(fd: &OwnedFd, directory: BorrowedFd<'_>, mask: WatchFlags) -> Result<i32, Errno> {
    inotify::add_watch(fd, format!("/proc/self/fd/{}", directory.as_raw_fd()), mask)
}

impl Watch {
    /// A new instance that watches the cookie directory, and at most `limit` others.
    pub(super) fn new(cookies: BorrowedFd<'_>, limit: usize) -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let cookies = add(&fd, cookies, WatchFlags::CREATE | WatchFlags::ONLYDIR)?;
        Ok(Watch {
            fd,
            by_wd: HashMap::new(),
            by_node: HashMap::new(),
            cookies,
            limit,
            buffer: vec![MaybeUninit::uninit(); BUFFER_BYTES],
        })
    }

    /// To wait for events on.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Watches a directory; fine if it is watched already. List it *after* this has returned.
    pub(super) fn add(&mut self, node: NodeId, directory: BorrowedFd<'_>) -> Result<(), WatchError> {
        if self.by_wd.len() >= self.limit && !self.has(node) {
            return Err(WatchError::Limit);
        }
        let itself = WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        let mask = if node.as_root_or_kept().is_some() { mask() | itself } else { mask() };
        let wd = add(&self.fd, directory, mask).map_err(|errno| match errno {
            Errno::NOSPC | Errno::NOMEM => WatchError::Limit,
            Errno::NOENT | Errno::NOTDIR => WatchError::Gone,
            errno => WatchError::Denied(errno),
        })?;
        if let Some(old) = self.by_node.insert(node, wd).filter(|old| *old != wd) {
            self.by_wd.remove(&old);
        }
        // The same directory may have been known as another node (it moved between roots).
        if let Some(other) = self.by_wd.insert(wd, node).filter(|other| *other != node) {
            self.by_node.remove(&other);
        }
        Ok(())
    }

    /// Whether the directory is watched.
    pub(super) fn has(&self, node: NodeId) -> bool {
        self.by_node.contains_key(&node)
    }

    /// How many directories are watched.
    pub(super) fn len(&self) -> usize {
        self.by_wd.len()
    }

    /// Stops watching a directory that left the tree.
    pub(super) fn forget(&mut self, node: NodeId) {
        if let Some(wd) = self.by_node.remove(&node) {
            self.by_wd.remove(&wd);
            // Fails if the kernel has dropped it with the directory, which is just as well.
            let _ = inotify::remove_watch(&self.fd, wd);
        }
    }

    /// Reads what is queued, at most `limit` notices; `true` if there may be more.
    pub(super) fn drain(&mut self, limit: usize, mut take: impl FnMut(Notice)) -> Result<bool, Errno> {
        let mut reader = inotify::Reader::new(&self.fd, &mut self.buffer);
        let mut count = 0;
        loop {
            // Never stop inside what was read: the reader drops it.
            if count >= limit && reader.is_buffer_empty() {
                return Ok(true);
            }
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno),
            };
            count += 1;
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                take(Notice::Overflow);
                continue;
            }
            if event.wd() == self.cookies {
                take(Notice::Cookie(
                    event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default(),
                ));
                continue;
            }
            let Some(directory) = self.by_wd.get(&event.wd()).copied() else { continue };
            if flags.contains(ReadFlags::IGNORED) {
                self.by_wd.remove(&event.wd());
                self.by_node.remove(&directory);
                take(Notice::Gone(directory));
                continue;
            }
            if flags.intersects(ReadFlags::MOVE_SELF | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT) {
                take(Notice::Gone(directory));
                continue;
            }
            take(match event.file_name().and_then(|name| Name::new(name.to_bytes())) {
                Some(name) => Notice::Name { directory, name, why: why(flags) },
                None => Notice::Directory(directory),
            });
        }
    }
}

fn why(flags: ReadFlags) -> Why {
    let arrived = flags.contains(ReadFlags::MOVED_TO);
    Why {
        name: arrived || flags.intersects(ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM),
        arrived,
        content: flags.intersects(ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE),
        attributes: flags.contains(ReadFlags::ATTRIB),
    }
}
