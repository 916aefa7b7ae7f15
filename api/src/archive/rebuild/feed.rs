//! A replica that is fed by hand: the code that applies captures builds the tree, here as everywhere.
//!
//! All that is fed are captures of a first synchronization: their bytes are not journaled and no undo is kept, for the tree
//! counts when it is whole and not before. LSNs are minted here, without holes; what a capture of the archive was is cut
//! into several, because nothing looks in between. If apply refuses one, it does not fit what was there before it.

use super::RebuildError;
use journal::disk::OsDisk;
use journal::journal::{Journal, SystemClock};
use journal::log::{LogOptions, Part};
use journal::tables::LsmFactory;
use journal::{Capture, Event, JournalError, Lsn, Payload, Provenance, RootNo, Timestamp};
use parking_lot::Mutex;
use replication::os_tree::OsTree;
use replication::replica::{Halt, Replica, ReplicaOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Events of one capture, and payload bytes after which it ends.
const EVENTS_MAX: usize = 512;
const BYTES_MAX: u64 = 2 << 20;
/// Captures that may wait for apply: their heads are held in memory.
const WAITING_MAX: u64 = 4096;

/// The replica, and what waits to be handed to it.
pub(super) struct Feeder {
    replica: Arc<Replica<OsTree>>,
    roots: Vec<PathBuf>,
    next: u64,
    root: RootNo,
    events: Vec<Event>,
    bytes: u64,
    failure: Arc<Mutex<Option<JournalError>>>,
}

fn system(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> RebuildError {
    let path = path.to_owned();
    move |source| RebuildError::Target { operation, path, source }
}

impl Feeder {
    /// Begins in a directory that is empty: `roots` empty trees.
    pub(super) fn new(stage: &Path, roots: u16) -> Result<Self, RebuildError> {
        let (journal, tables) = (stage.join("journal"), stage.join("tables"));
        std::fs::create_dir_all(&journal).map_err(system("create", &journal))?;
        let mut paths = Vec::new();
        for root in 0..roots {
            let path = stage.join(format!("root-{root}")).join("tree");
            std::fs::create_dir_all(&path).map_err(system("create", &path))?;
            paths.push(path);
        }
        let clock = Arc::new(SystemClock);
        let factory = LsmFactory(tables);
        let opened = Journal::open(Arc::new(OsDisk), &journal, LogOptions::default(), &factory, clock)?;
        let tree = OsTree::open(paths.clone()).map_err(system("open the trees in", stage))?;
        let options =
            ReplicaOptions { patrol_every: Duration::from_secs(86_400), ..ReplicaOptions::default() };
        let replica = Replica::start(opened, Arc::new(tree), options)?;
        let failure = Arc::default();
        Ok(Feeder { replica, roots: paths, next: 1, root: RootNo(0), events: Vec::new(), bytes: 0, failure })
    }

    /// Where the tree of a root is.
    pub(super) fn tree(&self, root: RootNo) -> Option<&Path> {
        self.roots.get(usize::from(root.0)).map(PathBuf::as_path)
    }

    /// Hands over one event of a root.
    pub(super) fn push(&mut self, root: RootNo, event: Event) -> Result<(), RebuildError> {
        let bytes = match &event {
            Event::Write { data: Payload::Inline(data), .. } => data.len() as u64,
            Event::Write { .. } => {
                return Err(RebuildError::Misfit("bytes that were never journaled".to_owned()));
            }
            _ => 0,
        };
        if root != self.root || self.events.len() >= EVENTS_MAX || self.bytes + bytes > BYTES_MAX {
            self.flush()?;
        }
        self.root = root;
        self.bytes += bytes;
        self.events.push(event);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), RebuildError> {
        if self.events.is_empty() {
            return Ok(());
        }
        let events = std::mem::take(&mut self.events);
        self.bytes = 0;
        let capture = Capture {
            lsn: Lsn::captured(self.next),
            time: Timestamp(0),
            provenance: Provenance::Synchronization,
            root: self.root,
            path: Vec::new(),
            events,
        };
        let failure = Arc::clone(&self.failure);
        self.replica.ingest(vec![Part { number: 0, last: true, capture }], move |done| {
            if let Err(error) = done {
                failure.lock().get_or_insert(error);
            }
        });
        self.next += 1;
        self.wait(self.next.saturating_sub(WAITING_MAX))
    }

    /// Waits until the capture of this number is applied.
    fn wait(&self, number: u64) -> Result<(), RebuildError> {
        let asked = Instant::now();
        loop {
            if let Some(error) = self.failure.lock().take() {
                return Err(error.into());
            }
            if let Some(Halt::Stopped(why)) = self.replica.status().halt {
                return Err(RebuildError::Misfit(why));
            }
            if let Some(error) = self.replica.halted(asked) {
                return Err(error.into());
            }
            let journal = self.replica.journal();
            if number == 0 || journal.wait_applied(Lsn::captured(number), Duration::from_millis(100)) {
                return Ok(());
            }
        }
    }

    /// Applies everything, makes it durable, and lets go of the trees. What could not be kept of some objects, for want of
    /// privilege or support, is counted.
    pub(super) fn finish(mut self) -> Result<u64, RebuildError> {
        self.flush()?;
        self.wait(self.next - 1)?;
        let degraded = self.replica.status().degraded;
        self.replica.stop(Duration::from_secs(600));
        let (halt, cursor) = (self.replica.status().halt, self.replica.journal().cursor());
        ended(halt, cursor, Lsn::captured(self.next - 1))
            .map_err(|why| system("write back", self.tree(RootNo(0)).unwrap_or(Path::new("")))(why))?;
        Ok(degraded)
    }
}

/// Whether all is on the disk: the cursor moves behind a sync, and only then.
pub(super) fn ended(halt: Option<Halt>, cursor: Lsn, last: Lsn) -> Result<(), std::io::Error> {
    match halt {
        Some(Halt::Stopped(why) | Halt::Full(why) | Halt::Failing(why)) => Err(std::io::Error::other(why)),
        None if cursor < last => {
            let text =
                format!("only {} of {} changes are known to be on the disk", cursor.captured, last.captured);
            Err(std::io::Error::other(text))
        }
        None => Ok(()),
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // Ended in the middle: nobody waits for the rest. After a good end this does nothing.
        self.replica.release();
        self.replica.stop(Duration::ZERO);
    }
}
