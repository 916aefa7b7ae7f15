//! Segment files of the spool: written once, read once in order, removed. Layout in `FORMAT.md`.

use super::SpoolError;
use super::queue::{Entry, weight};
use bytes::{Buf, Bytes};
use journal::{Disk, DiskFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wire::stream::PART_BYTES_MAX;

const MAGIC: [u8; 8] = *b"RWSPOOL\n";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 32;
const FRAME_BYTES: usize = 32;
const LAST: u32 = 1;
/// Files are written and read in pieces of this size.
const BUFFER_BYTES: usize = 1 << 20;

/// A segment file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub number: u64,
    pub first_place: u64,
    pub last_place: u64,
    pub last_lsn: u64,
    /// What it counts for: the weight of its parts, a little more than its length.
    pub bytes: u64,
}

/// Parts on their way into a segment file.
pub(super) struct Chunk {
    pub number: u64,
    pub first_place: u64,
    pub entries: Vec<Entry>,
}

pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.spool")
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(file_name(number))
}

fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SpoolError {
    let path = path.to_path_buf();
    move |source| SpoolError::File { operation, path, source }
}

/// Writes a chunk. Nothing is synced.
pub(super) fn write(disk: &dyn Disk, directory: &Path, chunk: &Chunk) -> Result<Segment, SpoolError> {
    let path = path(directory, chunk.number);
    let file = disk.create(&path).map_err(file_error("create", &path))?;
    let mut buffer = Vec::with_capacity(BUFFER_BYTES + PART_BYTES_MAX / 4);
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&VERSION.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&chunk.number.to_le_bytes());
    buffer.extend_from_slice(&chunk.first_place.to_le_bytes());
    let mut offset = 0;
    let mut segment = Segment {
        number: chunk.number,
        first_place: chunk.first_place,
        last_place: chunk.first_place,
        last_lsn: 0,
        bytes: 0,
    };
    for (place, entry) in (chunk.first_place..).zip(&chunk.entries) {
        put_frame(&mut buffer, place, entry);
        segment.last_place = place;
        segment.last_lsn = entry.lsn;
        segment.bytes += weight(&entry.bytes);
        if buffer.len() >= BUFFER_BYTES {
            file.write_at(&buffer, offset).map_err(file_error("write", &path))?;
            offset += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_at(&buffer, offset).map_err(file_error("write", &path))?;
    Ok(segment)
}

fn put_frame(buffer: &mut Vec<u8>, place: u64, entry: &Entry) {
    let mut covered = [0; FRAME_BYTES - 8];
    let mut fields = covered.as_mut_slice();
    bytes::BufMut::put_u64_le(&mut fields, place);
    bytes::BufMut::put_u64_le(&mut fields, entry.lsn);
    bytes::BufMut::put_u32_le(&mut fields, entry.number);
    bytes::BufMut::put_u32_le(&mut fields, if entry.last { LAST } else { 0 });
    let crc = crc32c::crc32c_append(crc32c::crc32c(&covered), &entry.bytes);
    buffer.extend_from_slice(&(entry.bytes.len() as u32).to_le_bytes());
    buffer.extend_from_slice(&crc.to_le_bytes());
    buffer.extend_from_slice(&covered);
    buffer.extend_from_slice(&entry.bytes);
}

/// Makes a segment file durable.
pub(super) fn sync(disk: &dyn Disk, directory: &Path, number: u64) -> Result<(), SpoolError> {
    let path = path(directory, number);
    let file = disk.open(&path).map_err(file_error("open", &path))?;
    file.sync_data().map_err(file_error("sync", &path))
}

/// Reads the parts of one segment in order.
pub(super) struct Cursor {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    pub segment: Segment,
    /// Place of the next part.
    pub place: u64,
    /// Offset in the file of the first byte of `buffer`.
    offset: u64,
    buffer: Bytes,
}

impl Cursor {
    /// Opens a segment at its first part.
    pub fn open(disk: &dyn Disk, directory: &Path, segment: Segment) -> Result<Self, SpoolError> {
        let path = path(directory, segment.number);
        let file = disk.open(&path).map_err(file_error("open", &path))?;
        let place = segment.first_place;
        let mut cursor = Cursor { file, path, segment, place, offset: 0, buffer: Bytes::new() };
        let mut header = cursor.take(HEADER_BYTES as usize)?;
        if header.split_to(MAGIC.len()) != MAGIC.as_slice() {
            return Err(cursor.damaged(0, "not a spool file"));
        }
        let version = header.get_u32_le();
        if version != VERSION {
            return Err(SpoolError::NewerVersion { path: cursor.path, version });
        }
        header.advance(4);
        if header.get_u64_le() != cursor.segment.number || header.get_u64_le() != place {
            return Err(cursor.damaged(0, "another file's header"));
        }
        Ok(cursor)
    }

    /// The next part; the caller asks for no more than there are.
    pub fn next(&mut self) -> Result<Entry, SpoolError> {
        let at = self.offset;
        let mut frame = self.take(FRAME_BYTES)?;
        let length = frame.get_u32_le() as usize;
        let crc = frame.get_u32_le();
        if length > PART_BYTES_MAX {
            return Err(self.damaged(at, "a length out of bounds"));
        }
        let covered = crc32c::crc32c(&frame);
        let place = frame.get_u64_le();
        let lsn = frame.get_u64_le();
        let number = frame.get_u32_le();
        let last = frame.get_u32_le() & LAST != 0;
        let bytes = self.take(length)?;
        if crc32c::crc32c_append(covered, &bytes) != crc {
            return Err(self.damaged(at, "a wrong checksum"));
        }
        if place != self.place {
            return Err(self.damaged(at, "not the part that belongs here"));
        }
        self.place += 1;
        Ok(Entry { lsn, number, last, bytes })
    }

    fn damaged(&self, offset: u64, what: &'static str) -> SpoolError {
        SpoolError::Damaged { path: self.path.clone(), offset, what }
    }

    /// The next `count` bytes of the file, which the file must have.
    fn take(&mut self, count: usize) -> Result<Bytes, SpoolError> {
        if self.buffer.len() < count {
            let mut bytes = vec![0; count.max(BUFFER_BYTES)];
            let read = self.file.read_at(&mut bytes, self.offset).map_err(file_error("read", &self.path))?;
            bytes.truncate(read);
            self.buffer = bytes.into();
        }
        if self.buffer.len() < count {
            return Err(self.damaged(self.offset, "the file is too short"));
        }
        self.offset += count as u64;
        Ok(self.buffer.split_to(count))
    }
}
