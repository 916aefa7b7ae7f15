//! Bytes that differ between two states of a file, found where they can differ and compared.
//!
//! Undo says which extents changed between the points. Only these are read, in both states, and compared in pages;
//! runs of pages that differ come out as pieces. What the new state has behind the end of the old one comes out too,
//! but for what reads as zeros, since growing a file leaves zeros.

use bytes::Bytes;
use journal::spare::Spares;
use journal::state::is_zero;
use journal::view::{ChangedExtents, UndonePiece, View, ViewFile};
use journal::{JournalError, NodeId, Payload, PayloadAt, TreeIo, WRITE_BYTES_MAX};
use std::collections::VecDeque;
use std::iter::Peekable;
use std::ops::Range;

/// Bytes compared as one.
const PAGE_BYTES: u64 = 4096;
/// Undo in pieces that are shorter on the average is put together before it is compared.
const PIECE_BYTES_MIN: usize = 64 << 10;

/// A range to change so that the old state becomes the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// First byte.
    pub offset: u64,
    /// Number of bytes, at most [`WRITE_BYTES_MAX`].
    pub bytes: u64,
    /// The new bytes; `None` for zeros.
    pub data: Option<Bytes>,
    /// Where in the undo log they lie, if they do and are not few: the payload, and how far into it.
    pub undone: Option<(PayloadAt, u32)>,
}

impl Piece {
    /// What is written for it in a replica that holds the point it was read at, and puts back undo as it lies there; `None`
    /// for zeros.
    pub fn payload(self) -> Option<Payload> {
        let data = self.data?;
        Some(match self.undone {
            // No longer than a write.
            Some((at, skip)) => Payload::Undone { at, skip, bytes: data.len() as u32, known: Some(data) },
            None => Payload::Inline(data),
        })
    }
}

/// Pieces that lead from one state of a file to another, ascending.
pub(crate) struct Pieces<'v, T: TreeIo> {
    old: Option<ViewFile<'v, T>>,
    new: ViewFile<'v, T>,
    changed: Option<Peekable<ChangedExtents<'v>>>,
    /// Where to go on comparing in full, if nothing tells what changed.
    full: Option<u64>,
    /// Bytes that both states have.
    common: u64,
    at: u64,
    ready: VecDeque<Piece>,
    /// Memory for the old bytes.
    before: Vec<u8>,
    /// Memory for the new ones.
    spares: Spares,
}

impl<'v, T: TreeIo> Pieces<'v, T> {
    /// From the state of a file in `from` to that in `to`.
    pub fn between(from: &'v View<T>, to: &'v View<T>, node: NodeId) -> Result<Self, JournalError> {
        let (old, new) = (from.open(node)?, to.open(node)?);
        let (older, newer) = if from.lsn() <= to.lsn() { (from, to) } else { (to, from) };
        let changed = older.changed_extents(node, newer.lsn(), 0).peekable();
        let common = old.size().min(new.size());
        let changed = Some(changed);
        Ok(Pieces {
            old: Some(old),
            new,
            changed,
            full: None,
            common,
            at: 0,
            ready: VecDeque::new(),
            before: Vec::new(),
            spares: Spares::new(0),
        })
    }

