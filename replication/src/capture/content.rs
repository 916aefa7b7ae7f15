//! Bytes of a file: read once from end to end, compared block by block with the hashes of what the stream has.
//!
//! A pass reads a mebibyte at a time, so memory does not depend on the size of the file, and a range that did not
//! change costs its reading and hashing but nothing in the stream. If the file moved while it was read, a further pass
//! follows within the same capture: only its end state can ever be seen. A file that never rests is captured as it was
//! read last and read again later.
//!
//! A block that lies in a hole has the hash zero, so holes are told from zeros that were written.

use super::CaptureError;
use super::draft::Out;
use super::index::{GROUP_BLOCKS, HASH_BYTES, Index};
use super::look::Look;
use bytes::Bytes;
use journal::{BlockHash, Event, NodeId, Payload, WRITE_BYTES_MAX};
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Stands for a block that is a hole.
const HOLE: BlockHash = [0; HASH_BYTES];

/// Block size, as a power of two, for a file of this size: small enough that a small change is a small event, large
/// enough that the hashes of a large file are few.
pub(super) const fn block_bits(size: u64) -> u8 {
    if size <= 256 << 20 {
        12
    } else if size <= 4 << 30 {
        14
    } else {
        16
    }
}

/// What the stream has of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Have {
    pub node: NodeId,
    /// Its length in the stream.
    pub size: u64,
    /// Block size as a power of two.
    pub block_bits: u8,
    /// Whether the index has the hashes of its blocks. If not, everything is sent.
    pub hashes: bool,
}

/// One pass over a file.
pub(super) struct Pass<'a> {
    index: &'a Index,
    out: &'a mut Out,
    file: &'a OwnedFd,
    buffer: &'a mut Vec<u8>,
    have: Have,
    /// Length the file has in the stream after the events so far.
    size: u64,
    /// Blocks the stream had before this pass.
    old_blocks: u64,
    sparse: bool,
    /// The stretch of data found last.
    data: (u64, u64),
    group: u64,
    hashes: Vec<u8>,
    hashes_changed: bool,
    run: Option<Run>,
    /// Whether this pass cut or grew the file by itself: old hashes are not those of the same bytes then.
    resized: bool,
    /// Whether any event was written.
    changed: bool,
}

