//! Random histories: a session of a point, restored onto whatever the tree has become, must give that point again.

mod cut_off;
mod master;

use crate::monitor::NoMonitor;
use crate::rewind::{ReplicaControl, RewindOptions, return_to_capture, rewind_replica};
use crate::session::{
    IfExists, Monitor, Onto, OntoReport, Options, Progress, SessionRestoreError, restore_replica,
};
use crate::testing::{Chaos, Snapshot, World, cut, without};
use bytes::Bytes;
use journal::{Attributes, Edge, Event, Kind, Lsn, Meta, Name, NodeId, Payload, RootNo, Timestamp};
use snapshot::repository::keys::KeyCost;
use snapshot::repository::{Id, Lock, LockOptions, Purpose, Repository, RepositoryOptions, lock};
use snapshot::session::{Entity, RecordOptions, back_up};
use snapshot::store::{BlobStore, MemoryStore};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

const ROOT: RootNo = RootNo(0);
const ENTITY: &[u8] = b"/srv/docs";
const DEVICE: u64 = 7;

fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("REWIND_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let first = std::env::var("REWIND_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    first..first + count
}

struct Store {
    store: Arc<MemoryStore>,
    repository: Arc<Repository>,
    lock: Lock,
}

impl Store {
    fn new() -> Store {
        let key_cost = KeyCost { log_n: 4, r: 1, p: 1 };
        let options = RepositoryOptions { key_cost, ..RepositoryOptions::default() };
        let store = Arc::new(MemoryStore::new());
        let shared: Arc<dyn BlobStore> = Arc::<MemoryStore>::clone(&store);
        let repository = Repository::init(shared, &"secret".to_owned().into(), options).unwrap();
        let repository = Arc::new(repository);
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let lock = lock::acquire(&repository, Purpose::Backup, options).unwrap();
        Store { store, repository, lock }
    }

    /// A session of the tree at a point: its tree.
    fn session(&self, world: &World, at: Lsn) -> Id {
        let entity = Entity { root: ROOT, path: ENTITY.to_vec(), device: DEVICE };
        let to = (&self.repository, &self.lock);
        let record = RecordOptions::default();
        let view = world.view_at(at);
        back_up(&view, None, &entity, to, &record, &snapshot::session::NoMonitor).unwrap().tree
    }

    fn restore(
        &self,
        world: &World,
        tree: Id,
        paths: &[Vec<u8>],
        options: Options,
    ) -> Result<OntoReport, SessionRestoreError> {
        let onto = Onto::new(&self.repository, tree, (ENTITY, ROOT), paths, options)?;
        restore_replica(world, &onto, Timestamp(0), &NoMonitor)
    }

    /// As the daemon does with sessions of its own journal: what was not touched since is not read.
    fn restore_own(&self, world: &World, (tree, at): (Id, Lsn), options: Options) -> OntoReport {
        let onto = Onto::new(&self.repository, tree, (ENTITY, ROOT), &[], options).unwrap();
        restore_replica(world, &onto.made_from(DEVICE, at), Timestamp(0), &NoMonitor).unwrap()
    }
}

/// The point, whatever else is there.
fn exact() -> Options {
    Options { if_exists: IfExists::Overwrite, delete: true, verify: true, threads: 2, ..Options::default() }
}

fn absolute(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { ENTITY.to_vec() } else { [ENTITY, b"/", path].concat() }
}

/// Without names of one file, which a part of a tree cannot have.
fn alone(snapshot: Snapshot) -> Snapshot {
    snapshot
        .into_iter()
        .map(|(path, mut seen)| {
            seen.object.clear();
            (path, seen)
        })
        .collect()
}

