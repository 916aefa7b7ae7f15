//! What waits for apply: in memory while it fits, else in the journal.
//!
//! Captured LSNs have no holes. So the rule is simple: if the front of the queue is the successor of what apply took
//! last, it comes from memory; else the journal is read up to the front. What does not fit into memory is not added
//! and is read later.

use crate::apply::{BATCH_BYTES_MAX, BATCH_CAPTURES_MAX, ends_batch};
use journal::journal::{Durable, Journal, Placed};
use journal::log::RecordAt;
use journal::{Event, JournalError, Lsn, Part, Payload, Provenance};
use std::collections::VecDeque;

/// Payload bytes after which a capture under way refers to the journal instead of holding bytes.
const CAPTURE_BYTES_MAX: u64 = 8 << 20;
/// What a capture takes in memory beside its payloads, roughly.
const CAPTURE_BYTES: u64 = 512;

pub(crate) struct Queue {
    bytes_max: u64,
    bytes: u64,
    captures: VecDeque<(Placed, u64)>,
    open: Option<(Placed, u64, u32)>,
    /// Last captured LSN handed to apply.
    taken: Lsn,
    /// Place of the record of `taken`, or before it: where reading goes on.
    redo: RecordAt,
    /// Last captured LSN that is durable and complete.
    durable: Lsn,
}

/// Where the next batch comes from.
pub(crate) enum Next {
    /// There is none.
    Nothing,
    /// From memory, with the place from which reading would go on.
    Batch(Vec<Placed>, RecordAt),
    /// From the journal: from this place, captures after the first and up to the second LSN.
    Read(RecordAt, Lsn, Lsn),
}

impl Queue {
    pub(crate) fn new(bytes_max: u64, redo: RecordAt, published: Lsn, durable: Lsn) -> Self {
        let taken = Lsn::captured(published.captured);
        Queue { bytes_max, bytes: 0, captures: VecDeque::new(), open: None, taken, redo, durable }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taken >= self.durable
    }

    pub(crate) fn has_room(&self) -> bool {
        self.bytes < self.bytes_max
    }

    /// Clock of the first capture in memory.
    pub(crate) fn oldest_waiting(&self) -> Option<journal::Timestamp> {
        self.captures.front().map(|(placed, _)| placed.capture.time)
    }

    /// The place from which the next captured change is read.
    pub(crate) fn redo(&self) -> RecordAt {
        self.redo
    }

    /// Takes a durable part.
    pub(crate) fn push(&mut self, durable: Durable) {
        let Durable { part: Part { number, last, capture }, places, at } = durable;
        if capture.lsn.is_local() {
            return;
        }
        let bytes = payload_bytes(&capture.events);
        let mut open = if number == 0 {
            (Placed { capture, at, places }, bytes, 1)
        } else {
            match self.open.take() {
                Some((mut placed, so_far, next)) if placed.capture.lsn == capture.lsn && next == number => {
                    placed.capture.events.extend(capture.events);
                    placed.places.extend(places);
                    (placed, so_far + bytes, next + 1)
                }
                _ => {
                    // Its first parts came before the last start: it is read when its turn comes.
                    if last {
                        self.durable = capture.lsn;
                    }
                    return;
                }
            }
        };
        // The bytes of a first synchronization are nowhere else; whoever sent them waited for room.
        let only_copy = open.0.capture.provenance == Provenance::Synchronization;
        if open.1 > CAPTURE_BYTES_MAX && !only_copy {
            forget_bytes(&mut open.0);
            open.1 = 0;
        }
        if !last {
            self.open = Some(open);
            return;
        }
        let (placed, bytes, _) = open;
        self.durable = placed.capture.lsn;
        if only_copy || self.has_room() {
            self.bytes += bytes + CAPTURE_BYTES;
            self.captures.push_back((placed, bytes + CAPTURE_BYTES));
        }
    }

    /// What apply does next.
    pub(crate) fn next(&mut self) -> Next {
        while self.captures.front().is_some_and(|(placed, _)| placed.capture.lsn <= self.taken) {
            self.pop();
        }
        let mut batch: Vec<Placed> = Vec::new();
        let mut bytes = 0;
        while let Some((placed, size)) = self.captures.front() {
            let due = placed.capture.lsn.captured == self.taken.captured + 1;
            let full =
                batch.len() >= BATCH_CAPTURES_MAX || (!batch.is_empty() && bytes + size > BATCH_BYTES_MAX);
            if !due || full {
                break;
            }
            bytes += size;
            if let Some(placed) = self.pop() {
                self.took(placed.capture.lsn, placed.at);
                let ends = ends_batch(&placed.capture);
                batch.push(placed);
                if ends {
                    break;
                }
            }
        }
        if !batch.is_empty() {
            return Next::Batch(batch, self.redo);
        }
        match self.captures.front() {
            Some((placed, _)) => Next::Read(
                self.redo,
                self.taken,
                Lsn::captured(placed.capture.lsn.captured.saturating_sub(1)),
            ),
            None if self.taken < self.durable => Next::Read(self.redo, self.taken, self.durable),
            None => Next::Nothing,
        }
    }

    fn pop(&mut self) -> Option<Placed> {
        let (placed, size) = self.captures.pop_front()?;
        self.bytes -= size;
        Some(placed)
    }

    /// A capture was handed to apply.
    pub(crate) fn took(&mut self, lsn: Lsn, at: RecordAt) {
        self.taken = lsn;
        self.redo = at;
    }
}

/// A batch from the journal.
pub(crate) fn read_batch(
    journal: &Journal,
    from: RecordAt,
    after: Lsn,
    upto: Lsn,
) -> Result<Vec<Placed>, JournalError> {
    let mut batch: Vec<Placed> = Vec::new();
    let mut bytes = 0;
    for placed in journal.captured(from, after, upto) {
        let placed = placed?;
        bytes += payload_bytes(&placed.capture.events);
        if !batch.is_empty() && (batch.len() >= BATCH_CAPTURES_MAX || bytes > BATCH_BYTES_MAX) {
            break;
        }
        let ends = ends_batch(&placed.capture);
        batch.push(placed);
        if ends {
            break;
        }
    }
    Ok(batch)
}

fn payload_bytes(events: &[Event]) -> u64 {
    events.iter().map(|event| event.payload_bytes() + 64).sum()
}

/// Refers to the journal for all payloads that are in it.
fn forget_bytes(placed: &mut Placed) {
    let mut places = placed.places.drain(..);
    for event in &mut placed.capture.events {
        if let Event::Write { data: data @ Payload::Inline(_), .. } = event
            && let Some(at) = places.next()
        {
            *data = Payload::Stored(at);
        }
    }
}
