//! An open regular file of the replica tree.
//!
//! All reads and writes carry their offset: the descriptor's own position is used for nothing but `SEEK_DATA`, so
//! threads may share the file.

use super::lift::Modes;
use journal::{TreeFile, TreeStat};
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// An open regular file.
#[derive(Debug)]
pub struct OsFile {
    file: File,
    modes: Arc<Modes>,
}

/// Zeros are written in pieces of this many bytes where holes cannot be made.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

impl OsFile {
    /// Takes a descriptor that is read with offsets; refuses anything but a regular file.
    pub(super) fn new(fd: OwnedFd, modes: Arc<Modes>) -> io::Result<OsFile> {
        match rustix::fs::fstat(&fd)?.st_mode & 0o170_000 {
            0o100_000 => Ok(OsFile { file: File::from(fd), modes }),
            0o040_000 => Err(Errno::ISDIR.into()),
            _ => Err(Errno::INVAL.into()),
        }
    }

    /// Makes bytes and size durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// What a punch means where holes cannot be made.
    pub(super) fn write_zeros(&self, mut offset: u64, end: u64) -> io::Result<()> {
        while offset < end {
            let bytes = (end - offset).min(ZEROS.len() as u64);
            let piece = ZEROS.get(..usize::try_from(bytes).unwrap_or(ZEROS.len())).unwrap_or(&ZEROS);
            self.file.write_all_at(piece, offset)?;
            offset += bytes;
        }
        Ok(())
    }
}

impl AsFd for OsFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl TreeFile for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset.saturating_add(bytes).min(self.file.metadata()?.len());
        if offset >= end {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match rustix::fs::fallocate(&self.file, flags, offset, end - offset) {
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(offset, end),
                result => return Ok(result?),
            }
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<(u64, u64)>> {
        let seek = |to| rustix::fs::seek(&self.file, to);
        let start = match seek(SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // No knowledge of holes: all is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => {
                let size = self.file.metadata()?.len();
                return Ok((offset < size).then_some((offset, size)));
            }
            Err(e) => return Err(e.into()),
        };
        match seek(SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some((start, end))),
            // Cut in between.
            Err(Errno::NXIO) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn stat(&self) -> io::Result<TreeStat> {
        self.modes.reach_steady(&[], || super::stat_fd(self.file.as_fd()))
    }
}
