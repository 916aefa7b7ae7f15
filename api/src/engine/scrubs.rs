//! Scrubs, as the engine sees them.

use journal::proofs::Scrubbed;
use replication::replica::Side;
use std::path::PathBuf;
use std::time::Duration;

/// What to scrub, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRequest {
    /// Name of the scenario.
    pub scenario: String,
    /// Path on the master: only what is at and below it.
    pub path: Option<PathBuf>,
    /// Put right what the replica has wrong.
    pub repair: bool,
    /// Bytes of files a second, each side; 0: as fast as it goes.
    pub rate: u64,
}

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubDifference {
    /// On the master.
    pub path: PathBuf,
    /// In a word, see [`replication::replica::Difference`].
    pub what: &'static str,
    /// Who has it wrong.
    pub side: Side,
    /// Where the first block begins that differs; bytes only.
    pub offset: Option<u64>,
    /// Both sides are equal now.
    pub repaired: bool,
}

/// What a scrub came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Sums.
    pub sums: Scrubbed,
    /// The first of what differs.
    pub differences: Vec<ScrubDifference>,
    /// All that differs, repaired or not.
    pub found: u64,
    /// Of that, equal now.
    pub repaired: u64,
    /// From the call to the end.
    pub elapsed: Duration,
}
