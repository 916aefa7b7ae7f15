//! Files under their temporary names: making them, writing pieces, reading them again.
//!
//! A file is made by whoever has the first bytes of it, and gets its metadata from whoever writes the last: for most files
//! that is one and the same, with one descriptor. Else it is opened anew, so that a batch of thousands takes no
//! descriptors, and is only used if it is the inode that was made: a name can be exchanged by whoever owns the directory.

use super::meta::{self, Meta, Refused};
use super::target::{Dir, Target, create_file, open_at, stat_fd};
use super::{Owner, Sparse};
use parking_lot::Mutex;
use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::Errno;
use snapshot::repository::{BlobKind, Id, Index};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

const PAGE_BYTES: usize = 4096;
/// Shorter runs of zeros are written: holes have a price when the file is read.
const HOLE_BYTES_MIN: usize = 16 << 10;
static ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// What becomes of what stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing stands there; if something does by then, it stays.
    Free,
    /// It is replaced.
    Replace,
    /// It is a directory and goes with all in it.
    ReplaceDirectory,
    /// The object is there already.
    Whole,
}

/// A file to be restored.
#[derive(Debug)]
pub(super) struct FileJob {
    pub dir: Arc<Dir>,
    pub name: Vec<u8>,
    pub temporary: Vec<u8>,
    pub meta: Meta,
    pub size: u64,
    pub content: Vec<Id>,
    pub place: Place,
    /// Bytes written to it.
    pub written: AtomicU64,
    /// Blobs that were written.
    blobs: AtomicUsize,
    failed: AtomicBool,
    made: OnceLock<(u64, u64)>,
    making: Mutex<()>,
    settled: AtomicBool,
}

impl FileJob {
    pub fn new(
        (dir, name): (Arc<Dir>, Vec<u8>),
        temporary: Vec<u8>,
        (meta, size, content): (Meta, u64, Vec<Id>),
        place: Place,
    ) -> Self {
        Self {
            dir,
            name,
            temporary,
            meta,
            size,
            content,
            place,
            written: AtomicU64::new(0),
            blobs: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            made: OnceLock::new(),
            making: Mutex::new(()),
            settled: AtomicBool::new(false),
        }
    }

    pub fn path(&self) -> Vec<u8> {
        self.dir.path(&self.name)
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether this is the first failure.
    pub fn set_failed(&self) -> bool {
        !self.failed.swap(true, Ordering::AcqRel)
    }

    /// Whether there is a temporary file.
    pub fn is_made(&self) -> bool {
        self.made.get().is_some()
    }

    /// Whether its metadata has been set.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Makes the temporary file, of the size it will have; opens it if there is one.
    pub fn make(&self, target: &Target, sparse: Sparse) -> io::Result<File> {
        if self.is_made() {
            return self.open(target);
        }
        // Its blobs may lie in packs that several threads read.
        let making = self.making.lock();
        if self.is_made() {
            drop(making);
            return self.open(target);
        }
        let fd = create_file(target.fd(&self.dir)?.as_fd(), &self.temporary)?;
        let _ = self.made.set(stat_fd(fd.as_fd())?.identity);
        if self.size == 0 || self.is_written_at_once(sparse) {
            return Ok(File::from(fd));
        }
        if sparse == Sparse::Off {
            match rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, self.size) {
                Ok(()) => return Ok(File::from(fd)),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::ftruncate(&fd, self.size)?;
        Ok(File::from(fd))
    }

    /// Whether its bytes come in one piece, and give it its size.
    fn is_written_at_once(&self, sparse: Sparse) -> bool {
        sparse == Sparse::Auto && self.content.len() == 1
    }

    /// The temporary file, for writing.
    pub fn open(&self, target: &Target) -> io::Result<File> {
        let dir = target.fd(&self.dir)?;
        let fd = open_at(dir.as_fd(), &self.temporary, OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        if Some(&stat_fd(fd.as_fd())?.identity) != self.made.get() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "another file has taken the temporary name"));
        }
        Ok(File::from(fd))
    }

    /// Writes one blob where it belongs. Whether it was the last one of the file.
    pub fn write(&self, file: &File, sparse: Sparse, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let written = match sparse {
            Sparse::Off => {
                file.write_all_at(bytes, offset)?;
                bytes.len() as u64
            }
            Sparse::Auto => {
                let (written, end) = write_data(file, bytes, offset)?;
                if end < self.size && self.is_written_at_once(sparse) {
                    rustix::fs::ftruncate(file, self.size)?;
                }
                written
            }
        };
        self.written.fetch_add(written, Ordering::Relaxed);
        // Who comes last sees what all others wrote: each counts when it has written.
        Ok(self.blobs.fetch_add(1, Ordering::AcqRel) + 1 == self.content.len())
    }

    /// Sets its metadata; nothing is written to it after that. What could not be kept.
    pub fn settle(&self, file: &File, owner: Owner) -> Vec<Refused> {
        let mut refused = Vec::new();
        meta::set(file.as_fd(), &self.meta, owner, &mut refused);
        self.settled.store(true, Ordering::Release);
        refused
    }
}

/// Reads a file and compares it with its blobs. The offset of the first blob that differs.
pub(super) fn differs(
    target: &Target,
    (dir, name): (&Arc<Dir>, &[u8]),
    content: &[Id],
    index: &Index,
    over: &dyn Fn() -> bool,
) -> io::Result<Option<u64>> {
    let dir = target.fd(dir)?;
    let fd = open_at(dir.as_fd(), name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
    // What was synced comes from the disk now, not from memory.
    rustix::fs::fadvise(&fd, 0, None, Advice::DontNeed)?;
    let file = File::from(fd);
    let (mut buffer, mut at) = (Vec::new(), 0_u64);
    for id in content {
        let length = index.lookup(BlobKind::Data, id).map_or(0, |place| place.plain_bytes());
        buffer.resize(usize::try_from(length.min(BlobKind::Data.bytes_max())).unwrap_or(0), 0);
        match file.read_exact_at(&mut buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(at)),
            result => result?,
        }
        if Id::of(&buffer) != *id {
            return Ok(Some(at));
        }
        at += length;
        if over() {
            return Ok(None);
        }
    }
    Ok((file.metadata()?.len() != at).then_some(at))
}

/// Writes what is no long run of zeros; the file is a hole already, or ends. The bytes written, and where the last of them
/// lie.
fn write_data(file: &File, bytes: &[u8], offset: u64) -> io::Result<(u64, u64)> {
    let (mut from, mut at, mut zeros_from, mut written) = (0, 0, None, 0);
    let write = |from: usize, to: usize| -> io::Result<u64> {
        let piece = bytes.get(from..to).unwrap_or_default();
        file.write_all_at(piece, offset + from as u64)?;
        Ok(piece.len() as u64)
    };
    while at < bytes.len() {
        let in_page = ((offset + at as u64) % PAGE_BYTES as u64) as usize;
        let end = bytes.len().min(at + PAGE_BYTES - in_page);
        let page = bytes.get(at..end).unwrap_or_default();
        let zero = ZEROS.get(..page.len()) == Some(page);
        match (zero, zeros_from) {
            (true, None) => zeros_from = Some(at),
            (false, Some(start)) => {
                if at - start >= HOLE_BYTES_MIN {
                    written += write(from, start)?;
                    from = at;
                }
                zeros_from = None;
            }
            _ => {}
        }
        at = end;
    }
    let to = zeros_from.filter(|start| bytes.len() - start >= HOLE_BYTES_MIN).unwrap_or(bytes.len());
    Ok((written + write(from, to)?, offset + to as u64))
}
