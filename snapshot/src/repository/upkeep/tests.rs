//! Forget and prune: what stays, what goes and when, cut off at every operation, beside backups at every operation.
//!
//! Sessions are made of numbered files whose bytes follow from the number, so a session's tag says all that it must hold.

mod beside;
mod crash;
mod restic;

use super::check::{CheckReport, ReadData, check};
use super::forget::{ForgetOptions, forget, plan_forget};
use super::plan::{Fate, PruneOptions};
use super::policy::Policy;
use super::prune::{PruneReport, plan_prune, prune};
use super::verified::Verified;
use super::*;
use crate::repository::testing::{Random, password, quick};
use crate::repository::{
    BlobKind, BlobWriter, Commit, Id, LockOptions, Node, NodeKind, ObjectKind, Purpose, Repository,
    RepositoryError, RepositoryErrorKind, SessionRecord, Step, Timestamp, TreeBuilder, WriterOptions, lock,
};
use crate::store::{BlobStore, MemoryStore};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const FILE_BYTES: usize = 3000;

pub(super) fn quickly() -> LockOptions {
    LockOptions { settle: Duration::ZERO, ..LockOptions::default() }
}

pub(super) fn at_once() -> PruneOptions {
    PruneOptions { grace: Duration::ZERO, spare_running: false, ..PruneOptions::default() }
}

/// Bytes of a file.
fn bytes_of(file: u64) -> Vec<u8> {
    Random(file * 2 + 1).bytes(FILE_BYTES)
}

pub(super) fn open(store: &Arc<dyn BlobStore>) -> Arc<Repository> {
    Arc::new(Repository::open_with(Arc::clone(store), &password("secret"), quick()).unwrap())
}

fn fresh() -> (Arc<MemoryStore>, Arc<Repository>) {
    let store = Arc::new(MemoryStore::new());
    let repository = Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap();
    (store, Arc::new(repository))
}

fn copy(store: &MemoryStore) -> Arc<MemoryStore> {
    let copy = MemoryStore::new();
    for (name, bytes) in store.contents() {
        copy.put(&name, bytes).unwrap();
    }
    Arc::new(copy)
}

/// Writes the files and the tree of a session.
pub(super) fn save_files(writer: &BlobWriter, files: &[u64]) -> Result<Id, RepositoryError> {
    let mut files = files.to_vec();
    files.sort_unstable();
    let mut tree = TreeBuilder::new();
    // Two levels, so that trees are shared and not shared.
    for half in files.chunks(files.len().div_ceil(2).max(1)) {
        let mut directory = TreeBuilder::new();
        for file in half {
            let content = vec![writer.save_blob(BlobKind::Data, &bytes_of(*file))?.id];
            let name = format!("f{file:05}").into_bytes();
            directory.add(&Node { name, size: FILE_BYTES as u64, content, ..Node::default() })?;
        }
        let subtree = Some(writer.save_tree(&mut directory)?.id);
        let name = format!("d{:05}", half[0]).into_bytes();
        tree.add(&Node { name, kind: NodeKind::Directory, subtree, ..Node::default() })?;
    }
    Ok(writer.save_tree(&mut tree)?.id)
}

