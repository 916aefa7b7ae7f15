//! The replica tree on a real file system.
//!
//! Every call names an open directory and one component of at most 255 bytes. The kernel never resolves a path that
//! came from a master, so neither `..`, nor an absolute name, nor a link planted in the middle can lead outside, and
//! a path may be longer than the kernel's own limit of 4,096 bytes. Opens use `openat2` and refuse links and mount
//! points; what has to act on an entry without opening it (owner, mode, times, extended attributes) first pins the
//! inode with an `O_PATH` descriptor and then acts on that inode through `/proc/self/fd`, so checking and acting are
//! never about two different objects.
//!
//! The kept area of a root NAME is `.NAME.rewind/kept` beside it: outside the root, so that no name of the master can
//! clash with it; on the same file system, so that moving there is a rename; mode 0700, because what is kept there no
//! longer has the protection of the directories it lay in.
//!
//! Without privileges the replica may own directories and files which their own mode bits close to it (0555, 0000).
//! A call that fails with `EACCES` is repeated once with the owner's bits added (`lift`), and the bits are put back.
//! A power cut in between leaves those bits added; recovery sets the attributes of every node it touches again, and a
//! directory whose names are touched is one of these.

mod attributes;
mod file;
mod lift;
#[cfg(test)]
mod tests;
mod xattrs;

use journal::{Attributes, Kind, Name, RootNo, Timestamp, TreeIo, TreeStat, Xattrs};
use lift::{Modes, Target};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Statx, StatxFlags, StatxTimestamp,
};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use file::OsFile;

/// An open directory of the replica tree.
#[derive(Clone, Debug)]
pub struct OsDir(Arc<OwnedFd>);

impl OsDir {
    /// A directory that was opened elsewhere, `O_PATH` will do; nothing can be created in such a one.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        OsDir(Arc::new(fd))
    }

    /// Its descriptor.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

impl AsFd for OsDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The replica directories of one scenario, by root number.
#[derive(Debug)]
pub struct OsTree {
    roots: Vec<Root>,
    /// One descriptor for each file system. Open from the start, because the kernel reports a failed writeback to
    /// those descriptors only which were open when it failed.
    file_systems: Vec<OsDir>,
    /// A failed `syncfs` leaves it unknown what is durable, and the next one would succeed all the same.
    poisoned: AtomicBool,
    modes: Arc<Modes>,
}

#[derive(Debug)]
struct Root {
    directory: OsDir,
    kept: OsDir,
}