#[test]
fn a_session_comes_back_exactly() {
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos, store) = (World::new(1), Chaos::new(seed), Store::new());
        for round in 0..3 {
            for _ in 0..40 {
                chaos.step(&world);
            }
            let lsns = world.lsns();
            let at = lsns[chaos.below(lsns.len() as u64) as usize];
            let tree = store.session(&world, at);
            let context = format!("seed {seed} round {round} at {at}");
            let head = Lsn::captured(world.applied().captured);
            let report = match round {
                0 => store.restore(&world, tree, &[], exact()).unwrap(),
                _ => store.restore_own(&world, (tree, at), exact()),
            };
            assert_eq!(world.tree.snapshot(ROOT), world.snapshot(at, ROOT), "{context}");
            assert_eq!((report.receipt.failed, report.receipt.verified), (0, Some(true)), "{context}");
            // Once more there is nothing to do, and nothing is done.
            let before = world.applied();
            let again = store.restore(&world, tree, &[], exact()).unwrap();
            assert_eq!(
                (world.applied(), again.before, again.receipt.bytes_written),
                (before, None, 0),
                "{context}"
            );
            // It can be rewound.
            if let Some(bookmark) = report.before {
                let options = RewindOptions::default();
                rewind_replica(&world, world.bookmarks()[&bookmark], &options, &NoMonitor).unwrap();
                assert_eq!(world.tree.snapshot(ROOT), world.snapshot(head, ROOT), "{context}");
            }
            return_to_capture(&world, &NoMonitor).unwrap();
            assert_eq!(world.tree.snapshot(ROOT), world.snapshot(head, ROOT), "{context}: back");
        }
    }
}

#[test]
fn paths_alone_and_nothing_else() {
    let mut restored = 0;
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos, store) = (World::new(1), Chaos::new(seed ^ 0x0fff), Store::new());
        for _ in 0..60 {
            chaos.step(&world);
        }
        for _ in 0..4 {
            let lsns = world.lsns();
            let at = lsns[chaos.below(lsns.len() as u64) as usize];
            let (then, before) = (world.snapshot(at, ROOT), world.tree.snapshot(ROOT));
            let choice: Vec<&Vec<u8>> = then.keys().filter(|path| !path.is_empty()).collect();
            if choice.is_empty() {
                continue;
            }
            let path = choice[chaos.below(choice.len() as u64) as usize].clone();
            let context = format!("seed {seed} at {at}: {}", String::from_utf8_lossy(&path));
            let tree = store.session(&world, at);
            match store.restore(&world, tree, &[absolute(&path)], exact()) {
                Ok(report) => assert_eq!(report.receipt.failed, 0, "{context}: {report:?}"),
                Err(SessionRestoreError::PathBlocked { .. }) => continue,
                Err(error) => panic!("{context}: {error:?}"),
            }
            restored += 1;
            let now = world.tree.snapshot(ROOT);
            assert_eq!(alone(cut(&now, &path)), alone(cut(&then, &path)), "{context}");
            // Directories above may have been made.
            let above = |key: &Vec<u8>| path.starts_with(key) && path.get(key.len()) == Some(&b'/');
            let mut outside = alone(without(&now, &path));
            let outside_before = alone(without(&before, &path));
            outside.retain(|key, _| outside_before.contains_key(key) || !above(key));
            assert_eq!(outside, outside_before, "{context}");
        }
    }
    assert!(restored > 20, "{restored}");
}

#[test]
fn without_delete_nothing_is_lost() {
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos, store) = (World::new(1), Chaos::new(seed ^ 0xf0f0), Store::new());
        for _ in 0..60 {
            chaos.step(&world);
        }
        let lsns = world.lsns();
        let at = lsns[chaos.below(lsns.len() as u64) as usize];
        let (then, before) = (world.snapshot(at, ROOT), world.tree.snapshot(ROOT));
        let tree = store.session(&world, at);
        let report = store.restore(&world, tree, &[], Options { delete: false, ..exact() }).unwrap();
        let now = world.tree.snapshot(ROOT);
        for path in before.keys() {
            assert!(now.contains_key(path) || then.keys().any(|key| path.starts_with(key)), "seed {seed}");
        }
        if report.receipt.failed == 0 {
            for (path, seen) in &then {
                assert_eq!(now[path].data, seen.data, "seed {seed}: {}", String::from_utf8_lossy(path));
            }
        }
    }
}

