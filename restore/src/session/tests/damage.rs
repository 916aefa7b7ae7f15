//! Every object of a repository damaged in turn: what is restored is right, and what is not is listed.

use super::world::{Random, World, assert_same, directory, expected, file, look, restore};
use crate::session::{Options, Outcome, SessionRestoreError, SessionRestoreErrorKind, Sparse, execute};
use bytes::Bytes;
use snapshot::repository::{NodeKind, ObjectKind, RepositoryErrorKind};
use snapshot::store::{BlobStore, Entry, MemoryStore, StoreError, StoreErrorKind};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A pack with something wrong in it; `None`: it is gone.
type Damaged = (String, Option<Vec<u8>>);

/// Every pack with a bit flipped anywhere, cut anywhere, gone; and a bit flipped in every single blob.
fn damages(world: &World, random: &mut Random) -> Vec<Damaged> {
    let contents = world.store.contents();
    let mut damages = Vec::new();
    let mut flip = |bytes: &[u8], from: u64, length: u64| {
        let mut bytes = bytes.to_vec();
        bytes[(from + random.below(length)) as usize] ^= 1 << random.below(8);
        bytes
    };
    for (name, bytes) in contents.iter().filter(|(name, _)| name.starts_with("data/")) {
        let length = bytes.len() as u64;
        damages.push((name.clone(), Some(flip(bytes, 0, length))));
        damages.push((name.clone(), Some(bytes[..bytes.len() / 2].to_vec())));
        damages.push((name.clone(), None));
    }
    world.repository.index().unwrap().for_each(&mut |place| {
        let name = ObjectKind::Pack.name(&place.pack);
        let bytes = flip(&contents[&name], place.offset.into(), place.length.into());
        damages.push((name, Some(bytes)));
        true
    });
    damages
}

#[test]
fn damage_anywhere_is_listed_and_the_rest_comes_out() {
    let mut random = Random::from_clock("damage_anywhere_is_listed_and_the_rest_comes_out");
    let mut world = World::new();
    world.pack_bytes = 30_000;
    let mut top = directory();
    for directory in 0..4 {
        for number in 0..4 {
            let length = random.below(30_000) as usize;
            top.put(&format!("srv/d{directory}/f{number}"), file(&random.bytes(length)));
        }
    }
    let tree = world.save(&mut top, &mut || 9_000);
    let wanted = expected(&top);
    let (mut files_lost, mut directories_lost, mut refused) = (0, 0, 0);
    for (name, damaged) in damages(&world, &mut random) {
        let whole = world.store.contents()[&name].clone();
        match damaged {
            None => world.store.delete(&name).unwrap(),
            Some(damaged) => world.store.put(&name, damaged.into()).unwrap(),
        }
        let target = tempfile::tempdir().unwrap();
        let options = Options { verify: true, ..Options::default() };
        match restore(&world.reopen(), tree, &[], target.path(), options) {
            Ok(receipt) => {
                let lost: Vec<_> = receipt.failures.iter().map(|listed| listed.path.clone()).collect();
                let outcome = if lost.is_empty() { Outcome::Done } else { Outcome::Incomplete };
                assert_eq!((receipt.outcome(), receipt.verified), (outcome, Some(true)));
                let mut rest = wanted.clone();
                rest.retain(|path, _| !lost.iter().any(|lost| path.starts_with(lost)));
                assert_same(&look(target.path()), &rest);
                for listed in &receipt.failures {
                    files_lost += u64::from(listed.what == "content");
                    directories_lost += u64::from(listed.what == "directory");
                    assert!(listed.reason.contains(&name), "{}", listed.reason);
                }
            }
            // The session's first tree.
            Err(SessionRestoreError::Repository { .. }) => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        world.store.put(&name, whole).unwrap();
    }
    println!("files lost {files_lost}, directories lost {directories_lost}, refused {refused}");
    assert!(files_lost >= 16 && directories_lost >= 5 && refused >= 1);
}

#[test]
fn a_store_that_does_not_answer_ends_the_restore() {
    let world = World::new();
    let mut top = directory();
    for number in 0..20 {
        top.put(&format!("srv/f{number}"), file(format!("file {number}").as_bytes()));
    }
    let tree = world.save(&mut top, &mut || 100);
    let target = tempfile::tempdir().unwrap();
    let store = Arc::new(Unreachable { store: Arc::clone(&world.store), reads: AtomicU64::new(u64::MAX) });
    let repository = super::world::open_store(store.clone());
    let plan = super::world::planned(&repository, tree, &[], target.path(), Options::default()).unwrap();
    // Two trees, then the pack of the files.
    store.reads.store(2, Ordering::SeqCst);
    let outcome = execute(&plan, &crate::NoMonitor);
    let kind = outcome.as_ref().unwrap_err().kind();
    let down = RepositoryErrorKind::Store(StoreErrorKind::Unavailable);
    assert_eq!(kind, SessionRestoreErrorKind::Repository(down), "{outcome:?}");
    let files = look(target.path()).into_iter().filter(|(_, seen)| seen.kind == NodeKind::File);
    assert_eq!(files.count(), 1, "the marker, and nothing half");
    let receipt = restore(&world.repository, tree, &[], target.path(), Options::default()).unwrap();
    assert_eq!((receipt.outcome(), receipt.files), (Outcome::Done, 20));
    assert_same(&look(target.path()), &expected(&top));
}

/// Answers so many times.
#[derive(Debug)]
struct Unreachable {
    store: Arc<MemoryStore>,
    reads: AtomicU64,
}

impl BlobStore for Unreachable {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.store.put(name, bytes)
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.store.get(name, limit)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let left = self.reads.load(Ordering::SeqCst);
        if left == 0 {
            let (kind, name) = (StoreErrorKind::Unavailable, name.to_owned());
            return Err(StoreError { operation: "get", name, kind, source: "as the test wants it".into() });
        }
        self.reads.store(left - 1, Ordering::SeqCst);
        self.store.get_range(name, range)
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.store.size(name)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        self.store.list(directory, each)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.store.delete(name)
    }
}

#[test]
fn verification_finds_what_was_changed_behind_its_back() {
    use crate::session::{Monitor, Progress};
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;

    /// Changes the file when it is under its name, before it is read again.
    struct Meddler(PathBuf, AtomicBool);

    impl Monitor for Meddler {
        fn progress(&self, _: Progress) {
            if self.0.exists() && !self.1.swap(true, Ordering::SeqCst) {
                std::fs::write(&self.0, b"something else").unwrap();
            }
        }

        fn cancelled(&self) -> bool {
            false
        }
    }

    let world = World::new();
    let mut top = directory();
    top.put("f", file(b"what it was")).put("g", file(b"good"));
    let tree = world.save(&mut top, &mut || 4);
    let target = tempfile::tempdir().unwrap();
    let options = Options { verify: true, sparse: Sparse::Off, threads: 1, ..Options::default() };
    let plan = super::world::planned(&world.repository, tree, &[], target.path(), options).unwrap();
    let meddler = Meddler(target.path().join("f"), AtomicBool::new(false));
    let receipt = execute(&plan, &meddler).unwrap();
    assert_eq!((receipt.outcome(), receipt.verified), (Outcome::VerificationFailed, Some(false)));
    assert_eq!((receipt.failures[0].path.as_slice(), receipt.verified_files), (&b"/f"[..], 1));
}
