//! Captures on their way from the agent into the spool.
//!
//! Captures of a first synchronization are cut into captures of one part each; a full spool holds the agent back.

use crate::capture::{CaptureSink, Draft, SinkError};
use crate::spool::{self, Spool};
use journal::{Event, Lsn, Payload, Provenance};
use std::sync::Arc;
use std::time::Duration;

/// The way from the agent into the spool.
pub(super) struct Sink(pub Arc<Spool>);

/// Payload bytes of one capture of a first synchronization: it must fit into one part.
const ONE_PART_BYTES: u64 = 1 << 20;

impl CaptureSink for Sink {
    fn emit(&mut self, draft: Draft) -> Result<Lsn, SinkError> {
        let Draft { time, provenance, root, path, part, last, events } = draft;
        let one = |part, last, events| spool::Draft {
            time,
            provenance,
            root,
            path: path.clone(),
            part,
            last,
            events,
        };
        if provenance != Provenance::Synchronization {
            return self.put(one(part, last, events));
        }
        let mut lsn = Lsn::ZERO;
        let mut some = Vec::new();
        let mut bytes = 0;
        for event in events {
            let size = match &event {
                Event::Write { data: Payload::Inline(data), .. } => data.len() as u64 + 100,
                _ => 400,
            };
            if bytes + size > ONE_PART_BYTES && !some.is_empty() {
                lsn = self.put(one(0, true, std::mem::take(&mut some)))?;
                bytes = 0;
            }
            bytes += size;
            some.push(event);
        }
        if some.is_empty() { Ok(lsn) } else { self.put(one(0, true, some)) }
    }
}

impl Sink {
    /// A full spool holds capture back: hints pile up meanwhile, and if there are too many of them, that is an
    /// overflow with its gap and its rescan. A long capture that meets the limit half way cannot be held: it fails.
    fn put(&self, draft: spool::Draft) -> Result<Lsn, SinkError> {
        loop {
            match self.0.emit(draft.clone()) {
                Ok(lsn) => return Ok(lsn),
                Err(spool::SinkError::Full) if draft.part == 0 && draft.last => {
                    // Whether there is room now is for the next attempt to see.
                    let _ = self.0.wait_for_room(Duration::from_secs(1));
                }
                Err(spool::SinkError::Closed) => return Err(SinkError::Closed),
                Err(error) => return Err(SinkError::Failed(Box::new(error))),
            }
        }
    }
}
