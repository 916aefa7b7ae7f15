//! The same onto a master: here the replica itself, where whatever the master is told becomes a capture.

use super::{Chaos, DEVICE, ENTITY, ROOT, Store, absolute, at, attributes, exact, seeds, with_files};
use crate::monitor::NoMonitor;
use crate::rewind::ReplicaControl;
use crate::session::{Onto, OntoReport, Options, Outcome, restore_master};
use crate::testing::{Snapshot, World};
use bytes::Bytes;
use journal::master::{MasterChanges, MasterLink, MasterLinkError, NotWritten, Unwritten, Written};
use journal::{Event, Kind, Lsn, Meta, NodeId, Payload, Timestamp};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

type Act = Box<dyn FnOnce(&World) + Send>;

#[derive(Default)]
struct State {
    /// Bytes of files whose names have not come yet.
    waiting: HashMap<NodeId, Vec<Event>>,
    /// New nodes of the request under way: others cannot be linked to.
    made: HashSet<NodeId>,
    /// A master mints ids of its own for what it finds.
    ids: HashMap<NodeId, NodeId>,
    calls: u64,
    ended: bool,
    /// What people do before the first write.
    people: Vec<Act>,
    /// A name that cannot be made.
    refused: Option<&'static str>,
    /// Owner, mode and times are not set, and nothing is said of it.
    deaf: bool,
}

struct Told<'w>(&'w World, Mutex<State>);

impl MasterLink for Told<'_> {
    fn write(&self, changes: MasterChanges) -> Result<Written, MasterLinkError> {
        let mut state = self.1.lock();
        for act in std::mem::take(&mut state.people) {
            act(self.0);
        }
        state.calls += 1;
        state.ended = changes.last;
        state.made.clear();
        let (mut events, mut written) = (Vec::new(), Written::default());
        for event in changes.events {
            match &event {
                Event::Create { node, at, meta, .. } => {
                    assert!(node.0 >> 63 == 1 && state.made.insert(*node));
                    let bytes = state.waiting.remove(node).unwrap_or_default();
                    if state.refused.is_some_and(|name| at.name.as_bytes() == name.as_bytes()) {
                        let path = at.name.as_bytes().to_vec();
                        written.skipped.push(NotWritten {
                            root: ROOT,
                            path,
                            what: Unwritten::Node,
                            errno: 1,
                        });
                        written.skipped_count += 1;
                        continue;
                    }
                    let (node, xattrs) = (*node, meta.xattrs.clone());
                    events.push(event);
                    events.extend(bytes);
                    // Writing takes capabilities away.
                    events.push(Event::SetXattrs { node, xattrs });
                }
                Event::Write { node, .. } | Event::Punch { node, .. } | Event::Resize { node, .. }
                    if node.0 >> 63 == 1
                        && self.0.view_at(self.0.applied()).meta(*node).unwrap().is_none() =>
                {
                    state.waiting.entry(*node).or_default().push(event);
                }
                Event::Link { node, .. } => {
                    let known = self.0.view_at(self.0.applied()).meta(*node).unwrap().is_some();
                    assert!(known || state.made.contains(node), "a link to what is not there");
                    events.push(event);
                }
                Event::SetAttributes { .. } if state.deaf => {}
                _ => events.push(event),
            }
        }
        if !events.is_empty() {
            let events = events.into_iter().map(|event| minted(&mut state.ids, event)).collect();
            self.0.capture(changes.root, events);
        }
        Ok(written)
    }

    fn flush(&self) -> Result<Lsn, MasterLinkError> {
        Ok(self.0.applied())
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1 << 40);

/// The event with the ids that capture would give.
fn minted(ids: &mut HashMap<NodeId, NodeId>, mut event: Event) -> Event {
    let mut mint = |id: &mut NodeId| {
        if id.0 >> 63 == 1 {
            *id = *ids.entry(*id).or_insert_with(|| NodeId(NEXT.fetch_add(1, Ordering::Relaxed)));
        }
    };
    match &mut event {
        Event::Create { node, at, .. } | Event::Link { node, at, .. } | Event::Remove { node, at, .. } => {
            mint(node);
            mint(&mut at.parent);
        }
        Event::Write { node, .. }
        | Event::Punch { node, .. }
        | Event::Resize { node, .. }
        | Event::SetAttributes { node, .. }
        | Event::SetXattrs { node, .. } => mint(node),
        Event::Rename { .. } | Event::Mark(_) => panic!("a restore has neither: {event:?}"),
    }
    event
}

/// Restores onto the master; how often it was told something.
fn restore(
    world: &World,
    onto: &Onto<'_>,
    people: Vec<Act>,
    refused: Option<&'static str>,
) -> (OntoReport, u64) {
    let told = Told(world, Mutex::new(State { people, refused, ..State::default() }));
    let report = restore_master(world, &told, onto, Timestamp(0), &NoMonitor).unwrap();
    let state = told.1.lock();
    assert!(state.waiting.is_empty(), "bytes of a file that was never made");
    assert!(state.ended || state.calls == 0, "the last changes were not said to be the last");
    assert!(!world.is_detached());
    (report, state.calls)
}

