//! Is a copy the session, once, complete or absent: wherever it is cut, whatever is damaged, and whoever prunes meanwhile?

use super::*;
use crate::repository::testing::{Random, password, quick};
use crate::repository::upkeep::NoWatch;
use crate::repository::upkeep::check::{ReadData, check};
use crate::repository::upkeep::verified::Verified;
use crate::repository::walk::Step;
use crate::repository::{
    BlobKind, Chunker, LockOptions, Node, NodeKind, ObjectKind, Purpose, RepositoryError, Timestamp,
    TreeBuilder, lock,
};
use crate::store::faulty::{FaultyStore, InFlight};
use crate::store::{BlobStore, MemoryStore};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SMALL: WriterOptions = WriterOptions { pack_bytes: 8 << 10, uploads: 2 };
const FILES: u64 = 12;

type Objects = BTreeMap<String, bytes::Bytes>;

fn made(store: Arc<dyn BlobStore>, key: &str) -> Arc<Repository> {
    Arc::new(Repository::init(store, &password(key), quick()).unwrap())
}

fn open(store: Arc<dyn BlobStore>) -> Arc<Repository> {
    Arc::new(Repository::open_with(store, &password("there"), quick()).unwrap())
}

fn locked(repository: &Arc<Repository>) -> Lock {
    try_locked(repository).unwrap()
}

fn try_locked(repository: &Arc<Repository>) -> Result<Lock, RepositoryError> {
    let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
    lock::acquire(repository, Purpose::Backup, options)
}

/// Files of a seed in the root and in two directories, one of which is named twice; its session.
fn back_up(repository: &Arc<Repository>, seed: u64) -> Id {
    let lock = locked(repository);
    let writer = BlobWriter::new(Arc::clone(repository), SMALL).unwrap();
    let mut chunker = Chunker::new();
    let mut tree = |from: u64, below: &[(&str, Id)]| {
        let mut tree = TreeBuilder::new();
        for (name, subtree) in below {
            let subtree = Some(*subtree);
            let name = name.as_bytes().to_vec();
            tree.add(&Node { name, kind: NodeKind::Directory, subtree, ..Node::default() }).unwrap();
        }
        for number in from..from + FILES {
            let bytes = Random(seed + number).bytes(3000);
            let saved = writer.save_file(&mut chunker, &mut bytes.as_slice()).unwrap();
            let name = format!("f{number:03}").into_bytes();
            tree.add(&Node { name, size: 3000, content: saved.content, ..Node::default() }).unwrap();
        }
        writer.save_tree(&mut tree).unwrap().id
    };
    let one = tree(0, &[]);
    let two = tree(FILES, &[("again", one)]);
    let tree = tree(2 * FILES, &[("a", one), ("b", two)]);
    let record = SessionRecord {
        time: Timestamp { seconds: seed as i64, ..Timestamp::now() },
        parent: Some(Id([7; 32])),
        tree,
        paths: vec!["/srv".into()],
        hostname: "master".into(),
        username: "root".into(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: vec!["lsn:1".into()],
        original: None,
        program_version: String::new(),
        summary: None,
    };
    match writer.commit(&lock, &record).unwrap() {
        Commit::Recorded(id) => id,
        Commit::Missing(missing) => panic!("{missing:?}"),
    }
}

/// A repository with a session, and one with another key that is empty.
struct Ground {
    from_store: Arc<MemoryStore>,
    from: Arc<Repository>,
    id: Id,
    record: SessionRecord,
    empty: Objects,
}

impl Ground {
    fn new() -> Ground {
        let from_store = Arc::new(MemoryStore::new());
        let from = made(Arc::clone(&from_store) as _, "here");
        let id = back_up(&from, 1000);
        let record = from.load_session(&id).unwrap();
        let store = Arc::new(MemoryStore::new());
        made(Arc::clone(&store) as _, "there");
        Ground { from_store, from, id, record, empty: store.contents() }
    }

    fn source(&self) -> Source<'_> {
        Source { repository: &self.from, id: &self.id, record: &self.record }
    }

    fn there(&self) -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::new());
        for (name, bytes) in &self.empty {
            store.put(name, bytes.clone()).unwrap();
        }
        store
    }

    fn try_copy(&self, there: &Arc<Repository>, watch: &dyn Watch) -> Result<Outcome, SessionError> {
        copy_in(&self.source(), (there, &try_locked(there)?), SMALL, watch)
    }

    fn copy(&self, store: &Arc<MemoryStore>) -> Copied {
        match self.try_copy(&open(Arc::clone(store) as _), &NoWatch).unwrap() {
            Outcome::Copied(copied) => copied,
            Outcome::Damaged(damaged) => panic!("{damaged:?}"),
        }
    }

    /// What is in the store is free of damage, and each session in it is the whole of ours. How many there are.
    fn assert_whole(&self, store: &Arc<MemoryStore>, context: &str) -> usize {
        let there = open(Arc::clone(store) as _);
        lock::remove_all(&there).unwrap();
        let listed = there.list_sessions().unwrap();
        for id in &listed {
            let record = there.load_session(id).unwrap();
            let same = SessionRecord { parent: None, original: Some(self.id), ..self.record.clone() };
            assert_eq!(record, same, "{context}");
            let mut files = 0;
            let mut each = |_: &[u8], node: Node| {
                for blob in &node.content {
                    let had = self.from.load_blob(BlobKind::Data, blob).unwrap();
                    assert_eq!(there.load_blob(BlobKind::Data, blob).unwrap(), had, "{context}");
                    files += 1;
                }
                Step::Into
            };
            assert!(there.walk(&record.tree, &mut each).unwrap());
            assert_eq!(files, 4 * FILES, "{context}");
        }
        let lock = locked(&there);
        let found = check(&there, &lock, ReadData::Percent(100), &mut Verified::default(), &NoWatch).unwrap();
        assert_eq!(found.damage, [], "{context}");
        listed.len()
    }
}

