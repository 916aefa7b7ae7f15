//! How much of the promised history is held, and when that must be said.
//!
//! Promised is a time: points are kept for so long. A budget of bytes may make retention give them up sooner, and then
//! somebody who relies on the time must hear of it before the worst day, not on it: below 85 % of the promise that is a
//! warning, below 75 % an error. A journal that is younger than the promise can hold no more than its age, and one that
//! never gave up a point holds all there is; both are whole. Pins never shorten history; they may keep the journal over
//! its budget, which is said too.
//!
//! "Now" is the clock, not the time up to which history has grown old ([`Journal::retain`]): while that stands, because the
//! master is not heard, the oldest point is as far back as is said, and further than promised. Nothing but the budget makes
//! it less then, and that is told as ever.
//!
//! Times of points are the master's. The replica's clock counts unless the master's is in front of it, so a clock that
//! jumped back shows less than there is at most until it has caught up, never more.

use crate::journal::Journal;
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::retention::RetentionPolicy;
use crate::state::rows::{self, PointRow};
use crate::tables::Space;
use std::time::Duration;

/// Less than this many percent of the promise are worth a warning.
pub const WARNING_BELOW: u32 = 85;
/// Less than this many are an error.
pub const ERROR_BELOW: u32 = 75;

/// How serious it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldLevel {
    /// The promise is kept, or nearly.
    Whole,
    /// Less than 85 % are held.
    Warning,
    /// Less than 75 % are held.
    Error,
}

/// How much history is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The oldest point and its time.
    pub oldest: (Lsn, Timestamp),
    /// What is promised, cut to the age of the journal.
    pub promised: Duration,
    /// From the oldest point to now.
    pub held: Duration,
    /// The one of the other, in whole percent, at most 100.
    pub percent: u32,
    /// What to make of it.
    pub level: HeldLevel,
    /// The segments are longer than the budget: pins keep them, or retention has not had its turn yet.
    pub over_budget: bool,
}

/// What is held of what is promised, in whole percent, and what to make of it.
fn judge(promised: Duration, held: Duration) -> (u32, HeldLevel) {
    // Tenths of a second would say nothing about days.
    let (promised, held) = (promised.as_millis(), held.as_millis());
    let percent = (held * 100).checked_div(promised).unwrap_or(100).min(100) as u32;
    let level = match percent {
        percent if percent < ERROR_BELOW => HeldLevel::Error,
        percent if percent < WARNING_BELOW => HeldLevel::Warning,
        _ => HeldLevel::Whole,
    };
    (percent, level)
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}

impl Journal {
    /// How much of what the policy promises is held. `None`: there is no point yet.
    #[must_use]
    pub fn held(&self, policy: RetentionPolicy, now: Timestamp) -> Option<Held> {
        let (first_point, oldest) = self.with_controls(|controls| (controls.first_point, controls.horizon()));
        if first_point == 0 {
            return None;
        }
        let now = now.max(self.journaled_time());
        let time = self.point_time(oldest).unwrap_or(now);
        let held = between(time, now);
        let promised = if oldest == Lsn::captured(first_point) {
            policy.keep.min(held)
        } else {
            policy.keep.min(between(self.set().created(), now)).max(Duration::from_millis(1))
        };
        let (percent, level) = judge(promised, held);
        let segments = [self.redo().segments(), self.undo().segments()];
        let bytes = segments.iter().flatten().map(|segment| segment.bytes).sum::<u64>();
        Some(Held {
            oldest: (oldest, time),
            promised,
            held,
            percent,
            level,
            over_budget: bytes > policy.bytes_max,
        })
    }

    /// The time of the point at exactly this LSN; `None` if none is there, or it cannot be read.
    #[must_use]
    pub fn time_of(&self, lsn: Lsn) -> Option<Timestamp> {
        let row = self.tables().get(Space::Points, &lsn.to_key()).ok()??;
        rows::read::<PointRow>(Space::Points, &row).ok().map(|row| row.time)
    }

    /// The time of the first point that is not before this one.
    fn point_time(&self, lsn: Lsn) -> Option<Timestamp> {
        let end = Lsn::MAX.to_key();
        let (_, row) = self.tables().range(Space::Points, &lsn.to_key(), &end).next()?.ok()?;
        rows::read::<PointRow>(Space::Points, &row).ok().map(|row| row.time)
    }
}

#[cfg(test)]
mod tests;
