//! What can go wrong with an archive. Damage of single members is no error: it is told in a verdict.

use crate::repository::RepositoryError;
use std::error::Error;
use std::io;

/// How a caller should react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ArchiveErrorKind {
    /// It is encrypted, and the key is missing or another one.
    Key,
    /// Where the archive is written to or read from failed.
    Medium,
    /// The archive is not what it should be.
    Damaged,
    /// There is no session of ours.
    NotASession,
    /// Written in a version this program does not know.
    UnsupportedVersion,
    /// Beyond a limit, or not allowed.
    Refused,
    /// The repository or what is backed up failed.
    Source,
    /// Somebody asked to stop.
    Cancelled,
    /// The system failed: scratch files, clock.
    System,
}

/// A failed operation on an archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The medium takes nothing more.
    #[error("write the archive at offset {offset}")]
    Write { offset: u64, source: io::Error },
    /// A scratch file failed.
    #[error("{operation} a scratch file of the archive")]
    Scratch { operation: &'static str, source: io::Error },
    /// No thread can be made.
    #[error("start a thread")]
    Thread { source: io::Error },
    /// Nothing of ours was found.
    #[error("there is no session here: no header of one was found in {bytes} bytes")]
    NotASession { bytes: u64 },
    /// The label's version.
    #[error("the session's label is of version {version}; this program knows 1")]
    Version { version: u32 },
    /// It is compressed or encrypted in a way that this version does not read.
    #[error(
        "the session is compressed as {compression:?} and encrypted as {encryption:?}, which this program does not know"
    )]
    Encoding { compression: String, encryption: String },
    /// A label cannot be made or read.
    #[error("the session's label: {what}")]
    Label { what: &'static str },
    /// It is encrypted, and there is no key.
    #[error("session {session} is encrypted")]
    KeyWanted { session: String },
    /// It is encrypted with something else.
    #[error("{}", wrong_key(*is_passphrase))]
    WrongKey { is_passphrase: bool },
    /// What carries a compressed or encrypted session cannot be opened.
    #[error("what carries the session cannot be opened: {what}")]
    Carrier { what: String },
    /// JSON of ours cannot be written or read.
    #[error("{object} does not hold what it should")]
    Json { object: &'static str, source: serde_json::Error },
    /// Too many members.
    #[error("the session has more than {limit} objects")]
    TooMany { limit: u64 },
    /// A member comes where it cannot be put.
    #[error("{path:?} is refused: {what}")]
    Member { path: String, what: &'static str },
    /// The archive does not fit its catalog.
    #[error("the archive is not whole: {count} objects damaged or missing, the first {first:?}: {reason}")]
    NotWhole { count: u64, first: String, reason: String },
    /// The repository failed.
    #[error("the repository failed")]
    Repository {
        #[from]
        source: RepositoryError,
    },
    /// What is archived failed in a way that other objects share.
    #[error("read what is archived")]
    Source { source: Box<dyn Error + Send + Sync> },
    /// Others removed what the session needs while it was made.
    #[error("what the session needs was removed from the repository while it was read from the archive")]
    Removed,
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl ArchiveError {
    /// How to react.
    #[must_use]
    pub fn kind(&self) -> ArchiveErrorKind {
        use ArchiveErrorKind as Kind;
        match self {
            Self::Write { .. } => Kind::Medium,
            Self::Scratch { .. } | Self::Thread { .. } => Kind::System,
            Self::NotASession { .. } => Kind::NotASession,
            Self::Version { .. } | Self::Encoding { .. } => Kind::UnsupportedVersion,
            Self::KeyWanted { .. } | Self::WrongKey { .. } => Kind::Key,
            Self::Carrier { .. } | Self::Label { .. } | Self::Json { .. } | Self::NotWhole { .. } => {
                Kind::Damaged
            }
            Self::TooMany { .. } | Self::Member { .. } => Kind::Refused,
            Self::Repository { .. } | Self::Source { .. } | Self::Removed => Kind::Source,
            Self::Cancelled => Kind::Cancelled,
        }
    }

    pub(super) fn scratch(operation: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Scratch { operation, source }
    }
}

fn wrong_key(is_passphrase: bool) -> &'static str {
    if is_passphrase {
        "the session is encrypted with another passphrase"
    } else {
        "the session is encrypted for another secret key of age"
    }
}