pub(super) fn record(tree: Id, files: &[u64], number: i64) -> SessionRecord {
    SessionRecord {
        time: Timestamp { seconds: 1_700_000_000 + number * 86_400, nanoseconds: 0 },
        parent: None,
        tree,
        paths: vec!["/srv".into()],
        hostname: "master".into(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: vec![],
        tags: files.iter().map(u64::to_string).collect(),
        original: None,
        program_version: String::new(),
        summary: None,
    }
}

pub(super) fn writer(repository: &Arc<Repository>) -> BlobWriter {
    let options = WriterOptions { pack_bytes: 10 << 10, uploads: 1 };
    BlobWriter::new(Arc::clone(repository), options).unwrap()
}

/// A backup that goes on until it is recorded.
pub(super) fn try_backup(
    repository: &Arc<Repository>,
    files: &[u64],
    number: i64,
) -> Result<Id, RepositoryError> {
    let lock = lock::acquire(repository, Purpose::Backup, quickly())?;
    let options = WriterOptions { pack_bytes: 10 << 10, uploads: 1 };
    let writer = BlobWriter::new(Arc::clone(repository), options)?;
    loop {
        let tree = save_files(&writer, files)?;
        if let Commit::Recorded(id) = writer.commit(&lock, &record(tree, files, number))? {
            return Ok(id);
        }
    }
}

fn backup(repository: &Arc<Repository>, files: &[u64], number: i64) -> Id {
    try_backup(repository, files, number).unwrap()
}

/// Reads all of a session and compares it with what its tags say.
pub(super) fn verify(repository: &Repository, session: &Id) {
    let session = repository.load_session(session).unwrap();
    let mut wanted: Vec<u64> = session.tags.iter().map(|tag| tag.parse().unwrap()).collect();
    repository
        .walk(&session.tree, &mut |path, node| {
            if node.kind == NodeKind::File {
                let number: u64 = std::str::from_utf8(&path[8..]).unwrap().parse().unwrap();
                let plain = repository.load_blob(BlobKind::Data, &node.content[0]).unwrap();
                assert_eq!(plain, bytes_of(number));
                wanted.retain(|file| *file != number);
            }
            Step::Into
        })
        .unwrap();
    assert!(wanted.is_empty(), "missing: {wanted:?}");
}

pub(super) fn verify_all(repository: &Repository) -> usize {
    let sessions = repository.list_sessions().unwrap();
    sessions.iter().for_each(|session| verify(repository, session));
    sessions.len()
}

pub(super) fn run_prune(
    repository: &Arc<Repository>,
    options: &PruneOptions,
) -> Result<PruneReport, RepositoryError> {
    let lock = lock::acquire(repository, Purpose::Prune, quickly())?;
    prune(repository, &lock, options, &NoWatch)
}

pub(super) fn run_check(repository: &Arc<Repository>, read: ReadData) -> CheckReport {
    let lock = lock::acquire(repository, Purpose::Check, quickly()).unwrap();
    check(repository, &lock, read, &mut Verified::new(), &NoWatch).unwrap()
}

/// No damage, every byte read.
pub(super) fn assert_whole(repository: &Arc<Repository>) -> CheckReport {
    let report = run_check(repository, ReadData::Percent(100));
    assert_eq!(report.damage, [], "{report:?}");
    report
}

fn keep_last(repository: &Arc<Repository>, last: u32) -> Result<Vec<Id>, RepositoryError> {
    let lock = lock::acquire(repository, Purpose::Forget, quickly())?;
    let policy = Policy { last, ..Policy::default() };
    let options = ForgetOptions { policy, ..ForgetOptions::default() };
    let groups = plan_forget(repository, &options, &NoWatch)?;
    forget(repository, &lock, &groups, &NoWatch)
}

/// Three sessions that share some of their files: one all its own, one half, one nothing.
fn three() -> (Arc<MemoryStore>, Arc<Repository>, [Id; 3]) {
    let (store, repository) = fresh();
    let first: Vec<u64> = (0..12).collect();
    let second: Vec<u64> = (0..12).map(|file| if file % 3 == 0 { file } else { 100 + file }).collect();
    let third: Vec<u64> = (200..206).chain(0..2).collect();
    let ids =
        [(1, &first), (2, &second), (3, &third)].map(|(number, files)| backup(&repository, files, number));
    (store, repository, ids)
}

#[test]
fn what_is_forgotten_waits_and_goes() {
    let (store, repository, [_, second, third]) = three();
    let nothing = plan_prune(&repository, &PruneOptions::default(), &NoWatch).unwrap();
    assert!(nothing.is_empty(), "{nothing:?}");
    assert_eq!(nothing.unused_bytes, 0);
    let gone = keep_last(&repository, 2).unwrap();
    assert_eq!(gone.len(), 1);
    let before = store.contents();
    let plan = plan_prune(&repository, &PruneOptions::default(), &NoWatch).unwrap();
    assert!(plan.mark.packs + plan.repack.packs > 0 && plan.remove.packs == 0, "{plan:?}");
    assert_eq!(store.contents(), before, "a plan changes nothing");
    let report = run_prune(&repository, &PruneOptions::default()).unwrap();
    assert_eq!(report.plan, plan);
    assert_eq!(report.removed.packs, 0);
    // All packs are still there, and what is kept is whole.
    for name in before.keys().filter(|name| name.starts_with("data/")) {
        assert!(store.contents().contains_key(name), "{name}");
    }
    let fresh = open(&(Arc::clone(&store) as _));
    [second, third].iter().for_each(|session| verify(&fresh, session));
    let whole = assert_whole(&fresh);
    assert_eq!(whole.marked_packs, plan.mark.packs + plan.repack.packs);
    assert_eq!(whole.unnamed_packs, 0);
    // Nothing more to do, and nothing is removed before its time.
    let again = run_prune(&fresh, &PruneOptions::default()).unwrap();
    assert!(again.plan.is_empty(), "{again:?}");
    assert_eq!(again.plan.wait.packs, whole.marked_packs);
    assert!(again.plan.next_removal.unwrap() > Timestamp::now());
    // Its time comes.
    let last = run_prune(&fresh, &at_once()).unwrap();
    assert_eq!(last.removed.packs, whole.marked_packs);
    assert_eq!(verify_all(&open(&(Arc::clone(&store) as _))), 2);
    let end = assert_whole(&fresh);
    assert_eq!((end.marked_packs, end.unnamed_packs), (0, 0));
    let packs = store.contents().keys().filter(|name| name.starts_with("data/")).count();
    assert_eq!(packs as u64, end.packs);
    assert!(store.contents().len() < before.len());
}

/// A record that comes back (somebody kept a copy, or a backup died between its record and its second look) gets all its
/// packs back, as long as they wait.
#[test]
fn a_record_that_comes_back_is_whole_again() {
    let (store, repository, [first, ..]) = three();
    let name = ObjectKind::Snapshot.name(&first);
    let kept = store.get(&name, 1 << 20).unwrap();
    keep_last(&repository, 1).unwrap();
    run_prune(&repository, &PruneOptions::default()).unwrap();
    store.put(&name, kept).unwrap();
    // Whoever takes it up sees that it lacks something, also if what he knew of the index said otherwise.
    let tree = repository.load_session(&first).unwrap().tree;
    assert!(!repository.has_all_of(&tree).unwrap());
    let found = run_check(&repository, ReadData::None);
    assert!(found.damage.iter().any(|damage| damage.what.contains("prune puts it back")), "{found:?}");
    let report = run_prune(&repository, &at_once()).unwrap();
    assert!(report.put_back.packs > 0, "{report:?}");
    let fresh = open(&(Arc::clone(&store) as _));
    verify(&fresh, &first);
    assert!(repository.has_all_of(&tree).unwrap() && fresh.has_all_of(&tree).unwrap());
    assert_whole(&fresh);
}

/// Packs that were uploaded and never named are removed too, but not while somebody may yet name them.
#[test]
fn packs_without_a_name() {
    let (store, repository, _) = three();
    let lock = lock::acquire(&repository, Purpose::Backup, quickly()).unwrap();
    let other = open(&(Arc::clone(&store) as _));
    let unfinished = writer(&other);
    let files: Vec<u64> = (300..330).collect();
    let tree = save_files(&unfinished, &files).unwrap();
    // Uploads are on their way; wait for one to arrive.
    while unfinished.written().packs < 3 {
        std::thread::yield_now();
    }
    let pruner = open(&(Arc::clone(&store) as _));
    let report = run_prune(&pruner, &at_once()).unwrap();
    assert!(report.plan.mark.packs >= 3, "{report:?}");
    assert_eq!(report.removed.packs, 0);
    assert_eq!(report.held.packs, report.plan.mark.packs);
    let Commit::Recorded(id) = unfinished.commit(&lock, &record(tree, &files, 9)).unwrap() else { panic!() };
    drop(lock);
    let report = run_prune(&pruner, &at_once()).unwrap();
    assert_eq!(report.removed.packs, 0);
    verify(&open(&(Arc::clone(&store) as _)), &id);
    assert_whole(&pruner);
    // One that nobody will name.
    let lost = writer(&other);
    save_files(&lost, &(400..430).collect::<Vec<u64>>()).unwrap();
    while lost.written().packs < 3 {
        std::thread::yield_now();
    }
    drop(lost);
    assert!(run_check(&pruner, ReadData::None).unnamed_packs >= 3);
    assert_eq!(run_prune(&pruner, &PruneOptions::default()).unwrap().removed.packs, 0);
    assert!(run_prune(&pruner, &at_once()).unwrap().removed.packs >= 3);
    assert_eq!(verify_all(&open(&(store as _))), 4);
}

/// As long as a session cannot be read as a whole nothing is removed.
#[test]
fn damage_stops_a_prune() {
    let mut stopped = 0;
    let (store, repository, [_, _, third]) = three();
    keep_last(&repository, 2).unwrap();
    let needed = repository.load_session(&third).unwrap().tree;
    let place = repository.index().unwrap().lookup(BlobKind::Tree, &needed).unwrap();
    let name = ObjectKind::Pack.name(&place.pack);
    let pack = store.get(&name, 1 << 20).unwrap();
    store.delete(&name).unwrap();
    let before = store.contents();
    let error = run_prune(&repository, &at_once()).unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Damaged, "{error:?}");
    assert_eq!(store.contents(), before);
    store.put(&name, pack).unwrap();
    // Blobs that no index file names.
    let names = repository.list_ids(ObjectKind::Index).unwrap();
    for id in names {
        let name = ObjectKind::Index.name(&id);
        let file = store.get(&name, 1 << 20).unwrap();
        store.delete(&name).unwrap();
        let before = store.contents();
        let error = run_prune(&repository, &at_once()).map(drop);
        if let Err(error) = error {
            assert!(matches!(error, RepositoryError::SessionIncomplete { .. }), "{error:?}");
            assert_eq!(store.contents(), before);
            stopped += 1;
        }
        store.put(&name, file).unwrap();
    }
    assert!(stopped >= 2);
    // A data pack is not read, but known to be missing.
    let needed = bytes_of(203);
    let place = repository.index().unwrap().lookup(BlobKind::Data, &Id::of(&needed)).unwrap();
    store.delete(&ObjectKind::Pack.name(&place.pack)).unwrap();
    let error = run_prune(&repository, &at_once()).unwrap_err();
    assert!(matches!(error, RepositoryError::PackMissing { .. }), "{error:?}");
}

