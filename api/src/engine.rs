//! The engine as the services see it: what the product can do, in plain blocking calls.
//!
//! Services translate messages, jobs carry the long calls, neither knows how the work is done. Every method may block
//! (they are called from threads made for it), every method may be called from many threads at once. Names of
//! scenarios come as they were typed; an unknown one is `NO_SUCH_SCENARIO`. A method that fails has changed nothing,
//! unless its documentation says otherwise.

mod backups;
mod bursts;
mod catalog;
mod error;
mod restore_query;
mod restores;
mod rewinds;
mod scrubs;
mod snapshots;
mod types;
mod upkeep;

pub use backups::{BackupReport, BackupRequest, NewRepository, Repository, Session, SessionsQuery};
pub use bursts::{Burst, BurstsQuery};
pub use catalog::{
    CatalogEnd, CatalogEntry, CatalogQuery, CatalogRebuilt, CatalogTree, FileVersion, Finder, NotCatalogued,
    Part, Source, VersionChange,
};
pub use error::EngineError;
pub use restore_query::{LeftOut, QueryFound, QueryRestores, RestoreSet, RestoredSession, SetPart};
pub use restores::{
    CopiedTo, CopyReport, CopyRequest, FilesQuery, RestoreMeaning, RestorePlan, RestoreReport,
    RestoreRequest, RestoreSource, Restores, SessionEntry, SessionName, SessionVerifyReport, Stored,
};
pub use rewinds::{Onto, RewindPlan, RewindReport, RewindRequest};
pub use scrubs::{ScrubDifference, ScrubReport, ScrubRequest};
pub use snapshots::{MountReport, MountWhat, PinnedBy, Snapshot, SnapshotId, SnapshotRequest};
pub use types::{
    Bookmark, BookmarkRequest, Change, Counts, Damage, DeleteReport, DiffSums, Finding, FlushRequest,
    Flushed, JournalStats, Level, Point, PointKind, PointsQuery, Proof, RebuildReport, ResolvedPoint,
    ResumeReport, RunOptions, RunReport, Scenario, Skipped, Stage, State, Status, SyncMode, TablesVerified,
    VerifyReport,
};

pub use upkeep::{
    CheckReport, CheckRequest, ForgetReport, ForgetRequest, Group, PrunePlan, PruneRequest, Pruned,
    RepositoryStats, UnlockReport,
};

use crate::definition::{Definition, Setting};
use crate::points::PointSpec;
use journal::dump::{Item, Range};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Result of an operation of the engine.
pub type EngineResult<T> = Result<T, EngineError>;

/// Receives one item of a list that is too long to be held; `Break` ends the list early (the reader has gone).
pub type Each<'a, T> = &'a mut (dyn FnMut(T) -> ControlFlow<()> + Send);

/// How a long operation tells how far it is, and learns that it is no longer wanted.
pub trait Progress: Send + Sync {
    /// `done` of `total` units of `phase`, where the total is known. Cheap: call it as often as convenient.
    fn report(&self, phase: &str, done: u64, total: Option<u64>, unit: &str);

    /// A line for the log of the job.
    fn note(&self, level: Level, text: &str);

    /// Why to stop, if somebody asked. Look at it at least every 100 ms or so; return
    /// [`EngineError::interrupted`] of it from a state that a second attempt can start from.
    fn interrupted(&self) -> Option<Interrupt>;

    /// Number of the job, by which a second attempt knows what the first one left; `None` for what comes only once.
    fn job(&self) -> Option<u64> {
        None
    }
}

/// Why a long operation should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// A person cancelled it: end it and leave nothing half done.
    Cancelled,
    /// The daemon stops: end quickly; the same call comes again after the next start.
    Shutdown,
}