fn attributes(mode: u32) -> Attributes {
    Attributes { mode, uid: 0, gid: 0, mtime: Timestamp(1_000_000_000), ctime: Timestamp(1) }
}

fn at(name: &str) -> Edge {
    Edge::new(NodeId::root(ROOT), Name::new(name.as_bytes()).unwrap())
}

/// A world with files of these names, all alike.
fn with_files(names: &[&str]) -> World {
    with_files_of(names, b"all alike")
}

fn with_files_of(names: &[&str], bytes: &'static [u8]) -> World {
    let world = World::new(1);
    world.capture(
        ROOT,
        vec![Event::SetAttributes { node: NodeId::root(ROOT), attributes: attributes(0o755) }],
    );
    for (number, name) in names.iter().enumerate() {
        let node = NodeId(NodeId::FIRST_FREE.0 + number as u64);
        let meta = Meta { kind: Kind::File, size: 0, attributes: attributes(0o644), xattrs: Vec::new() };
        let data = Payload::Inline(Bytes::from_static(bytes));
        world.capture(
            ROOT,
            vec![
                Event::Create { node, at: at(name), meta, origin: None, parent_mtime: None },
                Event::Write { node, offset: 0, data, before: None },
                Event::SetAttributes { node, attributes: attributes(0o644) },
            ],
        );
    }
    world
}

#[test]
fn files_that_became_one_become_two_again() {
    let (world, store) = (with_files(&["a", "b", "c"]), Store::new());
    let then = world.applied();
    let tree = store.session(&world, then);
    let (first, second) = (NodeId::FIRST_FREE, NodeId(NodeId::FIRST_FREE.0 + 1));
    world.capture(
        ROOT,
        vec![
            Event::Remove { node: second, at: at("b"), parent_mtime: None },
            Event::Link { node: first, at: at("b"), parent_mtime: None },
        ],
    );
    let now = world.tree.snapshot(ROOT);
    assert_eq!(now[&b"b".to_vec()].object, b"a", "they are one file");
    store.restore(&world, tree, &[], exact()).unwrap();
    assert_eq!(world.tree.snapshot(ROOT), world.snapshot(then, ROOT));
}

#[test]
fn a_size_alone_is_a_difference_and_nothing_at_all_is_none() {
    let (world, store) = (with_files(&["a"]), Store::new());
    let then = world.applied();
    let tree = store.session(&world, then);
    let nothing = store.restore(&world, tree, &[], exact()).unwrap();
    assert_eq!((nothing.before, nothing.detached), (None, false), "it follows on");
    assert!(!world.is_detached());
    let node = NodeId::FIRST_FREE;
    world.capture(
        ROOT,
        vec![
            Event::Resize { node, size: 90_000 },
            Event::SetAttributes { node, attributes: attributes(0o644) },
        ],
    );
    let report = store.restore(&world, tree, &[], exact()).unwrap();
    assert_eq!((report.detached, report.receipt.bytes_written), (true, 0), "nothing had to be fetched");
    assert_eq!(world.tree.snapshot(ROOT), world.snapshot(then, ROOT));
}

#[test]
fn ids_of_another_journal_mean_nothing() {
    let (theirs, ours, store) = (with_files_of(&["a"], b"their way"), with_files(&["a"]), Store::new());
    let tree = store.session(&theirs, theirs.applied());
    let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &[], exact()).unwrap();
    let onto = onto.made_from(DEVICE + 1, ours.applied());
    restore_replica(&ours, &onto, Timestamp(0), &NoMonitor).unwrap();
    assert_eq!(ours.tree.snapshot(ROOT)[&b"a".to_vec()].data, b"their way");
}