impl OsTree {
    /// Opens the replica directories, which must exist; the root number is the place in `roots`. Creates kept areas.
    ///
    /// # Errors
    /// What the kernel says; `CrossesDevices` if a root is a mount point, because nothing could be kept beside it by
    /// renaming; `InvalidInput` if two roots are one directory or a root has no name (`/`).
    pub fn open(roots: Vec<PathBuf>) -> io::Result<OsTree> {
        let mut opened = Vec::with_capacity(roots.len());
        let mut file_systems: Vec<(u64, OsDir)> = Vec::new();
        let mut seen = Vec::new();
        for path in &roots {
            let root =
                open_root(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            let stat = rustix::fs::fstat(&root.directory)?;
            if seen.contains(&(stat.st_dev, stat.st_ino)) {
                let what = format!("{} is a root already", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            seen.push((stat.st_dev, stat.st_ino));
            if !file_systems.iter().any(|(device, _)| *device == stat.st_dev) {
                file_systems.push((stat.st_dev, root.directory.clone()));
            }
            opened.push(root);
        }
        Ok(OsTree {
            roots: opened,
            file_systems: file_systems.into_iter().map(|(_, directory)| directory).collect(),
            poisoned: AtomicBool::new(false),
            modes: Arc::default(),
        })
    }

    /// Opens one directory to write a tree into: root 0, without anything beside it. Its kept area is the directory
    /// itself and must not be used.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_target(path: &Path) -> io::Result<OsTree> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = OsDir(Arc::new(rustix::fs::open(path, flags, Mode::empty())?));
        Ok(OsTree {
            roots: vec![Root { directory: directory.clone(), kept: directory.clone() }],
            file_systems: vec![directory],
            poisoned: AtomicBool::new(false),
            modes: Arc::default(),
        })
    }

    /// Exchanges what stands at two names, at once.
    ///
    /// # Errors
    /// What the kernel says; `INVAL` where the file system cannot do it.
    pub(crate) fn exchange(&self, a: (&OsDir, &Name), b: (&OsDir, &Name)) -> io::Result<()> {
        self.modes.reach(&[Target::entry(a.0, a.1), Target::entry(b.0, b.1)], || {
            let (a_name, b_name) = (a.1.as_bytes(), b.1.as_bytes());
            Ok(rustix::fs::renameat_with(a.0, a_name, b.0, b_name, RenameFlags::EXCHANGE)?)
        })
    }

    fn of(&self, root: RootNo) -> io::Result<&Root> {
        self.roots.get(usize::from(root.0)).ok_or_else(|| Errno::NOENT.into())
    }
}

/// Opens a root by its own path (the operator's, not a master's) and makes its kept area.
fn open_root(path: &Path) -> io::Result<Root> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a root needs a directory above it"));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(parent, flags, Mode::empty())?;
    // Pinned first: a link in its place is refused, and a root closed to its owner can still be opened.
    let pinned = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = lift::open_closed(rustix::fs::openat(&parent, name, pinned, Mode::empty())?)?;

    let device = rustix::fs::fstat(&directory)?.st_dev;
    let same_device = |other: BorrowedFd<'_>| -> io::Result<()> {
        if rustix::fs::fstat(other)?.st_dev == device {
            return Ok(());
        }
        let what =
            "a root must not be a mount point: removed files are kept beside it, on the same file system";
        Err(io::Error::new(io::ErrorKind::CrossesDevices, what))
    };
    same_device(parent.as_fd())?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(".rewind");
    let private = open_private(parent.as_fd(), Path::new(&beside))?;
    let kept = open_private(private.as_fd(), Path::new("kept"))?;
    same_device(kept.as_fd())?;
    Ok(Root { directory: OsDir(Arc::new(directory)), kept: OsDir(Arc::new(kept)) })
}

/// Opens a directory that is closed to others, making it if need be.
fn open_private(parent: BorrowedFd<'_>, name: &Path) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&directory)?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        let what = format!("{} beside the root belongs to somebody else", name.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    if stat.st_mode & 0o7777 != 0o700 {
        rustix::fs::fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

/// `openat2` of one component: no links, no mount points. Kernels and sandboxes without it get `openat`, and the
/// device is compared afterwards.
fn open_beneath(dir: BorrowedFd<'_>, name: &Name, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(dir, name.as_bytes(), flags, mode, resolve) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        result => return Ok(result?),
    }
    let fd = rustix::fs::openat(dir, name.as_bytes(), flags, mode)?;
    if rustix::fs::fstat(&fd)?.st_dev == rustix::fs::fstat(dir)?.st_dev {
        Ok(fd)
    } else {
        Err(Errno::XDEV.into())
    }
}

/// Holds on to the inode of an entry without opening it: no side effect on devices or pipes, no rights needed.
fn pin(dir: BorrowedFd<'_>, name: &Name) -> io::Result<OwnedFd> {
    open_beneath(dir, name, OFlags::PATH, Mode::empty())
}

fn nanoseconds(time: StatxTimestamp) -> Timestamp {
    Timestamp(time.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(time.tv_nsec)))
}

fn tree_stat(stat: &Statx, target: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<TreeStat> {
    let device = rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(target()?),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice(device),
        FileType::BlockDevice => Kind::BlockDevice(device),
        FileType::Unknown => return Err(Errno::INVAL.into()),
    };
    Ok(TreeStat {
        inode: stat.stx_ino,
        size: if kind.is_file() { stat.stx_size } else { 0 },
        kind,
        links: u64::from(stat.stx_nlink),
        attributes: Attributes {
            mode: u32::from(stat.stx_mode) & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            mtime: nanoseconds(stat.stx_mtime),
            ctime: nanoseconds(stat.stx_ctime),
        },
    })
}

/// Stat of an open descriptor that is no link.
fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<TreeStat> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    tree_stat(&stat, || Ok(rustix::fs::readlinkat(fd, "", Vec::new())?.into_bytes()))
}

fn stat_entry(dir: BorrowedFd<'_>, name: &Name) -> io::Result<Option<TreeStat>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = match rustix::fs::statx(dir, name.as_bytes(), flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    tree_stat(&stat, || Ok(rustix::fs::readlinkat(dir, name.as_bytes(), Vec::new())?.into_bytes())).map(Some)
}

