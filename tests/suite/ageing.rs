//! Does history grow old only as far as the replica knows itself up to date with its master?
//!
//! A replica whose clock the test sets, and a master that speaks when the test says so. While it is silent, while apply is
//! behind what it said, and while apply stands, neither retention nor thinning gives anything up by age; the budget does.
//! What was removed before a line is cut for longer than history is kept comes back after it.

use bytes::Bytes;
use journal::journal::{Clock, Journal};
use journal::log::SegmentInfo;
use journal::retention::RetentionPolicy;
use journal::tables::MemoryTables;
use journal::thin::Tiers;
use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Part, Payload, Provenance,
    RootNo, Timestamp,
};
use replication::replica::{Halt, Replica, ReplicaOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tests::canonical::dump;
use tests::daemon::seed;
use tests::lab::{SameTables, small_segments};
use tests::rng::Rng;
use tests::sim_disk::SimDisk;
use tests::sim_tree::SimTree;

/// What must come by itself has come within it.
const SOON: Duration = Duration::from_secs(600);
const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
/// History is kept so long, and a silence of many times that is less than what the clock is believed.
const KEEP: Duration = Duration::from_secs(3600);
const SILENCE: i64 = 10 * HOUR;
const TOP: NodeId = NodeId::root(RootNo(0));
const FILE: NodeId = NodeId(5000);
const OTHER: NodeId = NodeId(5001);
const WRITE_BYTES: usize = 8 << 10;

/// A clock that is set, and counts how often it is asked.
#[derive(Default)]
struct Watch {
    now: AtomicI64,
    asked: AtomicU64,
}

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Timestamp(self.now.load(Ordering::SeqCst))
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < SOON, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn edge(parent: NodeId, name: &str) -> Edge {
    Edge::new(parent, Name::new(name.as_bytes()).expect("a name"))
}

fn create(node: NodeId, name: &str) -> Event {
    let attributes = Attributes { mode: 0o600, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
    let meta = Meta { kind: Kind::File, size: 0, attributes, xattrs: Vec::new() };
    Event::Create { node, at: edge(TOP, name), meta, origin: None, parent_mtime: None }
}

/// A replica with its master, both in one hand.
struct Life {
    disk: SimDisk,
    tree: Arc<SimTree>,
    tables: Arc<MemoryTables>,
    watch: Arc<Watch>,
    replica: Arc<Replica<SimTree>>,
    captured: u64,
    rng: Rng,
}

fn start(
    disk: &SimDisk,
    tree: &Arc<SimTree>,
    tables: &Arc<MemoryTables>,
    watch: &Arc<Watch>,
    options: ReplicaOptions,
) -> Arc<Replica<SimTree>> {
    let factory = SameTables(Arc::clone(tables));
    let (disk, clock) = (Arc::new(disk.clone()), Arc::clone(watch) as Arc<dyn Clock>);
    let opened = Journal::open(disk, Path::new("/j"), small_segments(), &factory, clock);
    let options = ReplicaOptions {
        retain_every: Duration::from_millis(1),
        cursor_every: Duration::from_millis(1),
        ..options
    };
    Replica::start(opened.expect("open"), Arc::clone(tree), options).expect("start")
}

fn kept(bytes_max: u64) -> ReplicaOptions {
    ReplicaOptions { retention: Some(RetentionPolicy { keep: KEEP, bytes_max }), ..ReplicaOptions::default() }
}

impl Life {
    /// Two files, synchronized.
    fn new(test: &str, options: ReplicaOptions) -> Life {
        let watch = Arc::new(Watch { now: AtomicI64::new(1_000 * HOUR), ..Watch::default() });
        let (disk, tree, tables) = (SimDisk::new(), Arc::new(SimTree::new(1)), Arc::default());
        let replica = start(&disk, &tree, &tables, &watch, options);
        let mut life = Life { disk, tree, tables, watch, replica, captured: 0, rng: Rng::new(seed(test)) };
        let completed = Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 };
        life.capture(vec![create(FILE, "file"), create(OTHER, "other"), Event::Mark(completed)]);
        life
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.watch.now.load(Ordering::SeqCst))
    }

    fn later(&self, by: i64) {
        self.watch.now.fetch_add(by, Ordering::SeqCst);
    }

    /// One change, a second after the last, applied.
    fn capture(&mut self, events: Vec<Event>) -> Lsn {
        self.later(SECOND);
        self.captured += 1;
        let lsn = Lsn::captured(self.captured);
        let (time, provenance, root) = (self.now(), Provenance::Derived, RootNo(0));
        let capture = Capture { lsn, time, provenance, root, path: Vec::new(), events };
        let (send, receive) = std::sync::mpsc::channel();
        let part = Part { number: 0, last: true, capture };
        self.replica.ingest(vec![part], move |durable| drop(send.send(durable)));
        receive.recv().expect("an answer").expect("it is durable");
        until("apply", || self.replica.journal().applied() >= lsn || self.replica.status().halt.is_some());
        lsn
    }

    fn write(&mut self) -> Lsn {
        let data = Payload::Inline(Bytes::from(self.rng.bytes(WRITE_BYTES)));
        self.capture(vec![Event::Write { node: FILE, offset: 0, data, before: None }])
    }

    fn undo(&self) -> Vec<SegmentInfo> {
        self.replica.journal().undo().segments()
    }

    /// Writes until so many segments of undo more are sealed, and nothing is on its way.
    fn fill(&mut self, segments: u64) {
        let newest = |life: &Life| life.undo().last().map_or(0, |segment| segment.number);
        let full = newest(self) + segments;
        while newest(self) < full {
            self.write();
        }
        self.settle();
    }

    fn settle(&self) {
        let last = Lsn::captured(self.captured);
        until("the cursor", || self.replica.journal().cursor() >= last);
    }

    /// The master says how far it is.
    fn heard(&self) {
        self.replica.heard(Lsn::captured(self.captured), self.now());
    }

    /// The worker has had its turn some times: it asks for the time whenever it looks for what has grown old.
    fn look(&self) {
        let before = self.watch.asked.load(Ordering::SeqCst);
        until("retention", || self.watch.asked.load(Ordering::SeqCst) >= before + 8);
    }

    fn oldest(&self) -> Lsn {
        self.replica.journal().window().0
    }

    fn bytes(&self) -> u64 {
        let streams = [self.replica.journal().redo().segments(), self.undo()];
        streams.iter().flatten().map(|segment| segment.bytes).sum()
    }

    fn restart(self, options: ReplicaOptions) -> Life {
        let Life { disk, tree, tables, watch, replica, captured, rng } = self;
        replica.stop(SOON);
        // Only one may have the journal open.
        until("the last who has the replica", || Arc::strong_count(&replica) == 1);
        drop(replica);
        let replica = start(&disk, &tree, &tables, &watch, options);
        Life { disk, tree, tables, watch, replica, captured, rng }
    }
}

