//! A prune that is cut off at each of its puts and deletes, whether that one happened or not.

use super::*;
use crate::store::faulty::{FaultyStore, InFlight};

/// Some sessions are forgotten, some packs wait, some are partly used.
fn ground() -> Arc<MemoryStore> {
    let (store, repository, _) = three();
    backup(&repository, &(500..520).collect::<Vec<u64>>(), 0);
    let lock = lock::acquire(&repository, Purpose::Forget, quickly()).unwrap();
    let oldest = keep_last_of(&repository, 3);
    repository.remove_session(&oldest).unwrap();
    drop(lock);
    run_prune(&repository, &PruneOptions::default()).unwrap();
    keep_last(&repository, 2).unwrap();
    store
}

/// The oldest of all.
fn keep_last_of(repository: &Repository, kept: usize) -> Id {
    let mut sessions: Vec<(Timestamp, Id)> = repository
        .list_sessions()
        .unwrap()
        .into_iter()
        .map(|id| (repository.load_session(&id).unwrap().time, id))
        .collect();
    sessions.sort_unstable();
    assert_eq!(sessions.len(), kept + 1);
    sessions[0].1
}

fn clear_locks(store: &MemoryStore) {
    for name in store.contents().keys().filter(|name| name.starts_with("locks/")) {
        store.delete(name).unwrap();
    }
}

fn crash_everywhere(options: &PruneOptions, each: &mut dyn FnMut(&Arc<MemoryStore>, u64)) -> u64 {
    let ground = ground();
    let mut points = 0;
    for operations in 0.. {
        let mut finished = false;
        for in_flight in [InFlight::Dropped, InFlight::Kept] {
            let store = copy(&ground);
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&store) as _));
            let repository = open(&(Arc::clone(&faulty) as _));
            faulty.cut_power_after(operations, in_flight);
            let outcome = run_prune(&repository, options);
            // The last thing is to give back the lock, which fails quietly.
            finished = outcome.is_ok();
            clear_locks(&store);
            let survivor = open(&(Arc::clone(&store) as _));
            assert_eq!(verify_all(&survivor), 2, "cut after {operations}, {in_flight:?}");
            let found = run_check(&survivor, ReadData::Percent(100));
            assert_eq!(found.damage, [], "cut after {operations}, {in_flight:?}");
            each(&store, operations);
            // The next one finishes the work, and nothing is left over.
            run_prune(&survivor, options).unwrap();
            let rest = run_prune(&survivor, options).unwrap();
            assert!(rest.plan.is_empty(), "cut after {operations}, {in_flight:?}: {rest:?}");
            assert_eq!(verify_all(&open(&(Arc::clone(&store) as _))), 2);
            let end = assert_whole(&survivor);
            assert_eq!(end.unnamed_packs, 0);
            points += 1;
        }
        if finished {
            break;
        }
    }
    points
}

#[test]
fn cut_off_at_every_operation() {
    let points = crash_everywhere(&at_once(), &mut |_, _| {});
    assert!(points > 30, "{points} points");
    let thorough = PruneOptions { unused_percent: 0, ..PruneOptions::default() };
    let points = crash_everywhere(&thorough, &mut |_, _| {});
    assert!(points > 10, "{points} points");
}

/// restic finds no fault at any of these points either.
#[test]
fn restic_agrees_at_every_operation() {
    let mut seen = 0;
    crash_everywhere(&PruneOptions { unused_percent: 0, ..at_once() }, &mut |store, operations| {
        let place = tempfile::tempdir().unwrap();
        if operations % 2 == 0 && super::restic::check(store, place.path()) {
            seen += 1;
        }
    });
    println!("restic looked at {seen} points");
}
