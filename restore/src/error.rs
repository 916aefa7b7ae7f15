//! What can go wrong in rewind, difference and extraction.

use journal::serialize::SerializeError;
use journal::{JournalError, Lsn, MasterLinkError, NodeId, RootNo};
use std::io;
use std::path::PathBuf;

/// How a caller should react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The point, path or bookmark asked for is not there.
    NotFound,
    /// Refused in the present state.
    State,
    /// Stopped because somebody asked. The same call goes on where this one ended.
    Cancelled,
    /// No room; may pass.
    Full,
    /// The system refused a read or a write; may pass.
    Io,
    /// Stored bytes are not what was written.
    Damaged,
    /// The replica tree is not as the journal says.
    Drift,
}

/// A failed operation of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The journal, its tables or the replica tree could not be read or changed.
    #[error("{operation}")]
    Journal { operation: &'static str, source: JournalError },
    /// No order of name changes leads to the point: its names do not form a tree.
    #[error("order the changed names of root {}", root.0)]
    Names { root: RootNo, source: Box<SerializeError<JournalError>> },
    /// A node that the point shows is no longer kept.
    #[error("{node} belongs to the point and is no longer kept")]
    Gone { node: NodeId },
    /// The path exists neither now nor at the point.
    #[error("{} exists neither at the point nor now", String::from_utf8_lossy(path))]
    NoSuchPath { path: Vec<u8> },
    /// The path cannot be brought back without changing what lies outside it.
    #[error(
        "{} is no directory now, and {} lies below it",
        String::from_utf8_lossy(blocked),
        String::from_utf8_lossy(path)
    )]
    PathBlocked { path: Vec<u8>, blocked: Vec<u8> },
    /// No point with that name, number or time.
    #[error("there is no point {point}")]
    NoSuchPoint { point: String },
    /// The point lies behind what the replica has applied.
    #[error("{to} is not applied yet: the replica stands at {applied}")]
    NotApplied { to: Lsn, applied: Lsn },
    /// The directory to restore into holds something.
    #[error("{path} is not empty")]
    NotEmpty { path: PathBuf },
    /// The directory to restore into could not be read or written.
    #[error("{operation} {}", String::from_utf8_lossy(path))]
    Target { operation: &'static str, path: Vec<u8>, source: io::Error },
    /// The master did not do its part.
    #[error("{operation} of the master")]
    Master { operation: &'static str, source: MasterLinkError },
    /// More than fits into memory.
    #[error("there are more than {most} {what}")]
    TooMuch { what: &'static str, most: u64 },
    /// Ids that nothing uses could not be found.
    #[error("find an unused id")]
    NoFreeId,
    /// The system gives no thread.
    #[error("start a thread")]
    Thread { source: io::Error },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl RestoreError {
    /// How a caller should react.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            RestoreError::Journal { source, .. } => of_journal(source),
            RestoreError::Names { source, .. } => match source.as_ref() {
                SerializeError::Before(source) => of_journal(source),
                _ => ErrorKind::Drift,
            },
            RestoreError::Gone { .. } | RestoreError::NoFreeId => ErrorKind::Drift,
            RestoreError::NoSuchPath { .. } | RestoreError::NoSuchPoint { .. } => ErrorKind::NotFound,
            RestoreError::PathBlocked { .. }
            | RestoreError::NotApplied { .. }
            | RestoreError::TooMuch { .. }
            | RestoreError::NotEmpty { .. } => ErrorKind::State,
            RestoreError::Target { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
                _ => ErrorKind::Io,
            },
            RestoreError::Thread { .. } => ErrorKind::Io,
            // Its own code says more.
            RestoreError::Master { .. } => ErrorKind::State,
            RestoreError::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind() == ErrorKind::Full
    }

    pub(crate) fn journal(operation: &'static str) -> impl Fn(JournalError) -> RestoreError {
        move |source| RestoreError::Journal { operation, source }
    }
}

fn of_journal(error: &JournalError) -> ErrorKind {
    match error.kind() {
        journal::ErrorKind::Damaged => ErrorKind::Damaged,
        journal::ErrorKind::Full => ErrorKind::Full,
        journal::ErrorKind::NotFound => ErrorKind::NotFound,
        journal::ErrorKind::State => ErrorKind::State,
        journal::ErrorKind::Drift => ErrorKind::Drift,
        journal::ErrorKind::Io | journal::ErrorKind::Poisoned => ErrorKind::Io,
    }
}
