//! Where the time of a backup goes: seconds that threads spend in each stage of the way from a view into a repository.
//!
//! Kept always, so that a slow backup can be explained when it was slow: a few readings of the clock a blob. Stages do not
//! overlap within a thread; threads do, so the sum is more than the time on a clock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Listing directories and looking at metadata.
    Walk,
    /// Finding, opening and reading files of the view.
    Read,
    /// Finding where to cut.
    Cut,
    /// Naming blobs.
    Hash,
    /// Compressing, decompressing and comparing.
    Compress,
    /// Encrypting and authenticating.
    Seal,
    /// Putting blobs into packs, and waiting for uploads that are behind.
    Pack,
    /// Naming packs and storing them durably.
    Store,
    /// Waiting for the last packs, index, proof and record.
    Commit,
}

impl Stage {
    /// All of them, in the order in which bytes go through.
    pub const ALL: [Stage; 9] = [
        Stage::Walk,
        Stage::Read,
        Stage::Cut,
        Stage::Hash,
        Stage::Compress,
        Stage::Seal,
        Stage::Pack,
        Stage::Store,
        Stage::Commit,
    ];

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Walk => "walk",
            Stage::Read => "read",
            Stage::Cut => "cut",
            Stage::Hash => "hash",
            Stage::Compress => "compress",
            Stage::Seal => "seal",
            Stage::Pack => "pack",
            Stage::Store => "store",
            Stage::Commit => "commit",
        }
    }
}

/// What was spent in each stage so far. Threads share it.
#[derive(Debug, Default)]
pub struct Stages([AtomicU64; Stage::ALL.len()]);

impl Stages {
    /// Does some work and counts its time.
    pub fn time<T>(&self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        if let Some(nanoseconds) = self.0.get(stage as usize) {
            nanoseconds.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        result
    }

    /// The time spent in a stage, of all threads together.
    #[must_use]
    pub fn spent(&self, stage: Stage) -> Duration {
        self.0
            .get(stage as usize)
            .map_or(Duration::ZERO, |spent| Duration::from_nanos(spent.load(Ordering::Relaxed)))
    }
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, stage) in Stage::ALL.into_iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{} {:.3} s", stage.name(), self.spent(stage).as_secs_f64())?;
        }
        Ok(())
    }
}
