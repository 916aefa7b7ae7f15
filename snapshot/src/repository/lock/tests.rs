//! Who keeps whom out, what is stale, and that our own overlap as they may.

use super::*;
use crate::repository::testing::{MemoryStore, fresh, password, quick};
use crate::repository::{Repository, RepositoryErrorKind};
use crate::store::BlobStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn quickly() -> LockOptions {
    LockOptions { settle: Duration::from_millis(20), ..LockOptions::default() }
}

fn foreign(exclusive: bool, age_seconds: i64) -> LockRecord {
    let now = Timestamp::now();
    LockRecord {
        time: Timestamp { seconds: now.seconds - age_seconds, ..now },
        exclusive,
        hostname: "elsewhere".into(),
        username: "somebody".into(),
        pid: 1,
        uid: 5,
        gid: 5,
        purpose: None,
        word: None,
        since: None,
    }
}

fn put(repository: &Repository, record: &LockRecord) -> Id {
    repository.save_unpacked(ObjectKind::Lock, &serde_json::to_vec(record).unwrap()).unwrap()
}

#[test]
fn who_excludes_whom() {
    use Purpose::{Backup, Check, Forget, Prune, Read};
    let all = [Read, Backup, Check, Forget, Prune];
    for first in all {
        for second in all {
            let (_store, repository) = fresh();
            let held = acquire(&repository, first, quickly()).unwrap();
            let shared = !first.is_exclusive() && !second.is_exclusive();
            let beside = [(Prune, Read), (Prune, Backup), (Forget, Backup)];
            let ours = beside.contains(&(first, second)) || beside.contains(&(second, first));
            let outcome = acquire(&repository, second, quickly());
            assert_eq!(outcome.is_ok(), shared || ours, "{first:?} {second:?}");
            if let Err(error) = outcome {
                assert_eq!(error.kind(), RepositoryErrorKind::Locked);
            }
            held.check().unwrap();
            drop(held);
        }
    }
}

#[test]
fn locks_are_given_back() {
    let (store, repository) = fresh();
    let lock = acquire(&repository, Purpose::Prune, quickly()).unwrap();
    assert_eq!(store.names("locks"), [lock.object()]);
    assert!(acquire(&repository, Purpose::Forget, quickly()).is_err());
    assert_eq!(store.names("locks").len(), 1);
    drop(lock);
    assert!(store.names("locks").is_empty());
}

#[test]
fn foreign_locks() {
    let (store, repository) = fresh();
    let shared = put(&repository, &foreign(false, 60));
    acquire(&repository, Purpose::Backup, quickly()).unwrap();
    let refused = acquire(&repository, Purpose::Prune, quickly()).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("process 1 of somebody@elsewhere") && text.contains(&shared.to_string()), "{text}");
    store.delete(&ObjectKind::Lock.name(&shared)).unwrap();
    put(&repository, &foreign(true, 60));
    // Only our own programs overlap a prune.
    assert!(acquire(&repository, Purpose::Backup, quickly()).is_err());
    assert_eq!(remove_stale(&repository).unwrap(), 0);
    assert_eq!(remove_all(&repository).unwrap(), 1);
    acquire(&repository, Purpose::Prune, quickly()).unwrap();
}

#[test]
fn stale_locks_are_removed() {
    let here = Identity::of_process();
    // A process that has ended and was waited for.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = i64::from(child.id());
    child.wait().unwrap();
    let dead = LockRecord { hostname: here.hostname.clone(), pid, ..foreign(true, 5) };
    let old = foreign(true, 31 * 60);
    let young = foreign(true, 29 * 60);
    let alive =
        LockRecord { hostname: here.hostname.clone(), pid: std::process::id().into(), ..foreign(true, 5) };
    let suffixed = LockRecord {
        hostname: format!("{}{HANGUP_SUFFIX}", here.hostname),
        purpose: Some(Purpose::Forget),
        ..dead.clone()
    };
    let odd = LockRecord { hostname: here.hostname.clone(), pid: -1, ..foreign(true, 5) };
    let ahead = foreign(true, -3600);
    let cases = [
        (&dead, true),
        (&suffixed, true),
        (&old, true),
        (&odd, true),
        (&young, false),
        (&alive, false),
        (&ahead, false),
    ];
    for (record, stale) in cases {
        assert_eq!(record.is_stale(Timestamp::now(), &here), stale, "{record}");
        let (store, repository) = fresh();
        put(&repository, record);
        assert_eq!(acquire(&repository, Purpose::Forget, quickly()).is_ok(), stale);
        assert_eq!(store.names("locks").is_empty(), stale);
    }
}

