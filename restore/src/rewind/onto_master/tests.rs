//! What a master is told leads to the point, and once there, to nothing more.
//!
//! The master here is the replica itself: whatever it is told becomes a capture, as it would by way of capture. Where
//! a change is not possible when its turn comes, the tree in memory says so.

use super::*;
use crate::error::RestoreError;
use crate::monitor::NoMonitor;
use crate::rewind::{NoteKind, RewindOptions};
use crate::scope::PathFilter;
use crate::testing::{Chaos, Snapshot, World, cut, without};
use journal::master::{MasterLinkError, Written};
use journal::{Attributes, Edge, Kind, Meta, Name, Timestamp};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

const ROOT: RootNo = RootNo(0);

#[derive(Default)]
struct State {
    waiting: HashMap<NodeId, Vec<Event>>,
    made: HashSet<NodeId>,
    /// Payload bytes told.
    bytes: u64,
    calls: u64,
    ended: bool,
}

type Act = Box<dyn FnOnce(&World) + Send>;

struct Told<'w> {
    world: &'w World,
    state: Mutex<State>,
    /// What people do between a flush and the first write.
    people: Mutex<Vec<Act>>,
}

impl<'w> Told<'w> {
    fn new(world: &'w World) -> Self {
        Told { world, state: Mutex::default(), people: Mutex::default() }
    }

    fn rewind(&self, to: Lsn, paths: Vec<PathFilter>) -> Result<MasterReport, RestoreError> {
        let options = RewindOptions { paths, ..RewindOptions::default() };
        let then = self.world.view_at(to);
        *self.state.lock() = State::default();
        let report = rewind_master(self.world, self, &then, &options, &NoMonitor);
        let state = self.state.lock();
        assert!(state.waiting.is_empty(), "bytes of a file that was never made");
        assert!(state.ended || state.calls == 0, "the last changes were not said to be the last");
        report
    }
}

impl MasterLink for Told<'_> {
    fn write(&self, changes: MasterChanges) -> Result<Written, MasterLinkError> {
        for act in self.people.lock().drain(..) {
            act(self.world);
        }
        let mut state = self.state.lock();
        state.calls += 1;
        state.ended = changes.last;
        let mut events = Vec::new();
        for event in changes.events {
            let node = node_of(&event);
            if let Event::Write { data, .. } = &event {
                state.bytes += data.len();
            }
            match (&event, node) {
                (Event::Create { meta, .. }, Some(node)) => {
                    assert!(node.0 >> 63 == 1 && state.made.insert(node));
                    let xattrs = meta.xattrs.clone();
                    events.push(event);
                    events.extend(state.waiting.remove(&node).unwrap_or_default());
                    // Writing takes capabilities away.
                    events.push(Event::SetXattrs { node, xattrs });
                }
                (Event::Write { .. } | Event::Punch { .. } | Event::Resize { .. }, Some(node))
                    if node.0 >> 63 == 1 && !state.made.contains(&node) && !is_known(self.world, node) =>
                {
                    state.waiting.entry(node).or_default().push(event);
                }
                _ => events.push(event),
            }
        }
        if !events.is_empty() {
            self.world.capture(changes.root, events);
        }
        Ok(Written::default())
    }

    fn flush(&self) -> Result<Lsn, MasterLinkError> {
        Ok(self.world.applied())
    }
}

fn is_known(world: &World, node: NodeId) -> bool {
    world.view_at(world.applied()).meta(node).unwrap().is_some()
}

/// Says which paths differ, and not in which of their thousands of bytes.
fn assert_same(a: &Snapshot, b: &Snapshot, context: &str) {
    for path in a.keys().chain(b.keys()) {
        let brief = |snapshot: &Snapshot| {
            let seen = snapshot.get(path)?;
            let sum: u64 = seen.data.iter().zip(1..).map(|(byte, n)| u64::from(*byte) * n).sum();
            let object = String::from_utf8_lossy(&seen.object).into_owned();
            Some((seen.kind.clone(), seen.data.len(), sum, seen.attributes, seen.xattrs.clone(), object))
        };
        assert_eq!(brief(a), brief(b), "{context}: {}", String::from_utf8_lossy(path));
    }
    assert!(a == b, "{context}");
}

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("REWIND_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(20);
    let first = std::env::var("REWIND_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    first..first + count
}

#[test]
fn to_any_point_and_nothing_the_second_time() {
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        let master = Told::new(&world);
        for round in 0..4 {
            for _ in 0..25 {
                chaos.step(&world);
            }
            for _ in 0..4 {
                let lsns = world.lsns();
                let lsn = lsns[chaos.below(lsns.len() as u64) as usize];
                let before = world.applied();
                let report = master.rewind(lsn, Vec::new()).unwrap();
                let context = format!("seed {seed} round {round} to {lsn}");
                assert_same(&world.tree.snapshot(ROOT), &world.snapshot(lsn, ROOT), &context);
                assert!(report.equal, "{context}");
                assert_eq!(world.bookmarks()[&report.before], before, "{context}");
                let again = master.rewind(lsn, Vec::new()).unwrap();
                assert!(again.equal && again.files_changed == 0, "{context}: {again:?}");
                assert_eq!(master.state.lock().calls, 0, "{context}");
                let listed = list(&world, lsn);
                assert!(listed.is_empty(), "{context}: {listed:?}");
            }
        }
    }
}

