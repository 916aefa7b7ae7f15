//! Blocks of points, made behind apply. Who makes them, and how soon, changes what a search costs and never what it finds.

use super::Journal;
use crate::controls::Controls;
use crate::error::JournalError;
use crate::state::summary::BLOCK_POINTS;

impl Journal {
    /// Makes the next block of points ([`crate::state::summary`]). False: there are not enough points for one. May be
    /// called by any thread at any time.
    ///
    /// # Errors
    /// As the tables; the next call tries again.
    pub fn summarize_points(&self) -> Result<bool, JournalError> {
        self.summarize_points_by(BLOCK_POINTS)
    }

    /// The same with blocks of so many points, at least one.
    ///
    /// # Errors
    /// As [`Journal::summarize_points`].
    pub fn summarize_points_by(&self, points_max: usize) -> Result<bool, JournalError> {
        let mut summarizer = self.summarizer.lock();
        // Behind what is applied a batch may be half visible.
        let (oldest, upto) = (self.with_controls(Controls::horizon), self.applied());
        summarizer.step(&**self.tables(), (oldest, upto), points_max)
    }
}