    /// From the state of one file in `from` to that of another in `to`: both are read from end to end.
    pub fn across(
        (from, old): (&'v View<T>, NodeId),
        (to, new): (&'v View<T>, NodeId),
    ) -> Result<Self, JournalError> {
        let (old, new) = (from.open(old)?, to.open(new)?);
        let common = old.size().min(new.size());
        let (old, full) = (Some(old), Some(0));
        Ok(Pieces {
            old,
            new,
            changed: None,
            full,
            common,
            at: common,
            ready: VecDeque::new(),
            before: Vec::new(),
            spares: Spares::new(0),
        })
    }

    /// From an empty file to its state in `view`.
    pub fn whole(view: &'v View<T>, node: NodeId) -> Result<Self, JournalError> {
        Ok(Pieces {
            old: None,
            new: view.open(node)?,
            changed: None,
            full: None,
            common: 0,
            at: 0,
            ready: VecDeque::new(),
            before: Vec::new(),
            spares: Spares::new(0),
        })
    }

    /// The same, with memory that is shared with others and used again.
    pub fn with_spares(mut self, spares: &Spares) -> Self {
        self.spares = spares.clone();
        self
    }

    /// Size in the old state.
    pub fn old_size(&self) -> u64 {
        self.old.as_ref().map_or(0, ViewFile::size)
    }

    /// Size in the new state.
    pub fn new_size(&self) -> u64 {
        self.new.size()
    }

    /// Bytes both states have.
    pub fn common(&self) -> u64 {
        self.common
    }

    /// The next range to look at, at most [`WRITE_BYTES_MAX`] long.
    fn window(&mut self) -> Result<Option<Range<u64>>, JournalError> {
        if let Some(at) = self.full.filter(|at| *at < self.common) {
            let end = self.common.min(at + WRITE_BYTES_MAX as u64);
            self.full = Some(end);
            return Ok(Some(at..end));
        }
        if let Some(changed) = &mut self.changed {
            if let Some(range) = next_changed(changed, self.common)? {
                return Ok(Some(range));
            }
            self.changed = None;
            self.at = self.common;
        }
        let Some(range) = self.new.next_data(self.at)? else { return Ok(None) };
        let end = range.end.min(range.start + WRITE_BYTES_MAX as u64);
        self.at = end;
        Ok(Some(range.start..end))
    }

    fn compare(&mut self, window: Range<u64>) -> Result<(), JournalError> {
        // Of what has changed since, undo alone often says all.
        let undone = match &self.changed {
            Some(_) => self.new.undo_pieces(window.clone())?,
            None => None,
        };
        let length = (window.end - window.start) as usize;
        let new = match undone {
            // Few pages would come out of short ones, each a change of its own.
            Some(pieces) if pieces.len() == 1 || pieces.len() * PIECE_BYTES_MIN <= length => pieces,
            Some(pieces) => {
                let mut new = self.spares.take(length);
                // They follow one another without a gap, and so fill it.
                for UndonePiece { range, bytes, .. } in pieces {
                    let within = (range.start - window.start) as usize..(range.end - window.start) as usize;
                    new.as_mut().get_mut(within).unwrap_or_default().copy_from_slice(&bytes);
                }
                vec![UndonePiece { range: window.clone(), bytes: new.into(), from: None }]
            }
            None => {
                let mut new = self.spares.take(length);
                let read = self.new.read_at(new.as_mut(), window.start)?;
                new.as_mut().get_mut(read..).unwrap_or_default().fill(0);
                vec![UndonePiece { range: window.clone(), bytes: new.into(), from: None }]
            }
        };
        let mut before = std::mem::take(&mut self.before);
        if before.len() < length {
            before.resize(length, 0);
        }
        let mut old = None;
        if let Some(file) = &mut self.old {
            let buffer = before.get_mut(..length).unwrap_or_default();
            let read = file.read_at(buffer, window.start)?;
            buffer.get_mut(read..).unwrap_or_default().fill(0);
            old = Some(&*buffer);
        }
        for new in new {
            let (start, end) = (new.range.start - window.start, new.range.end - window.start);
            let old = old.map(|old| old.get(start as usize..end as usize).unwrap_or_default());
            runs(&new, old, &mut self.ready);
        }
        self.before = before;
        Ok(())
    }
}

/// Compares a piece of the new state, page by page, and puts runs of pages that differ into `ready`. Without an old state it
/// is zeros.
fn runs(piece: &UndonePiece, old: Option<&[u8]>, ready: &mut VecDeque<Piece>) {
    let (start, new) = (piece.range.start, &piece.bytes);
    let mut at = 0;
    let mut run: Option<(bool, Range<usize>)> = None;
    while at < new.len() {
        let page_end = ((start + at as u64) / PAGE_BYTES + 1) * PAGE_BYTES;
        let end = new.len().min((page_end - start) as usize);
        let after = new.get(at..end).unwrap_or_default();
        let zeros = is_zero(after);
        let same = old.map_or(zeros, |old| old.get(at..end) == Some(after));
        let differs = (!same).then_some(zeros);
        match (&mut run, differs) {
            (Some((zero, range)), Some(zeros)) if *zero == zeros => range.end = end,
            (run, differs) => {
                ready.extend(run.take().map(|run| run_of(piece, run)));
                *run = differs.map(|zeros| (zeros, at..end));
            }
        }
        at = end;
    }
    ready.extend(run.map(|run| run_of(piece, run)));
}

fn run_of(piece: &UndonePiece, (zeros, range): (bool, Range<usize>)) -> Piece {
    let (offset, bytes) = (piece.range.start + range.start as u64, range.len() as u64);
    let new = &piece.bytes;
    // Saying where they lie takes as much as some bytes do.
    let undone = piece.from.filter(|_| !zeros && range.len() as u64 >= PAGE_BYTES);
    let undone =
        undone.and_then(|(at, skip)| Some((at, skip.checked_add(u32::try_from(range.start).ok()?)?)));
    let data = (!zeros).then(|| {
        let data = new.slice(range);
        // What waits is counted by its length, and so must not hold much more than that.
        if data.len() * 2 < new.len() { Bytes::copy_from_slice(&data) } else { data }
    });
    Piece { offset, bytes, data, undone }
}

/// The next changed extents below `end`, adjacent ones together.
fn next_changed(
    changed: &mut Peekable<ChangedExtents<'_>>,
    end: u64,
) -> Result<Option<Range<u64>>, JournalError> {
    let Some(first) = changed.next().transpose()? else { return Ok(None) };
    if first.start >= end {
        return Ok(None);
    }
    let mut range = first.start..first.end.min(end);
    while let Some(Ok(next)) = changed.peek() {
        let joined = next.end.min(end);
        if next.start != range.end || next.start >= end || joined - range.start > WRITE_BYTES_MAX as u64 {
            break;
        }
        range.end = joined;
        changed.next();
    }
    Ok(Some(range))
}

impl<T: TreeIo> Iterator for Pieces<'_, T> {
    type Item = Result<Piece, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            let window = match self.window() {
                Ok(window) => window?,
                Err(error) => return Some(Err(error)),
            };
            if let Err(error) = self.compare(window) {
                return Some(Err(error));
            }
        }
    }
}