/// Adjacent blocks that changed in the same way.
struct Run {
    offset: u64,
    hole: bool,
    /// Range in the buffer.
    from: usize,
    to: usize,
    blocks: usize,
    before: Option<BlockHash>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        index: &'a Index,
        out: &'a mut Out,
        file: &'a OwnedFd,
        buffer: &'a mut Vec<u8>,
        have: Have,
    ) -> Self {
        let block = 1u64 << have.block_bits;
        Pass {
            index,
            out,
            file,
            buffer,
            size: have.size,
            old_blocks: if have.hashes { have.size.div_ceil(block) } else { 0 },
            have,
            sparse: false,
            data: (0, 0),
            group: u64::MAX,
            hashes: Vec::new(),
            hashes_changed: false,
            run: None,
            resized: false,
            changed: false,
        }
    }

    /// Reads the file as long as `look` says it is and tells what differs. Returns its length in the stream now.
    ///
    /// # Errors
    /// The outer error is fatal; the inner one is the file's, and what was told until then stands.
    pub(super) fn run(mut self, look: &Look) -> Result<(Have, bool, Result<(), Errno>), CaptureError> {
        self.sparse = look.allocated < look.size;
        if look.size < self.size {
            self.resize(look.size)?;
        } else if self.sparse && look.size > self.size {
            // What is a hole behind the old end needs no event of its own.
            self.resize(look.size)?;
        }
        let mut offset = 0;
        let mut failed = Ok(());
        while offset < look.size {
            let length = (look.size - offset).min(WRITE_BYTES_MAX as u64) as usize;
            match self.chunk(offset, length)? {
                Ok(read) if read == length => offset += length as u64,
                // It became shorter; whoever looks at it next sees that.
                Ok(read) => {
                    offset += read as u64;
                    break;
                }
                Err(errno) => {
                    failed = Err(errno);
                    break;
                }
            }
        }
        self.store_hashes()?;
        if failed.is_ok() && offset >= look.size && self.size < look.size {
            self.resize(look.size)?;
        }
        let block = 1u64 << self.have.block_bits;
        let groups = self.size.div_ceil(block).div_ceil(GROUP_BLOCKS as u64);
        if !self.have.hashes || self.old_blocks.div_ceil(GROUP_BLOCKS as u64) > groups {
            self.index.cut_hashes(self.have.node, groups)?;
        }
        let have = Have { size: self.size, hashes: true, ..self.have };
        Ok((have, self.changed, failed))
    }

    fn resize(&mut self, size: u64) -> Result<(), CaptureError> {
        (self.changed, self.resized) = (true, true);
        self.size = size;
        self.out.push(Event::Resize { node: self.have.node, size })
    }

    /// One chunk: all hole, or read and hashed. Returns how many bytes there were.
    fn chunk(&mut self, offset: u64, length: usize) -> Result<Result<usize, Errno>, CaptureError> {
        let end = offset + length as u64;
        let has_data = !self.sparse || self.data_after(offset).is_some_and(|start| start < end);
        let read = if has_data {
            self.buffer.resize(WRITE_BYTES_MAX, 0);
            match self.fill(offset, length) {
                Ok(read) => read,
                Err(errno) => return Ok(Err(errno)),
            }
        } else {
            length
        };
        let block = 1usize << self.have.block_bits;
        let mut from = 0;
        while from < read {
            let to = (from + block).min(read);
            let at = offset + from as u64;
            let hole = !has_data
                || (self.sparse && self.data_after(at).is_none_or(|start| start >= offset + to as u64));
            self.block(at, from, to, hole)?;
            from = to;
        }
        self.end_run()?;
        Ok(Ok(read))
    }

    /// Where data begins at or behind `offset`; `None`: nowhere.
    fn data_after(&mut self, offset: u64) -> Option<u64> {
        if offset < self.data.1 {
            return Some(self.data.0.max(offset));
        }
        let start = match rustix::fs::seek(self.file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => {
                self.data = (u64::MAX, u64::MAX);
                return None;
            }
            // A file system that cannot tell has no holes.
            Err(_) => {
                self.sparse = false;
                return Some(offset);
            }
        };
        let end = rustix::fs::seek(self.file, SeekFrom::Hole(start)).unwrap_or(u64::MAX);
        self.data = (start, end);
        Some(start)
    }

    fn fill(&mut self, offset: u64, length: usize) -> Result<usize, Errno> {
        let mut done = 0;
        while done < length {
            let Some(rest) = self.buffer.get_mut(done..length) else { break };
            match rustix::io::pread(self.file, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Compares one block with what the stream has.
    fn block(&mut self, at: u64, from: usize, to: usize, hole: bool) -> Result<(), CaptureError> {
        let number = at >> self.have.block_bits;
        let hash = if hole {
            HOLE
        } else {
            let bytes = self.buffer.get(from..to).unwrap_or_default();
            blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or(HOLE)
        };
        let old = self.exchange(number, hash)?;
        let differs = match old {
            Some(old) => old != hash,
            // Without hashes a hole must be told wherever the stream may have bytes.
            None => !hole || (!self.have.hashes && at < self.have.size),
        };
        let joins = self.run.as_ref().is_some_and(|run| run.hole == hole && run.to == from);
        if !differs || !joins {
            self.end_run()?;
        }
        if differs {
            let before = old.filter(|old| *old != HOLE);
            match &mut self.run {
                Some(run) => (run.to, run.blocks) = (to, run.blocks + 1),
                None => self.run = Some(Run { offset: at, hole, from, to, blocks: 1, before }),
            }
        }
        Ok(())
    }

    /// Puts the hash of a block in its place and returns what was there before this pass.
    fn exchange(&mut self, number: u64, hash: BlockHash) -> Result<Option<BlockHash>, CaptureError> {
        let group = number / GROUP_BLOCKS as u64;
        if group != self.group {
            self.store_hashes()?;
            self.group = group;
            self.hashes = match self.old_blocks > group * GROUP_BLOCKS as u64 {
                true => self.index.hashes(self.have.node, group)?.unwrap_or_default(),
                false => Vec::new(),
            };
            self.hashes_changed = false;
        }
        let at = (number % GROUP_BLOCKS as u64) as usize * HASH_BYTES;
        if self.hashes.len() < at + HASH_BYTES {
            self.hashes.resize(at + HASH_BYTES, 0);
            self.hashes_changed = true;
        }
        let Some(place) = self.hashes.get_mut(at..at + HASH_BYTES) else { return Ok(None) };
        let old = (number < self.old_blocks).then(|| <BlockHash>::try_from(&*place).unwrap_or(HOLE));
        if place != hash {
            place.copy_from_slice(&hash);
            self.hashes_changed = true;
        }
        Ok(old)
    }

    fn store_hashes(&mut self) -> Result<(), CaptureError> {
        if self.hashes_changed && self.group != u64::MAX {
            self.index.put_hashes(self.have.node, self.group, &self.hashes)?;
        }
        self.hashes_changed = false;
        Ok(())
    }

    /// Tells of a run of changed blocks.
    fn end_run(&mut self) -> Result<(), CaptureError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        self.changed = true;
        let node = self.have.node;
        let bytes = (run.to - run.from) as u64;
        if run.hole {
            // A hole behind the end of what the stream has comes with the file's growth.
            let end = (run.offset + bytes).min(self.size);
            if end > run.offset {
                self.out.push(Event::Punch { node, offset: run.offset, bytes: end - run.offset })?;
            }
            return Ok(());
        }
        let data = Bytes::copy_from_slice(self.buffer.get(run.from..run.to).unwrap_or_default());
        let old_end = (run.offset + (1 << self.have.block_bits)).min(self.have.size);
        let before = run.before.filter(|_| run.blocks == 1 && !self.resized && old_end <= run.offset + bytes);
        self.size = self.size.max(run.offset + bytes);
        self.out.push(Event::Write { node, offset: run.offset, data: Payload::Inline(data), before })
    }
}
