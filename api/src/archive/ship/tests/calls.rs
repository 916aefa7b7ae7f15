//! Each call on the store refused in its turn, it and all later ones of its kind, until somebody heals what is wrong.
//!
//! Meanwhile every look fails and says so, or does what can be done; what the newest manifest names can be loaded. Then the
//! same shipper goes on, or another process, and in the end the archive is what it would have been, with nothing in it
//! that nobody names.

use super::*;
use snapshot::store::StoreErrorKind;
use snapshot::store::faulty::{Fault, Verb};

const VERBS: [Verb; 6] = [Verb::Put, Verb::Get, Verb::GetRange, Verb::Size, Verb::List, Verb::Delete];

/// What a life comes to.
struct Lived {
    upto: u64,
    pieces: usize,
    objects: usize,
    failures: u64,
    /// Calls of each verb.
    calls: Vec<u64>,
}

/// Grows, seals, gives up what no session needs, is opened anew. `restarts`: who failed is replaced by another process.
fn live(name: &str, fault: Option<&Fault>, restarts: bool) -> Lived {
    let world = World::new(name);
    world.store.clear_log();
    if let Some(fault) = fault {
        world.store.fail(fault.clone());
    }
    let mut failures = 0;
    let mut shipper = None;
    let mut look = |world: &World, lsn: u64, oldest: Option<u64>| {
        // Twice while it lasts, then once it is gone.
        for attempt in 0..=2 {
            if shipper.is_none() {
                shipper = world.shipper().map_err(|error| failed(&error, name)).ok();
            }
            let looked = shipper.as_mut().map(|shipper| world.look(shipper, oldest));
            match looked {
                Some(Ok(_)) => break,
                Some(Err(error)) => failed(&error, name),
                None => {}
            }
            failures += 1;
            assert!(attempt < 2, "{name}: it does not go on");
            if attempt == 1 {
                world.store.heal();
                if let Some(manifest) = world.check() {
                    assert!(manifest.upto.lsn + 1 >= lsn, "{name}: {manifest:?}");
                }
                shipper = shipper.take().filter(|_| !restarts);
            }
        }
    };
    for lsn in 1..=9 {
        world.append(lsn);
        if lsn % 3 == 0 {
            world.seal();
        }
        look(&world, lsn, (lsn > 5).then(|| lsn - 2));
    }
    let calls = VERBS.map(|verb| world.store.count(verb)).to_vec();
    world.store.heal();
    for lsn in 10..=12 {
        world.append(lsn);
        look(&world, lsn, Some(8));
    }
    let manifest = world.whole();
    Lived {
        upto: manifest.upto.lsn,
        pieces: manifest.pieces.len(),
        objects: world.objects("").len(),
        failures,
        calls,
    }
}

/// The error says whose fault it is, not ours.
fn failed(error: &crate::engine::EngineError, context: &str) {
    assert_ne!(error.code(), &codes::INTERNAL, "{context}: {error:?}");
    assert_ne!(error.code(), &codes::ARCHIVE_FORKED, "{context}: {error:?}");
}

#[test]
fn every_refused_call() {
    let calm = live("calls", None, false);
    let mut lives = 0;
    for (verb, count) in VERBS.into_iter().zip(&calm.calls) {
        let kinds: &[(StoreErrorKind, InFlight)] = match verb {
            Verb::Put => {
                &[(StoreErrorKind::Full, InFlight::Dropped), (StoreErrorKind::Unavailable, InFlight::Kept)]
            }
            _ => &[
                (StoreErrorKind::Unavailable, InFlight::Kept),
                (StoreErrorKind::NotPermitted, InFlight::Dropped),
            ],
        };
        for (kind, in_flight) in kinds {
            for after in 0..*count {
                let restarts = after % 2 == 1;
                let prefix = String::new();
                let fault =
                    Fault { verb, prefix, after, times: u64::MAX, kind: *kind, in_flight: *in_flight };
                let name = format!("calls-{verb:?}-{kind:?}-{after}-{restarts}");
                let lived = live(&name, Some(&fault), restarts);
                let (found, expected) = ((lived.upto, lived.pieces), (calm.upto, calm.pieces));
                assert_eq!(found, expected, "{name}");
                assert!(lived.objects <= calm.objects, "{name}: {} of {}", lived.objects, calm.objects);
                assert!(lived.failures > 0, "{name}: nothing was refused");
                lives += 1;
            }
        }
    }
    println!("{lives} lives, calls {:?}", VERBS.into_iter().zip(calm.calls).collect::<Vec<_>>());
}
