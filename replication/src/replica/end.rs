//! The end of a first synchronization.
//!
//! Its bytes are not journaled: until they are synced they are in this process and the tree only, and the master has
//! forgotten them as soon as their redo was durable. So the end, which makes the first rewind point, is journaled only
//! when everything before it is applied and synced.
//!
//! A process that ends before that takes bytes with it. Recovery then makes files with holes in their place, says so in
//! the journal and in their rows, and the master has to send those files again. It does so because it meets another
//! *incarnation* of the replica: a number made anew at every start. But the end may be on its way already, in the spool
//! of a master that did not know. It cannot be refused, for no LSN is ever left out. So an end that comes while a row
//! says that bytes are lost is journaled as what it is, a beginning: there is no point yet, the sender is told why on a
//! connection that ends, and the replica is another incarnation from then on, whatever the master knew before. Files the
//! master says it cannot read are no reason to wait.
//!
//! After the end nothing of a first synchronization may come any more: it has no undo.

use super::{Replica, stopping};
use crate::ingest::random;
use journal::state::{NodeRow, State, rows};
use journal::{Edge, Event, JournalError, Lsn, Marker, NodeId, Part, Provenance, RootNo, Space, TreeIo};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What there is to know of a first synchronization.
pub(super) struct First {
    /// Its end is journaled, or about to be.
    over: Arc<AtomicBool>,
    incarnation: Arc<AtomicU64>,
}

impl First {
    pub(super) fn new(over: bool) -> Self {
        First { over: Arc::new(AtomicBool::new(over)), incarnation: Arc::new(AtomicU64::new(random())) }
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::SeqCst)
    }
}

fn is_first(part: &Part) -> bool {
    part.capture.provenance == Provenance::Synchronization
}

fn is_end(part: &Part) -> bool {
    let is_end = |event: &Event| matches!(event, Event::Mark(Marker::SynchronizationCompleted { .. }));
    is_first(part) && part.capture.events.iter().any(is_end)
}

impl<T: TreeIo> Replica<T> {
    /// Makes parts of captures durable and queues them for apply; `done` is called with the last LSN that is durable
    /// and complete. Blocks while the bytes of a first synchronization wait for apply, and at its end until they are
    /// synced.
    pub fn ingest(
        &self,
        mut parts: Vec<Part>,
        done: impl FnOnce(Result<Lsn, JournalError>) + Send + 'static,
    ) {
        let end = parts.iter().position(is_end);
        let late = match end {
            _ if self.first.over.load(Ordering::SeqCst) => parts.iter().find(|part| is_first(part)),
            Some(end) => parts.iter().skip(end + 1).find(|part| is_first(part)),
            None => None,
        };
        if let Some(part) = late {
            let what = "it belongs to a first synchronization, which is over: it would have no undo";
            return done(Err(JournalError::Inconsistent { lsn: part.capture.lsn, what }));
        }
        let Some(end) = end else { return self.submit(parts, done) };
        let rest = parts.split_off(end);
        let failure = Arc::new(Mutex::new(None));
        if !parts.is_empty() {
            let failure = Arc::clone(&failure);
            self.submit(parts, move |durable| *failure.lock() = durable.err());
        }
        let settled = match rest.first() {
            Some(end) => self.wait_for_cursor(end.capture.lsn, &failure),
            None => Ok(()),
        };
        match settled.and_then(|()| self.lost_contents()) {
            Ok(None) => self.end(rest, done),
            Ok(Some(lost)) => self.begin_again(rest, lost, done),
            Err(error) => done(Err(error)),
        }
    }

    /// Waits until everything before this LSN is applied and synced.
    fn wait_for_cursor(&self, lsn: Lsn, failure: &Mutex<Option<JournalError>>) -> Result<(), JournalError> {
        let before = Lsn::captured(lsn.captured.saturating_sub(1));
        let mut state = self.shared.0.lock();
        state.awaited = state.awaited.max(before);
        self.shared.1.notify_all();
        while self.journal.cursor() < before {
            if let Some(error) = failure.lock().take() {
                return Err(error);
            }
            if state.stopping || state.released {
                // The master sends it again at the next start.
                return Err(stopping());
            }
            self.shared.1.wait_for(&mut state, Duration::from_millis(20));
        }
        Ok(())
    }

    fn end(&self, parts: Vec<Part>, done: impl FnOnce(Result<Lsn, JournalError>) + Send + 'static) {
        self.first.over.store(true, Ordering::SeqCst);
        let over = Arc::clone(&self.first.over);
        self.submit(parts, move |durable| {
            if durable.is_err() {
                over.store(false, Ordering::SeqCst);
            }
            done(durable);
        });
    }

    fn begin_again(
        &self,
        mut parts: Vec<Part>,
        lost: JournalError,
        done: impl FnOnce(Result<Lsn, JournalError>) + Send + 'static,
    ) {
        tracing::warn!(error = %lost, "the first synchronization goes on");
        for event in parts.iter_mut().flat_map(|part| &mut part.capture.events) {
            if let Event::Mark(marker @ Marker::SynchronizationCompleted { .. }) = event {
                *marker = Marker::SynchronizationStarted { first: true };
            }
        }
        let incarnation = Arc::clone(&self.first.incarnation);
        self.submit(parts, move |durable| {
            incarnation.store(random(), Ordering::SeqCst);
            done(durable.and(Err(lost)));
        });
    }

    /// Whether there are files in the tree whose bytes are lost, those aside that the master cannot read.
    fn lost_contents(&self) -> Result<Option<JournalError>, JournalError> {
        if !self.journal.with_controls(journal::controls::Controls::has_lost_bytes) {
            return Ok(None);
        }
        let (mut files, mut first) = (0, None);
        for row in self.journal.tables().range(Space::Nodes, &[], &[0xff; 16]) {
            let (key, value) = row?;
            let row: NodeRow = rows::read(Space::Nodes, &value)?;
            let (false, Some(node)) = (row.content_known, NodeId::from_key(&key)) else { continue };
            if let Some(path) = self.wanted_path(node)? {
                files += 1;
                first.get_or_insert_with(|| String::from_utf8_lossy(&path).into_owned());
            }
        }
        Ok(first.map(|first| JournalError::Incomplete { files, first }))
    }

    /// A path of a node that is in the tree and not on the list of what the master skips.
    fn wanted_path(&self, node: NodeId) -> Result<Option<Vec<u8>>, JournalError> {
        let mut found = None;
        for edge in State::links(&**self.journal.tables(), node)? {
            let Some((root, path)) = self.path(edge)? else { continue };
            let place = (root, path);
            if self.journal.with_controls(|controls| controls.skipped.contains_key(&place)) {
                return Ok(None);
            }
            found = Some(place.1);
        }
        Ok(found)
    }

    /// Root and path of a name; `None` in the kept area.
    fn path(&self, edge: Edge) -> Result<Option<(RootNo, Vec<u8>)>, JournalError> {
        const DEPTH_MAX: usize = 1 << 20;
        let mut names = vec![edge.name];
        let mut at = edge.parent;
        while names.len() < DEPTH_MAX {
            if let Some(root) = at.as_root_or_kept() {
                let names: Vec<&[u8]> = names.iter().rev().map(journal::Name::as_bytes).collect();
                return Ok((!at.is_kept_area()).then(|| (root, names.join(&b'/'))));
            }
            let Some(edge) = State::links(&**self.journal.tables(), at)?.into_iter().next() else { break };
            names.push(edge.name);
            at = edge.parent;
        }
        Ok(None)
    }
}
