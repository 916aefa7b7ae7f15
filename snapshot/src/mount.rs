//! A past point, mounted read-only.
//!
//! A [`View`] becomes a file system through FUSE. Inodes are node ids, so names of one file share one. What a view shows
//! never changes, so the kernel may keep what it was told as long as it likes.
//!
//! One thread owns the view and answers; the threads of the kernel's queue only hand requests to it. When the mount is
//! [closed](Mounted::close), or `umount` has ended it, that thread ends and lets the view go, and with it whatever keeps
//! the point readable. Who still has a file of a closed mount open is told that the device is gone, and keeps nothing of
//! ours alive.
//!
//! Refused: writing, devices, set-user-id; users other than the daemon's: a mode that a file has today may be stricter
//! than the one it had then. A directory is read in order; whoever jumps in it waits as long as reading it from the start
//! takes. Memory: a page of each open directory, at most [`DIRECTORIES_MAX`] of them, and what [`Places`] holds.

mod filesystem;
mod listing;
mod server;

use fuser::{BackgroundSession, Config, MountOption, Session};
use journal::view::View;
use journal::{Name, RootNo, TreeIo};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use filesystem::{Door, Filesystem};
#[cfg(doc)]
use journal::view::Places;

/// Directories open at once; more are refused.
pub const DIRECTORIES_MAX: usize = 4096;

/// Where a root stands in the mount: under a name, or as the mount itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedRoot {
    /// The root.
    pub root: RootNo,
    /// Its name at the top; `None` for the only root, which is the top.
    pub into: Option<Name>,
}

/// A point that is mounted.
pub struct Mounted {
    directory: PathBuf,
    /// Closes the door, if anybody still asks.
    closes: Box<dyn Fn() + Send>,
    session: BackgroundSession,
    worker: Option<std::thread::JoinHandle<()>>,
}

/// Why a point is not mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The kernel or FUSE refuses.
    #[error("mount a file system at {}", directory.display())]
    Refused {
        /// Where.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No thread.
    #[error("start a thread that answers for a mount")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
}

/// Mounts what a view shows. `label` is what the list of mounts calls it; it holds no comma.
///
/// # Errors
/// `Refused`: no such directory, no FUSE, not permitted. `Thread`.
pub fn mount<T, V>(
    view: V,
    roots: Vec<MountedRoot>,
    directory: &Path,
    label: &str,
) -> Result<Mounted, MountError>
where
    T: TreeIo + 'static,
    T::File: Send,
    T::Dir: Send + Sync,
    V: Deref<Target = View<T>> + Send + 'static,
{
    let (door, requests) = Door::new();
    let door = Arc::new(door);
    let worker = std::thread::Builder::new()
        .name("mounted-point".to_owned())
        .spawn(move || server::serve(&*view, roots, requests))
        .map_err(|source| MountError::Thread { source })?;
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(label.to_owned()),
        MountOption::Subtype("rewind".to_owned()),
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
        MountOption::DefaultPermissions,
    ];
    // The kernel's side holds the door; once it is gone, so is the way in, and the thread ends.
    let weak = Arc::downgrade(&door);
    let closes = Box::new(move || {
        if let Some(door) = weak.upgrade() {
            door.close();
        }
    });
    let session = Session::new(Filesystem::new(door), directory, &config).and_then(Session::spawn);
    match session {
        Ok(session) => Ok(Mounted { directory: directory.to_owned(), closes, session, worker: Some(worker) }),
        Err(source) => {
            closes();
            drop(worker.join());
            Err(MountError::Refused { directory: directory.to_owned(), source })
        }
    }
}

impl Mounted {
    /// Where it is mounted.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether `umount` has ended it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.session.guard.is_finished()
    }

    /// Ends it. Returns when the view is let go; does not wait for those who have files of it open.
    pub fn close(mut self) {
        if !self.is_over() {
            let detached = rustix::mount::unmount(&self.directory, rustix::mount::UnmountFlags::DETACH);
            if let Err(error) = detached {
                tracing::warn!(directory = %self.directory.display(), %error, "cannot unmount");
            }
        }
        (self.closes)();
        if let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::error!(directory = %self.directory.display(), "the thread of a mount panicked");
        }
    }
}
