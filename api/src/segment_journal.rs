//! The server journal on segment files: the format of every other journal, one control record an entry.
//!
//! Positions count records from 1. They are given out under a lock that also hands the record to the writer, so the
//! order of positions is the order in the file. A record that failed keeps its position until the next start, which
//! counts what is there; nobody has been told of it.

use crate::server_journal::{Durability, EachRecord, Position, RecordKind, ServerJournal};
use journal::disk::OsDisk;
use journal::journal::{Clock, SystemClock};
use journal::log::{GroupCommit, GroupOptions, Log, LogOptions, LogSet, Stream};
use journal::record::{Control, RedoRecord};
use journal::{JournalError, Timestamp};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A server journal in a directory.
pub struct SegmentJournal {
    directory: PathBuf,
    log: Arc<Log>,
    group: GroupCommit,
    last: Mutex<u64>,
    /// Held: it owns the lock of the directory.
    _set: LogSet,
}

impl SegmentJournal {
    /// Opens the server journal in `directory`, creating it if there is none.
    ///
    /// # Errors
    /// `InUse` if another daemon has it, `Damaged`, `File`.
    pub fn open(directory: &Path) -> Result<Self, JournalError> {
        let options = LogOptions { segment_bytes_max: 16 << 20, ..LogOptions::default() };
        let set = LogSet::open(Arc::new(OsDisk), directory, options)?;
        let log = Arc::clone(set.log(Stream::Redo));
        let mut count = 0;
        for record in log.read(log.first()) {
            record?;
            count += 1;
        }
        let group = GroupCommit::start(Arc::clone(&log), GroupOptions::default())?;
        Ok(SegmentJournal { directory: directory.to_owned(), log, group, last: Mutex::new(count), _set: set })
    }

    fn damaged(&self, segment: u64, offset: u64, what: &'static str) -> JournalError {
        JournalError::Damaged { path: self.directory.join(Stream::Redo.file_name(segment)), offset, what }
    }
}

impl ServerJournal for SegmentJournal {
    fn append(
        &self,
        kind: RecordKind,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<Position, JournalError> {
        let control = RedoRecord::Control(Control::Server { kind: kind.0, body: bytes.to_vec() });
        let now: Timestamp = SystemClock.now();
        let draft = control.to_draft(now).map_err(|error| self.damaged(0, 0, error.0))?;
        let (position, ticket) = {
            let mut last = self.last.lock();
            *last += 1;
            (Position(*last), self.group.submit(vec![draft]))
        };
        match durability {
            Durability::Synced => {
                ticket.wait()?;
            }
            // It is in order and on its way; a failure shows in the next synced append.
            Durability::Eventual => drop(ticket),
        }
        Ok(position)
    }

    fn replay(&self, after: Position, each: EachRecord<'_>) -> Result<(), JournalError> {
        let mut position = 0;
        for record in self.log.read(self.log.first()) {
            let record = record?;
            position += 1;
            if position <= after.0 {
                continue;
            }
            let damaged = |what| self.damaged(record.at.segment, record.at.offset, what);
            match RedoRecord::from_stored(&record).map_err(|error| damaged(error.0))? {
                RedoRecord::Control(Control::Server { kind, body }) => {
                    if each(Position(position), RecordKind(kind), &body).is_break() {
                        return Ok(());
                    }
                }
                _ => return Err(damaged("a record that does not belong into a server journal")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    fn all(journal: &SegmentJournal, after: u64) -> Vec<(u64, u16, Vec<u8>)> {
        let mut found = Vec::new();
        journal
            .replay(Position(after), &mut |position, kind, bytes| {
                found.push((position.0, kind.0, bytes.to_vec()));
                ControlFlow::Continue(())
            })
            .unwrap();
        found
    }

    #[test]
    fn records_come_back_in_order_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        {
            let journal = SegmentJournal::open(directory.path()).unwrap();
            assert_eq!(journal.append(RecordKind(7), b"one", Durability::Eventual).unwrap(), Position(1));
            assert_eq!(journal.append(RecordKind(8), b"two", Durability::Synced).unwrap(), Position(2));
            assert!(matches!(SegmentJournal::open(directory.path()), Err(JournalError::InUse { .. })));
        }
        let journal = SegmentJournal::open(directory.path()).unwrap();
        assert_eq!(journal.append(RecordKind(9), b"three", Durability::Synced).unwrap(), Position(3));
        let expected = [(1, 7, b"one".to_vec()), (2, 8, b"two".to_vec()), (3, 9, b"three".to_vec())];
        assert_eq!(all(&journal, 0), expected);
        assert_eq!(all(&journal, 2), expected[2..]);
    }
}
