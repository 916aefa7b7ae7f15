//! Questions to the engine and its answers.

use crate::definition::Definition;
use crate::globs::PathGlobs;
use crate::points::{PointSpec, TimeSpec};
use journal::check::TablesReport;
use journal::held::Held;
use journal::{Class, Lsn, Provenance, Timestamp};
use std::path::PathBuf;
use std::time::Duration;

/// State of a scenario, as `scenario status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is captured.
    Stopped,
    /// A synchronization is under way.
    Synchronizing,
    /// Changes are captured, delivered and applied.
    Replicating,
    /// Delivery pauses, the master spools.
    Suspended,
    /// The replica tree was rewound and does not follow the capture.
    Detached,
    /// It should run and does not; see the cause.
    Problem,
    /// One side does not let the other in.
    NotAuthorized,
}

impl State {
    /// Its word in output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Synchronizing => "synchronizing",
            State::Replicating => "replicating",
            State::Suspended => "suspended",
            State::Detached => "detached",
            State::Problem => "problem",
            State::NotAuthorized => "not-authorized",
        }
    }
}

/// A scenario as defined, with its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Never used twice.
    pub id: u64,
    /// Complete.
    pub definition: Definition,
    /// Clock of the replica.
    pub created: Timestamp,
    /// How it stands.
    pub state: State,
}

/// What deleting gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteReport {
    /// Bytes of journal and kept areas removed.
    pub journal_bytes: u64,
}

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Info,
    /// Goes on, but look.
    Warning,
    /// Does not go on.
    Error,
}

/// One result of a preflight check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// `master` or `replica`.
    pub side: &'static str,
    /// Short name of the check: `root`, `space`, `privilege`, `watches`, `mounts`, `clock` ...
    pub check: &'static str,
    /// What was found.
    pub text: String,
    /// Where, if anywhere.
    pub path: Option<PathBuf>,
}

/// How the first look compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Differing files are sent whole.
    #[default]
    File,
    /// Only blocks that differ are sent.
    Block,
}

/// Options of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// How synchronization compares.
    pub sync: SyncMode,
    /// Files of the same size and times are taken as equal.
    pub ignore_same: bool,
    /// The two sides are known to be equal.
    pub skip_sync: bool,
}

/// Something that could not be kept or restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// On the master.
    pub path: PathBuf,
    /// `node`, `content`, `xattrs`, `mount point`.
    pub what: &'static str,
    /// The system's word.
    pub error: String,
}

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunReport {
    /// It replicated when the call came.
    pub ran_already: bool,
    /// A synchronization was made.
    pub synchronized: bool,
    /// Regular files in the tree.
    pub files: u64,
    /// Directories in the tree.
    pub directories: u64,
    /// Bytes in the tree.
    pub bytes: u64,
    /// Bytes of files that were sent.
    pub bytes_sent: u64,
    /// Names the replica had and the master has not, or has for something else.
    pub removed: u64,
    /// LSN of the end of synchronization.
    pub lsn: Lsn,
    /// From the call to the end.
    pub elapsed: Duration,
    /// The first of what was skipped; at most some hundred.
    pub skipped: Vec<Skipped>,
    /// All of what was skipped.
    pub skipped_count: u64,
}

/// How a resume went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResumeReport {
    /// Files brought back to the last applied captured LSN, if it was detached.
    pub files_returned: u64,
    /// Captures of the backlog.
    pub captures_applied: u64,
    /// Applied when it ended.
    pub lsn: Lsn,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// A comparison of master and replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// For this LSN.
    pub lsn: Lsn,
    /// Whether both sides had the same digest.
    pub equal: bool,
    /// When.
    pub at: Timestamp,
}

