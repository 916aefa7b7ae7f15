//! Saving and loading together: from many threads, after failures, with damage.

use super::*;
use crate::repository::read::{PackRead, READ_BYTES_MAX, plan};
use crate::repository::testing::{Random, fresh, reopen};
use crate::repository::{ObjectKind, RepositoryErrorKind};
use crate::store::BlobStore;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

fn small() -> WriterOptions {
    WriterOptions { pack_bytes: 64 << 10, uploads: 2 }
}

fn read_all(repository: &Repository, reads: &[PackRead]) -> BTreeMap<Id, Result<Vec<u8>, String>> {
    let mut found = BTreeMap::new();
    for read in reads {
        repository.read_pack(read, &mut |place, plain| {
            let value = plain.map(<[u8]>::to_vec).map_err(|error| error.to_string());
            assert!(found.insert(place.id, value).is_none());
            true
        });
    }
    found
}

/// Four threads save overlapping sets: each blob is stored once, all can be read, by id and by pack.
#[test]
fn many_threads() {
    let mut random = Random::from_clock("many threads");
    let blobs: Vec<Vec<u8>> = (0..500)
        .map(|i| {
            let length = 1 + random.below(5000) as usize;
            if i % 2 == 0 { random.bytes(length) } else { random.text(length) }
        })
        .collect();
    let (store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
    let (new, stored) = (Mutex::new(0), Mutex::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (writer, blobs, new, stored) = (&writer, &blobs, &new, &stored);
            scope.spawn(move || {
                for i in 0..blobs.len() {
                    let blob = &blobs[(i * 7 + thread * 31) % blobs.len()];
                    let kind = BlobKind::ALL[blob.len() % 2];
                    let saved = writer.save_blob(kind, blob).unwrap();
                    *new.lock() += usize::from(saved.is_new);
                    *stored.lock() += saved.stored_bytes;
                }
            });
        }
    });
    let written = writer.flush().unwrap();
    assert_eq!(*new.lock(), 500);
    assert_eq!(written.index_files, 1);
    assert_eq!(written.packs as usize, store.names("data").len());
    let bytes: u64 = store.names("data").iter().map(|name| store.size(name).unwrap()).sum();
    assert_eq!(bytes, written.pack_bytes);
    assert!(*stored.lock() < bytes && *stored.lock() > bytes * 8 / 10);
    assert_eq!(writer.flush().unwrap(), written);
    assert!(!writer.save_blob(BlobKind::ALL[blobs[0].len() % 2], &blobs[0]).unwrap().is_new);

    let repository = reopen(&store);
    for blob in &blobs {
        let kind = BlobKind::ALL[blob.len() % 2];
        assert_eq!(repository.load_blob(kind, &Id::of(blob)).unwrap(), *blob);
    }
    let wanted = blobs.iter().chain(&blobs).map(|blob| (BlobKind::ALL[blob.len() % 2], Id::of(blob)));
    let reads = plan(&repository, wanted).unwrap();
    assert_eq!(reads.len() as u64, written.packs);
    let before = store.reads.load(Ordering::SeqCst);
    let found = read_all(&repository, &reads);
    assert_eq!(store.reads.load(Ordering::SeqCst) - before, written.packs);
    assert!(blobs.iter().all(|blob| found[&Id::of(blob)].as_ref() == Ok(blob)));
    assert_eq!(found.len(), 500);
}

/// Objects come in the order packs, index files; no index file before all its packs.
#[test]
fn order_of_durability() {
    let (store, repository) = fresh();
    let writer = BlobWriter::new(repository, small()).unwrap();
    let mut random = Random::from_clock("order");
    for _ in 0..100 {
        writer.save_blob(BlobKind::Data, &random.bytes(10_000)).unwrap();
    }
    writer.flush().unwrap();
    let puts = store.puts.lock().clone();
    let first_index = puts.iter().position(|name| name.starts_with("index/")).unwrap();
    assert!(puts[first_index..].iter().all(|name| name.starts_with("index/")), "{puts:?}");
    assert!(first_index > 10);
}

#[test]
fn refused_blobs_do_not_poison() {
    let (_store, repository) = fresh();
    let writer = BlobWriter::new(repository, small()).unwrap();
    assert_eq!(writer.save_blob(BlobKind::Data, b"").unwrap_err().kind(), RepositoryErrorKind::Refused);
    let huge = vec![0; (BlobKind::Data.bytes_max() + 1) as usize];
    assert_eq!(writer.save_blob(BlobKind::Data, &huge).unwrap_err().kind(), RepositoryErrorKind::Refused);
    writer.save_blob(BlobKind::Data, b"x").unwrap();
    writer.flush().unwrap();
}

