//! When history is thinned: at idle moments of apply, a segment or two at a time, and not for ever in vain.
//!
//! It runs on the thread of apply, so it never takes a journal that is being closed, and never more at a time than apply can
//! wait for. While apply lags, is halted, or the disk is nearly full, it waits. An error never stops anything else: it is
//! tried again, and after [`FAILURES_MAX`] in a row there is a long pause, which is said.

use crate::chain::chain;
use journal::journal::Journal;
use journal::thin::Tiers;
use journal::thinning::Thinned;
use journal::{JournalError, Timestamp};
use std::time::{Duration, Instant};

/// Failures in a row after which it stops.
const FAILURES_MAX: u32 = 5;
/// How long it then stops.
const STOPPED_FOR: Duration = Duration::from_secs(6 * 3600);
/// Pause before the first look at most: a daemon that is started often thins, too.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Pause between two segments.
const SEGMENT_PAUSE: Duration = Duration::from_secs(1);
/// Bytes of segments in one go.
const BYTES_MAX: u64 = 64 << 20;

/// How thinning goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThinningState {
    /// Failures since it last succeeded.
    pub failures: u32,
    /// Why it does not go on for some hours, or until a restart.
    pub stopped: Option<String>,
}

/// Room that must be free beside the minimum: what is written before something is removed.
pub(super) const ROOM: u64 = 2 * BYTES_MAX;

/// Decides when the next attempt is due.
pub(super) struct Thinner {
    tiers: Tiers,
    every: Duration,
    due: Instant,
    failures: u32,
}

impl Thinner {
    pub(super) fn new(tiers: Tiers, every: Duration) -> Self {
        Thinner { tiers, every, due: Instant::now() + every.min(FIRST_PAUSE), failures: 0 }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// One attempt; how it goes from now on. History has grown old up to `age`, as for retention.
    pub(super) fn step(&mut self, journal: &Journal, age: Timestamp) -> ThinningState {
        let outcome = journal.thin(self.tiers, age, BYTES_MAX);
        if let Ok(Thinned { segments, points, freed, .. }) = &outcome
            && *segments > 0
        {
            tracing::info!(segments, points, freed, "points were thinned out");
        }
        self.take(outcome)
    }

    fn take(&mut self, outcome: Result<Thinned, JournalError>) -> ThinningState {
        let (pause, state) = match outcome {
            Ok(done) => {
                self.failures = 0;
                (if done.more { SEGMENT_PAUSE } else { self.every }, ThinningState::default())
            }
            Err(error) => {
                self.failures += 1;
                let (failures, why) = (self.failures, chain(&error));
                if failures.is_multiple_of(FAILURES_MAX) {
                    tracing::error!(failures, error = %why, "thinning stops for some hours (RW1141)");
                    (STOPPED_FOR, ThinningState { failures, stopped: Some(why) })
                } else {
                    tracing::warn!(failures, error = %why, "thinning failed; it is tried again");
                    (self.every, ThinningState { failures, stopped: None })
                }
            }
        };
        self.due = Instant::now() + pause;
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use journal::Lsn;

    #[test]
    fn it_stops_after_failures_in_a_row_and_says_why() {
        let tiers = Tiers { every: Duration::ZERO, minutes: Duration::ZERO };
        let mut thinner = Thinner::new(tiers, Duration::from_secs(60));
        let failed = || Err(JournalError::Inconsistent { lsn: Lsn::captured(7), what: "a test" });
        for failures in 1..FAILURES_MAX {
            assert_eq!(thinner.take(failed()), ThinningState { failures, stopped: None });
            assert!(thinner.due <= Instant::now() + Duration::from_secs(60));
        }
        let state = thinner.take(failed());
        assert!(state.stopped.is_some_and(|why| why.contains("a test")) && state.failures == FAILURES_MAX);
        assert!(thinner.due > Instant::now() + Duration::from_secs(3600), "a long pause");
        assert_eq!(thinner.take(Ok(Thinned::default())), ThinningState::default());
        assert_eq!(thinner.take(failed()), ThinningState { failures: 1, stopped: None });
    }
}
