//! A replica that is fed made-up captures: journal, tables and tree as in a daemon, without a master and without a wire.
//!
//! What capture and the stream cost is measured elsewhere; here the sender never waits for anything but a bounded number
//! of captures that are not durable yet.

use anyhow::Context;
use bytes::Bytes;
use journal::disk::{Disk, OsDisk};
use journal::journal::{Journal, SystemClock};
use journal::log::LogOptions;
use journal::tables::LsmFactory;
use journal::{
    Attributes, Capture, Edge, Event, JournalError, Kind, Lsn, Marker, Meta, Name, NodeId, Part, Payload,
    Provenance, RootNo, Timestamp,
};
use replication::os_tree::OsTree;
use replication::replica::{Replica, ReplicaOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Captures that travel together, and as many groups of them may be on their way.
const TOGETHER: usize = 64;
/// How long anything may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// What becomes of a group of captures.
type Durable = Result<Lsn, JournalError>;

/// The replica and who feeds it.
pub struct Fed {
    pub replica: Arc<Replica<OsTree>>,
    next: u64,
    waiting: Vec<Part>,
    room: (SyncSender<Durable>, Receiver<Durable>),
    on_their_way: usize,
}

/// Where its journal is.
pub fn journal_at(place: &Path) -> PathBuf {
    place.join("journal")
}

/// Owner, permissions and times of what is made up.
pub fn attributes(mode: u32, mtime: i64) -> Attributes {
    Attributes { mode, uid: 0, gid: 0, mtime: Timestamp(mtime), ctime: Timestamp(mtime) }
}

/// Bytes to be written.
pub fn write(node: NodeId, offset: u64, bytes: impl Into<Bytes>) -> Event {
    Event::Write { node, offset, data: Payload::Inline(bytes.into()), before: None }
}

/// A file in the root.
///
/// # Errors
/// If the name is none.
pub fn file(node: NodeId, name: &str) -> anyhow::Result<Event> {
    let at = Edge::new(NodeId::root(RootNo(0)), Name::new(name.as_bytes()).context("name a file")?);
    let meta = Meta { kind: Kind::File, size: 0, attributes: attributes(0o644, 1), xattrs: Vec::new() };
    Ok(Event::Create { node, at, meta, origin: None, parent_mtime: None })
}

impl Fed {
    /// Opens what is at `place`, or makes it.
    ///
    /// # Errors
    /// Those of the journal and of the tree.
    pub fn open(place: &Path) -> anyhow::Result<Fed> {
        Fed::open_on(Arc::new(OsDisk), place)
    }

    /// The same on another disk.
    ///
    /// # Errors
    /// As [`Fed::open`].
    pub fn open_on(disk: Arc<dyn Disk>, place: &Path) -> anyhow::Result<Fed> {
        let root = place.join("tree");
        std::fs::create_dir_all(&root)?;
        let options = LogOptions::default();
        let factory = LsmFactory(place.join("tables"));
        let opened = Journal::open(disk, &journal_at(place), options, &factory, Arc::new(SystemClock))?;
        let tree = Arc::new(OsTree::open(vec![root])?);
        let replica = Replica::start(opened, tree, ReplicaOptions::default())?;
        let next = replica.journal().journaled().captured + 1;
        Ok(Fed { replica, next, waiting: Vec::new(), room: sync_channel(TOGETHER), on_their_way: 0 })
    }

    /// One more capture.
    ///
    /// # Errors
    /// If an earlier one was refused.
    pub fn feed(&mut self, provenance: Provenance, events: Vec<Event>) -> anyhow::Result<()> {
        let capture = Capture {
            lsn: Lsn::captured(self.next),
            time: Timestamp(1_700_000_000_000_000_000 + self.next as i64 * 1_000_000),
            provenance,
            root: RootNo(0),
            path: b"file".to_vec(),
            events,
        };
        self.next += 1;
        self.waiting.push(Part { number: 0, last: true, capture });
        if self.waiting.len() >= TOGETHER || provenance == Provenance::Synchronization {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.on_their_way == TOGETHER {
            self.take_one()?;
        }
        let room = self.room.0.clone();
        // The other end lives as long as this process waits for anything.
        self.replica.ingest(std::mem::take(&mut self.waiting), move |durable| drop(room.send(durable)));
        self.on_their_way += 1;
        Ok(())
    }

    fn take_one(&mut self) -> anyhow::Result<()> {
        self.room.1.recv_timeout(PATIENCE).context("wait for the journal")?.context("journal")?;
        self.on_their_way -= 1;
        Ok(())
    }

    /// Waits until everything is durable.
    ///
    /// # Errors
    /// If something was refused.
    pub fn journaled(&mut self) -> anyhow::Result<Lsn> {
        self.send()?;
        while self.on_their_way > 0 {
            self.take_one()?;
        }
        Ok(self.replica.journal().journaled())
    }

    /// Waits until everything is applied, and synced.
    ///
    /// # Errors
    /// If something was refused, or apply halts.
    pub fn applied(&mut self) -> anyhow::Result<Lsn> {
        let last = self.journaled()?;
        let journal = self.replica.journal();
        anyhow::ensure!(journal.wait_applied(last, PATIENCE), "apply is at {}", journal.applied());
        while journal.cursor() < last {
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(last)
    }

    /// Ends a first synchronization: from here on there are points.
    ///
    /// # Errors
    /// As [`Fed::applied`].
    pub fn synchronized(&mut self, files: u64) -> anyhow::Result<Lsn> {
        let marker = Marker::SynchronizationCompleted { files, directories: 1, bytes: 0 };
        self.feed(Provenance::Synchronization, vec![Event::Mark(marker)])?;
        self.applied()
    }
}

impl Drop for Fed {
    fn drop(&mut self) {
        self.replica.stop(Duration::from_secs(10));
    }
}

/// Numbers that look random and are the same in every run.
pub struct Numbers(u64);

impl Numbers {
    /// A sequence.
    pub fn new(seed: u64) -> Self {
        Numbers(seed | 1)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes());
        words.take(count).collect()
    }
}
