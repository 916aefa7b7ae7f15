//! Repositories, backups and sessions, as the engine is asked for them.

use super::{Skipped, SnapshotId};
use crate::points::{PointSpec, TimeSpec};
use journal::{Class, Lsn, Timestamp};
use secrecy::SecretString;
use std::path::PathBuf;
use std::time::Duration;

/// A repository to be remembered, and made unless it is there.
#[derive(Debug)]
pub struct NewRepository {
    /// Letters, digits, `.`, `_`, `-`.
    pub name: String,
    /// Where it lies.
    pub url: String,
    /// Of one of its keys. On tape: what sessions are encrypted with; empty: they are not.
    pub password: SecretString,
    /// How sessions on tape are compressed: `none`, `zstd`; empty: as before, at first not.
    pub compression: String,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// Its name here.
    pub name: String,
    /// Where it lies.
    pub url: String,
    /// Its own id: 64 hexadecimal digits.
    pub id: String,
    /// When it was added.
    pub added: Timestamp,
    /// Whether adding it made it.
    pub created: bool,
    /// What its store does with exclusive puts, if that was looked at.
    pub conditional_put: &'static str,
    /// On tape: how sessions are compressed; else empty.
    pub compression: &'static str,
    /// On tape: how sessions are encrypted; else empty.
    pub encryption: &'static str,
}

/// A backup wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRequest {
    /// Of this scenario.
    pub scenario: String,
    /// Into this repository.
    pub repository: String,
    /// As of this point; the newest that is applied if there is none.
    pub at: Option<PointSpec>,
    /// The snapshot whose point that is, if it is one's.
    pub snapshot: Option<SnapshotId>,
    /// An earlier attempt was interrupted: what it completed counts.
    pub again: bool,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// 64 hexadecimal digits.
    pub id: String,
    /// 64 hexadecimal digits of its root tree.
    pub tree: String,
    /// Name of the scenario.
    pub scenario: String,
    /// Path of the root on the master.
    pub entity: PathBuf,
    /// Host name of the master.
    pub master: String,
    /// Name of the repository.
    pub repository: String,
    /// Of the point, by the master's clock.
    pub time: Timestamp,
    /// Of the point.
    pub lsn: Lsn,
    /// How consistent the point is.
    pub class: Class,
    /// Names in it of objects that are no directories.
    pub files: u64,
    /// Directories in it, its root among them.
    pub directories: u64,
    /// Bytes of its files, each name counted.
    pub bytes: u64,
    /// Bytes read from the replica.
    pub bytes_read: u64,
    /// Bytes that are new in the repository, as stored.
    pub bytes_stored: u64,
    /// Objects that are not in it.
    pub missed: u64,
    /// Whether it was made from what changed since the session before.
    pub incremental: bool,
    /// When the last verification began that it passed: one of its own, or a check that read its whole repository.
    pub verified: Option<Timestamp>,
    /// Where it lies on tape; `None` if it does not.
    pub tape: Option<crate::records::SessionOnTape>,
}

/// How a backup went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The point.
    pub lsn: Lsn,
    /// Its time.
    pub time: Timestamp,
    /// The snapshot that keeps it; `None` where none are kept.
    pub snapshot: Option<SnapshotId>,
    /// From the call to the end.
    pub elapsed: Duration,
    /// One a root.
    pub sessions: Vec<Session>,
    /// The first of what was missed.
    pub missed: Vec<Skipped>,
    /// Why something was looked at as a whole.
    pub notes: Vec<String>,
}

/// Which sessions are wanted; what is empty does not matter.
#[derive(Clone, Debug, Default)]
pub struct SessionsQuery {
    /// Of this scenario.
    pub scenario: Option<String>,
    /// In this repository.
    pub repository: Option<String>,
    /// Of this master.
    pub master: Option<String>,
    /// As of this time or later.
    pub since: Option<TimeSpec>,
}
