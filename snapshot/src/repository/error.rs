//! What can go wrong in a repository.
//!
//! Callers branch on [`RepositoryErrorKind`]; people read the message, which names the object (and where it helps the
//! offset) and leaves the cause to the chain of sources.

use super::id::{BlobKind, Id};
use super::lock::LockRecord;
use crate::store::{StoreError, StoreErrorKind};
use std::sync::Arc;

/// How a caller should react.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepositoryErrorKind {
    /// The password opens no key.
    WrongPassword,
    /// There is no repository at that place.
    NoRepository,
    /// There is one already.
    AlreadyExists,
    /// Written in a version this program does not know.
    UnsupportedVersion,
    /// Stored bytes are not what was written: the message says where.
    Damaged,
    /// The object, blob or session asked for is not there.
    NotFound,
    /// More than one session begins so.
    Ambiguous,
    /// Somebody else holds a lock, or ours was lost.
    Locked,
    /// Beyond a stated limit, or not allowed.
    Refused,
    /// An earlier write failed; begin again with a new writer.
    Poisoned,
    /// The store failed; see the kind within.
    Store(StoreErrorKind),
    /// Somebody asked to stop.
    Cancelled,
    /// The system failed: no randomness, no thread.
    System,
}

/// A failed operation on a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The store failed.
    #[error("the repository's store failed")]
    Store {
        #[from]
        source: StoreError,
    },
    /// No config object.
    #[error("there is no repository here: the object \"config\" is missing")]
    NoRepository,
    /// Init was asked for where a repository is.
    #[error("there is a repository here already: the object {object:?} exists")]
    AlreadyExists { object: String },
    /// The password opens none of the keys.
    #[error("the password opens none of the {keys} keys of this repository")]
    WrongPassword { keys: usize },
    /// Version of the config.
    #[error("the repository has format version {version}; this program knows 1 and 2")]
    UnsupportedVersion { version: u32 },
    /// Version of an archive's manifest.
    #[error("{object} is of version {version}; this program knows 1")]
    ArchiveVersion { object: String, version: u32 },
    /// Stored bytes are not what was written.
    #[error("{object} is damaged at offset {offset}: {what}")]
    Damaged { object: String, offset: u64, what: &'static str },
    /// A JSON document does not parse.
    #[error("{object} does not hold what it should")]
    Json { object: String, source: serde_json::Error },
    /// A blob is damaged inside a pack.
    #[error("{kind} blob {id} in {pack} at offset {offset} is damaged: {what}")]
    BlobDamaged { kind: BlobKind, id: Id, pack: String, offset: u64, what: &'static str },
    /// A blob is in no index.
    #[error("{kind} blob {id} is in no index")]
    BlobNotFound { kind: BlobKind, id: Id },
    /// Beyond a limit.
    #[error("{what} of {size} exceeds the limit of {limit}")]
    TooLarge { what: &'static str, size: u64, limit: u64 },
    /// A blob without bytes, which the format does not know.
    #[error("a blob without bytes cannot be stored")]
    EmptyBlob,
    /// Compressed bytes did not come back as they were.
    #[error("compressing {kind} blob {id} and decompressing it gave other bytes")]
    CompressionMismatch { kind: BlobKind, id: Id },
    /// The compressor failed.
    #[error("{operation} with zstd")]
    Zstd { operation: &'static str, source: std::io::Error },
    /// A tree holds a node that is not acceptable.
    #[error("tree {tree}: node {index}: {what}")]
    Node { tree: Id, index: u64, what: &'static str },
    /// A node that cannot be written.
    #[error("node {name:?} cannot be stored: {what}")]
    NodeRefused { name: String, what: &'static str },
    /// A key file asks for more work than we do.
    #[error("the parameter {parameter} of key {key} is {value}, beyond what is accepted")]
    KeyParameter { key: Id, parameter: &'static str, value: u64 },
    /// The key that is in use, or the last one, shall not be removed.
    #[error("key {key} is the one that opened the repository and is not removed")]
    KeyInUse { key: Id },
    /// No key has this id.
    #[error("there is no key {key}")]
    KeyNotFound { key: Id },
    /// No session begins so.
    #[error("there is no session {prefix:?}")]
    SessionNotFound { prefix: String },
    /// Several sessions begin so.
    #[error("session {prefix:?} is ambiguous: {first} and {second} begin so")]
    SessionAmbiguous { prefix: String, first: Id, second: Id },
    /// Not a prefix of an id.
    #[error("{prefix:?} is not the beginning of a session id (at least one hexadecimal digit)")]
    SessionPrefix { prefix: String },
    /// A session needs a pack that is not in the store.
    #[error("{object} is missing, and a session needs it")]
    PackMissing { object: String },
    /// A session cannot be read as a whole.
    #[error("session {session} needs {kind} blob {id}, which cannot be had")]
    SessionIncomplete { session: Id, kind: BlobKind, id: Id, source: Option<Box<RepositoryError>> },
    /// A retention that keeps nothing.
    #[error("the policy keeps no session at all")]
    EmptyPolicy,
    /// A retention that keeps nothing of one group.
    #[error("the policy would forget every session of {paths} on {host:?}")]
    GroupEmptied { host: String, paths: String },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Somebody holds a lock that excludes ours.
    #[error("the repository is locked by {holder} ({object})")]
    Locked { object: String, holder: Box<LockRecord> },
    /// Our lock could not be kept alive.
    #[error("the lock {object} could not be refreshed for {seconds} s and may have been taken as stale")]
    LockLost { object: String, seconds: u64 },
    /// An earlier failure made the writer unusable.
    #[error("nothing more is written since an earlier write failed")]
    Poisoned { source: Arc<RepositoryError> },
    /// The system gave no random bytes.
    #[error("get random bytes from the system")]
    Random { source: getrandom::Error },
    /// A thread could not be started.
    #[error("start a thread for {purpose}")]
    Thread { purpose: &'static str, source: std::io::Error },
    /// A thread ended in the middle of its work.
    #[error("a thread for {purpose} ended in the middle of its work")]
    ThreadEnded { purpose: &'static str },
    /// Reading what shall be stored failed.
    #[error("read the bytes to be stored")]
    Source { source: std::io::Error },
}

impl RepositoryError {
    /// How to react.
    #[must_use]
    pub fn kind(&self) -> RepositoryErrorKind {
        use RepositoryErrorKind as Kind;
        match self {
            Self::Store { source } if source.is_not_found() => Kind::NotFound,
            Self::Store { source } => Kind::Store(source.kind),
            Self::NoRepository => Kind::NoRepository,
            Self::AlreadyExists { .. } => Kind::AlreadyExists,
            Self::WrongPassword { .. } => Kind::WrongPassword,
            Self::UnsupportedVersion { .. } | Self::ArchiveVersion { .. } => Kind::UnsupportedVersion,
            Self::Damaged { .. }
            | Self::Json { .. }
            | Self::BlobDamaged { .. }
            | Self::Node { .. }
            | Self::PackMissing { .. }
            | Self::SessionIncomplete { .. } => Kind::Damaged,
            Self::Cancelled => Kind::Cancelled,
            Self::BlobNotFound { .. } | Self::KeyNotFound { .. } | Self::SessionNotFound { .. } => {
                Kind::NotFound
            }
            Self::SessionAmbiguous { .. } => Kind::Ambiguous,
            Self::Locked { .. } | Self::LockLost { .. } => Kind::Locked,
            Self::TooLarge { .. }
            | Self::EmptyBlob
            | Self::NodeRefused { .. }
            | Self::KeyParameter { .. }
            | Self::KeyInUse { .. }
            | Self::EmptyPolicy
            | Self::GroupEmptied { .. }
            | Self::SessionPrefix { .. } => Kind::Refused,
            Self::Poisoned { .. } => Kind::Poisoned,
            Self::CompressionMismatch { .. }
            | Self::Zstd { .. }
            | Self::Random { .. }
            | Self::Thread { .. }
            | Self::ThreadEnded { .. }
            | Self::Source { .. } => Kind::System,
        }
    }

    pub(crate) fn damaged(object: impl Into<String>, offset: u64, what: &'static str) -> Self {
        Self::Damaged { object: object.into(), offset, what }
    }
}
