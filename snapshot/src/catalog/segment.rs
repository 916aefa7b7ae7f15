//! Segments: immutable files of blocks, sorted by path, of one entity.
//!
//! A segment is written once, in order, and synced before the manifest names it; nothing ever changes it. Its index
//! (first path, place and checksum of every block) is held in memory, some hundred bytes a block. Blocks are read when
//! they are asked for and verified each time. Whoever reads holds one file open, the last one it read from, so neither
//! many entities nor many segments use up file descriptors.
//!
//! A segment that the manifest no longer names is removed when the last reader lets go of it.

use super::block::{BLOCK_ROWS, EVENT_PART_BYTES_MAX, Events, Names, PATH_PART_BYTES_MAX};
use super::codec::{Take, TakeVariable, put_u32, put_u64};
use super::error::{CatalogError, failed};
use super::filter;
use super::path::{Key, KeyBuf, check};
use journal::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

mod write;

pub(super) use write::SegmentWriter;

const HEADER_MAGIC: [u8; 8] = *b"REWINDCS";
const FOOTER_MAGIC: [u8; 8] = *b"REWINDCF";
const SEGMENT_VERSION: u32 = 2;
/// From this version on blocks have filters.
const FILTER_VERSION: u32 = 2;
const HEADER_BYTES: u64 = 32;
pub(super) const FOOTER_BYTES: u64 = 32;
/// An index is not longer: some ten million blocks.
const INDEX_BYTES_MAX: u64 = 1 << 30;
/// What every name of a segment file ends in.
pub(super) const SEGMENT_SUFFIX: &str = ".segment";

/// Name of a segment file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}{SEGMENT_SUFFIX}")
}

/// Place of a compressed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    offset: u64,
    stored: u32,
    raw: u32,
    crc: u32,
}

/// A block as the index knows it.
#[derive(Clone, Debug)]
pub(super) struct BlockAt {
    pub first: KeyBuf,
    pub rows: u32,
    events: u32,
    names_part: Part,
    events_part: Part,
    /// Not in segments of version 1.
    filter_part: Option<Part>,
}

/// What the manifest says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentEntry {
    /// Number of its entity.
    pub entity: u32,
    /// Its own number, which is its name.
    pub number: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Checksum of its footer, and with it of its index, and with it of every block.
    pub footer_crc: u32,
}

/// A segment that is open.
pub(super) struct Segment {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    pub entry: SegmentEntry,
    pub blocks: Vec<BlockAt>,
    pub last: KeyBuf,
    /// Events of each session.
    pub sessions: BTreeMap<u32, u64>,
    pub rows: u64,
    pub events: u64,
    obsolete: AtomicBool,
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Acquire) {
            // What cannot be removed now is removed when the catalog is opened next.
            let _ = self.disk.remove(&self.path);
        }
    }
}

/// Takes parts from the disk; one a thread.
pub(super) struct Unpacker {
    zstd: zstd::bulk::Decompressor<'static>,
    stored: Vec<u8>,
    /// The file read last, by the number of its segment.
    open: Option<(u64, Arc<dyn DiskFile>)>,
}

impl Unpacker {
    pub(super) fn new() -> Result<Self, CatalogError> {
        let zstd = zstd::bulk::Decompressor::new().map_err(failed("start decompression", ""))?;
        Ok(Unpacker { zstd, stored: Vec::new(), open: None })
    }
}

