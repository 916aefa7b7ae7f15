//! Plans are compared with what was there: snapshots of the tree itself at every LSN.

use super::*;
use crate::error::{ErrorKind, RestoreError};
use crate::monitor::{Monitor, NoMonitor, Phase};
use crate::scope::PathFilter;
use crate::testing::{Chaos, World, cut, without};
use journal::{Attributes, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Payload, RootNo, Timestamp};

const ROOT: RootNo = RootNo(0);

fn to(world: &World, lsn: Lsn) -> RewindReport {
    rewind_replica(world, lsn, &RewindOptions::default(), &NoMonitor).unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn create(node: NodeId, at: Edge, kind: Kind) -> Event {
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp(1), ctime: Timestamp(1) };
    let meta = Meta { kind, size: 0, attributes, xattrs: Vec::new() };
    Event::Create { node, at, meta, origin: None, parent_mtime: None }
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("REWIND_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let first = std::env::var("REWIND_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    first..first + count
}

#[test]
fn back_to_any_point_and_forth() {
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for round in 0..4 {
            for _ in 0..25 {
                chaos.step(&world);
            }
            let captured = world.applied();
            let kept = world.tree.kept_snapshot(ROOT);
            for _ in 0..4 {
                let lsns = world.lsns();
                let lsn = lsns[chaos.below(lsns.len() as u64) as usize];
                let report = to(&world, lsn);
                assert_eq!(
                    world.tree.snapshot(ROOT),
                    world.snapshot(lsn, ROOT),
                    "seed {seed} round {round} to {lsn}"
                );
                let now = world.view_at(world.applied());
                let then = world.view_at(lsn);
                let again = RewindPlan::new(&now, &then, &[], &NoMonitor).unwrap();
                assert!(again.captures().next().is_none(), "seed {seed} to {lsn}");
                assert_eq!(world.bookmarks()[&report.before].captured, captured.captured);
            }
            let report = return_to_capture(&world, &NoMonitor).unwrap();
            assert_eq!(report.captured, captured);
            assert_eq!(
                world.tree.snapshot(ROOT),
                world.snapshot(captured, ROOT),
                "seed {seed} back at {captured}"
            );
            // The capture may take back what it removed.
            assert_eq!(world.tree.kept_snapshot(ROOT), kept, "seed {seed}: removed before {captured}");
            assert!(!world.is_detached());
        }
    }
}

#[test]
fn a_path_alone() {
    let (mut blocked, mut kinds) = (0, Vec::new());
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for _ in 0..60 {
            chaos.step(&world);
        }
        let kept = world.tree.kept_snapshot(ROOT);
        for _ in 0..6 {
            let lsns = world.lsns();
            let lsn = lsns[chaos.below(lsns.len() as u64) as usize];
            let (then, before) = (world.snapshot(lsn, ROOT), world.tree.snapshot(ROOT));
            let choice: Vec<Vec<u8>> = then.keys().chain(before.keys()).cloned().collect();
            let count = 1 + chaos.below(2);
            let paths: Vec<Vec<u8>> =
                (0..count).map(|_| choice[chaos.below(choice.len() as u64) as usize].clone()).collect();
            let filters = paths.iter().map(|path| PathFilter::new(ROOT, path).unwrap()).collect();
            let options = RewindOptions { paths: filters, ..RewindOptions::default() };
            let shown: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
            let context = format!("seed {seed} to {lsn} paths {shown:?}");
            let report = match rewind_replica(&world, lsn, &options, &NoMonitor) {
                Ok(report) => report,
                Err(RestoreError::PathBlocked { .. }) => {
                    blocked += 1;
                    continue;
                }
                Err(error) => panic!("{context}: {error:?}"),
            };
            kinds.extend(report.notes.iter().map(|note| note.kind));
            let now = world.tree.snapshot(ROOT);
            let (mut outside_now, mut outside_before) = (now.clone(), before.clone());
            for path in &paths {
                assert_eq!(cut(&now, path), cut(&then, path), "{context}");
                outside_now = without(&outside_now, path);
                outside_before = without(&outside_before, path);
            }
            for note in report.notes.iter().filter(|note| note.kind == NoteKind::ParentMade) {
                assert!(outside_now.remove(&note.path).is_some(), "{context}");
            }
            assert_eq!(outside_now, outside_before, "{context}");
        }
        let captured = Lsn::captured(world.applied().captured);
        return_to_capture(&world, &NoMonitor).unwrap();
        assert_eq!(
            world.tree.snapshot(ROOT),
            world.snapshot(captured, ROOT),
            "seed {seed} back at {captured}"
        );
        assert_eq!(world.tree.kept_snapshot(ROOT), kept, "seed {seed}: removed before {captured}");
        for _ in 0..20 {
            chaos.step(&world);
        }
    }
    // All that the seeds are there for has come up.
    assert!(blocked > 0);
    for kind in [NoteKind::MovedOut, NoteKind::LinkCut, NoteKind::ParentMade] {
        let found = kinds.iter().filter(|found| **found == kind).count();
        println!("{kind:?}: {found}");
        assert!(found > 0, "{kind:?} was never tried");
    }
}

/// How often somebody was told how far it is: once for each batch that was read.
struct Batches(std::sync::atomic::AtomicU64);