#[test]
fn nothing_grows_old_while_the_master_is_silent() {
    let mut life = Life::new("nothing_grows_old_while_the_master_is_silent", kept(u64::MAX));
    life.fill(4);
    life.heard();
    let first = life.oldest();
    life.later(SILENCE);
    life.look();
    assert_eq!(life.oldest(), first, "given up in a cut");
    // Nor across a restart.
    let mut life = life.restart(kept(u64::MAX));
    life.look();
    assert_eq!(life.oldest(), first, "given up after a restart in a cut");
    // It is back, and what it captured meanwhile is not here yet.
    life.replica.heard(Lsn::captured(life.captured + 1), life.now());
    life.look();
    assert_eq!(life.oldest(), first, "given up while apply is behind");
    life.write();
    until("history to grow old", || life.oldest() > first);
    life.replica.stop(SOON);
}

#[test]
fn history_grows_old_while_the_master_is_heard() {
    let mut life = Life::new("history_grows_old_while_the_master_is_heard", kept(u64::MAX));
    life.fill(4);
    let first = life.oldest();
    life.later(KEEP.as_nanos() as i64 / 2);
    life.heard();
    life.look();
    assert_eq!(life.oldest(), first, "given up too soon");
    life.later(SILENCE);
    life.heard();
    until("history to grow old", || life.oldest() > first);
    life.replica.stop(SOON);
}

