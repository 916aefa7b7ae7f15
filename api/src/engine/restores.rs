//! Restoring, and looking at sessions, as the engine is asked for it.

use super::backups::Session;
use super::restore_query::{QueryRestores, RestoredSession};
use super::rewinds::Onto;
use super::types::{Change, Counts};
use super::{Each, EngineResult, Progress};
use crate::points::PointSpec;
use restore::session::{IfExists, Owner, Receipt, Sparse};
use std::path::PathBuf;
use std::time::Duration;

/// Names a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName {
    /// 64 hexadecimal digits, or an unambiguous beginning.
    pub id: String,
    /// Name of the repository; any if there is none.
    pub repository: Option<String>,
}

/// What is brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreSource {
    /// A session, or some paths of it.
    Session(SessionName),
    /// What a path of the master held: the newest session of it.
    Tree {
        /// Only sessions of this scenario.
        scenario: Option<String>,
    },
    /// What a path of the master held at a point of a scenario's journal.
    Point {
        /// The scenario.
        scenario: String,
        /// The point.
        at: PointSpec,
    },
}

/// A restore wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreRequest {
    /// From this.
    pub source: RestoreSource,
    /// Only these paths of the master and what is below them; empty: everything.
    pub paths: Vec<PathBuf>,
    /// Onto this.
    pub onto: Onto,
    /// What to do where something stands; by default `Overwrite`, into a directory `Fail`.
    pub if_exists: Option<IfExists>,
    /// Remove what the source does not hold.
    pub delete: bool,
    /// Read again and compare.
    pub verify: bool,
    /// Onto the replica of a scenario that cannot be stopped following its master.
    pub continue_if_not_stopped: bool,
    /// Whose the objects are.
    pub owner: Owner,
    /// What becomes of zeros.
    pub sparse: Sparse,
    /// The call was made before and interrupted by the end of the daemon.
    pub again: bool,
}

impl RestoreRequest {
    /// What to do where something stands.
    #[must_use]
    pub fn if_exists(&self) -> IfExists {
        self.if_exists.unwrap_or(match self.onto {
            Onto::Directory(_) => IfExists::Fail,
            Onto::Replica | Onto::Master => IfExists::Overwrite,
        })
    }
}

/// What a request means, so that it still means that after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreMeaning {
    /// The source, with the whole id of the session or the LSN of the point.
    pub source: RestoreSource,
    /// The scenario whose tree was stored; empty if this daemon has none such.
    pub scenario: String,
}

/// What a restore would come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestorePlan {
    /// 64 hexadecimal digits; empty from the journal.
    pub session: String,
    /// The scenario whose tree was stored; may be empty.
    pub scenario: String,
    /// Sums of the changes.
    pub counts: Counts,
    /// Objects that stay by the rule.
    pub skipped: u64,
    /// Objects that forbid it.
    pub conflicts: u64,
    /// The first of them.
    pub first_conflicts: Vec<Vec<u8>>,
    /// Objects that cannot be restored.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<restore::session::Listed>,
    /// What to know before saying yes.
    pub warnings: Vec<String>,
    /// Objects an earlier run has made.
    pub resumed: u64,
}

/// How a restore went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreReport {
    /// 64 hexadecimal digits; empty from the journal.
    pub session: String,
    /// What was done and what was not.
    pub receipt: Receipt,
    /// Automatic bookmark that leads back; `None` where no tree of a scenario was changed.
    pub before: Option<String>,
    /// Whether the way back leads onto the master too.
    pub onto_master: bool,
    /// Whether the replica has stopped following the master.
    pub detached: bool,
    /// The directory restored into.
    pub target: Option<PathBuf>,
    /// By query: what came from which session.
    pub sessions: Vec<RestoredSession>,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// Which objects of a session are wanted.
