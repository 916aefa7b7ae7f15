//! The records of a journal as fields that people and programs read: for `journal dump`, and for golden journals.
//!
//! One [`Item`] for each event of a capture and for each other record, in the order of the stream. Nothing is
//! interpreted: what a later record takes back, or what retention no longer promises, is there as it was written. Bytes
//! of files are not part of it, only where they lie. A path is the one the capture was given, which is for people; the
//! path where a node is now is looked up by whoever has tables ([`Paths`]), and is missing where it is nowhere.
//!
//! Memory is that of one record and a bounded number of remembered directories.

mod fields;
mod paths;

pub use fields::items;
pub use paths::Paths;

use crate::error::JournalError;
use crate::journal::{Journal, redo_record, undo_record};
use crate::log::{Log, RecordAt, StoredRecord, Stream};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::record::{RedoRecord, UndoRecord};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, size or id.
    Unsigned(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A word or text.
    Text(String),
    /// A name, path or other bytes, maybe not UTF-8.
    Bytes(Vec<u8>),
    /// Yes or no.
    Flag(bool),
    /// A point.
    Lsn(Lsn),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Unsigned(value) => write!(f, "{value}"),
            Value::Signed(value) => write!(f, "{value}"),
            Value::Text(value) => write!(f, "{value:?}"),
            Value::Bytes(value) => write!(f, "\"{}\"", value.escape_ascii()),
            Value::Flag(value) => write!(f, "{value}"),
            Value::Lsn(value) => write!(f, "{value}"),
        }
    }
}

/// A field and what it holds.
pub type Field = (&'static str, Value);

/// An event of a capture, or a record that holds none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The stream.
    pub stream: Stream,
    /// Where the record begins.
    pub at: RecordAt,
    /// Its point, where it has one.
    pub lsn: Option<Lsn>,
    /// The master's clock for captures and their undo, the replica's for the rest.
    pub time: Timestamp,
    /// What it is: `create`, `write`, `bookmark-set`, `undo-name`, `applied` ...
    pub kind: &'static str,
    /// The rest, in a fixed order.
    pub fields: Vec<Field>,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = match self.stream {
            Stream::Redo => "redo",
            Stream::Undo => "undo",
        };
        write!(f, "{stream} {} ", self.at)?;
        match self.lsn {
            Some(lsn) => write!(f, "{lsn}")?,
            None => write!(f, "-")?,
        }
        write!(f, " {} {}", self.time.0, self.kind)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// The part of a journal to dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First point.
    pub from: Lsn,
    /// Last point.
    pub to: Lsn,
}

impl Default for Range {
    fn default() -> Self {
        Range { from: Lsn::ZERO, to: Lsn::MAX }
    }
}

/// What a record of either stream says.
pub enum Record {
    /// Of the redo stream.
    Redo(RedoRecord),
    /// Of the undo stream.
    Undo(UndoRecord),
}

/// Committed records of a stream whose LSN is in the range, with those without an LSN between them. Whole segments that
/// lie in front of the range are stepped over. What is appended after the call is not waited for.
pub struct Records {
    log: Arc<Log>,
    reader: crate::log::LogReader,
    end: RecordAt,
    range: Range,
    /// Whether the last record with an LSN was in the range.
    within: bool,
}

impl Records {
    /// Those of a stream.
    #[must_use]
    pub fn new(log: &Arc<Log>, range: Range) -> Self {
        let before = |last: Option<Lsn>| last.is_none_or(|last| last < range.from);
        let segments = log.segments();
        let skipped =
            segments.iter().take_while(|one| one.sealed && range.from > Lsn::ZERO && before(one.lsn_last));
        let first = log.first();
        let number = skipped.last().map_or(first.segment, |last| last.number + 1);
        let from = RecordAt { segment: number, ..first };
        let (reader, end, within) = (log.read(from), log.end(), range.from == Lsn::ZERO);
        Records { log: Arc::clone(log), reader, end, range, within }
    }

    fn decode(&self, record: &StoredRecord) -> Result<Record, JournalError> {
        let directory: &Path = self.log.directory();
        match self.log.stream() {
            Stream::Redo => redo_record(directory, record).map(Record::Redo),
            Stream::Undo => undo_record(directory, record).map(Record::Undo),
        }
    }
}

impl Iterator for Records {
    type Item = Result<(StoredRecord, Record), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.reader.position() >= self.end {
                return None;
            }
            let record = match self.reader.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            if record.at >= self.end {
                return None;
            }
            if let Some(lsn) = record.lsn {
                self.within = (self.range.from..=self.range.to).contains(&lsn);
            }
            if self.within {
                return Some(self.decode(&record).map(|decoded| (record, decoded)));
            }
        }
    }
}

impl Journal {
    /// Gives every item of both streams in the range, redo first, until `take` says no.
    ///
    /// # Errors
    /// As the log: `Damaged` with the place where reading ends.
    pub fn dump(&self, range: Range, take: &mut dyn FnMut(Item) -> bool) -> Result<(), JournalError> {
        let mut paths = Paths::new(&**self.tables());
        for log in [self.redo(), self.undo()] {
            for record in Records::new(log, range) {
                let (stored, record) = record?;
                if !items(log.stream(), &stored, &record, &mut paths, take)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
