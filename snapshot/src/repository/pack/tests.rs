//! Packs say what is in them; hostile headers are refused.

use super::*;
use crate::repository::RepositoryErrorKind;
use crate::repository::testing::{MemoryStore, Random};

fn sample() -> (SealKey, FinishedPack) {
    let key = SealKey::random().unwrap();
    let mut builder = PackBuilder::new(100);
    assert!(builder.is_empty());
    for (i, kind) in [BlobKind::Data, BlobKind::Tree, BlobKind::Data].into_iter().enumerate() {
        let plain = vec![i as u8; i * 10 + 1];
        let packed = if i == 1 { 99 } else { 0 };
        builder.add(kind, Id::of(&plain), &key.seal(&plain).unwrap(), packed).unwrap();
    }
    let pack = builder.finish(&key).unwrap();
    (key, pack)
}

#[test]
fn header_says_what_is_inside() {
    let (key, pack) = sample();
    let store = MemoryStore::new();
    store.put(&ObjectKind::Pack.name(&pack.id), pack.bytes.clone()).unwrap();
    let size = pack.bytes.len() as u64;
    assert_eq!(Id::of(&pack.bytes), pack.id);
    assert_eq!(read_header(&*store, &key, &pack.id, size).unwrap(), pack.entries);
    // Three blobs of 1, 11 and 21 bytes; entries of 37, 41 and 37.
    assert_eq!(size, 33 + 43 + 53 + 115 + 32 + 4);
    let other = SealKey::random().unwrap();
    let error = read_header(&*store, &other, &pack.id, size).unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Damaged);
    for wrong in [0, 35, 36, size - 1, u64::MAX] {
        assert!(read_header(&*store, &key, &pack.id, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_header_larger_than_the_first_read() {
    let key = SealKey::random().unwrap();
    let mut builder = PackBuilder::new(0);
    for i in 0..3000u32 {
        builder
            .add(BlobKind::Data, Id::of(&i.to_le_bytes()), &key.seal(&i.to_le_bytes()).unwrap(), 0)
            .unwrap();
    }
    let pack = builder.finish(&key).unwrap();
    let store = MemoryStore::new();
    store.put(&ObjectKind::Pack.name(&pack.id), pack.bytes.clone()).unwrap();
    assert_eq!(read_header(&*store, &key, &pack.id, pack.bytes.len() as u64).unwrap(), pack.entries);
}

/// Headers that are sealed correctly and lie: all a hostile writer with the key can do.
#[test]
fn lying_headers() {
    let key = SealKey::random().unwrap();
    let blob = key.seal(b"hello").unwrap();
    let length = blob.len() as u32;
    let entry = |kind: u8, length: u32, plain: Option<u32>| {
        let mut entry = vec![kind];
        entry.extend(length.to_le_bytes());
        entry.extend(plain.into_iter().flat_map(u32::to_le_bytes));
        entry.extend([5; 32]);
        entry
    };
    let good = entry(0, length, None);
    let cases: [(&[u8], bool); 11] = [
        (&good, true),
        (&entry(2, length, Some(70)), true),
        (&entry(2, length, Some(0)), false),
        (&entry(4, length, None), false),
        (&entry(0, length + 1, None), false),
        (&entry(0, length - 1, None), false),
        (&entry(0, u32::MAX, None), false),
        (&entry(0, 31, None), false),
        (&good[..36], false),
        (&[good.clone(), good.clone()].concat(), false),
        (&[], false),
    ];
    for (header, valid) in cases {
        let mut bytes = blob.clone();
        let sealed = key.seal(header).unwrap();
        bytes.extend(&sealed);
        bytes.extend((sealed.len() as u32).to_le_bytes());
        let store = MemoryStore::new();
        let id = Id::of(&bytes);
        let size = bytes.len() as u64;
        store.put(&ObjectKind::Pack.name(&id), bytes.into()).unwrap();
        assert_eq!(read_header(&*store, &key, &id, size).is_ok(), valid, "{header:?}");
    }
}

#[test]
fn random_damage_is_an_error_not_a_panic() {
    let mut random = Random::from_clock("pack damage");
    let (key, pack) = sample();
    let name = ObjectKind::Pack.name(&pack.id);
    let header = pack.bytes.len() - 4 - 32 - 115;
    for _ in 0..2000 {
        let store = MemoryStore::new();
        let mut bytes = pack.bytes.to_vec();
        if random.below(2) == 0 {
            let at = header + random.below((bytes.len() - header) as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        } else {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        let size = bytes.len() as u64;
        store.put(&name, bytes.into()).unwrap();
        assert!(read_header(&*store, &key, &pack.id, size).is_err());
    }
}
