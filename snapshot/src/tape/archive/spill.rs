//! Scratch files: what grows with a session, off the memory. They lose their name as soon as they are open, so nothing
//! stays behind whoever dies.

use super::{ArchiveError, Result};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file that is written to its end and then read.
pub(super) struct Spill {
    file: BufWriter<File>,
    bytes: u64,
}

impl Spill {
    /// A scratch file in a directory, readable by nobody else.
    pub fn new(directory: &Path) -> Result<Self> {
        let failed = ArchiveError::scratch("make");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".rewind-scratch-{}-{number}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(&failed)?;
        std::fs::remove_file(&path).map_err(&failed)?;
        Ok(Self { file: BufWriter::with_capacity(64 << 10, file), bytes: 0 })
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends; where the bytes begin.
    pub fn add(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.bytes;
        self.file.write_all(bytes).map_err(ArchiveError::scratch("write"))?;
        self.bytes += bytes.len() as u64;
        Ok(at)
    }

    /// Bytes that were appended before.
    pub fn read_at(&mut self, at: u64, length: usize) -> Result<Vec<u8>> {
        let failed = ArchiveError::scratch("read");
        self.file.flush().map_err(&failed)?;
        let mut bytes = vec![0; length];
        self.file.get_ref().read_exact_at(&mut bytes, at).map_err(&failed)?;
        Ok(bytes)
    }

    /// All of it, from the beginning; nothing may be added meanwhile.
    pub fn reader(&mut self) -> Result<BufReader<impl Read + use<>>> {
        let failed = ArchiveError::scratch("read");
        self.file.flush().map_err(&failed)?;
        let mut file = self.file.get_ref().try_clone().map_err(&failed)?;
        file.seek(SeekFrom::Start(0)).map_err(&failed)?;
        Ok(BufReader::with_capacity(64 << 10, file))
    }
}