/// Whether the bytes of a file are the same in both views.
pub(crate) fn same_bytes<T: TreeIo>(
    from: &View<T>,
    to: &View<T>,
    node: NodeId,
) -> Result<bool, JournalError> {
    let mut pieces = Pieces::between(from, to, node)?;
    if pieces.old_size() != pieces.new_size() {
        return Ok(false);
    }
    Ok(pieces.next().transpose()?.is_none())
}

/// Bytes in which a file differs between two views, in whole pages, and those by which one is longer. `None` if the
/// file is the same in both.
pub(crate) fn bytes_differing<T: TreeIo>(
    from: &View<T>,
    to: &View<T>,
    node: NodeId,
) -> Result<Option<u64>, JournalError> {
    let pieces = Pieces::between(from, to, node)?;
    let common = pieces.common();
    let mut bytes = pieces.old_size().abs_diff(pieces.new_size());
    for piece in pieces {
        let piece = piece?;
        if piece.offset >= common {
            break;
        }
        bytes += piece.bytes;
    }
    Ok((bytes > 0).then_some(bytes))
}

/// Bytes that may have to be written so that the state of a file in `from` becomes that in `to`: an upper limit that
/// takes no reading.
pub(crate) fn bytes_at_most<T: TreeIo>(
    from: Option<&View<T>>,
    to: &View<T>,
    node: NodeId,
) -> Result<u64, JournalError> {
    let mut new = to.open(node)?;
    let mut bytes = 0;
    let mut at = 0;
    if let Some(from) = from {
        at = from.open(node)?.size().min(new.size());
        let (older, newer) = if from.lsn() <= to.lsn() { (from, to) } else { (to, from) };
        for extent in older.changed_extents(node, newer.lsn(), 0) {
            let extent = extent?;
            if extent.start >= at {
                break;
            }
            bytes += extent.end.min(at) - extent.start;
        }
    }
    while at < new.size() {
        let Some(range) = new.next_data(at)? else { break };
        bytes += range.end - range.start;
        at = range.end;
    }
    Ok(bytes)
}
