//! Apply: from durable redo to the replica tree, with undo before touch.
//!
//! A batch goes through five steps, and only the fourth changes the tree:
//! 1. what each capture replaces is computed against the state after all earlier ones, those of the batch included;
//! 2. undo is appended and fsynced;
//! 3. undo rows and the new present rows are published in one atomic batch;
//! 4. the tree is touched ([`touch`]);
//! 5. inodes of new nodes are recorded and `applied` moves.
//!
//! If step 4 fails half way (disk full, I/O error, crash) nothing is taken back: the tables already say what the tree
//! should be, and [`recover`] brings it there, by the same code at the next start or at the next try. At the next start
//! the window is all that was published since the durable cursor. At the next try it is the batch alone
//! ([`Applier::finish`]): everything before it is in the tree, and its bytes are still in memory, which for a first
//! synchronization is the only place they are.
//!
//! The durable cursor follows in the background: the tree is synced, then an `Applied` record says up to where.

mod again;
mod ahead;
mod kept;
mod mend;
mod proof;
mod recover;
mod touch;
mod undo;

pub use again::{Again, Missing, again_name};
pub(crate) use again::{clear, is_again};
pub use kept::{prune, prune_at_start};
pub use mend::{STRANGE, Settle};
pub(crate) use proof::ends_batch;
pub use recover::{reconcile, window};
pub use touch::Degraded;

