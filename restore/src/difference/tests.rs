//! Lists are checked against the trees at both points: every object that differs is accounted for, none is made up.

use super::*;
use crate::monitor::NoMonitor;
use crate::rewind::ReplicaControl;
use crate::scope::{PathFilter, Scope};
use crate::testing::{Chaos, MemTree, Snapshot, World};
use journal::state::PointKind;
use journal::{Lsn, NodeId, RootNo};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

const ROOT: RootNo = RootNo(0);

fn list(world: &World, from: Lsn, to: Lsn, scope: &Scope) -> (Vec<Entry>, Totals) {
    let (from, to) = (world.view_at(from), world.view_at(to));
    let difference = between(&from, &to, &NoMonitor).unwrap();
    let mut entries = Vec::new();
    let totals = super::list(&difference, scope, &NoMonitor, &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    });
    (entries, totals.unwrap())
}

type Nodes = BTreeMap<Vec<u8>, NodeId>;

/// The path, or one above it, that an entry of this list has.
fn above<'p>(path: &'p [u8], entries: &'p [&Entry]) -> bool {
    entries.iter().any(|entry| {
        entry.path == path || entry.directory && path.starts_with(&[&entry.path[..], b"/"].concat())
    })
}

fn check(entries: &[Entry], from: (&Nodes, &Snapshot), to: (&Nodes, &Snapshot), context: &str) {
    let key = |entry: &Entry| {
        let parts: Vec<Vec<u8>> = entry.path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        (parts, entry.kind != PointKind::Removed)
    };
    for pair in entries.windows(2) {
        assert!(key(&pair[0]) < key(&pair[1]), "{context}: {pair:?}");
    }
    let renamed: Vec<&Entry> = entries.iter().filter(|entry| entry.from.is_some()).collect();
    for entry in entries {
        let (before, after) = (from.0.get(&entry.path), to.0.get(&entry.path));
        match entry.kind {
            PointKind::Created => {
                assert!(after == Some(&entry.node) && before != after, "{context}: {entry:?}")
            }
            PointKind::Removed => {
                assert!(before == Some(&entry.node) && before != after, "{context}: {entry:?}")
            }
            _ => assert_eq!(after, Some(&entry.node), "{context}: {entry:?}"),
        }
        if let Some(old) = &entry.from {
            assert_eq!(from.0.get(old), Some(&entry.node), "{context}: {entry:?}");
        }
    }
    let of = |kind: PointKind| entries.iter().filter(move |entry| entry.kind == kind);
    let created: Vec<&Entry> = of(PointKind::Created).collect();
    // What is new under its path is created, or came with a renamed directory, or is renamed itself.
    for (path, node) in to.0 {
        if from.0.get(path) != Some(node) {
            let known = created.iter().any(|entry| entry.path == *path && entry.node == *node);
            assert!(known || above(path, &renamed), "{context}: {} is new", String::from_utf8_lossy(path));
        }
    }
    let removed: Vec<&Entry> = of(PointKind::Removed).collect();
    let renamed_from: Vec<Entry> =
        renamed.iter().map(|entry| Entry { path: entry.from.clone().unwrap(), ..(*entry).clone() }).collect();
    let renamed_from: Vec<&Entry> = renamed_from.iter().collect();
    for (path, node) in from.0 {
        if to.0.get(path) != Some(node) {
            let known = removed.iter().any(|entry| entry.path == *path && entry.node == *node);
            assert!(
                known || above(path, &renamed_from),
                "{context}: {} is gone",
                String::from_utf8_lossy(path)
            );
        }
    }
    // What both have: bytes and metadata.
    let mut nodes: BTreeMap<NodeId, (&Vec<u8>, Option<&Vec<u8>>)> = BTreeMap::new();
    for (path, node) in from.0 {
        nodes.entry(*node).or_insert((path, None));
    }
    for (path, node) in to.0 {
        if let Some(found) = nodes.get_mut(node) {
            found.1 = Some(path);
        }
    }
    for (node, (old, new)) in nodes {
        let Some(new) = new else { continue };
        let mut names = to.0.iter().filter(|(_, found)| **found == node).map(|(path, _)| path);
        if names.all(|path| created.iter().any(|entry| entry.path == *path)) {
            // A link whose other names went with their directory.
            continue;
        }
        let (before, after) = (&from.1[old], &to.1[new]);
        let entry = entries.iter().find(|entry| {
            entry.node == node && !matches!(entry.kind, PointKind::Created | PointKind::Removed)
        });
        let kind = entry.map(|entry| entry.kind);
        if before.data != after.data {
            assert_eq!(kind, Some(PointKind::Modified), "{context}: {node}");
            let bytes = entry.unwrap().bytes;
            assert!(
                bytes > 0 && bytes <= before.data.len().max(after.data.len()) as u64,
                "{context}: {entry:?}"
            );
        } else {
            assert_ne!(kind, Some(PointKind::Modified), "{context}: {node}");
            let same = before.attributes == after.attributes && before.xattrs == after.xattrs;
            assert!(same || kind.is_some(), "{context}: {node} has other metadata");
            assert!(!same || kind != Some(PointKind::Attributes), "{context}: {node}");
        }
    }
}

