//! Is a session complete or absent, wherever the power is cut while it is made?
//!
//! A second session of a history is made again and again, each time with the power cut after one more operation of the
//! store, the one in flight lost or carried out. What is listed then is whole and the tree of its point; nothing is
//! damaged; the next attempt makes the very session, from what changed.

use crate::sessions::{canonical, lock_of, repository_in, session, try_session};
use journal::{Lsn, RootNo};
use snapshot::repository::Repository;
use snapshot::repository::upkeep::NoWatch;
use snapshot::repository::upkeep::check::{ReadData, check as check_all};
use snapshot::repository::upkeep::verified::Verified;
use snapshot::session::Session;
use snapshot::store::faulty::{FaultyStore, InFlight};
use snapshot::store::{BlobStore, MemoryStore};
use std::sync::Arc;
use tests::canonical::{Canonical, assert_equal};
use tests::lab::Lab;
use tests::model::{Generator, Options};

/// A history with a first session, and a point for a second one.
struct Ground {
    lab: Lab,
    generator: Generator,
    store: Arc<MemoryStore>,
    first: (Lsn, Session),
    at: Lsn,
}

impl Ground {
    fn new(seed: u64) -> Ground {
        let options = Options { names_max: 20, file_bytes_max: 200_000, ..Options::default() };
        let mut generator = Generator::new(seed, options);
        let mut lab = Lab::new();
        lab.synchronized(&mut generator);
        let mut go_on = |lab: &mut Lab, captures: usize| {
            let batch: Vec<_> = (0..captures).map(|_| generator.next()).collect();
            let placed = lab.journal_them(&batch).unwrap();
            lab.apply(&placed).unwrap();
            Lsn::captured(lab.journal.applied().captured)
        };
        let then = go_on(&mut lab, 60);
        let store = Arc::new(MemoryStore::new());
        let there = repository_in(Arc::clone(&store) as _);
        let first = session(&lab, then, None, &there);
        drop(there);
        let at = go_on(&mut lab, 60);
        Ground { lab, generator, store, first: (then, first), at }
    }

    fn expected(&self, at: Lsn) -> Canonical {
        self.generator.model.canonical_at(at, RootNo(0))
    }

    /// A store with the first session alone.
    fn copy(&self) -> Arc<MemoryStore> {
        let copy = Arc::new(MemoryStore::new());
        for (name, bytes) in self.store.contents() {
            copy.put(&name, bytes).unwrap();
        }
        copy
    }
}

/// Everything that is listed is whole and the tree of its point; the number of sessions.
fn assert_whole(ground: &Ground, store: &Arc<MemoryStore>, context: &str) -> usize {
    let password = "secret".to_owned().into();
    let repository = Arc::new(Repository::open(Arc::clone(store) as _, &password).unwrap());
    let listed = repository.list_sessions().unwrap();
    for id in &listed {
        let tree = repository.load_session(id).unwrap().tree;
        let at = if *id == ground.first.1.id { ground.first.0 } else { ground.at };
        assert_equal(&ground.expected(at), &canonical(&repository, tree), context);
    }
    let lock = lock_of(&repository);
    let found =
        check_all(&repository, &lock, ReadData::Percent(100), &mut Verified::default(), &NoWatch).unwrap();
    assert_eq!(found.damage, [], "{context}");
    listed.len()
}

#[test]
fn complete_or_absent_wherever_it_is_cut() {
    let ground = Ground::new(11);
    let previous = Some((ground.first.0, &ground.first.1));
    let (mut points, mut absent, mut complete) = (0, 0, 0);
    for operations in 0.. {
        let mut finished = false;
        for in_flight in [InFlight::Dropped, InFlight::Kept] {
            let context = format!("cut after {operations}, {in_flight:?}");
            let store = ground.copy();
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&store) as _));
            let there = repository_in(Arc::clone(&faulty) as _);
            faulty.cut_power_after(operations, in_flight);
            let outcome = try_session(&ground.lab, ground.at, previous, &there);
            finished = outcome.is_ok();
            drop(there);
            // Its lock is stale: the process is gone.
            for name in store.contents().keys().filter(|name| name.starts_with("locks/")) {
                store.delete(name).unwrap();
            }
            let listed = assert_whole(&ground, &store, &context);
            assert!(listed == 2 || !finished, "{context}: told to be done and not there");
            *(if listed == 2 { &mut complete } else { &mut absent }) += 1;
            let again = session(&ground.lab, ground.at, previous, &repository_in(Arc::clone(&store) as _));
            assert!(again.incremental, "{context}: {:?}", again.unusable);
            assert_whole(&ground, &store, &context);
            points += 1;
        }
        if finished {
            break;
        }
    }
    println!("{points} points: {absent} left no session, {complete} a whole one");
    assert!(absent > 5 && complete > 1, "{points} points: {absent} and {complete}");
}
