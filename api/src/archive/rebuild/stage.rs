//! The directory of ours in a target: who has it, and that it goes when the work is over.
//!
//! What says that it is ours is a file in it, and who works in it holds a lock on that file for as long. So what one that
//! was cut off has left is told from what another one is using: the first is removed, the second never. The marker is the
//! last thing that goes, and the first that comes.

use super::RebuildError;
use journal::FileLock;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The directory of ours in a target, and what says that it is ours.
pub(super) const STAGE: &str = ".rewind-rescue";
pub(super) const MARKER: &str = "made-by-rewind-rescue";

/// A directory of ours in the target; it goes with everything in it.
pub(super) struct Stage {
    /// Where it is.
    pub(super) path: PathBuf,
    directory: File,
    _marker: FileLock,
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RebuildError {
    let path = path.to_owned();
    move |source| RebuildError::Target { operation, path, source }
}

fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?))
}

/// Whether a name stands for what is open.
fn is_same(path: &Path, file: &File) -> io::Result<bool> {
    let (there, here) = (std::fs::symlink_metadata(path)?, file.metadata()?);
    Ok((there.dev(), there.ino()) == (here.dev(), here.ino()))
}

/// The marker of a directory: that of one before, or a new one where nothing is. None if the directory is not ours.
fn marker(path: &Path) -> io::Result<Option<File>> {
    let marker = path.join(MARKER);
    match open(&marker, OFlags::RDWR) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if std::fs::read_dir(path)?.next().is_some() {
                return Ok(None);
            }
            open(&marker, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map(Some)
        }
        Err(error) => Err(error),
    }
}

/// Removes all that is in a directory but the marker.
fn clear(path: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Stage {
    /// Makes it, or takes over what one that was cut off has left.
    ///
    /// # Errors
    /// `Occupied` if something of this name is not ours, `Busy` if somebody works in it; `Target`.
    pub(super) fn make(target: &Path) -> Result<Self, RebuildError> {
        std::fs::create_dir_all(target).map_err(failed("create", target))?;
        let path = target.join(STAGE);
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create", &path)(error));
            }
            _ => {}
        }
        let directory = match open(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(error)
                if error.kind() == io::ErrorKind::NotADirectory
                    || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
            {
                return Err(RebuildError::Occupied { path });
            }
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let Some(marker) = marker(&path).map_err(failed("mark", &path))? else {
            return Err(RebuildError::Occupied { path });
        };
        let marker = match FileLock::take(marker) {
            Ok(marker) => marker,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(RebuildError::Busy { path });
            }
            Err(error) => return Err(failed("lock", &path)(error)),
        };
        // It may have gone with its owner between the look and the lock.
        let same = |name: &Path, file: &File| is_same(name, file).unwrap_or(false);
        if !same(&path, &directory) || !same(&path.join(MARKER), marker.file()) {
            return Err(RebuildError::Busy { path });
        }
        clear(&path).map_err(failed("remove what is in", &path))?;
        Ok(Stage { path, directory, _marker: marker })
    }

    /// Refuses if the name does not stand for what was made.
    ///
    /// # Errors
    /// `Busy`, `Target`.
    pub(super) fn check(&self) -> Result<(), RebuildError> {
        match is_same(&self.path, &self.directory).map_err(failed("look at", &self.path))? {
            true => Ok(()),
            false => Err(RebuildError::Busy { path: self.path.clone() }),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.check().is_err() {
            tracing::warn!(path = %self.path.display(), "it is not what was made there, and stays");
            return;
        }
        let remove = || {
            clear(&self.path)?;
            std::fs::remove_file(self.path.join(MARKER))?;
            std::fs::remove_dir(&self.path)
        };
        if let Err(error) = remove() {
            tracing::warn!(%error, path = %self.path.display(), "could not be removed; the next rescue will");
        }
    }
}