/// After a failed put nothing is accepted, nothing is indexed, and a new writer stores what was lost.
#[test]
fn a_failure_poisons() {
    for left in [0, 1, 5] {
        let (store, repository) = fresh();
        store.puts_left.store(left, Ordering::SeqCst);
        let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
        let mut random = Random(7);
        let blobs: Vec<Vec<u8>> = (0..100).map(|_| random.bytes(10_000)).collect();
        let failed = blobs.iter().find_map(|blob| writer.save_blob(BlobKind::Data, blob).err());
        let flushed = writer.flush().unwrap_err();
        assert_eq!(flushed.kind(), RepositoryErrorKind::Poisoned);
        assert!(failed.is_none_or(|error| error.kind() == RepositoryErrorKind::Poisoned));
        assert!(crate::repository::chain(&flushed).contains("put"), "{}", crate::repository::chain(&flushed));
        let again = writer.save_blob(BlobKind::Data, b"x").unwrap_err();
        assert_eq!(again.kind(), RepositoryErrorKind::Poisoned);
        drop(writer);
        assert!(store.names("index").is_empty());
        assert_eq!(store.names("data").len() as i64, left);

        store.puts_left.store(-1, Ordering::SeqCst);
        let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
        for blob in &blobs {
            writer.save_blob(BlobKind::Data, blob).unwrap();
        }
        writer.flush().unwrap();
        let fresh = reopen(&store);
        assert!(blobs.iter().all(|blob| fresh.load_blob(BlobKind::Data, &Id::of(blob)).unwrap() == *blob));
    }
}

