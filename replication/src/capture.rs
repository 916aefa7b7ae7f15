//! The master's side: what changed in the protected directories, found by looking.
//!
//! Kernel notifications are hints that say where to look, never history: they merge, reorder and go missing. A *round*
//! takes the hints that are due, looks at the names and nodes they point to, follows every doubt (the other names of
//! what was found, the places of what was lost) until the picture is closed, compares it with the [`Index`], orders the
//! differences with [`journal::serialize`] and hands them to the [`CaptureSink`] as drafts of captures. The index is
//! what the stream says so far: it is changed only by what was handed over.
//!
//! Why nothing is lost in silence: a directory is watched *before* it is listed; a hint is dropped only after a look
//! that began later; whatever cannot be looked at leaves a marker; and where hints themselves were lost (overflow,
//! watch limit, agent down) a gap is opened, everything below is compared, and only then the gap is closed.
//!
//! Modules in reading order: `look` (what the kernel says of a name), `index`, `watch`, `hints`, `facts` (the looking
//! part of a round), `round` (the telling part), `obstacles` (what
//! cannot be looked at), `content` (bytes of files), `draft`, `core`, `agent` (the thread).

mod actual;
mod agent;
mod blocks;
mod content;
mod core;
mod draft;
mod examine;
mod facts;
mod hints;
mod index;
mod limbo;
mod list;
mod look;
mod mounts;
mod node;
mod obstacles;
mod proof;
mod roots;
mod round;
mod settle;
mod skips;
mod span;
mod watch;
mod write;

pub(crate) use actual::block_hash;
pub use actual::{Actual, Known, KnownBlocks};
pub use agent::{Agent, Hold, Start, State, Status};
pub use blocks::{BlockSource, Comparing, HeldBlocks};
pub use index::{Index, IndexState, NamespaceEntry};
pub(crate) use write::STAGE_PREFIX;
pub use write::WriteRequest;

use journal::{Event, Lsn, Provenance, RootNo, Timestamp};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// One root to capture.
#[derive(Clone, Debug)]
pub struct CaptureRoot {
    /// Its number in the scenario.
    pub number: RootNo,
    /// Where it is on this host.
    pub path: PathBuf,
    /// Globs of what is left out: relative to the root, or absolute if they begin with `/`. A directory that matches
    /// is left out with all below it.
    pub exclude: Vec<String>,
}

/// What a capture agent needs to know.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// The roots; they do not overlap.
    pub roots: Vec<CaptureRoot>,
    /// Directory for barrier cookies, outside every root; created, mode 0700.
    pub cookie_directory: PathBuf,
    /// Trust equal size, mtime, ctime and inode in a rescan instead of reading the file; size and mtime where the
    /// stream never had the others (an adopted tree).
    pub ignore_same: bool,
    /// How files are compared of which the index has no hashes; `None`: they are sent whole.
    pub comparing: Option<Comparing>,
    /// How long a hint waits for others before it is looked at.
    pub debounce: Duration,
    /// Shortest time between two comparisons of everything because something was changed through a name that was not
    /// found: it may have been a second name of any file.
    pub sweep: Duration,
    /// Most hints kept in memory; more are an overflow, and lead to a rescan.
    pub hints_max: usize,
    /// Names looked at in one round beyond which others are left for the next one; a listing that finds more is
    /// divided.
    pub looks_max: usize,
    /// Most directories watched, besides what the kernel allows. Those beyond are compared every few seconds, within a
    /// gap that stays open.
    pub watches_max: usize,
    /// No capture gets an earlier time than this.
    pub time_floor: Timestamp,
    /// File that remembers which directories the roots are; `None`: whatever their paths lead to is taken.
    pub origins: Option<PathBuf>,
}

impl CaptureConfig {
    /// Defaults for these roots: ignore same on, 10 ms, a quarter of a million hints.
    #[must_use]
    pub fn new(roots: Vec<CaptureRoot>, cookie_directory: PathBuf) -> Self {
        CaptureConfig {
            roots,
            cookie_directory,
            ignore_same: true,
            comparing: None,
            debounce: Duration::from_millis(10),
            sweep: Duration::from_secs(600),
            hints_max: 1 << 18,
            looks_max: 50_000,
            watches_max: usize::MAX,
            time_floor: Timestamp(0),
            origins: None,
        }
    }
}

/// A capture before it has an LSN, or one part of it. Parts of one capture come one after the other; the sink mints
/// the LSN with part 0. A part carries at most [`PART_BYTES_MAX`] of payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// When it was captured, non-decreasing.
    pub time: Timestamp,
    /// How it was seen.
    pub provenance: Provenance,
    /// Root it lies in.
    pub root: RootNo,
    /// For people: path relative to the root.
    pub path: Vec<u8>,
    /// Number of the part, from 0.
    pub part: u32,
    /// Whether it is the last one: the capture exists.
    pub last: bool,
    /// Events in a valid serial order; payloads in memory.
    pub events: Vec<Event>,
}

/// Most payload bytes of one part.
pub const PART_BYTES_MAX: usize = 4 << 20;

/// Where drafts go: the spool.
pub trait CaptureSink: Send {
    /// Takes a part and returns the LSN of its capture. May block: that is how a slow link slows capture down.
    fn emit(&mut self, draft: Draft) -> Result<Lsn, SinkError>;

    /// Whether the capture of this LSN, and all before it, are durable at the replica.
    fn is_safe(&self, _lsn: Lsn) -> bool {
        true
    }
}

/// Why a sink takes no more.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// It was closed: the agent shall stop.
    #[error("the spool is closed")]
    Closed,
    /// It takes nothing for now: the capture under way is given up, and what follows is a gap.
    #[error("the spool takes no more")]
    Full(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It cannot store what it is given.
    #[error("store a capture in the spool")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A failed operation of capture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A file or directory of the agent itself, or a root.
    #[error("{operation} {path}")]
    File { operation: &'static str, path: PathBuf, source: io::Error },
    /// The kernel's notifications cannot be had.
    #[error("{operation}")]
    Watch { operation: &'static str, source: io::Error },
    /// The index cannot be read or written: rebuild it.
    #[error("{operation} in the index")]
    Index { operation: &'static str, source: fjall::Error },
    /// A row of the index does not decode: rebuild it.
    #[error("a row of the index ({space}) does not decode")]
    BadRow { space: &'static str },
    /// An exclude glob is malformed.
    #[error("exclude pattern {pattern:?}")]
    Exclude { pattern: String, source: globset::Error },
    /// The sink refused a draft.
    #[error("hand over a capture")]
    Sink(#[from] SinkError),
    /// The agent is not running any more.
    #[error("the capture agent has stopped")]
    Stopped,
    /// An answer did not come in time.
    #[error("the capture agent did not answer in {0:?}")]
    TimedOut(Duration),
    /// Too many requests at once.
    #[error("too many requests wait for the capture agent")]
    Busy,
    /// A root is gone or replaced: nothing of it can be captured.
    #[error("root {path} is not the directory it was")]
    RootLost { path: PathBuf },
}

#[cfg(test)]
mod tests;