/// Its clock holds back what grows old, and never pushes it.
#[test]
fn a_master_whose_clock_is_elsewhere() {
    let mut life = Life::new("a_master_whose_clock_is_elsewhere", kept(u64::MAX));
    life.fill(4);
    let (first, captured) = (life.oldest(), Lsn::captured(life.captured));
    life.later(KEEP.as_nanos() as i64 / 2);
    life.replica.heard(captured, Timestamp(i64::MAX));
    life.look();
    assert_eq!(life.oldest(), first, "made older by a clock that is ahead");
    // Or what it said long ago comes only now.
    let then = life.now();
    life.later(SILENCE);
    life.replica.heard(captured, then);
    life.look();
    assert_eq!(life.oldest(), first, "made older by a clock that is behind");
    life.heard();
    until("history to grow old", || life.oldest() > first);
    life.replica.stop(SOON);
}

#[test]
fn the_budget_knows_no_time() {
    const BUDGET: u64 = 1 << 20;
    let mut life = Life::new("the_budget_knows_no_time", kept(BUDGET));
    let first = life.oldest();
    life.later(SILENCE);
    while life.oldest() == first {
        life.write();
    }
    life.fill(2);
    until("the budget", || life.bytes() <= BUDGET);
    life.later(SILENCE);
    life.look();
    // By age all that is sealed would go.
    assert!(life.bytes() > BUDGET / 2, "{} bytes are left", life.bytes());
    life.replica.stop(SOON);
}

/// The tree cannot be synced, and a person must act.
#[test]
fn nothing_grows_old_while_apply_stands() {
    let mut life = Life::new("nothing_grows_old_while_apply_stands", kept(u64::MAX));
    life.fill(4);
    let first = life.oldest();
    life.tree.lose_pages();
    life.write();
    until("apply to stop", || matches!(life.replica.status().halt, Some(Halt::Stopped(_))));
    assert_eq!(life.replica.journal().applied(), Lsn::captured(life.captured));
    life.later(SILENCE);
    life.heard();
    life.look();
    assert_eq!(life.oldest(), first, "given up while apply stands");
    life.replica.stop(Duration::ZERO);
}

#[test]
fn nothing_is_thinned_while_the_master_is_silent() {
    let thinning = Some(Tiers { every: KEEP, minutes: KEEP });
    let options = ReplicaOptions { thinning, ..ReplicaOptions::default() };
    let mut life = Life::new("nothing_is_thinned_while_the_master_is_silent", options);
    life.fill(4);
    life.later(SILENCE);
    life.look();
    let points = |life: &Life| life.replica.journal().thinned_so_far().expect("it can be told").points;
    assert_eq!(points(&life), 0, "thinned in a cut");
    life.heard();
    until("points to be thinned", || points(&life) > 0);
    life.replica.stop(SOON);
}

/// The master removes a file and revives it at once; between the two the line is cut for longer than history is kept, and
/// the daemon is started again.
#[test]
fn what_was_removed_comes_back_after_a_long_cut() {
    let mut life = Life::new("what_was_removed_comes_back_after_a_long_cut", kept(u64::MAX));
    life.fill(2);
    life.capture(vec![Event::Remove { node: OTHER, at: edge(TOP, "other"), parent_mtime: None }]);
    // The segment with the removal is sealed.
    life.fill(2);
    life.heard();
    life.later(SILENCE);
    life.look();
    let mut life = life.restart(kept(u64::MAX));
    life.look();
    let from = Edge::new(NodeId::kept(RootNo(0)), OTHER.kept_name());
    let revived = Event::Rename {
        node: OTHER,
        from,
        to: edge(TOP, "back"),
        from_parent_mtime: None,
        to_parent_mtime: None,
    };
    let lsn = life.capture(vec![revived]);
    assert_eq!((life.replica.status().halt, life.replica.journal().applied()), (None, lsn));
    let there = dump(&*life.tree, RootNo(0)).expect("the tree reads");
    assert!(there.contains_key(&b"back"[..]), "{:?}", there.keys());
    life.replica.stop(SOON);
}
