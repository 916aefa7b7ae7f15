//! What can go wrong while a session is made.

use crate::repository::{RepositoryError, RepositoryErrorKind};
use journal::JournalError;

/// A session that was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// Somebody asked to stop.
    #[error("the backup was cancelled")]
    Cancelled,
    /// The repository or its store failed.
    #[error("store the session")]
    Repository {
        #[from]
        source: RepositoryError,
    },
    /// The journal's tables or undo could not be read.
    #[error("{operation}")]
    Journal { operation: &'static str, source: JournalError },
    /// A thread could not be started.
    #[error("start a thread")]
    Thread { source: std::io::Error },
    /// More changed than is held in memory.
    #[error("more than {changes} changes since")]
    TooMuchChanged { changes: u64 },
    /// A thread died; the message of its panic is in the log.
    #[error("a thread ended in the middle of its work")]
    ThreadEnded,
    /// A directory is larger than the format can reasonably hold.
    #[error("store the directory {path:?}")]
    Directory { path: String, source: RepositoryError },
    /// Others removed again and again what the session needs.
    #[error("what the session needs was removed while it was made, {attempts} times")]
    Removed { attempts: u32 },
    /// The view has no such root.
    #[error("the view has no root {root}")]
    NoRoot { root: u16 },
}

impl SessionError {
    pub(crate) fn journal(operation: &'static str) -> impl Fn(JournalError) -> Self {
        move |source| Self::Journal { operation, source }
    }

    /// Whether something stored before is not in the repository any more, and known to be missing: then it can be stored
    /// again. What is damaged, or missing although the index names it, would be taken for stored.
    pub(crate) fn is_missing_blob(&self) -> bool {
        matches!(self, Self::Repository { source: RepositoryError::BlobNotFound { .. } })
    }

    /// Whether looking at everything is the way out.
    pub(crate) fn wants_whole(&self) -> bool {
        self.is_missing_blob() || matches!(self, Self::TooMuchChanged { .. })
    }

    /// What kind of failure the repository had, if it was that.
    #[must_use]
    pub fn repository_kind(&self) -> Option<RepositoryErrorKind> {
        match self {
            Self::Repository { source } | Self::Directory { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}
