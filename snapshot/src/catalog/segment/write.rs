//! Writing a segment: blocks as they fill up, then the index, then the footer, then one sync.
//!
//! Paths come in order and are written in order, a mebibyte at a time; what is held is one block and the index. A writer
//! that is dropped unfinished removes its file, so a load that fails leaves nothing.

use super::super::block::{BLOCK_EVENTS, BLOCK_PATH_BYTES, EVENTS_OF_PATH_MAX, EventsBuilder, NamesBuilder};
use super::super::codec::{put_string, put_u32, put_u64};
use super::super::error::{CatalogError, failed};
use super::super::filter::FilterBuilder;
use super::super::path::{Key, KeyBuf, PATH_BYTES_MAX};
use super::super::types::Event;
use super::{BlockAt, FOOTER_MAGIC, INDEX_BYTES_MAX, Part, SEGMENT_VERSION, SegmentEntry, file_name, header};
use journal::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Fast, and within a tenth of what higher levels reach on sorted names.
const ZSTD_LEVEL: i32 = 1;
const WRITE_BYTES: usize = 1 << 20;

fn footer(index_at: u64, index: &[u8]) -> Vec<u8> {
    let mut out = FOOTER_MAGIC.to_vec();
    put_u64(&mut out, index_at);
    put_u64(&mut out, index.len() as u64);
    put_u32(&mut out, crc32c::crc32c(index));
    let crc = crc32c::crc32c(&out);
    put_u32(&mut out, crc);
    out
}

/// Writes a segment. Dropped before [`SegmentWriter::finish`], it removes what it wrote.
pub(in crate::catalog) struct SegmentWriter {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    number: u64,
    block_rows: usize,
    zstd: zstd::bulk::Compressor<'static>,
    names: NamesBuilder,
    events: EventsBuilder,
    filter: FilterBuilder,
    first: KeyBuf,
    last: KeyBuf,
    blocks: Vec<BlockAt>,
    sessions: BTreeMap<u32, u64>,
    rows: u64,
    events_total: u64,
    raw: Vec<u8>,
    out: Vec<u8>,
    written: u64,
    finished: bool,
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed when the catalog is opened next.
            let _ = self.disk.remove(&self.path);
        }
    }
}

impl SegmentWriter {
    pub(in crate::catalog) fn create(
        disk: &Arc<dyn Disk>,
        directory: &Path,
        number: u64,
        block_rows: usize,
    ) -> Result<Self, CatalogError> {
        let path = directory.join(file_name(number));
        let zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(failed("start compression", &path))?;
        let file = disk.create(&path).map_err(failed("create", &path))?;
        Ok(SegmentWriter {
            disk: Arc::clone(disk),
            path,
            file,
            number,
            block_rows,
            zstd,
            names: NamesBuilder::default(),
            events: EventsBuilder::default(),
            filter: FilterBuilder::default(),
            first: KeyBuf::default(),
            last: KeyBuf::default(),
            blocks: Vec::new(),
            sessions: BTreeMap::new(),
            rows: 0,
            events_total: 0,
            raw: Vec::new(),
            out: header(number, SEGMENT_VERSION),
            written: 0,
            finished: false,
        })
    }

    /// Adds a path, greater than all before, with its events in the order of their sessions.
    pub(in crate::catalog) fn push(&mut self, key: Key<'_>, events: &[Event]) -> Result<(), CatalogError> {
        if events.len() > EVENTS_OF_PATH_MAX {
            return Err(CatalogError::Limit { what: "versions of a path", limit: EVENTS_OF_PATH_MAX as u64 });
        }
        // Loads have checked it; a block that was merged may say anything.
        if key.dir.len() + key.name.len() >= PATH_BYTES_MAX {
            return Err(CatalogError::Limit { what: "bytes of a path", limit: PATH_BYTES_MAX as u64 });
        }
        if self.names.rows() == 0 {
            self.first = key.to_buf();
        }
        self.names.push(key);
        self.filter.push(key);
        self.events.push(events);
        self.last.dir.clear();
        self.last.dir.extend_from_slice(key.dir);
        self.last.name.clear();
        self.last.name.extend_from_slice(key.name);
        for event in events {
            *self.sessions.entry(event.session).or_default() += 1;
        }
        let full = self.names.rows() >= self.block_rows
            || self.names.bytes() >= BLOCK_PATH_BYTES
            || self.events.len() >= BLOCK_EVENTS;
        if full { self.close_block() } else { Ok(()) }
    }