#[test]
fn a_lock_is_refreshed_and_a_lost_one_says_so() {
    let (store, repository) = fresh();
    let options = LockOptions {
        settle: Duration::ZERO,
        refresh: Duration::from_millis(30),
        lost_after: Duration::from_secs(20),
    };
    let lock = acquire(&repository, Purpose::Backup, options).unwrap();
    let first = lock.object();
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while lock.object() == first {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    lock.check().unwrap();
    drop(lock);
    assert!(store.names("locks").is_empty());

    let options = LockOptions { refresh: Duration::from_secs(100), lost_after: Duration::ZERO, ..options };
    let lock = acquire(&repository, Purpose::Backup, options).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert_eq!(lock.check().unwrap_err().kind(), RepositoryErrorKind::Locked);
}

/// Two look, see nothing, and write at the same time: the second look tells them. Not both go on.
#[test]
fn two_at_the_same_instant() {
    for (first, second) in [(Purpose::Prune, Purpose::Prune), (Purpose::Forget, Purpose::Check)] {
        let (store, repository) = fresh();
        *store.before_lock.lock() = Some(Arc::new(std::sync::Barrier::new(2)));
        let locks = std::thread::scope(|scope| {
            [first, second]
                .map(|purpose| {
                    let repository = &repository;
                    scope.spawn(move || acquire(repository, purpose, quickly()))
                })
                .map(|thread| thread.join().unwrap())
        });
        assert!(locks.iter().filter(|lock| lock.is_ok()).count() < 2);
        let held = locks.iter().filter(|lock| lock.is_ok()).count();
        assert_eq!(store.names("locks").len(), held, "who does not go on takes its lock back");
    }
}

/// A lock that is refreshed between listing and reading is there under its new name.
#[test]
fn a_lock_refreshed_while_we_list() {
    let (store, repository) = fresh();
    let old = put(&repository, &foreign(true, 60));
    let new = foreign(true, 0);
    let sealed = repository.save_unpacked(ObjectKind::Lock, &serde_json::to_vec(&new).unwrap()).unwrap();
    let name = ObjectKind::Lock.name(&sealed);
    let bytes = store.objects.lock().remove(&name).unwrap();
    // Listed, but gone when read; at that moment the new one appears.
    *store.instead.lock() = Some((ObjectKind::Lock.name(&old), name, bytes));
    let found = list(&repository).unwrap();
    assert!(store.instead.lock().is_none());
    assert_eq!(found.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [sealed]);
    let refused = acquire(&repository, Purpose::Backup, quickly()).unwrap_err();
    assert_eq!(refused.kind(), RepositoryErrorKind::Locked);
}

/// Ten threads want to be alone at the same time, often: never are two.
#[test]
fn never_two_exclusive() {
    let (_store, repository) = fresh();
    let (inside, entered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..10 {
                    if let Ok(lock) = acquire(&repository, Purpose::Prune, quickly()) {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        entered.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(1));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                }
            });
        }
    });
    println!("{} of 100 entered", entered.into_inner());
}

#[test]
fn unreadable_locks_stop() {
    let (store, repository) = fresh();
    let name = ObjectKind::Lock.name(&Id([1; 32]));
    store.put(&name, bytes::Bytes::new()).unwrap();
    acquire(&repository, Purpose::Prune, quickly()).expect("an empty object is no lock");
    store.put(&name, "half a lock".into()).unwrap();
    let error = acquire(&repository, Purpose::Backup, quickly()).unwrap_err();
    assert_eq!(error.kind(), RepositoryErrorKind::Damaged);
    assert_eq!(remove_all(&repository).unwrap(), 1);
    let unknown = r#"{"time":"2099-01-01T00:00:00Z","exclusive":false,"rewind":"something-new","x":1}"#;
    repository.save_unpacked(ObjectKind::Lock, unknown.as_bytes()).unwrap();
    assert_eq!(list(&repository).unwrap()[0].1.purpose, Some(Purpose::Unknown));
    assert!(acquire(&repository, Purpose::Prune, quickly()).is_err());
    let store: Arc<MemoryStore> = store;
    drop(Repository::open_with(store, &password("secret"), quick()).unwrap());
}

#[test]
fn signals_as_the_kernel_shows_them() {
    let status =
        |caught: &str| format!("Name:\tx\nSigBlk:\t0000\nSigIgn:\t0000000000001000\nSigCgt:\t{caught}\n");
    assert!(survives_hangup_by(&status("00000000000044c1")));
    assert!(!survives_hangup_by(&status("00000000000044c0")));
    assert!(!survives_hangup_by(""));
}