#[test]
fn a_copy_is_the_session_once() {
    let ground = Ground::new();
    let store = ground.there();
    let first = ground.copy(&store);
    assert!(!first.was_there && first.id != ground.id, "{first:?}");
    assert_eq!((first.counts.trees, first.counts.blobs), (3, 3 * FILES), "{first:?}");
    assert_eq!(ground.assert_whole(&store, "the copy"), 1);
    let objects = store.contents().len();
    let again = ground.copy(&store);
    assert_eq!((again.id, again.was_there, again.counts), (first.id, true, Counts::default()));
    assert_eq!(store.contents().len(), objects, "nothing was written");
    // A copy of the copy is a copy of the original; at home it is the original itself.
    let there = open(Arc::clone(&store) as _);
    let record = there.load_session(&first.id).unwrap();
    let second = Source { repository: &there, id: &first.id, record: &record };
    let third = ground.there();
    let onward = open(Arc::clone(&third) as _);
    let outcome = copy(&second, (&onward, &locked(&onward)), &NoWatch).unwrap();
    assert!(matches!(outcome, Outcome::Copied(_)), "{outcome:?}");
    assert_eq!(ground.assert_whole(&third, "the copy of the copy"), 1);
    let home = copy(&second, (&ground.from, &locked(&ground.from)), &NoWatch).unwrap();
    let Outcome::Copied(home) = home else { panic!("{home:?}") };
    assert_eq!((home.id, home.was_there), (ground.id, true));
    assert_eq!(ground.from.list_sessions().unwrap().len(), 1);
    // A later session of the same files shares what is there.
    let later = back_up(&ground.from, 1000 + FILES);
    let record = ground.from.load_session(&later).unwrap();
    let later = Source { repository: &ground.from, id: &later, record: &record };
    let Outcome::Copied(later) = copy(&later, (&there, &locked(&there)), &NoWatch).unwrap() else { panic!() };
    assert_eq!(later.counts.blobs, FILES, "{later:?}");
}

#[test]
fn complete_or_absent_wherever_it_is_cut() {
    let ground = Ground::new();
    let (mut absent, mut complete) = (0, 0);
    for operations in 0.. {
        let mut finished = false;
        for in_flight in [InFlight::Dropped, InFlight::Kept] {
            let context = format!("cut after {operations}, {in_flight:?}");
            let store = ground.there();
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&store) as _));
            let there = open(Arc::clone(&faulty) as _);
            faulty.cut_power_after(operations, in_flight);
            let outcome = ground.try_copy(&there, &NoWatch);
            finished = !faulty.is_off();
            drop(there);
            let listed = ground.assert_whole(&store, &context);
            assert!(outcome.is_err() || listed == 1, "{context}: told to be done and not there");
            *(if listed == 1 { &mut complete } else { &mut absent }) += 1;
            let again = ground.copy(&store);
            assert_eq!(again.was_there, listed == 1, "{context}");
            assert_eq!(ground.assert_whole(&store, &context), 1, "{context}: two records");
        }
        if finished {
            break;
        }
    }
    println!("{absent} points left no session, {complete} a whole one");
    assert!(absent > 10 && complete > 1, "{absent} and {complete}");
}

