//! What can go wrong in the journal.

use crate::lsn::Lsn;
use std::io;
use std::path::PathBuf;

/// How a caller should react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Stored bytes are not what was written: stop, say where.
    Damaged,
    /// The system refused a read or a write; may pass.
    Io,
    /// The disk is full: wait for room.
    Full,
    /// An fsync failed earlier; reopen the journal.
    Poisoned,
    /// The point or object asked for is not there.
    NotFound,
    /// Refused in the present state.
    State,
    /// The replica tree is not as the journal says.
    Drift,
}

/// A failed operation of the journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file of the journal could not be read or written.
    #[error("{operation} {path}")]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    /// The replica tree could not be read or changed.
    #[error("{operation} in the replica tree ({object})")]
    Tree { operation: &'static str, object: String, source: io::Error },
    /// Bytes of a segment, manifest or checkpoint are damaged.
    #[error("{path} is damaged at offset {offset}: {what}")]
    Damaged { path: PathBuf, offset: u64, what: &'static str },
    /// A record has a version this program does not know.
    #[error("{path} was written in format version {version}, newer than this program knows")]
    NewerVersion { path: PathBuf, version: u32 },
    /// A record is longer than the format allows.
    #[error("a record with {what} of {size} exceeds the limit of {limit}")]
    TooLong { what: &'static str, size: u64, limit: u64 },
    /// A failed fsync made the state of the file unknown.
    #[error("the journal in {path} takes no more writes since an fsync failed")]
    Poisoned { path: PathBuf },
    /// Somebody else has the journal open.
    #[error("the journal in {path} is in use by another process")]
    InUse { path: PathBuf },
    /// The point lies outside what retention has kept.
    #[error("LSN {lsn} is outside the window ({oldest} to {newest})")]
    OutsideWindow { lsn: Lsn, oldest: Lsn, newest: Lsn },
    /// The point was given up by thinning; the points next to it were not.
    #[error("LSN {lsn} was thinned out; the points next to it that are kept are {before} and {after}")]
    Thinned { lsn: Lsn, before: Lsn, after: Lsn },
    /// A capture is not the successor of the last one.
    #[error("capture {found} came where {expected} was due")]
    OutOfOrder { expected: Lsn, found: Lsn },
    /// The replica tree is not as the journal says it is.
    #[error("the replica tree differs from the journal: {object}: {what}")]
    Drift { object: String, what: &'static str },
    /// Nothing there under that name.
    #[error("no such {what}: {name}")]
    NotFound { what: &'static str, name: String },
    /// A name is taken.
    #[error("{what} {name} exists")]
    Exists { what: &'static str, name: String },
    /// The tables could not be read or written.
    #[error("{operation} in the tables")]
    Tables { operation: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    /// A row of the tables does not decode: the projection must be rebuilt.
    #[error("a row of table {space} does not decode")]
    BadRow { space: &'static str },
    /// Apply has stopped or pauses, and what was asked for would have to wait for it.
    #[error("apply does not go on: {why}")]
    Halted { kind: ErrorKind, why: String },
    /// A first synchronization that says it is complete is not.
    #[error(
        "bytes of {files} files ({first} among them) were lost with a restart of the replica and must be sent again"
    )]
    Incomplete { files: u64, first: String },
    /// An event cannot be applied to the tree it refers to.
    #[error("capture {lsn} does not fit the tree: {what}")]
    Inconsistent { lsn: Lsn, what: &'static str },
}

impl JournalError {
    /// How a caller should react.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            JournalError::File { source, .. } | JournalError::Tree { source, .. } => {
                match source.raw_os_error() {
                    Some(libc_enospc) if libc_enospc == ENOSPC || libc_enospc == EDQUOT => ErrorKind::Full,
                    _ => ErrorKind::Io,
                }
            }
            JournalError::Damaged { .. } | JournalError::NewerVersion { .. } => ErrorKind::Damaged,
            JournalError::Poisoned { .. } => ErrorKind::Poisoned,
            JournalError::InUse { .. }
            | JournalError::OutOfOrder { .. }
            | JournalError::Exists { .. }
            | JournalError::Incomplete { .. }
            | JournalError::TooLong { .. } => ErrorKind::State,
            JournalError::Halted { kind, .. } => *kind,
            JournalError::OutsideWindow { .. }
            | JournalError::Thinned { .. }
            | JournalError::NotFound { .. } => ErrorKind::NotFound,
            JournalError::Drift { .. } | JournalError::Inconsistent { .. } => ErrorKind::Drift,
            JournalError::Tables { operation, source } => kind_of_tables(operation, &**source),
            JournalError::BadRow { .. } => ErrorKind::Io,
        }
    }

    /// Whether the same call may succeed later without anybody's help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind(), ErrorKind::Full)
    }
}

/// A batch that fjall could not write, or not make durable, is its last until it is opened anew, whatever the cause and
/// room or not: nothing here passes by itself. Who only opens tables may do so again.
fn kind_of_tables(operation: &str, source: &(dyn std::error::Error + Send + Sync + 'static)) -> ErrorKind {
    let writes = matches!(operation, "commit" | "persist");
    match source.downcast_ref::<fjall::Error>() {
        Some(fjall::Error::Poisoned) => ErrorKind::Poisoned,
        Some(fjall::Error::Io(_)) if writes => ErrorKind::Poisoned,
        Some(fjall::Error::Io(source)) if matches!(source.raw_os_error(), Some(ENOSPC | EDQUOT)) => {
            ErrorKind::Full
        }
        _ => ErrorKind::Io,
    }
}

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