/// How a scenario stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: u64,
    /// Its state.
    pub state: State,
    /// What is wrong, if something is.
    pub cause: Option<String>,
    /// Last known to be captured.
    pub captured: Lsn,
    /// Durable in the journal.
    pub journaled: Lsn,
    /// In the replica tree.
    pub applied: Lsn,
    /// Age of the oldest captured change that is not applied; zero if none.
    pub lag: Duration,
    /// Bytes waiting on the master.
    pub spool_bytes: u64,
    /// Gaps not yet rescanned.
    pub gaps_open: u64,
    /// The last comparison.
    pub last_proof: Option<Proof>,
    /// The last scrub of everything that came to its end.
    pub last_scrub: Option<journal::proofs::Scrubbed>,
    /// How often it is scrubbed by itself.
    pub scrub_every: Option<Duration>,
    /// Objects of the master not kept now.
    pub skipped: u64,
    /// How much of the promised history is held, once there is a point.
    pub window: Option<Held>,
}

/// How far a flush waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Read again, and in the master's spool, which is in memory until it overflows: a cut line does not lose it. A
    /// crash of the master's daemon does; what the files hold then is found by a rescan.
    Captured,
    /// Safe in the journal.
    Journaled,
    /// In the replica tree.
    #[default]
    Applied,
}

/// A barrier that came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flushed {
    /// Of the barrier.
    pub lsn: Lsn,
    /// Master's clock.
    pub time: Timestamp,
    /// How consistent this point is.
    pub class: Class,
    /// How long the application was held for it, if it was.
    pub held: Option<Duration>,
}

/// A flush wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushRequest {
    /// How far it waits.
    pub stage: Stage,
    /// The application is quiesced while the barrier passes.
    pub consistent: bool,
    /// How long it may take.
    pub timeout: Duration,
}

/// A bookmark wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookmarkRequest {
    /// Checked name.
    pub name: String,
    /// A past point; else now.
    pub at: Option<PointSpec>,
    /// The application is quiesced while the barrier passes; not with `at`.
    pub consistent: bool,
    /// How long the barrier may take.
    pub timeout: Duration,
}

/// A named point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// Unique in its scenario.
    pub name: String,
    /// Where.
    pub lsn: Lsn,
    /// Master's clock.
    pub time: Timestamp,
    /// How consistent.
    pub class: Class,
    /// Set by the product before something destructive.
    pub automatic: bool,
    /// How long the application was held for it; known only to the call that set it.
    pub held: Option<Duration>,
}

/// What a point means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedPoint {
    /// Where.
    pub lsn: Lsn,
    /// Master's clock.
    pub time: Timestamp,
    /// How consistent.
    pub class: Class,
}

/// What happened at a point, or to an object between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// Came to be.
    Created,
    /// Other bytes.
    Modified,
    /// Another name.
    Renamed,
    /// Gone.
    Removed,
    /// Owner, mode, times, extended attributes.
    Attributes,
    /// A bookmark sits here.
    Bookmark,
    /// Barrier, gap, synchronization.
    Marker,
}

/// Which points.
#[derive(Clone, Debug)]
pub struct PointsQuery {
    /// Of this scenario.
    pub scenario: String,
    /// Only what touches these paths.
    pub paths: Option<PathGlobs>,
    /// Only these kinds; empty: all.
    pub kinds: Vec<PointKind>,
    /// Not older.
    pub since: Option<TimeSpec>,
    /// Not younger.
    pub until: Option<TimeSpec>,
    /// At most as many.
    pub limit: Option<u64>,
}

/// One point of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Where in history.
    pub lsn: Lsn,
    /// Master's clock.
    pub time: Timestamp,
    /// What happened.
    pub kind: PointKind,
    /// To what; `None` for marks of the whole stream.
    pub path: Option<PathBuf>,
    /// What it was called before.
    pub from: Option<PathBuf>,
    /// Bytes written.
    pub bytes: u64,
    /// How it was seen.
    pub provenance: Provenance,
    /// Name of the bookmark, words of the marker.
    pub note: Option<String>,
    /// How consistent, of a bookmark.
    pub class: Option<Class>,
    /// Whether it can still be gone back to; else it was thinned out.
    pub retained: bool,
}

