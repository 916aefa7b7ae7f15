//! Does the first synchronization end with the bytes of the master, whatever happens to the replica meanwhile?
//!
//! Its bytes are not journaled. They pass through the memory of the replica, so an error of the tree, a full disk or a
//! restart in the middle is a chance to lose them in silence. Random captures go through a whole replica, threads and
//! all, on a tree that refuses; in the end tree and first point equal the model.

use crate::history::seeds;
use journal::journal::{Clock, Journal, Opened, TablesFactory};
use journal::log::{LogOptions, Part};
use journal::state::{NodeRow, rows};
use journal::tables::MemoryTables;
use journal::{
    Capture, Edge, ErrorKind, Event, JournalError, Kind, Lsn, Marker, NodeId, Payload, Provenance,
};
use journal::{RootNo, Space, Tables};
use replication::replica::{Halt, Replica, ReplicaOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::canonical::{assert_equal, dump};
use tests::lab::{SameTables, StillClock, canonical_view};
use tests::model::{Generator, Model, Options};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{Fault, SimTree};

const ROOT: RootNo = RootNo(0);
const SOON: Duration = Duration::from_secs(20);
const ERRORS: [i32; 3] = [5, 28, 122];

fn options() -> ReplicaOptions {
    ReplicaOptions { cursor_every: Duration::from_millis(40), free_bytes_min: 0, ..ReplicaOptions::default() }
}

/// What survives a replica.
struct Ground {
    disk: SimDisk,
    tree: Arc<SimTree>,
    tables: Arc<MemoryTables>,
}

impl Ground {
    fn new() -> Ground {
        Ground { disk: SimDisk::new(), tree: Arc::new(SimTree::new(1)), tables: Arc::default() }
    }

    fn open(&self) -> Result<Opened, JournalError> {
        let factory = SameTables(Arc::clone(&self.tables));
        let clock: Arc<dyn Clock> = Arc::new(StillClock);
        let factory: &dyn TablesFactory = &factory;
        Journal::open(Arc::new(self.disk.clone()), Path::new("/j"), LogOptions::default(), factory, clock)
    }

    fn start(&self, options: ReplicaOptions) -> Arc<Replica<SimTree>> {
        Replica::start(self.open().expect("open"), Arc::clone(&self.tree), options).expect("start")
    }

    /// The replica is killed: the disk as of now, the tree as it is (its kernel lives on), perhaps no tables.
    fn kill(&mut self, replica: Arc<Replica<SimTree>>, rng: &mut Rng) {
        // Everything stands still at once, so that no half is ahead of the other.
        self.tree.cut_power();
        replica.stop(Duration::ZERO);
        self.disk = self.disk.crash(Cut::Everything, rng);
        let pending = self.tree.pending();
        let kept = tests::sim_tree::DataChoice::All(tests::sim_tree::Fate::Kept);
        self.tree = Arc::new(self.tree.crash_at(pending.metadata, &kept));
        let copy = tests::lab::copy_of(&self.tables);
        self.tables = if rng.chance(1, 2) { copy } else { Arc::default() };
    }
}

fn ingest(replica: &Arc<Replica<SimTree>>, capture: Capture) -> Result<Lsn, JournalError> {
    let (send, receive) = std::sync::mpsc::channel();
    let part = Part { number: 0, last: true, capture };
    replica.ingest(vec![part], move |durable| drop(send.send(durable)));
    receive.recv().expect("an answer")
}

fn first(mut capture: Capture) -> Capture {
    capture.provenance = Provenance::Synchronization;
    capture
}

fn mark(lsn: Lsn, marker: Marker) -> Capture {
    let (provenance, events) = (Provenance::Synchronization, vec![Event::Mark(marker)]);
    Capture { lsn, time: journal::Timestamp(i64::MAX), provenance, root: ROOT, path: Vec::new(), events }
}

fn completed(lsn: Lsn) -> Capture {
    mark(lsn, Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 })
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let give_up = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < give_up, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn generator(seed: u64) -> Generator {
    let bytes = if seed.is_multiple_of(2) { 20_000 } else { 300 };
    let (file_bytes_max, write_bytes_max) = (bytes, bytes);
    Generator::new(seed, Options { names_max: 12, file_bytes_max, write_bytes_max, ..Options::default() })
}

fn assert_is(replica: &Arc<Replica<SimTree>>, model: &Model, lsn: Lsn, context: &str) {
    let expected = model.canonical(ROOT);
    assert_equal(&expected, &dump(&**replica.tree(), ROOT).expect("dump"), &format!("{context}: tree"));
    let view = replica.view(lsn).unwrap_or_else(|error| panic!("{context}: {error:?}"));
    assert_equal(&expected, &canonical_view(&view, ROOT).expect("view"), &format!("{context}: first point"));
}

/// Errors of every kind at random places, one and several in a row: the synchronization goes on by itself.
fn under_errors(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut generator = generator(seed);
    let ground = Ground::new();
    // A sync that is refused is another matter, and another test.
    ground.tree.spare_syncs();
    let replica = ground.start(options());
    let (count, context) = (25 + rng.below(20), format!("seed {seed}"));
    for n in 1..=count {
        if rng.chance(1, 6) {
            // Small gaps between captures, so that some faults meet a batch half way.
            let errno = ERRORS[rng.below(3) as usize];
            ground.tree.fail_changes(Fault { nth: rng.below(12), errno, times: 1 + rng.below(2) });
        }
        ingest(&replica, first(generator.next())).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        if rng.chance(1, 3) {
            let applied = replica.journal().wait_applied(Lsn::captured(n), SOON);
            assert!(applied, "{context}: {:?}", replica.status());
        }
    }
    ground.tree.heal();
    let end = Lsn::captured(count + 1);
    match ingest(&replica, completed(end)) {
        Ok(lsn) => assert_eq!(lsn, end, "{context}"),
        Err(error) => panic!("{context}: {error:?}, {:?}", replica.status()),
    }
    assert!(replica.journal().wait_applied(end, SOON), "{context}: {:?}", replica.status());
    assert_is(&replica, &generator.model, end, &context);
    replica.stop(SOON);
}

#[test]
fn errors_of_the_tree_lose_nothing() {
    for seed in seeds(12) {
        under_errors(seed);
    }
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut generator = generator(4);
    let ground = Ground::new();
    let replica = ground.start(ReplicaOptions { free_bytes_min: 1 << 20, ..options() });
    for n in 1..=20_u64 {
        if n == 8 {
            ground.tree.set_free_bytes(1000);
        }
        ingest(&replica, first(generator.next())).expect("journal");
    }
    wait("it is full", || matches!(replica.status().halt, Some(Halt::Full(_))));
    // In the middle of a batch too.
    ground.tree.spare_syncs();
    ground.tree.fail_changes(Fault { nth: 4, errno: 28, times: 3 });
    ground.tree.set_free_bytes(1 << 40);
    wait("it goes on", || replica.journal().applied() == Lsn::captured(20));
    ground.tree.heal();
    ingest(&replica, completed(Lsn::captured(21))).expect("the end");
    assert!(replica.journal().wait_applied(Lsn::captured(21), SOON));
    assert_is(&replica, &generator.model, Lsn::captured(21), "after a full disk");
    replica.stop(SOON);
}

/// Files whose bytes the tables say are lost.
fn lost(ground: &Ground) -> Vec<NodeId> {
    let all = ground.tables.range(Space::Nodes, &[], &[0xff; 16]);
    let rows = all.map(|row| row.expect("rows")).filter_map(|(key, value)| {
        let row: NodeRow = rows::read(Space::Nodes, &value).expect("a row");
        (!row.content_known).then(|| NodeId::from_key(&key).expect("a node"))
    });
    rows.collect()
}

/// What a master sends of files whose bytes were lost: all of them, from the beginning to the end, in several captures.
fn resent(model: &mut Model, nodes: &[NodeId], last: &mut Lsn, piece: usize) -> Vec<Capture> {
    let mut captures = Vec::new();
    for node in nodes {
        let Some(known) = model.node(*node) else { continue };
        let content = Arc::clone(&known.content);
        let attributes = known.meta.attributes;
        for (number, bytes) in content.chunks(piece).enumerate() {
            *last = last.successor_captured();
            let offset = (number * piece) as u64;
            let data = Payload::Inline(bytes::Bytes::copy_from_slice(bytes));
            let events = vec![
                Event::Write { node: *node, offset, data, before: None },
                Event::SetAttributes { node: *node, attributes },
            ];
            let time = journal::Timestamp(i64::MAX);
            let provenance = Provenance::Synchronization;
            let capture = Capture { lsn: *last, time, provenance, root: ROOT, path: Vec::new(), events };
            model.apply(&capture);
            captures.push(capture);
        }
    }
    captures
}

trait Next {
    fn successor_captured(self) -> Lsn;
}

impl Next for Lsn {
    fn successor_captured(self) -> Lsn {
        Lsn::captured(self.captured + 1)
    }
}

/// The replica dies with bytes that only it had. The end, wherever it comes from, is no end before they were sent again.
/// Whether any were.
fn under_restarts(seed: u64) -> bool {
    let mut rng = Rng::new(seed);
    let mut generator = generator(seed);
    let mut ground = Ground::new();
    let context = format!("seed {seed}");
    let slow = ReplicaOptions { cursor_every: Duration::from_millis(300), ..options() };
    let mut replica = ground.start(slow);
    let mut last = Lsn::ZERO;
    for _ in 0..2 + rng.below(2) {
        let captures = 4 + rng.below(15);
        let unsynced = rng.below(2 * captures);
        for number in 0..captures {
            if number == unsynced {
                ground.tree.lose_pages();
            }
            last = ingest(&replica, first(generator.next())).expect("journal");
        }
        if rng.chance(1, 2) {
            let _ = replica.journal().wait_applied(last, Duration::from_millis(rng.below(300)));
        }
        let before = replica.clone();
        let incarnation = replication::ingest::Ingest::state(&*before).incarnation;
        drop(before);
        ground.kill(replica, &mut rng);
        replica = ground.start(slow);
        assert_ne!(replication::ingest::Ingest::state(&*replica).incarnation, incarnation);
    }
    let mut model = generator.model.clone();
    // What waits in a spool from before: the end of a synchronization that knew nothing of this.
    last = last.successor_captured();
    let incarnation = replication::ingest::Ingest::state(&*replica).incarnation;
    let refused = ingest(&replica, completed(last));
    model.apply(&completed(last));
    assert!(replica.journal().wait_applied(last, SOON), "{context}: {:?}", replica.status());
    let any = refused.is_err();
    if let Err(error) = refused {
        assert!(matches!(&error, JournalError::Incomplete { .. }), "{context}: {error:?}");
        assert_eq!(replica.journal().controls().first_point, 0, "{context}");
        assert_eq!(replica.journal().journaled(), last, "{context}: no LSN is left out");
        assert_ne!(replication::ingest::Ingest::state(&*replica).incarnation, incarnation, "{context}");
        let nodes = lost(&ground);
        assert!(!nodes.is_empty(), "{context}");
        for capture in resent(&mut model, &nodes, &mut last, 7000) {
            ingest(&replica, capture).expect("journal");
        }
        last = last.successor_captured();
        let ended = ingest(&replica, completed(last));
        assert!(ended.is_ok(), "{context}: {ended:?}, {:?}", lost(&ground));
        assert!(replica.journal().wait_applied(last, SOON), "{context}");
    }
    assert_is(&replica, &model, last, &context);
    // Nothing without undo may follow.
    let late = Capture {
        lsn: last.successor_captured(),
        ..mark(last, Marker::SynchronizationStarted { first: true })
    };
    assert!(matches!(ingest(&replica, late), Err(JournalError::Inconsistent { .. })), "{context}");
    replica.stop(SOON);
    drop(replica);
    ground.tables = Arc::default();
    let replica = ground.start(slow);
    assert_is(&replica, &model, last, &format!("{context}, rebuilt"));
    assert_eq!(lost(&ground), Vec::new(), "{context}, rebuilt");
    replica.stop(SOON);
    any
}

#[test]
fn a_restart_is_no_end() {
    let lost = seeds(20).filter(|seed| under_restarts(*seed)).count();
    println!("bytes were lost {lost} times");
    assert!(lost > 5, "{lost} restarts lost bytes");
}

fn file(name: &str) -> Vec<Event> {
    let at = Edge::new(NodeId::root(ROOT), journal::Name::new(name.as_bytes()).expect("a name"));
    let time = journal::Timestamp(5);
    let attributes = journal::Attributes { mode: 0o644, uid: 0, gid: 0, mtime: time, ctime: time };
    let meta = journal::Meta { kind: Kind::File, size: 0, attributes, xattrs: Vec::new() };
    let node = NodeId(5000);
    let data = Payload::Inline(bytes::Bytes::from_static(b"first"));
    vec![
        Event::Create { node, at, meta, origin: None, parent_mtime: None },
        Event::Write { node, offset: 0, data, before: None },
    ]
}

fn with_a_file(ground: &Ground, options: ReplicaOptions) -> Arc<Replica<SimTree>> {
    let replica = ground.start(options);
    let mut capture = mark(Lsn::captured(1), Marker::SynchronizationStarted { first: true });
    capture.events.extend(file("one"));
    ingest(&replica, capture).expect("journal");
    ingest(&replica, completed(Lsn::captured(2))).expect("the end");
    assert!(replica.journal().wait_applied(Lsn::captured(2), SOON));
    replica
}

fn change(lsn: u64, text: &'static [u8]) -> Capture {
    let data = Payload::Inline(bytes::Bytes::from_static(text));
    let events = vec![Event::Write { node: NodeId(5000), offset: 0, data, before: None }];
    let provenance = Provenance::Derived;
    let mut capture = mark(Lsn::captured(lsn), Marker::GapClosed { gap: 0 });
    (capture.provenance, capture.events) = (provenance, events);
    capture
}

/// What the master lists as unreadable does not keep a synchronization from ending.
#[test]
fn what_the_master_cannot_read_is_not_waited_for() {
    let mut rng = Rng::new(1);
    let mut ground = Ground::new();
    let replica = ground.start(options());
    // The bytes are applied, but the cursor never gets there.
    ground.tree.lose_pages();
    let mut capture = mark(Lsn::captured(1), Marker::SynchronizationStarted { first: true });
    capture.events.extend(file("one"));
    ingest(&replica, capture).expect("journal");
    assert!(replica.journal().wait_applied(Lsn::captured(1), SOON));
    ground.kill(replica, &mut rng);
    let replica = ground.start(options());
    assert!(ingest(&replica, completed(Lsn::captured(2))).is_err());
    let what = journal::SkippedWhat::Content;
    let skipped = Marker::Skipped { root: ROOT, path: b"one".to_vec(), what, errno: 13 };
    ingest(&replica, mark(Lsn::captured(3), skipped)).expect("journal");
    ingest(&replica, completed(Lsn::captured(4))).expect("the end");
    assert_eq!(replica.journal().controls().first_point, 4);
    replica.stop(SOON);
}

/// After a sync that failed nothing is applied, and the next start loses nothing.
#[test]
fn a_failed_sync_stops_apply() {
    let ground = Ground::new();
    let replica = with_a_file(&ground, options());
    wait("the cursor is there", || replica.journal().cursor() == Lsn::captured(2));
    ground.tree.lose_pages();
    ingest(&replica, change(3, b"third")).expect("journal");
    assert!(replica.journal().wait_applied(Lsn::captured(3), SOON));
    wait("it stops", || matches!(replica.status().halt, Some(Halt::Stopped(_))));
    let Some(Halt::Stopped(why)) = replica.status().halt else { panic!("it goes on") };
    assert!(why.contains("restart the daemon") && why.contains("LSN 2"), "{why}");
    ingest(&replica, change(4, b"later")).expect("journal");
    assert!(!replica.journal().wait_applied(Lsn::captured(4), Duration::from_millis(900)));
    assert_eq!(replica.journal().cursor(), Lsn::captured(2));
    replica.stop(Duration::from_millis(10));
    drop(replica);
    // What was not synced is lost.
    let dropped = tests::sim_tree::DataChoice::All(tests::sim_tree::Fate::Dropped);
    let after = Ground {
        tree: Arc::new(ground.tree.crash_at(0, &dropped)),
        disk: ground.disk.clone(),
        tables: Arc::clone(&ground.tables),
    };
    let replica = after.start(options());
    assert!(replica.journal().wait_applied(Lsn::captured(4), SOON), "{:?}", replica.status());
    for (lsn, text) in [(2, b"first"), (3, b"third"), (4, b"later")] {
        let view = replica.view(Lsn::captured(lsn)).expect("a view");
        assert_eq!(view.open(NodeId(5000)).expect("open").read_all().expect("read"), text);
    }
    replica.stop(SOON);
}

/// Nobody waits for ever for an apply that halts; what was asked for locally is not asked for twice.
#[test]
fn calls_do_not_hang_on_a_halted_apply() {
    let ground = Ground::new();
    let replica = with_a_file(&ground, ReplicaOptions { free_bytes_min: 1 << 20, ..options() });
    ground.tree.set_free_bytes(10);
    ingest(&replica, change(3, b"third")).expect("journal");
    wait("it is full", || matches!(replica.status().halt, Some(Halt::Full(_))));
    let began = Instant::now();
    let refused = replica.detach("rewind").expect_err("apply halts");
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused:?}");
    assert!(began.elapsed() < SOON);
    // It follows the capture as before.
    ground.tree.set_free_bytes(1 << 40);
    assert!(replica.journal().wait_applied(Lsn::captured(3), SOON));

    replica.detach("rewind").expect("detach");
    ground.tree.set_free_bytes(10);
    let group = |size| vec![(ROOT, Vec::new(), vec![Event::Resize { node: NodeId(5000), size }])];
    let refused = replica.apply_local(None, &mut group(2).into_iter()).expect_err("apply halts");
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused:?}");
    // It waits, so nothing else may be planned, nor the capture followed.
    assert!(replica.apply_local(None, &mut group(1).into_iter()).is_err());
    assert!(replica.detach("again").is_err());
    assert!(replica.attach().is_err());
    ground.tree.set_free_bytes(1 << 40);
    replica.detach("again").expect("it is done");
    assert_eq!(replica.journal().applied(), Lsn::local(3, 1));
    assert_eq!(replica.apply_local(None, &mut group(1).into_iter()).expect("apply"), Lsn::local(3, 2));

    // One that waits when the daemon ends is given up.
    ground.tree.set_free_bytes(10);
    assert!(replica.apply_local(None, &mut group(0).into_iter()).is_err());
    replica.stop(Duration::from_millis(10));
    drop(replica);
    ground.tree.set_free_bytes(1 << 40);
    let replica = ground.start(options());
    assert_eq!(replica.journal().applied(), Lsn::local(3, 2));
    assert_eq!(replica.apply_local(None, &mut group(4).into_iter()).expect("apply"), Lsn::local(3, 4));
    for (lsn, text) in
        [(Lsn::captured(3), b"third".as_slice()), (Lsn::local(3, 1), b"th"), (Lsn::local(3, 2), b"t")]
    {
        let view = replica.view(lsn).expect("a view");
        assert_eq!(view.open(NodeId(5000)).expect("open").read_all().expect("read"), text, "{lsn}");
    }
    replica.stop(SOON);
}

