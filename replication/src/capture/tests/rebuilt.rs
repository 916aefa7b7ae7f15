//! An index rebuilt from the replica's namespace is as good as the one that was lost.

use super::Bench;
use crate::capture::{Index, IndexState, NamespaceEntry, Start};
use journal::{Attributes, Edge, GapCause, Lsn, Marker, Meta, Name, NodeId, RootNo, SkippedWhat};
use std::collections::BTreeMap;
use std::fs;
use wire::stream::SkippedName;

/// The replica's namespace as the model has it.
pub(super) fn namespace(
    bench: &Bench,
    with_origins: bool,
    content_known: bool,
) -> (Vec<NamespaceEntry>, NodeId) {
    let model = bench.model.lock();
    let nobody = Attributes { mode: 0, uid: 0, gid: 0, mtime: Default::default(), ctime: Default::default() };
    let root = (Edge::new(NodeId(0), Name::new(b"root").unwrap()), NodeId::root(RootNo(0)));
    let names = model.names.iter().map(|(edge, node)| (edge.clone(), *node)).chain([root]);
    let entries = names.map(|(edge, id)| {
        let node = &model.nodes[&id];
        let meta = Meta {
            kind: node.kind.clone(),
            size: node.bytes.len() as u64,
            attributes: node.attributes.unwrap_or(nobody),
            xattrs: node.xattrs.clone(),
        };
        let origin = node.origin.filter(|_| with_origins);
        NamespaceEntry {
            root: RootNo(0),
            node: id,
            parent: edge.parent,
            name: edge.name,
            meta,
            origin,
            content_known,
        }
    });
    let next = model.nodes.keys().next_back().map_or(NodeId::FIRST_FREE, |last| NodeId(last.0 + 1));
    (entries.collect(), next)
}

/// A tree is captured, the agent dies, things change, the index is rebuilt. Returns the event names told afterwards
/// and how many bytes.
fn after_a_crash(with_origins: bool, content_known: bool) -> (Vec<String>, u64) {
    let mut bench = Bench::new();
    bench.telling(|root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        for n in 0..10 {
            fs::write(root.join(format!("a/b/{n}")), vec![n; 10_000]).unwrap();
        }
        fs::hard_link(root.join("a/b/1"), root.join("link")).unwrap();
        std::os::unix::fs::symlink("x", root.join("s")).unwrap();
    });
    drop(bench.agent.take());
    fs::rename(bench.path("a/b"), bench.path("c")).unwrap();
    fs::write(bench.path("c/3"), b"changed").unwrap();
    fs::remove_file(bench.path("c/4")).unwrap();
    fs::write(bench.path("c/new"), b"new").unwrap();
    let (entries, next) = namespace(&bench, with_origins, content_known);
    let (index, state) = Index::open(&bench.index_path()).unwrap();
    assert_eq!(state, IndexState::Dirty);
    let index = index.rebuild(entries.into_iter(), next).unwrap();
    let (before, bytes) = (bench.told(), bench.model.lock().bytes_told);
    bench.start_with(index, Start::Rescan { cause: GapCause::AgentDown });
    bench.check();
    let told = bench.told_since(before).into_iter().flatten().collect();
    let bytes = bench.model.lock().bytes_told - bytes;
    fs::write(bench.path("c/5"), b"and on it goes").unwrap();
    bench.check();
    bench.stop();
    bench.restart();
    bench.check();
    (told, bytes)
}

fn count(told: &[String], word: &str) -> usize {
    told.iter().filter(|event| *event == word).count()
}

#[test]
fn found_by_inode() {
    let (told, bytes) = after_a_crash(true, true);
    assert_eq!(
        (count(&told, "Rename"), count(&told, "Create"), count(&told, "Remove")),
        (1, 1, 1),
        "{told:?}"
    );
    assert_eq!(bytes, 10, "what changed and what is new");
}

#[test]
fn unknown_content_is_sent_whole() {
    let (told, bytes) = after_a_crash(true, false);
    assert_eq!(
        (count(&told, "Rename"), count(&told, "Create"), count(&told, "Remove")),
        (1, 1, 1),
        "{told:?}"
    );
    assert_eq!(bytes, 80_010);
}

#[test]
fn found_by_path_where_inodes_are_unknown() {
    let (told, _) = after_a_crash(false, false);
    // Nothing tells that "c" was "a/b": it is removed and created. What kept its path is kept.
    assert!(count(&told, "Create") >= 10, "{told:?}");
    // The link is made anew: the index does not know where it led.
    assert_eq!(count(&told, "Remove"), 2, "{told:?}");
}

/// What the stream says is missing at present: path and what.
fn missing(bench: &Bench) -> BTreeMap<Vec<u8>, SkippedWhat> {
    let mut missing = BTreeMap::new();
    for (_, marker) in &bench.model.lock().markers {
        match marker {
            Marker::Skipped { path, what, .. } => _ = missing.insert(path.clone(), *what),
            Marker::Unskipped { path, .. } => _ = missing.remove(path),
            _ => {}
        }
    }
    missing
}

#[test]
fn what_was_skipped_before_is_looked_at_again() {
    let mut bench = Bench::new();
    // Root can read everything, so what is missing is said by hand.
    bench.telling(|root| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/readable again"), b"bytes").unwrap();
    });
    drop(bench.agent.take());
    let skipped: Vec<SkippedName> = ["d/readable again", "d/gone", "no such directory/x"]
        .iter()
        .map(|path| SkippedName {
            root: RootNo(0),
            path: path.as_bytes().to_vec(),
            what: if path.ends_with("again") { SkippedWhat::Content } else { SkippedWhat::Node },
            errno: 13,
        })
        .collect();
    for one in &skipped {
        let SkippedName { root, path, what, errno } = one.clone();
        bench.model.lock().markers.push((Lsn::ZERO, Marker::Skipped { root, path, what, errno }));
    }
    assert_eq!(missing(&bench).len(), 3);
    let (entries, next) = namespace(&bench, true, true);
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    let mut index = index.rebuild(entries.into_iter(), next).unwrap();
    index.rebuild_skips(&skipped).unwrap();
    bench.start_with(index, Start::Rescan { cause: GapCause::AgentDown });
    bench.check();
    assert_eq!(missing(&bench), BTreeMap::new());
}

#[test]
fn a_link_that_leads_elsewhere_is_found_without_its_inode() {
    let mut bench = Bench::new();
    bench.telling(|root| std::os::unix::fs::symlink("here", root.join("s")).unwrap());
    drop(bench.agent.take());
    fs::remove_file(bench.path("s")).unwrap();
    std::os::unix::fs::symlink("away", bench.path("s")).unwrap();
    let (entries, next) = namespace(&bench, false, true);
    let (index, _) = Index::open(&bench.index_path()).unwrap();
    let index = index.rebuild(entries.into_iter(), next).unwrap();
    bench.start_with(index, Start::Rescan { cause: GapCause::AgentDown });
    bench.check();
    bench.stop();
}
