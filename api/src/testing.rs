//! What the unit tests of this crate share.

use crate::server_journal::{Durability, EachRecord, Position, RecordKind, ServerJournal};
use journal::JournalError;
use parking_lot::Mutex;

/// A server journal that forgets with the process.
#[derive(Default)]
pub(crate) struct MemoryServerJournal {
    records: Mutex<Vec<(RecordKind, Vec<u8>)>>,
}

impl ServerJournal for MemoryServerJournal {
    fn append(&self, kind: RecordKind, bytes: &[u8], _: Durability) -> Result<Position, JournalError> {
        let mut records = self.records.lock();
        records.push((kind, bytes.to_vec()));
        Ok(Position(records.len() as u64))
    }

    fn replay(&self, after: Position, each: EachRecord<'_>) -> Result<(), JournalError> {
        let records = self.records.lock().clone();
        for (at, (kind, bytes)) in records.iter().enumerate().skip(after.0 as usize) {
            if each(Position(at as u64 + 1), *kind, bytes).is_break() {
                break;
            }
        }
        Ok(())
    }
}
