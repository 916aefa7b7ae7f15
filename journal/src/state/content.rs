//! What captures replace in files: undo of overlapping writes.
//!
//! Rules, for one capture that changes bytes `a..b` of a file:
//! - Bytes at or behind the size the file had when the capture began are hidden from views of that time by the size in
//!   the metadata undo. If the file was longer at some time before, views of then read zeros there: a write records
//!   zeros as far as the file ever reached, and a cut needs to record nothing but what was not zero. So a hole costs
//!   nothing, however long, until something is written into it.
//! - A byte changed twice by one capture needs undo once, for its value when the capture began. `touched` holds the
//!   ranges already recorded.
//! - Where an earlier capture of the same batch wrote the byte, the tree does not hold that value yet (nothing of the
//!   batch has touched it). Its redo does, and undo refers to it. `written` holds who wrote what in this batch. If that redo
//!   is itself a reference to older undo, which retention need not keep as long, the bytes are copied.
//! - Elsewhere the tree holds the value. Pages that are equal before and after are left out, and so are not put into
//!   `touched`: a later write of the same capture may still change them.
//! - Of a page that a journaled write changes in less than half of its bytes only what differs is recorded, against the
//!   redo of that very write. There are no chains: redo is never a delta. It is durable before this undo is, for only
//!   durable captures are applied, and retention keeps it as long (`retention`).

use crate::error::JournalError;
use crate::event::{BlockHash, Payload, PayloadAt};
use crate::extents::ExtentMap;
use crate::id::NodeId;
use crate::record::{DataUndo, UndoSource};
use crate::tables::Space;
use bytes::Bytes;
use std::collections::HashMap;
use std::ops::Range;

/// Granularity of undo within a write, in bytes: equal pages are not recorded.
pub const PAGE_BYTES: u64 = 4096;

/// Fewer bytes are recorded as they were: saying where the redo lies costs more than a delta saves.
const DELTA_BYTES_MIN: usize = 256;

/// Bytes read from the tree at a time.
pub const READ_BYTES: u64 = 256 << 10;

/// The bytes the replica tree holds now, before any of the batch touches it.
pub trait OldBytes {
    /// A payload of the undo stream that a local change of the batch puts back.
    ///
    /// # Errors
    /// As the log.
    fn undone(&mut self, at: PayloadAt) -> Result<Bytes, JournalError>;
    /// Reads just so many bytes of a file that existed before the batch. Those it does not have read as zeros: the journal
    /// says that they are there.
    ///
    /// # Errors
    /// `Tree` if the file cannot be read, `Drift` if it is not there.
    fn read(&mut self, node: NodeId, offset: u64, length: usize) -> Result<Bytes, JournalError>;
    /// Where the next bytes at or after `offset` are that are no hole; `None` if there are none.
    ///
    /// # Errors
    /// As [`OldBytes::read`].
    fn next_data(&mut self, node: NodeId, offset: u64) -> Result<Option<u64>, JournalError>;
}

/// Takes undo of bytes as it is found.
pub trait UndoSink {
    /// Bytes that must be kept, with where they belong.
    ///
    /// # Errors
    /// As the journal.
    fn bytes(&mut self, node: NodeId, offset: u64, bytes: Bytes) -> Result<(), JournalError>;
    /// Bytes that must be kept, given as what differs from those that replace them, byte by byte an exclusive or. These
    /// lie `from` bytes into a payload of the redo stream.
    ///
    /// # Errors
    /// As the journal.
    fn delta(
        &mut self,
        node: NodeId,
        offset: u64,
        differs: Bytes,
        redo: PayloadAt,
        from: u32,
    ) -> Result<(), JournalError>;
    /// Undo that refers to bytes elsewhere.
    ///
    /// # Errors
    /// As the journal.
    fn reference(&mut self, data: DataUndo) -> Result<(), JournalError>;
}

/// How to find old and new bytes, and where undo of bytes goes. Absent in recovery and rebuild, where undo is already
/// in the journal.
pub struct ContentUndo<'a> {
    /// The tree.
    pub old: &'a mut dyn OldBytes,
    /// Loads the bytes of a write that are not in memory.
    pub load: &'a mut dyn FnMut(&Payload) -> Result<Bytes, JournalError>,
    /// Receives undo of bytes.
    pub sink: &'a mut dyn UndoSink,
}

