//! What the tables remember of how far both streams are durable.
//!
//! Rot in the last batch of a stream looks like a torn tail to the stream itself. Whoever publishes rows knows better:
//! what was committed by then had been synced. So each publication leaves a row that says how far that was, and
//! opening holds the streams to it before it cuts anything. Tables are a projection and may be gone, or older than the
//! streams: then the row says less, never more. A row of another journal says nothing.

use super::Journal;
use crate::error::JournalError;
use crate::log::{LogOptions, RecordAt, Stream};
use crate::lsn::Lsn;
use crate::state::rows;
use crate::tables::{Put, Space, Tables};
use bincode::{Decode, Encode};
use std::path::Path;

const KEY: &[u8] = b"durable";

/// Ends of both streams when rows were published last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Remembered {
    journal: [u8; 16],
    redo: RecordAt,
    undo: RecordAt,
}

impl Journal {
    /// The row that goes with a publication.
    pub(super) fn remember(&self) -> Put {
        let row = Remembered { journal: self.id(), redo: self.redo.end(), undo: self.undo.end() };
        (Space::Heads, KEY.to_vec(), Some(rows::write(&row)))
    }
}

/// The options with which the streams of `journal` are to be opened, given the tables that were kept.
pub(super) fn held_to(mut options: LogOptions, journal: [u8; 16], tables: Option<&dyn Tables>) -> LogOptions {
    let row = tables.and_then(|tables| tables.get(Space::Heads, KEY).ok().flatten());
    let row = row.and_then(|row| rows::read::<Remembered>(Space::Heads, &row).ok());
    if let Some(known) = row.filter(|row| row.journal == journal) {
        options.durable_hint = options.durable_hint.max(Some(known.redo));
        options.undo_durable_hint = options.undo_durable_hint.max(Some(known.undo));
    }
    options
}

/// Refuses streams of which one knows more than the other: undo is only ever written of what redo holds, so captures up
/// to `published`, of which there is undo, were in front of the `end` of the redo stream. `taken`: those that are.
pub(super) fn all_there(
    directory: &Path,
    end: RecordAt,
    taken: Lsn,
    published: Lsn,
) -> Result<(), JournalError> {
    if taken >= published {
        return Ok(());
    }
    Err(JournalError::Damaged {
        path: directory.join(Stream::Redo.file_name(end.segment)),
        offset: end.offset,
        what: "changes that were applied are missing from the end of the redo stream",
    })
}