fn list_names(dir: BorrowedFd<'_>) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    // Opens the directory anew, so that two readers never share a position.
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let bytes = entry.file_name().to_bytes();
        if bytes == b"." || bytes == b".." {
            continue;
        }
        names.push(Name::new(bytes).ok_or(Errno::NAMETOOLONG)?);
    }
    Ok(names)
}

/// A default ACL of the directory would be inherited and give rights to others before the node's own are set.
fn shed_inherited(dir: BorrowedFd<'_>, made: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<()> {
    if !xattrs::has_default_acl(dir)? {
        return Ok(());
    }
    let made = made()?;
    if rustix::fs::fstat(&made)?.st_mode & 0o170_000 == 0o120_000 {
        return Ok(());
    }
    xattrs::remove_acls(made.as_fd())
}

fn create_entry(dir: BorrowedFd<'_>, name: &Name, kind: &Kind) -> io::Result<TreeStat> {
    let private = Mode::RUSR | Mode::WUSR;
    let bytes = name.as_bytes();
    match kind {
        Kind::File => drop(create_regular(dir, name)?),
        Kind::Directory => rustix::fs::mkdirat(dir, bytes, Mode::RWXU)?,
        Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), dir, bytes)?,
        Kind::Fifo => rustix::fs::mknodat(dir, bytes, FileType::Fifo, private, 0)?,
        Kind::Socket => rustix::fs::mknodat(dir, bytes, FileType::Socket, private, 0)?,
        Kind::CharDevice(device) => {
            rustix::fs::mknodat(dir, bytes, FileType::CharacterDevice, private, *device)?;
        }
        Kind::BlockDevice(device) => {
            rustix::fs::mknodat(dir, bytes, FileType::BlockDevice, private, *device)?
        }
    }
    if !kind.is_file() {
        shed_inherited(dir, || pin(dir, name))?;
    }
    stat_entry(dir, name)?.ok_or_else(|| Errno::NOENT.into())
}

fn create_regular(dir: BorrowedFd<'_>, name: &Name) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let fd = open_beneath(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    shed_inherited(dir, || fd.try_clone())?;
    Ok(fd)
}

fn rename_entry(from: (&OsDir, &Name), to: (&OsDir, &Name)) -> io::Result<()> {
    let (from_name, to_name) = (from.1.as_bytes(), to.1.as_bytes());
    match rustix::fs::renameat_with(from.0, from_name, to.0, to_name, RenameFlags::NOREPLACE) {
        // A file system without the flag says EINVAL, which also means "a directory into itself": the plain rename
        // says so again. Between the look and the rename only a foreign writer could take the name.
        Err(Errno::INVAL | Errno::NOSYS) => {
            if stat_entry(to.0.as_fd(), to.1)?.is_some() {
                return Err(Errno::EXIST.into());
            }
            Ok(rustix::fs::renameat(from.0, from_name, to.0, to_name)?)
        }
        result => Ok(result?),
    }
}

impl TreeIo for OsTree {
    type Dir = OsDir;
    type File = OsFile;

    fn root(&self, root: RootNo) -> io::Result<OsDir> {
        Ok(self.of(root)?.directory.clone())
    }

    fn kept(&self, root: RootNo) -> io::Result<OsDir> {
        Ok(self.of(root)?.kept.clone())
    }

