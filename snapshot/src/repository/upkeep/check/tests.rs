//! Every kind of damage to every kind of object is found and named; parts add up to the whole.

use super::*;
use crate::repository::testing::{Random, password, quick};
use crate::repository::upkeep::NoWatch;
use crate::repository::upkeep::tests::{open, quickly, record, run_check, try_backup, verify_all};
use crate::repository::{BlobWriter, Node, NodeKind, Purpose, TreeBuilder, WriterOptions, lock};
use crate::store::{BlobStore, MemoryStore};
use std::collections::BTreeSet;
use std::sync::Arc;

fn ground() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    let repository = Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap();
    let repository = Arc::new(repository);
    for number in 0..3 {
        let files: Vec<u64> = (number * 5..number * 5 + 15).collect();
        try_backup(&repository, &files, number as i64).unwrap();
    }
    store
}

fn names(store: &MemoryStore, directory: &str) -> Vec<String> {
    store.contents().into_keys().filter(|name| name.starts_with(directory)).collect()
}

fn object(store: &MemoryStore, name: &str) -> Vec<u8> {
    store.get(name, u64::MAX).unwrap().to_vec()
}

/// Checks a copy after `damage`; what was found.
fn found(store: &Arc<MemoryStore>, read: ReadData) -> CheckReport {
    let repository = open(&(Arc::clone(store) as Arc<dyn BlobStore>));
    run_check(&repository, read)
}

fn has(report: &CheckReport, object: &str) -> bool {
    report.damage.iter().any(|damage| damage.object == object)
}

#[test]
fn nothing_is_wrong() {
    let store = ground();
    let report = found(&store, ReadData::Percent(100));
    assert_eq!(report.damage, []);
    assert_eq!((report.sessions, report.packs_read), (3, report.packs));
    assert_eq!(report.bytes_read, report.pack_bytes);
    assert_eq!(report.packs_verified, report.packs);
    assert!(report.oldest_verification.is_some());
    let report = found(&store, ReadData::None);
    assert_eq!((report.packs_read, report.packs_verified, report.oldest_verification), (0, 0, None));
}

#[test]
fn flipped_bits() {
    let ground = ground();
    let mut random = Random::from_clock("flipped_bits");
    for directory in ["data/", "index/", "snapshots/"] {
        for name in names(&ground, directory) {
            let whole = object(&ground, &name);
            let mut bytes = whole.clone();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            ground.put(&name, bytes.into()).unwrap();
            let report = found(&ground, ReadData::Percent(100));
            assert!(has(&report, &name), "{name} at {at}: {report:?}");
            ground.put(&name, whole.into()).unwrap();
        }
    }
    // A key that does not open is passed over when there is another.
    let repository = open(&(Arc::clone(&ground) as _));
    let second = ObjectKind::Key.name(&repository.add_key(&password("other")).unwrap());
    let mut bytes = object(&ground, &second);
    bytes[30] ^= 1;
    ground.put(&second, bytes.into()).unwrap();
    assert!(has(&run_check(&repository, ReadData::None), &second));
}

#[test]
fn cut_off_objects() {
    let ground = ground();
    for directory in ["data/", "index/", "snapshots/"] {
        for name in names(&ground, directory) {
            let whole = object(&ground, &name);
            for length in [0, 3, whole.len() / 2, whole.len() - 1] {
                ground.put(&name, whole[..length].to_vec().into()).unwrap();
                // Sizes are known without reading a pack.
                let report = found(&ground, ReadData::None);
                assert!(has(&report, &name), "{name} of {length} bytes: {report:?}");
                let report = found(&ground, ReadData::Percent(100));
                assert!(has(&report, &name), "{name} of {length} bytes: {report:?}");
            }
            ground.put(&name, whole.into()).unwrap();
        }
    }
}

#[test]
fn removed_objects() {
    let ground = ground();
    for name in names(&ground, "data/") {
        let whole = object(&ground, &name);
        ground.delete(&name).unwrap();
        let report = found(&ground, ReadData::None);
        assert!(has(&report, &name), "{name}: {report:?}");
        ground.put(&name, whole.into()).unwrap();
    }
    for name in names(&ground, "index/") {
        let whole = object(&ground, &name);
        ground.delete(&name).unwrap();
        let report = found(&ground, ReadData::None);
        assert!(report.damage.iter().all(|damage| damage.object.starts_with("session ")), "{report:?}");
        assert!(report.damage_count > 0 && report.unnamed_packs > 0, "{report:?}");
        ground.put(&name, whole.into()).unwrap();
    }
    assert_eq!(verify_all(&open(&(ground as _))), 3);
}

