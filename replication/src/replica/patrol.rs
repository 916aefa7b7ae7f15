//! The patrol: does the replica tree still show what the tables say?
//!
//! It walks the tree and compares names, inodes, kinds, sizes, modes, owners and modification times with the present
//! rows. What differs is looked at again while apply stands still between two batches: what differs then was not done
//! by us. Bytes are not read, and whoever sets the old modification time back is seen only where a write of the master
//! says what it expects to find; the proof of bytes is a matter of digests.
//!
//! Findings are journaled as drift, each once. A patrol that finds nothing takes back what earlier ones found.

use super::{Replica, Shared};
use journal::controls::Synchronized;
use journal::record::Control;
use journal::state::{NodeRow, State, links_of};
use journal::view::{Locator, View};
use journal::{Edge, JournalError, Kind, Lsn, Name, NodeId, RootNo, TreeIo, TreeStat};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Findings told of one patrol; the rest is counted.
const FINDINGS_MAX: usize = 100;
/// Entries between two pauses.
const STRIDE: u64 = 256;
/// How long apply may hold up one look.
const STILL_WAIT: Duration = Duration::from_secs(5);
/// A patrol in the background works a fifth of its time.
const REST: u32 = 4;
/// How often a patrol that waits looks whether the replica is there.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a patrol came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patrolled {
    /// Entries compared.
    pub entries: u64,
    /// Path below its root, and what is wrong with it; at most some.
    pub findings: Vec<(RootNo, Vec<u8>, &'static str)>,
    /// All findings.
    pub drifted: u64,
    /// Whether the whole tree was seen.
    pub complete: bool,
}

struct Patrol<'r, T: TreeIo> {
    replica: &'r Replica<T>,
    /// The present: no undo is later than this.
    view: View<T>,
    locator: Locator<T>,
    privileged: bool,
    report: Patrolled,
}

impl<T: TreeIo> Replica<T> {
    /// Compares the tree with the tables. After some entries it pauses `rest` times as long as they took. What it
    /// finds is journaled. Incomplete if the replica stops, or has not been synchronized.
    ///
    /// # Errors
    /// Those of tables and journal, and `Tree` if an entry cannot be looked at.
    pub fn patrol(&self, rest: u32) -> Result<Patrolled, JournalError> {
        if self.journal.synchronized() != Synchronized::Completed {
            return Ok(Patrolled::default());
        }
        let roots = (0..u16::MAX).take_while(|root| self.tree.root(RootNo(*root)).is_ok()).count() as u16;
        let tables = Arc::clone(self.journal.tables());
        let bytes = crate::apply::payloads(&self.journal);
        let patrol = Patrol {
            replica: self,
            view: View::new(Lsn::MAX, Arc::clone(&tables), bytes, Arc::clone(&self.tree)),
            locator: Locator::new(tables, Arc::clone(&self.tree)).settling(Duration::ZERO),
            privileged: rustix::process::geteuid().is_root(),
            report: Patrolled::default(),
        };
        let report = patrol.run(roots, rest)?;
        self.tell(&report, roots > 1)?;
        Ok(report)
    }

    fn tell(&self, report: &Patrolled, many: bool) -> Result<(), JournalError> {
        let time = self.journal.clock().now();
        let known = self.journal.controls().drift;
        if report.drifted == 0 {
            // What apply has stopped at is not seen from here.
            let clear = report.complete && !known.is_empty() && self.shared.0.lock().halt.is_none();
            return if clear { self.journal.control(Control::DriftCleared) } else { Ok(()) };
        }
        for (root, path, what) in &report.findings {
            let path = String::from_utf8_lossy(path);
            let object = if many { format!("root {}: {path}", root.0) } else { path.into_owned() };
            if !known.iter().any(|(known, said, _)| *known == object && said == what) {
                self.journal.control(Control::Drift { object, what: (*what).to_owned(), time })?;
            }
        }
        Ok(())
    }

    /// Runs a look while nothing is being applied. `None`: apply did not pause in time, or cannot go on.
    pub(super) fn while_still<R>(&self, look: impl FnOnce(&Shared) -> R) -> Option<R> {
        let give_up = Instant::now() + STILL_WAIT;
        let mut state = self.shared.0.lock();
        while state.busy {
            if state.halt.is_some() || state.stopping || Instant::now() >= give_up {
                return None;
            }
            self.shared.1.wait_for(&mut state, Duration::from_millis(20));
        }
        Some(look(&state))
    }

    fn is_stopped(&self) -> bool {
        self.shared.0.lock().stopping
    }
}

