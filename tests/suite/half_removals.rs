//! What is left when retention is kept from removing what it gave up, or is cut short in the middle of it?
//!
//! Nothing promised may depend on it. What the tree refuses to remove stays, alone, and the replica starts with it. A
//! directory of which half is gone, and which the tables name again because they were lost, is in nobody's way: a file
//! with another name is found by that, whatever was done to it since the durable cursor.

use bytes::Bytes;
use journal::journal::Journal;
use journal::record::Control;
use journal::tables::MemoryTables;
use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Payload, Provenance, RootNo,
    Space, Tables, Timestamp, TreeIo,
};
use replication::replica::{Replica, ReplicaOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::canonical::{assert_equal, dump};
use tests::faulty_tables::{FaultyFactory, TableCall, TableFaults};
use tests::lab::{Lab, SameTables, StillClock, small_segments};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{DataChoice, Fate, Fault, SimDir, SimTree};

const ROOT: RootNo = RootNo(0);
const TOP: NodeId = NodeId::root(ROOT);
const FILE: NodeId = NodeId(5002);
/// A directory whose names come last in the order in which names of a node are looked at.
const LIVE: NodeId = NodeId(6000);
/// More nodes than are named at a time.
const MANY: u64 = 5003;
/// Set with every name, for it moves.
const MTIME: Option<Timestamp> = Some(Timestamp(1));

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) }
}

fn create(node: u64, parent: NodeId, text: &str, kind: Kind) -> Event {
    let meta = Meta { kind, size: 0, attributes: attributes(0o700), xattrs: Vec::new() };
    let at = Edge::new(parent, name(text));
    Event::Create { node: NodeId(node), at, meta, origin: None, parent_mtime: MTIME }
}

fn write(bytes: &'static [u8]) -> Event {
    let data = Payload::Inline(Bytes::from_static(bytes));
    Event::Write { node: FILE, offset: 0, data, before: None }
}

fn remove(node: NodeId, parent: NodeId, text: &str) -> Event {
    Event::Remove { node, at: Edge::new(parent, name(text)), parent_mtime: MTIME }
}

/// Another name of the file.
fn link(text: &str) -> Event {
    Event::Link { node: FILE, at: Edge::new(LIVE, name(text)), parent_mtime: MTIME }
}

/// Captures one after the other, the first synchronization at their beginning.
fn live(lab: &mut Lab, captures: Vec<Vec<Event>>) {
    for events in captures {
        let lsn = Lsn::captured(lab.journal.applied().captured + 1);
        let (time, provenance) = (Timestamp(lsn.captured as i64), Provenance::Derived);
        let capture = Capture { lsn, time, provenance, root: ROOT, path: Vec::new(), events };
        let placed = lab.journal_them(&[capture]).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{lsn}: {error:?}"));
    }
}

fn completed() -> Event {
    Event::Mark(Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 })
}

fn nothing() -> Vec<Event> {
    vec![Event::Mark(Marker::GapClosed { gap: 1 })]
}

/// Gives up what lies before this point.
fn give_up(lab: &Lab, captured: u64) -> Lsn {
    lab.move_cursor().expect("the cursor moves");
    lab.journal.control(Control::Horizon { captured, local: 0 }).expect("journal");
    Lsn::captured(captured)
}

fn kept(tree: &SimTree) -> Vec<Name> {
    tree.list(&tree.kept(ROOT).expect("the kept area")).expect("list")
}

/// Rows of history before a point.
fn old_rows(lab: &Lab, before: Lsn) -> usize {
    lab.tables.range(Space::Changes, &[], &before.to_key()).count()
}

/// Files that are removed, the first of them 5000, and the point before which all of it is given up.
fn removed(count: u64) -> (Lab, Lsn) {
    let mut lab = Lab::new();
    let nodes = || 5000..5000 + count;
    let mut first = vec![completed()];
    first.extend(nodes().map(|node| create(node, TOP, &format!("{node}"), Kind::File)));
    let gone = nodes().map(|node| remove(NodeId(node), TOP, &format!("{node}"))).collect();
    live(&mut lab, vec![first, gone, nothing(), nothing()]);
    let horizon = give_up(&lab, 3);
    assert_eq!(kept(&lab.tree).len() as u64, count);
    assert!(old_rows(&lab, horizon) > 0);
    (lab, horizon)
}

