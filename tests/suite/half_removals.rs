//! What is left when retention is kept from removing what it gave up, or is cut short in the middle of it?
//!
//! Nothing promised may depend on it. What the tree refuses to remove stays, alone, and the replica starts with it.

use journal::journal::Journal;
use journal::record::Control;
use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Marker, Meta, Name, NodeId, Provenance, RootNo, Space,
    Tables, Timestamp, TreeIo,
};
use replication::apply::prune;
use replication::replica::{Replica, ReplicaOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tests::lab::{Lab, SameTables, StillClock, small_segments};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};
use tests::sim_tree::{Fault, SimTree};

const ROOT: RootNo = RootNo(0);
const TOP: NodeId = NodeId::root(ROOT);
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

fn remove(node: NodeId, parent: NodeId, text: &str) -> Event {
    Event::Remove { node, at: Edge::new(parent, name(text)), parent_mtime: MTIME }
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
    let refused = prune(&lab.journal, &lab.tree, horizon).expect_err("it is said");
    assert!(refused.to_string().contains("#5000"), "{refused}");
    assert_eq!(kept(&lab.tree), [NodeId(5000).kept_name()]);
    assert_eq!(old_rows(&lab, horizon), 0, "history stays with it");
    assert_eq!(prune(&lab.journal, &lab.tree, horizon).expect("healed"), 1);
    assert!(kept(&lab.tree).is_empty());
    assert_eq!(prune(&lab.journal, &lab.tree, horizon).expect("nothing is left"), 0);
}

#[test]
fn a_tree_that_refuses_all_of_it_keeps_no_history() {
    let (lab, horizon) = removed(MANY);
    lab.tree.fail_changes(Fault { nth: 0, errno: 30, times: u64::MAX });
    let refused = prune(&lab.journal, &lab.tree, horizon).expect_err("it is said");
    assert!(refused.to_string().contains("#5000"), "{refused}");
    assert_eq!((kept(&lab.tree).len() as u64, old_rows(&lab, horizon)), (MANY, 0));
    lab.tree.heal();
    assert_eq!(prune(&lab.journal, &lab.tree, horizon).expect("healed"), MANY);
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