    fn close_block(&mut self) -> Result<(), CatalogError> {
        let (rows, events) = (self.names.rows() as u32, self.events.len() as u32);
        self.names.finish(&mut self.raw);
        let names_part = self.pack()?;
        self.events.finish(&mut self.raw);
        let events_part = self.pack()?;
        self.filter.finish(&mut self.raw);
        // Half of its bits are chance: it would not become smaller.
        let filter_part = Some(self.place(self.raw.len(), crc32c::crc32c(&self.raw)));
        self.out.extend_from_slice(&self.raw);
        let first = std::mem::take(&mut self.first);
        self.blocks.push(BlockAt { first, rows, events, names_part, events_part, filter_part });
        self.rows += u64::from(rows);
        self.events_total += u64::from(events);
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn pack(&mut self) -> Result<Part, CatalogError> {
        let stored = self.zstd.compress(&self.raw).map_err(failed("compress for", &self.path))?;
        let part = self.place(stored.len(), crc32c::crc32c(&stored));
        self.out.extend_from_slice(&stored);
        Ok(part)
    }

    /// The place of a part that is written next.
    fn place(&self, stored: usize, crc: u32) -> Part {
        let offset = self.written + self.out.len() as u64;
        Part { offset, stored: stored as u32, raw: self.raw.len() as u32, crc }
    }

    fn flush(&mut self) -> Result<(), CatalogError> {
        self.file.write_at(&self.out, self.written).map_err(failed("write", &self.path))?;
        self.written += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Writes the rest and makes it durable. The name becomes durable with the manifest that names it.
    pub(in crate::catalog) fn finish(mut self) -> Result<SegmentEntry, CatalogError> {
        if self.names.rows() > 0 {
            self.close_block()?;
        }
        let index_at = self.written + self.out.len() as u64;
        let index = self.index();
        if index.len() as u64 > INDEX_BYTES_MAX {
            return Err(CatalogError::Limit { what: "bytes of index", limit: INDEX_BYTES_MAX });
        }
        self.out.extend_from_slice(&index);
        let footer = footer(index_at, &index);
        self.out.extend_from_slice(&footer);
        self.flush()?;
        self.file.sync_data().map_err(failed("sync", &self.path))?;
        self.finished = true;
        let footer_crc = footer.last_chunk::<4>().copied().map(u32::from_le_bytes).unwrap_or_default();
        Ok(SegmentEntry { entity: 0, number: self.number, bytes: self.written, footer_crc })
    }

    fn index(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_u32(&mut out, self.blocks.len() as u32);
        put_u32(&mut out, self.sessions.len() as u32);
        put_u64(&mut out, self.rows);
        put_u64(&mut out, self.events_total);
        put_string(&mut out, &self.last.dir);
        put_string(&mut out, &self.last.name);
        for (session, events) in &self.sessions {
            put_u32(&mut out, *session);
            put_u64(&mut out, *events);
        }
        for block in &self.blocks {
            put_string(&mut out, &block.first.dir);
            put_string(&mut out, &block.first.name);
            put_u32(&mut out, block.rows);
            put_u32(&mut out, block.events);
            for part in [block.names_part, block.events_part] {
                put_u32(&mut out, part.stored);
                put_u32(&mut out, part.raw);
                put_u32(&mut out, part.crc);
            }
            if let Some(part) = block.filter_part {
                put_u32(&mut out, part.stored);
                put_u32(&mut out, part.crc);
            }
        }
        out
    }
}