/// A damaged blob is not copied: its pack stays, and the prune says so.
#[test]
fn damage_is_not_packed_anew() {
    let (store, repository, _) = three();
    keep_last(&repository, 2).unwrap();
    let options = PruneOptions { unused_percent: 0, ..at_once() };
    let plan = plan_prune(&repository, &options, &NoWatch).unwrap();
    let repacked: Vec<Id> =
        plan.fates.iter().filter(|(_, fate)| *fate == Fate::Repack).map(|(id, _)| *id).collect();
    // The first file of the second session: its pack is partly used.
    let place = repository.index().unwrap().lookup(BlobKind::Data, &Id::of(&bytes_of(0))).unwrap();
    assert!(repacked.contains(&place.pack));
    let name = ObjectKind::Pack.name(&place.pack);
    let mut bytes = store.get(&name, 1 << 20).unwrap().to_vec();
    bytes[place.offset as usize + 20] ^= 1;
    store.put(&name, bytes.into()).unwrap();
    let report = run_prune(&repository, &options).unwrap();
    assert_eq!(report.damaged.len(), 1, "{report:?}");
    assert!(report.damaged[0].contains(&place.id.to_string()), "{report:?}");
    assert!(store.get(&name, 1 << 20).is_ok());
    let found = run_check(&repository, ReadData::Percent(100));
    assert_eq!(found.damage_count, 1, "{found:?}");
    assert_eq!(found.damage[0].object, name);
}

