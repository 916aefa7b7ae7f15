//! The directory that a session is restored into.
//!
//! Every call names an open directory and one component. Directories are opened from the target's descriptor downwards,
//! each by `openat2` that follows no link, so neither a name of the session nor a link that somebody put into the target
//! leads outside, and paths may be longer than the kernel's limit. A path through a link is refused, wherever it points.
//!
//! A [`Dir`] is a place, not a descriptor: at most [`OPEN_MAX`] are open at a time, the others are found again from the
//! nearest one above. Mount points inside the target are entered, and each file system is synced; it is opened when it
//! is first met, since the kernel reports failed writeback only to descriptors that were open then.

use super::error::is_fatal;
use super::walk::Standing;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;
use snapshot::repository::{NodeKind, Timestamp};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Weak};

#[cfg(test)]
mod tests;

/// Directories open at a time, but for those in use.
const OPEN_MAX: usize = 128;
/// Mode of a directory that is being restored: a combination that next to nobody uses, so that one left by a dead run
/// is known.
const UNFINISHED_MODE: u32 = 0o1700;

/// Whether a mode is that of a directory being restored. The group's bit may have been inherited.
pub(super) fn is_unfinished(mode: u32) -> bool {
    const SET_GID: u32 = 0o2000;
    mode & !SET_GID == UNFINISHED_MODE
}

/// A directory in the target.
#[derive(Debug)]
pub(super) struct Dir {
    above: Option<Arc<Dir>>,
    /// Its name in the session.
    name: Vec<u8>,
    /// Its name in the target, if that is another.
    renamed: Option<Vec<u8>>,
    /// Made by this run: what is in it has been put there meanwhile.
    fresh: bool,
    fd: Mutex<Option<Arc<OwnedFd>>>,
}

impl Dir {
    /// The absolute path in the session of `name` in this directory.
    pub fn path(&self, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut at = Some(self);
        while let Some(dir) = at {
            names.push(&dir.name);
            at = dir.above.as_deref();
        }
        let mut path = Vec::new();
        for name in names.iter().rev().filter(|name| !name.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub kind: NodeKind,
    pub size: u64,
    pub mode: u32,
    pub modified: Timestamp,
    pub device: u64,
    /// File system and inode.
    pub identity: (u64, u64),
    pub uid: u32,
    pub gid: u32,
}

/// The target.
#[derive(Debug)]
pub(super) struct Target {
    top: Arc<Dir>,
    /// Kept open for good.
    top_fd: Arc<OwnedFd>,
    open: Mutex<VecDeque<Weak<Dir>>>,
    file_systems: Mutex<HashMap<u64, Arc<OwnedFd>>>,
    /// A sync has failed. Held while one goes on.
    unsynced: Mutex<bool>,
}

impl Target {
    /// Opens the target, which the caller names and which may be reached by any path; `None` if there is none.
    pub fn open(path: &Path) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            fd => Arc::new(fd?),
        };
        let held = Mutex::new(Some(fd.clone()));
        let top = Arc::new(Dir { above: None, name: Vec::new(), renamed: None, fresh: false, fd: held });
        let device = stat_fd(fd.as_fd())?.identity.0;
        let file_systems = Mutex::new(HashMap::from([(device, fd.clone())]));
        let (open, unsynced) = (Mutex::default(), Mutex::default());
        Ok(Some(Self { top, top_fd: fd, open, file_systems, unsynced }))
    }

    pub fn top(&self) -> &Arc<Dir> {
        &self.top
    }

