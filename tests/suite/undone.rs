//! Is what a rewind puts back by reference to undo there until nobody needs it any more?
//!
//! Such a change holds no bytes of its own. After a crash it is done again, from undo that is older than the point it led
//! to, and that retention may want to give up meanwhile. The power goes at every operation of a rewind during which
//! retention runs with no budget at all; whatever is left must open and read exact.

use crate::history::seeds;
use journal::journal::{Clock, Journal, TablesFactory};
use journal::retention::RetentionPolicy;
use journal::{
    Attributes, Capture, Edge, Event, JournalError, Kind, Lsn, Marker, Meta, Name, NodeId, Part, Payload,
    Provenance, RootNo, Timestamp,
};
use replication::apply::ApplyError;
use replication::replica::{Halt, LocalGroup, Replica, ReplicaOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::lab::{Lab, SameTables, StillClock, copy_of, small_segments};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{DataChoice, Fate, SimTree};

const ROOT: RootNo = RootNo(0);
const FILE: NodeId = NodeId(5000);
const OTHER: NodeId = NodeId(5001);
const PIECE: usize = 100_000;
const BYTES: usize = 3 * PIECE;
const SAME: usize = 12_288;
const SOON: Duration = Duration::from_secs(20);

fn captured(lsn: u64, events: Vec<Event>) -> Capture {
    let (time, provenance) = (Timestamp(lsn as i64), Provenance::Derived);
    Capture { lsn: Lsn::captured(lsn), time, provenance, root: ROOT, path: Vec::new(), events }
}

fn create(node: NodeId, name: &str) -> Event {
    let time = Timestamp(5);
    let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, mtime: time, ctime: time };
    let meta = Meta { kind: Kind::File, size: 0, attributes, xattrs: Vec::new() };
    let at = Edge::new(NodeId::root(ROOT), Name::new(name.as_bytes()).expect("a name"));
    Event::Create { node, at, meta, origin: None, parent_mtime: Some(time) }
}

fn write(node: NodeId, offset: usize, bytes: &[u8]) -> Event {
    let data = Payload::Inline(bytes::Bytes::copy_from_slice(bytes));
    Event::Write { node, offset: offset as u64, data, before: None }
}

fn writes(node: NodeId, bytes: &[u8]) -> Vec<Event> {
    bytes.chunks(PIECE).enumerate().map(|(number, some)| write(node, number * PIECE, some)).collect()
}

/// Three versions of a file and some changes of another one. The third has its first bytes of the first again, so going back
/// to that takes up undo behind its beginning.
struct History {
    captures: Vec<Capture>,
    versions: [Vec<u8>; 3],
}

impl History {
    fn new(rng: &mut Rng) -> History {
        let (one, two) = (rng.bytes(BYTES), rng.bytes(BYTES));
        let three = [&one[..SAME], &two[SAME..]].concat();
        let versions = [one, two, three];
        let (files, directories, bytes) = (0, 0, 0);
        let completed = Event::Mark(Marker::SynchronizationCompleted { files, directories, bytes });
        let mut first = vec![create(FILE, "file"), create(OTHER, "other")];
        first.extend(writes(FILE, &versions[0]));
        first.extend(writes(OTHER, &rng.bytes(PIECE)));
        first.push(completed);
        let mut captures = vec![
            captured(1, first),
            captured(2, writes(FILE, &versions[1])),
            captured(3, vec![write(FILE, 0, &versions[0][..SAME])]),
        ];
        // Undo of these lies behind that of the file, in segments of their own.
        captures.extend((4..9).map(|lsn| captured(lsn, writes(OTHER, &rng.bytes(PIECE)))));
        History { captures, versions }
    }

    /// What the file holds at a captured point.
    fn at(&self, lsn: u64) -> &[u8] {
        &self.versions[(lsn.min(3) - 1) as usize]
    }
}

fn refers(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Write { data: Payload::Undone { .. }, .. })).count()
}

fn check(lab: &Lab, history: &History, context: &str) {
    let (oldest, _) = lab.journal.window();
    for lsn in oldest.captured.max(1)..=lab.journal.applied().captured {
        let view = lab.canonical(Lsn::captured(lsn));
        assert!(view[b"file".as_slice()].content.as_slice() == history.at(lsn), "{context}: at {lsn}");
    }
    let tree = tests::canonical::dump(&*lab.tree, ROOT).expect("dump");
    let head = lab.canonical(lab.journal.applied());
    tests::canonical::assert_equal(&head, &tree, &format!("{context}: the tree"));
    // On the way from the third version to the first: no byte is of anything else.
    let now = tree[b"file".as_slice()].content.as_slice().iter();
    let mut of = now.zip(history.versions[0].iter().zip(&history.versions[2]));
    let foreign = of.position(|(now, (there, here))| now != there && now != here);
    assert_eq!(foreign, None, "{context}: a byte of neither version");
}