#[test]
fn the_rule_fail_changes_nothing_and_directories_are_no_conflict() {
    let (world, store) = (with_files(&["a", "b"]), Store::new());
    let tree = store.session(&world, world.applied());
    world.capture(ROOT, vec![Event::Remove { node: NodeId::FIRST_FREE, at: at("a"), parent_mtime: None }]);
    let options = Options { if_exists: IfExists::Fail, delete: false, ..exact() };
    let head = world.applied();
    let outcome = store.restore(&world, tree, &[], options);
    assert!(
        matches!(&outcome, Err(SessionRestoreError::Conflicts { count: 1, first }) if first == &[absolute(b"b")]),
        "{outcome:?}"
    );
    assert_eq!((world.applied(), world.is_detached()), (head, false));
    store.restore(&world, tree, &[absolute(b"a")], options).unwrap();
    assert_eq!(world.tree.snapshot(ROOT)[&b"a".to_vec()].data, b"all alike");
}

/// Bytes that rot below the journal: with `verify` every file is read, counted as read, and mended.
#[test]
fn what_rotted_is_found_and_mended_by_verify() {
    let (world, store) = (with_files(&["a", "b"]), Store::new());
    let at = world.applied();
    let tree = store.session(&world, at);
    world.rot(NodeId(NodeId::FIRST_FREE.0 + 1));
    let options = Options { verify: false, ..exact() };
    let report = store.restore_own(&world, (tree, at), options);
    assert_eq!((report.receipt.verified, report.receipt.verified_files), (None, 0), "{report:?}");
    let report = store.restore_own(&world, (tree, at), exact());
    assert_eq!((report.receipt.verified, report.receipt.verified_files), (Some(true), 2), "{report:?}");
    assert_eq!(world.tree.snapshot(ROOT)[&b"b".to_vec()].data, b"all alike");
    assert!(report.receipt.bytes_written > 0 && report.before.is_some(), "{report:?}");
}

/// A session that missed something removes nothing, and says what it is.
#[test]
fn what_a_session_missed_stays() {
    let (world, store) = (with_files(&["a", "unreadable"]), Store::new());
    let tree = store.session(&world, world.applied());
    let lacking = Options { missed: 1, ..exact() };
    let refused = store.restore(&world, tree, &[], lacking).unwrap_err();
    assert!(matches!(refused, SessionRestoreError::Lacking { missed: 1 }), "{refused:?}");
    let report = store.restore(&world, tree, &[], Options { delete: false, ..lacking }).unwrap();
    assert_eq!(report.receipt.outcome(), crate::session::Outcome::Incomplete, "{report:?}");
    assert!(report.receipt.warnings[0].reason.contains("lacks 1 object "), "{report:?}");
}

/// Stops after some looks.
struct Impatient(Cell<u64>);

// The test is one thread; the filler's threads only look.
struct Looks(parking_lot::Mutex<Impatient>);

impl Monitor for Looks {
    fn progress(&self, _: Progress) {}

    fn cancelled(&self) -> bool {
        let looks = self.0.lock();
        let left = looks.0.get();
        looks.0.set(left.saturating_sub(1));
        left == 0
    }
}

#[test]
fn what_was_cut_off_is_gone_on_with() {
    let mut cut_off = 0;
    for seed in seeds() {
        println!("seed {seed}");
        let (world, mut chaos, store) = (World::new(1), Chaos::new(seed ^ 0xabcd), Store::new());
        for _ in 0..50 {
            chaos.step(&world);
        }
        let at = world.lsns()[20];
        let tree = store.session(&world, at);
        let head = world.applied();
        let onto = Onto::new(&store.repository, tree, (ENTITY, ROOT), &[], exact()).unwrap();
        for patience in [1, 5, 20, 60] {
            let looks = Looks(parking_lot::Mutex::new(Impatient(Cell::new(patience))));
            world.fail_after(Some(0));
            let outcome = restore_replica(&world, &onto, Timestamp(0), &looks);
            world.fail_after(None);
            cut_off += u64::from(outcome.is_err());
            assert_eq!(world.applied(), head, "seed {seed}: nothing was applied");
        }
        restore_replica(&world, &onto.clone().again(), Timestamp(0), &NoMonitor).unwrap();
        assert_eq!(world.tree.snapshot(ROOT), world.snapshot(at, ROOT), "seed {seed}");
        return_to_capture(&world, &NoMonitor).unwrap();
        assert_eq!(world.tree.snapshot(ROOT), world.snapshot(head, ROOT), "seed {seed}: back");
    }
    assert!(cut_off > 20, "{cut_off}");
}

