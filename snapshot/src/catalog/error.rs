//! What can go wrong in the catalog, and what the caller has to decide from it.
//!
//! One enum for the whole area. Callers branch on [`CatalogError::kind`]: damage means that the projection is to be
//! deleted and rebuilt, everything else leaves it usable. No message repeats its source.

use super::types::SessionId;
use std::io;
use std::path::PathBuf;

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CatalogErrorKind {
    /// Delete the directory and rebuild from the repositories.
    Damaged,
    /// The caller's input: a path, a pattern, a page token, the order of a load.
    Input,
    /// There is no such session.
    NotFound,
    /// The session is there already, or somebody else has the catalog open.
    Conflict,
    /// The disk failed or is full. After a failed commit the catalog must be opened again.
    Disk,
    /// A stated limit.
    Limit,
}

/// A failed operation of the catalog.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// A call to the file system.
    #[error("{operation} {}", path.display())]
    File {
        /// Verb of the failed call.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Bytes are not what was written.
    #[error("{} is damaged at offset {offset}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// Written by a later version of this program.
    #[error("{} has format version {version}, which this program does not know", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Somebody else has it open.
    #[error("the catalog in {} is open already", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A commit failed half way: it is unknown which state a crash would leave.
    #[error("the catalog in {} must be opened again after a failed commit", path.display())]
    Poisoned {
        /// The directory.
        path: PathBuf,
    },
    /// A path that cannot be an entry.
    #[error("the path {:?} {what}", String::from_utf8_lossy(path))]
    BadPath {
        /// Its first bytes.
        path: Vec<u8>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A load that was begun as sorted is not.
    #[error("the path {:?} comes after one that it must precede", String::from_utf8_lossy(path))]
    OutOfOrder {
        /// The later path.
        path: Vec<u8>,
    },
    /// The session has been loaded, or is being loaded.
    #[error("session {id} is in the catalog already")]
    AlreadyLoaded {
        /// The session.
        id: SessionId,
    },
    /// A load some of which was refused.
    #[error("the load of session {id} has failed before and cannot be finished")]
    FailedLoad {
        /// The session.
        id: SessionId,
    },
    /// No complete session has this id.
    #[error("session {id} is not in the catalog")]
    NoSuchSession {
        /// The session.
        id: SessionId,
    },
    /// Changes can only be based on a session of the same entity.
    #[error("session {id} is of another entity than the one it is based on, {previous}")]
    OtherEntity {
        /// The new session.
        id: SessionId,
        /// The one it was to be based on.
        previous: SessionId,
    },
    /// Not a glob.
    #[error("{glob:?} is not a glob")]
    BadGlob {
        /// As given.
        glob: String,
        /// Why.
        #[source]
        source: globset::Error,
    },
    /// A glob that would take too much to match.
    #[error("the glob {glob:?} is nested too deep or too large")]
    ComplexGlob {
        /// As given.
        glob: String,
        /// Why.
        #[source]
        source: Box<regex::Error>,
    },
    /// Not a regular expression.
    #[error("{regex:?} is not a regular expression")]
    BadRegex {
        /// As given.
        regex: String,
        /// Why.
        #[source]
        source: Box<regex::Error>,
    },
    /// A page token that no query gave out.
    #[error("the page token is not one of this catalog")]
    BadToken,
    /// Too many or too long.
    #[error("more than {limit} {what}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl CatalogError {
    /// What a caller does about it.
    #[must_use]
    pub fn kind(&self) -> CatalogErrorKind {
        match self {
            CatalogError::Damaged { .. } | CatalogError::NewerVersion { .. } => CatalogErrorKind::Damaged,
            CatalogError::File { .. } | CatalogError::Poisoned { .. } => CatalogErrorKind::Disk,
            CatalogError::Locked { .. } | CatalogError::AlreadyLoaded { .. } => CatalogErrorKind::Conflict,
            CatalogError::NoSuchSession { .. } => CatalogErrorKind::NotFound,
            CatalogError::Limit { .. } => CatalogErrorKind::Limit,
            CatalogError::BadPath { .. }
            | CatalogError::OutOfOrder { .. }
            | CatalogError::FailedLoad { .. }
            | CatalogError::OtherEntity { .. }
            | CatalogError::BadGlob { .. }
            | CatalogError::ComplexGlob { .. }
            | CatalogError::BadRegex { .. }
            | CatalogError::BadToken => CatalogErrorKind::Input,
        }
    }

    /// Whether the projection is to be deleted and rebuilt.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        self.kind() == CatalogErrorKind::Damaged
    }
}

/// Names the call and the file of a failure of the system.
pub(super) fn failed(
    operation: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> CatalogError {
    let path = path.into();
    move |source| CatalogError::File { operation, path, source }
}
