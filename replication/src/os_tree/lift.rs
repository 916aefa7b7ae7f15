//! Access to nodes that their own mode bits close to us.
//!
//! An owner without privileges cannot list a directory of mode 0000, create in one of mode 0555 or open a file of mode
//! 0400 for writing, yet an applier must. So a call refused with `EACCES` is made again between adding the owner's bits
//! and taking them away. Two threads doing this to one node would see each other's added bits as the node's own and
//! leave them behind, hence one at a time; and whoever reads or sets modes does so while nobody is lifting.

use super::{OsDir, pin};
use journal::Name;
use parking_lot::RwLock;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Held exclusively while any mode differs from what it should be.
#[derive(Debug, Default)]
pub(super) struct Modes(RwLock<()>);

/// What a call needs access to.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    dir: &'a OsDir,
    entry: Option<&'a Name>,
}

impl<'a> Target<'a> {
    /// The directory itself.
    pub(super) fn directory(dir: &'a OsDir) -> Self {
        Target { dir, entry: None }
    }

    /// The directory and what stands in it under this name.
    pub(super) fn entry(dir: &'a OsDir, name: &'a Name) -> Self {
        Target { dir, entry: Some(name) }
    }
}

impl Modes {
    /// Runs `op`, and once more with the targets opened up if it fails with `EACCES`.
    pub(super) fn reach<T>(&self, targets: &[Target<'_>], op: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match op() {
            Err(e) if is_denied(&e) && !targets.is_empty() => self.reach_lifted(targets, op, e),
            result => result,
        }
    }

    /// As [`Modes::reach`], for calls that read or set modes.
    pub(super) fn reach_steady<T>(
        &self,
        targets: &[Target<'_>],
        op: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        let result = {
            let _steady = self.0.read();
            op()
        };
        match result {
            Err(e) if is_denied(&e) && !targets.is_empty() => self.reach_lifted(targets, op, e),
            result => result,
        }
    }

    fn reach_lifted<T>(
        &self,
        targets: &[Target<'_>],
        op: impl Fn() -> io::Result<T>,
        denied: io::Error,
    ) -> io::Result<T> {
        let _alone = self.0.write();
        let mut lifted = Vec::new();
        let ready = lift_all(targets, &mut lifted);
        let result = match ready {
            Ok(()) => op(),
            // Not ours to open up: the first refusal is the better answer.
            Err(e) if e.raw_os_error() == Some(Errno::PERM.raw_os_error()) => Err(denied),
            Err(e) => Err(e),
        };
        let mut put_back = Ok(());
        for lift in lifted.iter().rev() {
            put_back = put_back.and(lift.put_back());
        }
        let value = result?;
        put_back?;
        Ok(value)
    }
}

/// Opens a directory for listing that may be closed to us, while nobody else uses the tree yet.
pub(super) fn open_closed(pinned: OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |fd: BorrowedFd<'_>| rustix::fs::open(magic_path(fd), flags, Mode::empty());
    match open(pinned.as_fd()) {
        Err(Errno::ACCESS) => {}
        result => return Ok(result?),
    }
    let Some(lift) = Lift::new(pinned)? else { return Err(Errno::ACCESS.into()) };
    let opened = open(lift.fd.as_fd());
    lift.put_back()?;
    Ok(opened?)
}

fn is_denied(e: &io::Error) -> bool {
    e.raw_os_error() == Some(Errno::ACCESS.raw_os_error())
}

fn lift_all(targets: &[Target<'_>], lifted: &mut Vec<Lift>) -> io::Result<()> {
    for target in targets {
        lifted.extend(Lift::new(target.dir.as_fd().try_clone_to_owned()?)?);
        let Some(name) = target.entry else { continue };
        match pin(target.dir.as_fd(), name) {
            Ok(fd) => lifted.extend(Lift::new(fd)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// One node whose owner bits were added to. Holds the inode, so it may be renamed or removed meanwhile.
struct Lift {
    fd: OwnedFd,
    before: u32,
    added: u32,
}

impl Lift {
    /// `None` if the node needs nothing.
    fn new(fd: OwnedFd) -> io::Result<Option<Lift>> {
        let mode = rustix::fs::fstat(&fd)?.st_mode;
        let added = match mode & 0o170_000 {
            0o040_000 => 0o700,
            0o100_000 => 0o600,
            _ => return Ok(None),
        } & !mode;
        if added == 0 {
            return Ok(None);
        }
        change_mode(fd.as_fd(), (mode | added) & 0o7777)?;
        Ok(Some(Lift { fd, before: mode & 0o700, added }))
    }

    /// Takes the added bits away, unless the call itself set others: then these are what is wanted.
    fn put_back(&self) -> io::Result<()> {
        let mode = rustix::fs::fstat(&self.fd)?.st_mode & 0o7777;
        if mode & 0o700 != self.before | self.added {
            return Ok(());
        }
        change_mode(self.fd.as_fd(), mode & !self.added)
    }
}

/// The path under which the kernel hands out the very inode of a descriptor, `O_PATH` ones and links included.
pub(super) fn magic_path(fd: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// `chmod` of the inode behind any descriptor that is no link.
pub(super) fn change_mode(fd: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::chmodat(CWD, magic_path(fd), mode, rustix::fs::AtFlags::empty())?)
}
