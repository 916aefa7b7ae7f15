//! One connection's worth of ingest.
//!
//! Batches finish in the order in which they were submitted, as far as the master is told: a batch counts when it and
//! all before it are done. What is told is a [`Progress`] in numbers of this connection, because LSNs alone cannot say
//! how far a long capture is, nor how much of what is in flight has been dealt with.

use super::{Admission, Ingest, IngestState, Journaled, Order, SessionError};
use journal::Lsn;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::stream::{Batch, Progress, decode_part};

/// Called whenever progress was made or the session failed, in the order in which it happened. Must not block, nor call
/// the session.
pub type Observer = Arc<dyn Fn(&Result<Progress, SessionError>) + Send + Sync>;

/// A connection's door to the journal.
pub struct IngestSession {
    ingest: Arc<dyn Ingest>,
    begun: IngestState,
    order: Order,
    in_flight_bytes_max: u64,
    /// Parts and bytes submitted so far, duplicates included.
    parts: u64,
    bytes: u64,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    moved: Condvar,
    observer: Observer,
}

struct State {
    in_flight: VecDeque<Sent>,
    journaled: Journaled,
    progress: Progress,
    failed: Option<SessionError>,
    /// Parts that came, and how many of them were known already.
    parts: u64,
    duplicates: u64,
}

/// A batch that was handed over.
struct Sent {
    /// Parts and bytes of the connection up to its end.
    parts_end: u64,
    bytes_end: u64,
    /// Its last part: LSN, number, whether it ends the capture.
    last: (Lsn, u32, bool),
    done: bool,
}

impl Sent {
    /// Whether all of it is durable if `journaled` is.
    fn is_covered(&self, journaled: Journaled) -> bool {
        let (lsn, number, last) = self.last;
        let within = lsn.captured == journaled.lsn.captured.saturating_add(1) && number < journaled.parts;
        lsn <= journaled.lsn || (within && !last)
    }
}

impl IngestSession {
    /// Begins at the journal's durable position. No other session of the journal may have anything in flight.
    #[must_use]
    pub fn begin(ingest: Arc<dyn Ingest>, in_flight_bytes_max: u64, observer: Observer) -> Self {
        let begun = ingest.state();
        let journaled = Journaled { lsn: begun.journaled, parts: begun.parts };
        let state = State {
            in_flight: VecDeque::new(),
            journaled,
            progress: Progress { journaled: begun.journaled, durable_parts: 0, taken_bytes: 0 },
            failed: None,
            parts: 0,
            duplicates: 0,
        };
        let shared = Shared { state: Mutex::new(state), moved: Condvar::new(), observer };
        IngestSession {
            ingest,
            begun,
            order: Order::new(begun.journaled, begun.time, begun.parts),
            in_flight_bytes_max,
            parts: 0,
            bytes: 0,
            shared: Arc::new(shared),
        }
    }

    /// Where the journal stood when the session began.
    #[must_use]
    pub const fn begun(&self) -> &IngestState {
        &self.begun
    }

