//! Extractions are compared with snapshots of the tree at the point.

use super::*;
use crate::error::ErrorKind;
use crate::monitor::{NoMonitor, Phase};
use crate::rewind::ReplicaControl;
use crate::testing::{Chaos, MemTree, Seen, Snapshot, World, cut};
use bytes::Bytes;
use journal::{Attributes, Edge, Event, Kind, Lsn, Meta, NodeId, Payload, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};

const ROOT: RootNo = RootNo(0);

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn options(paths: Vec<PathFilter>) -> ExtractOptions {
    ExtractOptions {
        roots: layout(&[(ROOT, Path::new("/srv/data"))]),
        paths,
        directory: PathBuf::from("/target"),
        token: "job-7".to_owned(),
        again: false,
        writers: 2,
    }
}

fn create(node: u64, parent: NodeId, text: &str, kind: Kind) -> Event {
    let attributes =
        Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp(node as i64), ctime: Timestamp(1) };
    let meta = Meta { kind, size: 0, attributes, xattrs: Vec::new() };
    Event::Create {
        node: NodeId(node),
        at: Edge::new(parent, name(text)),
        meta,
        origin: None,
        parent_mtime: None,
    }
}

#[test]
fn any_point_while_apply_goes_on() {
    for seed in 0..40 {
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for _ in 0..80 {
            chaos.step(&world);
        }
        let lsns = world.lsns();
        let lsn = lsns[chaos.below(lsns.len() as u64) as usize];
        let view = world.view_at(lsn);
        for _ in 0..10 {
            chaos.step(&world);
        }
        let target = MemTree::new(1);
        let report = extract(&view, &target, &options(Vec::new()), &NoMonitor).unwrap();
        let expected = world.snapshot(lsn, ROOT);
        assert_eq!(target.snapshot(ROOT), expected, "seed {seed} at {lsn}");
        assert_eq!(report.files + report.directories + report.others + report.links, expected.len() as u64);
        assert!(target.syncs() > 0 && report.skipped_count == 0);
    }
}

#[test]
fn a_path_with_the_directories_above_it() {
    for seed in 0..40 {
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for _ in 0..80 {
            chaos.step(&world);
        }
        let lsn = world.applied();
        let view = world.view_at(lsn);
        let tree = world.snapshot(lsn, ROOT);
        let paths: Vec<&Vec<u8>> = tree.keys().collect();
        let path = paths[chaos.below(paths.len() as u64) as usize].clone();
        let filter = PathFilter::new(ROOT, &path).unwrap();
        let target = MemTree::new(1);
        extract(&view, &target, &options(vec![filter]), &NoMonitor).unwrap();
        let made = target.snapshot(ROOT);
        assert_eq!(cut(&made, &path), cut(&tree, &path), "seed {seed}");
        for (above, seen) in &made {
            let wanted = above.starts_with(&path) || path.starts_with(above);
            assert!(wanted, "seed {seed}: {}", String::from_utf8_lossy(above));
            assert_eq!(seen.attributes, tree[above].attributes, "seed {seed}");
        }
    }
}

