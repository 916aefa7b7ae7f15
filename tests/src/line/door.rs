//! The replica's door on a line: the real one, with a group commit that is a step, and captures made whole behind it.

use journal::journal::{Durable, Journal, Placed};
use journal::{ErrorKind, JournalError, Lsn, Part};
use parking_lot::Mutex;
use replication::ingest::{Done, Ingest, IngestError, IngestState, JournalDoor, Submitted};
use std::collections::VecDeque;
use std::sync::Arc;
use wire::stream::MeetingId;

/// What a journal said that could not do what it was asked to.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// Its kind.
    pub kind: ErrorKind,
    /// Whether it names what it is about.
    pub names_it: bool,
    /// All of it.
    pub text: String,
}

impl From<&JournalError> for Trouble {
    fn from(error: &JournalError) -> Self {
        let names_it = match error {
            JournalError::File { path, .. } | JournalError::Poisoned { path } => path.starts_with("/"),
            JournalError::Tree { object, .. } => !object.is_empty(),
            JournalError::Tables { operation, .. } => !operation.is_empty(),
            _ => false,
        };
        Trouble { kind: error.kind(), names_it, text: format!("{error:?}") }
    }
}

impl From<&IngestError> for Trouble {
    fn from(error: &IngestError) -> Self {
        let source =
            std::error::Error::source(error).and_then(|source| source.downcast_ref::<JournalError>());
        Trouble::from(source.expect("the journal is the cause"))
    }
}

/// The door of one life of a replica.
pub struct Door {
    real: JournalDoor,
    journal: Arc<Journal>,
    queue: Mutex<VecDeque<(Vec<Part>, Done)>>,
    came: Arc<Mutex<Vec<Durable>>>,
    trouble: Mutex<Vec<Trouble>>,
}

impl Door {
    pub(super) fn new(journal: Arc<Journal>) -> Self {
        let (queue, came, trouble) = (Mutex::default(), Arc::default(), Mutex::default());
        Door { real: JournalDoor::new(Arc::clone(&journal)), journal, queue, came, trouble }
    }

    /// What came first becomes durable, or not.
    pub(super) fn commit(&self) {
        let Some((parts, done)) = self.queue.lock().pop_front() else { return };
        // What was handed over before the sender heard of a failure fails as well, and that is no other one.
        let refuses = self.real.is_refusing();
        let (send, receive) = std::sync::mpsc::channel();
        let submit = |parts, submitted: Submitted| {
            let came = Arc::clone(&self.came);
            self.journal.submit(parts, move |durable| {
                submitted(durable.map(|durable| came.lock().extend(durable)));
            });
        };
        let told = move |journaled: Result<_, IngestError>| {
            let trouble = journaled.as_ref().err().map(Trouble::from);
            done(journaled);
            drop(send.send(trouble));
        };
        self.real.ingest(parts, submit, Box::new(told));
        let trouble = receive.recv().expect("the writer answers");
        self.trouble.lock().extend(trouble.filter(|_| !refuses));
    }

    /// Whether something went wrong that nobody has asked for yet.
    pub(super) fn is_in_trouble(&self) -> bool {
        !self.trouble.lock().is_empty()
    }

    pub(super) fn came(&self) -> (Vec<Durable>, Vec<Trouble>) {
        (std::mem::take(&mut *self.came.lock()), std::mem::take(&mut *self.trouble.lock()))
    }
}

impl Ingest for Door {
    fn state(&self) -> IngestState {
        self.real.state(1)
    }

    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        self.real.meet(known, goes_on).inspect_err(|error| self.trouble.lock().push(error.into()))
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
        self.queue.lock().push_back((parts, done));
    }
}

/// Makes captures whole from their parts.
#[derive(Default)]
pub(super) struct Assembly {
    open: Option<(Placed, u32)>,
}

impl Assembly {
    /// The capture that ends with this part; its LSN alone if the beginning never came here.
    pub(super) fn push(&mut self, durable: Durable) -> Option<Result<Placed, Lsn>> {
        let Durable { part: Part { number, last, capture }, places, at } = durable;
        let lsn = capture.lsn;
        let open = self.open.take();
        let placed = if number == 0 {
            Placed { capture, at, places }
        } else {
            match open.filter(|(placed, next)| placed.capture.lsn == lsn && *next == number) {
                Some((mut placed, _)) => {
                    placed.capture.events.extend(capture.events);
                    placed.places.extend(places);
                    placed
                }
                None => return last.then_some(Err(lsn)),
            }
        };
        if last {
            return Some(Ok(placed));
        }
        self.open = Some((placed, number + 1));
        None
    }
}
