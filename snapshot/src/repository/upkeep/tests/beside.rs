//! Backups beside a prune, at every call that the prune makes; and at random, from several threads.

use super::*;
use crate::store::faulty::{FaultyStore, InFlight};
use crate::store::{Entry, StoreError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::ops::Range;

type Hook = Box<dyn FnOnce() + Send>;

/// Does something else before the call of a number, once.
struct Interrupted {
    behind: Arc<MemoryStore>,
    state: Mutex<(u64, Option<Hook>)>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl Interrupted {
    fn new(behind: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { behind, state: Mutex::new((u64::MAX, None)) })
    }

    fn before(&self, calls: u64, hook: Hook) {
        *self.state.lock() = (calls, Some(hook));
    }

    fn was_called(&self) -> bool {
        self.state.lock().1.is_none()
    }

    fn call(&self) {
        let hook = {
            let mut state = self.state.lock();
            match state.0 {
                0 => state.1.take(),
                _ => {
                    state.0 -= 1;
                    None
                }
            }
        };
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl BlobStore for Interrupted {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.call();
        self.behind.put(name, bytes)
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.call();
        self.behind.get(name, limit)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.call();
        self.behind.get_range(name, range)
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.call();
        self.behind.size(name)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        self.call();
        self.behind.list(directory, each)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.call();
        self.behind.delete(name)
    }
}

/// What the forgotten session held, and something new.
fn wanted() -> Vec<u64> {
    (0..12).chain(700..703).collect()
}

/// The first of three sessions is forgotten and a prune is about to come.
fn ground() -> Arc<MemoryStore> {
    let (store, repository, _) = three();
    keep_last(&repository, 2).unwrap();
    store
}

fn thorough() -> PruneOptions {
    PruneOptions { unused_percent: 0, ..at_once() }
}

/// A session that lacks a blob shares a directory with one that is whole, is looked at first, and is forgotten at each
/// call of the prune.
#[test]
fn a_broken_session_goes_at_every_call() {
    let (ground, repository) = fresh();
    let files: Vec<u64> = (0..12).collect();
    let whole = backup(&repository, &files, 1);
    let mut shared = None;
    let root = repository.load_session(&whole).unwrap().tree;
    repository
        .load_tree(&root, &mut |node| {
            shared = node.subtree;
            false
        })
        .unwrap();
    let work = writer(&repository);
    let mut tree = TreeBuilder::new();
    let directory = Node { name: b"a".into(), kind: NodeKind::Directory, subtree: shared, ..Node::default() };
    tree.add(&directory).unwrap();
    let content = vec![Id::of(b"never stored")];
    tree.add(&Node { name: b"b".into(), size: 1, content, ..Node::default() }).unwrap();
    let tree = work.save_tree(&mut tree).unwrap().id;
    work.flush().unwrap();
    // Sessions are looked at in the order of their ids.
    let broken = (2..)
        .map(|number| (number, repository.save_session(&record(tree, &[], number)).unwrap()))
        .find(|(_, id)| {
            let first = *id < whole;
            if !first {
                repository.remove_session(id).unwrap();
            }
            first
        })
        .unwrap()
        .1;
    let (mut stopped, mut pruned) = (0, 0);
    for call in 0.. {
        let store = copy(&ground);
        let hooked = Interrupted::new(Arc::clone(&store));
        let pruner = open(&(Arc::clone(&hooked) as _));
        let behind = Arc::clone(&store);
        hooked.before(call, Box::new(move || behind.delete(&ObjectKind::Snapshot.name(&broken)).unwrap()));
        match run_prune(&pruner, &thorough()) {
            Ok(_) => pruned += 1,
            Err(RepositoryError::SessionIncomplete { session, .. }) if session == broken => stopped += 1,
            Err(error) => panic!("call {call}: {error:?}"),
        }
        if !hooked.was_called() {
            break;
        }
        verify(&open(&(Arc::clone(&store) as _)), &whole);
    }
    assert!(stopped > 0 && pruned > 0, "{stopped} stopped, {pruned} pruned");
}

/// A backup that began before the prune, found all that was forgotten in the index, and ends at each of its calls.
#[test]
fn a_backup_ends_at_every_call() {
    let ground = ground();
    for call in 0.. {
        let store = copy(&ground);
        let hooked = Interrupted::new(Arc::clone(&store));
        let pruner = open(&(Arc::clone(&hooked) as _));
        let ours = open(&(Arc::clone(&store) as _));
        let lock = lock::acquire(&ours, Purpose::Backup, quickly()).unwrap();
        let work = writer(&ours);
        let mut tree = save_files(&work, &wanted()).unwrap();
        let end = move || {
            while let Commit::Missing(_) = work.commit(&lock, &record(tree, &wanted(), 9)).unwrap() {
                tree = save_files(&work, &wanted()).unwrap();
            }
        };
        hooked.before(call, Box::new(end));
        let report = run_prune(&pruner, &thorough()).unwrap_or_else(|error| panic!("call {call}: {error:?}"));
        if !hooked.was_called() {
            println!("{call} calls");
            assert!(call > 40);
            break;
        }
        assert_eq!(verify_all(&open(&(Arc::clone(&store) as _))), 3, "call {call}: {report:?}");
        assert_whole(&pruner);
        let next = run_prune(&pruner, &thorough()).unwrap();
        assert_eq!(verify_all(&open(&(store as _))), 3, "call {call}: {next:?}");
    }
}

/// The same, but the backup dies right after its record: before its second look.
#[test]
fn a_backup_dies_after_its_record_at_every_call() {
    let ground = ground();
    for call in 0.. {
        let store = copy(&ground);
        let hooked = Interrupted::new(Arc::clone(&store));
        let pruner = open(&(Arc::clone(&hooked) as _));
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&store) as _));
        let ours = open(&(Arc::clone(&faulty) as _));
        let lock = lock::acquire(&ours, Purpose::Backup, quickly()).unwrap();
        let work = writer(&ours);
        let tree = save_files(&work, &wanted()).unwrap();
        work.flush().unwrap();
        let end = move || {
            // The next put is that of the record, if all is there.
            faulty.cut_power_after(0, InFlight::Kept);
            assert!(!matches!(work.commit(&lock, &record(tree, &wanted(), 9)), Ok(Commit::Recorded(_))));
            drop(lock);
        };
        hooked.before(call, Box::new(end));
        run_prune(&pruner, &thorough()).unwrap_or_else(|error| panic!("call {call}: {error:?}"));
        if !hooked.was_called() {
            break;
        }
        // If the record is there, its lock is too: it lies there until somebody takes it away.
        run_prune(&pruner, &thorough()).unwrap_or_else(|error| panic!("after call {call}: {error:?}"));
        let recorded = verify_all(&open(&(Arc::clone(&store) as _)));
        assert!((2..=3).contains(&recorded));
        for name in store.contents().keys().filter(|name| name.starts_with("locks/")) {
            store.delete(name).unwrap();
        }
        run_prune(&pruner, &thorough()).unwrap();
        assert_eq!(verify_all(&open(&(store as _))), recorded, "call {call}");
        assert_whole(&pruner);
    }
}