/// What a dry run would say.
fn list(world: &World, to: Lsn) -> Vec<crate::difference::Entry> {
    let (now, then) = (world.view_at(world.applied()), world.view_at(to));
    let plan = RewindPlan::onto_master(&now, &then, &[], &NoMonitor).unwrap();
    let mut listed = Vec::new();
    plan.list_master(&NoMonitor, &mut |entry| {
        listed.push(entry);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    listed
}

#[test]
fn the_list_names_every_path_that_differs() {
    for seed in seeds() {
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        for _ in 0..60 {
            chaos.step(&world);
        }
        let lsns = world.lsns();
        let lsn = lsns[chaos.below(lsns.len() as u64) as usize];
        let (now, then) = (world.tree.snapshot(ROOT), world.snapshot(lsn, ROOT));
        let listed = list(&world, lsn);
        for path in now.keys().chain(then.keys()) {
            let same = match (now.get(path), then.get(path)) {
                (Some(now), Some(then)) => (&now.data, &now.kind) == (&then.data, &then.kind),
                _ => false,
            };
            // A file is listed under one of its names.
            let object = then.get(path).map(|seen| &seen.object);
            let twins = then.iter().filter(|(_, seen)| Some(&seen.object) == object).map(|(twin, _)| twin);
            let twins: Vec<_> = twins.chain([path]).collect();
            let named = |entry: &crate::difference::Entry| {
                let mut moves = entry.from.iter().chain([&entry.path]);
                // What moves takes along what is below it.
                let at = |top: &Vec<u8>, path: &Vec<u8>| {
                    path == top || path.starts_with(&[top, &b"/"[..]].concat())
                };
                moves.any(|top| twins.iter().any(|twin| at(top, twin)))
            };
            let path = String::from_utf8_lossy(path);
            assert!(same || listed.iter().any(named), "seed {seed} to {lsn}: {path} in {listed:?}");
        }
    }
}

#[test]
fn a_path_alone() {
    let (mut blocked, mut kinds) = (0, Vec::new());
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos) = (World::new(1), Chaos::new(seed));
        let master = Told::new(&world);
        for _ in 0..60 {
            chaos.step(&world);
        }
        for _ in 0..6 {
            let lsns = world.lsns();
            let lsn = lsns[chaos.below(lsns.len() as u64) as usize];
            let (then, before) = (world.snapshot(lsn, ROOT), world.tree.snapshot(ROOT));
            let choice: Vec<Vec<u8>> = then.keys().chain(before.keys()).cloned().collect();
            let path = choice[chaos.below(choice.len() as u64) as usize].clone();
            let context = format!("seed {seed} to {lsn} path {}", String::from_utf8_lossy(&path));
            let report = match master.rewind(lsn, vec![PathFilter::new(ROOT, &path).unwrap()]) {
                Ok(report) => report,
                Err(RestoreError::PathBlocked { .. }) => {
                    blocked += 1;
                    continue;
                }
                Err(error) => panic!("{context}: {error:?}"),
            };
            kinds.extend(report.notes.iter().map(|note| note.kind));
            let now = world.tree.snapshot(ROOT);
            assert_same(&cut(&now, &path), &cut(&then, &path), &context);
            let (mut outside, rest) = (without(&now, &path), without(&before, &path));
            for note in report.notes.iter().filter(|note| note.kind == NoteKind::ParentMade) {
                assert!(outside.remove(&note.path).is_some(), "{context}");
            }
            assert_same(&outside, &rest, &context);
        }
    }
    assert!(blocked > 0);
    for kind in [NoteKind::MovedOut, NoteKind::LinkCut, NoteKind::ParentMade] {
        assert!(kinds.contains(&kind), "{kind:?} was never tried");
    }
}

#[test]
fn what_people_do_meanwhile_is_put_back_too() {
    let (world, mut chaos) = (World::new(1), Chaos::new(11));
    for _ in 0..40 {
        chaos.step(&world);
    }
    let lsn = world.lsns()[15];
    let master = Told::new(&world);
    master.people.lock().push(Box::new(|world| {
        // The plan does not know them, and nothing of it is in their way.
        for number in 0..3_u64 {
            let attributes =
                Attributes { mode: 0o600, uid: 1, gid: 2, mtime: Timestamp(3), ctime: Timestamp(4) };
            let meta = Meta { kind: Kind::Fifo, size: 0, attributes, xattrs: Vec::new() };
            let at = Edge::new(NodeId::root(ROOT), Name::new(format!("late {number}").as_bytes()).unwrap());
            let node = NodeId(1 << 40 | number);
            world.capture(ROOT, vec![Event::Create { node, at, meta, origin: None, parent_mtime: None }]);
        }
    }));
    let report = master.rewind(lsn, Vec::new()).unwrap();
    assert!(report.equal);
    assert_same(&world.tree.snapshot(ROOT), &world.snapshot(lsn, ROOT), "after people");
}
