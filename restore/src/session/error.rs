//! What ends a restore. What concerns one object only is in the receipt.

use journal::{JournalError, MasterLinkError};
use snapshot::repository::{RepositoryError, RepositoryErrorKind};
use snapshot::store::StoreErrorKind;
use std::io;
use std::path::PathBuf;

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// A restore that was refused or ended early. What was written stays; the same restore goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionRestoreError {
    /// The repository or its store failed, in a way that concerns more than one object.
    #[error("{operation}")]
    Repository { operation: &'static str, source: RepositoryError },
    /// The session does not hold the path.
    #[error("the session does not hold {}", text(path))]
    NoSuchPath { path: Vec<u8> },
    /// Not a path that a session could hold.
    #[error("{} is not an absolute path without dot names", text(path))]
    PathRefused { path: Vec<u8> },
    /// Objects stand where the session would write, and the rule is `fail`. Nothing was written.
    #[error("{count} objects stand where the session would be written, the first is {}", text(first.first().map_or(b"", Vec::as_slice)))]
    Conflicts { first: Vec<Vec<u8>>, count: u64 },
    /// Something that is no directory stands above what is restored.
    #[error("{} is no directory in the target, and what is restored lies below it", text(path))]
    PathBlocked { path: Vec<u8> },
    /// Another process restores the same into the same target.
    #[error("the same restore into {target:?} is running")]
    Busy { target: PathBuf },
    /// A marker that we would have written belongs to somebody else.
    #[error("{marker} in {target:?} belongs to another user")]
    ForeignMarker { target: PathBuf, marker: String },
    /// More than is accepted from a repository.
    #[error("{what} exceeds the limit of {limit} at {}", text(path))]
    Limit { what: &'static str, limit: u64, path: Vec<u8> },
    /// The target could not be read or written.
    #[error("{operation} {}", text(path))]
    Target { operation: &'static str, path: Vec<u8>, source: io::Error },
    /// The journal of a scenario, its tables or the replica tree could not be read or changed.
    #[error("{operation}")]
    Journal { operation: &'static str, source: JournalError },
    /// The replica could not be brought to stop following its master. Nothing was changed.
    #[error("stop the replica from following its master")]
    NotStopped { source: JournalError },
    /// The master did not do its part.
    #[error("{operation} of the master")]
    Master { operation: &'static str, source: MasterLinkError },
    /// Two options that exclude each other.
    #[error("{what}")]
    Options { what: &'static str },
    /// What the session does not hold was to be removed, and it does not hold what could not be read.
    #[error("{}", super::receipt::lacking(*missed))]
    Lacking { missed: u64 },
    /// Somebody asked to stop.
    #[error("the restore was cancelled")]
    Cancelled,
}

/// How a caller should react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionRestoreErrorKind {
    /// No such path.
    NotFound,
    /// Something stands in the way.
    State,
    /// The target cannot be used now.
    Busy,
    /// The journal, the replica or the master: see the source.
    Scenario,
    /// The session is not complete.
    Lacking,
    /// Not a valid request, or beyond a limit.
    Refused,
    /// Stopped because somebody asked.
    Cancelled,
    /// No room.
    Full,
    /// The system refused a read or a write.
    Io,
    /// See the kind of the repository's error.
    Repository(RepositoryErrorKind),
}

impl SessionRestoreError {
    /// How a caller should react.
    #[must_use]
    pub fn kind(&self) -> SessionRestoreErrorKind {
        use SessionRestoreErrorKind as Kind;
        match self {
            Self::Repository { source, .. } => Kind::Repository(source.kind()),
            Self::NoSuchPath { .. } => Kind::NotFound,
            Self::PathRefused { .. } | Self::Options { .. } | Self::Limit { .. } => Kind::Refused,
            Self::Conflicts { .. } | Self::PathBlocked { .. } => Kind::State,
            Self::Busy { .. } | Self::ForeignMarker { .. } => Kind::Busy,
            Self::Journal { .. } | Self::NotStopped { .. } | Self::Master { .. } => Kind::Scenario,
            Self::Target { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
                _ => Kind::Io,
            },
            Self::Lacking { .. } => Kind::Lacking,
            Self::Cancelled => Kind::Cancelled,
        }
    }
}

/// An error of the target at a path.
pub(super) fn at<'p>(
    operation: &'static str,
    path: &'p [u8],
) -> impl Fn(io::Error) -> SessionRestoreError + use<'p> {
    move |source| SessionRestoreError::Target { operation, path: path.to_vec(), source }
}

pub(super) fn repository(operation: &'static str) -> impl Fn(RepositoryError) -> SessionRestoreError {
    move |source| SessionRestoreError::Repository { operation, source }
}

/// Whether the store does not answer at all. What it does not have, or has too short, concerns one object.
pub(super) fn is_store_down(error: &RepositoryError) -> bool {
    use StoreErrorKind as Kind;
    matches!(
        error.kind(),
        RepositoryErrorKind::Store(Kind::Unavailable | Kind::NotPermitted | Kind::NoBucket)
    )
}

/// Whether no other object will fare better.
pub(super) fn is_fatal(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    const EIO: i32 = 5;
    let system = matches!(error.kind(), Kind::StorageFull | Kind::QuotaExceeded | Kind::ReadOnlyFilesystem);
    system || error.raw_os_error() == Some(EIO)
}

pub(super) fn journal(operation: &'static str) -> impl Fn(JournalError) -> SessionRestoreError {
    move |source| SessionRestoreError::Journal { operation, source }
}