#[test]
fn an_empty_policy_is_refused() {
    let (store, repository, _) = three();
    let error = keep_last(&repository, 0).unwrap_err();
    assert!(matches!(error, RepositoryError::EmptyPolicy), "{error:?}");
    assert_eq!(open(&(store as _)).list_sessions().unwrap().len(), 3);
}

/// Many small index files become one.
#[test]
fn small_index_files_are_joined() {
    let (store, repository) = fresh();
    for number in 0..12 {
        backup(&repository, &[number * 10, number * 10 + 1], number as i64);
    }
    assert_eq!(repository.list_ids(ObjectKind::Index).unwrap().len(), 12);
    run_prune(&repository, &PruneOptions::default()).unwrap();
    let fresh = open(&(store as _));
    assert_eq!(fresh.list_ids(ObjectKind::Index).unwrap().len(), 1);
    assert_eq!(verify_all(&fresh), 12);
    assert_eq!(repository.index().unwrap().losses(), 0);
}

/// A reader whose index is of before a prune that packed everything anew looks again and goes on.
#[test]
fn a_reader_goes_on() {
    let (store, repository, _) = three();
    let reader = open(&(Arc::clone(&store) as _));
    reader.index().unwrap();
    keep_last(&repository, 2).unwrap();
    let report = run_prune(&repository, &PruneOptions { unused_percent: 0, ..at_once() }).unwrap();
    assert!(report.plan.repack.packs > 0 && report.removed.packs > 0, "{report:?}");
    assert_eq!(verify_all(&reader), 2);
}

