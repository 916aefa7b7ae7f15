//! Captures on their way from the agent into the spool.
//!
//! Captures of a first synchronization are cut into captures of one part each.

use crate::capture::{CaptureSink, Draft, SinkError};
use crate::spool::{self, Spool};
use journal::{Event, Lsn, Payload, Provenance};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The way from the agent into the spool.
pub(super) struct Sink {
    pub spool: Arc<Spool>,
    /// The history its captures go on from.
    pub history: u64,
    /// Greater than every id handed over.
    pub next_node: Arc<AtomicU64>,
}

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

    fn is_safe(&self, lsn: Lsn) -> bool {
        self.spool.status().acknowledged >= lsn
    }
}

impl Sink {
    /// The spool itself waits as long as the replica takes anything.
    fn put(&self, draft: spool::Draft) -> Result<Lsn, SinkError> {
        self.note_ids(&draft);
        self.spool.emit_in(self.history, draft).map_err(|error| match error {
            spool::SinkError::Closed => SinkError::Closed,
            spool::SinkError::Full => SinkError::Full(Box::new(error)),
            error => SinkError::Failed(Box::new(error)),
        })
    }

    /// The replica knows them only when they get there; an index that is rebuilt before that must not mint them again.
    fn note_ids(&self, draft: &spool::Draft) {
        let created = draft.events.iter().filter_map(|event| match event {
            Event::Create { node, .. } => Some(node.0.saturating_add(1)),
            _ => None,
        });
        self.next_node.fetch_max(created.max().unwrap_or(0), Ordering::SeqCst);
    }
}
