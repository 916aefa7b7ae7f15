//! The marker of a restore under way: a file in the target named after the session and the paths.
//!
//! Its presence says that the same restore began and did not end; a lock on it says that it runs. Temporary files carry
//! the same digits, so what a dead run left is known without the marker being read: its content is for people.

use super::error::{SessionRestoreError, at};
use super::target::{Target, create_file, open_at, stat_fd, unlink};
use journal::FileLock;
use rustix::fs::OFlags;
use snapshot::repository::Id;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Paths that the marker shows.
const SHOWN_MAX: usize = 100;

/// Whether any of several restores into one directory began and did not end: the tree of each with its paths. They are
/// parts of one, so what stands there of the others was made by it too, marked or not.
///
/// # Errors
/// `Target`, `ForeignMarker`.
pub fn began<'w>(
    target: &Path,
    parts: impl IntoIterator<Item = (&'w Id, &'w [Vec<u8>])>,
) -> Result<bool, SessionRestoreError> {
    let name = target.as_os_str().as_encoded_bytes();
    let Some(opened) = Target::open(target).map_err(at("open", name))? else { return Ok(false) };
    for (tree, paths) in parts {
        if Mark::new(tree, paths).is_there(&opened, target)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What tells a restore from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    digits: String,
    text: String,
}

impl Mark {
    pub fn new(tree: &Id, paths: &[Vec<u8>]) -> Self {
        let mut sorted = paths.to_vec();
        sorted.sort();
        sorted.dedup();
        let mut bytes = tree.0.to_vec();
        for path in &sorted {
            bytes.extend_from_slice(&(path.len() as u64).to_le_bytes());
            bytes.extend_from_slice(path);
        }
        let digits = Id::of(&bytes).to_string().chars().take(16).collect();
        let mut text = format!("A restore of the tree {tree} into this directory has not ended yet.\n");
        for path in sorted.iter().take(SHOWN_MAX) {
            text.push_str(&format!("{}\n", String::from_utf8_lossy(path)));
        }
        Self { digits, text }
    }

    /// Name of the marker in the target.
    pub fn name(&self) -> String {
        format!(".rewind-unfinished-{}", self.digits)
    }

    /// What all temporary names begin with.
    pub fn temporary_prefix(&self) -> String {
        format!(".rewind-{}-", self.digits)
    }

    /// Whether the same restore began and did not end.
    pub fn is_there(&self, target: &Target, path: &Path) -> Result<bool, SessionRestoreError> {
        Ok(self.open(target, path)?.is_some())
    }

    fn open(&self, target: &Target, path: &Path) -> Result<Option<OwnedFd>, SessionRestoreError> {
        let name = self.name();
        let failed = at("open the marker in", b"");
        let fd = match open_at(target.top_fd(), name.as_bytes(), OFlags::RDWR | OFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        // Who can plant one could make us take files for ours.
        let found = stat_fd(fd.as_fd()).map_err(failed)?;
        if found.uid != rustix::process::geteuid().as_raw() {
            return Err(SessionRestoreError::ForeignMarker { target: path.into(), marker: name });
        }
        Ok(Some(fd))
    }

    /// Makes the marker, or takes over that of a dead run; says whether there was one. Held as long as what is returned.
    pub fn take(&self, target: &Target, path: &Path) -> Result<(FileLock, bool), SessionRestoreError> {
        let failed = at("write the marker in", b"");
        let (fd, again) = match self.open(target, path)? {
            Some(fd) => (fd, true),
            None => {
                let fd = create_file(target.top_fd(), self.name().as_bytes()).map_err(&failed)?;
                rustix::io::write(&fd, self.text.as_bytes()).map_err(|error| failed(error.into()))?;
                (fd, false)
            }
        };
        let lock = FileLock::take(fd.into()).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => SessionRestoreError::Busy { target: path.into() },
            _ => failed(error),
        })?;
        // Durable before the first object: a restore that was cut off says so.
        let sync = || -> io::Result<()> {
            lock.file().sync_all()?;
            Ok(rustix::fs::fsync(target.top_fd())?)
        };
        sync().map_err(failed)?;
        Ok((lock, again))
    }

    /// The restore has ended.
    pub fn remove(&self, target: &Target) -> Result<(), SessionRestoreError> {
        let gone = unlink(target.top_fd(), self.name().as_bytes());
        gone.and_then(|()| Ok(rustix::fs::fsync(target.top_fd())?)).map_err(at("remove the marker in", b""))
    }
}