/// Who wrote a range in this batch.
#[derive(Clone, Debug)]
enum Written {
    /// Zeros: cut, punched or grown.
    Zero,
    /// The payload whose first byte belongs at `base`.
    Redo { at: PayloadAt, base: u64 },
    /// What lies `skip` bytes into a payload of the undo stream belongs at `base`.
    Undone { at: PayloadAt, skip: u32, base: u64 },
}

/// Where the bytes of a write lie.
#[derive(Clone, Copy, Debug)]
pub enum WrittenFrom {
    /// In a payload of the redo stream.
    Redo(PayloadAt),
    /// In a payload of the undo stream, so many bytes into it.
    Undone(PayloadAt, u32),
}

/// Bytes of files as changed by a batch of captures that is not in the tree yet.
#[derive(Default)]
pub struct BatchContent {
    written: HashMap<NodeId, ExtentMap<Written>>,
    touched: HashMap<NodeId, ExtentMap<()>>,
    /// Size when the capture began, and the greatest size before; `None` for what was created meanwhile.
    start_sizes: HashMap<NodeId, Option<(u64, u64)>>,
}

/// One change of bytes.
pub struct Replacing<'a> {
    /// The file.
    pub node: NodeId,
    /// The range that changes.
    pub range: Range<u64>,
    /// The new bytes, `None` for zeros or for a cut: what lies behind the end of a file reads as zeros.
    pub new: Option<&'a [u8]>,
    /// Where the new bytes lie in the redo stream, if they do.
    pub redo: Option<PayloadAt>,
    /// Size of the file before the event.
    pub size: u64,
    /// Hash of the old bytes in the range, cut at the end of the file.
    pub before: Option<BlockHash>,
}

impl BatchContent {
    /// A new capture begins.
    pub fn begin_capture(&mut self) {
        self.touched.clear();
        self.start_sizes.clear();
    }

    /// The file was created by this batch, in this capture.
    pub fn created(&mut self, node: NodeId) {
        self.start_sizes.insert(node, None);
        let mut zeros = ExtentMap::default();
        zeros.insert(0..u64::MAX, Written::Zero);
        self.written.insert(node, zeros);
    }

    /// Remembers the size a file had when the capture began, and the greatest it ever had, at its first change.
    pub fn note_size(&mut self, node: NodeId, size: u64, longest: u64) {
        self.start_sizes.entry(node).or_insert(Some((size, longest)));
    }

    /// The batch writes zeros over a range.
    pub fn wrote_zeros(&mut self, node: NodeId, range: Range<u64>) {
        self.written.entry(node).or_default().insert(range, Written::Zero);
    }

    /// The batch writes bytes that are in the journal over a range.
    pub fn wrote(&mut self, node: NodeId, range: Range<u64>, from: WrittenFrom) {
        let base = range.start;
        let written = match from {
            WrittenFrom::Redo(at) => Written::Redo { at, base },
            WrittenFrom::Undone(at, skip) => Written::Undone { at, skip, base },
        };
        self.written.entry(node).or_default().insert(range, written);
    }

