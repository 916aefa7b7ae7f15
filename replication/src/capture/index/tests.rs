//! The mark of a clean stop, and rows.

use super::*;
use journal::{Attributes, Kind, Meta, Name};

fn look() -> super::super::look::Look {
    super::super::look::Look {
        sort: super::super::look::Sort::File,
        inode: 7,
        device: 1,
        mount: 1,
        birth: 0,
        links: 1,
        size: 10,
        allocated: 0,
        rdev: 0,
        attributes: Attributes { mode: 0o644, uid: 1, gid: 2, mtime: Timestamp(3), ctime: Timestamp(-4) },
    }
}

#[test]
fn clean_only_after_a_close() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let (index, state) = Index::open(&path).unwrap();
    assert_eq!(state, IndexState::Empty);
    index.begin().unwrap();
    drop(index);
    let (index, state) = Index::open(&path).unwrap();
    assert_eq!(state, IndexState::Dirty);
    let mut index = index.rebuild(std::iter::empty(), NodeId(9000)).unwrap();
    assert_eq!(index.mint(), NodeId(9000));
    index.close(Lsn::captured(17), Timestamp(5)).unwrap();
    let (mut index, state) = Index::open(&path).unwrap();
    assert_eq!(state, IndexState::Clean { lsn: Lsn::captured(17), time: Timestamp(5) });
    assert_eq!(index.mint(), NodeId(9001), "an id is never used twice");
    drop(index);
    assert_eq!(Index::open(&path).unwrap().1, IndexState::Dirty, "opening takes the mark away");
}

fn entries(round: u64, count: u64) -> impl Iterator<Item = NamespaceEntry> {
    (0..count).map(move |number| NamespaceEntry {
        root: RootNo(0),
        node: NodeId(NodeId::FIRST_FREE.0 + number),
        parent: NodeId::root(RootNo(0)),
        name: Name::new(format!("{round}-{number}").as_bytes()).unwrap(),
        meta: Meta { kind: Kind::File, size: 10, attributes: look().attributes, xattrs: Default::default() },
        origin: Some(Origin { device: 1, inode: number + 1, generation: 0, birth: 0 }),
        content_known: true,
    })
}

/// Half a database may open: one that does not say what it is may hold rows all the same.
#[test]
fn what_has_lost_its_head_is_emptied_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let (index, _) = Index::open(&path).unwrap();
    let index = index.rebuild(entries(0, 3), NodeId::FIRST_FREE).unwrap();
    index.heads.clear().unwrap();
    drop(index);
    let (index, state) = Index::open(&path).unwrap();
    assert_eq!((state, index.names.len().unwrap()), (IndexState::Empty, 3));
    let index = index.rebuild(entries(1, 1), NodeId::FIRST_FREE).unwrap();
    assert_eq!((index.names.len().unwrap(), index.nodes.len().unwrap()), (1, 1));
}

/// A start reads back into memory what was not written out, and nothing else: a log that says that tables were cleared
/// would have it read all of them, each time.
#[test]
fn what_was_written_out_after_a_rebuild_stays_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let (mut index, _) = Index::open(&path).unwrap();
    for round in 0..3 {
        index = index.rebuild(entries(round, 5000), NodeId::FIRST_FREE).unwrap();
        assert_eq!(index.names.len().unwrap(), 5000, "round {round}: the names before are gone");
        assert_eq!(index.sums().len(), 1);
        for table in [&index.nodes, &index.origins, &index.names, &index.links] {
            table.rotate_memtable_and_wait().unwrap();
        }
        index.close(Lsn::captured(1), Timestamp(1)).unwrap();
        let database = Database::builder(&path).open().unwrap();
        let bytes = database.write_buffer_size();
        assert!((1..4096).contains(&bytes), "round {round}: {bytes} bytes were read back");
        drop(database);
        let state;
        (index, state) = Index::open(&path).unwrap();
        assert_eq!(state, IndexState::Clean { lsn: Lsn::captured(1), time: Timestamp(1) });
        assert_eq!(index.names.len().unwrap(), 5000);
    }
}

#[test]
fn damage_leads_to_an_empty_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let (index, _) = Index::open(&path).unwrap();
    index.close(Lsn::captured(1), Timestamp(1)).unwrap();
    let mut stack = vec![path.clone()];
    while let Some(at) = stack.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                stack.push(entry.path());
            } else {
                std::fs::write(entry.path(), [0xee; 64]).unwrap();
            }
        }
    }
    assert_eq!(Index::open(&path).unwrap().1, IndexState::Empty);
}

#[test]
fn names_both_ways_and_hashes() {
    let directory = tempfile::tempdir().unwrap();
    let (index, _) = Index::open(&directory.path().join("index")).unwrap();
    let edge = |parent: u64, name: &[u8]| Edge::new(NodeId(parent), Name::new(name).unwrap());
    let (a, b) = (edge(5000, b"a"), edge(5001, b"\xff"));
    let mut batch = index.batch();
    let origin = Origin { device: 1, inode: 7, generation: 9, birth: 0 };
    index.put_row(&mut batch, NodeId(6000), &Row::new(RootNo(1), origin, &look(), &Kind::File)).unwrap();
    index.put_origin(&mut batch, RootNo(1), &origin, NodeId(6000));
    for edge in [&a, &b] {
        index.put_edge(&mut batch, edge, NodeId(6000));
    }
    index.commit(batch).unwrap();
    assert_eq!(index.child(&a).unwrap(), Some(NodeId(6000)));
    assert_eq!(index.names_of(NodeId(6000)).unwrap(), [a.clone(), b.clone()]);
    assert_eq!(index.by_origin(RootNo(1), &origin).unwrap(), Some(NodeId(6000)));
    assert_eq!(index.by_origin(RootNo(0), &origin).unwrap(), None, "an inode is a node of each root");
    let children: Vec<_> = index.children(NodeId(5001)).map(Result::unwrap).collect();
    assert_eq!(children, [(b.clone(), NodeId(6000))]);
    for group in 0..3 {
        index.put_hashes(NodeId(6000), group, &[group as u8; 32]).unwrap();
    }
    index.put_hashes(NodeId(6001), 0, b"other").unwrap();
    index.cut_hashes(NodeId(6000), 1).unwrap();
    assert_eq!(index.hashes(NodeId(6000), 0).unwrap(), Some(vec![0; 32]));
    assert_eq!(index.hashes(NodeId(6000), 1).unwrap(), None);
    assert!(index.hashes(NodeId(6001), 0).unwrap().is_some());
    let mut batch = index.batch();
    index.remove_edge(&mut batch, &a, NodeId(6000));
    index.commit(batch).unwrap();
    assert_eq!(index.names_of(NodeId(6000)).unwrap(), [b]);
    let mut batch = index.batch();
    index.remove_node(&mut batch, NodeId(6000)).unwrap();
    index.commit(batch).unwrap();
    assert_eq!(index.by_origin(RootNo(1), &origin).unwrap(), None);
}

#[test]
fn rows_are_decoded_only_if_whole() {
    let origin = Origin { device: u64::MAX, inode: 1, generation: 2, birth: -3 };
    let mut row = Row::new(RootNo(3), origin, &look(), &Kind::File);
    row.set_racy(true);
    let bytes = row.encode().unwrap();
    assert_eq!(Row::decode(&bytes).unwrap(), row);
    for cut in 0..bytes.len() {
        assert!(Row::decode(&bytes[..cut]).is_err());
    }
    assert!(Row::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
}
