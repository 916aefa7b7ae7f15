//! What every store does, as functions over any of them. Each works below a directory of its own.

use super::super::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Everything but many objects.
pub(super) fn check_all(store: &dyn BlobStore) {
    check_small(store);
    keeps_a_large_object(store);
}

/// Everything but many objects and a large one.
pub(super) fn check_small(store: &dyn BlobStore) {
    puts_and_gets(store);
    replaces(store);
    keeps_the_empty_object(store);
    reads_ranges(store);
    says_what_is_missing(store);
    refuses_beyond_the_limit(store);
    deletes(store);
    lists(store);
    refuses_names(store);
    serves_many_threads(store);
    can_be_called_from_a_listing(store);
}

/// Bytes that repeat nowhere soon.
pub(super) fn bytes_of(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    Bytes::from(bytes)
}

pub(super) fn names_in(store: &dyn BlobStore, directory: &str) -> Vec<String> {
    let mut names = Vec::new();
    store
        .list(directory, &mut |entry| {
            names.push(entry.name);
            true
        })
        .unwrap();
    let distinct: BTreeSet<_> = names.iter().cloned().collect();
    assert_eq!(distinct.len(), names.len(), "a listing names each object once");
    distinct.into_iter().collect()
}

fn puts_and_gets(store: &dyn BlobStore) {
    for name in ["config", "get/a", "get/a-b_c.d/1", "one/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16"] {
        let bytes = bytes_of(1000, name.len() as u64);
        store.put(name, bytes.clone()).unwrap();
        assert_eq!(store.get(name, 1000).unwrap(), bytes);
        assert_eq!(store.size(name).unwrap(), 1000);
        assert!(names_in(store, name::split(name).0).contains(&name.to_owned()));
    }
}

fn replaces(store: &dyn BlobStore) {
    store.put("replace/a", bytes_of(5000, 1)).unwrap();
    store.put("replace/a", bytes_of(7, 2)).unwrap();
    assert_eq!(store.get("replace/a", 7).unwrap(), bytes_of(7, 2));
    assert_eq!(store.size("replace/a").unwrap(), 7);
    assert_eq!(names_in(store, "replace"), ["replace/a"]);
}

fn keeps_the_empty_object(store: &dyn BlobStore) {
    store.put("empty/a", Bytes::new()).unwrap();
    assert_eq!(store.get("empty/a", 0).unwrap(), Bytes::new());
    assert_eq!(store.size("empty/a").unwrap(), 0);
    assert_eq!(store.get_range("empty/a", 0..0).unwrap(), Bytes::new());
    assert_eq!(store.get_range("empty/a", 0..1).unwrap_err().kind, StoreErrorKind::Other);
    assert_eq!(names_in(store, "empty"), ["empty/a"]);
}

fn reads_ranges(store: &dyn BlobStore) {
    let bytes = bytes_of(10_000, 3);
    store.put("range/a", bytes.clone()).unwrap();
    for (start, end) in
        [(0, 10_000), (0, 1), (9_999, 10_000), (5_000, 5_001), (1, 9_999), (7, 7), (10_000, 10_000)]
    {
        let read = store.get_range("range/a", start..end).unwrap();
        assert_eq!(read, bytes.slice(start as usize..end as usize), "{start}..{end}");
    }
    let reversed = std::ops::Range { start: 5, end: 4 };
    for range in [0..10_001, 9_999..10_001, 10_000..10_001, 20_000..20_001, 20_000..20_000, reversed] {
        let refused = store.get_range("range/a", range.clone()).unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::Other, "{range:?}");
    }
}

fn says_what_is_missing(store: &dyn BlobStore) {
    store.put("missing/there", bytes_of(10, 4)).unwrap();
    for name in ["missing/a", "missing/a/b/c", "absent", "missing/there/below"] {
        assert!(store.get(name, 10).unwrap_err().is_not_found(), "{name}");
        assert!(store.get_range(name, 0..1).unwrap_err().is_not_found(), "{name}");
        assert!(store.get_range(name, 0..0).unwrap_err().is_not_found(), "{name}");
        assert!(store.size(name).unwrap_err().is_not_found(), "{name}");
    }
    assert!(names_in(store, "missing/directory").is_empty());
}

fn refuses_beyond_the_limit(store: &dyn BlobStore) {
    store.put("limit/a", bytes_of(100, 5)).unwrap();
    let refused = store.get("limit/a", 99).unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Other);
    let cause = refused.source.downcast_ref::<cause::Cause>().unwrap();
    assert!(matches!(cause, cause::Cause::TooLarge { size: 100, limit: 99 }), "{cause:?}");
    assert_eq!(store.get("limit/a", 100).unwrap().len(), 100);
}

