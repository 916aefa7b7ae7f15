//! One journal: two streams, tables, controls, and the order between them.
//!
//! Division of labour. [`Journal::submit`] makes captures durable and says so (ingest acknowledges then). Apply takes
//! them through [`crate::state::Transition`], appends undo with [`Journal::undo`], publishes rows with
//! [`Journal::publish`], touches the tree, and reports with [`Journal::note_applied`]. The journal itself never
//! touches a tree.
//!
//! Three positions matter and are kept apart. `journaled`: redo is durable up to here. *published* (the head row of the
//! tables): rows are those after this LSN; undo up to here is durable. `applied`: the tree has been touched up to here;
//! what views may show. The durable cursor follows behind `applied`, as a record of the undo stream.

mod bodies;
mod cursor;
mod motion;
mod open;
mod order;
mod payloads;
mod proven;
mod remembered;
mod summarized;
mod window;

use bodies::bad_body;
pub(crate) use bodies::{redo_record, undo_record};
pub use motion::{Moment, Motion};
pub use open::{Opened, TablesFactory};
pub use order::Ordered;
pub use payloads::Payloads;
pub use window::Lease;
pub(crate) use window::WindowLock;

use crate::controls::{Controls, Synchronized};
use crate::error::JournalError;
use crate::event::{Capture, PayloadAt, Provenance};
use crate::log::{GroupCommit, Log, LogSet, Part, RecordAt};
use crate::lsn::Lsn;
use crate::meta::Timestamp;
use crate::proofs::Proofs;
use crate::record::{BodyError, Control, RedoRecord};
use crate::state::rows;
use crate::state::summary::Summarizer;
use crate::tables::{Space, Tables};
use bincode::{Decode, Encode};
use parking_lot::{Condvar, Mutex, RwLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Now, in nanoseconds since 1970.
    fn now(&self) -> Timestamp;
}

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(now.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Head row of the tables: what they hold. Committed with every batch.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct TablesHead {
    pub(crate) version: u32,
    pub(crate) journal: [u8; 16],
    /// Rows are those after this LSN.
    pub(crate) published: (u64, u64),
    /// No earlier record of the redo stream is needed to go on.
    pub(crate) redo: RecordAt,
    /// No earlier record of the undo stream is needed to go on.
    pub(crate) undo: RecordAt,
    /// The durable cursor when this was written, and its place in the redo stream.
    pub(crate) cursor: (u64, u64),
    pub(crate) cursor_redo: RecordAt,
}

pub(crate) const HEAD_KEY: &[u8] = b"head";
pub(crate) const CONTROLS_KEY: &[u8] = b"controls";
pub(crate) const PROOFS_KEY: &[u8] = b"proofs";

struct Heads {
    journaled: Lsn,
    /// Durable parts of the captured change after it, which is not complete.
    parts: u32,
    time: Timestamp,
    applied: Lsn,
    cursor: Lsn,
    cursor_redo: RecordAt,
}

/// A journal, open.
pub struct Journal {
    directory: PathBuf,
    /// Dropped first: it writes what was submitted, and the set then notes how far that is durable.
    group: GroupCommit,
    set: LogSet,
    redo: Arc<Log>,
    undo: Arc<Log>,
    tables: Arc<dyn Tables>,
    clock: Arc<dyn Clock>,
    controls: Arc<RwLock<Controls>>,
    proofs: Arc<RwLock<Proofs>>,
    heads: Mutex<Heads>,
    moved: Condvar,
    motion: Arc<Motion>,
    /// Held from the first append to the undo stream to its commit: what one thread takes back must not be another's.
    undo_turn: Mutex<()>,
    /// Points readers hold, by number. Its lock is held while the horizon moves and while a point is pinned.
    leases: Mutex<window::Leases>,
    /// Held while a pin gets its number.
    pinning: Mutex<()>,
    /// Held while segments are thinned: those that were looked at and left as they are.
    pub(crate) thinning: Mutex<crate::thinning::Left>,
    /// Held while a block of points is made.
    summarizer: Mutex<Summarizer>,
}

/// A capture that is durable, with where it lies.
#[derive(Clone, Debug)]
pub struct Durable {
    /// The part.
    pub part: Part,
    /// Places of the payloads of its write events.
    pub places: Vec<PayloadAt>,
    /// Where its record begins.
    pub at: RecordAt,
}

impl Journal {
    /// The directory it lives in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The id made when it was created.
    #[must_use]
    pub fn id(&self) -> [u8; 16] {
        self.set.journal_id()
    }

    /// The tables.
    #[must_use]
    pub fn tables(&self) -> &Arc<dyn Tables> {
        &self.tables
    }

    /// The undo stream.
    #[must_use]
    pub fn undo(&self) -> &Arc<Log> {
        &self.undo
    }

    /// The redo stream.
    #[must_use]
    pub fn redo(&self) -> &Arc<Log> {
        &self.redo
    }

    /// Segments, lock, retention.
    #[must_use]
    pub fn set(&self) -> &LogSet {
        &self.set
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Last captured LSN whose redo is durable.
    #[must_use]
    pub fn journaled(&self) -> Lsn {
        self.heads.lock().journaled
    }

    /// As [`Journal::journaled`], with the number of durable parts of the captured change after it: who sends it need
    /// not send those again. Parts of a first synchronization do not count, since their bytes are not journaled.
    #[must_use]
    pub fn journaled_parts(&self) -> (Lsn, u32) {
        let heads = self.heads.lock();
        (heads.journaled, heads.parts)
    }

    /// The master's clock at the last journaled LSN.
    #[must_use]
    pub fn journaled_time(&self) -> Timestamp {
        self.heads.lock().time
    }

    /// Last LSN the tree has been touched for.
    #[must_use]
    pub fn applied(&self) -> Lsn {
        self.heads.lock().applied
    }

    /// The LSN of the next change of the replica to its own tree: behind what the tree shows, and behind all that were
    /// journaled at this place before, whatever became of them.
    #[must_use]
    pub fn next_local(&self) -> Lsn {
        let (applied, minted) = (self.applied(), self.with_controls(Controls::minted));
        if minted.captured == applied.captured {
            applied.max(minted).successor()
        } else {
            applied.successor()
        }
    }

    /// The durable cursor.
    #[must_use]
    pub fn cursor(&self) -> Lsn {
        self.heads.lock().cursor
    }

    /// What the journal says about itself, as of now.
    #[must_use]
    pub fn controls(&self) -> Controls {
        self.controls.read().clone()
    }

    /// Reads a part of the controls without copying them.
    pub fn with_controls<R>(&self, read: impl FnOnce(&Controls) -> R) -> R {
        read(&self.controls.read())
    }

    /// Changes what is known beside the stream.
    pub(crate) fn with_controls_mut(&self, change: impl FnOnce(&mut Controls)) {
        change(&mut self.controls.write());
    }

    /// Makes parts durable, in order, then calls `done` (on the writer's thread) with what is now durable. Many
    /// submissions share one fsync. Blocks while the writer's queue is full.
    pub fn submit(
        self: &Arc<Self>,
        parts: Vec<Part>,
        done: impl FnOnce(Result<Vec<Durable>, JournalError>) + Send + 'static,
    ) {
        let minted = self.with_controls(Controls::minted);
        if let Some(part) = parts
            .iter()
            .find(|part| part.number == 0 && part.capture.lsn.is_local() && part.capture.lsn <= minted)
        {
            let what = "a local LSN is given twice";
            return done(Err(JournalError::Inconsistent { lsn: part.capture.lsn, what }));
        }
        let now = self.clock.now();
        let drafts: Result<Vec<_>, BodyError> =
            parts.iter().map(|part| RedoRecord::Part(part.clone()).to_draft(now)).collect();
        let drafts = match drafts {
            Ok(drafts) => drafts,
            Err(error) => return done(Err(self.bad_body("redo", RecordAt::default(), error))),
        };
        let journal = Arc::clone(self);
        self.group.submit_with(drafts, move |appended| match appended {
            Err(error) => {
                drop(journal);
                done(Err(error));
            }
            Ok(appended) => {
                let durable: Vec<Durable> = parts
                    .into_iter()
                    .zip(appended)
                    .map(|(part, appended)| Durable { part, places: appended.payloads, at: appended.at })
                    .collect();
                journal.note_journaled(&durable);
                // Whoever is told may close the journal at once: nothing here may still hold it.
                drop(journal);
                done(Ok(durable));
            }
        });
    }

    fn note_journaled(&self, durable: &[Durable]) {
        for one in durable {
            if !one.part.last {
                if counts_in_parts(&one.part) {
                    self.heads.lock().parts = one.part.number + 1;
                }
                self.controls.write().part(&one.part.capture);
                continue;
            }
            self.controls.write().capture(&one.part.capture, one.at);
            let capture = &one.part.capture;
            let mut heads = self.heads.lock();
            if !capture.lsn.is_local() {
                heads.journaled = heads.journaled.max(capture.lsn);
                heads.parts = 0;
                heads.time = heads.time.max(capture.time);
            }
        }
        self.moved.notify_all();
    }

    /// Makes a control record durable and folds it in.
    ///
    /// # Errors
    /// As the log.
    pub fn control(&self, control: Control) -> Result<(), JournalError> {
        let draft = RedoRecord::Control(control.clone())
            .to_draft(self.clock.now())
            .map_err(|error| self.bad_body("redo", RecordAt::default(), error))?;
        let (send, receive) = crossbeam_channel::bounded(1);
        let (controls, proofs) = (Arc::clone(&self.controls), Arc::clone(&self.proofs));
        // Folded on the writer's thread, so that all records are folded in the order of the stream.
        self.group.submit_with(vec![draft], move |appended| {
            let folded = appended.map(|appended| {
                if let Some(appended) = appended.first() {
                    controls.write().control(&control, appended.at);
                    proofs.write().control(&control);
                }
            });
            drop(send.send(folded));
        });
        receive.recv().unwrap_or_else(|_| Err(JournalError::Poisoned { path: self.directory.clone() }))
    }

    /// The tree has been touched up to `lsn`.
    pub fn note_applied(&self, lsn: Lsn) {
        let mut heads = self.heads.lock();
        heads.applied = heads.applied.max(lsn);
        self.motion.end();
        self.moved.notify_all();
    }

    /// Waits until the tree has been touched up to `lsn`; false if `timeout` passed first.
    pub fn wait_applied(&self, lsn: Lsn, timeout: Duration) -> bool {
        self.wait(timeout, |heads| heads.applied >= lsn)
    }

    /// Waits until redo is durable up to `lsn`; false if `timeout` passed first.
    pub fn wait_journaled(&self, lsn: Lsn, timeout: Duration) -> bool {
        self.wait(timeout, |heads| heads.journaled >= lsn)
    }

    fn wait(&self, timeout: Duration, reached: impl Fn(&Heads) -> bool) -> bool {
        let give_up = Instant::now() + timeout;
        let mut heads = self.heads.lock();
        while !reached(&heads) {
            if self.moved.wait_until(&mut heads, give_up).timed_out() {
                return reached(&heads);
            }
        }
        true
    }

    /// Completed captures with `after < lsn <= upto`, in the order of LSNs, reading the redo stream from `from`.
    /// Payloads are [`crate::Payload::Stored`].
    #[must_use]
    pub fn captures(&self, from: RecordAt, after: Lsn, upto: Lsn) -> Ordered {
        Ordered::new(&self.redo, from, after, upto, self.controls.read().dropped())
    }

    /// The same without local captures.
    #[must_use]
    pub fn captured(&self, from: RecordAt, after: Lsn, upto: Lsn) -> Ordered {
        Ordered::captured(&self.redo, from, after, upto)
    }

    /// The durable cursor's place in the redo stream.
    #[must_use]
    pub fn cursor_redo(&self) -> RecordAt {
        self.heads.lock().cursor_redo
    }

    /// Whether rewind points exist: the first synchronization has completed and no other is under way.
    #[must_use]
    pub fn synchronized(&self) -> Synchronized {
        self.controls.read().synchronized
    }

    /// Saves the controls beside the tables so that the next start need not read the whole stream.
    ///
    /// # Errors
    /// As the tables.
    pub fn save_controls(&self) -> Result<(), JournalError> {
        let row = rows::write(&self.controls());
        let proofs = rows::write(&self.proofs());
        self.tables.commit(vec![
            (Space::Heads, CONTROLS_KEY.to_vec(), Some(row)),
            (Space::Heads, PROOFS_KEY.to_vec(), Some(proofs)),
        ])
    }

    pub(crate) fn bad_body(&self, stream: &str, at: RecordAt, error: BodyError) -> JournalError {
        bad_body(&self.directory, stream, at, error)
    }
}

/// Whether a part that does not end its capture need not be sent again once it is durable.
pub(crate) fn counts_in_parts(part: &Part) -> bool {
    !part.capture.lsn.is_local() && part.capture.provenance != Provenance::Synchronization
}

/// A completed capture with where its first record begins.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The capture; all its parts.
    pub capture: Capture,
    /// Where the first of its records begins.
    pub at: RecordAt,
    /// Places of payloads that are in memory.
    pub places: Vec<PayloadAt>,
}