    fn open_dir(&self, dir: &OsDir, name: &Name) -> io::Result<OsDir> {
        let fd = self.modes.reach(&[Target::entry(dir, name)], || {
            open_beneath(dir.as_fd(), name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        })?;
        Ok(OsDir(Arc::new(fd)))
    }

    fn list(&self, dir: &OsDir) -> io::Result<Vec<Name>> {
        self.modes.reach(&[Target::directory(dir)], || list_names(dir.as_fd()))
    }

    fn stat(&self, dir: &OsDir, name: &Name) -> io::Result<Option<TreeStat>> {
        self.modes.reach_steady(&[Target::directory(dir)], || stat_entry(dir.as_fd(), name))
    }

    fn stat_dir(&self, dir: &OsDir) -> io::Result<TreeStat> {
        self.modes.reach_steady(&[], || stat_fd(dir.as_fd()))
    }

    fn open_file(&self, dir: &OsDir, name: &Name, write: bool) -> io::Result<OsFile> {
        // NONBLOCK, or a pipe standing where a file should would hold us for ever.
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let fd = self.modes.reach(&[Target::entry(dir, name)], || {
            open_beneath(dir.as_fd(), name, access | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())
        })?;
        OsFile::new(fd, Arc::clone(&self.modes))
    }

    fn create(&self, dir: &OsDir, name: &Name, kind: &Kind) -> io::Result<TreeStat> {
        self.modes.reach(&[Target::directory(dir)], || create_entry(dir.as_fd(), name, kind))
    }

    fn create_file(&self, dir: &OsDir, name: &Name) -> io::Result<OsFile> {
        let fd = self.modes.reach(&[Target::directory(dir)], || create_regular(dir.as_fd(), name))?;
        OsFile::new(fd, Arc::clone(&self.modes))
    }

    fn link(&self, from: (&OsDir, &Name), to: (&OsDir, &Name)) -> io::Result<()> {
        self.modes.reach(&[Target::directory(from.0), Target::directory(to.0)], || {
            let (from_name, to_name) = (from.1.as_bytes(), to.1.as_bytes());
            Ok(rustix::fs::linkat(from.0, from_name, to.0, to_name, AtFlags::empty())?)
        })
    }

    fn rename(&self, from: (&OsDir, &Name), to: (&OsDir, &Name)) -> io::Result<()> {
        // A directory that changes its parent must itself be writable: its `..` is rewritten.
        self.modes.reach(&[Target::entry(from.0, from.1), Target::directory(to.0)], || rename_entry(from, to))
    }

    fn unlink(&self, dir: &OsDir, name: &Name) -> io::Result<()> {
        self.modes.reach(&[Target::directory(dir)], || {
            Ok(rustix::fs::unlinkat(dir, name.as_bytes(), AtFlags::empty())?)
        })
    }

    fn remove_dir(&self, dir: &OsDir, name: &Name) -> io::Result<()> {
        self.modes.reach(&[Target::directory(dir)], || {
            Ok(rustix::fs::unlinkat(dir, name.as_bytes(), AtFlags::REMOVEDIR)?)
        })
    }

    fn set_attributes(&self, dir: &OsDir, name: &Name, attributes: &Attributes, _: &Kind) -> io::Result<()> {
        // The kind is read from the pinned inode, not believed: changing the mode of a link is refused by no kernel
        // call that follows it.
        self.modes.reach_steady(&[Target::directory(dir)], || {
            attributes::set(pin(dir.as_fd(), name)?.as_fd(), attributes)
        })
    }

    fn set_dir_attributes(&self, dir: &OsDir, attributes: &Attributes) -> io::Result<()> {
        self.modes.reach_steady(&[], || attributes::set(dir.as_fd(), attributes))
    }

    fn set_xattrs(&self, dir: &OsDir, name: &Name, _: &Kind, xattrs: &Xattrs) -> io::Result<()> {
        self.modes.reach_steady(&[Target::entry(dir, name)], || {
            xattrs::set(pin(dir.as_fd(), name)?.as_fd(), xattrs)
        })
    }

    fn set_dir_xattrs(&self, dir: &OsDir, xattrs: &Xattrs) -> io::Result<()> {
        self.modes.reach_steady(&[Target::directory(dir)], || xattrs::set(dir.as_fd(), xattrs))
    }

    fn xattrs(&self, dir: &OsDir, name: &Name, _: &Kind) -> io::Result<Xattrs> {
        self.modes.reach(&[Target::entry(dir, name)], || xattrs::get(pin(dir.as_fd(), name)?.as_fd()))
    }

    fn dir_xattrs(&self, dir: &OsDir) -> io::Result<Xattrs> {
        self.modes.reach(&[Target::directory(dir)], || xattrs::get(dir.as_fd()))
    }

    fn sync(&self) -> io::Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(io::Error::other(
                "an earlier sync of the replica tree failed; open it again and recover",
            ));
        }
        for directory in &self.file_systems {
            if let Err(e) = rustix::fs::syncfs(directory) {
                self.poisoned.store(true, Ordering::Release);
                return Err(e.into());
            }
        }
        Ok(())
    }

    fn free_bytes(&self, root: RootNo) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.of(root)?.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