/// A whole backup, from lock to record, at every call.
#[test]
fn a_whole_backup_at_every_call() {
    let ground = ground();
    for call in 0.. {
        let store = copy(&ground);
        let hooked = Interrupted::new(Arc::clone(&store));
        let pruner = open(&(Arc::clone(&hooked) as _));
        let ours = open(&(Arc::clone(&store) as _));
        hooked.before(call, Box::new(move || drop(try_backup(&ours, &wanted(), 9))));
        run_prune(&pruner, &thorough()).unwrap_or_else(|error| panic!("call {call}: {error:?}"));
        if !hooked.was_called() {
            break;
        }
        let sessions = verify_all(&open(&(Arc::clone(&store) as _)));
        assert_eq!(sessions, 3, "call {call}");
        assert_whole(&pruner);
        run_prune(&pruner, &thorough()).unwrap();
        assert_eq!(verify_all(&open(&(store as _))), 3, "call {call}");
    }
}

/// Backups, forgets, prunes and readers at random from several threads, some in one process, some in several.
#[test]
fn all_at_once() {
    let mut random = Random::from_clock("all_at_once");
    for round in 0..6 {
        let (store, shared) = fresh();
        let seeds: Vec<u64> = (0..4).map(|_| random.next() | 1).collect();
        let recorded: Mutex<BTreeMap<Id, Vec<u64>>> = Mutex::default();
        std::thread::scope(|scope| {
            for (thread, seed) in seeds.iter().enumerate() {
                let (store, shared, recorded) = (Arc::clone(&store), Arc::clone(&shared), &recorded);
                scope.spawn(move || {
                    let mut random = Random(*seed);
                    let own = open(&(store as _));
                    for step in 0..12 {
                        let repository = if random.below(2) == 0 { &shared } else { &own };
                        let outcome = match (thread, random.below(4)) {
                            (0, 0) => keep_last(repository, 3).map(|gone| {
                                gone.iter().for_each(|id| drop(recorded.lock().remove(id)));
                            }),
                            (0, _) => {
                                let grace = Duration::from_secs(random.below(2) * 3600);
                                let options =
                                    PruneOptions { grace, spare_running: random.below(2) == 0, ..thorough() };
                                run_prune(repository, &options).map(drop)
                            }
                            _ => {
                                let from = random.below(30);
                                let files: Vec<u64> = (from..from + 2 + random.below(10)).collect();
                                let number = (step * 4 + thread) as i64;
                                try_backup(repository, &files, number).map(|id| {
                                    recorded.lock().insert(id, files);
                                })
                            }
                        };
                        match outcome {
                            Err(error) if error.kind() == RepositoryErrorKind::Locked => {}
                            outcome => outcome.unwrap(),
                        }
                    }
                });
            }
        });
        let last = open(&(Arc::clone(&store) as _));
        verify_all(&last);
        // A session that was recorded and not forgotten is there. One may have been forgotten before it was noted here.
        let there = last.list_sessions().unwrap().len();
        assert!(there > 0 && there <= recorded.lock().len(), "round {round}");
        assert_whole(&last);
        run_prune(&last, &at_once()).unwrap();
        assert_eq!(verify_all(&open(&(store as _))), there);
        assert_whole(&last);
    }
}
