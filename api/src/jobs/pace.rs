//! How often jobs give back memory while they run.
//!
//! What a job frees lies between what it keeps, and the allocator takes new blocks from anywhere in what is free: left alone, a
//! session of 80,000 files ends with a third of its memory in pages that hold nothing. So whenever a job reports how far
//! it is, and it is time, what is free is given back. That stops all who allocate for as long as it takes, which grows with how
//! many pieces are free: there is a least time between two, whichever jobs they are of, and they take no more than a fiftieth
//! of all.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Least time between two.
const EVERY: Duration = Duration::from_secs(1);
/// Least time between two, in times of what the one before took.
const REST: u32 = 50;

/// When memory is next given back.
pub(super) struct Pace(Mutex<Instant>);

impl Pace {
    /// Of jobs that begin after `now`.
    pub(super) fn new(now: Instant) -> Self {
        Pace(Mutex::new(now + EVERY))
    }

    /// Gives memory back by `give`, which says how long it took, if it is time and no other thread is at it.
    pub(super) fn at(&self, now: Instant, give: impl FnOnce() -> Duration) {
        if let Some(mut next) = self.0.try_lock()
            && now >= *next
        {
            let took = give();
            *next = now + took + EVERY.max(took.saturating_mul(REST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_each_second_but_no_longer_than_a_fiftieth_of_the_time() {
        let began = Instant::now();
        let pace = Pace::new(began);
        let at = |seconds: f64, took: f64| {
            let mut given = false;
            pace.at(began + Duration::from_secs_f64(seconds), || {
                given = true;
                Duration::from_secs_f64(took)
            });
            given
        };
        let given = [
            (0.0, 0.001),
            (0.999, 0.001),
            (1.0, 0.001),
            (1.5, 0.001),
            (2.002, 0.1),
            (4.0, 0.1),
            (7.101, 0.1),
            (7.103, 0.1),
        ]
        .map(|(seconds, took)| at(seconds, took));
        assert_eq!(given, [false, false, true, false, true, false, false, true]);
    }

    #[test]
    fn who_comes_while_another_is_at_it_goes_on() {
        let began = Instant::now();
        let pace = Pace::new(began);
        let due = began + EVERY;
        let mut inner = false;
        pace.at(due, || {
            pace.at(due, || {
                inner = true;
                Duration::ZERO
            });
            Duration::ZERO
        });
        assert!(!inner);
    }
}