/// A store that panics: the threads die with their packs and with those that wait, and everybody is told.
#[test]
fn a_panic_poisons_and_does_not_hang() {
    for (uploads, puts_left) in [(1, 0), (2, 3)] {
        let (store, repository) = fresh();
        let options = WriterOptions { uploads, ..small() };
        let writer = BlobWriter::new(Arc::clone(&repository), options).unwrap();
        store.puts_left.store(puts_left, Ordering::SeqCst);
        store.panics.store(true, Ordering::SeqCst);
        let mut random = Random(7);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let noise = random.bytes(500_000);
                let writer = &writer;
                scope.spawn(move || {
                    for blob in noise.chunks(10_000) {
                        if writer.save_blob(BlobKind::Data, blob).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        assert_eq!(writer.flush().unwrap_err().kind(), RepositoryErrorKind::Poisoned);
        drop(writer);
        assert!(store.names("index").is_empty());
        store.puts_left.store(-1, Ordering::SeqCst);
        let writer = BlobWriter::new(Arc::clone(&repository), options).unwrap();
        let saved = writer.save_blob(BlobKind::Data, b"later").unwrap();
        writer.flush().unwrap();
        assert_eq!(reopen(&store).load_blob(BlobKind::Data, &saved.id).unwrap(), b"later");
    }
}

/// Packs under way are memory: a store where nothing waits for a network has two at most.
#[test]
fn packs_under_way() {
    for (connections, uploads, threads) in
        [(0, 8, 2), (0, 1, 1), (0, 0, 1), (16, 8, 8), (16, 1000, UPLOADS_MAX)]
    {
        let (store, repository) = fresh();
        store.connections.store(connections, Ordering::SeqCst);
        let writer = BlobWriter::new(repository, WriterOptions { uploads, ..small() }).unwrap();
        assert_eq!(writer.uploads.threads(), threads, "{uploads} of {connections}");
    }
}

/// Trees fill packs of half the size, in which all of them are found.
#[test]
fn packs_of_trees_are_smaller() {
    let mut random = Random::from_clock("packs of trees");
    let trees: Vec<Vec<u8>> = (0..20).map(|_| random.bytes(10_000)).collect();
    for (kind, packs) in [(BlobKind::Data, 4), (BlobKind::Tree, 7)] {
        let (store, repository) = fresh();
        let writer = BlobWriter::new(repository, small()).unwrap();
        assert!(trees.iter().all(|tree| writer.save_blob(kind, tree).unwrap().is_new));
        assert_eq!(writer.flush().unwrap().packs, packs, "{kind}");
        let fresh = reopen(&store);
        assert!(trees.iter().all(|tree| fresh.load_blob(kind, &Id::of(tree)).unwrap() == *tree));
    }
}

/// What compresses is given back with the writer; the repository stays open and goes on.
#[test]
fn codecs_go_with_the_writer() {
    let (store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
    let saved = writer.save_blob(BlobKind::Data, b"some bytes").unwrap();
    writer.flush().unwrap();
    assert_eq!(repository.codecs().idle(), 1);
    drop(writer);
    assert_eq!(repository.codecs().idle(), 0);
    assert_eq!(repository.load_blob(BlobKind::Data, &saved.id).unwrap(), b"some bytes");
    assert_eq!(reopen(&store).load_blob(BlobKind::Data, &saved.id).unwrap(), b"some bytes");
}

/// Somebody who was told that a blob is on its way must not commit when its saver died.
#[test]
fn a_claim_that_is_broken_off_poisons() {
    let (_store, repository) = fresh();
    let writer = BlobWriter::new(repository, small()).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _claim = Claim { shared: &writer.shared, kept: false };
        panic!("as the test wants it");
    }));
    assert!(outcome.is_err());
    assert_eq!(writer.flush().unwrap_err().kind(), RepositoryErrorKind::Poisoned);
}

/// Long runs write index files on the way: when one is full, or when packs have waited.
#[test]
fn index_files_on_the_way() {
    let (_store, repository) = fresh();
    let index = repository.index().unwrap();
    assert!(!index.is_due(std::time::Duration::ZERO));
    let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
    let mut random = Random(11);
    while writer.written().packs == 0 {
        writer.save_blob(BlobKind::Data, &random.bytes(10_000)).unwrap();
    }
    assert!(index.is_due(std::time::Duration::ZERO));
    assert!(!index.is_due(crate::repository::index::INDEX_FILE_AFTER));
    let saved = repository.save_index(Some(std::time::Duration::ZERO)).unwrap();
    assert_eq!(repository.list_ids(ObjectKind::Index).unwrap().len() as u64, saved);
    assert!(saved >= 1);
    assert_eq!(repository.save_index(Some(crate::repository::index::INDEX_FILE_AFTER)).unwrap(), 0);
}

#[test]
fn trees_are_compressed_always_and_noise_never() {
    let (_store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
    let mut random = Random(9);
    let noise = random.bytes(1000);
    let data = writer.save_blob(BlobKind::Data, &noise).unwrap();
    let tree = writer.save_blob(BlobKind::Tree, &noise).unwrap();
    let text = writer.save_blob(BlobKind::Data, &random.text(1000)).unwrap();
    writer.flush().unwrap();
    let index = repository.index().unwrap();
    let place = |kind, saved: &Saved| index.lookup(kind, &saved.id).unwrap();
    assert_eq!(data.id, tree.id);
    assert_eq!((data.stored_bytes, place(BlobKind::Data, &data).uncompressed_length), (1032, 0));
    assert_eq!(place(BlobKind::Tree, &tree).uncompressed_length, 1000);
    assert!(text.stored_bytes < 500);
    assert_ne!(place(BlobKind::Data, &data).pack, place(BlobKind::Tree, &tree).pack);
}

/// Every kind of damage to a pack: the blob is refused with pack and offset, its neighbours are read.
#[test]
fn damaged_packs() {
    let mut random = Random::from_clock("damaged packs");
    let (store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), WriterOptions::default()).unwrap();
    let blobs: Vec<Vec<u8>> =
        (0..20).map(|i| if i % 2 == 0 { random.bytes(900) } else { random.text(900) }).collect();
    for blob in &blobs {
        writer.save_blob(BlobKind::Data, blob).unwrap();
    }
    writer.flush().unwrap();
    let name = store.names("data").remove(0);
    let whole = store.objects.lock()[&name].clone();
    let repository = reopen(&store);
    let reads = plan(&repository, blobs.iter().map(|blob| (BlobKind::Data, Id::of(blob)))).unwrap();
    for victim in &reads[0].blobs {
        let at = u64::from(victim.offset) + random.below(victim.length.into());
        store.edit(&name, |bytes| bytes[at as usize] ^= 1 << random.below(8));
        let error = repository.load_blob(BlobKind::Data, &victim.id).unwrap_err();
        assert_eq!(error.kind(), RepositoryErrorKind::Damaged);
        let text = error.to_string();
        assert!(text.contains(&name) && text.contains(&format!("offset {}", victim.offset)), "{text}");
        for (id, value) in read_all(&repository, &reads) {
            assert_eq!(value.is_err(), id == victim.id);
            assert!(value.is_ok_and(|value| Id::of(&value) == id) || id == victim.id);
        }
        store.objects.lock().insert(name.clone(), whole.clone());
    }
    store.edit(&name, |bytes| bytes.truncate(bytes.len() / 2));
    let found = read_all(&repository, &reads);
    let lost = found.values().filter(|value| value.is_err()).count();
    assert!((5..20).contains(&lost), "{lost}");
    store.delete(&name).unwrap();
    assert!(read_all(&repository, &reads).values().all(Result::is_err));
}

/// A second copy in another pack is used when the first is damaged.
#[test]
fn another_copy_helps() {
    let (store, repository) = fresh();
    for _ in 0..2 {
        // Two writers that do not know of each other, as on two machines.
        let writer = BlobWriter::new(reopen(&store), small()).unwrap();
        store.objects.lock().retain(|name, _| !name.starts_with("index/hidden"));
        writer.shared.repository.index().unwrap();
        writer.open[0].lock().get_or_insert_with(|| PackBuilder::new(0));
        let sealed = repository.seal_key().seal(b"hello").unwrap();
        let mut pack = PackBuilder::new(0);
        pack.add(BlobKind::Data, Id::of(b"hello"), &sealed, 0).unwrap();
        *writer.open[0].lock() = Some(pack);
        writer.flush().unwrap();
    }
    let names = store.names("data");
    assert_eq!(names.len(), 2);
    for name in &names {
        let whole = store.objects.lock()[name].clone();
        store.edit(name, |bytes| bytes[20] ^= 1);
        let repository = reopen(&store);
        assert_eq!(repository.load_blob(BlobKind::Data, &Id::of(b"hello")).unwrap(), b"hello");
        let reads = plan(&repository, [(BlobKind::Data, Id::of(b"hello"))]).unwrap();
        assert_eq!(read_all(&repository, &reads)[&Id::of(b"hello")], Ok(b"hello".to_vec()));
        store.objects.lock().insert(name.clone(), whole);
    }
}

/// Index entries that lie: beyond the pack, of giant lengths, of another blob. None takes memory or gives wrong bytes.
#[test]
fn lying_index() {
    let (store, repository) = fresh();
    let writer = BlobWriter::new(Arc::clone(&repository), small()).unwrap();
    let bomb = vec![0; 8 << 20];
    let id = writer.save_blob(BlobKind::Data, &bomb).unwrap().id;
    writer.flush().unwrap();
    let place = repository.index().unwrap().lookup(BlobKind::Data, &id).unwrap();
    let size = store.size(&ObjectKind::Pack.name(&place.pack)).unwrap() as u32;
    assert!(repository.load_at(&place).is_ok());
    let lies = [
        crate::repository::Location { offset: size, ..place },
        crate::repository::Location { length: u32::MAX - place.offset, ..place },
        crate::repository::Location { length: place.length - 1, ..place },
        crate::repository::Location { length: 0, ..place },
        crate::repository::Location { uncompressed_length: 1000, ..place },
        crate::repository::Location { uncompressed_length: u32::MAX, ..place },
        crate::repository::Location { uncompressed_length: (8 << 20) + 1, ..place },
        crate::repository::Location { uncompressed_length: 0, ..place },
        crate::repository::Location { id: Id([1; 32]), ..place },
        crate::repository::Location { pack: Id([1; 32]), ..place },
    ];
    for lie in lies {
        let error = repository.load_at(&lie).unwrap_err();
        let read = PackRead { pack: lie.pack, blobs: vec![lie] };
        let found = read_all(&repository, std::slice::from_ref(&read));
        // The true place is in the index, and is used instead.
        assert_eq!(found[&lie.id].is_ok(), lie.id == id, "{lie:?}: {error}");
    }
}

/// A pack larger than one read is fetched in pieces, each blob once.
#[test]
fn pieces() {
    let (store, repository) = fresh();
    let options = WriterOptions { pack_bytes: 41 << 20, uploads: 1 };
    let writer = BlobWriter::new(Arc::clone(&repository), options).unwrap();
    let mut random = Random(3);
    let noise = random.bytes(5 << 20);
    let blobs: Vec<&[u8]> = (0..8).map(|i| &noise[i..]).collect();
    for blob in &blobs {
        writer.save_blob(BlobKind::Data, blob).unwrap();
    }
    writer.flush().unwrap();
    assert_eq!(store.names("data").len(), 1);
    let all = plan(&repository, blobs.iter().map(|blob| (BlobKind::Data, Id::of(blob)))).unwrap();
    let before = store.reads.load(Ordering::SeqCst);
    assert_eq!(read_all(&repository, &all).len(), 8);
    let reads = store.reads.load(Ordering::SeqCst) - before;
    assert_eq!(reads, 3, "pieces of {READ_BYTES_MAX}");
    // The first and the last only: what lies between is not fetched.
    let two = plan(&repository, [0, 7].map(|i| (BlobKind::Data, Id::of(blobs[i])))).unwrap();
    let before = store.reads.load(Ordering::SeqCst);
    assert_eq!(read_all(&repository, &two).len(), 2);
    assert_eq!(store.reads.load(Ordering::SeqCst) - before, 2);
    let missing = plan(&repository, [(BlobKind::Tree, Id([0; 32]))]).unwrap_err();
    assert_eq!(missing.kind(), RepositoryErrorKind::NotFound);
}