    /// Records what the capture replaces. Call before `wrote`.
    ///
    /// # Errors
    /// `Drift` if the old bytes are not what capture says they were; errors of `old` and `sink`.
    pub fn replace(
        &mut self,
        change: &Replacing<'_>,
        old: &mut dyn OldBytes,
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        let node = change.node;
        let Some(Some((start_size, longest))) = self.start_sizes.get(&node).copied() else {
            return Ok(());
        };
        if change.new.is_some() {
            self.refer_behind_the_end(change, start_size, longest, sink)?;
        }
        let range = change.range.start..change.range.end.min(start_size);
        if range.start >= range.end {
            return Ok(());
        }
        let untouched =
            self.touched.get(&node).map_or_else(|| vec![range.clone()], |map| map.gaps(range.clone()));
        // Comparable only if all the bytes that were hashed are still in the tree.
        let whole = untouched.first() == Some(&range) && change.size == start_size;
        let mut hasher = (change.before.is_some() && whole).then(blake3::Hasher::new);
        for gap in untouched {
            let pieces = self
                .written
                .get(&node)
                .map_or_else(|| vec![(gap.clone(), None)], |map| map.pieces(gap.clone()));
            for (piece, written) in pieces {
                match written {
                    // Zeros before and after.
                    Some(Written::Zero) if change.new.is_none() => {}
                    Some(Written::Undone { at, skip, base }) => {
                        hasher = None;
                        let from = u64::from(skip) + (piece.start - base);
                        self.copy_undone(node, piece, (at, from), old, sink)?;
                    }
                    Some(Written::Zero) => {
                        hasher = None;
                        self.refer(node, piece, &UndoSource::Zero, sink)?;
                    }
                    Some(Written::Redo { at, base }) => {
                        hasher = None;
                        let skip = (piece.start - base) as u32;
                        self.refer(node, piece, &UndoSource::Redo { at, skip }, sink)?;
                    }
                    None => self.copy(change, piece, &mut hasher, old, sink)?,
                }
            }
        }
        match (hasher, change.before) {
            (Some(hasher), Some(before))
                if hasher.finalize().as_bytes().get(..16) != Some(before.as_slice()) =>
            {
                Err(JournalError::Drift {
                    object: node.to_string(),
                    what: "bytes are not those capture replaced",
                })
            }
            _ => Ok(()),
        }
    }

    /// Zeros that views of a time when the file was longer read where it is written now.
    fn refer_behind_the_end(
        &mut self,
        change: &Replacing<'_>,
        start_size: u64,
        longest: u64,
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        let behind = change.range.start.max(start_size)..change.range.end.min(longest);
        if behind.start >= behind.end {
            return Ok(());
        }
        let touched = self.touched.get(&change.node);
        let gaps = touched.map_or_else(|| vec![behind.clone()], |map| map.gaps(behind.clone()));
        gaps.into_iter().try_for_each(|gap| self.refer(change.node, gap, &UndoSource::Zero, sink))
    }

    fn refer(
        &mut self,
        node: NodeId,
        piece: Range<u64>,
        source: &UndoSource,
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        self.touched.entry(node).or_default().insert(piece.clone(), ());
        let mut offset = piece.start;
        while offset < piece.end {
            let bytes = (piece.end - offset).min(1 << 30) as u32;
            // Within one payload, whose length is 32 bits; zeros have no place.
            let source = source.further((offset - piece.start) as u32);
            sink.reference(DataUndo { node, offset, bytes, source })?;
            offset += u64::from(bytes);
        }
        Ok(())
    }

    /// Copies bytes that an earlier capture of the batch takes from undo: they lie `from` bytes into the payload.
    fn copy_undone(
        &mut self,
        node: NodeId,
        piece: Range<u64>,
        (at, from): (PayloadAt, u64),
        old: &mut dyn OldBytes,
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        let payload = old.undone(at)?;
        let within = from as usize..(from + (piece.end - piece.start)) as usize;
        let bytes = payload.get(within).ok_or(JournalError::BadRow { space: Space::DataUndo.name() })?;
        sink.bytes(node, piece.start, Bytes::copy_from_slice(bytes))?;
        self.touched.entry(node).or_default().insert(piece, ());
        Ok(())
    }

    /// Copies old bytes of the tree, page by page, in runs.
    fn copy(
        &mut self,
        change: &Replacing<'_>,
        piece: Range<u64>,
        hasher: &mut Option<blake3::Hasher>,
        old: &mut dyn OldBytes,
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        let mut at = piece.start;
        while at < piece.end {
            if change.new.is_none() {
                match old.next_data(change.node, at)?.filter(|data| *data < piece.end) {
                    Some(data) => at = at.max(data - data % PAGE_BYTES),
                    None => break,
                }
            }
            let bytes = (piece.end - at).min(READ_BYTES) as usize;
            let buffer = old.read(change.node, at, bytes)?;
            if let Some(hasher) = hasher {
                hasher.update(&buffer);
            }
            let new = change.new.and_then(|new| {
                let from = (at - change.range.start) as usize;
                new.get(from..from + bytes)
            });
            self.keep_pages(change, at, &buffer, new, sink)?;
            at += bytes as u64;
        }
        Ok(())
    }