/// Two packs of equal size under each other's names.
#[test]
fn swapped_packs() {
    let ground = ground();
    let packs = names(&ground, "data/");
    let mut swapped = 0;
    for (at, first) in packs.iter().enumerate() {
        let second =
            packs[at + 1..].iter().find(|other| object(&ground, other).len() == object(&ground, first).len());
        let Some(second) = second else { continue };
        let (a, b) = (object(&ground, first), object(&ground, second));
        ground.put(first, b.clone().into()).unwrap();
        ground.put(second, a.clone().into()).unwrap();
        let report = found(&ground, ReadData::Percent(100));
        assert!(has(&report, first) && has(&report, second), "{report:?}");
        ground.put(first, a.into()).unwrap();
        ground.put(second, b.into()).unwrap();
        swapped += 1;
    }
    assert!(swapped > 0);
}

/// Checks of a tenth read other packs each time, until all were read.
#[test]
fn parts_add_up() {
    let store = ground();
    let repository = open(&(Arc::clone(&store) as Arc<dyn BlobStore>));
    let packs = names(&store, "data/").len();
    let mut verified = Verified::new();
    let mut dates = BTreeSet::new();
    for round in 1..=packs {
        let lock = lock::acquire(&repository, Purpose::Check, quickly()).unwrap();
        let report = check(&repository, &lock, ReadData::Percent(1), &mut verified, &NoWatch).unwrap();
        assert_eq!((report.packs_read, report.packs_verified), (1, round as u64));
        assert_eq!(report.oldest_verification.is_some(), round == packs);
        dates.insert(report.bytes_read);
    }
    // What is damaged is verified no longer.
    let name = names(&store, "data/").remove(0);
    let mut bytes = object(&store, &name);
    bytes[5] ^= 1;
    store.put(&name, bytes.into()).unwrap();
    let lock = lock::acquire(&repository, Purpose::Check, quickly()).unwrap();
    let report = check(&repository, &lock, ReadData::Percent(100), &mut verified, &NoWatch).unwrap();
    assert_eq!(report.packs_verified, packs as u64 - 1);
    // If trees lie in it, sessions are named too.
    let of_pack = report.damage.iter().filter(|one| one.object == name);
    assert_eq!(of_pack.filter(|one| one.what.contains("blob")).count(), 1, "{report:?}");
}

/// Sessions that share a directory that lacks a blob are all named; those that do not are not.
#[test]
fn all_who_need_what_is_lost_are_named() {
    let store = ground();
    let repository = open(&(Arc::clone(&store) as Arc<dyn BlobStore>));
    let work = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let directory = |name: String, below| Node {
        name: name.into_bytes(),
        kind: NodeKind::Directory,
        subtree: Some(below),
        ..Node::default()
    };
    let mut tree = TreeBuilder::new();
    let content = vec![Id::of(b"never stored")];
    tree.add(&Node { name: b"f".into(), size: 1, content, ..Node::default() }).unwrap();
    let mut below = work.save_tree(&mut tree).unwrap().id;
    for _ in 0..3 {
        let mut tree = TreeBuilder::new();
        tree.add(&directory("d".into(), below)).unwrap();
        below = work.save_tree(&mut tree).unwrap().id;
    }
    let mut wanted = BTreeSet::new();
    for number in 0..4 {
        let mut tree = TreeBuilder::new();
        tree.add(&directory(format!("d{}", number / 2), below)).unwrap();
        let tree = work.save_tree(&mut tree).unwrap().id;
        work.flush().unwrap();
        let session = repository.save_session(&record(tree, &[], 10 + number)).unwrap();
        wanted.insert(format!("session {session}"));
    }
    let report = found(&store, ReadData::None);
    let named: BTreeSet<String> = report.damage.iter().map(|one| one.object.clone()).collect();
    assert_eq!(named, wanted, "{report:?}");
    assert_eq!((report.damage_count, report.sessions), (4, 7));
}
