//! What the kernel says of one name: stat, identity, link target, extended attributes.
//!
//! Nothing here follows a link or resolves more than one component, so a look can neither leave a root nor be limited
//! by the length of a path.
//!
//! `ESTALE` is an error like others, never absence: a descriptor that the file system no longer honours says nothing of
//! what stands at a name. Whoever meets it opens the way anew, once, and then leaves in doubt what it is about.

pub(super) use journal::digest::xattrs_hash;
use journal::{Attributes, Kind, Name, Origin, Timestamp, Xattrs};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    /// A look at a name.
    Look,
    /// Whether a name stays with one inode while it is looked at.
    Rest,
    /// Reading a link.
    Link,
    /// Opening a directory to list it.
    List,
    /// Telling inodes apart.
    Identity,
}

#[cfg(test)]
pub(super) mod faults;
#[cfg(test)]
pub(super) use faults::fail;
/// Fails where a test says so.
#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps)]
pub(super) const fn fail(_: Call, _: BorrowedFd<'_>, _: Option<&Name>) -> Result<(), Errno> {
    Ok(())
}

/// A directory as a place to look in: `O_PATH`, which needs no right to read it.
pub(super) const DIRECTORY: OFlags =
    OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::MNT_ID);

/// Kind of a node without what defines it (a link's target); as in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Sort {
    pub(super) const fn code(self) -> u8 {
        self as u8
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Sort::File,
            1 => Sort::Directory,
            2 => Sort::Symlink,
            3 => Sort::Fifo,
            4 => Sort::Socket,
            5 => Sort::CharDevice,
            6 => Sort::BlockDevice,
            _ => return None,
        })
    }

    pub(super) const fn of(kind: &Kind) -> Self {
        match kind {
            Kind::File => Sort::File,
            Kind::Directory => Sort::Directory,
            Kind::Symlink(_) => Sort::Symlink,
            Kind::Fifo => Sort::Fifo,
            Kind::Socket => Sort::Socket,
            Kind::CharDevice(_) => Sort::CharDevice,
            Kind::BlockDevice(_) => Sort::BlockDevice,
        }
    }
}

/// What a look finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub sort: Sort,
    pub inode: u64,
    /// Device number as the kernel has it now.
    pub device: u64,
    /// Mount it was reached through.
    pub mount: u64,
    pub birth: i64,
    pub links: u32,
    /// Length of a regular file, else 0.
    pub size: u64,
    /// Bytes allocated.
    pub allocated: u64,
    pub rdev: u64,
    pub attributes: Attributes,
}

impl Look {
    /// Whether nothing moved between two looks at one inode.
    pub(super) fn same_as(&self, other: &Look) -> bool {
        self.inode == other.inode && self.size == other.size && self.attributes == other.attributes
    }
}

fn nanoseconds(time: rustix::fs::StatxTimestamp) -> i64 {
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec))
}

fn look_of(stat: &Statx) -> Option<Look> {
    let sort = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => Sort::File,
        FileType::Directory => Sort::Directory,
        FileType::Symlink => Sort::Symlink,
        FileType::Fifo => Sort::Fifo,
        FileType::Socket => Sort::Socket,
        FileType::CharacterDevice => Sort::CharDevice,
        FileType::BlockDevice => Sort::BlockDevice,
        FileType::Unknown => return None,
    };
    let known = |flag: StatxFlags| stat.stx_mask & flag.bits() != 0;
    Some(Look {
        sort,
        inode: stat.stx_ino,
        device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        mount: if known(StatxFlags::MNT_ID) { stat.stx_mnt_id } else { 0 },
        birth: if known(StatxFlags::BTIME) { nanoseconds(stat.stx_btime) } else { 0 },
        links: stat.stx_nlink,
        size: if sort == Sort::File { stat.stx_size } else { 0 },
        allocated: stat.stx_blocks.saturating_mul(512),
        rdev: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        attributes: Attributes {
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: Timestamp(nanoseconds(stat.stx_mtime)),
            ctime: Timestamp(nanoseconds(stat.stx_ctime)),
        },
    })
}

/// Opens a directory to read its names.
pub(super) fn open_list(directory: BorrowedFd<'_>) -> Result<Dir, Errno> {
    fail(Call::List, directory, None)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, c".", flags, rustix::fs::Mode::empty()).and_then(Dir::new)
}