/// Everything the daemon can do for its clients.
pub trait Engine: Send + Sync + 'static {
    /// Defines a scenario; it is stopped. `definition` has been checked as far as texts go; what needs the disks of
    /// the two sides is checked here (`NO_SUCH_ROOT`, `REPLICA_NOT_EMPTY`, `ROOTS_OVERLAP` behind links).
    fn create(&self, definition: Definition) -> EngineResult<Scenario>;
    /// All of them, by name.
    fn list(&self) -> EngineResult<Vec<Scenario>>;
    /// One of them.
    fn show(&self, scenario: &str) -> EngineResult<Scenario>;
    /// Forgets a stopped scenario and removes its journal; the replica tree stays (`NOT_STOPPED`).
    fn delete(&self, scenario: &str) -> EngineResult<DeleteReport>;
    /// Changes properties of a stopped scenario, all or none (`NOT_STOPPED`, `BAD_SETTING`).
    fn set(&self, scenario: &str, settings: &[Setting]) -> EngineResult<Scenario>;
    /// Preflight of both sides. Findings, errors among them, are a result, not a failure.
    fn verify(&self, scenario: &str) -> EngineResult<Vec<Finding>>;

    /// Starts capture and returns when synchronization has completed and replication runs. Success at once where it
    /// runs already (`PREFLIGHT_FAILED`, `REPLICA_NOT_EMPTY`, `CANNOT_ATTACH`).
    fn run(&self, scenario: &str, options: &RunOptions, progress: &dyn Progress) -> EngineResult<RunReport>;
    /// Ends capture; success where it is stopped already (`CANNOT_STOP`).
    fn stop(&self, scenario: &str) -> EngineResult<Status>;
    /// Pauses delivery; success where it is suspended already (`CANNOT_SUSPEND`).
    fn suspend(&self, scenario: &str) -> EngineResult<Status>;
    /// Goes on after suspend or rewind; returns when the scenario replicates. Success where it replicates already
    /// (`NOT_REPLICATING` for a stopped one).
    fn resume(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<ResumeReport>;
    /// How it stands now. Never waits for the master.
    fn status(&self, scenario: &str) -> EngineResult<Status>;
    /// How the archive of its journal stands; none if there is none. Never waits for a store.
    fn archive_status(&self, scenario: &str) -> EngineResult<Option<crate::archive::ArchiveStatus>> {
        let _ = scenario;
        Ok(None)
    }
    /// Reads both sides again and compares them. Differences are a result, not a failure (`NOT_REPLICATING`, `BUSY`,
    /// `NO_SUCH_PATH`, `SCRUB_NOT_SUPPORTED`, `SCRUB_FAILED`).
    fn scrub(&self, _: &ScrubRequest, _: &dyn Progress) -> EngineResult<ScrubReport> {
        Err(EngineError::new(&wire::codes::NOT_AVAILABLE, "this daemon keeps no journal: it is no replica"))
    }
    /// Barrier: returns when what was done on the master before the call has reached `stage` (`NOT_REPLICATING`,
    /// `TIMED_OUT`; consistent: `NOT_CONFIGURED` without a quiesce hook, `CANNOT_SUSPEND` if the application was not
    /// held, `HOOKS_NOT_ALLOWED`, `THAW_FAILED`).
    fn flush(&self, scenario: &str, request: &FlushRequest) -> EngineResult<Flushed>;

    /// Sets a bookmark, now (a barrier is waited for) or at a past point (`BOOKMARK_EXISTS`, `SYNCHRONIZING`,
    /// `NOT_REPLICATING`, `NOT_CONFIGURED` with `rewind=off`; consistent: as a flush).
    fn set_bookmark(&self, scenario: &str, request: &BookmarkRequest) -> EngineResult<Bookmark>;
    /// All bookmarks, oldest first.
    fn list_bookmarks(&self, scenario: &str) -> EngineResult<Vec<Bookmark>>;
    /// Removes a bookmark; what it named stays as long as retention keeps it (`NO_SUCH_BOOKMARK`).
    fn delete_bookmark(&self, scenario: &str, name: &str) -> EngineResult<Bookmark>;
    /// What a point means now (`NO_SUCH_BOOKMARK`, `OUTSIDE_WINDOW`, `SYNCHRONIZING`).
    fn resolve(&self, scenario: &str, point: &PointSpec) -> EngineResult<ResolvedPoint>;
    /// Points, newest first.
    fn points(&self, query: &PointsQuery, each: Each<'_, Point>) -> EngineResult<()>;

    /// Unusual bursts that are in the window, newest first, not more than some hundred.
    fn bursts(&self, _: &BurstsQuery, _: &dyn Progress) -> EngineResult<Vec<Burst>> {
        Err(EngineError::new(&wire::codes::NOT_AVAILABLE, "this daemon keeps no journal: it is no replica"))
    }
    /// The point of a rewind in words that mean the same at any later time (as [`resolve`](Engine::resolve);
    /// `NO_BURST`).
    fn pin(&self, request: &RewindRequest) -> EngineResult<PointSpec> {
        Ok(PointSpec::Lsn(self.resolve(&request.scenario, &request.to)?.lsn))
    }
    /// What [`rewind`](Engine::rewind) would do now; changes nothing.
    fn plan_rewind(
        &self,
        request: &RewindRequest,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RewindPlan>;
    /// Rewinds. Sets an automatic bookmark before it changes a tree (`TARGET_NOT_EMPTY`, `NO_SUCH_PATH`).
    fn rewind(&self, request: &RewindRequest, progress: &dyn Progress) -> EngineResult<RewindReport>;
    /// What differs between two points, in the order of paths.
    fn diff(
        &self,
        scenario: &str,
        from: &PointSpec,
        to: &PointSpec,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<DiffSums>;

    /// Figures of the journal.
    fn journal_stats(&self, scenario: &str) -> EngineResult<JournalStats>;
    /// Reads every stored byte of the journal. Damage is a result, not a failure.
    fn journal_verify(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<VerifyReport>;
    /// Gives what is written in the journal, redo first, until somebody has had enough.
    fn journal_dump(&self, scenario: &str, range: Range, each: Each<'_, Item>) -> EngineResult<()>;
    /// Makes the projections anew from the journal.
    fn journal_rebuild(&self, scenario: &str, progress: &dyn Progress) -> EngineResult<RebuildReport>;

    /// Remembers a repository, and makes it unless there is one at the place (`REPOSITORY_EXISTS`, `BAD_URL`,
    /// `WRONG_PASSWORD`, `STORE_UNAVAILABLE` ...).
    fn add_repository(&self, repository: NewRepository) -> EngineResult<Repository>;
    /// All of them, by name.
    fn list_repositories(&self) -> EngineResult<Vec<Repository>>;
    /// Makes a session of each root and waits until they are durable (`NO_SUCH_REPOSITORY`, `BACKUP_FAILED` ...). What
    /// an attempt stored before it failed is found again by the next.
    fn backup(&self, request: &BackupRequest, progress: &dyn Progress) -> EngineResult<BackupReport>;
    /// Sessions this daemon made, newest first.
    fn list_sessions(&self, query: &SessionsQuery) -> EngineResult<Vec<Session>>;
    /// What can be done with sessions beside making them (`NOT_SUPPORTED_THERE`).
    fn restores(&self) -> EngineResult<&dyn Restores>;

    /// Keeps a point readable until it is released (`OUTSIDE_WINDOW`, `NOT_CONFIGURED` with `rewind=off`; now: as a
    /// bookmark).
    fn create_snapshot(&self, scenario: &str, request: &SnapshotRequest) -> EngineResult<Snapshot>;
    /// Those of one scenario, or of all, oldest first.
    fn list_snapshots(&self, scenario: Option<&str>) -> EngineResult<Vec<Snapshot>>;
    /// One of them (`NO_SUCH_SNAPSHOT`).
    fn show_snapshot(&self, id: SnapshotId) -> EngineResult<Snapshot>;
    /// Lets go of one; what it was (`NO_SUCH_SNAPSHOT`).
    fn release_snapshot(&self, id: SnapshotId) -> EngineResult<Snapshot>;
    /// Shows a point as a read-only file system until `umount` or [`shutdown`](Engine::shutdown) (`NO_SUCH_SNAPSHOT`,
    /// `OUTSIDE_WINDOW`, `ROOTS_OVERLAP`, `MOUNT_FAILED`, `TOO_MANY`).
    fn mount(&self, scenario: &str, what: &MountWhat, directory: &Path) -> EngineResult<MountReport>;
    /// Figures of a repository (`REPOSITORY_DAMAGED` if a session cannot be read).
    fn repository_stats(&self, repository: &str, progress: &dyn Progress) -> EngineResult<RepositoryStats>;
    /// Compares everything that is stored, and reads what is asked for. Damage is a result, not a failure.
    fn check_repository(
        &self,
        request: &CheckRequest,
        progress: &dyn Progress,
    ) -> EngineResult<(CheckReport, Duration)>;
    /// What [`prune`](Engine::prune) would do now; changes nothing.
    fn plan_prune(&self, request: &PruneRequest, progress: &dyn Progress) -> EngineResult<PrunePlan>;
    /// Removes what no session needs and was marked long enough ago; marks the rest (`REPOSITORY_LOCKED`,
    /// `REPOSITORY_DAMAGED`). May be begun again after it was cut off anywhere.
    fn prune(&self, request: &PruneRequest, progress: &dyn Progress) -> EngineResult<Pruned>;
    /// What [`forget`](Engine::forget) would forget now, by group; changes nothing.
    fn plan_forget(&self, request: &ForgetRequest, progress: &dyn Progress) -> EngineResult<Vec<Group>>;
    /// Removes session records (`EMPTY_POLICY`, `REPOSITORY_LOCKED`). What was removed before a failure stays removed.
    fn forget(&self, request: &ForgetRequest, progress: &dyn Progress) -> EngineResult<ForgetReport>;
    /// Removes stale locks, or all.
    fn unlock(&self, repository: &str, all: bool) -> EngineResult<UnlockReport>;

    /// Finds files in sessions and points (`NOT_AVAILABLE` where there is no catalog).
    fn finder(&self) -> EngineResult<&dyn Finder> {
        Err(EngineError::new(&wire::codes::NOT_AVAILABLE, "this daemon has no catalog: it is no replica"))
    }

    /// Whether this daemon looks after tapes (`NOT_AVAILABLE` where it makes no sessions).
    fn permits_tapes(&self) -> EngineResult<()> {
        Err(EngineError::new(&wire::codes::NOT_AVAILABLE, "this daemon makes no sessions: it is no replica"))
    }

    /// Runs again what ran before the daemon ended. Returns soon; the work goes on behind.
    fn start(&self) -> EngineResult<()>;
    /// Ends all work so that the next start finds a clean state; at most `limit`. Later calls fail.
    fn shutdown(&self, limit: Duration);
}
