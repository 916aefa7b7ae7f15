//! Digests by themselves.

use super::{Digest, NodeFacts, kind_hash, xattrs_hash};
use crate::id::{Edge, Name, NodeId};
use crate::meta::{Kind, Timestamp};

fn edge(parent: u64, name: &[u8]) -> Edge {
    Edge::new(NodeId(parent), Name::new(name).unwrap())
}

#[test]
fn order_does_not_matter_and_what_goes_is_as_if_it_had_never_been() {
    let entries: Vec<Digest> =
        (0..50).map(|n| Digest::of_name(&edge(2, format!("n{n}").as_bytes()), NodeId(5000 + n))).collect();
    let forth = entries.iter().fold(Digest::default(), |sum, entry| sum.plus(*entry));
    let back = entries.iter().rev().fold(Digest::default(), |sum, entry| sum.plus(*entry));
    assert_eq!(forth, back);
    let empty = entries.iter().fold(forth, |sum, entry| sum.minus(*entry));
    assert_eq!(empty, Digest::default());
    assert_eq!(Digest::from_bytes(&forth.to_bytes()), forth);
}

#[test]
fn every_field_counts() {
    let facts = NodeFacts {
        kind: kind_hash(&Kind::File),
        size: 1,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp(5),
        xattrs: xattrs_hash(&Vec::new()),
    };
    let one = |facts: NodeFacts| Digest::of_node(NodeId(5000), &facts);
    let others = [
        Digest::of_node(NodeId(5001), &facts),
        one(NodeFacts { kind: kind_hash(&Kind::Symlink(b"a".to_vec())), ..facts }),
        one(NodeFacts { kind: kind_hash(&Kind::Symlink(b"b".to_vec())), ..facts }),
        one(NodeFacts { size: 2, ..facts }),
        one(NodeFacts { mode: 0o600, ..facts }),
        one(NodeFacts { uid: 1, ..facts }),
        one(NodeFacts { gid: 1, ..facts }),
        one(NodeFacts { mtime: Timestamp(6), ..facts }),
        one(NodeFacts { xattrs: xattrs_hash(&vec![(b"a".to_vec(), b"bc".to_vec())]), ..facts }),
        one(NodeFacts { xattrs: xattrs_hash(&vec![(b"ab".to_vec(), b"c".to_vec())]), ..facts }),
        Digest::of_name(&edge(2, b"x"), NodeId(5000)),
        Digest::of_name(&edge(2, b"y"), NodeId(5000)),
        Digest::of_name(&edge(4, b"x"), NodeId(5000)),
        one(facts),
    ];
    let different: std::collections::HashSet<Digest> = others.into_iter().collect();
    assert_eq!(different.len(), others.len());
}

/// The bytes are compared between hosts of different versions: they never change.
#[test]
fn entries_are_frozen() {
    let name = Digest::of_name(&edge(2, b"name"), NodeId(5000));
    let facts = NodeFacts {
        kind: kind_hash(&Kind::Directory),
        size: 0,
        mode: 0o755,
        uid: 1,
        gid: 2,
        mtime: Timestamp(3),
        xattrs: xattrs_hash(&vec![(b"user.a".to_vec(), b"b".to_vec())]),
    };
    let node = Digest::of_node(NodeId(5000), &facts);
    assert_eq!(name.to_string(), "33e1841001b062a7c8b9a47e394a250eacd2266e552af94795f32b54023df44f");
    assert_eq!(node.to_string(), "0293d40c7189a7807933e24ac5157a8d53af66c651099a0b56cfb14ea93c5bb2");
    assert_eq!(
        name.plus(node).to_string(),
        "3574591d72390a2841ed86c9fe5f9f9bff818d34a7339353ebc2dda2ab794f02"
    );
}
