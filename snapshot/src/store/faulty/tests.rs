//! The instrument itself: power is cut where it should be.

use super::super::MemoryStore;
use super::*;

fn instrument() -> (Arc<MemoryStore>, FaultyStore) {
    let memory = Arc::new(MemoryStore::new());
    (memory.clone(), FaultyStore::new(memory))
}

/// A small job: three puts and a delete.
fn job(store: &dyn BlobStore) -> Result<(), StoreError> {
    store.put("a", Bytes::from_static(b"1"))?;
    store.get("a", 1)?;
    store.put("b", Bytes::from_static(b"2"))?;
    store.delete("a")?;
    store.put("c", Bytes::from_static(b"3"))
}

#[test]
fn the_power_is_cut_at_every_point() {
    let states: [&[&str]; 5] = [&[], &["a"], &["a", "b"], &["b"], &["b", "c"]];
    let (_, whole) = instrument();
    job(&whole).unwrap();
    assert_eq!(whole.durable_operations(), 4);
    for after in 0..4_u64 {
        for (in_flight, happened) in [(InFlight::Dropped, after), (InFlight::Kept, after + 1)] {
            let (memory, store) = instrument();
            store.cut_power_after(after, in_flight);
            let cut = job(&store).unwrap_err();
            assert_eq!(cut.kind, StoreErrorKind::Unavailable);
            assert!(matches!(cut.source.downcast_ref::<Cause>(), Some(Cause::Injected)));
            assert!(store.is_off());
            let names: Vec<_> = memory.contents().into_keys().collect();
            assert_eq!(names, states[happened as usize], "after {after}, {in_flight:?}");
            assert_eq!(store.durable_operations(), happened);
            // Nothing passes any more, until the power is back.
            assert_eq!(store.get("a", 1).unwrap_err().kind, StoreErrorKind::Unavailable);
            assert_eq!(store.list("", &mut |_| true).unwrap_err().kind, StoreErrorKind::Unavailable);
            assert!(store.put("d", Bytes::new()).is_err() && memory.size("d").is_err());
            store.restore_power();
            job(&store).unwrap();
        }
    }
    let (_, store) = instrument();
    store.cut_power_after(4, InFlight::Dropped);
    job(&store).unwrap();
    assert!(!store.is_off());
}

#[test]
fn faults_hit_what_they_name() {
    let (memory, store) = instrument();
    let fault = Fault {
        verb: Verb::Put,
        prefix: "data/".into(),
        after: 1,
        times: 2,
        kind: StoreErrorKind::Full,
        in_flight: InFlight::Dropped,
    };
    store.fail(fault.clone());
    store.put("index/1", Bytes::new()).unwrap();
    store.put("data/1", Bytes::new()).unwrap();
    assert_eq!(store.put("data/2", Bytes::new()).unwrap_err().kind, StoreErrorKind::Full);
    store.get("data/1", 0).unwrap();
    assert_eq!(store.put("data/3", Bytes::new()).unwrap_err().kind, StoreErrorKind::Full);
    store.put("data/4", Bytes::new()).unwrap();
    assert_eq!(memory.contents().into_keys().collect::<Vec<_>>(), ["data/1", "data/4", "index/1"]);

    store.fail(Fault { prefix: String::new(), after: 0, times: 9, in_flight: InFlight::Kept, ..fault });
    assert!(store.put("kept", Bytes::new()).is_err());
    assert!(memory.size("kept").is_ok());
    store.heal();
    store.put("healed", Bytes::new()).unwrap();
}

#[test]
fn the_log_has_every_call() {
    let (_, store) = instrument();
    job(&store).unwrap();
    assert!(store.get_range("b", 0..1).is_ok() && store.size("x").is_err());
    store.list("data", &mut |_| true).unwrap();
    let verbs: Vec<_> = store.log().into_iter().map(|call| (call.verb, call.name)).collect();
    let expected = [
        (Verb::Put, "a"),
        (Verb::Get, "a"),
        (Verb::Put, "b"),
        (Verb::Delete, "a"),
        (Verb::Put, "c"),
        (Verb::GetRange, "b"),
        (Verb::Size, "x"),
        (Verb::List, "data"),
    ];
    assert_eq!(verbs, expected.map(|(verb, name)| (verb, name.to_owned())));
    assert_eq!(store.count(Verb::Put), 3);
    assert!(store.log().iter().all(|call| call.carried_out && !call.injected));
    store.clear_log();
    assert_eq!(store.count(Verb::Put), 0);
}
