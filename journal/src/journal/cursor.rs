//! The undo stream, one writer at a time; the durable cursor in it; and the head row of the tables, which says from where a
//! start reads it.
//!
//! A start takes the cursor from the head row, or a later one from the stream behind the end that the row names. So a row that
//! names an end behind a record of the cursor must have that cursor: else the start would go on from an older one, for
//! which retention need not keep anything. Whoever reads end and cursor has the turn of the writer, and who moves the
//! cursor says so before it gives its turn away.

use super::{HEAD_KEY, Journal, TablesHead};
use crate::error::JournalError;
use crate::log::{Log, RecordAt};
use crate::lsn::Lsn;
use crate::record::{Applied, UndoRecord};
use crate::state::rows;
use crate::tables::{Put, Space};

impl Journal {
    /// Runs `append` on the undo stream and commits what it appended; takes it back if it fails.
    ///
    /// # Errors
    /// Those of `append` and of the commit.
    pub fn write_undo<R>(
        &self,
        append: impl FnOnce(&Log) -> Result<R, JournalError>,
    ) -> Result<R, JournalError> {
        self.write_undo_and(append, || ())
    }

    /// The same; what it says in memory is true before anybody else looks where the stream ends.
    fn write_undo_and<R>(
        &self,
        append: impl FnOnce(&Log) -> Result<R, JournalError>,
        note: impl FnOnce(),
    ) -> Result<R, JournalError> {
        let _turn = self.undo_turn.lock();
        let written = append(&self.undo).and_then(|result| self.undo.commit().map(|_| result));
        if written.is_err() && !self.undo.is_poisoned() {
            self.undo.rollback()?;
        }
        if written.is_ok() {
            note();
        }
        written
    }

    /// Commits rows of a batch, with the head row that says so. `last` is its last LSN; `redo` the place from which
    /// the next capture is to be read.
    ///
    /// # Errors
    /// As the tables.
    pub fn publish(&self, mut puts: Vec<Put>, last: Lsn, redo: RecordAt) -> Result<(), JournalError> {
        // As one: a start that reads undo from this end on must not miss a cursor in front of it.
        let turn = self.undo_turn.lock();
        let (cursor, cursor_redo) = {
            let heads = self.heads.lock();
            (heads.cursor, heads.cursor_redo)
        };
        let undo = self.undo.end();
        drop(turn);
        let head = TablesHead {
            version: rows::TABLES_VERSION,
            journal: self.id(),
            published: (last.captured, last.local),
            redo,
            undo,
            cursor: (cursor.captured, cursor.local),
            cursor_redo,
        };
        puts.push((Space::Heads, HEAD_KEY.to_vec(), Some(rows::write(&head))));
        puts.push(self.remember());
        self.tables.commit(puts)
    }

    /// Moves the durable cursor: call after the tree was synced. `inodes` are those of nodes created since.
    ///
    /// # Errors
    /// As the log and the tables.
    pub fn advance_cursor(
        &self,
        lsn: Lsn,
        redo: RecordAt,
        inodes: &[(crate::id::NodeId, u64)],
    ) -> Result<(), JournalError> {
        const INODES_MAX: usize = 100_000;
        let now = self.clock.now();
        let append = |undo: &Log| {
            let mut rest = inodes;
            loop {
                let (some, more) = rest.split_at(rest.len().min(INODES_MAX));
                let applied = Applied {
                    captured: lsn.captured,
                    local: lsn.local,
                    redo,
                    inodes: some.to_vec(),
                    more: !more.is_empty(),
                };
                undo.append(&UndoRecord::applied_draft(&applied, now))?;
                rest = more;
                if rest.is_empty() {
                    return Ok(());
                }
            }
        };
        self.write_undo_and(append, || {
            let mut heads = self.heads.lock();
            heads.cursor = heads.cursor.max(lsn);
            heads.cursor_redo = redo;
        })?;
        self.end_leases();
        Ok(())
    }
}
