//! The archive is what the journal is, or a beginning of it, whatever the store does meanwhile.

mod calls;
mod lost;

use super::*;
use bytes::Bytes;
use journal::disk::OsDisk;
use journal::log::{LogOptions, LogSet, Part, Stream};
use journal::{Capture, Event, Lsn, NodeId, Payload, Provenance, RootNo, Timestamp};
use snapshot::repository::{KeyCost, RepositoryOptions};
use snapshot::store::faulty::{FaultyStore, InFlight};
use snapshot::store::{BlobStore, MemoryStore};
use std::path::PathBuf;

struct World {
    place: PathBuf,
    set: LogSet,
    store: Arc<FaultyStore>,
    repository: Arc<Repository>,
}

impl Drop for World {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.place));
    }
}

fn owner(set: &LogSet) -> Owner {
    Owner {
        journal: set.journal_id(),
        scenario: "docs".into(),
        host: "master".into(),
        roots: vec!["/srv/docs".into()],
    }
}

impl World {
    fn new(name: &str) -> World {
        let place = std::env::temp_dir().join(format!("rewind-ship-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&place));
        let set = LogSet::open(Arc::new(OsDisk), &place, LogOptions::default()).unwrap();
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let key_cost = KeyCost { log_n: 4, r: 8, p: 1 };
        let options = RepositoryOptions { key_cost, ..RepositoryOptions::default() };
        let repository = Repository::init(Arc::clone(&store) as _, &"secret".to_owned().into(), options);
        World { place, set, store, repository: Arc::new(repository.unwrap()) }
    }

    fn append(&self, lsn: u64) {
        let data = Payload::Inline(Bytes::from(vec![lsn as u8; 3000]));
        let event = Event::Write { node: NodeId(5000), offset: 0, data, before: None };
        let capture = Capture {
            lsn: Lsn::captured(lsn),
            time: Timestamp(lsn as i64 * 10),
            provenance: Provenance::Derived,
            root: RootNo(0),
            path: Vec::new(),
            events: vec![event],
        };
        let part = RedoRecord::Part(Part { number: 0, last: true, capture });
        let log = self.set.log(Stream::Redo);
        log.append(&part.to_draft(Timestamp(0)).unwrap()).unwrap();
        log.commit().unwrap();
    }

    fn shipper(&self) -> EngineResult<Shipper> {
        Shipper::open(Arc::clone(&self.repository), owner(&self.set))
    }

    fn look(&self, shipper: &mut Shipper, oldest: Option<u64>) -> EngineResult<Shipped> {
        let sessions = oldest.map(|oldest| (oldest, oldest));
        shipper.look(&|| Some(Arc::clone(self.set.log(Stream::Redo))), sessions, &|| false)
    }

    fn seal(&self) {
        self.set.log(Stream::Redo).seal().unwrap();
    }

    /// Names of all objects of the archive, or of one kind.
    fn objects(&self, kind: &str) -> Vec<String> {
        let mut all = Vec::new();
        let list = &mut |entry: snapshot::store::Entry| {
            all.push(entry.name);
            true
        };
        self.store.list("rewind/archive", list).unwrap();
        all.retain(|name| name.contains(kind));
        all.sort();
        all
    }

    /// All that the newest manifest names can be loaded. The manifest.
    fn whole(&self) -> Manifest {
        let manifest = self.check().unwrap();
        assert_eq!(manifest.fault(), None);
        manifest
    }

    fn archive(&self) -> Archive<'_> {
        Archive::new(&self.repository, self.set.journal_id())
    }

    /// All that the newest manifest names is what the journal holds. The manifest.
    fn check(&self) -> Option<Manifest> {
        let newest = self.archive().generations().unwrap().pop()?;
        let manifest = self.archive().load_manifest(newest).unwrap();
        for piece in &manifest.pieces {
            let place = &piece.place;
            let bytes = self.archive().load_piece(piece).unwrap();
            let local = self.set.log(Stream::Redo).read_raw(place.segment, place.from, bytes.len());
            if let Ok(local) = local {
                assert!(bytes == local, "{place:?}");
            }
        }
        Some(manifest)
    }
}

#[test]
fn segments_are_shipped_as_they_grow() {
    let world = World::new("grow");
    world.append(1);
    let mut shipper = world.shipper().unwrap();
    assert_eq!(world.look(&mut shipper, None).unwrap().pieces, 1);
    assert_eq!(world.look(&mut shipper, None).unwrap(), Shipped::default(), "nothing new");
    world.append(2);
    world.set.log(Stream::Redo).seal().unwrap();
    world.append(3);
    assert_eq!(world.look(&mut shipper, None).unwrap().pieces, 2);
    let manifest = world.check().unwrap();
    assert_eq!(manifest.upto, Upto { lsn: 3, time: 30 });
    let lsns: Vec<_> = manifest.pieces.iter().map(|piece| (piece.place.first, piece.place.last)).collect();
    assert_eq!(lsns, [(Some(1), Some(1)), (Some(2), Some(2)), (Some(3), Some(3))]);
    assert_eq!(manifest.covering(0, 3).unwrap().len(), 3);
    // Another process goes on where this one was.
    world.append(4);
    let mut again = world.shipper().unwrap();
    assert_eq!(again.upto().lsn, 3);
    assert_eq!(world.look(&mut again, Some(3)).unwrap().pieces, 1);
    let kept = world.check().unwrap();
    assert_eq!(kept.pieces.first().unwrap().place.segment, 2, "nothing needs the first segment");
}

/// The power goes at every put and delete, in both ways; then it is tried again, by the same and by another process.
#[test]
fn every_cut_of_the_power() {
    for in_flight in [InFlight::Dropped, InFlight::Kept] {
        for (cut, restarts) in (0..12_u64).flat_map(|cut| [(cut, false), (cut, true)]) {
            let world = World::new(&format!("cut-{in_flight:?}-{cut}-{restarts}"));
            let mut shipper = world.shipper().unwrap();
            world.store.cut_power_after(cut, in_flight);
            let mut cuts = 0;
            for lsn in 1..=6 {
                world.append(lsn);
                if lsn == 3 {
                    world.set.log(Stream::Redo).seal().unwrap();
                }
                if world.look(&mut shipper, None).is_err() {
                    cuts += 1;
                    world.store.restore_power();
                    if let Some(manifest) = world.check() {
                        assert!(manifest.upto.lsn + 1 >= lsn, "{manifest:?}");
                    }
                    if restarts {
                        shipper = world.shipper().unwrap();
                    }
                }
            }
            world.look(&mut shipper, None).unwrap();
            let manifest = world.check().unwrap();
            let context = format!("cut {cut} {in_flight:?} {restarts}: {manifest:?}");
            assert_eq!(manifest.upto.lsn, 6, "{context}");
            assert_eq!(manifest.runs().len(), 1, "{context}");
            assert!(manifest.covering(0, 6).is_ok(), "{context}");
            assert_eq!(cuts, 1, "{context}");
        }
    }
}

#[test]
fn a_gap_is_said_and_stays() {
    let world = World::new("gap");
    let log = world.set.log(Stream::Redo);
    world.append(1);
    let mut shipper = world.shipper().unwrap();
    world.look(&mut shipper, None).unwrap();
    world.append(2);
    log.seal().unwrap();
    world.append(3);
    log.seal().unwrap();
    world.append(4);
    log.drop_before(3).unwrap();
    assert!(world.look(&mut shipper, None).unwrap().gap);
    assert!(!world.look(&mut shipper, None).unwrap().gap, "said once");
    let manifest = world.check().unwrap();
    assert_eq!((manifest.upto.lsn, shipper.gaps()), (4, 1));
    let gap = manifest.covering(0, 4).unwrap_err();
    assert_eq!((gap.after.unwrap().lsn, gap.before.unwrap().lsn), (1, 4));
    assert!(manifest.covering(3, 4).is_ok());
}

#[test]
fn a_second_writer_and_an_older_copy_are_refused() {
    let world = World::new("fork");
    world.append(1);
    let (mut one, mut two) = (world.shipper().unwrap(), world.shipper().unwrap());
    world.look(&mut one, None).unwrap();
    let refused = |outcome: EngineResult<Shipped>| {
        assert_eq!(outcome.unwrap_err().code(), &codes::ARCHIVE_FORKED);
    };
    refused(world.look(&mut two, None));
    let before = world.check().unwrap();
    // A journal of the same id that holds something else there, or less.
    let place = world.place.join("copy");
    let identity = Some(journal::log::Identity(world.set.journal_id()));
    let options = LogOptions { identity, ..LogOptions::default() };
    let copy = LogSet::open(Arc::new(OsDisk), &place, options).unwrap();
    let mut other = Shipper::open(Arc::clone(&world.repository), owner(&copy)).unwrap();
    refused(other.look(&|| Some(Arc::clone(copy.log(Stream::Redo))), None, &|| false));
    assert_eq!(world.check().unwrap(), before, "nothing was written");
}
