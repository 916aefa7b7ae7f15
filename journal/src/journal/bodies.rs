//! From stored records to what they say. A body that does not decode is damage with its place; one of a later version is
//! none: a newer program wrote it, and calling that damage would send people looking for a broken disk.

use crate::error::JournalError;
use crate::log::{RecordAt, StoredRecord, Stream};
use crate::record::{BodyError, RedoRecord, UndoRecord};
use std::path::Path;

pub(super) fn bad_body(directory: &Path, stream: &str, at: RecordAt, error: BodyError) -> JournalError {
    let suffix = if stream == "redo" { Stream::Redo } else { Stream::Undo };
    JournalError::Damaged {
        path: directory.join(suffix.file_name(at.segment)),
        offset: at.offset,
        what: error.0,
    }
}

/// A body of a later version is no damage: a newer program wrote it.
fn check_version(directory: &Path, stream: Stream, record: &StoredRecord) -> Result<(), JournalError> {
    let known = match stream {
        Stream::Redo => RedoRecord::newest_version(record.kind),
        Stream::Undo => UndoRecord::newest_version(record.kind),
    };
    if record.version <= known {
        return Ok(());
    }
    let path = directory.join(stream.file_name(record.at.segment));
    Err(JournalError::NewerVersion { path, version: u32::from(record.version) })
}

/// Decodes a record of the redo stream.
pub(crate) fn redo_record(directory: &Path, record: &StoredRecord) -> Result<RedoRecord, JournalError> {
    check_version(directory, Stream::Redo, record)?;
    RedoRecord::from_stored(record).map_err(|error| bad_body(directory, "redo", record.at, error))
}

/// Decodes a record of the undo stream.
pub(crate) fn undo_record(directory: &Path, record: &StoredRecord) -> Result<UndoRecord, JournalError> {
    check_version(directory, Stream::Undo, record)?;
    UndoRecord::from_stored(record).map_err(|error| bad_body(directory, "undo", record.at, error))
}
