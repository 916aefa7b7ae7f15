//! Owner, mode, times and extended attributes of one inode.
//!
//! All is done to an inode that is held by a descriptor, so that a name which is exchanged meanwhile is not followed:
//! through `/proc/self/fd` where it is only pinned, as what is no file and no directory is. The order: the owner first, since a change of it clears set-id
//! bits and capabilities; attributes next, while the mode still lets us; the times, which nothing after them touches; the
//! mode; the access ACL, which holds the mode's bits. A directory that shows its mode has its times, then: whoever is
//! killed in between leaves one that is known as not finished. What is refused is listed and the rest is done.
//!
//! A set-id bit is withheld where its owner could not be given: no program shall run as whoever restores.

use super::Owner;
use super::target::{Found, stat_fd};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use snapshot::repository::{Node, NodeKind, Timestamp, Xattr};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
/// A list of names, or a value, is at most 64 KiB in any kernel.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// What is set.
#[derive(Clone, Debug)]
pub(super) struct Meta {
    pub kind: NodeKind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Timestamp,
    pub accessed: Timestamp,
    pub xattrs: Vec<Xattr>,
}

impl Meta {
    /// Of what has none.
    pub const NONE: Self = Self {
        kind: NodeKind::Directory,
        mode: 0,
        uid: 0,
        gid: 0,
        modified: Timestamp { seconds: 0, nanoseconds: 0 },
        accessed: Timestamp { seconds: 0, nanoseconds: 0 },
        xattrs: Vec::new(),
    };

    pub fn take(node: &mut Node) -> Self {
        Self {
            kind: node.kind,
            mode: node.permissions,
            uid: node.uid,
            gid: node.gid,
            modified: node.modified,
            accessed: node.accessed,
            xattrs: std::mem::take(&mut node.xattrs),
        }
    }
}

/// What could not be set, and why.
pub(super) type Refused = (&'static str, io::Error);

/// Sets all that can be set.
pub(super) fn set(fd: BorrowedFd<'_>, meta: &Meta, owner: Owner, refused: &mut Vec<Refused>) {
    let mut note = |what, result: io::Result<()>| {
        if let Err(error) = result {
            refused.push((what, error));
        }
    };
    let mut now = match stat_fd(fd) {
        Ok(now) => now,
        Err(error) => return note("metadata", Err(error)),
    };
    if owner == Owner::Keep && (now.uid, now.gid) != (meta.uid, meta.gid) {
        note("owner", change_owner(fd, meta, &mut now));
    }
    let mut mode = meta.mode & 0o7777;
    let withheld = match meta.kind {
        NodeKind::File => {
            (if now.uid == meta.uid { 0 } else { SET_UID }) | (if now.gid == meta.gid { 0 } else { SET_GID })
        }
        _ => 0,
    } & mode;
    if withheld != 0 {
        mode &= !withheld;
        note("set-id bits", Err(Errno::PERM.into()));
    }
    let inode = Inode::new(fd, meta.kind);
    let names = match names(&inode) {
        Ok(names) => names,
        Err(error) => {
            note("extended attributes", Err(error));
            Vec::new()
        }
    };
    note("extended attributes", set_xattrs(&inode, &names, &meta.xattrs, false));
    let times =
        Timestamps { last_access: timespec(meta.accessed), last_modification: timespec(meta.modified) };
    note("times", rustix::fs::utimensat(fd, "", &times, AtFlags::EMPTY_PATH).map_err(io::Error::from));
    if meta.kind != NodeKind::Symlink {
        note("mode", set_mode(&inode, mode));
    }
    note("access control list", set_xattrs(&inode, &names, &meta.xattrs, true));
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanoseconds.min(999_999_999)) }
}

