//! The disk of the journal fills up under a running replica: does apply pause before tables meet the end of it, say where,
//! and go on by itself, also if only its own retention can make the room?
//!
//! Tables that have met a full disk take nothing more until they are opened anew (`full_tables` holds them to that). So
//! there must always be some room left when they are written.

use journal::journal::Journal;
use journal::record::Control;
use journal::retention::RetentionPolicy;
use journal::{Capture, Event, JournalError, Lsn, Marker, Part, RootNo};
use replication::replica::{Halt, Replica, ReplicaOptions};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::canonical::{assert_equal, dump};
use tests::lab::{SameTables, StillClock, small_segments};
use tests::model::{Generator, Options};
use tests::sim_disk::SimDisk;
use tests::sim_tree::SimTree;

/// What must come by itself has come within it.
const SOON: Duration = Duration::from_secs(600);
const LEFT_MIN: u64 = 1 << 20;

fn ingest(replica: &Replica<SimTree>, capture: Capture) -> Result<Lsn, JournalError> {
    let (send, receive) = std::sync::mpsc::channel();
    let part = Part { number: 0, last: true, capture };
    replica.ingest(vec![part], move |durable| drop(send.send(durable)));
    receive.recv().expect("an answer")
}

/// A replica on an empty disk.
fn start(disk: &SimDisk, tree: &Arc<SimTree>, options: ReplicaOptions) -> Arc<Replica<SimTree>> {
    let factory = SameTables(Arc::default());
    let (disk, clock) = (Arc::new(disk.clone()), Arc::new(StillClock));
    let opened = Journal::open(disk, Path::new("/j"), small_segments(), &factory, clock).unwrap();
    let options = ReplicaOptions { free_bytes_min: LEFT_MIN, ..options };
    Replica::start(opened, Arc::clone(tree), options).unwrap()
}

/// Why apply pauses.
fn paused(replica: &Replica<SimTree>) -> String {
    let since = Instant::now();
    loop {
        match replica.status().halt {
            Some(Halt::Full(why)) => return why,
            other => assert!(since.elapsed() < SOON, "{other:?}"),
        }
        std::thread::yield_now();
    }
}

/// Waits until apply says that nothing holds it up.
fn goes_on(replica: &Replica<SimTree>) {
    let since = Instant::now();
    while let Some(halt) = replica.status().halt {
        assert!(since.elapsed() < SOON, "{halt:?}");
        std::thread::yield_now();
    }
}

#[test]
fn apply_pauses_while_the_disk_of_the_journal_is_full() {
    let (disk, tree) = (SimDisk::new(), Arc::new(SimTree::new(1)));
    let replica = start(&disk, &tree, ReplicaOptions::default());
    let mut generator = Generator::new(5, Options::default());
    let before = ingest(&replica, generator.next()).unwrap();
    assert!(replica.journal().wait_applied(before, SOON));
    // Room for redo, not for comfort.
    disk.set_room(Some(disk.used() + LEFT_MIN - 1));
    let last = (0..5).map(|_| ingest(&replica, generator.next()).unwrap()).last().unwrap();
    let why = paused(&replica);
    assert!(why.contains("/j"), "{why}");
    assert_eq!(replica.status().applied, before, "it went on");
    assert_eq!(replica.status().journaled, last, "nothing waits for apply");
    disk.set_room(None);
    assert!(replica.journal().wait_applied(last, SOON));
    let expected = generator.model.canonical(RootNo(0));
    assert_equal(&expected, &dump(&*tree, RootNo(0)).unwrap(), "once there is room");
    // The cursor is seen before that is.
    goes_on(&replica);
    replica.stop(Duration::ZERO);
}

/// What fills the disk is history over its budget, which a pin has held until now.
#[test]
fn retention_makes_the_room_apply_waits_for() {
    const BUDGET: u64 = 256 << 10;
    let (disk, tree) = (SimDisk::new(), Arc::new(SimTree::new(1)));
    let policy = RetentionPolicy { keep: Duration::from_secs(1 << 40), bytes_max: BUDGET };
    let options = ReplicaOptions {
        retention: Some(policy),
        retain_every: Duration::ZERO,
        cursor_every: Duration::from_millis(1),
        ..ReplicaOptions::default()
    };
    let replica = start(&disk, &tree, options);
    // Nothing comes back that retention has given up meanwhile: a master revives for two seconds alone.
    let mut generator = Generator::new(5, Options { revive: false, ..Options::default() });
    let mut first = generator.next();
    let completed = Marker::SynchronizationCompleted { files: 0, directories: 0, bytes: 0 };
    first.events.push(Event::Mark(completed));
    let first = ingest(&replica, first).unwrap();
    assert!(replica.journal().wait_applied(first, SOON));
    let pin = replica.journal().pin(first, "test").unwrap();
    let mut last = first;
    while disk.used() < 4 * BUDGET {
        last = ingest(&replica, generator.next()).unwrap();
        assert!(replica.journal().wait_applied(last, SOON));
    }
    let since = Instant::now();
    while replica.journal().cursor() < last {
        assert!(since.elapsed() < SOON, "the cursor stands");
        std::thread::yield_now();
    }
    disk.set_room(Some(disk.used() + LEFT_MIN - 1));
    let next = ingest(&replica, generator.next()).unwrap();
    paused(&replica);
    let used = disk.used();
    replica.journal().control(Control::Unpinned { pin }).unwrap();
    assert!(replica.journal().wait_applied(next, SOON), "{:?}", replica.status().halt);
    assert!(disk.used() < used);
    assert_equal(&generator.model.canonical(RootNo(0)), &dump(&*tree, RootNo(0)).unwrap(), "with room again");
    replica.stop(Duration::ZERO);
}