impl Segment {
    /// Opens a segment that the manifest names.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        entry: SegmentEntry,
    ) -> Result<Self, CatalogError> {
        let path = directory.join(file_name(entry.number));
        let damaged = |offset, what| CatalogError::Damaged { path: path.clone(), offset, what };
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(damaged(0, "the manifest names it and it is not there"));
            }
            Err(source) => return Err(failed("open", &path)(source)),
        };
        let length = file.len().map_err(failed("measure", &path))?;
        if length != entry.bytes || length < HEADER_BYTES + FOOTER_BYTES {
            return Err(damaged(0, "its length is not what the manifest says"));
        }
        let read = |offset, bytes| read_exactly(&*file, &path, offset, bytes);
        let version = check_header(&read(0, HEADER_BYTES)?, entry.number, &path)?;
        let footer_at = length - FOOTER_BYTES;
        let (index_at, index_bytes, index_crc) =
            parse_footer(&read(footer_at, FOOTER_BYTES)?, entry.footer_crc)
                .ok_or_else(|| damaged(footer_at, "the footer does not match its checksum"))?;
        let fits = index_bytes <= INDEX_BYTES_MAX
            && index_at >= HEADER_BYTES
            && index_at.checked_add(index_bytes) == Some(footer_at);
        if !fits {
            return Err(damaged(footer_at, "the index is not where the footer says"));
        }
        let index = read(index_at, index_bytes)?;
        if crc32c::crc32c(&index) != index_crc {
            return Err(damaged(index_at, "the index does not match its checksum"));
        }
        let mut segment = Segment {
            disk: Arc::clone(disk),
            path: path.clone(),
            entry,
            blocks: Vec::new(),
            last: KeyBuf::default(),
            sessions: BTreeMap::new(),
            rows: 0,
            events: 0,
            obsolete: AtomicBool::new(false),
        };
        segment
            .parse_index(&index, index_at, version)
            .ok_or_else(|| damaged(index_at, "the index is not sound"))?;
        Ok(segment)
    }

    fn parse_index(&mut self, bytes: &[u8], end: u64, version: u32) -> Option<()> {
        let mut take = Take(bytes);
        let (blocks, sessions) = (take.u32()?, take.u32()?);
        (self.rows, self.events) = (take.u64()?, take.u64()?);
        self.last = take_key(&mut take)?;
        for _ in 0..sessions {
            let (session, events) = (take.u32()?, take.u64()?);
            if self.sessions.last_key_value().is_some_and(|(last, _)| *last >= session) {
                return None;
            }
            self.sessions.insert(session, events);
        }
        let (mut at, mut rows, mut events) = (HEADER_BYTES, 0_u64, 0_u64);
        for _ in 0..blocks {
            let first = take_key(&mut take)?;
            let (block_rows, block_events) = (take.u32()?, take.u32()?);
            let mut part = |limit: usize| {
                let part = Part { offset: at, stored: take.u32()?, raw: take.u32()?, crc: take.u32()? };
                at = at.checked_add(u64::from(part.stored)).filter(|at| *at <= end)?;
                // What does not become smaller becomes little larger.
                let fits = part.raw as usize <= limit && part.stored as usize <= limit + (limit >> 7);
                fits.then_some(part)
            };
            let (names_part, events_part) = (part(PATH_PART_BYTES_MAX)?, part(EVENT_PART_BYTES_MAX)?);
            let mut filter_part = None;
            if version >= FILTER_VERSION {
                let (stored, crc) = (take.u32()?, take.u32()?);
                filter_part = Some(Part { offset: at, stored, raw: stored, crc });
                at = at.checked_add(u64::from(stored)).filter(|at| *at <= end)?;
                if !filter::is_sound(stored as usize) {
                    return None;
                }
            }
            let follows =
                self.blocks.last().is_none_or(|before: &BlockAt| before.first.as_key() < first.as_key());
            if !follows || block_rows == 0 || block_rows as usize > BLOCK_ROWS {
                return None;
            }
            rows = rows.checked_add(u64::from(block_rows))?;
            events = events.checked_add(u64::from(block_events))?;
            self.blocks.push(BlockAt {
                first,
                rows: block_rows,
                events: block_events,
                names_part,
                events_part,
                filter_part,
            });
        }
        let sound = take.0.is_empty()
            && at == end
            && (rows, events) == (self.rows, self.events)
            && self.sessions.values().copied().try_fold(0_u64, u64::checked_add) == Some(events)
            && self.blocks.last().is_some_and(|block| block.first.as_key() <= self.last.as_key());
        sound.then_some(())
    }

    /// Lets the file be removed once nobody reads it.
    pub(super) fn retire(&self) {
        self.obsolete.store(true, Ordering::Release);
    }

    fn damaged(&self, part: Part, what: &'static str) -> CatalogError {
        CatalogError::Damaged { path: self.path.clone(), offset: part.offset, what }
    }

    /// Reads a part as it is stored.
    fn read(&self, part: Part, unpacker: &mut Unpacker) -> Result<(), CatalogError> {
        let file = match unpacker.open.take().filter(|(number, _)| *number == self.entry.number) {
            Some((_, file)) => file,
            None => self.disk.open(&self.path).map_err(failed("open", &self.path))?,
        };
        // The length was held against that of the file when the segment was opened.
        unpacker.stored.resize(part.stored as usize, 0);
        let count = file.read_at(&mut unpacker.stored, part.offset).map_err(failed("read", &self.path))?;
        if count != part.stored as usize || crc32c::crc32c(&unpacker.stored) != part.crc {
            return Err(self.damaged(part, "the block does not match its checksum"));
        }
        unpacker.open = Some((self.entry.number, file));
        Ok(())
    }

    fn unpack(&self, part: Part, unpacker: &mut Unpacker) -> Result<Vec<u8>, CatalogError> {
        self.read(part, unpacker)?;
        let raw = unpacker.zstd.decompress(&unpacker.stored, part.raw as usize);
        raw.ok()
            .filter(|raw| raw.len() == part.raw as usize)
            .ok_or_else(|| self.damaged(part, "the block cannot be decompressed"))
    }

    /// Whether a block may hold a text; one without a filter may hold any.
    pub(super) fn may_hold(
        &self,
        block: &BlockAt,
        runs: &filter::Runs,
        unpacker: &mut Unpacker,
    ) -> Result<bool, CatalogError> {
        let Some(part) = block.filter_part.filter(|_| !runs.is_empty()) else { return Ok(true) };
        self.read(part, unpacker)?;
        Ok(runs.may_be_in(&unpacker.stored))
    }

    /// The paths of a block.
    pub(super) fn names(&self, block: &BlockAt, unpacker: &mut Unpacker) -> Result<Names, CatalogError> {
        let bytes = self.unpack(block.names_part, unpacker)?;
        Names::decode(bytes)
            .filter(|names| names.rows() == block.rows)
            .ok_or_else(|| self.damaged(block.names_part, "the paths are not sound"))
    }

    /// Makes sure that names can be told apart, which costs a pass over them.
    pub(super) fn check_names(&self, block: &BlockAt, names: &Names) -> Result<(), CatalogError> {
        if names.is_sound() {
            return Ok(());
        }
        Err(self.damaged(block.names_part, "the names are not as many as the block says"))
    }

    /// The events of a block.
    pub(super) fn events(&self, block: &BlockAt, unpacker: &mut Unpacker) -> Result<Events, CatalogError> {
        let bytes = self.unpack(block.events_part, unpacker)?;
        Events::decode(&bytes, block.rows)
            .ok_or_else(|| self.damaged(block.events_part, "the events are not sound"))
    }

    /// Reads all of it: the paths rise, and the index counts right.
    pub(super) fn verify(&self, unpacker: &mut Unpacker) -> Result<(), CatalogError> {
        let mut last: Option<KeyBuf> = None;
        let mut sessions: BTreeMap<u32, u64> = BTreeMap::new();
        for block in &self.blocks {
            let names = self.names(block, unpacker)?;
            self.check_names(block, &names)?;
            let events = self.events(block, unpacker)?;
            if let Some(part) = block.filter_part {
                self.read(part, unpacker)?;
                let mut built = filter::FilterBuilder::default();
                (0..block.rows).for_each(|row| built.push(names.key(row)));
                let mut expected = Vec::new();
                built.finish(&mut expected);
                if expected != unpacker.stored {
                    return Err(self.damaged(part, "the filter is not that of the paths"));
                }
            }
            let mut count = 0;
            for row in 0..block.rows {
                let (key, events) = (names.key(row), events.of(row));
                if last.as_ref().is_some_and(|last| last.as_key() >= key) {
                    return Err(self.damaged(block.names_part, "the paths are not in order"));
                }
                if !events.is_sorted_by(|a, b| a.session < b.session) {
                    return Err(self.damaged(block.events_part, "the events of a path are not in order"));
                }
                count += events.len();
                events.iter().for_each(|event| *sessions.entry(event.session).or_default() += 1);
                last = Some(key.to_buf());
            }
            if names.key(0) != block.first.as_key() || count != block.events as usize {
                return Err(self.damaged(block.names_part, "the block is not what the index says"));
            }
        }
        if last.as_ref() != Some(&self.last) || sessions != self.sessions {
            let what = "the index does not count right";
            return Err(CatalogError::Damaged { path: self.path.clone(), offset: 0, what });
        }
        Ok(())
    }

    /// Numbers of the blocks that may hold paths from `low` on: the first.
    pub(super) fn first_block(&self, low: Key<'_>) -> usize {
        self.blocks.partition_point(|block| block.first.as_key() <= low).saturating_sub(1)
    }
}

