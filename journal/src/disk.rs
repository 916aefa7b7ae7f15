//! The disk under the journal, as a trait, so that tests can tear it.
//!
//! Contract: nothing is durable before `sync_data` (bytes and length of a file) or `sync_dir` (names in a
//! directory) has returned `Ok`. After a power cut unsynced writes of a file may each be present, absent or torn at
//! any byte, in any order; unsynced names may be present or absent. A failed sync leaves it undefined which of the
//! pending writes are durable, and repeating the sync proves nothing: the caller must stop using the file.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// An open file of the journal. Offsets are explicit: there is no cursor to share.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`, growing the file as needed.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all of `pieces`, one behind the other, from `offset` on: one call to the kernel where it can be.
    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for piece in pieces {
            self.write_at(piece, offset)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
    /// Asks that writing what was written there may begin, so that a later `sync_data` finds less to do. A wish: it
    /// does not wait, says nothing about what is durable, and hides no error from `sync_data`.
    fn begin_write_back(&self, _offset: u64, _bytes: u64) {}
    /// Says that whole pages of this range, which are durable, will hardly be read soon, so that their memory is free for
    /// what is; and of what lies shortly in front of it the same is known. A wish: nothing is lost by it, and nothing is
    /// waited for.
    fn forget(&self, _offset: u64, _bytes: u64) {}
    /// Makes bytes and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or grows the file.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Whether it has these bytes: of a thinned segment some were given up, and read as zeros.
    fn holds(&self, _range: Range<u64>) -> bool {
        true
    }
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it holds no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A file system that holds a journal.
pub trait Disk: Send + Sync {
    /// Creates a file that must not exist, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames, replacing `to` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a directory, in no order.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents; fine if it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes a new file could take on this file system.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// Locks the file `path`, creating it if need be, until the result is dropped or the process ends. Fails with
    /// [`io::ErrorKind::WouldBlock`] if it is locked, also by this process.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

/// Most pieces the kernel takes at once.
const IOV_MAX: usize = 1024;

/// Longest piece of a file that the kernel holds as one, and so gives up as one; they begin at multiples of their lengths.
const FOLIO_BYTES_MAX: u64 = 2 << 20;

struct OsFile(std::fs::File);

impl DiskFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match std::os::unix::fs::FileExt::read_at(&self.0, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for group in pieces.chunks(IOV_MAX) {
            let mut rest: Vec<IoSlice<'_>> = group.to_vec();
            let mut rest = rest.as_mut_slice();
            while rest.iter().any(|piece| !piece.is_empty()) {
                match rustix::io::pwritev(&self.0, rest, offset) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        IoSlice::advance_slices(&mut rest, written);
                        offset += written as u64;
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn begin_write_back(&self, offset: u64, bytes: u64) {
        sys::begin_write_back(&self.0, offset, bytes);
    }

    fn forget(&self, offset: u64, bytes: u64) {
        // The kernel keeps a folio that begins in front of the range, and what is read from end to end in short pieces
        // lies in long ones: without what is in front of it each piece would keep all of them.
        let from = offset / FOLIO_BYTES_MAX * FOLIO_BYTES_MAX;
        // Zero would mean: to the end of the file.
        if let Some(bytes) = std::num::NonZeroU64::new(bytes.saturating_add(offset - from)) {
            let _wish = rustix::fs::fadvise(&self.0, from, Some(bytes), rustix::fs::Advice::DontNeed);
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for OsDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        use std::os::unix::fs::OpenOptionsExt;
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile(std::fs::OpenOptions::new().read(true).write(true).open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Box::new(FileLock::take(file)?))
    }
}

/// The lock of an open file, held until this is dropped. It is given up in so many words: a child of any thread has the
/// descriptor too, from its fork until it becomes another program, and closing ours would leave the lock with that one.
#[derive(Debug)]
pub struct FileLock(std::fs::File);

impl FileLock {
    /// Locks a file for whoever opened it, and for nobody else.
    ///
    /// # Errors
    /// `WouldBlock` if somebody has it; as `flock`.
    pub fn take(file: std::fs::File) -> io::Result<Self> {
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(FileLock(file))
    }

    /// The file that is locked.
    #[must_use]
    pub fn file(&self) -> &std::fs::File {
        &self.0
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // If it fails it ends with the last descriptor.
        let _closed_instead = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }
}

#[cfg(test)]
pub(crate) mod tests;
