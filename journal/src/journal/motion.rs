//! Whether the replica tree is on the move.
//!
//! Apply publishes rows before it moves names, so for a moment the tree is not what the tables say, and who reads must
//! look again. Where nothing moves, what is not where it belongs is not going to be there later either: a reader that
//! waited for each missing file would need a day for some thousands of them, on the very day on which files are
//! missing. So there is a count that apply changes when it begins and when it is done: a look that began and ended at
//! the same even count saw a tree at rest.
//!
//! A batch that failed half way leaves the count odd until it is finished. Then a reader waits, once for that batch: while
//! it stands, what is not where it belongs stays away. But whoever tries to finish it moves names again, under the same
//! count; so tries are counted, too, and during a new one nothing is believed for what an earlier wait has shown.

use super::Journal;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts beginnings and ends of changes to the tree. Only one thread changes it.
#[derive(Debug)]
pub struct Motion {
    /// Odd while a batch is under way, also one that stands half way.
    batches: AtomicU64,
    /// Odd while somebody moves names.
    tries: AtomicU64,
}

/// What was under way at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    batches: u64,
    tries: u64,
}

impl Moment {
    /// Whether a batch was under way; it may have stood half way.
    #[must_use]
    pub fn is_within_batch(self) -> bool {
        !self.batches.is_multiple_of(2)
    }

    /// Whether somebody moved names.
    #[must_use]
    pub fn is_moving(self) -> bool {
        !self.tries.is_multiple_of(2)
    }

    /// Whether no batch began or ended from one to the other.
    #[must_use]
    pub fn is_same_batch(self, other: Moment) -> bool {
        self.batches == other.batches
    }
}

impl Default for Motion {
    /// On the move: a journal that was opened does not know yet what the tree holds.
    fn default() -> Self {
        Motion { batches: AtomicU64::new(1), tries: AtomicU64::new(1) }
    }
}

impl Motion {
    /// This moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment { batches: self.batches.load(Ordering::SeqCst), tries: self.tries.load(Ordering::SeqCst) }
    }

    fn begin(&self) {
        let tries = self.tries.load(Ordering::SeqCst);
        self.tries.store((tries | 1).wrapping_add(2), Ordering::SeqCst);
        self.batches.fetch_or(1, Ordering::SeqCst);
    }

    fn pause(&self) {
        let tries = self.tries.load(Ordering::SeqCst);
        if !tries.is_multiple_of(2) {
            self.tries.store(tries.wrapping_add(1), Ordering::SeqCst);
        }
    }

    pub(super) fn end(&self) {
        let batches = self.batches.load(Ordering::SeqCst);
        if !batches.is_multiple_of(2) {
            self.batches.store(batches.wrapping_add(1), Ordering::SeqCst);
        }
        self.pause();
    }
}

impl Journal {
    /// Whether the tree is on the move, for readers.
    #[must_use]
    pub fn motion(&self) -> &Arc<Motion> {
        &self.motion
    }

    /// Rows are about to be published and the tree to be touched, or touched again to finish what was begun.
    /// [`Journal::note_applied`] says that it is done, [`Journal::note_standing`] that it failed.
    pub fn note_touching(&self) {
        self.motion.begin();
    }

    /// Nothing moves names until the batch is tried again.
    pub fn note_standing(&self) {
        self.motion.pause();
    }
}
