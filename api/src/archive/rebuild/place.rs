//! Bringing rebuilt trees to their places: renames below a directory, after everything is whole and durable.
//!
//! One component at a time, never over a link; directories above are made. What stands at a place already is never
//! touched: that is looked at for all places before the first rename, and the kernel is asked not to replace anything.

use super::RebuildError;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, mkdirat, openat, renameat_with, statat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// From where to where: a tree, a path in it (empty: all of it), and the path it comes to below the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placing {
    pub tree: PathBuf,
    pub inside: Vec<u8>,
    pub to: Vec<u8>,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn parts(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect()
}

fn failed(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> RebuildError {
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
    move |errno| RebuildError::Target { operation, path, source: errno.into() }
}

/// Opens a directory.
pub(super) fn open(path: &Path) -> Result<OwnedFd, RebuildError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open", path.as_os_str().as_bytes()))
}

/// The directory above the last part; none if one on the way is not there and none is to be made.
fn above(top: &Path, path: &[u8], make: bool) -> Result<Option<OwnedFd>, RebuildError> {
    let mut dir = open(top)?;
    let parts = parts(path);
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        if make
            && let Err(errno) = mkdirat(&dir, *part, Mode::from_raw_mode(0o755))
            && errno != Errno::EXIST
        {
            return Err(failed("create", path)(errno));
        }
        dir = match openat(&dir, *part, DIRECTORY, Mode::empty()) {
            Ok(below) => below,
            Err(Errno::NOENT) if !make => return Ok(None),
            Err(errno) => return Err(failed("open", path)(errno)),
        };
    }
    Ok(Some(dir))
}

fn is_there(top: &Path, path: &[u8]) -> Result<bool, RebuildError> {
    let Some(dir) = above(top, path, false)? else { return Ok(false) };
    let Some(last) = parts(path).pop() else { return Ok(true) };
    match statat(&dir, last, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("look at", path)(errno)),
    }
}

impl Placing {
    /// Where it comes from: directory and path in it.
    fn from(&self) -> (&Path, Vec<u8>) {
        if self.inside.is_empty() {
            let name = self.tree.file_name().map(OsStrExt::as_bytes).unwrap_or_default().to_vec();
            return (self.tree.parent().unwrap_or(&self.tree), name);
        }
        (&self.tree, self.inside.clone())
    }

    /// Whether the tree holds it.
    pub(super) fn exists(&self) -> Result<bool, RebuildError> {
        let (top, path) = self.from();
        match is_there(top, &path) {
            // Something else than a directory stands on the way.
            Err(RebuildError::Target { source, .. })
                if matches!(source.raw_os_error(), Some(code) if code == Errno::NOTDIR.raw_os_error()
                    || code == Errno::LOOP.raw_os_error()) =>
            {
                Ok(false)
            }
            other => other,
        }
    }
}

/// Refuses if anything stands at one of the places.
pub(super) fn check(target: &Path, places: &[Vec<u8>]) -> Result<(), RebuildError> {
    for place in places {
        if is_there(target, place)? {
            let below = place.strip_prefix(b"/").unwrap_or(place);
            return Err(RebuildError::Occupied { path: target.join(std::ffi::OsStr::from_bytes(below)) });
        }
    }
    Ok(())
}

/// Renames all, or none: if one is refused, those before it are taken back. `top` is the target, open since before anything
/// was written in it: its file system says whether all of that is on the disk.
pub(super) fn place((target, top): (&Path, &OwnedFd), placings: &[Placing]) -> Result<(), RebuildError> {
    // Before the first rename: what cannot be written must not stand there as if it were whole.
    sync(target, top)?;
    for (at, placing) in placings.iter().enumerate() {
        if let Err(error) = rename(target, placing, false) {
            for done in placings.iter().take(at).rev() {
                if let Err(error) = rename(target, done, true) {
                    let to = String::from_utf8_lossy(&done.to);
                    tracing::warn!(error = &error as &dyn std::error::Error, %to, "it stays where it was brought to");
                }
            }
            return Err(error);
        }
    }
    sync(target, top)
}

/// Renames a tree to its place, or back. Never over anything.
fn rename(target: &Path, placing: &Placing, back: bool) -> Result<(), RebuildError> {
    let (tree, from) = placing.from();
    let (old, new) = (above(tree, &from, false)?, above(target, &placing.to, !back)?);
    let (Some(old), Some(new)) = (old, new) else { return Ok(()) };
    let (from_parts, to_parts) = (parts(&from), parts(&placing.to));
    let (Some(name), Some(to)) = (from_parts.last(), to_parts.last()) else { return Ok(()) };
    let renamed = if back {
        renameat_with(&new, *to, &old, *name, RenameFlags::NOREPLACE)
    } else {
        renameat_with(&old, *name, &new, *to, RenameFlags::NOREPLACE)
    };
    match renamed {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            Err(RebuildError::Occupied { path: PathBuf::from(std::ffi::OsStr::from_bytes(&placing.to)) })
        }
        Err(errno) => Err(failed("rename to", &placing.to)(errno)),
    }
}

fn sync(target: &Path, top: &OwnedFd) -> Result<(), RebuildError> {
    rustix::fs::syncfs(top).map_err(failed("sync", target.as_os_str().as_bytes()))
}
