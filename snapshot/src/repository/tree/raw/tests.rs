//! Raw trees say what read ones say: by random trees against the reader of whole nodes.

use super::*;
use crate::repository::testing::Random;
use crate::repository::tree::{NodeKind, TreeBuilder, read_tree};
use std::collections::BTreeMap;

fn json_of(nodes: &BTreeMap<Vec<u8>, Node>) -> Vec<u8> {
    let mut builder = TreeBuilder::new();
    nodes.values().for_each(|node| builder.add(node).unwrap());
    builder.finish().to_vec()
}

/// Names with everything that is quoted in some way.
fn name(random: &mut Random) -> Vec<u8> {
    const PARTS: [&[u8]; 8] =
        [b"a", b"bb", b"\"", b"\\", b"\xff\xfe", b"\n", "ä".as_bytes(), b"{\"name\":\"x\"}"];
    let count = 1 + random.below(3);
    (0..count).flat_map(|_| PARTS[random.below(8) as usize].iter().copied()).collect()
}

fn node(random: &mut Random, name: Vec<u8>) -> Node {
    let size = random.below(3);
    let content = (0..size).map(|at| Id([at as u8; 32])).collect();
    match random.below(4) {
        0 => Node { name, kind: NodeKind::Directory, subtree: Some(Id([size as u8; 32])), ..Node::default() },
        1 => Node { name, kind: NodeKind::Symlink, link_target: b"to\xff\"".to_vec(), ..Node::default() },
        _ => Node { name, size, content, ..Node::default() },
    }
}

#[test]
fn differences_are_those_of_read_trees() {
    let mut random = Random::from_clock("raw trees");
    let mut seen = 0;
    for _ in 0..300 {
        let mut old = BTreeMap::new();
        for _ in 0..random.below(12) {
            let name = name(&mut random);
            old.insert(name.clone(), node(&mut random, name));
        }
        let mut new = old.clone();
        for _ in 0..random.below(4) {
            let name = name(&mut random);
            if random.below(3) == 0 {
                new.remove(&name);
            } else {
                new.insert(name.clone(), node(&mut random, name));
            }
        }
        let mut expected = Vec::new();
        let all: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in all.into_iter().filter(|name| old.get(*name) != new.get(*name)) {
            expected.push((old.get(name).cloned(), new.get(name).cloned()));
        }
        let (old_json, new_json) = (json_of(&old), json_of(&new));
        let raw = |json| RawTree::new(&Id([1; 32]), json).unwrap();
        let mut found = Vec::new();
        compare_trees(Some(&raw(&old_json)), Some(&raw(&new_json)), &mut |before, after| {
            found.push((before, after));
            true
        })
        .unwrap();
        assert_eq!(found, expected);
        seen += found.len();
        let mut alone = 0;
        compare_trees(None, Some(&raw(&new_json)), &mut |before, after| {
            assert!(before.is_none() && after.is_some());
            alone += 1;
            true
        })
        .unwrap();
        assert_eq!(alone, new.len());
    }
    // About as many as rounds; only that there were some must not depend on the seed.
    assert!(seen > 100, "{seen}");
}

#[test]
fn copied_nodes_are_the_same_bytes() {
    let mut random = Random::from_clock("raw trees");
    for _ in 0..100 {
        let mut nodes = BTreeMap::new();
        for _ in 0..random.below(12) {
            let name = name(&mut random);
            nodes.insert(name.clone(), node(&mut random, name));
        }
        let json = json_of(&nodes);
        let raw = RawTree::new(&Id([1; 32]), &json).unwrap();
        let mut copied = TreeBuilder::new();
        for (raw, (name, node)) in raw.nodes().zip(&nodes) {
            assert_eq!(raw.name(), name.as_slice());
            assert_eq!(raw.read().unwrap(), *node);
            copied.add_raw(raw).unwrap();
        }
        assert_eq!(copied.finish(), json.as_slice());
        let found = FoundTree::new(&Id([1; 32]), json.clone()).unwrap();
        assert_eq!((found.bytes(), found.nodes().count()), (json.len(), nodes.len()));
        for (found, raw) in found.nodes().zip(raw.nodes()) {
            let found = found.unwrap();
            assert_eq!((found.name(), found.text(), found.index), (raw.name(), raw.text(), raw.index));
            assert_eq!(found.read().unwrap(), raw.read().unwrap());
        }
    }
}

/// Another order is put in order; the reader of whole nodes takes it too.
#[test]
fn any_order() {
    let json = br#"{"nodes":[{"name":"b","type":"file"}, {"type":"file","name":"a"}]}"#;
    let raw = RawTree::new(&Id([1; 32]), json).unwrap();
    let names: Vec<_> = raw.nodes().map(|node| node.name().to_vec()).collect();
    assert_eq!(names, [b"a".to_vec(), b"b".to_vec()]);
    let found = FoundTree::new(&Id([1; 32]), json.to_vec()).unwrap();
    let found: Vec<_> =
        found.nodes().map(|node| node.map(|node| (node.name().to_vec(), node.index))).collect();
    assert_eq!(
        found.into_iter().map(Result::unwrap).collect::<Vec<_>>(),
        [(b"a".to_vec(), 1), (b"b".to_vec(), 0)]
    );
    let mut builder = TreeBuilder::new();
    raw.nodes().for_each(|node| builder.add_raw(node).unwrap());
    let last = raw.nodes().next().unwrap();
    assert!(matches!(builder.add_raw(last), Err(RepositoryError::NodeRefused { .. })));
    let mut count = 0;
    let json = builder.finish().to_vec();
    read_tree(&Id([1; 32]), &json, &mut |_| {
        count += 1;
        true
    })
    .unwrap();
    assert_eq!(count, 2);
}

#[test]
fn hostile_trees() {
    let refused = [
        r#"{"nodes":[{"name":"a","type":"file"},{"name":"b","type":"file"},{"name":"a","type":"dir"}]}"#,
        r#"{"nodes":[{"name":"a","type":"file"},{"name":"\u0061","type":"file"}]}"#,
        r#"{"nodes":[{"name":"..","type":"file"}]}"#,
        r#"{"nodes":[{"name":"a/b","type":"file"}]}"#,
        r#"{"nodes":[{"name":"","type":"file"}]}"#,
        r#"{"nodes":[{"name":"\\q","type":"file"}]}"#,
        r#"{"nodes":[{"type":"file"}]}"#,
        r#"{"nodes":[{"name":"a"]}"#,
        r#"{"nodes":[1]}"#,
        r#"{"nodes":{}}"#,
        r#"{"nodes":[]}}"#,
        "{}",
        r#"{"nodes":[],"nodes":[]}"#,
        "{\"nodes\":[{\"name\":\"\u{0}\",\"type\":\"file\"}]}",
    ];
    for json in refused {
        assert!(RawTree::new(&Id([1; 32]), json.as_bytes()).is_err(), "{json}");
        assert!(FoundTree::new(&Id([1; 32]), json.into()).is_err(), "{json}");
    }
    assert_eq!(RawTree::new(&Id([1; 32]), br#"{"nodes":null}"#).unwrap().nodes().count(), 0);
    // What is not read is not judged; reading it is.
    let odd = br#"{"nodes":[{"name":"a","type":"dir"}]}"#;
    let raw = RawTree::new(&Id([1; 32]), odd).unwrap();
    assert!(raw.nodes().next().unwrap().read().is_err());
}
