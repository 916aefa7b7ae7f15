//! Looking after repositories, as the engine is asked for it.

pub use snapshot::repository::upkeep::check::CheckReport;
pub use snapshot::repository::upkeep::plan::PrunePlan;
pub use snapshot::repository::upkeep::policy::Group;

use snapshot::repository::Id;
use snapshot::repository::upkeep::check::ReadData;
use snapshot::repository::upkeep::forget::ForgetOptions;
use snapshot::repository::upkeep::plan::PruneOptions;
use snapshot::repository::upkeep::prune::PruneReport;
use snapshot::repository::upkeep::stats::Stats;
use std::collections::HashSet;
use std::time::Duration;

/// A check wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRequest {
    /// Name of the repository.
    pub repository: String,
    /// How much is read.
    pub read: ReadData,
}

/// A prune wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PruneRequest {
    /// Name of the repository.
    pub repository: String,
    /// How.
    pub options: PruneOptions,
}

/// What came of a prune.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// What it did.
    pub report: PruneReport,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// A retention to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetRequest {
    /// Name of the repository.
    pub repository: String,
    /// What is kept, and of which sessions.
    pub options: ForgetOptions,
    /// Only these may go; `None`: whatever the plan says.
    pub confirmed: Option<HashSet<Id>>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgetReport {
    /// Sessions that stay, of those that were looked at.
    pub kept: u64,
    /// Sessions that are gone.
    pub forgotten: Vec<Id>,
    /// From the call to the end.
    pub elapsed: Duration,
}

/// Figures of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryStats {
    /// The repository.
    pub repository: super::Repository,
    /// Of its format.
    pub version: u32,
    /// What it holds.
    pub stats: Stats,
    /// When a check last ended, in seconds since 1970, and how many damaged objects it found.
    pub last_check: Option<(i64, u64)>,
}

/// What unlocking came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlockReport {
    /// Locks that were removed.
    pub removed: u64,
    /// Locks that are there, each as people read it.
    pub left: Vec<String>,
}
