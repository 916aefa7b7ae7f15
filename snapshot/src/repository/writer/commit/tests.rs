//! Commits beside a prune, with faults at every call, and cut off at every durable operation.

use super::*;
use crate::repository::testing::{Random, fresh, password, quick, reopen};
use crate::repository::walk::Step;
use crate::repository::{
    Chunker, Id, LockOptions, Node, NodeKind, ObjectKind, Purpose, Repository, RepositoryErrorKind,
    Timestamp, TreeBuilder, WriterOptions, lock,
};
use crate::store::faulty::{Fault, FaultyStore, InFlight, Verb};
use crate::store::{BlobStore, MemoryStore, StoreErrorKind};
use std::sync::Arc;
use std::time::Duration;

fn quickly() -> LockOptions {
    LockOptions { settle: Duration::ZERO, ..LockOptions::default() }
}

fn writer(repository: &Arc<Repository>) -> BlobWriter {
    try_writer(repository).unwrap()
}

fn try_writer(repository: &Arc<Repository>) -> Result<BlobWriter, RepositoryError> {
    BlobWriter::new(Arc::clone(repository), WriterOptions { pack_bytes: 8 << 10, uploads: 2 })
}

fn record(tree: Id, tag: &str) -> SessionRecord {
    SessionRecord {
        time: Timestamp::now(),
        parent: None,
        tree,
        paths: vec!["/srv".into()],
        hostname: "master".into(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: vec![tag.into()],
        original: None,
        program_version: String::new(),
        summary: None,
    }
}

/// Files `0..count` of a seed in a directory `d`; the root tree.
fn save_all(writer: &BlobWriter, seed: u64, count: u8) -> Result<Id, RepositoryError> {
    let mut chunker = Chunker::new();
    let mut tree = TreeBuilder::new();
    for file in 0..count {
        let bytes = Random(seed + u64::from(file)).bytes(3000);
        let saved = writer.save_file(&mut chunker, &mut bytes.as_slice())?;
        assert_eq!(saved.bytes, 3000);
        let name = format!("f{file:03}").into_bytes();
        tree.add(&Node { name, size: 3000, content: saved.content, ..Node::default() })?;
    }
    let directory = writer.save_tree(&mut tree)?.id;
    let node =
        Node { name: b"d".to_vec(), kind: NodeKind::Directory, subtree: Some(directory), ..Node::default() };
    tree.add(&node)?;
    Ok(writer.save_tree(&mut tree)?.id)
}

fn backup(repository: &Arc<Repository>, seed: u64, count: u8) -> Result<Id, RepositoryError> {
    let lock = lock::acquire(repository, Purpose::Backup, quickly())?;
    let writer = try_writer(repository)?;
    let tree = save_all(&writer, seed, count)?;
    match writer.commit(&lock, &record(tree, &seed.to_string()))? {
        Commit::Recorded(id) => Ok(id),
        Commit::Missing(missing) => panic!("{missing:?}"),
    }
}

/// Reads all of a session and compares it with what its seed says.
fn verify(repository: &Repository, session: &Id, count: u8) {
    let session = repository.load_session(session).unwrap();
    let seed: u64 = session.tags[0].parse().unwrap();
    let mut files = 0;
    repository
        .walk(&session.tree, &mut |path, node| {
            if node.kind == NodeKind::File {
                let number: u64 = std::str::from_utf8(&path[3..]).unwrap().parse().unwrap();
                let plain = repository.load_blob(BlobKind::Data, &node.content[0]).unwrap();
                assert_eq!(plain, Random(seed + number).bytes(3000));
                files += 1;
            }
            Step::Into
        })
        .unwrap();
    assert_eq!(files, count);
}

/// What a prune does to the index: it takes out packs, in new files, and removes the old ones.
fn take_out(repository: &Repository, packs: &[Id]) {
    let old = repository.list_ids(ObjectKind::Index).unwrap();
    let fresh = Repository::open_with(Arc::clone(repository.store()), &password("secret"), quick()).unwrap();
    let mut kept: Vec<crate::repository::Location> = Vec::new();
    fresh.index().unwrap().for_each(&mut |place| {
        kept.extend((!packs.contains(&place.pack)).then_some(place));
        true
    });
    let packs = kept.chunk_by(|a, b| a.pack == b.pack).map(|places| {
        let blob = |p: &crate::repository::Location| {
            format!(
                r#"{{"id":"{}","type":"{}","offset":{},"length":{},"uncompressed_length":{}}}"#,
                p.id, p.kind, p.offset, p.length, p.uncompressed_length
            )
        };
        let blobs: Vec<String> = places.iter().map(blob).collect();
        format!(r#"{{"id":"{}","blobs":[{}]}}"#, places[0].pack, blobs.join(","))
    });
    let json = format!(r#"{{"packs":[{}]}}"#, packs.collect::<Vec<_>>().join(","));
    fresh.save_unpacked(ObjectKind::Index, json.as_bytes()).unwrap();
    for id in old {
        fresh.store().delete(&ObjectKind::Index.name(&id)).unwrap();
    }
}

/// A prune takes blobs out of the index that a backup counts on: the backup is told, stores them anew, and commits.
#[test]
fn what_a_prune_took_is_saved_again() {
    let (store, first) = fresh();
    backup(&first, 100, 20).unwrap();
    let ours = reopen(&store);
    let lock = lock::acquire(&ours, Purpose::Backup, quickly()).unwrap();
    let writer = writer(&ours);
    let tree = save_all(&writer, 100, 21).unwrap();
    assert!(writer.written().packs < 3, "the rest is there already");
    // The prune ends while we are at work: every pack of the first session leaves, trees too.
    let packs = first.list_ids(ObjectKind::Pack).unwrap();
    take_out(&first, &packs);
    for pack in &packs {
        store.delete(&ObjectKind::Pack.name(pack)).unwrap();
    }
    let sessions = ours.list_sessions().unwrap().len();
    let Commit::Missing(missing) = writer.commit(&lock, &record(tree, "100")).unwrap() else { panic!() };
    assert_eq!(ours.list_sessions().unwrap().len(), sessions);
    assert_eq!(missing.len(), 20);
    assert!(missing.iter().all(|m| m.kind == BlobKind::Data));
    let mut paths: Vec<&[u8]> = missing.iter().map(|m| m.path.as_slice()).collect();
    paths.sort_unstable();
    assert_eq!((paths[0], paths[19]), (&b"d/f000"[..], &b"d/f019"[..]));
    assert_eq!(save_all(&writer, 100, 21).unwrap(), tree);
    let Commit::Recorded(id) = writer.commit(&lock, &record(tree, "100")).unwrap() else { panic!() };
    verify(&reopen(&store), &id, 21);
    assert_eq!(ours.index().unwrap().losses(), 1);
}

/// A session that repeats an old one whole finds its root gone; one that needs nothing of what left is recorded.
#[test]
fn missing_trees_and_losses_that_do_not_matter() {
    let (store, first) = fresh();
    backup(&first, 100, 5).unwrap();
    let ours = reopen(&store);
    let lock = lock::acquire(&ours, Purpose::Backup, quickly()).unwrap();
    let writer = writer(&ours);
    let tree = save_all(&writer, 100, 5).unwrap();
    let packs = first.list_ids(ObjectKind::Pack).unwrap();
    take_out(&first, &packs);
    let Commit::Missing(missing) = writer.commit(&lock, &record(tree, "100")).unwrap() else { panic!() };
    assert_eq!(missing, [Missing { path: vec![], kind: BlobKind::Tree, id: tree }]);
    let other = save_all(&writer, 5000, 7).unwrap();
    let Commit::Recorded(id) = writer.commit(&lock, &record(other, "5000")).unwrap() else { panic!() };
    verify(&reopen(&store), &id, 7);
    // A tree that was never saved is no session either.
    let never = Id::of(b"never");
    let outcome = writer.commit(&lock, &record(never, "1")).unwrap();
    assert_eq!(outcome, Commit::Missing(vec![Missing { path: vec![], kind: BlobKind::Tree, id: never }]));
}

/// The index changes in the instant in which the record is written: the record is taken back.
#[test]
fn a_prune_between_the_looks() {
    #[derive(Debug)]
    struct PruneOnRecord(Arc<MemoryStore>, parking_lot::Mutex<Option<(Arc<Repository>, Vec<Id>)>>);
    impl BlobStore for PruneOnRecord {
        fn put(&self, name: &str, bytes: bytes::Bytes) -> Result<(), crate::store::StoreError> {
            if name.starts_with("snapshots/")
                && let Some((repository, packs)) = self.1.lock().take()
            {
                take_out(&repository, &packs);
            }
            self.0.put(name, bytes)
        }
        fn get(&self, name: &str, limit: u64) -> Result<bytes::Bytes, crate::store::StoreError> {
            self.0.get(name, limit)
        }
        fn get_range(
            &self,
            name: &str,
            range: std::ops::Range<u64>,
        ) -> Result<bytes::Bytes, crate::store::StoreError> {
            self.0.get_range(name, range)
        }
        fn size(&self, name: &str) -> Result<u64, crate::store::StoreError> {
            self.0.size(name)
        }
        fn list(
            &self,
            directory: &str,
            each: &mut dyn FnMut(crate::store::Entry) -> bool,
        ) -> Result<(), crate::store::StoreError> {
            self.0.list(directory, each)
        }
        fn delete(&self, name: &str) -> Result<(), crate::store::StoreError> {
            self.0.delete(name)
        }
    }
    let store = Arc::new(MemoryStore::new());
    let first = Arc::new(Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap());
    backup(&first, 100, 5).unwrap();
    let packs = first.list_ids(ObjectKind::Pack).unwrap();
    let between = Arc::new(PruneOnRecord(store, Some((first, packs)).into()));
    let ours = Arc::new(Repository::open_with(between, &password("secret"), quick()).unwrap());
    let lock = lock::acquire(&ours, Purpose::Backup, quickly()).unwrap();
    let writer = writer(&ours);
    let tree = save_all(&writer, 100, 6).unwrap();
    let outcome = writer.commit(&lock, &record(tree, "100")).unwrap();
    assert!(matches!(outcome, Commit::Missing(missing) if missing.len() == 5));
    assert_eq!(ours.list_sessions().unwrap().len(), 1);
    save_all(&writer, 100, 6).unwrap();
    let Commit::Recorded(id) = writer.commit(&lock, &record(tree, "100")).unwrap() else { panic!() };
    verify(&ours, &id, 6);
}

/// The power goes at each durable operation of a backup: every record that is found is whole, and another try works.
#[test]
fn cut_off_at_every_durable_operation() {
    for in_flight in [InFlight::Dropped, InFlight::Kept] {
        let mut operations = 0;
        loop {
            let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
            let open = || Repository::open_with(Arc::clone(&store) as _, &password("secret"), quick());
            let made = Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap();
            backup(&Arc::new(made), 100, 8).unwrap();
            let repository = Arc::new(open().unwrap());
            store.cut_power_after(operations, in_flight);
            let outcome = backup(&repository, 104, 8);
            let finished = !store.is_off();
            store.restore_power();
            let repository = Arc::new(open().unwrap());
            lock::remove_all(&repository).unwrap();
            let sessions = repository.list_sessions().unwrap();
            assert!(outcome.is_err() || sessions.len() == 2, "told it was done");
            sessions.iter().for_each(|session| verify(&repository, session, 8));
            let again = backup(&repository, 104, 8).unwrap();
            verify(&open().map(Arc::new).unwrap(), &again, 8);
            if finished {
                // A lock that could not be given back is no reason to fail, so the last operations may end well.
                println!("{in_flight:?}: {operations} durable operations");
                assert!(operations >= 6);
                break;
            }
            operations += 1;
        }
    }
}

/// Each call of a backup fails once: an error, never a hang, never a record that lacks something; the same repository
/// handle goes on with a new writer.
#[test]
fn each_call_fails_once() {
    for verb in [Verb::Put, Verb::Get, Verb::List, Verb::Delete] {
        for after in 0..40 {
            let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
            let made = Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap();
            backup(&Arc::new(made), 100, 8).unwrap();
            let open = || Repository::open_with(Arc::clone(&store) as _, &password("secret"), quick());
            let repository = Arc::new(open().unwrap());
            let (prefix, kind) = (String::new(), StoreErrorKind::Unavailable);
            let in_flight = if after % 2 == 0 { InFlight::Dropped } else { InFlight::Kept };
            store.fail(Fault { verb, prefix, after, times: 1, kind, in_flight });
            store.clear_log();
            let outcome = backup(&repository, 104, 8);
            let hit = store.log().iter().any(|call| call.injected);
            store.heal();
            if let Err(error) = &outcome {
                assert!(hit, "{error}");
                let kind = error.kind();
                assert!(
                    matches!(kind, RepositoryErrorKind::Store(_) | RepositoryErrorKind::Poisoned),
                    "{error}: {kind:?}"
                );
            }
            let found = Arc::new(open().unwrap());
            for session in found.list_sessions().unwrap() {
                verify(&found, &session, 8);
            }
            verify(&open().unwrap(), &backup(&repository, 300, 8).unwrap(), 8);
            if !hit {
                println!("{verb:?}: {after} calls");
                break;
            }
        }
    }
}

/// A lock that was lost is noticed before the record.
#[test]
fn no_record_under_a_lost_lock() {
    let (_store, repository) = fresh();
    let options = LockOptions { lost_after: Duration::ZERO, ..quickly() };
    let lock = lock::acquire(&repository, Purpose::Backup, options).unwrap();
    let writer = writer(&repository);
    let tree = save_all(&writer, 1, 1).unwrap();
    let error = writer.commit(&lock, &record(tree, "1")).unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Locked);
    assert!(repository.list_sessions().unwrap().is_empty());
}