#[test]
fn what_cannot_be_removed_keeps_nothing_else() {
    let (lab, horizon) = removed(MANY);
    lab.tree.fail_changes(Fault { nth: 0, errno: 1, times: 1 });
    let refused = lab.prune(horizon).expect_err("it is said");
    assert!(refused.to_string().contains("#5000"), "{refused}");
    let left = kept(&lab.tree);
    assert!(left == [NodeId(5000).kept_name()], "{} nodes stay", left.len());
    assert_eq!(old_rows(&lab, horizon), 0, "history stays with it");
    assert_eq!(lab.prune(horizon).expect("healed"), 1);
    assert!(kept(&lab.tree).is_empty());
    assert_eq!(lab.prune(horizon).expect("nothing is left"), 0);
}

#[test]
fn a_tree_that_refuses_all_of_it_keeps_no_history() {
    let (lab, horizon) = removed(MANY);
    lab.tree.fail_changes(Fault { nth: 0, errno: 30, times: u64::MAX });
    let refused = lab.prune(horizon).expect_err("it is said");
    assert!(refused.to_string().contains("#5000"), "{refused}");
    assert_eq!((kept(&lab.tree).len() as u64, old_rows(&lab, horizon)), (MANY, 0));
    lab.tree.heal();
    assert_eq!(lab.prune(horizon).expect("healed"), MANY);
}

/// With its tables, and without.
#[test]
fn a_replica_starts_though_something_cannot_be_removed() {
    for keep_tables in [true, false] {
        let (lab, _) = removed(3);
        let (disk, tree, tables) = lab.stop();
        let factory = SameTables(if keep_tables { tables } else { Arc::default() });
        let start = |disk: &SimDisk| {
            let (disk, clock) = (Arc::new(disk.clone()), Arc::new(StillClock));
            let opened = Journal::open(disk, Path::new("/j"), small_segments(), &factory, clock);
            Replica::start(opened.expect("open"), Arc::clone(&tree), ReplicaOptions::default())
                .expect("start")
        };
        tree.fail_changes(Fault { nth: 1, errno: 5, times: 1 });
        let replica = start(&disk);
        assert_eq!(kept(&tree), [NodeId(5001).kept_name()], "tables: {keep_tables}");
        assert_eq!(replica.status().halt, None);
        replica.stop(Duration::ZERO);
        let disk = disk.crash(Cut::Everything, &mut Rng::new(1));
        let replica = start(&disk);
        assert!(kept(&tree).is_empty(), "tables: {keep_tables}");
        replica.stop(Duration::ZERO);
    }
}

/// A directory `d/sub` with a file that has another name outside, `live/z`; `d` is removed and given up. The point
/// before which it is, and `sub`.
fn removed_directory(lab: &mut Lab) -> (Lsn, SimDir) {
    let first = vec![
        completed(),
        create(LIVE.0, TOP, "live", Kind::Directory),
        create(5000, TOP, "d", Kind::Directory),
        create(5001, NodeId(5000), "sub", Kind::Directory),
        create(FILE.0, NodeId(5001), "f", Kind::File),
        create(5003, NodeId(5000), "other", Kind::File),
        write(b"precious"),
        link("z"),
    ];
    live(lab, vec![first, vec![remove(NodeId(5000), TOP, "d")], nothing()]);
    let horizon = give_up(lab, 2);
    let d = lab.tree.kept(ROOT).and_then(|kept| lab.tree.open_dir(&kept, &NodeId(5000).kept_name()));
    let sub = d.and_then(|d| lab.tree.open_dir(&d, &name("sub"))).expect("it is kept");
    (horizon, sub)
}

/// The same, half gone: as far as retention comes before the power goes.
fn half_gone(with_sub: bool) -> Lab {
    let mut lab = Lab::new();
    let (_, sub) = removed_directory(&mut lab);
    lab.journal.let_go(&[NodeId(5000)]).expect("tables");
    lab.tree.unlink(&sub, &name("f")).expect("unlink");
    if with_sub {
        let d = lab.tree.kept(ROOT).and_then(|kept| lab.tree.open_dir(&kept, &NodeId(5000).kept_name()));
        d.and_then(|d| lab.tree.remove_dir(&d, &name("sub"))).expect("rmdir");
    }
    lab.tree.sync().expect("sync");
    lab
}