/// Gives owner and group, or as much as is allowed; `now` says afterwards what it is.
fn change_owner(fd: BorrowedFd<'_>, meta: &Meta, now: &mut Found) -> io::Result<()> {
    // To the kernel this number means: leave it.
    if meta.uid == u32::MAX || meta.gid == u32::MAX {
        return Err(Errno::INVAL.into());
    }
    let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
    let mut chown = |uid: Option<Uid>, gid: Option<Gid>| {
        rustix::fs::chownat(fd, "", uid, gid, AtFlags::EMPTY_PATH).inspect(|()| {
            now.uid = uid.map_or(now.uid, Uid::as_raw);
            now.gid = gid.map_or(now.gid, Gid::as_raw);
        })
    };
    let both = chown(Some(uid), Some(gid));
    if both.is_err() {
        // One alone may be allowed.
        let _ = chown(None, Some(gid));
        let _ = chown(Some(uid), None);
    }
    if (now.uid, now.gid) == (meta.uid, meta.gid) { Ok(()) } else { Ok(both?) }
}

/// An inode, and how the kernel lets us at it.
enum Inode<'f> {
    /// By its descriptor.
    Open(BorrowedFd<'f>),
    /// By a path that leads to what the descriptor pins.
    Pinned(BorrowedFd<'f>, String),
}

impl<'f> Inode<'f> {
    fn new(fd: BorrowedFd<'f>, kind: NodeKind) -> Self {
        match kind {
            NodeKind::File | NodeKind::Directory => Inode::Open(fd),
            _ => Inode::Pinned(fd, format!("/proc/self/fd/{}", fd.as_raw_fd())),
        }
    }

    fn fd(&self) -> BorrowedFd<'f> {
        match self {
            Inode::Open(fd) | Inode::Pinned(fd, _) => *fd,
        }
    }

    fn change_mode(&self, mode: Mode) -> Result<(), Errno> {
        match self {
            Inode::Open(fd) => rustix::fs::fchmod(fd, mode),
            Inode::Pinned(_, path) => rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()),
        }
    }

    fn list_xattrs(&self, names: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Inode::Open(fd) => rustix::fs::flistxattr(fd, names),
            Inode::Pinned(_, path) => rustix::fs::listxattr(path, names),
        }
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Inode::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Inode::Pinned(_, path) => rustix::fs::setxattr(path, name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Inode::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Inode::Pinned(_, path) => rustix::fs::removexattr(path, name),
        }
    }
}

fn set_mode(inode: &Inode<'_>, mode: u32) -> io::Result<()> {
    inode.change_mode(Mode::from_raw_mode(mode))?;
    // The kernel drops the bit without a word if we are not in the group.
    if mode & SET_GID != 0 && stat_fd(inode.fd())?.mode & SET_GID == 0 {
        return Err(Errno::PERM.into());
    }
    Ok(())
}

/// Makes the set equal to `wanted`: the access ACL, or all others. The first refusal is returned when all was tried.
fn set_xattrs(inode: &Inode<'_>, there: &[Vec<u8>], wanted: &[Xattr], acl: bool) -> io::Result<()> {
    let mut outcome: io::Result<()> = Ok(());
    for name in there {
        if (name == ACL_ACCESS) == acl && !wanted.iter().any(|xattr| xattr.name == *name) {
            match inode.remove_xattr(name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
    }
    for xattr in wanted.iter().filter(|xattr| (xattr.name == ACL_ACCESS) == acl) {
        if xattr.name.contains(&0) {
            outcome = outcome.and(Err(Errno::INVAL.into()));
            continue;
        }
        outcome = outcome.and(inode.set_xattr(&xattr.name, &xattr.value).map_err(io::Error::from));
    }
    outcome
}

/// Names that are ours to remove: labels of security modules belong to the policy of this host.
fn names(inode: &Inode<'_>) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0; 1024];
    let bytes = loop {
        match inode.list_xattrs(&mut buffer) {
            Ok(bytes) => break bytes,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(Errno::RANGE) if buffer.len() < XATTR_BYTES_MAX => buffer.resize(XATTR_BYTES_MAX, 0),
            Err(error) => return Err(error.into()),
        }
    };
    let list = buffer.get(..bytes).unwrap_or_default();
    let ours = |name: &&[u8]| {
        !name.is_empty() && (!name.starts_with(b"security.") || *name == b"security.capability")
    };
    Ok(list.split(|byte| *byte == 0).filter(ours).map(<[u8]>::to_vec).collect())
}