#[derive(Clone, Debug)]
pub struct FilesQuery {
    /// Of this session.
    pub session: SessionName,
    /// At and below this path of the master.
    pub path: Option<PathBuf>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// An object of a session.
#[derive(Clone, Debug)]
pub struct SessionEntry {
    /// Absolute path on the master.
    pub path: Vec<u8>,
    /// The object.
    pub node: snapshot::repository::Node,
}

/// What a verification of a session found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionVerifyReport {
    /// 64 hexadecimal digits.
    pub session: String,
    /// Name of the repository.
    pub repository: String,
    /// What was read.
    pub found: restore::session::Verified,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// A session that is to be in another place too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// Which.
    pub session: SessionName,
    /// Name of a repository, or the address of a drive.
    pub to: String,
    /// On tape: pool whose volumes are written; none: that of the volume in the drive.
    pub pool: Option<String>,
}

/// A session that is in a repository which is not on tape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its id there.
    pub session: String,
    /// It was there before, and nothing was written.
    pub was_there: bool,
    /// Names in it of objects that are no directories.
    pub files: u64,
    /// Directories in it.
    pub directories: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Objects that it lacks since it was made.
    pub missed: u64,
    /// Bytes of what the repository lacked.
    pub bytes_read: u64,
    /// And what that takes there.
    pub bytes_stored: u64,
}

/// Where a session is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopiedTo {
    /// On tape.
    Tape(crate::tapes::Copied),
    /// In a directory or an object store.
    Repository(Stored),
}

impl CopiedTo {
    /// Objects that are not in it, or not as they should be.
    #[must_use]
    pub fn missed(&self) -> u64 {
        match self {
            CopiedTo::Tape(copied) => copied.missed,
            CopiedTo::Repository(stored) => stored.missed,
        }
    }
}

/// A session that was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// 64 hexadecimal digits.
    pub session: String,
    /// Name of the repository.
    pub repository: String,
    /// Where it was copied to.
    pub to: String,
    /// What is there.
    pub copied: CopiedTo,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// What the engine does with sessions beside making them.
pub trait Restores: QueryRestores {
    /// What a request means now (`NO_SUCH_SESSION`, `NO_SUCH_PATH`, `NO_SUCH_REPOSITORY`, `OUTSIDE_WINDOW` ...).
    fn mean_restore(&self, request: &RestoreRequest) -> EngineResult<RestoreMeaning>;
    /// What [`restore`](Restores::restore) would do now; changes nothing.
    fn plan_restore(
        &self,
        request: &RestoreRequest,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RestorePlan>;
    /// Restores. Sets an automatic bookmark before it changes a tree of a scenario (`WOULD_OVERWRITE`, `NO_SUCH_PATH`,
    /// `TARGET_REFUSED`, `CANNOT_STOP`, `NOT_REPLICATING`, `REPOSITORY_LOCKED` ...).
    fn restore(&self, request: &RestoreRequest, progress: &dyn Progress) -> EngineResult<RestoreReport>;
    /// One session (`NO_SUCH_SESSION`).
    fn show_session(&self, session: &SessionName) -> EngineResult<Session>;
    /// What a session holds, in the order of paths (`NO_SUCH_SESSION`, `NO_SUCH_PATH`).
    fn session_files(
        &self,
        query: &FilesQuery,
        progress: &dyn Progress,
        each: Each<'_, SessionEntry>,
    ) -> EngineResult<()>;
    /// Reads all that a session needs. Damage is a result, not a failure.
    fn verify_session(
        &self,
        session: &SessionName,
        progress: &dyn Progress,
    ) -> EngineResult<SessionVerifyReport>;
    /// Copies a session into a repository or to tape; what is there is not written again (`NO_SUCH_SESSION`, `BAD_URL`,
    /// `COPY_DAMAGED`, `COPY_BUSY`, `TAPE_VOLUME_WANTED`, `TAPE_DRIVE_FAILED` ...).
    fn copy_session(&self, request: &CopyRequest, progress: &dyn Progress) -> EngineResult<CopyReport>;
}