    fn keep_pages(
        &mut self,
        change: &Replacing<'_>,
        start: u64,
        old: &Bytes,
        new: Option<&[u8]>,
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        let mut run: Option<(PageFate, Range<u64>)> = None;
        let end = start + old.len() as u64;
        let mut at = start;
        while at <= end {
            let page_end = end.min((at / PAGE_BYTES + 1) * PAGE_BYTES);
            let within = (at - start) as usize..(page_end - start) as usize;
            let fate = if at == end {
                None
            } else {
                let page = old.get(within.clone()).unwrap_or_default();
                let new = new.map(|new| new.get(within).unwrap_or_default());
                Some(PageFate::of(page, new, change.redo.is_some()))
            };
            match (&mut run, fate) {
                (Some((running, range)), Some(fate)) if *running == fate => range.end = page_end,
                (running, fate) => {
                    if let Some((fate, range)) = running.take() {
                        let within = (range.start - start) as usize..(range.end - start) as usize;
                        let new = new.and_then(|new| new.get(within.clone())).unwrap_or_default();
                        self.keep_run(change, fate, range, (old.slice(within), new), sink)?;
                    }
                    *running = fate.map(|fate| (fate, at..page_end));
                }
            }
            if at == end {
                break;
            }
            at = page_end;
        }
        Ok(())
    }

    fn keep_run(
        &mut self,
        change: &Replacing<'_>,
        fate: PageFate,
        range: Range<u64>,
        (old, new): (Bytes, &[u8]),
        sink: &mut dyn UndoSink,
    ) -> Result<(), JournalError> {
        let node = change.node;
        match (fate, change.redo) {
            (PageFate::Equal, _) => return Ok(()),
            (PageFate::Zero, _) => {
                let bytes = (range.end - range.start) as u32;
                sink.reference(DataUndo { node, offset: range.start, bytes, source: UndoSource::Zero })?;
            }
            // A place of another length cannot be that of these bytes.
            (PageFate::Delta, Some(redo))
                if new.len() == old.len()
                    && u64::from(redo.bytes) == change.range.end - change.range.start =>
            {
                // Within one payload, whose length is 32 bits.
                let from = (range.start - change.range.start) as u32;
                sink.delta(node, range.start, differs(&old, new).into(), redo, from)?;
            }
            (PageFate::Copy | PageFate::Delta, _) => sink.bytes(node, range.start, old)?,
        }
        self.touched.entry(node).or_default().insert(range, ());
        Ok(())
    }
}

/// What becomes of an old page.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PageFate {
    /// Same bytes before and after.
    Equal,
    /// All zeros: no bytes to keep.
    Zero,
    /// Bytes to keep.
    Copy,
    /// Bytes to keep, less than half of which differ from those that replace them.
    Delta,
}

impl PageFate {
    fn of(old: &[u8], new: Option<&[u8]>, journaled: bool) -> PageFate {
        let zero = is_zero(old);
        let equal = match new {
            Some(new) => old == new,
            None => zero,
        };
        if equal {
            PageFate::Equal
        } else if zero {
            PageFate::Zero
        } else if journaled && old.len() >= DELTA_BYTES_MIN && new.is_some_and(|new| mostly_same(old, new)) {
            PageFate::Delta
        } else {
            PageFate::Copy
        }
    }
}

/// Whether less than half of the bytes of a page differ. Ends as soon as it is known that it is not so.
fn mostly_same(old: &[u8], new: &[u8]) -> bool {
    const STRETCH: usize = 128;
    let mut differing = 0;
    for (before, after) in old.chunks(STRETCH).zip(new.chunks(STRETCH)) {
        // No more than fits into a byte, which is what can be counted many at a time.
        let some = before.iter().zip(after).map(|(before, after)| u8::from(before != after)).sum::<u8>();
        differing += usize::from(some);
        if differing * 2 >= old.len() {
            return false;
        }
    }
    true
}

/// The exclusive or of two stretches of bytes, as long as the shorter one.
fn differs(old: &[u8], new: &[u8]) -> Vec<u8> {
    old.iter().zip(new).map(|(old, new)| old ^ new).collect()
}

/// Whether all bytes are zero.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| chunk == &[0; 64]) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
