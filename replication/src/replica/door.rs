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

impl<T: TreeIo> Ingest for Replica<T> {
    fn state(&self) -> IngestState {
        self.refusing.store(false, Ordering::SeqCst);
        let journal = self.journal();
        IngestState {
            journal: wire::stream::JournalId(journal.id()),
            journaled: journal.journaled(),
            parts: 0,
            time: journal.journaled_time(),
            next_node: journal.with_controls(journal::controls::Controls::next_node),
        }
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
        let refusing = Arc::clone(&self.refusing);
        Replica::ingest(self, parts, move |journaled| match journaled {
            Ok(lsn) => done(Ok(Journaled::from(lsn))),
            Err(error) => {
                refusing.store(true, Ordering::SeqCst);
                done(Err(IngestError::from(error)));
            }
        });
    }
}
