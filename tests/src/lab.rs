//! A replica without threads: journal, tables and tree, each on something that can be torn.
//!
//! The lab drives the same code as a daemon does (journal, applier, recovery, views) but decides itself when a batch
//! is applied, when the cursor moves and when the power goes.

use crate::canonical::{Canonical, CanonicalNode, comparable, group, join};
use crate::sim_disk::SimDisk;
use crate::sim_tree::SimTree;
use journal::journal::{Clock, Journal, Placed, TablesFactory};
use journal::log::{LogOptions, RecordAt};
use journal::tables::MemoryTables;
use journal::view::View;
use journal::{Capture, Edge, JournalError, Lsn, Name, NodeId, Part, RootNo, Tables, Timestamp, TreeIo};
use replication::apply::{self, Applier};
use std::path::Path;
use std::sync::Arc;

/// A clock that stands still.
pub struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_000_000_000)
    }
}

/// A clock that a test sets, also backwards.
#[derive(Debug, Default)]
pub struct SetClock(pub std::sync::atomic::AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

/// Tables in memory that survive the journal: those of a daemon whose projections were not deleted.
pub struct SameTables(pub Arc<MemoryTables>);

impl TablesFactory for SameTables {
    fn tables(&self, fresh: bool) -> Result<Arc<dyn Tables>, JournalError> {
        if fresh {
            for space in journal::Space::ALL {
                let rows: Vec<_> = self.0.range(space, &[], &[0xff; 400]).collect::<Result<_, _>>()?;
                self.0.commit(rows.into_iter().map(|(key, _)| (space, key, None)).collect())?;
            }
        }
        Ok(Arc::clone(&self.0) as Arc<dyn Tables>)
    }
}

/// A replica without threads.
pub struct Lab {
    pub disk: SimDisk,
    pub tree: Arc<SimTree>,
    pub tables: Arc<MemoryTables>,
    pub journal: Arc<Journal>,
    pub applier: Applier<SimTree>,
    redo: RecordAt,
}

/// Small segments, so that short histories cross several.
pub fn small_segments() -> LogOptions {
    LogOptions { segment_bytes_max: 64 << 10, ..LogOptions::default() }
}

impl Lab {
    /// Opens what is on the disk; reconciles the tree as a daemon does at its start.
    pub fn open(disk: SimDisk, tree: Arc<SimTree>, tables: Arc<MemoryTables>) -> Result<Lab, JournalError> {
        Lab::open_with(disk, tree, tables, small_segments())
    }

    /// The same with other segments.
    pub fn open_with(
        disk: SimDisk,
        tree: Arc<SimTree>,
        tables: Arc<MemoryTables>,
        options: LogOptions,
    ) -> Result<Lab, JournalError> {
        Lab::open_at(disk, tree, tables, options, Arc::new(StillClock))
    }

    /// The same by another clock.
    pub fn open_at(
        disk: SimDisk,
        tree: Arc<SimTree>,
        tables: Arc<MemoryTables>,
        options: LogOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Lab, JournalError> {
        let factory = SameTables(Arc::clone(&tables));
        Lab::open_by(disk, tree, tables, &factory, options, clock)
    }

    /// The same with tables from a factory of the caller's, which are `tables` in the end.
    pub fn open_by(
        disk: SimDisk,
        tree: Arc<SimTree>,
        tables: Arc<MemoryTables>,
        factory: &dyn TablesFactory,
        options: LogOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Lab, JournalError> {
        let shared = Arc::new(disk.clone());
        let opened = Journal::open(shared, Path::new("/j"), options, factory, clock)?;
        let journal = Arc::clone(&opened.journal);
        let window = apply::window(&journal, opened.cursor, opened.published)?;
        let inodes = apply::reconcile(&journal, &tree, &window)?;
        let redo = journal.cursor_redo();
        if !window.is_empty() {
            tree.sync().map_err(|source| JournalError::Tree {
                operation: "sync",
                object: "all roots".to_owned(),
                source,
            })?;
            journal.advance_cursor(opened.published, redo, &inodes)?;
        }
        journal.note_applied(opened.published);
        journal.publish(Vec::new(), opened.published, redo)?;
        apply::prune_at_start(&journal, &tree)?;
        let applier = Applier::new(Arc::clone(&journal), Arc::clone(&tree), redo);
        Ok(Lab { disk, tree, tables, journal, applier, redo })
    }

    /// Ends everything but what would survive a machine: the disk, the tree, the tables.
    #[must_use]
    pub fn stop(self) -> (SimDisk, Arc<SimTree>, Arc<MemoryTables>) {
        let Lab { disk, tree, tables, journal, applier, .. } = self;
        drop((applier, journal));
        (disk, tree, tables)
    }

    /// A lab on empty ground.
    pub fn new() -> Lab {
        Lab::open(SimDisk::new(), Arc::new(SimTree::new(1)), Arc::default()).expect("a new journal opens")
    }

    /// Applies the first capture of a generator as the end of the first synchronization: from here on there are points.
    pub fn synchronized(&mut self, generator: &mut crate::model::Generator) {
        let mut first = generator.next();
        let (files, directories, bytes) = (0, 0, 0);
        let completed = journal::Marker::SynchronizationCompleted { files, directories, bytes };
        first.events.push(journal::Event::Mark(completed));
        let placed = self.journal_them(&[first]).expect("journal");
        self.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
    }

    /// Makes captures durable; what apply would be given.
    pub fn journal_them(&self, captures: &[Capture]) -> Result<Vec<Placed>, JournalError> {
        let parts =
            captures.iter().map(|capture| Part { number: 0, last: true, capture: capture.clone() }).collect();
        let (send, receive) = std::sync::mpsc::channel();
        self.journal.submit(parts, move |durable| drop(send.send(durable)));
        let durable = receive.recv().expect("the writer answers")?;
        let placed = durable.into_iter().map(|one| Placed {
            capture: one.part.capture,
            at: one.at,
            places: one.places,
        });
        Ok(placed.collect())
    }

    /// Applies what was made durable.
    pub fn apply(&mut self, batch: &[Placed]) -> Result<(), apply::ApplyError> {
        let captured = batch.iter().rfind(|placed| !placed.capture.lsn.is_local());
        let redo = captured.map_or(self.redo, |placed| placed.at);
        let applied = self.applier.apply(batch, redo);
        // A batch that had no effect is read again.
        if !matches!(applied, Err(apply::ApplyError::Before(_))) {
            self.redo = redo;
        }
        applied
    }

    /// Finishes a batch that failed while the tree was touched.
    pub fn finish(&mut self, batch: &[Placed]) -> Result<(), JournalError> {
        self.applier.finish(batch, self.redo)
    }

    /// Moves the durable cursor to where apply is.
    pub fn move_cursor(&self) -> Result<(), JournalError> {
        let moved = self.applier.cursor_mover().move_to(self.journal.applied(), self.redo);
        moved.map_err(|(apply::Moved::Unsynced(error) | apply::Moved::Not(error))| error)
    }

    /// Has the applier do something between two batches, as an errand of a replica does.
    pub fn between_batches<R>(
        &mut self,
        run: impl FnOnce(&mut Applier<SimTree>, apply::Settle<'_>) -> R,
    ) -> R {
        let (mover, journal, redo) = (self.applier.cursor_mover(), Arc::clone(&self.journal), self.redo);
        run(&mut self.applier, &|| {
            let moved = mover.move_to(journal.applied(), redo);
            moved.map_err(|(apply::Moved::Unsynced(error) | apply::Moved::Not(error))| error)
        })
    }

    /// The local captures that make the tree equal to a point.
    pub fn captures_to(&self, to: Lsn) -> Vec<Capture> {
        self.try_captures_to(to).unwrap_or_else(|error| panic!("plan to {to}: {error:?}"))
    }

    /// The same where it may fail.
    pub fn try_captures_to(&self, to: Lsn) -> Result<Vec<Capture>, restore::RestoreError> {
        let groups: Vec<_> = {
            let (now, then) = (self.view(self.journal.applied()), self.view(to));
            let plan = restore::RewindPlan::new(&now, &then, &[], &restore::NoMonitor)?;
            plan.captures().collect::<Result<_, _>>()?
        };
        let mut next = self.journal.next_local();
        let captures = groups
            .into_iter()
            .map(|group: restore::LocalCapture| {
                let lsn = next;
                next = lsn.successor();
                let (root, path, events) = (group.root, group.path, group.events);
                Capture {
                    lsn,
                    time: Timestamp(0),
                    provenance: journal::Provenance::Local,
                    root,
                    path,
                    events,
                }
            })
            .collect::<Vec<_>>();
        // They put back undo of the point. Before there are points nothing is given up.
        match (captures.last(), self.journal.lease(to)) {
            (Some(last), Ok(lease)) => lease.keep_until(last.lsn),
            (Some(_), Err(error @ JournalError::Thinned { .. })) => panic!("{to} was readable: {error}"),
            _ => {}
        }
        Ok(captures)
    }

    /// Makes the tree equal to a point by local captures, as a rewind of the replica does. Returns how many.
    pub fn rewind(&mut self, to: Lsn) -> usize {
        let captures = self.captures_to(to);
        let placed = self.journal_them(&captures).expect("journal");
        for some in placed.chunks(7) {
            self.apply(some).unwrap_or_else(|error| panic!("rewind to {to}: {error:?}"));
        }
        captures.len()
    }

    /// Runs retention with a budget and removes what it gave up.
    pub fn retain(&self, bytes_max: u64) -> Result<journal::retention::Retained, JournalError> {
        let policy =
            journal::retention::RetentionPolicy { keep: std::time::Duration::from_secs(1 << 40), bytes_max };
        let retained = self.journal.retain(policy, Timestamp(i64::MAX))?;
        self.prune(retained.horizon)?;
        Ok(retained)
    }

    /// Removes what no point from the horizon on shows. Nodes removed.
    pub fn prune(&self, horizon: Lsn) -> Result<u64, JournalError> {
        apply::prune(&self.journal, &self.tree, horizon, || self.move_cursor())
    }

    /// A view; the lab drops nothing, so no lease is needed.
    pub fn view(&self, lsn: Lsn) -> View<SimTree> {
        let bytes = apply::payloads(&self.journal);
        let view = View::new(lsn, Arc::clone(self.journal.tables()), bytes, Arc::clone(&self.tree));
        view.watching(Arc::clone(self.journal.motion()))
    }

    /// What a view shows, in the form models are compared in.
    pub fn canonical(&self, lsn: Lsn) -> Canonical {
        canonical_view(&self.view(lsn), RootNo(0)).expect("a view reads")
    }
}

impl Default for Lab {
    fn default() -> Self {
        Lab::new()
    }
}

/// The bytes of a file of a view, the same whichever way it is opened: by its identity, or by a guess of where it is now,
/// right or wrong.
fn content<T: TreeIo>(
    view: &View<T>,
    (root, node): (RootNo, NodeId),
    path: &[u8],
) -> Result<Vec<u8>, JournalError> {
    let bytes = view.open(node)?.read_all()?;
    let seen = view.look(node)?.expect("it was there a moment ago");
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    let name = Name::new(name).expect("a name");
    let right = view.resolve(root, above)?.unwrap_or(NodeId::root(root));
    for parent in [right, NodeId::root(root)] {
        let guessed = view.open_seen(node, &seen, Edge::new(parent, name.clone()))?.read_all()?;
        assert!(guessed == bytes, "{} is another file by a guess", String::from_utf8_lossy(path));
    }
    Ok(bytes)
}

/// A whole root of a view.
pub fn canonical_view<T: TreeIo>(view: &View<T>, root: RootNo) -> Result<Canonical, JournalError> {
    let mut tree = Canonical::new();
    let mut nodes = std::collections::BTreeMap::new();
    let mut todo = vec![(Vec::new(), NodeId::root(root))];
    while let Some((path, node)) = todo.pop() {
        let Some(meta) = view.meta(node)? else { continue };
        let content = if meta.kind.is_file() { content(view, (root, node), &path)? } else { Vec::new() };
        if meta.kind.is_directory() {
            for entry in view.list(node) {
                let (name, child) = entry?;
                todo.push((join(&path, name.as_bytes()), child));
            }
        }
        let attributes = comparable(meta.attributes, &meta.kind);
        let (kind, size, xattrs) = (meta.kind, meta.size, meta.xattrs);
        let content = Arc::new(content);
        let first_name = path.clone();
        tree.insert(path.clone(), CanonicalNode { kind, size, content, attributes, xattrs, first_name });
        nodes.insert(path, node);
    }
    group(&mut tree, |path| nodes.get(path).copied());
    Ok(tree)
}

/// Tables with the same rows.
pub fn copy_of(tables: &MemoryTables) -> Arc<MemoryTables> {
    let copy = MemoryTables::default();
    for space in journal::Space::ALL {
        let rows = tables.range(space, &[], &[0xff; 400]).map(|row| row.expect("memory reads"));
        let puts = rows.map(|(key, value)| (space, key, Some(value))).collect();
        copy.commit(puts).expect("memory writes");
    }
    Arc::new(copy)
}
