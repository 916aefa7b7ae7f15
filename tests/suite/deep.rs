//! Can a directory be made and removed that is deeper than a process may have files open?

use journal::{
    Attributes, Capture, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Provenance, RootNo, Timestamp,
};
use tests::lab::Lab;

const DEPTH: u64 = 3000;
const ROOT: RootNo = RootNo(0);
/// Far below 1,024, the usual soft limit; apply remembers some hundred directories.
const OPEN_MAX: usize = 700;

fn capture(lsn: u64, events: Vec<Event>) -> Capture {
    let (time, provenance) = (Timestamp(lsn as i64), Provenance::Derived);
    Capture { lsn: Lsn::captured(lsn), time, provenance, root: ROOT, path: Vec::new(), events }
}

fn create(node: u64, parent: NodeId, name: &str, kind: Kind) -> Event {
    let attributes = Attributes { mode: 0o700, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
    let meta = Meta { kind, size: 0, attributes, xattrs: Vec::new() };
    let at = Edge::new(parent, Name::new(name.as_bytes()).expect("a name"));
    Event::Create { node: NodeId(node), at, meta, origin: None, parent_mtime: None }
}

#[test]
fn depth_costs_no_open_files() {
    let mut lab = Lab::new();
    let mut chain =
        vec![Event::Mark(journal::Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 })];
    let mut parent = NodeId::root(ROOT);
    for depth in 0..DEPTH {
        let node = 5000 + 2 * depth;
        chain.push(create(node, parent, "d", Kind::Directory));
        chain.push(create(node + 1, parent, "file", Kind::File));
        parent = NodeId(node);
    }
    let at = Edge::new(NodeId::root(ROOT), Name::new(b"d").expect("a name"));
    let remove = Event::Remove { node: NodeId(5000), at, parent_mtime: None };
    let marker = || Event::Mark(journal::Marker::GapClosed { gap: 1 });
    for (number, events) in [chain, vec![remove], vec![marker()], vec![marker()]].into_iter().enumerate() {
        let placed = lab.journal_them(&[capture(number as u64 + 1, events)]).expect("journal");
        lab.apply(&placed).expect("apply");
    }
    let open = lab.tree.take_most_open();
    assert!(open < OPEN_MAX, "{open} objects were open at once while a deep tree was made");
    lab.move_cursor().expect("cursor");
    // Nothing promised shows it any more.
    let removed = lab.prune(Lsn::captured(3)).expect("prune");
    assert!(removed > 0);
    let open = lab.tree.take_most_open();
    assert!(open < OPEN_MAX, "{open} objects were open at once while a deep tree was removed");
    let kept = journal::TreeIo::kept(&*lab.tree, ROOT).expect("the kept area");
    assert_eq!(journal::TreeIo::list(&*lab.tree, &kept).expect("list"), Vec::new());
}