/// One difference between two states of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Created, modified, renamed, removed or attributes.
    pub kind: PointKind,
    /// On the master, as in the state that is gone to.
    pub path: PathBuf,
    /// Before a rename.
    pub from: Option<PathBuf>,
    /// Bytes that differ.
    pub bytes: u64,
}

/// Sums over changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Objects that come to be.
    pub created: u64,
    /// Files whose bytes change.
    pub modified: u64,
    /// Objects that change their name only.
    pub renamed: u64,
    /// Objects that go.
    pub removed: u64,
    /// Objects of which only attributes change.
    pub attributes: u64,
    /// Bytes that differ.
    pub bytes: u64,
}

impl Counts {
    /// Counts one change.
    pub fn add(&mut self, change: &Change) {
        let count = match change.kind {
            PointKind::Created => &mut self.created,
            PointKind::Modified => &mut self.modified,
            PointKind::Renamed => &mut self.renamed,
            PointKind::Removed => &mut self.removed,
            PointKind::Attributes | PointKind::Bookmark | PointKind::Marker => &mut self.attributes,
        };
        *count += 1;
        self.bytes = self.bytes.saturating_add(change.bytes);
    }
}

/// Sums of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiffSums {
    /// Older point.
    pub from: Lsn,
    /// Newer point.
    pub to: Lsn,
    /// Sums.
    pub counts: Counts,
}

/// Figures of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Oldest rewind point, once there is one.
    pub oldest: Option<(Lsn, Timestamp)>,
    /// Newest journaled LSN.
    pub newest: Option<(Lsn, Timestamp)>,
    /// Segment files of redo.
    pub redo_segments: u64,
    /// Their bytes.
    pub redo_bytes: u64,
    /// Segment files of undo.
    pub undo_segments: u64,
    /// Their bytes.
    pub undo_bytes: u64,
    /// Bytes in kept areas.
    pub kept_bytes: u64,
    /// Bytes of the tables.
    pub tables_bytes: u64,
    /// Bookmarks.
    pub bookmarks: u64,
    /// Pins.
    pub pins: u64,
    /// Free on the file system of the journal.
    pub free_bytes: u64,
    /// Limit of the journal.
    pub max_bytes: u64,
    /// How long points are kept.
    pub retention: Duration,
    /// How much of that is held, once there is a point.
    pub window: Option<Held>,
    /// Bytes of files that changed, in the redo that is kept, as they are in the files.
    pub payload_bytes: u64,
    /// Bytes in the undo that is kept, before what differs was packed. Bytes that undo finds elsewhere do not count.
    pub undo_payload_bytes: u64,
    /// Points that retention must leave, oldest first: number, point, who needs it. At most some.
    pub pinned: Vec<(u64, Lsn, String)>,
    /// What thinning has given up, and how it goes.
    pub thinned: journal::thinning::ThinnedSoFar,
    pub thinning: replication::replica::ThinningState,
}

/// A damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// File of the journal.
    pub file: PathBuf,
    /// Byte offset in it.
    pub offset: u64,
    /// What is wrong there.
    pub what: String,
}

/// What comparing tables with segments found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TablesVerified {
    /// They were compared.
    Compared(TablesReport),
    /// They were not, and why.
    Not(String),
}

impl Default for TablesVerified {
    fn default() -> Self {
        TablesVerified::Compared(TablesReport::default())
    }
}

/// What reading the whole journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Damaged places; at most some hundred.
    pub damage: Vec<Damage>,
    /// Tables against segments, or why they were not compared.
    pub tables: TablesVerified,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// How a rebuild went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RebuildReport {
    /// Captures read.
    pub captures: u64,
    /// Rows written.
    pub rows: u64,
    /// From the call to the end.
    pub elapsed: Duration,
}
