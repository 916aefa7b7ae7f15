//! Changes that a replica makes to its own tree: a rewind, a restore.
//!
//! They are journaled like any capture and applied by the same thread. One caller at a time mints their LSNs; whoever comes
//! next is refused as long as changes of an earlier call wait, since it was planned for a tree that they change.

use super::{Halt, Replica, stopping};
use crate::apply::BATCH_CAPTURES_MAX;
use journal::journal::Placed;
use journal::{
    Capture, ErrorKind, Event, JournalError, Lsn, Part, Payload, Provenance, RootNo, Timestamp, TreeIo,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One local change: its root, a path for people, its events.
pub type LocalGroup = (RootNo, Vec<u8>, Vec<Event>);

/// What is made durable at a time weighs about so many bytes, and is no more captures than a batch of apply holds.
const LOCAL_WEIGHT: u64 = 8 << 20;
/// Pieces of that size that are durable and wait for apply, or are applied, when the next one is taken.
const PIECES_AHEAD: usize = 1;

impl<T: TreeIo> Replica<T> {
    /// Journals changes of the replica to its own tree and applies them, one local LSN each. The replica must be
    /// detached. Writes that put back undo ([`Payload::Undone`]) put back what `reading` needs, a point that is held until
    /// the tree has them durably. Returns the last LSN, applied. Changes are taken, journaled and applied in pieces: while one is applied the
    /// next one is made durable, and the one after that may be made by whoever gives them. An error is returned when
    /// nothing that was journaled waits any more, or apply halts.
    ///
    /// # Errors
    /// `Inconsistent` if it is not detached, and as the journal; `Halted` if apply halts; `OutsideWindow` or `Thinned` if
    /// `reading` is not held already.
    pub fn apply_local(
        &self,
        reading: Option<Lsn>,
        groups: &mut dyn Iterator<Item = LocalGroup>,
    ) -> Result<Lsn, JournalError> {
        let _minting = self.minting.lock();
        self.nothing_local_waits()?;
        let reading = reading.map(|point| self.journal.lease(point)).transpose()?;
        let mut lsn = self.journal.applied();
        let (mut groups, mut waiting) = (groups.peekable(), VecDeque::new());
        let mut journaled = self.must_be_detached();
        while journaled.is_ok() && groups.peek().is_some() {
            // One piece is durable before the next is given a number: there are no holes between them.
            journaled = self.journal_local(&mut groups, reading.is_some()).and_then(|last| {
                lsn = last;
                if let Some(reading) = &reading {
                    // Whatever comes of it: what is journaled may be applied, and again after a crash.
                    reading.keep_until(lsn);
                }
                waiting.push_back(lsn);
                if waiting.len() <= PIECES_AHEAD {
                    return Ok(());
                }
                waiting.pop_front().map_or(Ok(()), |first| self.wait_local(first).map(drop))
            });
        }
        let applied = self.wait_local(lsn);
        journaled.and(applied)
    }

    fn must_be_detached(&self) -> Result<(), JournalError> {
        let lsn = self.journal.applied();
        if self.shared.0.lock().detached {
            return Ok(());
        }
        let what = "a local change of a replica that follows the capture";
        Err(JournalError::Inconsistent { lsn, what })
    }

    /// Makes the next changes durable, and leaves them to apply. The last LSN.
    fn journal_local(
        &self,
        groups: &mut dyn Iterator<Item = LocalGroup>,
        may_refer: bool,
    ) -> Result<Lsn, JournalError> {
        let (mut taken, mut weight) = (Vec::new(), 0);
        for group in groups {
            if !may_refer && group.2.iter().any(refers) {
                let (lsn, what) = (self.journal.applied(), "a local change refers to undo that nobody holds");
                return Err(JournalError::Inconsistent { lsn, what });
            }
            weight += group.1.len() as u64 + group.2.iter().map(Event::weight).sum::<u64>();
            taken.push(group);
            if weight >= LOCAL_WEIGHT || taken.len() >= BATCH_CAPTURES_MAX {
                break;
            }
        }
        // Whoever gives them may have taken long: only now it is said where they stand.
        self.must_be_detached()?;
        let mut next = self.journal.next_local();
        let mut lsn = next;
        let time = self.journal.journaled_time().max(Timestamp(0));
        let mut parts = Vec::with_capacity(taken.len());
        for (root, path, events) in taken {
            lsn = next;
            next = lsn.successor();
            let capture = Capture { lsn, time, provenance: Provenance::Local, root, path, events };
            parts.push(Part { number: 0, last: true, capture });
        }
        let (send, receive) = std::sync::mpsc::channel();
        let shared = Arc::clone(&self.shared);
        self.journal.submit(parts, move |durable| {
            let outcome = durable.map(|durable| {
                let mut state = shared.0.lock();
                let placed = durable.into_iter().map(|one| Placed {
                    capture: one.part.capture,
                    at: one.at,
                    places: one.places,
                });
                state.locals.extend(placed);
                shared.1.notify_all();
            });
            // The receiver waits for exactly this; it cannot be gone.
            drop(send.send(outcome));
        });
        receive
            .recv()
            .unwrap_or(Err(JournalError::Poisoned { path: self.journal.directory().to_path_buf() }))?;
        Ok(lsn)
    }

    fn wait_local(&self, lsn: Lsn) -> Result<Lsn, JournalError> {
        let asked = Instant::now();
        while !self.journal.wait_applied(lsn, Duration::from_millis(200)) {
            let state = self.shared.0.lock();
            let halted = if state.stopping { Some(stopping()) } else { state.halted(asked) };
            if let Some(error) = halted {
                return Err(error);
            }
        }
        Ok(lsn)
    }

    /// Refuses while local changes of an earlier call are not applied.
    pub(super) fn nothing_local_waits(&self) -> Result<(), JournalError> {
        let mut state = self.shared.0.lock();
        // What is applied is so a moment before the worker says that it is done.
        while state.detached && state.busy && state.halt.is_none() && !state.stopping {
            self.shared.1.wait_for(&mut state, Duration::from_millis(100));
        }
        // Detached, whatever is under way is local.
        if state.locals.is_empty() && !(state.detached && state.busy) {
            return Ok(());
        }
        let why = match &state.halt {
            Some(Halt::Full(why) | Halt::Failing(why) | Halt::Stopped(why)) => format!(": {why}"),
            None => String::new(),
        };
        let why = format!("changes of an earlier rewind wait for it{why}");
        Err(JournalError::Halted { kind: ErrorKind::Io, why })
    }
}

/// Whether an event puts back what the undo log has.
fn refers(event: &Event) -> bool {
    matches!(event, Event::Write { data: Payload::Undone { .. }, .. })
}
