//! Bisection over points against looking at all of them; old paths of renames against the trees of a random history.

use super::*;
use crate::testing::{Chaos, World};
use journal::controls::Controls;
use journal::record::Control;
use journal::state::{PointKind, rows};
use journal::tables::MemoryTables;
use journal::{NodeId, Provenance, RootNo};
use std::collections::BTreeMap;

fn point_row(time: Timestamp) -> PointRow {
    PointRow {
        time,
        kind: PointKind::Marker,
        root: RootNo(0),
        path: Vec::new(),
        from: None,
        bytes: 0,
        provenance: Provenance::Derived,
        class: Class::Fuzzy,
    }
}

fn point(tables: &MemoryTables, lsn: Lsn, time: i64) {
    let row = point_row(Timestamp(time));
    tables.commit(vec![(Space::Points, lsn.to_key().to_vec(), Some(rows::write(&row)))]).unwrap();
}

#[test]
fn times() {
    let tables = MemoryTables::default();
    // Equal times, a hole, and a local branch whose times run ahead.
    let points: Vec<(u64, i64)> =
        (10..90).filter(|n| !(40..45).contains(n)).map(|n| (n, (n as i64 / 3) * 10)).collect();
    for (n, time) in &points {
        point(&tables, Lsn::captured(*n), *time);
    }
    for k in 1..20 {
        point(&tables, Lsn::local(30, k), 5000);
    }
    let all = Points::new(&tables, Lsn::captured(10), Lsn::captured(89));
    for time in 0..400 {
        let expected = points.iter().rev().find(|(_, found)| *found <= time).map(|(n, _)| Lsn::captured(*n));
        assert_eq!(all.at_time(Timestamp(time)).ok().map(|found| found.lsn), expected, "{time}");
    }
    // Only what is applied and not dropped.
    let part = Points::new(&tables, Lsn::local(30, 4), Lsn::captured(50));
    assert!(part.at_time(Timestamp(99)).is_err());
    assert_eq!(part.at_time(Timestamp(9999)).unwrap().lsn, Lsn::captured(50));
    assert_eq!(part.at_time(Timestamp(103)).unwrap().lsn, Lsn::captured(32));
}

#[test]
fn numbers_and_names() {
    let tables = MemoryTables::default();
    point(&tables, Lsn::captured(5), 7);
    point(&tables, Lsn::local(5, 1), 8);
    let points = Points::new(&tables, Lsn::captured(5), Lsn::local(5, 1));
    assert_eq!(points.at(Lsn::local(5, 1)).unwrap().time, Timestamp(8));
    for missing in [Lsn::captured(4), Lsn::local(5, 2), Lsn::captured(6)] {
        assert!(matches!(points.at(missing), Err(RestoreError::NoSuchPoint { .. })), "{missing}");
    }
    let mut controls = Controls::default();
    let set = Control::BookmarkSet {
        name: "monday".to_owned(),
        captured: 5,
        local: 1,
        class: Class::Application,
        automatic: false,
        time: Timestamp(8),
    };
    controls.control(&set, Default::default());
    let found = Points::bookmark(&controls, "monday").unwrap();
    assert_eq!(found, Resolved { lsn: Lsn::local(5, 1), time: Timestamp(8), class: Class::Application });
    assert!(Points::bookmark(&controls, "tuesday").is_err());
}

/// Paths of a node, of the nodes that have exactly one.
fn single(nodes: &BTreeMap<Vec<u8>, NodeId>) -> BTreeMap<NodeId, Vec<u8>> {
    let mut paths = BTreeMap::<NodeId, Vec<&Vec<u8>>>::new();
    for (path, node) in nodes {
        paths.entry(*node).or_default().push(path);
    }
    paths.into_iter().filter(|(_, all)| all.len() == 1).map(|(node, all)| (node, all[0].clone())).collect()
}

/// Whatever happens later, each rename of a random history is told with the path that the tree had then.
#[test]
fn old_paths_of_renames() {
    const ROOT: RootNo = RootNo(0);
    let split = |path: &[u8]| {
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        (path[..at].to_vec(), path[at..].to_vec())
    };
    let (mut renames, mut moves, mut below) = (0, 0, 0);
    for seed in 0..8 {
        let world = World::new(1);
        let mut chaos = Chaos::new(seed);
        let mut lsns = vec![Lsn::ZERO];
        lsns.extend((0..120).map(|_| chaos.step(&world)));
        lsns.dedup();
        for pair in lsns.windows(2) {
            let (before, lsn) = (world.view_at(pair[0]), world.view_at(pair[1]));
            let (old, new) = (single(&world.nodes(&before, ROOT)), single(&world.nodes(&lsn, ROOT)));
            for (node, path) in &new {
                let mut row = point_row(Timestamp(0));
                (row.kind, row.path) = (PointKind::Renamed, path.clone());
                let found = old_path(&world, pair[1], &row).unwrap();
                let Some(was) = old.get(node) else { continue };
                let ((above, name), (new_above, new_name)) = (split(was), split(path));
                let parent = |nodes: &BTreeMap<NodeId, Vec<u8>>, above: &[u8]| {
                    let path = above.strip_suffix(b"/").unwrap_or(above);
                    nodes.iter().find(|(_, found)| *found == path).map(|(node, _)| *node)
                };
                let moved = parent(&old, &above) != parent(&new, &new_above);
                let context = format!("seed {seed}, {}: {was:?} to {path:?}", pair[1]);
                if moved || name != new_name {
                    assert_eq!(found.as_ref(), Some(was), "{context}");
                    renames += 1;
                    moves += usize::from(moved);
                } else {
                    assert_eq!(found, None, "{context}");
                    below += usize::from(was != path);
                }
            }
        }
    }
    println!("{renames} renames, {moves} to other directories, {below} objects below them");
    assert!(renames > 100 && moves > 30 && below > 10, "{renames} renames, {moves} moves, {below} below");
}
