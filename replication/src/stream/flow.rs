//! What is in flight on one connection, seen from the master, and how long to wait before the next.

use super::StreamError;
use crate::spool::{Spool, SpooledPart};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;
use wire::stream::{Batch, Progress};

/// The window of a connection: parts sent and not yet durable, bytes sent and not yet dealt with.
pub struct Flow {
    state: Mutex<State>,
    moved: Condvar,
    in_flight_bytes_max: u64,
}

#[derive(Default)]
struct State {
    sent_parts: u64,
    sent_bytes: u64,
    progress: Progress,
    in_flight: VecDeque<Sent>,
    closed: bool,
}

/// A part that was sent, with what the connection has carried up to its end.
struct Sent {
    parts_end: u64,
    bytes_end: u64,
    place: u64,
}

impl Flow {
    /// The window of a new connection: so many bytes are sent before any of them has been dealt with.
    #[must_use]
    pub fn new(in_flight_bytes_max: u64) -> Self {
        Flow { state: Mutex::new(State::default()), moved: Condvar::new(), in_flight_bytes_max }
    }

    /// Waits until more may be sent; `false` if the connection is over.
    #[must_use]
    pub fn wait_for_room(&self) -> bool {
        let mut state = self.state.lock();
        while !state.closed && state.sent_bytes - state.progress.taken_bytes >= self.in_flight_bytes_max {
            self.moved.wait(&mut state);
        }
        !state.closed
    }

    /// Notes parts as sent; before they are, so that no answer can come first. What is to be sent.
    pub fn sent(&self, batch: &[SpooledPart]) -> Batch {
        let mut state = self.state.lock();
        let before = Some(state.sent_parts);
        for part in batch {
            state.sent_parts += 1;
            state.sent_bytes += part.bytes.len() as u64;
            let sent = Sent { parts_end: state.sent_parts, bytes_end: state.sent_bytes, place: part.place };
            state.in_flight.push_back(sent);
        }
        Batch { before, parts: batch.iter().map(|part| part.bytes.clone()).collect() }
    }

    /// Takes an acknowledgement and frees what it covers.
    ///
    /// # Errors
    /// If it acknowledges what was never sent, or takes an acknowledgement back.
    pub fn acknowledge(&self, spool: &Spool, progress: Progress) -> Result<(), StreamError> {
        let protocol = |what| Err(StreamError::Protocol { what });
        let mut durable = None;
        let taken = {
            let mut state = self.state.lock();
            let captured = spool.status().captured.unwrap_or_default();
            if progress.durable_parts > state.sent_parts
                || progress.taken_bytes > state.sent_bytes
                || progress.journaled > captured
            {
                return protocol("acknowledged what was not sent");
            }
            let before = state.progress;
            if progress.durable_parts < before.durable_parts
                || progress.taken_bytes < before.taken_bytes
                || progress.journaled < before.journaled
            {
                return protocol("took an acknowledgement back");
            }
            state.progress = progress;
            while let Some(sent) =
                state.in_flight.pop_front_if(|sent| sent.parts_end <= progress.durable_parts)
            {
                durable = Some(sent.place + 1);
            }
            let at = state.in_flight.partition_point(|sent| sent.bytes_end <= progress.taken_bytes);
            let taken = at.checked_sub(1).and_then(|at| state.in_flight.get(at)).map(|sent| sent.place + 1);
            self.moved.notify_all();
            taken.max(durable)
        };
        if let Some(place) = durable {
            spool.release(place);
        }
        if let Some(place) = taken {
            spool.taken(place);
        }
        spool.acknowledge(progress.journaled);
        Ok(())
    }

    /// The connection is over: nothing waits any more.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.moved.notify_all();
    }
}

/// Waiting times between attempts: doubling between two bounds, each cut by up to half at random, so that many masters
/// do not come back at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Backoff { min, max, next: min }
    }

    /// An attempt has succeeded.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// How long to wait now.
    pub fn wait(&mut self) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        // Each RandomState has keys of its own: an empty hash of one is a random number.
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let half = full / 2;
        half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
