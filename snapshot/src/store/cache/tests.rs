//! Copies come back, outlive the process, stay within their bound, and are never believed when damaged.

use super::*;

fn cache(bytes_max: u64) -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path(), "id1", bytes_max).unwrap();
    (directory, cache)
}

fn bytes(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

#[test]
fn copies_come_back_and_outlive_the_process() {
    let (directory, cache) = cache(10_000);
    assert!(cache.get("index/a", 100).is_none());
    cache.put("index/a", &bytes(100));
    cache.put("data/00/p", &bytes(50));
    assert_eq!(cache.get("index/a", 100).unwrap(), bytes(100));
    assert!(cache.get("index/a", 99).is_none());
    assert_eq!(cache.get_range("data/00/p", 10..20).unwrap(), bytes(10));
    assert!(cache.get_range("data/00/p", 10..51).is_none());
    let again = Cache::open(directory.path(), "id1", 10_000).unwrap();
    assert_eq!(again.used(), 150);
    assert_eq!(again.get("index/a", 100).unwrap(), bytes(100));
    let other = Cache::open(directory.path(), "id2", 10_000).unwrap();
    assert!(other.get("index/a", 100).is_none() && other.used() == 0);
    let tag = std::fs::read_to_string(directory.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
}

#[test]
fn what_is_forgotten_or_gone_is_dropped() {
    let (_directory, cache) = cache(10_000);
    for name in ["index/a", "index/b", "snapshots/c"] {
        cache.put(name, &bytes(10));
    }
    cache.forget("index/a");
    cache.forget("index/none");
    cache.forget("../escape");
    assert_eq!(cache.used(), 20);
    cache.put("index/d", &bytes(10));
    cache.retain("index", &|name| name == "index/d");
    assert!(cache.get("index/b", 10).is_none());
    assert!(cache.get("index/d", 10).is_some() && cache.get("snapshots/c", 10).is_some());
    assert_eq!(cache.used(), 20);
}

#[test]
fn the_longest_unused_goes_first_and_the_bound_holds() {
    let (directory, cache) = cache(1000);
    cache.put("index/huge", &bytes(251));
    assert!(cache.get("index/huge", 1000).is_none(), "more than a quarter of the room");
    for number in 0..10_u64 {
        cache.put(&format!("index/{number}"), &bytes(100));
        let file = std::fs::File::open(directory.path().join(format!("id1/index/{number}"))).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(100_000 - number)).unwrap();
    }
    assert_eq!(cache.used(), 1000);
    // The oldest is used and is the youngest now.
    assert!(cache.get("index/0", 100).is_some());
    cache.put("index/10", &bytes(100));
    assert!(cache.used() <= 900);
    let left: Vec<_> =
        (0..=10).filter(|number| cache.get(&format!("index/{number}"), 100).is_some()).collect();
    assert_eq!(left, [0, 3, 4, 5, 6, 7, 8, 9, 10]);
    // A smaller bound holds from the beginning.
    assert!(Cache::open(directory.path(), "id1", 400).unwrap().used() <= 400);
}

#[test]
fn it_may_be_deleted_while_it_is_in_use() {
    let (directory, cache) = cache(10_000);
    cache.put("index/a", &bytes(10));
    std::fs::remove_dir_all(directory.path().join("id1")).unwrap();
    assert!(cache.get("index/a", 10).is_none());
    cache.put("index/b", &bytes(10));
    assert_eq!(cache.get("index/b", 10).unwrap(), bytes(10));
    assert_eq!(cache.used(), 10);
    std::fs::remove_dir_all(directory.path()).unwrap();
    cache.put("index/c", &bytes(10));
    assert!(cache.get("index/b", 10).is_none() && cache.get("index/c", 10).is_some());
}

#[test]
fn a_place_that_cannot_be_written_fails_nothing_later() {
    let (directory, cache) = cache(10_000);
    std::fs::remove_dir_all(directory.path().join("id1")).unwrap();
    std::fs::write(directory.path().join("id1"), "a file").unwrap();
    cache.put("index/a", &bytes(10));
    assert!(cache.get("index/a", 10).is_none());
    assert!(Cache::open(directory.path(), "id1", 1).is_err());
    assert!(Cache::open(directory.path(), "../id", 1).is_err());
}
