//! Questions about rewinds and their answers.

use super::types::{Counts, ResolvedPoint, Skipped};
use crate::points::PointSpec;
use journal::Lsn;
use std::path::PathBuf;
use std::time::Duration;

/// Where a rewind writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Onto {
    /// The replica tree; detaches the scenario.
    Replica,
    /// The master, through its agent; the scenario goes on.
    Master,
    /// A directory of the daemon's host, empty or not there; touches neither side.
    Directory(PathBuf),
}

/// A rewind wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindRequest {
    /// Of this scenario.
    pub scenario: String,
    /// To this point.
    pub to: PointSpec,
    /// Onto this.
    pub onto: Onto,
    /// Only these paths of the master and what is below them; empty: everything.
    pub paths: Vec<PathBuf>,
    /// The call was made before and interrupted by the end of the daemon: an unfinished target is its own.
    pub again: bool,
}

/// What a rewind would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindPlan {
    /// Goes to.
    pub to: ResolvedPoint,
    /// Where the target stands.
    pub from: Lsn,
    /// Sums of the changes.
    pub counts: Counts,
    /// What to know before saying yes.
    pub warnings: Vec<String>,
    /// The point, in words that mean the same at any later time.
    pub point: PointSpec,
}

/// How a rewind went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindReport {
    /// Went to.
    pub to: ResolvedPoint,
    /// Automatic bookmark that leads back; `None` where neither side was changed.
    pub before: Option<String>,
    /// Whether the master was written, and is what leads back too.
    pub onto_master: bool,
    /// Files that differ from before.
    pub files_changed: u64,
    /// Bytes written to the target.
    pub bytes_written: u64,
    /// From the call to the end.
    pub elapsed: Duration,
    /// The first of what was skipped.
    pub skipped: Vec<Skipped>,
    /// All of what was skipped.
    pub skipped_count: u64,
}
