//! Listings of random trees: loaded as a whole, as changes, and compared with a naive walk; trees of old programs; where
//! a listing begins.

use super::*;
use crate::catalog::{Entity, Filter, Pattern, Query, SessionId, SessionInfo};
use crate::repository::testing::{Random, fresh};
use crate::repository::{BlobKind, BlobWriter, Timestamp, TreeBuilder, WriterOptions};
use journal::OsDisk;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A tree in memory: files have a size, directories entries.
#[derive(Clone, Debug)]
enum Tree {
    File(u64),
    Link(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

/// Names that are awkward in the order of paths.
const NAMES: [&[u8]; 9] = [b"a", b"a-b", b"a.b", b"b", b"\x01", b"a\xff", b"A", b"aa", b"z z"];

fn random(random: &mut Random, depth: u32) -> Tree {
    let mut entries = BTreeMap::new();
    for _ in 0..random.below(7) {
        let name = NAMES[random.below(NAMES.len() as u64) as usize].to_vec();
        let entry = match random.below(5) {
            0 | 1 if depth > 0 => self::random(random, depth - 1),
            2 => Tree::Link(random.bytes(5)),
            _ => Tree::File(random.below(1000)),
        };
        entries.insert(name, entry);
    }
    Tree::Directory(entries)
}

/// Changes something somewhere.
fn change(tree: &mut Tree, random: &mut Random) {
    let Tree::Directory(entries) = tree else { return };
    let name = NAMES[random.below(NAMES.len() as u64) as usize].to_vec();
    match random.below(4) {
        0 => drop(entries.remove(&name)),
        1 => drop(entries.insert(name, self::random(random, 2))),
        2 => drop(entries.insert(name, Tree::File(random.below(1000)))),
        _ => entries.values_mut().for_each(|below| change(below, random)),
    }
}

fn node(name: &[u8], tree: &Tree, writer: &BlobWriter) -> Node {
    let modified = Timestamp { seconds: 1, nanoseconds: 2 };
    let mut node = Node { name: name.to_vec(), modified, ..Node::default() };
    match tree {
        Tree::File(size) => {
            node.size = *size;
            node.content = vec![Id::of(&size.to_le_bytes())];
        }
        Tree::Link(target) => (node.kind, node.link_target) = (NodeKind::Symlink, target.clone()),
        Tree::Directory(_) => (node.kind, node.subtree) = (NodeKind::Directory, Some(store(tree, writer))),
    }
    node
}

fn store(tree: &Tree, writer: &BlobWriter) -> Id {
    let mut builder = TreeBuilder::new();
    if let Tree::Directory(entries) = tree {
        entries.iter().for_each(|(name, entry)| builder.add(&node(name, entry, writer)).unwrap());
    }
    writer.save_blob(BlobKind::Tree, builder.finish()).unwrap().id
}

fn record(tree: Id, paths: &[&str]) -> SessionRecord {
    let json =
        serde_json::json!({ "time": "2026-11-21T00:00:00Z", "tree": tree.to_string(), "paths": paths });
    serde_json::from_value(json).unwrap()
}

/// What is below a directory, found in the simplest way.
fn naive(path: &str, tree: &Tree, out: &mut BTreeMap<Vec<u8>, (EntryKind, u64)>) {
    let Tree::Directory(entries) = tree else { return };
    for (name, entry) in entries {
        let path = [path.as_bytes(), b"/", name].concat();
        let found = match entry {
            Tree::File(size) => (EntryKind::File, *size),
            Tree::Link(_) => (EntryKind::Symlink, 0),
            Tree::Directory(_) => (EntryKind::Directory, 0),
        };
        out.insert(path.clone(), found);
        // Names need not be UTF-8, so the path of what is below is put together from bytes.
        let mut below = BTreeMap::new();
        naive("", entry, &mut below);
        out.extend(below.into_iter().map(|(rest, found)| ([path.as_slice(), &rest].concat(), found)));
    }
}

fn info(number: u8, root: &[u8]) -> SessionInfo {
    let text = |text: &str| text.to_owned();
    SessionInfo {
        id: SessionId([number; 32]),
        repository: text("offsite"),
        entity: Entity { scenario: text("s"), master: text("m"), name: text("n"), root: root.to_vec() },
        taken: journal::Timestamp(number.into()),
        lsn: None,
    }
}

/// What the catalog says that a session holds.
fn listed(catalog: &Catalog, number: u8) -> BTreeMap<Vec<u8>, (EntryKind, u64)> {
    let filter = Filter { session: Some(SessionId([number; 32])), ..Filter::default() };
    let query = Query { pattern: Pattern::All, filter, limit: 10_000, after: None };
    let page = catalog.query(&query).unwrap();
    assert!(page.next.is_none());
    page.rows.into_iter().map(|found| (found.path, (found.newest.kind, found.newest.size))).collect()
}

#[test]
fn sessions_are_loaded_as_they_are_and_as_what_changed() {
    let mut random = Random::from_clock("listing");
    for _ in 0..60 {
        let (_, repository) = fresh();
        let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
        let place = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(Arc::new(OsDisk), place.path()).unwrap();
        let mut tree = self::random(&mut random, 3);
        let mut previous: Option<Top> = None;
        for number in 1..6_u8 {
            let root = store(&Tree::Directory([(b"srv".to_vec(), tree.clone())].into()), &writer);
            writer.flush().unwrap();
            let top = top(&repository, &record(root, &["/srv"])).unwrap();
            assert_eq!(top.root, b"/srv");
            let info = info(number, b"/srv");
            let go_on = &mut |_| true;
            match &previous {
                Some(old) => {
                    let old = (SessionId([number - 1; 32]), old);
                    load_changes(&catalog, &repository, old, &top, &info, go_on).unwrap();
                }
                None => drop(load_whole(&catalog, &repository, &top, &info, go_on).unwrap()),
            }
            let mut expected = BTreeMap::from([(b"/srv".to_vec(), (EntryKind::Directory, 0))]);
            naive("/srv", &tree, &mut expected);
            assert_eq!(listed(&catalog, number), expected, "session {number} of {tree:?}");
            previous = Some(top);
            change(&mut tree, &mut random);
        }
    }
}

#[test]
fn trees_of_old_programs_are_sorted() {
    let (_, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let json = br#"{"nodes":[{"name":"b","type":"file","size":2},{"name":"a","type":"file","size":1}]}"#;
    let tree = writer.save_blob(BlobKind::Tree, json).unwrap().id;
    writer.flush().unwrap();
    let place = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(Arc::new(OsDisk), place.path()).unwrap();
    let top = top(&repository, &record(tree, &[])).unwrap();
    let loaded = load_whole(&catalog, &repository, &top, &info(1, b"/"), &mut |_| true).unwrap();
    assert_eq!(loaded.entries, 2);
    let paths: Vec<_> = listed(&catalog, 1).into_keys().collect();
    assert_eq!(paths, [b"/a", b"/b"]);
}

#[test]
fn a_listing_begins_at_the_only_path() {
    let (_, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let odd = Tree::Directory([(b"x\xff".to_vec(), Tree::File(3))].into());
    let root = store(&Tree::Directory([(b"srv".to_vec(), odd)].into()), &writer);
    writer.flush().unwrap();
    let root_of = |paths: &[&str]| top(&repository, &record(root, paths)).unwrap().root;
    assert_eq!(root_of(&["/srv"]), b"/srv");
    assert_eq!(root_of(&["/srv/x\u{fffd}"]), b"/srv/x\xff", "found by what it looks like");
    assert_eq!(root_of(&["//srv/x%FF"]), b"/srv/x\xff");
    assert_eq!(root_of(&["/not/there"]), b"/");
    assert_eq!(root_of(&["/srv", "/etc"]), b"/");
    assert_eq!(root_of(&[]), b"/");
    let file = at(&repository, &root, b"/srv/x\xff").unwrap().unwrap();
    assert_eq!((file.node.unwrap().size, file.tree), (3, None));
    assert_eq!(at(&repository, &root, b"/srv/x").unwrap(), None);
}

/// A load that is given up leaves nothing, and can be begun again.
#[test]
fn a_load_can_be_given_up() {
    let (_, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let entries = (0..3000_u64).map(|number| (format!("{number:04}").into_bytes(), Tree::File(number)));
    let root = store(&Tree::Directory(entries.collect()), &writer);
    writer.flush().unwrap();
    let place = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(Arc::new(OsDisk), place.path()).unwrap();
    let top = top(&repository, &record(root, &[])).unwrap();
    let info = info(1, b"/");
    let given_up = load_whole(&catalog, &repository, &top, &info, &mut |entries| entries < 2000);
    assert!(matches!(given_up, Err(ListingError::GivenUp)), "{given_up:?}");
    assert!(catalog.sessions().is_empty());
    load_whole(&catalog, &repository, &top, &info, &mut |_| true).unwrap();
    assert_eq!(listed(&catalog, 1).len(), 3000);
}
