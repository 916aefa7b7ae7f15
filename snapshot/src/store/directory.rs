//! A store in a directory of a file system.
//!
//! Ours rather than `object_store`'s, for three reasons. It needs no runtime, so a session restored without a server
//! needs none. A removal is durable here, and there it is not: prune removes an index and then the packs it names, and
//! after a power cut the removed index must not come back without them. And a full disk is told as [`Full`].
//!
//! [`Full`]: StoreErrorKind::Full
//!
//! Why a put is whole and durable: the bytes go to a file of an unused name beside the final one; its data is synced;
//! it is renamed over the final name; the directory is synced. A crash before the rename leaves a file whose name
//! begins with a dot, which is never an object's. A crash after it finds the name old or new, both whole. A directory
//! on the way is synced into its parent before anything in it is reported durable; which were is remembered for the
//! life of the store. A failed sync makes the call fail and the file go: it is never synced again.
//!
//! Large objects pass the page cache by where the file system lets them ([`direct`]): what is written once and read by
//! nobody soon should not push out what the machine works on, and the copy into the cache was a twelfth of a backup's
//! processor time.
//!
//! All names are resolved below a descriptor of the root that is held open, part by part of a checked alphabet, so no
//! name leaves the root (links that the owner put in place of directories are followed: it is a usual way to spread a
//! store over disks; a link in place of an object is refused). While a store is open its file system is busy. If the
//! root is removed the store says so; it does not look empty.

mod direct;
mod walk;

use super::cause::{Cause, bad_range, check_range, failed, too_large};
use super::name::{check_directory, check_name, random_digits, split};
use super::open::ConditionalPut;
use super::{BlobStore, Entry, StoreError, StoreErrorKind};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Directories remembered as durable at most; beyond that the memory starts anew, at the cost of some syncs.
const DURABLE_MAX: usize = 4096;
/// Unfinished files older than this belong to no living writer: one object is written without a pause.
pub(crate) const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);
/// First and last characters of the name of an unfinished file.
const UNFINISHED: (&str, &str) = (".rewind-", ".tmp");

/// A store in a directory.
pub struct DirectoryStore {
    path: PathBuf,
    root: OwnedFd,
    durable: Mutex<HashSet<String>>,
}