#[test]
fn what_is_not_there_or_in_the_way_is_refused() {
    let (world, mut chaos) = (World::new(1), Chaos::new(2));
    for _ in 0..30 {
        chaos.step(&world);
    }
    let view = world.view_at(world.applied());
    let target = MemTree::new(1);
    let missing = options(vec![PathFilter::new(ROOT, b"no/such").unwrap()]);
    assert_eq!(extract(&view, &target, &missing, &NoMonitor).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(target.list(&2).unwrap().is_empty(), "nothing was made");
    target.create(&2, &name("mine"), &Kind::Directory).unwrap();
    for again in [false, true] {
        let refused = ExtractOptions { again, ..options(Vec::new()) };
        let error = extract(&view, &target, &refused, &NoMonitor).unwrap_err();
        assert!(matches!(error, RestoreError::NotEmpty { .. }));
    }
    discard_unfinished(&target, "job-7").unwrap();
    assert_eq!(target.list(&2).unwrap(), [name("mine")]);
}

/// Cancels after so many questions.
struct Impatient(AtomicU64);

impl Monitor for Impatient {
    fn progress(&self, _: Phase, _: u64, _: Option<u64>) {}

    fn cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn interrupted_anywhere_and_made_again() {
    let (world, mut chaos) = (World::new(1), Chaos::new(11));
    for _ in 0..60 {
        chaos.step(&world);
    }
    let many = (0..30).map(|n| create(20_000 + n, NodeId::root(ROOT), &format!("many-{n}"), Kind::Fifo));
    world.capture(ROOT, many.collect());
    let lsn = world.applied();
    let view = world.view_at(lsn);
    let target = MemTree::new(1);
    let mut interrupted = 0;
    for patience in 0..500 {
        let again = ExtractOptions { again: patience > 0, ..options(Vec::new()) };
        match extract(&view, &target, &again, &Impatient(AtomicU64::new(patience))) {
            Err(RestoreError::Cancelled) => interrupted += 1,
            Err(error) => panic!("{error:?}"),
            Ok(_) => break,
        }
        let other = ExtractOptions { token: "job-8".to_owned(), ..again };
        let error = extract(&view, &target, &other, &NoMonitor).unwrap_err();
        assert!(matches!(error, RestoreError::NotEmpty { .. }), "another job");
    }
    assert!(interrupted > 10, "{interrupted}");
    assert_eq!(target.snapshot(ROOT), world.snapshot(lsn, ROOT));

    let target = MemTree::new(1);
    extract(&view, &target, &options(Vec::new()), &Impatient(AtomicU64::new(9))).unwrap_err();
    discard_unfinished(&target, "job-7").unwrap();
    assert!(target.list(&2).unwrap().is_empty());
}

#[test]
fn several_roots_and_devices_without_privilege() {
    let world = World::new(2);
    world.capture(ROOT, vec![create(5000, NodeId::root(ROOT), "disk", Kind::BlockDevice(8))]);
    world.capture(RootNo(1), vec![create(5001, NodeId::root(RootNo(1)), "pipe", Kind::Fifo)]);
    let view = world.view_at(world.applied());
    let mut target = MemTree::new(1);
    target.refuse_devices = true;
    let roots = layout(&[(ROOT, Path::new("/srv/data")), (RootNo(1), Path::new("/home/data"))]);
    let report =
        extract(&view, &target, &ExtractOptions { roots, ..options(Vec::new()) }, &NoMonitor).unwrap();
    let made: Vec<Vec<u8>> = target.snapshot(ROOT).into_keys().collect();
    assert_eq!(made, [&b""[..], b"data", b"data.1", b"data.1/pipe"]);
    let skipped = Skipped { path: b"data/disk".to_vec(), what: "device", errno: 1 };
    assert_eq!((report.skipped, report.skipped_count), (vec![skipped], 1));
}

#[test]
fn very_deep_trees_and_many_links() {
    let world = World::new(1);
    let mut parent = NodeId::root(ROOT);
    let mut events = Vec::new();
    for depth in 0..300 {
        events.push(create(10_000 + depth, parent, &"d".repeat(255), Kind::Directory));
        parent = NodeId(10_000 + depth);
        events.push(create(20_000 + depth, parent, "pipe", Kind::Fifo));
    }
    events.push(create(30_000, parent, "file", Kind::File));
    let data = Payload::Inline(Bytes::from_static(b"deep down"));
    events.push(Event::Write { node: NodeId(30_000), offset: 100_000, data, before: None });
    for number in 0..50 {
        let at = Edge::new(NodeId(10_000 + number * 5), name("link"));
        events.push(Event::Link { node: NodeId(30_000), at, parent_mtime: None });
    }
    world.capture(ROOT, events);
    let view = world.view_at(world.applied());
    let target = MemTree::new(1);
    let report = extract(&view, &target, &options(Vec::new()), &NoMonitor).unwrap();
    let drop_root = |mut tree: Snapshot| {
        let _: Option<Seen> = tree.remove(b"".as_slice());
        tree
    };
    assert_eq!(drop_root(target.snapshot(ROOT)), drop_root(world.snapshot(Lsn::captured(1), ROOT)));
    assert_eq!((report.files, report.links, report.bytes_written), (1, 50, 9));
}
