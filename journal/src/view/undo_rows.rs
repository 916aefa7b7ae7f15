//! Undo of the bytes of one file after a point, read in one walk.
//!
//! Rows are sorted by chunk and, within a chunk, by LSN. Those at or before the point lie between those that are wanted;
//! of a few of them it is cheaper to step over them than to look for what comes behind, which costs as much as reading
//! some dozen rows.

use crate::error::JournalError;
use crate::id::NodeId;
use crate::lsn::Lsn;
use crate::record::UndoSource;
use crate::state::rows;
use crate::tables::{Row, Space, Tables};

/// Rows stepped over before the next one that may count is looked for.
const STEPS_MAX: u32 = 16;

/// One extent of undo.
pub(super) struct UndoRow {
    pub(super) chunk: u64,
    /// First byte, counted from the start of the chunk.
    pub(super) within: u32,
    pub(super) bytes: u32,
    pub(super) source: UndoSource,
}

/// Rows of a file with `after < lsn <= upto`, by chunk, then LSN, then offset.
pub(super) struct UndoRows<'t> {
    tables: &'t dyn Tables,
    node: NodeId,
    /// The first LSN that counts.
    first: Lsn,
    upto: Lsn,
    /// The first chunk that counts.
    chunk: u64,
    end: Vec<u8>,
    rows: Box<dyn DoubleEndedIterator<Item = Result<Row, JournalError>> + 't>,
    stepped: u32,
}

impl<'t> UndoRows<'t> {
    /// From chunk `chunk` to the one before `end`, a key.
    pub(super) fn new(
        tables: &'t dyn Tables,
        node: NodeId,
        (after, upto): (Lsn, Lsn),
        chunk: u64,
        end: Vec<u8>,
    ) -> Self {
        let first = after.successor();
        let rows = tables.range(Space::DataUndo, &rows::data_undo_key(node, chunk, first, 0), &end);
        UndoRows { tables, node, first, upto, chunk, end, rows, stepped: 0 }
    }

    /// Nothing more is wanted of this chunk.
    pub(super) fn leave(&mut self, chunk: u64) {
        self.chunk = self.chunk.max(chunk.saturating_add(1));
    }

    /// Steps over a row; after some of them the walk goes on at the first row of `chunk` that may count.
    fn step(&mut self, chunk: u64) {
        self.stepped += 1;
        if self.stepped >= STEPS_MAX {
            self.stepped = 0;
            let from = rows::data_undo_key(self.node, chunk, self.first, 0);
            self.rows = self.tables.range(Space::DataUndo, &from, &self.end);
        }
    }

    fn look(&mut self) -> Result<Option<UndoRow>, JournalError> {
        while let Some(row) = self.rows.next() {
            let (key, value) = row?;
            let (_, chunk, lsn, within) = rows::parse_data_undo_key(&key)?;
            if chunk < self.chunk {
                self.step(self.chunk);
            } else if lsn < self.first {
                self.step(chunk);
            } else if lsn > self.upto {
                self.step(chunk.saturating_add(1));
            } else {
                self.stepped = 0;
                let (bytes, source): (u32, UndoSource) = rows::read(Space::DataUndo, &value)?;
                return Ok(Some(UndoRow { chunk, within, bytes, source }));
            }
        }
        Ok(None)
    }
}

impl Iterator for UndoRows<'_> {
    type Item = Result<UndoRow, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.look().transpose()
    }
}

#[cfg(test)]
mod tests;