/// A key of the index. One that cannot be of a path would not be in the order of paths either.
fn take_key(take: &mut Take<'_>) -> Option<KeyBuf> {
    let key = KeyBuf { dir: take.string()?.to_vec(), name: take.string()?.to_vec() };
    let mut path = Vec::new();
    key.as_key().write_to(&mut path);
    check(&path).is_ok().then_some(key)
}

fn read_exactly(file: &dyn DiskFile, path: &Path, offset: u64, bytes: u64) -> Result<Vec<u8>, CatalogError> {
    let mut out = vec![0; bytes as usize];
    let count = file.read_at(&mut out, offset).map_err(failed("read", path))?;
    if count as u64 != bytes {
        let what = "the file ends early";
        return Err(CatalogError::Damaged { path: path.to_owned(), offset, what });
    }
    Ok(out)
}

fn header(number: u64, version: u32) -> Vec<u8> {
    let mut out = HEADER_MAGIC.to_vec();
    put_u32(&mut out, version);
    put_u32(&mut out, 0);
    put_u64(&mut out, number);
    put_u32(&mut out, 0);
    let crc = crc32c::crc32c(&out);
    put_u32(&mut out, crc);
    out
}

/// The version of a segment.
fn check_header(bytes: &[u8], number: u64, path: &Path) -> Result<u32, CatalogError> {
    let damaged = |what| CatalogError::Damaged { path: path.to_owned(), offset: 0, what };
    let mut take = Take(bytes);
    let magic = take.array::<8>();
    let version = take.u32().unwrap_or_default();
    let crc = bytes.last_chunk::<4>().copied().map(u32::from_le_bytes);
    let covered = bytes.len().checked_sub(4).and_then(|end| bytes.get(..end)).unwrap_or_default();
    if magic != Some(HEADER_MAGIC) || crc != Some(crc32c::crc32c(covered)) {
        return Err(damaged("the header does not match its checksum"));
    }
    if version > SEGMENT_VERSION {
        return Err(CatalogError::NewerVersion { path: path.to_owned(), version });
    }
    if version == 0 || bytes != header(number, version) {
        return Err(damaged("the header is that of another file"));
    }
    Ok(version)
}

/// Place, length and checksum of the index.
fn parse_footer(bytes: &[u8], expected_crc: u32) -> Option<(u64, u64, u32)> {
    let mut take = Take(bytes);
    let magic = take.array::<8>()?;
    let (at, length, index_crc, crc) = (take.u64()?, take.u64()?, take.u32()?, take.u32()?);
    let covered = bytes.get(..bytes.len().checked_sub(4)?)?;
    let sound = magic == FOOTER_MAGIC && crc == crc32c::crc32c(covered) && crc == expected_crc;
    sound.then_some((at, length, index_crc))
}