/// Many small changes are not taken all at once: those in front are applied while the rest is still to be made.
#[test]
fn local_changes_are_taken_as_they_are_applied() {
    let ground = Ground::new();
    let replica = with_a_file(&ground, options());
    replica.detach("rewind").expect("detach");
    let journal = Arc::clone(replica.journal());
    let mut made = 0;
    let mut groups = std::iter::from_fn(|| {
        made += 1;
        if made == 1 {
            assert!(replica.attach().is_err(), "nothing waits yet, but more is to come");
        }
        // Those that are made and not applied are three pieces: one taken, one waiting, one being made.
        assert!(journal.applied().local + 3 * 512 >= made, "{made} made, {} applied", journal.applied());
        let event = Event::Resize { node: NodeId(5000), size: made };
        (made <= 5000).then(|| (ROOT, Vec::new(), vec![event]))
    });
    assert_eq!(replica.apply_local(None, &mut groups).expect("apply"), Lsn::local(2, 5000));
    replica.stop(SOON);
}

/// The end does not wait until the cursor moves by itself, which may be long: it has it moved.
#[test]
fn the_end_has_the_cursor_moved() {
    let ground = Ground::new();
    let replica = ground.start(ReplicaOptions { cursor_every: Duration::from_secs(1 << 20), ..options() });
    let mut capture = mark(Lsn::captured(1), Marker::SynchronizationStarted { first: true });
    capture.events.extend(file("one"));
    ingest(&replica, capture).expect("journal");
    ingest(&replica, first(change(2, b"more"))).expect("journal");
    assert!(replica.journal().wait_applied(Lsn::captured(2), SOON));
    let (send, receive) = std::sync::mpsc::channel();
    let ends = Arc::clone(&replica);
    std::thread::spawn(move || send.send(ingest(&ends, completed(Lsn::captured(3)))));
    assert_eq!(receive.recv_timeout(SOON).expect("the end").expect("journal"), Lsn::captured(3));
    replica.stop(SOON);
}

/// A replica that is full in the middle of a first synchronization can be ended.
#[test]
fn a_full_replica_ends() {
    let ground = Ground::new();
    let small = ReplicaOptions { queue_bytes_max: 10, free_bytes_min: 1 << 20, ..options() };
    let replica = ground.start(small);
    ground.tree.set_free_bytes(10);
    let mut capture = mark(Lsn::captured(1), Marker::SynchronizationStarted { first: true });
    capture.events.extend(file("one"));
    ingest(&replica, capture).expect("journal");
    ingest(&replica, first(change(2, b"more"))).expect("journal");
    let waiting = Arc::clone(&replica);
    let blocked = std::thread::spawn(move || ingest(&waiting, first(change(3, b"most"))));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!blocked.is_finished());
    replica.release();
    assert!(blocked.join().expect("it returns").is_err());
    replica.stop(Duration::from_millis(10));
}
