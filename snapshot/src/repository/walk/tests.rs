//! Walks visit what they should, and end.

use super::*;
use crate::repository::testing::fresh;
use crate::repository::{BlobWriter, NodeKind, RepositoryErrorKind, TreeBuilder, WriterOptions};
use std::sync::Arc;

fn node(name: &[u8], subtree: Option<Id>) -> Node {
    let kind = if subtree.is_some() { NodeKind::Directory } else { NodeKind::File };
    Node { name: name.to_vec(), kind, subtree, ..Node::default() }
}

fn save(writer: &BlobWriter, nodes: &[(&[u8], Option<Id>)]) -> Id {
    let mut tree = TreeBuilder::new();
    for (name, subtree) in nodes {
        tree.add(&node(name, *subtree)).unwrap();
    }
    writer.save_tree(&mut tree).unwrap().id
}

fn paths(repository: &Repository, root: &Id, step: impl Fn(&str) -> Step) -> (Vec<String>, bool) {
    let mut found = Vec::new();
    let ended = repository
        .walk(root, &mut |path, node| {
            let path = String::from_utf8(path.to_vec()).unwrap();
            assert!(path.ends_with(std::str::from_utf8(&node.name).unwrap()));
            let step = step(&path);
            found.push(path);
            step
        })
        .unwrap();
    (found, ended)
}

#[test]
fn order_and_steps() {
    let (_store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let empty = save(&writer, &[]);
    let leaf = save(&writer, &[(b"x", None), (b"y", Some(empty))]);
    let b = save(&writer, &[(b"1", Some(leaf)), (b"2", None)]);
    let root = save(&writer, &[(b"a", Some(leaf)), (b"b", Some(b)), (b"c", None), (b"d", Some(empty))]);
    writer.flush().unwrap();
    let all = ["a", "b", "c", "d", "a/x", "a/y", "b/1", "b/2", "b/1/x", "b/1/y"];
    assert_eq!(paths(&repository, &root, |_| Step::Into), (all.map(String::from).to_vec(), true));
    let over = paths(&repository, &root, |path| if path == "b" { Step::Over } else { Step::Into });
    assert_eq!(over, (all[..6].iter().map(ToString::to_string).collect(), true));
    let stop = paths(&repository, &root, |path| if path == "a/x" { Step::Stop } else { Step::Into });
    assert_eq!(stop, (all[..5].iter().map(ToString::to_string).collect(), false));
    assert_eq!(paths(&repository, &empty, |_| Step::Into), (vec![], true));
}

/// Trees that are deep, or that stand for more paths than anybody can count: an error, or as far as the caller wants.
#[test]
fn hostile_trees() {
    let (_store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let mut deep = save(&writer, &[]);
    for _ in 0..=TREE_DEPTH_MAX {
        deep = save(&writer, &[(b"d", Some(deep))]);
    }
    let mut wide = save(&writer, &[]);
    let mut long = save(&writer, &[]);
    for _ in 0..64 {
        wide = save(&writer, &[(b"a", Some(wide)), (b"b", Some(wide))]);
        long = save(&writer, &[(&[b'n'; 4096], Some(long))]);
    }
    writer.flush().unwrap();
    for root in [deep, long] {
        let error = repository.walk(&root, &mut |_, _| Step::Into).unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::Refused, "{error}");
    }
    let mut count = 0;
    let ended = repository.walk(&wide, &mut |_, _| {
        count += 1;
        if count == 10_000 { Step::Stop } else { Step::Into }
    });
    assert!(!ended.unwrap());
    let gone = repository.walk(&Id::of(b"nothing"), &mut |_, _| Step::Into).unwrap_err();
    assert_eq!(gone.kind(), RepositoryErrorKind::NotFound);
}
