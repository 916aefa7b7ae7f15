//! Where the bytes of a file may differ from a point, without reading any.
//!
//! Undo rows of bytes say which extents changed after a point. Walking them seeks from chunk to chunk, so the cost
//! follows what changed, not the size of the file. Together with the holes of the present file they also say where
//! the file of a point surely reads as zeros: where the present is a hole and nothing changed since. The present is
//! looked at first and undo second, as everywhere in views.

use super::undo_rows::{UndoRow, UndoRows};
use super::{View, ViewFile};
use crate::error::JournalError;
use crate::extents::ExtentMap;
use crate::id::NodeId;
use crate::lsn::Lsn;
use crate::state::rows::{self, CHUNK_BYTES};
use crate::tables::{Space, prefix_end};
use crate::tree::{TreeFile, TreeIo};
use std::ops::Range;

/// Extents of a file that changed after a view's point and not after another one; ascending, disjoint.
pub struct ChangedExtents<'v> {
    rows: UndoRows<'v>,
    /// The first row of the next chunk.
    next: Option<UndoRow>,
    found: std::vec::IntoIter<Range<u64>>,
    over: bool,
}

impl<T: TreeIo> View<T> {
    /// Extents of `node` whose bytes changed after this view's point, up to and including `upto`, from the chunk that
    /// holds `offset` on. Bytes behind the size the file had at the point are not among them.
    #[must_use]
    pub fn changed_extents(&self, node: NodeId, upto: Lsn, offset: u64) -> ChangedExtents<'_> {
        let end = prefix_end(&node.to_key());
        let rows = UndoRows::new(&*self.tables, node, (self.lsn, upto), offset / CHUNK_BYTES, end);
        ChangedExtents { rows, next: None, found: Vec::new().into_iter(), over: false }
    }
}

impl ChangedExtents<'_> {
    /// Finds the extents of the next chunk that has any; an empty list means that there are no more.
    fn next_chunk(&mut self) -> Result<Vec<Range<u64>>, JournalError> {
        let first = match self.next.take() {
            Some(first) => Some(first),
            None => self.rows.next().transpose()?,
        };
        let Some(first) = first else { return Ok(Vec::new()) };
        let chunk = first.chunk;
        let start = chunk.saturating_mul(CHUNK_BYTES);
        let whole = start..start.saturating_add(CHUNK_BYTES);
        let mut changed = ExtentMap::default();
        let mut row = Some(first);
        while let Some(one) = row.take() {
            if one.chunk != chunk {
                self.next = Some(one);
                break;
            }
            let first = start.saturating_add(u64::from(one.within));
            changed.insert(first..first.saturating_add(u64::from(one.bytes)).min(whole.end), ());
            row = self.rows.next().transpose()?;
        }
        let mut extents: Vec<Range<u64>> = Vec::new();
        for (piece, value) in changed.pieces(whole) {
            match (value, extents.last_mut()) {
                (None, _) => {}
                (Some(()), Some(last)) if last.end == piece.start => last.end = piece.end,
                (Some(()), _) => extents.push(piece),
            }
        }
        Ok(extents)
    }
}

impl Iterator for ChangedExtents<'_> {
    type Item = Result<Range<u64>, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(extent) = self.found.next() {
                return Some(Ok(extent));
            }
            if self.over {
                return None;
            }
            match self.next_chunk() {
                Ok(extents) => {
                    self.over = extents.is_empty();
                    self.found = extents.into_iter();
                }
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl<T: TreeIo> ViewFile<'_, T> {
    /// The next range at or after `offset` that may hold anything but zeros, cut at the end of the file; `None` if
    /// all the rest reads as zeros.
    ///
    /// # Errors
    /// `Tree`, `Drift`.
    pub fn next_data(&mut self, offset: u64) -> Result<Option<Range<u64>>, JournalError> {
        if offset >= self.size {
            return Ok(None);
        }
        // Present first, undo second: a hole that was no hole at the point has undo.
        let present = self.present()?.next_data(offset).map_err(|source| JournalError::Tree {
            operation: "look for holes",
            object: self.node.to_string(),
            source,
        })?;
        let present = present.map(|(start, end)| start..end);
        let mut changed = None;
        for extent in self.view.changed_extents(self.node, Lsn::MAX, offset) {
            let extent = extent?;
            if extent.end > offset {
                changed = Some(extent);
                break;
            }
        }
        let first = match (present, changed) {
            (Some(a), Some(b)) => Some(if a.start <= b.start { a } else { b }),
            (a, b) => a.or(b),
        };
        Ok(first
            .map(|range| range.start.max(offset)..range.end.min(self.size))
            .filter(|range| range.start < range.end))
    }

    /// Refuses a file that was opened and is shorter than it is known to be: somebody cut it behind the replica's back, and
    /// what is missing was read as zeros. Only while nothing has changed the node since the point; afterwards a file may have
    /// any length for a while, and undo says what it held.
    ///
    /// # Errors
    /// `Drift`; `Tree`, those of the tables.
    pub fn check_length(&mut self) -> Result<(), JournalError> {
        let Some(present) = &self.present else { return Ok(()) };
        let stat = present.stat().map_err(|source| JournalError::Tree {
            operation: "look at",
            object: self.node.to_string(),
            source,
        })?;
        if stat.size >= self.size {
            return Ok(());
        }
        // Present first, undo second: who shortens it has published that before.
        let from = rows::node_undo_key(self.node, self.view.lsn.successor());
        let to = rows::node_undo_key(self.node, Lsn::MAX);
        match self.view.tables.range(Space::NodeUndo, &from, &to).next() {
            Some(row) => row.map(drop),
            None => Err(JournalError::Drift {
                object: self.node.to_string(),
                what: "it ends before its size: somebody has cut it",
            }),
        }
    }
}