#[test]
fn a_damaged_file_is_left_as_it_is_and_named() {
    let (world, mut chaos, store) = (World::new(1), Chaos::new(3), Store::new());
    for _ in 0..80 {
        chaos.step(&world);
    }
    let at = world.lsns()[60];
    let tree = store.session(&world, at);
    for _ in 0..20 {
        chaos.step(&world);
    }
    // A blob of each pack.
    let mut names = Vec::new();
    store
        .store
        .list("data", &mut |entry| {
            names.push((entry.name, entry.size));
            true
        })
        .unwrap();
    for (name, size) in &names {
        let mut bytes = store.store.get_range(name, 0..*size).unwrap().to_vec();
        bytes[40] ^= 1;
        store.store.delete(name).unwrap();
        store.store.put(name, bytes.into()).unwrap();
    }
    let before = world.tree.snapshot(ROOT);
    match store.restore(&world, tree, &[], Options { verify: false, ..exact() }) {
        Ok(report) => {
            assert!(report.receipt.failed > 0, "{report:?}");
            let now = world.tree.snapshot(ROOT);
            for listed in &report.receipt.failures {
                assert!(listed.reason.contains("data/"), "{listed:?}");
                let path = listed.path.strip_prefix(b"/srv/docs/").unwrap();
                assert_eq!(now.get(path).map(|seen| &seen.data), before.get(path).map(|seen| &seen.data));
            }
        }
        Err(error) => assert!(matches!(error, SessionRestoreError::Repository { .. }), "{error:?}"),
    }
}

/// What no file system would hold is listed, and never gets as far as the journal; the rest comes.
#[test]
fn what_no_tree_can_hold_is_left_out() {
    use snapshot::repository::{BlobKind, BlobWriter, Node, NodeKind, TreeBuilder, WriterOptions, Xattr};
    let (world, store) = (with_files(&["a"]), Store::new());
    let writer = BlobWriter::new(Arc::clone(&store.repository), WriterOptions::default()).unwrap();
    let tree = |nodes: &[Node]| {
        let mut builder = TreeBuilder::new();
        nodes.iter().for_each(|node| builder.add(node).unwrap());
        writer.save_blob(BlobKind::Tree, builder.finish()).unwrap().id
    };
    let object =
        |name: &[u8], kind| Node { name: name.to_vec(), kind, permissions: 0o644, ..Node::default() };
    let big = Xattr { name: b"user.big".to_vec(), value: vec![0; 3 << 20] };
    let entries = [
        Node { link_target: vec![b'x'; 10_000], ..object(b"link", NodeKind::Symlink) },
        object(&[b'n'; 300], NodeKind::Fifo),
        Node { uid: u32::MAX, ..object(b"owner", NodeKind::Fifo) },
        object(b"pipe", NodeKind::Fifo),
        Node { xattrs: vec![big], ..object(b"xattrs", NodeKind::Fifo) },
    ];
    let below = |name: &[u8], tree| Node { subtree: Some(tree), ..object(name, NodeKind::Directory) };
    let top = tree(&[below(b"srv", tree(&[below(b"docs", tree(&entries))]))]);
    writer.flush().unwrap();
    let options = Options { delete: false, ..exact() };
    let report = store.restore(&world, top, &[], options).unwrap();
    assert_eq!((report.receipt.failed, report.receipt.others), (4, 1), "{report:?}");
    let now: Vec<_> = world.tree.snapshot(ROOT).into_keys().collect();
    assert_eq!(now, [b"".to_vec(), b"a".to_vec(), b"pipe".to_vec()]);
}