fn deletes(store: &dyn BlobStore) {
    store.put("delete/a", bytes_of(100, 6)).unwrap();
    store.put("delete/b", bytes_of(100, 6)).unwrap();
    store.delete("delete/a").unwrap();
    assert!(store.get("delete/a", 100).unwrap_err().is_not_found());
    assert_eq!(names_in(store, "delete"), ["delete/b"]);
    store.delete("delete/a").unwrap();
    store.delete("delete/no/such/directory").unwrap();
    store.delete("delete/b").unwrap();
    assert!(names_in(store, "delete").is_empty());
    store.put("delete/a", bytes_of(1, 7)).unwrap();
    assert_eq!(names_in(store, "delete"), ["delete/a"]);
}

fn lists(store: &dyn BlobStore) {
    for name in ["list/a", "list/b/1", "list/b/2/3", "list-not/a", "listed"] {
        store.put(name, bytes_of(name.len(), 8)).unwrap();
    }
    assert_eq!(names_in(store, "list"), ["list/a", "list/b/1", "list/b/2/3"]);
    assert_eq!(names_in(store, "list/b"), ["list/b/1", "list/b/2/3"]);
    assert!(names_in(store, "").contains(&"listed".to_owned()));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut seen = 0;
    store
        .list("list", &mut |entry| {
            assert_eq!(entry.size, entry.name.len() as u64);
            let modified = entry.modified.unwrap();
            assert!((now - modified).abs() < 600, "{modified} is not about now");
            seen += 1;
            seen < 2
        })
        .unwrap();
    assert_eq!(seen, 2, "a listing stops when it is told to");
}

fn refuses_names(store: &dyn BlobStore) {
    for name in ["", "/", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "ä", "a\0", "a%2e"] {
        let refused = |kind| assert_eq!(kind, StoreErrorKind::Other, "{name:?}");
        refused(store.put(name, Bytes::new()).unwrap_err().kind);
        refused(store.get(name, 1).unwrap_err().kind);
        refused(store.get_range(name, 0..1).unwrap_err().kind);
        refused(store.size(name).unwrap_err().kind);
        refused(store.delete(name).unwrap_err().kind);
        if !name.is_empty() {
            refused(store.list(name, &mut |_| true).unwrap_err().kind);
        }
    }
}

fn keeps_a_large_object(store: &dyn BlobStore) {
    // Not a multiple of any part.
    let bytes = bytes_of(100_000_001, 9);
    store.put("large/a", bytes.clone()).unwrap();
    assert_eq!(store.size("large/a").unwrap(), bytes.len() as u64);
    assert!(store.get("large/a", 200_000_000).unwrap() == bytes);
    assert_eq!(
        store.get_range("large/a", 33_554_000..33_555_000).unwrap(),
        bytes.slice(33_554_000..33_555_000)
    );
    assert_eq!(names_in(store, "large"), ["large/a"]);
    store.delete("large/a").unwrap();
}

fn serves_many_threads(store: &dyn BlobStore) {
    let listed_before = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let listed_before = &listed_before;
            scope.spawn(move || {
                for number in 0..10_u64 {
                    let name = format!("threads/{}/{thread}-{number}", number % 3);
                    let bytes = bytes_of(1 + (number * 1000) as usize, thread * 100 + number);
                    store.put(&name, bytes.clone()).unwrap();
                    // Of one's own puts each is listed as soon as it has returned.
                    assert!(names_in(store, "threads").contains(&name));
                    assert_eq!(store.get(&name, 100_000).unwrap(), bytes);
                    listed_before.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // All replace one name: whoever reads it reads one of them whole.
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for _ in 0..10 {
                    store.put("threads-one/a", bytes_of(50_000, thread)).unwrap();
                    let read = store.get("threads-one/a", 50_000).unwrap();
                    assert!((0..4).any(|writer| read == bytes_of(50_000, writer)));
                }
            });
        }
    });
    assert_eq!(listed_before.load(Ordering::Relaxed), 80);
    assert_eq!(names_in(store, "threads").len(), 80);
    assert_eq!(names_in(store, "threads-one"), ["threads-one/a"]);
}

fn can_be_called_from_a_listing(store: &dyn BlobStore) {
    for number in 0..20 {
        store.put(&format!("nested/{number}"), bytes_of(10, number)).unwrap();
    }
    store
        .list("nested", &mut |entry| {
            assert_eq!(store.get(&entry.name, 10).unwrap().len(), 10);
            store.delete(&entry.name).unwrap();
            true
        })
        .unwrap();
    assert!(names_in(store, "nested").is_empty());
}

/// A listing of several pages.
pub(super) fn check_many(store: &dyn BlobStore, count: u64) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for number in (thread..count).step_by(4) {
                    let name = format!("many/{:02x}/{number:06}", number % 7);
                    store.put(&name, bytes_of((number % 5) as usize, number)).unwrap();
                }
            });
        }
    });
    let names = names_in(store, "many");
    assert_eq!(names.len() as u64, count);
    let expected: BTreeSet<_> =
        (0..count).map(|number| format!("many/{:02x}/{number:06}", number % 7)).collect();
    assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
    assert_eq!(names_in(store, "many/03").len() as u64, (count + 3) / 7);
}