/// A rewind to the first version, with retention between its pieces and behind it.
fn rewind(lab: &mut Lab, moving: bool) -> Result<usize, JournalError> {
    let captures = lab.try_captures_to(Lsn::captured(1)).expect("a plan");
    let referring = captures.iter().map(|capture| refers(&capture.events)).sum();
    let placed = lab.journal_them(&captures)?;
    for (number, one) in placed.chunks(1).enumerate() {
        lab.apply(one).map_err(|(ApplyError::Before(error) | ApplyError::Touching(error))| error)?;
        // A cursor half way does not end what the other half needs.
        if moving && number == 0 {
            lab.move_cursor()?;
        }
        lab.retain(1)?;
    }
    lab.retain(1)?;
    Ok(referring)
}

fn one(seed: u64) {
    let mut at = 1;
    loop {
        let mut rng = Rng::new(seed * 10_000 + at);
        let history = History::new(&mut rng);
        let context = format!("seed {seed}, operation {at}");
        let mut lab = Lab::new();
        let placed = lab.journal_them(&history.captures).expect("journal");
        for some in placed.chunks(1) {
            lab.apply(some).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        }
        lab.move_cursor().expect("cursor");
        lab.disk.stop_after(lab.disk.operations() + at);
        let referring = rewind(&mut lab, seed % 2 == 1);
        if let Ok(referring) = &referring {
            lab.disk.stop_after(u64::MAX);
            assert!(*referring >= 4, "{context}: {referring} put back by reference");
            assert_eq!(lab.journal.window().0, Lsn::captured(1), "{context}: it is needed");
            check(&lab, &history, &context);
        }
        let (disk, tree, tables) = lab.stop();
        let keep = rng.chance(1, 2).then(|| copy_of(&tables));
        let cut = Cut::ALL[at as usize % Cut::ALL.len()];
        // The disk of the tree has nothing of what was not synced, or some of it.
        let tree = if at % 2 == 0 {
            tree.crash_at(tree.pending().metadata, &DataChoice::All(Fate::Dropped))
        } else {
            tree.crash(&mut rng)
        };
        let lab = Lab::open(disk.crash(cut, &mut rng), Arc::new(tree), keep.unwrap_or_default());
        let lab = lab.unwrap_or_else(|error| panic!("{context}, {cut:?}: {error:?}"));
        check(&lab, &history, &format!("{context}, {cut:?}"));
        // Nothing holds it any more.
        lab.move_cursor().expect("cursor");
        lab.retain(1).expect("retention");
        assert!(lab.journal.window().0 > Lsn::captured(1), "{context}: it is held for ever");
        check(&lab, &history, &format!("{context}, {cut:?}, after retention"));
        if referring.is_ok() {
            return;
        }
        at += 1;
    }
}

#[test]
fn a_rewind_by_reference_survives_the_power_and_retention() {
    for seed in seeds(2) {
        one(seed);
    }
}

fn start(disk: &SimDisk, tree: &Arc<SimTree>, tables: &SameTables) -> Arc<Replica<SimTree>> {
    let (clock, factory): (Arc<dyn Clock>, &dyn TablesFactory) = (Arc::new(StillClock), tables);
    let opened = Journal::open(Arc::new(disk.clone()), Path::new("/j"), small_segments(), factory, clock);
    // The durable cursor does not move by itself.
    let cursor_every = Duration::from_secs(1 << 20);
    let options = ReplicaOptions { cursor_every, free_bytes_min: 1 << 20, ..ReplicaOptions::default() };
    Replica::start(opened.expect("open"), Arc::clone(tree), options).expect("start")
}

/// One that has had a whole history, and its last point.
fn living(
    history: &History,
    disk: &SimDisk,
    tree: &Arc<SimTree>,
    tables: &SameTables,
) -> (Arc<Replica<SimTree>>, Lsn) {
    let replica = start(disk, tree, tables);
    for capture in &history.captures {
        let (send, receive) = std::sync::mpsc::channel();
        let part = Part { number: 0, last: true, capture: capture.clone() };
        replica.ingest(vec![part], move |durable| drop(send.send(durable)));
        receive.recv().expect("an answer").expect("journal");
    }
    let last = history.captures.last().expect("some").lsn;
    assert!(replica.journal().wait_applied(last, SOON), "{:?}", replica.status());
    (replica, last)
}