/// Looks at a name; `None` if there is none.
///
/// # Errors
/// Whatever keeps the kernel from answering (no right to search the directory, I/O).
pub(super) fn look_at(directory: BorrowedFd<'_>, name: &Name) -> Result<Option<Look>, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    fail(Call::Look, directory, Some(name))?;
    match rustix::fs::statx(directory, name.as_bytes(), flags, WANTED) {
        Ok(stat) => look_of(&stat).map(Some).ok_or(Errno::NOTSUP),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Looks at an open file or directory.
pub(super) fn look_open(file: BorrowedFd<'_>) -> Result<Look, Errno> {
    look_of(&rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, WANTED)?).ok_or(Errno::NOTSUP)
}

/// The identity behind a look. `name` empty: of the directory itself. `device` is that of the root, see
/// [`device_of`].
///
/// The generation is a hash of the file handle, which holds it in a form of the file system's own. Where there is
/// none the birth time stands for it.
pub(super) fn origin_of(directory: BorrowedFd<'_>, name: &[u8], look: &Look, device: u64) -> Origin {
    if fail(Call::Identity, directory, Name::new(name).as_ref()).is_err() {
        return Origin { device, inode: u64::MAX, generation: 0, birth: 0 };
    }
    let handle = CString::new(name).ok().and_then(|name| sys::file_handle(directory, &name).ok());
    match handle {
        Some(handle) => {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&handle.kind().to_le_bytes());
            hasher.update(handle.bytes());
            let generation = first_eight(hasher.finalize().as_bytes()).max(1);
            Origin { device, inode: look.inode, generation, birth: 0 }
        }
        None => Origin { device, inode: look.inode, generation: 0, birth: look.birth },
    }
}

/// Number of the file system that holds an open directory: from its UUID, so that it survives a reboot; else its
/// device number.
pub(super) fn device_of(directory: &OwnedFd, look: &Look) -> u64 {
    let readable = rustix::fs::openat(
        directory,
        c".",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    match readable.ok().and_then(|file| sys::file_system_uuid(file.as_fd())) {
        Some(uuid) => first_eight(blake3::hash(&uuid).as_bytes()).max(1),
        None => look.device,
    }
}

fn first_eight(hash: &[u8; 32]) -> u64 {
    hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads what a link points to, as bytes, never following it; `None` if it is no link, or not there any more.
///
/// # Errors
/// Whatever keeps the kernel from answering.
pub(super) fn link_target(directory: BorrowedFd<'_>, name: &Name) -> Result<Option<Vec<u8>>, Errno> {
    fail(Call::Link, directory, Some(name))?;
    match rustix::fs::readlinkat(directory, name.as_bytes(), Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens a regular file to read it: never a link, never waiting for a writer of a pipe that took the name.
pub(super) fn open_file(directory: BorrowedFd<'_>, name: &Name) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let none = rustix::fs::Mode::empty();
    match rustix::fs::openat(directory, name.as_bytes(), flags | OFlags::NOATIME, none) {
        // Only owners may leave the access time alone.
        Err(Errno::PERM) => rustix::fs::openat(directory, name.as_bytes(), flags, none),
        result => result,
    }
}

/// Whose extended attributes are read.
#[derive(Clone, Copy)]
pub(super) enum XattrsOf<'a> {
    /// An open, readable file.
    Open(BorrowedFd<'a>),
    /// An entry of a directory.
    Entry(BorrowedFd<'a>, &'a Name),
    /// A directory held open as a place.
    Place(BorrowedFd<'a>),
}

impl XattrsOf<'_> {
    /// A path that leads to exactly this object: through the descriptor, then at most one component.
    fn path(self) -> Vec<u8> {
        match self {
            XattrsOf::Open(fd) | XattrsOf::Place(fd) => {
                format!("/proc/self/fd/{}/.", fd.as_raw_fd()).into_bytes()
            }
            XattrsOf::Entry(fd, name) => {
                let mut path = format!("/proc/self/fd/{}/", fd.as_raw_fd()).into_bytes();
                path.extend_from_slice(name.as_bytes());
                path
            }
        }
    }

    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            XattrsOf::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            _ => rustix::fs::llistxattr(self.path(), buffer),
        }
    }

    fn get(self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            XattrsOf::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            _ => rustix::fs::lgetxattr(self.path(), name, buffer),
        }
    }
}

/// What is kept: what people and programs set, capabilities and labels, and ACLs. The rest of `system.*` and the
/// namespaces of single file systems mean nothing elsewhere.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || name.starts_with(b"security.")
        || name == b"system.posix_acl_access"
        || name == b"system.posix_acl_default"
}

/// The whole set of extended attributes, sorted by name. Empty where the file system has none.
///
/// # Errors
/// Whatever keeps the kernel from answering.
pub(super) fn xattrs(of: XattrsOf<'_>) -> Result<Xattrs, Errno> {
    let mut small = [0u8; 256];
    let mut large = Vec::new();
    let list: &[u8] = match of.list(&mut small) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => small.get(..length).unwrap_or_default(),
        Err(Errno::RANGE) => {
            large.resize(65536, 0);
            let length = of.list(&mut large)?;
            large.get(..length).unwrap_or_default()
        }
        Err(errno) => return Err(errno),
    };
    let mut set = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        match value(of, name) {
            Ok(value) => set.push((name.to_vec(), value)),
            // It went between list and get; the change of it is noticed on its own.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    set.sort_unstable();
    Ok(set)
}

fn value(of: XattrsOf<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0u8; 512];
    loop {
        match of.get(name, &mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < 65536 => buffer.resize(65536, 0),
            Err(errno) => return Err(errno),
        }
    }
}
