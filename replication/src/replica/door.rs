//! The replica as the door of ingest sees it: [`JournalDoor`] before its journal, and its own way to make parts durable.

use super::Replica;
use crate::ingest::{Done, Ingest, IngestError, IngestState};
use journal::{Part, TreeIo};
use wire::stream::MeetingId;

impl<T: TreeIo> Ingest for Replica<T> {
    fn state(&self) -> IngestState {
        self.door.state(self.first.incarnation())
    }

    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        self.door.meet(known, goes_on)
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
        let submit = |parts, submitted: crate::ingest::Submitted| {
            Replica::ingest(self, parts, move |journaled| submitted(journaled.map(drop)));
        };
        self.door.ingest(parts, submit, done);
    }
}