/// What a rewind to the first point gives.
fn back_to_the_first(replica: &Arc<Replica<SimTree>>, last: Lsn) -> Vec<LocalGroup> {
    let (now, then) = (replica.view(last).expect("a view"), replica.view(Lsn::captured(1)).expect("a view"));
    let plan = restore::RewindPlan::new(&now, &then, &[], &restore::NoMonitor).expect("a plan");
    let captures: Result<Vec<_>, _> = plan.captures().collect();
    captures.expect("it reads").into_iter().map(|one| (one.root, one.path, one.events)).collect()
}

/// What is put back cannot be given up to make room for it, and whoever is asked to make room is told so.
#[test]
fn a_rewind_without_room_says_which_history_it_needs() {
    let history = History::new(&mut Rng::new(0x0d0f));
    let (disk, tree, tables) = (SimDisk::new(), Arc::new(SimTree::new(1)), SameTables(Arc::default()));
    let (replica, last) = living(&history, &disk, &tree, &tables);
    replica.detach("rewind").expect("detach");
    let groups = back_to_the_first(&replica, last);
    tree.set_free_bytes(1000);
    let (word, until) = ("a rewind needs history from point 1 on", Instant::now() + SOON);
    let applied = std::thread::scope(|scope| {
        let rewind = scope.spawn(|| replica.apply_local(Some(Lsn::captured(1)), &mut groups.into_iter()));
        let told = |halt| matches!(halt, Some(Halt::Full(why)) if why.contains(word));
        while !told(replica.status().halt) {
            assert!(Instant::now() < until, "{:?}", replica.status().halt);
            std::thread::sleep(Duration::from_millis(1));
        }
        tree.set_free_bytes(1 << 40);
        rewind.join().expect("no panic")
    });
    let done = applied.expect("it goes on");
    assert_eq!(replica.journal().applied(), done);
    // What is applied is so a moment before it is said that nothing is in its way.
    while replica.status().halt.is_some() {
        assert!(Instant::now() < until, "{:?}", replica.status().halt);
        std::thread::sleep(Duration::from_millis(1));
    }
    replica.stop(SOON);
    assert_eq!(replica.journal().kept_until_applied(), None, "the cursor has passed");
}

/// A replica holds the point itself, until its durable cursor has passed what refers to it; whoever does not say which point
/// it is may not refer to undo.
#[test]
fn a_replica_holds_what_its_changes_refer_to() {
    let mut rng = Rng::new(0x0d0e);
    let history = History::new(&mut rng);
    let (disk, tree, tables) = (SimDisk::new(), Arc::new(SimTree::new(1)), SameTables(Arc::default()));
    let (replica, last) = living(&history, &disk, &tree, &tables);
    // The cursor moves, so that only what follows holds anything.
    replica.stop(SOON);
    drop(replica);
    let replica = start(&disk, &tree, &tables);
    replica.detach("rewind").expect("detach");
    let groups = || back_to_the_first(&replica, last);
    assert!(groups().iter().map(|group| refers(&group.2)).sum::<usize>() >= 3);
    let refused = replica.apply_local(None, &mut groups().into_iter()).expect_err("nobody holds it");
    assert!(matches!(refused, JournalError::Inconsistent { .. }), "{refused:?}");
    assert_eq!(replica.journal().next_local(), Lsn::local(last.captured, 1));
    let done = replica.apply_local(Some(Lsn::captured(1)), &mut groups().into_iter()).expect("apply");
    let policy = RetentionPolicy { keep: Duration::from_secs(1 << 40), bytes_max: 1 };
    let retain =
        |replica: &Replica<SimTree>| replica.journal().retain(policy, Timestamp(i64::MAX)).expect("it runs");
    assert_eq!(retain(&replica).horizon, Lsn::captured(1), "it is needed");
    // Power goes: nothing of it is in the tree, and it is done again.
    let dropped = DataChoice::All(Fate::Dropped);
    let after = (Arc::new(tree.crash_at(0, &dropped)), disk.crash(Cut::Everything, &mut rng));
    let again = start(&after.1, &after.0, &SameTables(copy_of(&tables.0)));
    let mut file = Vec::new();
    let view = again.view(done).expect("a view");
    file.extend(view.open(FILE).expect("open").read_all().expect("read"));
    assert!(file == history.versions[0], "the tree is not at the point");
    drop(view);
    assert!(retain(&again).horizon > Lsn::captured(1), "it is held for ever");
    again.stop(Duration::ZERO);
    replica.stop(SOON);
    assert!(retain(&replica).horizon > Lsn::captured(1), "it is held although the cursor has passed");
}
