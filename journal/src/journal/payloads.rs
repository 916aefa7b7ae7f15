//! Payloads of both streams, for apply and for views.
//!
//! A file is read piece by piece, and many pieces may lie in one payload. Reading, checking and expanding it anew for each
//! of them would cost by its length each time, so the last ones of each stream are remembered. A place names its bytes for
//! good, by their checksum too: what is remembered cannot be out of date. At most three payloads of a stream are held, each
//! no longer than a write.

use super::Journal;
use crate::error::JournalError;
use crate::event::{Payload, PayloadAt, WRITE_BYTES_MAX};
use crate::log::Log;
use crate::view::{UndoBytes, cut};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Payloads of a stream that are remembered.
const REMEMBERED: usize = 3;

/// Reads payloads for a view.
pub struct Payloads {
    redo: Side,
    undo: Side,
}

struct Side {
    log: Arc<Log>,
    /// The latest one last.
    last: Mutex<Vec<(PayloadAt, Bytes)>>,
}

impl Side {
    fn read(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        let known = self.last.lock().iter().find(|(known, _)| *known == at).map(|(_, bytes)| bytes.clone());
        if let Some(bytes) = known {
            return Ok(bytes);
        }
        let bytes = self.log.read_payload(at)?;
        if bytes.len() <= WRITE_BYTES_MAX {
            let mut last = self.last.lock();
            if last.len() >= REMEMBERED {
                last.remove(0);
            }
            last.push((at, bytes.clone()));
        }
        Ok(bytes)
    }
}

impl Payloads {
    /// Reads from both streams of a journal.
    #[must_use]
    pub fn new(redo: &Arc<Log>, undo: &Arc<Log>) -> Self {
        let side = |log: &Arc<Log>| Side { log: Arc::clone(log), last: Mutex::default() };
        Payloads { redo: side(redo), undo: side(undo) }
    }
}

impl Journal {
    /// The bytes of a write; `None` if they were never journaled.
    ///
    /// # Errors
    /// `Damaged`, `File`.
    pub fn written(&self, data: &Payload) -> Result<Option<Bytes>, JournalError> {
        match data {
            Payload::Inline(bytes) | Payload::Undone { known: Some(bytes), .. } => Ok(Some(bytes.clone())),
            Payload::Stored(at) => self.redo.read_payload(*at).map(Some),
            Payload::Undone { at, skip, bytes, known: None } => {
                cut(&self.undo.read_payload(*at)?, *skip, *bytes as usize).map(Some)
            }
            Payload::External { .. } => Ok(None),
        }
    }
}

impl UndoBytes for Payloads {
    fn undo_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        self.undo.read(at)
    }

    fn redo_payload(&self, at: PayloadAt) -> Result<Bytes, JournalError> {
        self.redo.read(at)
    }
}