    pub fn top_fd(&self) -> BorrowedFd<'_> {
        self.top_fd.as_fd()
    }

    /// The directory called `name` in the session, here `renamed`. Not opened yet.
    pub fn child(&self, dir: &Arc<Dir>, name: &[u8], renamed: Option<Vec<u8>>) -> Arc<Dir> {
        self.below(dir, name, renamed, false)
    }

    /// The same for one that this run has made.
    pub fn made(&self, dir: &Arc<Dir>, name: &[u8], renamed: Option<Vec<u8>>) -> Arc<Dir> {
        self.below(dir, name, renamed, true)
    }

    fn below(&self, dir: &Arc<Dir>, name: &[u8], renamed: Option<Vec<u8>>, fresh: bool) -> Arc<Dir> {
        Arc::new(Dir { above: Some(dir.clone()), name: name.to_vec(), renamed, fresh, fd: Mutex::default() })
    }

    /// A descriptor of the directory. In a loop, since the session says how deep it lies.
    pub fn fd(&self, dir: &Arc<Dir>) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut at = dir;
        let mut fd = loop {
            if let Some(fd) = &*at.fd.lock() {
                break fd.clone();
            }
            closed.push(at);
            at = at.above.as_ref().ok_or(Errno::BADF)?;
        };
        if closed.is_empty() {
            return Ok(fd);
        }
        let device = stat_fd(fd.as_fd())?.identity.0;
        for (left, dir) in closed.iter().enumerate().rev() {
            let name = dir.renamed.as_ref().unwrap_or(&dir.name);
            fd = Arc::new(open_dir(fd.as_fd(), name)?);
            let here = stat_fd(fd.as_fd())?.identity.0;
            if here != device {
                self.file_systems.lock().entry(here).or_insert_with(|| fd.clone());
            }
            // Only the lowest are likely to be needed again.
            if left < OPEN_MAX / 4 {
                self.keep_open(dir, &fd);
            }
        }
        Ok(fd)
    }

    fn keep_open(&self, dir: &Arc<Dir>, fd: &Arc<OwnedFd>) {
        *dir.fd.lock() = Some(fd.clone());
        let mut open = self.open.lock();
        open.push_back(Arc::downgrade(dir));
        while open.len() > OPEN_MAX {
            if let Some(oldest) = open.pop_front().and_then(|dir| dir.upgrade()) {
                *oldest.fd.lock() = None;
            }
        }
    }

    /// Makes everything durable that was done so far. Once it has failed it fails for good: the kernel says only once that
    /// it could not write, to whichever thread asks first, and not to the one whose files it was about.
    pub fn sync(&self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock();
        if *unsynced {
            return Err(io::Error::other("an earlier sync of the target failed"));
        }
        let all: Vec<_> = self.file_systems.lock().values().cloned().collect();
        for fd in all {
            rustix::fs::syncfs(&*fd).inspect_err(|_| *unsynced = true)?;
        }
        Ok(())
    }

    /// Bytes that unprivileged users can still write here.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&*self.top_fd)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl Standing for Target {
    type Dir = Arc<Dir>;

    fn stat(&self, dir: &Arc<Dir>, name: &[u8]) -> io::Result<Option<Found>> {
        // The session has each name once. Whatever somebody else puts there is refused when the name is given.
        if dir.fresh {
            return Ok(None);
        }
        stat_at(self.fd(dir)?.as_fd(), name)
    }

    fn list(&self, dir: &Arc<Dir>, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        list(self.fd(dir)?.as_fd(), &mut |name| {
            each(name);
            true
        })
    }

    fn is_fatal(&self, error: &io::Error) -> bool {
        is_fatal(error)
    }
}

/// Opens one component below `dir`, following nothing. Kernels and sandboxes without `openat2` get `openat`.
pub(super) fn open_at(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    resolve_at(dir, name, flags, ResolveFlags::empty())
}

fn resolve_at(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if flags.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    match rustix::fs::openat2(dir, name, flags, mode, resolve) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(rustix::fs::openat(dir, name, flags, mode)?),
        fd => Ok(fd?),
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_at(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Target of a symbolic link.
pub(super) fn read_link(target: &Target, dir: &Arc<Dir>, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(target.fd(dir)?, name, Vec::new())?.into_bytes())
}

/// Holds an inode without opening it.
pub(super) fn pin(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_at(dir, name, OFlags::PATH)
}

pub(super) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Found> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(found(&stat))
}

