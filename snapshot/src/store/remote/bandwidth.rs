//! A limit of bytes a second, shared by all requests of one direction.
//!
//! Every transfer books its bytes behind those booked before and waits until those are paid for; so over any time the
//! rate is kept but for the one transfer under way, and transfers get their turn in the order in which they asked.

use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// A limit of bytes a second; or none.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    /// Bytes a second.
    rate: Option<u64>,
    /// When everything booked so far is paid for.
    paid: Mutex<Option<Instant>>,
}

impl Bandwidth {
    pub(crate) fn new(rate: Option<u64>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), paid: Mutex::new(None) }
    }

    /// Books `bytes` and waits for its turn.
    pub(crate) async fn take(&self, bytes: u64) {
        let Some(turn) = self.book(bytes, Instant::now()) else { return };
        tokio::time::sleep_until(turn).await;
    }

    /// When a transfer of `bytes` that asks now may begin.
    fn book(&self, bytes: u64, now: Instant) -> Option<Instant> {
        let rate = self.rate?;
        let mut paid = self.paid.lock();
        let turn = paid.map_or(now, |paid| paid.max(now));
        *paid = Some(turn + Duration::from_secs_f64(bytes as f64 / rate as f64));
        Some(turn)
    }
}

#[cfg(test)]
mod tests;