/// Says which paths differ, and not in which of their thousands of bytes.
fn assert_same(now: &Snapshot, then: &Snapshot, context: &str) {
    for path in now.keys().chain(then.keys()) {
        let brief = |snapshot: &Snapshot| {
            let seen = snapshot.get(path)?;
            let sum: u64 = seen.data.iter().zip(1..).map(|(byte, n)| u64::from(*byte) * n).sum();
            let object = String::from_utf8_lossy(&seen.object).into_owned();
            Some((seen.kind.clone(), seen.data.len(), sum, seen.attributes, seen.xattrs.clone(), object))
        };
        assert_eq!(brief(now), brief(then), "{context}: {}", String::from_utf8_lossy(path));
    }
    assert!(now == then, "{context}");
}

#[test]
fn a_session_comes_back_exactly() {
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos, store) = (World::new(1), Chaos::new(seed ^ 0x77), Store::new());
        for round in 0..3 {
            for _ in 0..40 {
                chaos.step(&world);
            }
            let lsns = world.lsns();
            let at = lsns[chaos.below(lsns.len() as u64) as usize];
            let tree = store.session(&world, at);
            let context = format!("seed {seed} round {round} at {at}");
            let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &[], exact()).unwrap();
            let onto = if round == 0 { onto } else { onto.made_from(DEVICE, at) };
            let (report, _) = restore(&world, &onto, Vec::new(), None);
            assert_same(&world.tree.snapshot(ROOT), &world.snapshot(at, ROOT), &context);
            assert_eq!((report.receipt.failed, report.receipt.verified), (0, Some(true)), "{context}");
            let (again, calls) = restore(&world, &onto, Vec::new(), None);
            assert_eq!((again.before, calls), (None, 0), "{context}: nothing to do");
        }
    }
}

/// What people make meanwhile stays, what they change of the session's is put back, and had been captured.
#[test]
fn people_go_on_working() {
    let (world, store) = (with_files(&["a", "b"]), Store::new());
    let then = world.applied();
    let tree = store.session(&world, then);
    let (a, b) = (NodeId::FIRST_FREE, NodeId(NodeId::FIRST_FREE.0 + 1));
    let write = |node, data: &'static [u8]| {
        vec![
            Event::Write { node, offset: 0, data: Payload::Inline(Bytes::from_static(data)), before: None },
            Event::SetAttributes { node, attributes: attributes(0o600) },
        ]
    };
    world.capture(ROOT, write(a, b"ruined"));
    let people: Act = Box::new(move |world| {
        world.capture(ROOT, write(b, b"changed while it was restored"));
        let meta = Meta { kind: Kind::File, size: 0, attributes: attributes(0o644), xattrs: Vec::new() };
        let (node, at) = (NodeId(NodeId::FIRST_FREE.0 + 9), at("made meanwhile"));
        world.capture(ROOT, vec![Event::Create { node, at, meta, origin: None, parent_mtime: None }]);
    });
    let options = Options { delete: false, ..exact() };
    let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &[], options).unwrap();
    let (report, _) = restore(&world, &onto, vec![people], None);
    assert_eq!((report.receipt.failed, report.receipt.verified), (0, Some(true)), "{report:?}");
    let (mut now, then) = (world.tree.snapshot(ROOT), world.snapshot(then, ROOT));
    assert!(now.remove(b"made meanwhile".as_slice()).is_some(), "it stays");
    assert_eq!(now, then);
    let bookmark = report.before.unwrap();
    assert_eq!(world.snapshot(world.bookmarks()[&bookmark], ROOT)[&b"a".to_vec()].data, b"ruinedike");
}

/// What cannot be written is listed once, and is no later change; the rest is compared and right.
#[test]
fn what_cannot_be_written_is_listed() {
    let (world, store) = (with_files(&["a", "b"]), Store::new());
    let tree = store.session(&world, world.applied());
    for (number, name) in ["a", "b"].into_iter().enumerate() {
        let node = NodeId(NodeId::FIRST_FREE.0 + number as u64);
        world.capture(ROOT, vec![Event::Remove { node, at: at(name), parent_mtime: None }]);
    }
    let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &[], exact()).unwrap();
    let (report, _) = restore(&world, &onto, Vec::new(), Some("a"));
    let receipt = &report.receipt;
    assert_eq!((receipt.failed, receipt.verified), (1, Some(true)), "{receipt:?}");
    let listed = &receipt.failures[0];
    assert_eq!((&listed.path, listed.what, listed.errno), (&absolute(b"a"), "node", Some(1)));
    assert_eq!(world.tree.snapshot(ROOT)[&b"b".to_vec()].data, b"all alike");
}

/// What goes on differing is never called done, also if it is a mode alone.
#[test]
fn a_mode_that_goes_on_differing_is_said() {
    let (world, store) = (with_files(&["a", "b"]), Store::new());
    let tree = store.session(&world, world.applied());
    let node = NodeId(NodeId::FIRST_FREE.0);
    let then = world.view_at(world.applied()).meta(node).unwrap().unwrap().attributes;
    let attributes = journal::Attributes { mode: then.mode ^ 0o111, ..then };
    world.capture(ROOT, vec![Event::SetAttributes { node, attributes }]);
    let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &[], exact()).unwrap();
    let told = Told(&world, Mutex::new(State { deaf: true, ..State::default() }));
    let receipt = restore_master(&world, &told, &onto, Timestamp(0), &NoMonitor).unwrap().receipt;
    assert_eq!(receipt.outcome(), Outcome::Incomplete, "{receipt:?}");
    let said: Vec<_> = receipt.warnings.iter().map(|listed| (listed.path.clone(), listed.what)).collect();
    assert_eq!(said, [(absolute(b"a"), "owner, mode or times")]);
}