impl DirectoryStore {
    /// Opens the store in an existing directory.
    ///
    /// # Errors
    /// `NotFound` if there is none, `NotPermitted`, `Other`.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| system("open", &path.to_string_lossy(), errno))?;
        Ok(Self { path: path.to_owned(), root, durable: Mutex::default() })
    }

    /// Makes the directory, and those above it, unless they are there, each durable; then opens it.
    ///
    /// # Errors
    /// `NotPermitted`, `Full`, `Other`.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let fail = |errno| system("create", &path.to_string_lossy(), errno);
        // From the deepest that exists downwards: the permission to open what is above it is not needed.
        let mut missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        missing.reverse();
        for directory in missing {
            match rustix::fs::mkdirat(CWD, directory, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(fail(errno)),
            }
            let parent = match directory.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty()).map_err(fail)?;
            rustix::fs::fsync(&parent).map_err(fail)?;
        }
        Self::open(path)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Finds out whether the file system can refuse to replace a file when it renames. Reported only: nothing of ours
    /// depends on it.
    ///
    /// # Errors
    /// As [`BlobStore::put`].
    pub fn probe_conditional_put(&self) -> Result<ConditionalPut, StoreError> {
        let fail = |errno| system("probe", "", errno);
        let new = || new_unfinished(self.root.as_fd()).map_err(|error| io("probe", "", error));
        let ((name, _), (other, _)) = (new()?, new()?);
        let renamed =
            rustix::fs::renameat_with(&self.root, &name, &self.root, &other, RenameFlags::NOREPLACE);
        for name in [&name, &other] {
            match rustix::fs::unlinkat(&self.root, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(fail(errno)),
            }
        }
        match renamed {
            Err(Errno::EXIST) => Ok(ConditionalPut::Honoured),
            Ok(()) => Ok(ConditionalPut::Ignored),
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => Ok(ConditionalPut::Refused),
            Err(errno) => Err(fail(errno)),
        }
    }

    /// The directory for reading.
    fn directory(&self, name: &str) -> Result<OwnedFd, Errno> {
        let name = if name.is_empty() { "." } else { name };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&self.root, name, flags, Mode::empty())
    }

    /// The directory for writing: made if it is missing, and durable itself.
    fn durable_directory(&self, name: &str) -> Result<OwnedFd, Errno> {
        if name.is_empty() || self.durable.lock().contains(name) {
            match self.directory(name) {
                Err(Errno::NOENT) if !name.is_empty() => {}
                other => return other,
            }
        }
        let mut above = self.directory("")?;
        let mut end = 0;
        for part in name.split('/') {
            end += part.len() + usize::from(end > 0);
            match rustix::fs::mkdirat(&above, part, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            // Also where it was there already: whoever made it may not have synced it yet.
            rustix::fs::fsync(&above)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            above = rustix::fs::openat(&above, part, flags, Mode::empty())?;
            let mut durable = self.durable.lock();
            if durable.len() >= DURABLE_MAX {
                durable.clear();
            }
            durable.insert(name.get(..end).unwrap_or(name).to_owned());
        }
        Ok(above)
    }

    /// A put that appears whole, and that a power cut may take back or damage: for what can be had again and is checked.
    pub(crate) fn put_unsynced(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        check_name("put", name)?;
        self.write(name, bytes, false).map_err(|error| io("put", name, error))
    }

    fn write(&self, name: &str, bytes: &[u8], synced: bool) -> Result<(), std::io::Error> {
        let (directory, last) = split(name);
        let directory = self.durable_directory(directory)?;
        let (unfinished, mut file) = new_unfinished(directory.as_fd())?;
        let written = direct::write(&mut file, bytes)
            .and_then(|()| if synced { file.sync_data() } else { Ok(()) })
            .and_then(|()| Ok(rustix::fs::renameat(&directory, &unfinished, &directory, last)?));
        if let Err(error) = written {
            // A leftover that cannot be removed is never listed, and goes when it is old.
            let _ = rustix::fs::unlinkat(&directory, &unfinished, AtFlags::empty());
            return Err(error);
        }
        if synced {
            rustix::fs::fsync(&directory)?;
        }
        Ok(())
    }

    /// The file of an object and its size in bytes.
    fn file(&self, operation: &'static str, name: &str) -> Result<(File, u64), StoreError> {
        check_name(operation, name)?;
        // NONBLOCK: whatever has the name, a pipe for instance, opening it does not wait.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::openat(&self.root, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(failed(operation, name, StoreErrorKind::Other, Cause::NotAFile)),
            Err(errno) => return Err(self.read_failure(operation, name, errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(|errno| system(operation, name, errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(operation, name, StoreErrorKind::Other, Cause::NotAFile));
        }
        Ok((File::from(file), u64::try_from(stat.st_size).unwrap_or(0)))
    }

    /// What is missing in a removed root is not missing: the store is.
    fn read_failure(&self, operation: &'static str, name: &str, errno: Errno) -> StoreError {
        if errno == Errno::NOENT && rustix::fs::fstat(&self.root).is_ok_and(|stat| stat.st_nlink == 0) {
            return failed(operation, name, StoreErrorKind::Unavailable, Cause::RootRemoved);
        }
        system(operation, name, errno)
    }
}

/// A new file of an unused name in a directory.
fn new_unfinished(directory: BorrowedFd<'_>) -> Result<(String, File), std::io::Error> {
    let name = format!("{}{}{}", UNFINISHED.0, random_digits()?, UNFINISHED.1);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, &name, flags, Mode::from_raw_mode(0o600))?;
    Ok((name, File::from(file)))
}

/// Whether a name is that of an unfinished file of ours.
fn is_unfinished(name: &[u8]) -> bool {
    name.starts_with(UNFINISHED.0.as_bytes()) && name.ends_with(UNFINISHED.1.as_bytes())
}

/// Exactly `length` bytes from where the file stands.
fn read_exactly(file: File, length: u64, operation: &'static str, name: &str) -> Result<Bytes, StoreError> {
    let mut bytes = Vec::new();
    let room = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(room).map_err(|error| failed(operation, name, StoreErrorKind::Other, error))?;
    file.take(length).read_to_end(&mut bytes).map_err(|error| io(operation, name, error))?;
    let came = bytes.len() as u64;
    if came != length {
        let cause = Cause::WrongLength { announced: length, came };
        return Err(failed(operation, name, StoreErrorKind::Other, cause));
    }
    Ok(Bytes::from(bytes))
}

impl BlobStore for DirectoryStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_name("put", name)?;
        self.write(name, &bytes, true).map_err(|error| match io("put", name, error) {
            missing if missing.is_not_found() => StoreError { kind: StoreErrorKind::Unavailable, ..missing },
            other => other,
        })
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let (file, size) = self.file("get", name)?;
        if size > limit {
            return Err(too_large("get", name, size, limit));
        }
        read_exactly(file, size, "get", name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        check_range(name, &range)?;
        let (mut file, size) = self.file("get_range", name)?;
        if range.end > size {
            return Err(bad_range("get_range", name, &range, Some(size)));
        }
        file.seek(SeekFrom::Start(range.start)).map_err(|error| io("get_range", name, error))?;
        read_exactly(file, range.end - range.start, "get_range", name)
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.file("size", name)?.1)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        check_directory("list", directory)?;
        match self.directory(directory) {
            Ok(opened) => walk::walk(opened, directory, each),
            Err(errno) => match self.read_failure("list", directory, errno) {
                missing if missing.is_not_found() => Ok(()),
                other => Err(other),
            },
        }
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name("delete", name)?;
        let (directory, last) = split(name);
        let directory = match self.directory(directory) {
            Ok(directory) => directory,
            Err(errno) => match self.read_failure("delete", name, errno) {
                missing if missing.is_not_found() => return Ok(()),
                other => return Err(other),
            },
        };
        match rustix::fs::unlinkat(&directory, last, AtFlags::empty()) {
            // Also where nothing was there: the removal that came first may not have been synced.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(system("delete", name, errno)),
        }
        rustix::fs::fsync(&directory).map_err(|errno| system("delete", name, errno))
    }
}

impl std::fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DirectoryStore({})", self.path.display())
    }
}

/// The error of a system call.
fn system(operation: &'static str, name: &str, errno: Errno) -> StoreError {
    io(operation, name, errno.into())
}

/// The error of reading or writing.
fn io(operation: &'static str, name: &str, error: std::io::Error) -> StoreError {
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR) => StoreErrorKind::NotFound,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StoreErrorKind::NotPermitted,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => StoreErrorKind::Full,
        // A disk or a network file system that failed now may answer later.
        Some(Errno::IO | Errno::STALE | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::NODEV | Errno::AGAIN) => {
            StoreErrorKind::Unavailable
        }
        _ => StoreErrorKind::Other,
    };
    failed(operation, name, kind, error)
}

#[cfg(test)]
mod tests;