#[test]
fn names_of_files_that_have_others_are_given_up_durably_before_anything_is_removed() {
    let (faults, tables) = (TableFaults::default(), Arc::<MemoryTables>::default());
    let factory = FaultyFactory { behind: SameTables(Arc::clone(&tables)), faults: faults.clone() };
    let (tree, clock) = (Arc::new(SimTree::new(1)), Arc::new(StillClock));
    let lab = Lab::open_by(SimDisk::new(), tree, tables, &factory, small_segments(), clock);
    let mut lab = lab.expect("a new journal opens");
    let (horizon, sub) = removed_directory(&mut lab);
    faults.fail_from(TableCall::Persist, 1);
    lab.prune(horizon).expect_err("the tables refuse");
    assert!(lab.tree.stat(&sub, &name("f")).expect("stat").is_some());
    faults.heal();
    drop(sub);
    assert_eq!(lab.prune(horizon).expect("healed"), 1);
    assert!(kept(&lab.tree).is_empty());
}

/// What may be done to the file behind the durable cursor.
fn touches() -> Vec<(&'static str, Event)> {
    let (from, to) = (Edge::new(LIVE, name("z")), Edge::new(LIVE, name("y")));
    let rename = Event::Rename { node: FILE, from, to, from_parent_mtime: MTIME, to_parent_mtime: MTIME };
    vec![
        ("link", link("y")),
        ("rename", rename),
        ("remove", remove(FILE, LIVE, "z")),
        ("write", write(b"PRE")),
        ("resize", Event::Resize { node: FILE, size: 3 }),
        ("attributes", Event::SetAttributes { node: FILE, attributes: attributes(0o640) }),
    ]
}

#[test]
fn a_file_is_found_by_its_other_name_whatever_is_left_of_a_removed_directory() {
    for (what, touch) in touches() {
        for (with_sub, is_applied) in [(false, true), (false, false), (true, true), (true, false)] {
            let context = format!("{what}, sub removed: {with_sub}, applied: {is_applied}");
            let mut lab = half_gone(with_sub);
            live(&mut lab, vec![vec![touch.clone()]]);
            let expected = lab.canonical(lab.journal.applied());
            let (disk, tree, _) = lab.stop();
            let pending = tree.pending();
            assert!(pending.metadata + pending.data > 0, "{context}: nothing is behind the cursor");
            let tree = match is_applied {
                true => tree.crash_at(pending.metadata, &DataChoice::All(Fate::Kept)),
                false => tree.crash_at(0, &DataChoice::All(Fate::Dropped)),
            };
            let lab = Lab::open(disk, Arc::new(tree), Arc::default())
                .unwrap_or_else(|error| panic!("{context}: {error:?}"));
            assert_eq!(lab.journal.applied(), Lsn::captured(4), "{context}");
            assert_equal(&expected, &lab.canonical(Lsn::captured(4)), &format!("{context}, view"));
            assert_equal(&expected, &dump(&*lab.tree, ROOT).expect("dump"), &format!("{context}, tree"));
            let before = lab.canonical(Lsn::captured(3));
            assert_eq!(before[b"live/z".as_slice()].content.as_slice(), b"precious", "{context}");
            // Of the directory nothing is left; the file itself is kept if it was removed.
            let left: Vec<Name> = (what == "remove").then(|| FILE.kept_name()).into_iter().collect();
            assert_eq!(kept(&lab.tree), left, "{context}");
        }
    }
}

/// A removed file that came back under another name is not looked for where retention has removed it.
#[test]
fn a_file_is_found_by_the_name_under_which_it_came_back() {
    let mut lab = Lab::new();
    let first = vec![
        completed(),
        create(LIVE.0, TOP, "live", Kind::Directory),
        create(FILE.0, TOP, "f", Kind::File),
        write(b"precious"),
    ];
    live(&mut lab, vec![first, vec![remove(FILE, TOP, "f")], vec![link("z")], nothing()]);
    give_up(&lab, 3);
    let top = lab.tree.kept(ROOT).expect("the kept area");
    lab.journal.forget_kept(FILE).expect("tables");
    lab.tree.unlink(&top, &FILE.kept_name()).expect("unlink");
    lab.tree.sync().expect("sync");
    live(&mut lab, vec![vec![write(b"PRE")]]);
    let (disk, tree, _) = lab.stop();
    let lab = Lab::open(disk, tree, Arc::default()).expect("open");
    let found = dump(&*lab.tree, ROOT).expect("dump");
    assert_eq!(found[b"live/z".as_slice()].content.as_slice(), b"PREcious");
    assert!(kept(&lab.tree).is_empty());
}
