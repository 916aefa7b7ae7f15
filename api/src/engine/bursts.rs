//! Questions about bursts and their answers.

use crate::points::{PointSpec, TimeSpec};
use journal::{Lsn, Timestamp};
use restore::burst::{BurstKind, Confidence};
use std::path::PathBuf;

/// Which bursts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurstsQuery {
    /// Of this scenario.
    pub scenario: String,
    /// That end at or after it.
    pub since: Option<TimeSpec>,
    /// That begin at or before it.
    pub until: Option<TimeSpec>,
}

/// A time at which unusually many files were rewritten or renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Its first capture.
    pub first: Lsn,
    /// Its last capture.
    pub last: Lsn,
    /// The master's clock at the first.
    pub begin: Timestamp,
    /// The master's clock at the last.
    pub end: Timestamp,
    /// What is unusual, at least one.
    pub kinds: Vec<BurstKind>,
    /// How surely it is damage.
    pub confidence: Confidence,
    /// Different files hit.
    pub files: u64,
    /// Hits that replaced bytes.
    pub rewritten: u64,
    /// Hits that changed names.
    pub renamed: u64,
    /// Files that were looked into and could be judged.
    pub judged: u64,
    /// Those of them that became noise.
    pub spoiled: u64,
    /// A few files: the path before the burst, and the one at its end if that is another.
    pub examples: Vec<(PathBuf, Option<PathBuf>)>,
    /// The automatic bookmark it follows at once: most likely it is a rewind or restore of ours.
    pub after: Option<String>,
}

impl Burst {
    /// Whether a later one is the same damage, which only one of these captures kept apart.
    #[must_use]
    pub fn goes_on_in(&self, later: &Burst, cuts: &[u64], pause_ns: i64) -> bool {
        later.confidence == Confidence::High
            && self.confidence == Confidence::High
            && later.begin.0.saturating_sub(self.end.0) <= pause_ns
            && cuts.iter().any(|cut| (self.last.captured..later.first.captured).contains(cut))
    }

    /// Takes a later one in. Files hit in both count twice.
    pub fn append(&mut self, later: Burst) {
        self.last = later.last;
        self.end = later.end;
        for kind in later.kinds {
            if !self.kinds.contains(&kind) {
                self.kinds.push(kind);
            }
        }
        self.files += later.files;
        self.rewritten += later.rewritten;
        self.renamed += later.renamed;
        self.judged += later.judged;
        self.spoiled += later.spoiled;
    }

    /// The point to rewind to.
    #[must_use]
    pub fn point(&self) -> PointSpec {
        PointSpec::LastGood(Some((self.first.captured, self.last.captured)))
    }
}