    /// Hands encoded parts to the journal. Blocks while too much is in flight.
    ///
    /// # Errors
    /// If a part is malformed, missing or out of order (then nothing of the batch is handed on), or if the journal has
    /// refused earlier parts. After an error the session takes nothing more.
    pub fn submit(&mut self, batch: impl Into<Batch>) -> Result<(), SessionError> {
        self.wait_for_room()?;
        match self.admit(batch.into()) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.shared.fail(error.clone());
                Err(error)
            }
        }
    }

    fn admit(&mut self, Batch { before, parts }: Batch) -> Result<(), SessionError> {
        // Numbers of parts do not show it where a capture was begun again.
        if let Some(sent) = before.filter(|sent| *sent != self.parts) {
            return Err(SessionError::Missing { sent, came: self.parts });
        }
        let mut take = Vec::with_capacity(parts.len());
        let (mut last, mut duplicates) = (None, 0);
        for bytes in parts {
            self.parts += 1;
            self.bytes += bytes.len() as u64;
            let part = decode_part(bytes).map_err(|error| SessionError::Part(Arc::new(error)))?;
            let admission = self.order.admit(&part)?;
            last = Some((part.capture.lsn, part.number, part.last));
            if admission == Admission::Take {
                take.push(part);
            } else {
                duplicates += 1;
            }
        }
        let Some(last) = last else { return Ok(()) };
        let (parts_end, bytes_end) = (self.parts, self.bytes);
        let batch = Sent { parts_end, bytes_end, last, done: false };
        {
            let mut state = self.shared.state.lock();
            state.parts = parts_end;
            state.duplicates += duplicates;
            state.in_flight.push_back(batch);
        }
        if take.is_empty() {
            self.shared.finish(parts_end, None);
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        self.ingest.ingest(
            take,
            Box::new(move |result| match result {
                Ok(journaled) => shared.finish(parts_end, Some(journaled)),
                Err(error) => shared.refused(parts_end, SessionError::Ingest(Arc::new(error))),
            }),
        );
        Ok(())
    }

    fn wait_for_room(&self) -> Result<(), SessionError> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if self.bytes - state.progress.taken_bytes < self.in_flight_bytes_max {
                return Ok(());
            }
            self.shared.moved.wait(&mut state);
        }
    }

    /// A handle to wait for the end of what is in flight, also after the session is gone.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        InFlight { shared: Arc::clone(&self.shared) }
    }

    /// Waits until nothing is in flight; only then may another session begin. Whether it was so in time.
    #[must_use]
    pub fn drain(&self, timeout: Duration) -> bool {
        self.in_flight().drain(timeout)
    }
}

/// What a session has in flight.
#[derive(Clone)]
pub struct InFlight {
    shared: Arc<Shared>,
}

impl InFlight {
    /// As [`IngestSession::drain`].
    #[must_use]
    pub fn drain(&self, timeout: Duration) -> bool {
        let give_up = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        while !state.in_flight.is_empty() {
            if self.shared.moved.wait_until(&mut state, give_up).timed_out() {
                return state.in_flight.is_empty();
            }
        }
        true
    }

    /// The session takes nothing more.
    pub fn close(&self) {
        let mut state = self.shared.state.lock();
        if state.failed.is_none() {
            state.failed = Some(SessionError::Closed);
        }
        self.shared.moved.notify_all();
    }

    /// Parts that came, and how many of them were known already.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let state = self.shared.state.lock();
        (state.parts, state.duplicates)
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.shared.state.lock().progress
    }
}

impl State {
    /// What is done, up to the first batch that is not, is in flight no longer.
    fn forget_done(&mut self) {
        while let Some(batch) = self.in_flight.pop_front_if(|batch| batch.done) {
            // Behind a failure nothing counts, whatever the journal says of it.
            if !matches!(self.failed, None | Some(SessionError::Closed)) {
                continue;
            }
            self.progress.taken_bytes = batch.bytes_end;
            if batch.is_covered(self.journaled) {
                self.progress.durable_parts = batch.parts_end;
            }
        }
    }
}

impl Shared {
    /// The batch that ends at this part is done; `journaled` is `None` for one of duplicates only.
    fn finish(&self, parts_end: u64, journaled: Option<Journaled>) {
        let mut state = self.state.lock();
        if let Some(batch) = state.in_flight.iter_mut().find(|batch| batch.parts_end == parts_end) {
            batch.done = true;
        }
        if let Some(journaled) = journaled
            && journaled.lsn >= state.journaled.lsn
        {
            state.journaled = journaled;
            state.progress.journaled = journaled.lsn;
        }
        state.forget_done();
        self.tell(&state);
    }

    /// The journal refused the batch that ends at this part. What is done behind it, for it was known already, is in
    /// flight no longer either.
    fn refused(&self, parts_end: u64, error: SessionError) {
        let mut state = self.state.lock();
        state.in_flight.retain(|batch| batch.parts_end != parts_end);
        state.failed.get_or_insert(error);
        state.forget_done();
        self.tell(&state);
    }

    /// The session takes nothing more; the first failure is the one that is told.
    fn fail(&self, error: SessionError) {
        let mut state = self.state.lock();
        state.failed.get_or_insert(error);
        self.tell(&state);
    }

    /// Called with the lock held, so that nobody is told of older progress after newer.
    fn tell(&self, state: &State) {
        self.moved.notify_all();
        (self.observer)(&match &state.failed {
            None | Some(SessionError::Closed) => Ok(state.progress),
            Some(error) => Err(error.clone()),
        });
    }
}
