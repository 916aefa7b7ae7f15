//! The clock by which history grows old: it runs only as far as the replica knows itself up to date with its master.
//!
//! History that is given up by age is gone for good, and it is needed most when something has happened to the master. So a
//! cut, a master that is off, a scenario that is stopped and an apply that stands or lags make nothing older. When the master
//! was heard at T and had captured as far as C, history may grow old up to T once apply has reached C, and not before. After a
//! start it goes on from the time of the newest capture that the tree shows, never from now. It owns no thread, reads no clock
//! and refuses nothing: room is made by the budget, which knows no time ([`journal::retention`]).
//!
//! It keeps apart, too, what a master may bring back from what is given up: a node that was removed and is revived by the next
//! capture ([`crate::capture`]) is not taken from the kept area because the line between the two was down for long.
//!
//! Whose clock is compared with whose. The age of a segment counts from its `time_last`: the greatest of the times of its
//! captures, which are the master's, and of its records of the durable cursor, which are this replica's. It counts up to T,
//! which is this replica's clock when the message came, but no more than the master's when it was sent, and never more than
//! this replica's clock now. So none of the two, whichever of them is ahead or behind, makes history older than it is by the
//! clock that dated it: a difference makes it grow old later, by no more than that difference. The master's clock can hold
//! T back and never push it, so nobody on the master shortens the window with it; and a message that lay in a buffer while
//! this replica was asleep says no more than it said when it was sent.

use super::Replica;
use journal::journal::Journal;
use journal::{Lsn, Timestamp, TreeIo};

/// How far the clock is believed beyond the time of the newest capture.
const CLOCK_AHEAD_MAX_NS: i64 = 24 * 3600 * 1_000_000_000;

/// This replica's clock, but not far ahead of what was captured last. A machine that boots with a clock years ahead must not
/// give up all history at once; that of a tree in which nothing happens ages later, and costs nothing more by that.
pub(super) fn clock(journal: &Journal) -> Timestamp {
    let latest = Timestamp(journal.journaled_time().0.saturating_add(CLOCK_AHEAD_MAX_NS));
    journal.clock().now().min(latest)
}

/// Up to when history has grown old.
#[derive(Debug)]
pub(super) struct Age {
    upto: Timestamp,
    /// How far the master had captured, and when that was heard, if apply was not there yet. The first such word, until apply
    /// has come to it: of an apply that always lags a little the last word would never come true.
    waiting: Option<(Lsn, Timestamp)>,
}

impl Age {
    /// Of a replica whose tree shows a capture of this time; `None`: of one that must hear of its master first.
    pub(super) fn new(newest: Option<Timestamp>) -> Self {
        Age { upto: newest.unwrap_or_default(), waiting: None }
    }

    /// At `at` the master had captured as far as `captured`, and the tree shows `applied`.
    pub(super) fn heard(&mut self, captured: Lsn, at: Timestamp, applied: Lsn) {
        self.settle(applied);
        if applied >= captured {
            self.upto = self.upto.max(at);
            self.waiting = None;
        } else if self.waiting.is_none_or(|(before, _)| captured < before) {
            // Less than before: a master that begins anew, or one that had spoken nonsense.
            self.waiting = Some((captured, at));
        }
    }

    /// Up to when history has grown old, now that the tree shows `applied`. Never later than `now`: if the clock was set back,
    /// what was heard before that was heard now at the latest.
    pub(super) fn upto(&mut self, applied: Lsn, now: Timestamp) -> Timestamp {
        if let Some((_, at)) = &mut self.waiting {
            *at = now.min(*at);
        }
        self.settle(applied);
        self.upto = self.upto.min(now);
        self.upto
    }

    fn settle(&mut self, applied: Lsn) {
        if let Some((_, at)) = self.waiting.take_if(|(captured, _)| applied >= *captured) {
            self.upto = self.upto.max(at);
        }
    }
}

impl<T: TreeIo> Replica<T> {
    /// The master captures, and at `time` of its own clock had captured as far as `captured`: history may grow old up to
    /// now, and up to that time, once the tree shows that capture. Who never calls it keeps what the budget allows.
    pub fn heard(&self, captured: Lsn, time: Timestamp) {
        let at = clock(&self.journal).min(time);
        let mut state = self.shared.0.lock();
        // Whatever is in the way of apply, history may be needed to get round it.
        if state.halt.is_none() {
            state.age.heard(captured, at, self.journal.applied());
        }
    }
}

#[cfg(test)]
mod tests;