impl Monitor for Batches {
    fn progress(&self, phase: Phase, _: u64, _: Option<u64>) {
        self.0.fetch_add(u64::from(phase == Phase::Rewind), std::sync::atomic::Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        false
    }
}

/// Changes that write no bytes have a weight, too: no batch is much longer than it may be.
#[test]
fn large_attributes_are_not_read_all_at_once() {
    const NODES: u64 = 12;
    let world = World::new(1);
    let node = |number| NodeId(1 << 40 | number);
    let set = |byte: u8| {
        let xattrs = vec![(b"user.long".to_vec(), vec![byte; 1 << 20])];
        (0..NODES).map(|number| Event::SetXattrs { node: node(number), xattrs: xattrs.clone() }).collect()
    };
    let named = |number| Edge::new(NodeId::root(ROOT), name(&format!("node-{number}")));
    world.capture(ROOT, (0..NODES).map(|number| create(node(number), named(number), Kind::Fifo)).collect());
    world.capture(ROOT, set(1));
    let lsn = world.applied();
    world.capture(ROOT, set(2));
    let batches = Batches(0.into());
    rewind_replica(&world, lsn, &RewindOptions::default(), &batches).unwrap();
    assert_eq!(world.tree.snapshot(ROOT), world.snapshot(lsn, ROOT));
    // Of 4 MiB each.
    assert!(batches.0.into_inner() >= 3);
}

/// Long undo is put back by saying where it lies. The world reads it there and holds it against the bytes.
#[test]
fn long_undo_is_referred_to() {
    let (world, node) = (World::new(1), NodeId(5000));
    let write = |offset: u64, byte: u8, bytes: usize| {
        // No page is like another.
        let data: Vec<u8> = (0..bytes).map(|n| byte.wrapping_add((n / 4096) as u8) | 1).collect();
        Event::Write { node, offset, data: Payload::Inline(data.into()), before: None }
    };
    let file = create(node, Edge::new(NodeId::root(ROOT), name("a")), Kind::File);
    let then = world.capture(ROOT, vec![file, write(0, 10, 300 << 10)]);
    // Of the second payload of undo only what lies behind the first counts, and of that not what is as it was.
    world.capture(ROOT, vec![write(0, 80, 32 << 10)]);
    world.capture(ROOT, vec![write(0, 150, 300 << 10)]);
    let as_it_was = write(0, 10, 48 << 10);
    world.capture(ROOT, vec![as_it_was]);
    let now = world.applied();
    let (present, past) = (world.view_at(now), world.view_at(then));
    let plan = RewindPlan::new(&present, &past, &[], &NoMonitor).unwrap();
    let captures: Vec<_> = plan.captures().collect::<Result<_, _>>().unwrap();
    let undone = captures.iter().flat_map(|capture| &capture.events).filter_map(|event| match event {
        Event::Write { offset, data: Payload::Undone { skip, bytes, .. }, .. } => {
            Some((*offset, *skip, *bytes))
        }
        _ => None,
    });
    assert_eq!(undone.collect::<Vec<_>>(), [(48 << 10, 48 << 10, 208 << 10), (256 << 10, 0, 44 << 10)]);
    for lsn in [then, now] {
        to(&world, lsn);
        assert_eq!(world.tree.snapshot(ROOT), world.snapshot(lsn, ROOT));
    }
}

#[test]
fn an_interrupted_rewind_is_planned_again() {
    let (world, mut chaos) = (World::new(1), Chaos::new(7));
    for _ in 0..10 {
        chaos.step(&world);
    }
    let lsn = world.applied();
    // Too many changes for one batch.
    for number in 0..1000 {
        let (node, at) =
            (NodeId(1 << 40 | number), Edge::new(NodeId::root(ROOT), name(&format!("many-{number}"))));
        world.capture(ROOT, vec![create(node, at, Kind::Fifo)]);
    }
    let head = world.applied();
    world.fail_after(Some(500));
    let error = rewind_replica(&world, lsn, &RewindOptions::default(), &NoMonitor).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(world.is_detached(), "half way");
    world.fail_after(None);
    let before = world.bookmarks().into_keys().next();
    let report =
        rewind_replica(&world, lsn, &RewindOptions { before, ..RewindOptions::default() }, &NoMonitor)
            .unwrap();
    assert_eq!(world.tree.snapshot(ROOT), world.snapshot(lsn, ROOT));
    assert_eq!(world.bookmarks().len(), 1, "no second bookmark");
    to(&world, world.bookmarks()[&report.before]);
    assert_eq!(world.tree.snapshot(ROOT), world.snapshot(head, ROOT));
}

#[test]
fn what_fails_before_it_begins_changes_nothing() {
    let (world, mut chaos) = (World::new(1), Chaos::new(3));
    for _ in 0..20 {
        chaos.step(&world);
    }
    let paths = vec![PathFilter::new(ROOT, b"never/was").unwrap()];
    let error = rewind_replica(
        &world,
        Lsn::captured(5),
        &RewindOptions { paths, ..RewindOptions::default() },
        &NoMonitor,
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
    let error = rewind_replica(&world, Lsn::captured(50), &RewindOptions::default(), &NoMonitor);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::State);
    assert!(!world.is_detached() && world.bookmarks().is_empty());
    assert_eq!(world.applied(), Lsn::captured(20));
}

#[test]
fn names_of_bookmarks() {
    let time = Timestamp(1_795_240_800_000_000_000);
    assert_eq!(before_name(time), "before-rewind-2026-11-21T06-00-00Z");
    let (world, mut chaos) = (World::new(1), Chaos::new(1));
    for _ in 0..5 {
        chaos.step(&world);
    }
    let options = RewindOptions { now: time, ..RewindOptions::default() };
    for expected in ["before-rewind-2026-11-21T06-00-00Z", "before-rewind-2026-11-21T06-00-00Z-2"] {
        let report = rewind_replica(&world, Lsn::captured(2), &options, &NoMonitor).unwrap();
        assert_eq!(report.before, expected);
    }
}