pub(super) fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Found>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(Some(found(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn found(stat: &rustix::fs::Statx) -> Found {
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::RegularFile => NodeKind::File,
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => NodeKind::Symlink,
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
        FileType::CharacterDevice => NodeKind::CharacterDevice,
        FileType::BlockDevice => NodeKind::BlockDevice,
        FileType::Unknown => NodeKind::Other,
    };
    Found {
        kind,
        size: stat.stx_size,
        mode: u32::from(stat.stx_mode) & 0o7777,
        modified: Timestamp { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
        device: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        identity: (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
    }
}

/// Calls `each` for every name in a directory but the dot names, until it returns false.
pub(super) fn list(dir: BorrowedFd<'_>, each: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
    // Opened anew, so that no two readers share a position.
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !each(name) {
            break;
        }
    }
    Ok(())
}

/// Makes an empty regular file that only we can open.
pub(super) fn create_file(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    open_at(dir, name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
}

/// Makes a directory that says of itself that it is not finished.
pub(super) fn make_dir(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    // At once, or a kill could leave one that looks finished. An ACL that is inherited gives nobody else any rights:
    // the mode's bits limit it.
    rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(UNFINISHED_MODE))?;
    let made = open_dir(dir, name)?;
    if !is_unfinished(stat_fd(made.as_fd())?.mode) {
        rustix::fs::fchmod(made, Mode::from_raw_mode(UNFINISHED_MODE))?;
    }
    Ok(())
}

/// Lets us into a directory of our own that its mode closes to us. It then says of itself that it is not finished.
pub(super) fn open_up(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let pinned = pin(dir, name)?;
    let (found, us) = (stat_fd(pinned.as_fd())?, rustix::process::geteuid());
    if us.is_root() || found.uid != us.as_raw() || found.mode & 0o700 == 0o700 {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", pinned.as_raw_fd());
    let mode = Mode::from_raw_mode(UNFINISHED_MODE);
    Ok(rustix::fs::chmodat(rustix::fs::CWD, path, mode, AtFlags::empty())?)
}

/// Renames in one directory. Without `replace` it fails if there is something.
pub(super) fn rename(dir: BorrowedFd<'_>, from: &[u8], to: &[u8], replace: bool) -> io::Result<()> {
    if replace {
        return Ok(rustix::fs::renameat(dir, from, dir, to)?);
    }
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // Some file systems cannot do it at once.
        Err(Errno::INVAL | Errno::NOSYS) if stat_at(dir, to)?.is_none() => {
            Ok(rustix::fs::renameat(dir, from, dir, to)?)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(Errno::EXIST.into()),
        result => Ok(result?),
    }
}

pub(super) fn unlink(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// Removes a name and whatever is below it, on this file system, following nothing. Neither depth nor breadth takes
/// memory or descriptors: the walk goes down to a directory without directories each time.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    loop {
        match unlink(dir, name) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::ISDIR | Errno::PERM)) => {}
            result => return result,
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            result => return Ok(result?),
        }
        let mut here = resolve_at(dir, name, flags, ResolveFlags::NO_XDEV)?;
        loop {
            let mut below = None;
            let mut outcome = Ok(());
            list(here.as_fd(), &mut |entry| {
                match unlink(here.as_fd(), entry) {
                    Ok(()) => {}
                    Err(error)
                        if matches!(Errno::from_io_error(&error), Some(Errno::ISDIR | Errno::PERM)) =>
                    {
                        match rustix::fs::unlinkat(&here, entry, AtFlags::REMOVEDIR) {
                            Ok(()) => {}
                            Err(Errno::NOTEMPTY | Errno::EXIST) => below = Some(entry.to_vec()),
                            Err(error) => outcome = Err(error.into()),
                        }
                    }
                    Err(error) => outcome = Err(error),
                }
                outcome.is_ok()
            })?;
            outcome?;
            match below {
                Some(entry) => here = resolve_at(here.as_fd(), &entry, flags, ResolveFlags::NO_XDEV)?,
                None => break,
            }
        }
    }
}