/// Each pack damaged in turn, in its middle, by its end and as a whole: never a session, and the path is named.
#[test]
fn what_is_damaged_is_no_session() {
    let ground = Ground::new();
    for pack in ground.from.list_ids(ObjectKind::Pack).unwrap() {
        let name = ObjectKind::Pack.name(&pack);
        let whole = ground.from_store.contents()[&name].clone();
        let mut flipped = whole.to_vec();
        flipped[20] ^= 1;
        for damaged in [Some(flipped), Some(whole[..200].to_vec()), None] {
            match damaged {
                Some(bytes) => ground.from_store.put(&name, bytes.into()).unwrap(),
                None => ground.from_store.delete(&name).unwrap(),
            }
            let store = ground.there();
            let there = open(Arc::clone(&store) as _);
            let outcome = ground.try_copy(&there, &NoWatch).unwrap();
            let Outcome::Damaged(missed) = outcome else { panic!("{pack}: {outcome:?}") };
            let is_named = |missed: &Missed| {
                let path = String::from_utf8_lossy(&missed.path).into_owned();
                path == "/" || path.starts_with("/f") || path.starts_with("/a") || path.starts_with("/b")
            };
            assert!(!missed.is_empty() && missed.iter().all(is_named), "{missed:?}");
            drop(there);
            assert_eq!(ground.assert_whole(&store, "damaged"), 0);
            ground.from_store.put(&name, whole.clone()).unwrap();
            assert!(!ground.copy(&store).was_there);
            assert_eq!(ground.assert_whole(&store, "mended"), 1);
        }
    }
}

/// Cancels when so many blobs were copied.
struct Cancels(AtomicU64, AtomicBool);

impl Watch for Cancels {
    fn progress(&self, phase: &'static str, _: u64, _: Option<u64>, _: &'static str) {
        if phase == "copy" && self.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.1.store(true, Ordering::SeqCst);
        }
    }

    fn cancelled(&self) -> bool {
        self.1.load(Ordering::SeqCst)
    }
}

#[test]
fn what_a_cancelled_copy_stored_is_not_read_again() {
    let ground = Ground::new();
    let store = ground.there();
    let there = open(Arc::clone(&store) as _);
    let outcome = ground.try_copy(&there, &Cancels(20.into(), false.into()));
    assert!(matches!(outcome, Err(SessionError::Cancelled)), "{outcome:?}");
    drop(there);
    assert_eq!(ground.assert_whole(&store, "cancelled"), 0);
    let copied = ground.copy(&store);
    assert!(copied.counts.blobs <= 3 * FILES - 20, "{copied:?}");
    assert_eq!(ground.assert_whole(&store, "gone on"), 1);
}

/// Takes everything out of the index, as a prune does that found no session, when the first blob was copied.
struct Prunes(Mutex<Option<Arc<MemoryStore>>>);

impl Watch for Prunes {
    fn progress(&self, phase: &'static str, _: u64, _: Option<u64>, _: &'static str) {
        if phase == "copy"
            && let Some(store) = self.0.lock().take()
        {
            for name in store.contents().keys().filter(|name| name.starts_with("index/")) {
                store.delete(name).unwrap();
            }
        }
    }

    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn what_a_prune_takes_meanwhile_is_copied_again() {
    let ground = Ground::new();
    let store = ground.there();
    // Half of the session is there and no record needs it.
    let outcome = ground.try_copy(&open(Arc::clone(&store) as _), &Cancels(20.into(), false.into()));
    assert!(outcome.is_err());
    let there = open(Arc::clone(&store) as _);
    let outcome = ground.try_copy(&there, &Prunes(Some(Arc::clone(&store)).into())).unwrap();
    let Outcome::Copied(copied) = outcome else { panic!("{outcome:?}") };
    assert!(copied.counts.blobs > 3 * FILES - 20, "{copied:?}");
    drop(there);
    assert_eq!(ground.assert_whole(&store, "pruned"), 1);
}

/// A copy whose record was there and whose blobs are gone gets them back under the same record.
#[test]
fn a_copy_that_lacks_something_is_completed() {
    let ground = Ground::new();
    let store = ground.there();
    let first = ground.copy(&store);
    for name in store.contents().keys().filter(|name| name.starts_with("index/")) {
        store.delete(name).unwrap();
    }
    let again = ground.copy(&store);
    assert_eq!((again.id, again.was_there), (first.id, false));
    let there = open(Arc::clone(&store) as _);
    assert_eq!(there.list_sessions().unwrap(), [first.id]);
    assert!(there.has_all_of(&ground.record.tree).unwrap());
}
