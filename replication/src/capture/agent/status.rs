//! What an agent says of itself.

use journal::{GapCause, Lsn};

/// How complete the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Synchronizing: no rewind point yet, or everything is being compared anew.
    #[default]
    Synchronizing,
    /// Everything noticed is told, nothing was missed.
    Exact,
    /// Something may have been missed and is being compared.
    Rescanning(GapCause),
    /// Something may have been missed and cannot be compared yet.
    Suspect(GapCause),
    /// It has ended.
    Stopped,
}

/// A snapshot of an agent's doings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// How complete the stream is.
    pub state: State,
    /// Gaps open now.
    pub gaps: usize,
    /// Directories watched.
    pub watches: usize,
    /// Directories that should be watched and cannot be: they are compared from time to time instead.
    pub unwatched: usize,
    /// Hints waiting for a look.
    pub hints: usize,
    /// Names of which something could not be kept.
    pub skipped: usize,
    /// Files (all that is no directory) created in the stream since the start.
    pub files: u64,
    /// Directories created in the stream since the start.
    pub directories: u64,
    /// By how many bytes files have grown in the stream since the start.
    pub bytes: u64,
    /// The last capture handed over.
    pub last_lsn: Lsn,
    /// Why it ended, if it failed.
    pub failure: Option<String>,
}
