//! The replica as the door of ingest sees it.
//!
//! A failure must reach the sender before anything later can become durable. The writer's callbacks run in order, so
//! the flag is up before the sender hears of the failure; parts it had already handed over fail with it, parts that
//! come later find the flag; [`Ingest::state`], which a new session reads first, lowers it.

use super::Replica;
use crate::ingest::{Done, Ingest, IngestError, IngestState, Journaled};
use journal::{JournalError, Part, TreeIo};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wire::stream::MeetingId;

/// An id nobody else has.
fn mint() -> [u8; 16] {
    let (high, low) = (super::end::random(), super::end::random());
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}

impl<T: TreeIo> Ingest for Replica<T> {
    fn state(&self) -> IngestState {
        self.refusing.store(false, Ordering::SeqCst);
        let journal = self.journal();
        let (journaled, parts) = journal.journaled_parts();
        IngestState {
            journal: wire::stream::JournalId(journal.id()),
            journaled,
            parts,
            time: journal.journaled_time(),
            next_node: journal.with_controls(journal::controls::Controls::next_node),
            incarnation: self.first.incarnation(),
        }
    }

    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        let journal = self.journal();
        let (known, meeting) = (known.map(|known| known.0), mint());
        let Some(met) = journal.with_controls(|controls| controls.meet(known, goes_on, meeting)) else {
            return Ok(None);
        };
        journal.control(met)?;
        Ok(Some(MeetingId(meeting)))
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
        let refused = || {
            IngestError::Unavailable(Box::new(JournalError::Poisoned {
                path: self.journal().directory().to_path_buf(),
            }))
        };
        if self.refusing.load(Ordering::SeqCst) {
            return done(Err(refused()));
        }
        let (refusing, journal) = (Arc::clone(&self.refusing), Arc::clone(self.journal()));
        Replica::ingest(self, parts, move |journaled| match journaled {
            Ok(_) => {
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
        });
    }
}
