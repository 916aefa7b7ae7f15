//! A journal as the door of ingest: meeting masters, and no hole after a failure.
//!
//! A failure must reach the sender before anything later can become durable. The writer's callbacks run in order, so
//! the flag is up before the sender hears of the failure; parts it had already handed over fail with it, parts that
//! come later find the flag; [`JournalDoor::state`], which a new session reads first, lowers it.

use super::{Done, IngestError, IngestState, Journaled};
use journal::journal::Journal;
use journal::{JournalError, Part};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use wire::stream::{JournalId, MeetingId};

/// What whoever makes parts durable calls with the outcome, on the writer's thread.
pub type Submitted = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// What stands between sessions and a journal, whoever queues for apply what became durable.
pub struct JournalDoor {
    journal: Arc<Journal>,
    /// Redo could not be made durable: nothing later may be, until the sender knows.
    refusing: Arc<AtomicBool>,
}

/// A number that nobody else has made.
pub(crate) fn random() -> u64 {
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// An id nobody else has.
fn mint() -> [u8; 16] {
    (u128::from(random()) << 64 | u128::from(random())).to_be_bytes()
}

impl JournalDoor {
    /// The door of this journal; there may be one only.
    #[must_use]
    pub fn new(journal: Arc<Journal>) -> Self {
        JournalDoor { journal, refusing: Arc::default() }
    }

    /// As [`super::Ingest::state`], for this incarnation of the replica.
    #[must_use]
    pub fn state(&self, incarnation: u64) -> IngestState {
        self.refusing.store(false, Ordering::SeqCst);
        let journal = &self.journal;
        let (journaled, parts) = journal.journaled_parts();
        IngestState {
            journal: JournalId(journal.id()),
            journaled,
            parts,
            time: journal.journaled_time(),
            next_node: journal.with_controls(journal::controls::Controls::next_node),
            incarnation,
        }
    }

    /// Whether parts are refused because earlier ones could not be made durable.
    #[must_use]
    pub fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::SeqCst)
    }

    /// As [`super::Ingest::meet`].
    ///
    /// # Errors
    /// If the meeting cannot be made durable.
    pub fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        let (known, meeting) = (known.map(|known| known.0), mint());
        let Some(met) = self.journal.with_controls(|controls| controls.meet(known, goes_on, meeting)) else {
            return Ok(None);
        };
        self.journal.control(met)?;
        Ok(Some(MeetingId(meeting)))
    }

    /// As [`super::Ingest::ingest`]: hands the parts to `submit`, which makes them durable in the journal of this door,
    /// unless earlier ones have failed.
    pub fn ingest(&self, parts: Vec<Part>, submit: impl FnOnce(Vec<Part>, Submitted), done: Done) {
        if self.is_refusing() {
            let path = self.journal.directory().to_path_buf();
            return done(Err(IngestError::Unavailable(Box::new(JournalError::Poisoned { path }))));
        }
        let (refusing, journal) = (Arc::clone(&self.refusing), Arc::clone(&self.journal));
        let submitted = move |durable| match durable {
            Ok(()) => {
                // Of the writer's thread, so nothing later is in it.
                let (lsn, parts) = journal.journaled_parts();
                // Whoever is told may close the journal at once.
                drop(journal);
                done(Ok(Journaled { lsn, parts }));
            }
            Err(error) => {
                drop(journal);
                refusing.store(true, Ordering::SeqCst);
                done(Err(IngestError::from(error)));
            }
        };
        submit(parts, Box::new(submitted));
    }
}