#[test]
fn lists_what_differs_between_any_two_points() {
    for seed in 0..60 {
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for _ in 0..70 {
            chaos.step(&world);
        }
        for _ in 0..12 {
            let lsns = world.lsns();
            let mut pick = || lsns[chaos.below(lsns.len() as u64) as usize];
            let (from, to) = (pick(), pick());
            let context = format!("seed {seed}, {from} to {to}");
            let (entries, totals) = list(&world, from, to, &Scope::all());
            let nodes = |lsn| world.nodes(&world.view_at(lsn), ROOT);
            let (nodes_from, nodes_to) = (nodes(from), nodes(to));
            let (tree_from, tree_to) = (world.snapshot(from, ROOT), world.snapshot(to, ROOT));
            check(&entries, (&nodes_from, &tree_from), (&nodes_to, &tree_to), &context);
            let sum = totals.created + totals.modified + totals.renamed + totals.removed + totals.attributes;
            assert_eq!(sum, entries.len() as u64);
            assert_eq!(totals.files, entries.iter().filter(|entry| !entry.directory).count() as u64);
        }
    }
}

#[test]
fn lists_no_more_than_the_paths_asked_for() {
    for seed in 0..40 {
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for _ in 0..70 {
            chaos.step(&world);
        }
        let lsns = world.lsns();
        let (from, to) = (lsns[chaos.below(35) as usize], lsns[35 + chaos.below(35) as usize]);
        let (tree_from, tree_to) = (world.snapshot(from, ROOT), world.snapshot(to, ROOT));
        let paths: Vec<&Vec<u8>> = tree_from.keys().chain(tree_to.keys()).collect();
        let path = paths[chaos.below(paths.len() as u64) as usize].clone();
        let inside =
            |found: &[u8]| path.is_empty() || found == path || found.starts_with(&[&path[..], b"/"].concat());
        let scope = Scope::new(&[PathFilter::new(ROOT, &path).unwrap()]);
        let (entries, _) = list(&world, from, to, &scope);
        let part = |lsn| -> (Nodes, Snapshot) {
            let keep_nodes =
                world.nodes(&world.view_at(lsn), ROOT).into_iter().filter(|(path, _)| inside(path));
            let tree = world.snapshot(lsn, ROOT).into_iter().filter(|(path, _)| inside(path));
            (keep_nodes.collect(), tree.collect())
        };
        let ((nodes_from, tree_from), (nodes_to, tree_to)) = (part(from), part(to));
        let context = format!("seed {seed}, {from} to {to}, {}", String::from_utf8_lossy(&path));
        assert!(entries.iter().all(|entry| inside(&entry.path)), "{context}");
        check(&entries, (&nodes_from, &tree_from), (&nodes_to, &tree_to), &context);
    }
}

#[test]
fn costs_follow_what_changed() {
    let (world, mut chaos) = (World::new(1), Chaos::new(1));
    for _ in 0..300 {
        chaos.step(&world);
    }
    let newest = world.applied();
    let (from, to): (View<MemTree>, _) = (world.view_at(newest), world.view_at(newest));
    let difference = between(&from, &to, &NoMonitor).unwrap();
    assert!(difference.names().is_empty() && difference.nodes().is_empty() && difference.files().is_empty());
    let before = world.view_at(Lsn::captured(newest.captured - 1));
    let difference = between(&before, &to, &NoMonitor).unwrap();
    assert!(difference.names().len() <= 3 && difference.nodes().len() <= 3 && difference.files().len() <= 1);
}