/// What a backup has stored that is at work is spared: it would have to store it again.
#[test]
fn a_running_backup_is_spared() {
    let (store, repository, _) = three();
    let ours = open(&(Arc::clone(&store) as _));
    let lock = lock::acquire(&ours, Purpose::Backup, quickly()).unwrap();
    let work = writer(&ours);
    let files: Vec<u64> = (800..820).collect();
    let tree = save_files(&work, &files).unwrap();
    // As after some minutes: stored and named, and no record yet.
    let written = work.flush().unwrap();
    let options = PruneOptions { spare_running: true, ..at_once() };
    let report = run_prune(&repository, &options).unwrap();
    assert!(report.plan.is_empty(), "{report:?}");
    let Commit::Recorded(id) = work.commit(&lock, &record(tree, &files, 9)).unwrap() else { panic!() };
    assert_eq!(work.written(), written);
    verify(&open(&(Arc::clone(&store) as _)), &id);
    drop(lock);
    // Nobody at work any more: what is forgotten goes.
    keep_last(&repository, 1).unwrap();
    assert!(run_prune(&repository, &options).unwrap().removed.packs > 0);
    assert_eq!(verify_all(&open(&(store as _))), 1);
}

/// Says stop when it is asked for the nth time.
struct StopAt(std::sync::atomic::AtomicU64);

impl Watch for StopAt {
    fn progress(&self, _: &'static str, _: u64, _: Option<u64>, _: &'static str) {}

    fn cancelled(&self) -> bool {
        use std::sync::atomic::Ordering::SeqCst;
        self.0.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err()
    }
}

/// Cancelled wherever it asks: nothing is lost, and the next one finishes the work.
#[test]
fn cancelled_anywhere() {
    let (ground, repository, _) = three();
    keep_last(&repository, 2).unwrap();
    let options = PruneOptions { unused_percent: 0, ..at_once() };
    for times in 0.. {
        let store = copy(&ground);
        let repository = open(&(Arc::clone(&store) as _));
        let lock = lock::acquire(&repository, Purpose::Prune, quickly()).unwrap();
        let outcome = prune(&repository, &lock, &options, &StopAt(times.into()));
        drop(lock);
        assert_eq!(verify_all(&open(&(Arc::clone(&store) as _))), 2, "asked {times} times");
        match outcome {
            Err(error) => assert_eq!(error.kind(), RepositoryErrorKind::Cancelled, "{error:?}"),
            Ok(_) => {
                assert!(times > 10, "asked {times} times");
                break;
            }
        }
        run_prune(&repository, &options).unwrap();
        let end = assert_whole(&repository);
        assert_eq!((end.marked_packs, end.unnamed_packs), (0, 0), "asked {times} times");
        assert_eq!(verify_all(&open(&(store as _))), 2);
    }
}