use crate::apply::touch::Touch;
use crate::apply::undo::{OldFiles, UndoWriter};
use bytes::Bytes;
use journal::journal::{Journal, Payloads, Placed};
use journal::log::{Log, RecordAt};
use journal::spare::Spares;
use journal::state::{ContentUndo, Finished, Transition, history_puts, point_put, rows};
use journal::view::Locator;
use journal::{JournalError, Lsn, NodeId, Payload, Provenance, Space, TreeIo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Applies batches of captures to a tree. One thread uses it.
pub struct Applier<T: TreeIo> {
    journal: Arc<Journal>,
    tree: Arc<T>,
    touch: Touch<T>,
    /// Inodes of nodes created since the durable cursor.
    inodes: Arc<Mutex<Vec<(NodeId, u64)>>>,
    /// Place in the redo stream before which nothing captured is needed to go on.
    redo: RecordAt,
    /// What old bytes are read into.
    spares: Spares,
    /// When the last batch began.
    began: Instant,
    /// The batch under way touches the tree, or did so in part, and its rows are not published yet.
    unpublished: bool,
}

/// Bytes of redo a batch may hold, so that one batch is short and its undo fits in memory.
pub const BATCH_BYTES_MAX: u64 = 8 << 20;
/// Bytes of buffers kept for the undo of the next batch.
const SPARE_BYTES_MAX: usize = 16 << 20;
/// How long they are kept.
const SPARES_KEPT: Duration = Duration::from_secs(2);
/// Captures a batch may hold.
pub const BATCH_CAPTURES_MAX: usize = 512;

impl<T: TreeIo> Applier<T> {
    /// An applier that continues where the tables are. The tree must have been reconciled.
    #[must_use]
    pub fn new(journal: Arc<Journal>, tree: Arc<T>, redo: RecordAt) -> Self {
        let spares = Spares::new(SPARE_BYTES_MAX);
        let touch = Touch::new(Arc::clone(&journal), Arc::clone(&tree));
        Applier {
            journal,
            tree,
            touch,
            inodes: Arc::default(),
            redo,
            spares,
            began: Instant::now(),
            unpublished: false,
        }
    }

    /// Place in the redo stream from which the next captured change is read.
    #[must_use]
    pub fn redo(&self) -> RecordAt {
        self.redo
    }

    /// Gives back memory that is kept for the next batch, if there has been none for a while.
    pub(crate) fn settle(&self) {
        if self.began.elapsed() >= SPARES_KEPT {
            self.spares.clear();
            self.journal.undo().settle();
            self.journal.redo().settle();
        }
    }

    /// What could not be kept for lack of privilege since the last call.
    pub fn take_degraded(&mut self) -> Vec<Degraded> {
        self.touch.take_degraded()
    }

    /// Applies captures, which are the next ones in the order of LSNs. `next_redo` is the place behind the last of
    /// them in the redo stream, or where the oldest captured change not applied yet begins.
    ///
    /// # Errors
    /// Before undo was published the batch has had no effect and may be tried again: [`ApplyError::Before`]. After
    /// that it must be finished before anything else, by [`Applier::finish`] with the same batch:
    /// [`ApplyError::Touching`].
    pub fn apply(&mut self, batch: &[Placed], next_redo: RecordAt) -> Result<(), ApplyError> {
        let Some(last) = batch.last().map(|placed| placed.capture.lsn) else { return Ok(()) };
        self.began = Instant::now();
        let first_time = batch.iter().all(|placed| placed.capture.provenance == Provenance::Synchronization);
        recover::note_lost(&self.journal, batch).map_err(ApplyError::Before)?;
        let finished = self.prepare(batch).map_err(ApplyError::Before)?;
        self.journal.note_touching();
        self.unpublished = first_time;
        let Finished { mut puts, before, touched, removals } = finished;
        if !first_time {
            self.journal.publish(std::mem::take(&mut puts), last, next_redo).map_err(ApplyError::Before)?;
        }
        let created = self.touch.batch(batch, before, &touched, removals).map_err(ApplyError::Touching)?;
        let rows = touched.into_iter().filter_map(|(node, mut row)| {
            row.inode = created.iter().find(|(id, _)| *id == node).map(|(_, inode)| *inode)?;
            Some((Space::Nodes, node.to_key().to_vec(), Some(rows::write(&row))))
        });
        if first_time {
            // Nobody can read a point before the first synchronization has completed, so there is no undo to
            // publish first, and one commit is enough. After a crash the tables are behind the tree; the empty undo
            // record says how far the tree may be.
            puts.extend(rows);
            self.journal.publish(puts, last, next_redo).map_err(ApplyError::Touching)?;
            self.unpublished = false;
        } else {
            let rows: Vec<_> = rows.collect();
            if !rows.is_empty() {
                self.journal.tables().commit(rows).map_err(ApplyError::Touching)?;
            }
        }
        self.inodes.lock().extend(created);
        self.redo = next_redo;
        proof::compare(&self.journal, batch.last().map(|placed| &placed.capture));
        self.journal.note_applied(last);
        Ok(())
    }

    /// Finishes a batch that failed while the tree was touched, whatever of it the tree holds; may be called as often
    /// as it fails.
    ///
    /// # Errors
    /// As [`Applier::apply`]; `Drift` if a node that the batch needs is missing.
    pub fn finish(&mut self, batch: &[Placed], next_redo: RecordAt) -> Result<(), JournalError> {
        let Some(last) = batch.last().map(|placed| placed.capture.lsn) else { return Ok(()) };
        // Under the count of the batch that failed, readers may have given up waiting for what moves now.
        self.journal.note_touching();
        if self.unpublished {
            let finished = self.prepare(batch)?;
            self.journal.publish(finished.puts, last, next_redo)?;
            self.unpublished = false;
        }
        let created = recover::reconcile(&self.journal, &self.tree, batch)?;
        self.inodes.lock().extend(created);
        self.redo = next_redo;
        proof::compare(&self.journal, batch.last().map(|placed| &placed.capture));
        self.journal.note_applied(last);
        Ok(())
    }

    /// Steps 1 and 2.
    fn prepare(&mut self, batch: &[Placed]) -> Result<Finished, JournalError> {
        let tables = Arc::clone(self.journal.tables());
        let locator = Locator::new(Arc::clone(&tables), Arc::clone(&self.tree)).settling(Duration::ZERO);
        let mut transition = Transition::new(&*tables);
        let journal = &*self.journal;
        std::thread::scope(|scope| {
            let mut old = OldFiles::new(&locator, journal, &self.spares).reading_ahead(batch, scope);
            journal.write_undo(|log| {
                for placed in batch {
                    let last = batch.last().is_some_and(|last| last.capture.lsn == placed.capture.lsn);
                    prepare_one(placed, last, (log, journal), &mut old, &mut transition)?;
                }
                Ok(())
            })
        })?;
        transition.finish()
    }

    /// What is needed to move the durable cursor from another thread.
    #[must_use]
    pub fn cursor_mover(&self) -> CursorMover<T> {
        CursorMover {
            journal: Arc::clone(&self.journal),
            tree: Arc::clone(&self.tree),
            inodes: Arc::clone(&self.inodes),
        }
    }
}

/// Undo of one capture, appended, and its rows.
fn prepare_one<T: TreeIo>(
    placed: &Placed,
    last: bool,
    (log, journal): (&Log, &Journal),
    old: &mut OldFiles<'_, T>,
    transition: &mut Transition<'_>,
) -> Result<(), JournalError> {
    let capture = &placed.capture;
    let synchronizing = capture.provenance == Provenance::Synchronization;
    let mut writer = UndoWriter::new(log, capture.lsn, capture.time);
    let mut load = |data: &Payload| -> Result<Bytes, JournalError> {
        let what = "bytes that were never journaled are wanted again";
        journal.written(data)?.ok_or(JournalError::Inconsistent { lsn: capture.lsn, what })
    };
    let undo = ContentUndo { old, load: &mut load, sink: &mut writer };
    let replaced = transition.capture(capture, &placed.places, (!synchronizing).then_some(undo))?;
    // A first synchronization needs no undo, but the stream must say how far the tree may be.
    if !synchronizing || last {
        let data = writer.finish(&replaced)?;
        for (space, key, value) in history_puts(capture.lsn, &replaced, &data) {
            transition.put(space, key, value);
        }
    }
    if let Some((space, key, value)) = point_put(capture) {
        transition.put(space, key, value);
    }
    Ok(())
}

/// A batch that was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Nothing has happened.
    #[error("prepare a batch")]
    Before(#[source] JournalError),
    /// Undo is published; the tree is somewhere between before and after.
    #[error("touch the replica tree")]
    Touching(#[source] JournalError),
}

/// A durable cursor that did not move.
#[derive(Debug, thiserror::Error)]
pub enum Moved {
    /// The tree could not be synced: what was written to it since the cursor may be lost, now or later.
    #[error("sync the replica tree")]
    Unsynced(#[source] JournalError),
    /// The tree is synced, the journal does not say so.
    #[error("record the durable cursor")]
    Not(#[source] JournalError),
}

/// Moves the durable cursor.
pub struct CursorMover<T: TreeIo> {
    journal: Arc<Journal>,
    tree: Arc<T>,
    inodes: Arc<Mutex<Vec<(NodeId, u64)>>>,
}

impl<T: TreeIo> CursorMover<T> {
    /// Syncs the tree and records that it holds everything up to `applied`, which must be what the journal says is
    /// applied at the time of the call, with its place `redo`.
    ///
    /// # Errors
    /// Then nothing is recorded.
    pub fn move_to(&self, applied: Lsn, redo: RecordAt) -> Result<(), Moved> {
        let inodes = std::mem::take(&mut *self.inodes.lock());
        let synced = self.tree.sync().map_err(|source| {
            Moved::Unsynced(JournalError::Tree { operation: "sync", object: "all roots".to_owned(), source })
        });
        let moved =
            synced.and_then(|()| self.journal.advance_cursor(applied, redo, &inodes).map_err(Moved::Not));
        if moved.is_err() {
            self.inodes.lock().extend(inodes);
        }
        moved
    }
}

/// Reads payloads of both streams.
#[must_use]
pub fn payloads(journal: &Journal) -> Arc<Payloads> {
    Arc::new(Payloads::new(journal.redo(), journal.undo()))
}