/// Patrols every so often for as long as the replica is there.
pub(super) fn start<T: TreeIo>(replica: &Arc<Replica<T>>, every: Duration) {
    let watched = Arc::downgrade(replica);
    let run = move || {
        let mut waited = Instant::now();
        loop {
            std::thread::sleep(LOOK_EVERY);
            let Some(replica) = watched.upgrade() else { return };
            if replica.is_stopped() {
                return;
            }
            if waited.elapsed() < every {
                continue;
            }
            match replica.patrol(REST) {
                Ok(report) if report.drifted > 0 => {
                    let drifted = report.drifted;
                    tracing::error!(drifted, "the replica tree was changed by somebody else");
                }
                Ok(report) => tracing::debug!(entries = report.entries, "patrol"),
                Err(error) => tracing::warn!(%error, "a patrol of the replica tree failed"),
            }
            waited = Instant::now();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("patrol".to_owned()).spawn(run) {
        tracing::error!(%error, "cannot start a thread");
    }
}

impl<T: TreeIo> Patrol<'_, T> {
    fn run(mut self, roots: u16, rest: u32) -> Result<Patrolled, JournalError> {
        let mut stack: Vec<NodeId> = (0..roots).rev().map(|root| NodeId::root(RootNo(root))).collect();
        let mut began = Instant::now();
        let mut next_pause = STRIDE;
        while let Some(directory) = stack.pop() {
            if self.replica.is_stopped() {
                return Ok(self.report);
            }
            self.directory(directory, &mut stack)?;
            if self.report.entries >= next_pause {
                std::thread::sleep(began.elapsed() * rest);
                (began, next_pause) = (Instant::now(), self.report.entries + STRIDE);
            }
        }
        self.report.complete = true;
        Ok(self.report)
    }

    fn directory(&mut self, directory: NodeId, stack: &mut Vec<NodeId>) -> Result<(), JournalError> {
        // One that moved while it was looked for is seen by the next patrol; one that is not where it belongs was
        // reported under its name.
        let Some(open) = self.locator.directory(directory)? else { return Ok(()) };
        let Ok(names) = self.replica.tree.list(&open) else { return Ok(()) };
        let mut strangers: HashSet<Name> = names.into_iter().collect();
        let mut after: Option<Name> = None;
        loop {
            let page = self.view.list_page(directory, after.as_ref())?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (name, node) in page {
                strangers.remove(&name);
                self.report.entries += 1;
                let edge = Edge::new(directory, name);
                if self.differs(&open, &edge, None)?.is_some() {
                    self.look_again(&open, edge)?;
                }
                if self.view.row(node)?.is_some_and(|row| row.meta.kind.is_directory()) {
                    stack.push(node);
                }
            }
        }
        for name in strangers {
            self.look_again(&open, Edge::new(directory, name))?;
        }
        Ok(())
    }

    /// What differs while apply stands still is drift.
    fn look_again(&mut self, open: &T::Dir, edge: Edge) -> Result<(), JournalError> {
        let differs = self.replica.while_still(|still| {
            // The directory itself may have moved on.
            let there = self.view.row(edge.parent)?.is_some() || edge.parent.as_root_or_kept().is_some();
            if there { self.differs(open, &edge, Some(still)) } else { Ok(None) }
        });
        let Some(Some(what)) = differs.transpose()? else { return Ok(()) };
        self.report.drifted += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            let (root, path) = self.path(&edge)?;
            self.report.findings.push((root, path, what));
        }
        Ok(())
    }

    fn differs(
        &self,
        open: &T::Dir,
        edge: &Edge,
        still: Option<&Shared>,
    ) -> Result<Option<&'static str>, JournalError> {
        let expected = State::name(&**self.view.tables(), edge)?;
        let row = expected.map(|node| self.view.row(node)).transpose()?.flatten();
        let stat = self.replica.tree.stat(open, &edge.name).map_err(|source| JournalError::Tree {
            operation: "stat",
            object: String::from_utf8_lossy(edge.name.as_bytes()).into_owned(),
            source,
        })?;
        Ok(match (row, stat, expected) {
            (Some(row), Some(stat), Some(node)) => {
                let degraded = |shared: &Shared| shared.degraded.contains_key(&node);
                let degraded = match still {
                    Some(shared) => degraded(shared),
                    None => degraded(&self.replica.shared.0.lock()),
                };
                compare(&row, &stat, self.privileged, degraded)
            }
            (Some(_), None, _) => Some("it is missing"),
            (None, Some(_), _) => Some("somebody put it there"),
            _ => None,
        })
    }

    fn path(&self, edge: &Edge) -> Result<(RootNo, Vec<u8>), JournalError> {
        let mut names = vec![edge.name.clone()];
        let mut at = edge.parent;
        loop {
            if let Some(root) = at.as_root_or_kept() {
                let parts: Vec<&[u8]> = names.iter().rev().map(Name::as_bytes).collect();
                return Ok((root, parts.join(&b'/')));
            }
            let Some(above) = links_of(&**self.view.tables(), at)?.into_iter().next() else {
                return Ok((RootNo(0), edge.name.as_bytes().to_vec()));
            };
            names.push(above.name);
            at = above.parent;
        }
    }
}

/// What differs. `degraded`: not everything could be kept.
pub(super) fn compare(
    row: &NodeRow,
    stat: &TreeStat,
    privileged: bool,
    degraded: bool,
) -> Option<&'static str> {
    let (want, have) = (&row.meta.attributes, &stat.attributes);
    if row.inode != 0 && row.inode != stat.inode {
        return Some("something else is in its place");
    }
    if row.meta.kind != stat.kind {
        return Some("it is of another kind");
    }
    if matches!(row.meta.kind, Kind::File) && row.meta.size != stat.size {
        return Some("its size is not the one it was given");
    }
    if degraded {
        return None;
    }
    if want.mtime != have.mtime {
        return Some("it was changed at another time");
    }
    // Links have no mode of their own.
    if want.mode != have.mode && !matches!(row.meta.kind, Kind::Symlink(_)) {
        return Some("its mode is not the one it was given");
    }
    if privileged && (want.uid, want.gid) != (have.uid, have.gid) {
        return Some("its owner is not the one it was given");
    }
    None
}
