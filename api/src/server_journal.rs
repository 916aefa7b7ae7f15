//! The journal of the daemon itself, as its users here see it.
//!
//! Scenarios, jobs and the activity log are records in one server journal, in the format of every other journal. All
//! that is kept about them elsewhere is a projection of it.

use journal::JournalError;
use std::ops::ControlFlow;

/// When an append returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When the record is on disk: whatever is answered to a client.
    Synced,
    /// When it is in order; it reaches the disk with the next synced one, or soon: lines of the log.
    Eventual,
}

/// Type and version of a record; each number has one frozen layout (see [`crate::records`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKind(pub u16);

/// Place of a record: 1 for the first one, then without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Receives records in order; `Break` ends the replay.
pub type EachRecord<'a> = &'a mut dyn FnMut(Position, RecordKind, &[u8]) -> ControlFlow<()>;

/// An append-only sequence of small records (at most 1 MiB each).
pub trait ServerJournal: Send + Sync + 'static {
    /// Appends a record and says where it is. Records get their positions in the order of the calls.
    ///
    /// # Errors
    /// As any append to a journal; then the record may or may not be there after a restart.
    fn append(
        &self,
        kind: RecordKind,
        bytes: &[u8],
        durability: Durability,
    ) -> Result<Position, JournalError>;

    /// Reads all records behind a position, oldest first, those appended before the call at least. Records that were
    /// given back by retention are not there any more.
    ///
    /// # Errors
    /// Damage and I/O.
    fn replay(&self, after: Position, each: EachRecord<'_>) -> Result<(), JournalError>;
}
