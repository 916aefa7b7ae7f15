//! What is committed does not stay in memory, whether or not fjall's worker has time.

use super::{BYTES_MAX, Memtables, SETTLE_BYTES};
use fjall::{Database, Keyspace};
use std::path::Path;

fn open(directory: &Path) -> (Database, Keyspace, Memtables) {
    let database = Database::builder(directory).worker_threads(1).open().unwrap();
    let space = database.keyspace("rows", Memtables::options).unwrap();
    let memtables = Memtables::new(&database, vec![space.clone()]).unwrap();
    (database, space, memtables)
}

/// Bytes of tables on disk, what is on its way there awaited.
fn written(database: &Database, space: &Keyspace) -> u64 {
    while database.outstanding_flushes() > 0 || space.sealed_memtable_count() > 0 {
        std::thread::yield_now();
    }
    space.disk_space()
}

#[test]
fn what_is_committed_is_written_out_as_it_grows() {
    let directory = tempfile::tempdir().unwrap();
    let (database, space, memtables) = open(directory.path());
    let value = |number: u32| -> Vec<u8> {
        // Not to be compressed to nothing.
        (0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) ^ number.wrapping_mul(40_503)) as u8).collect()
    };
    let rows = u32::try_from(3 * BYTES_MAX / 4096).unwrap();
    for number in 0..rows {
        space.insert(number.to_be_bytes(), value(number)).unwrap();
        memtables.wrote(4096 + 4).unwrap();
    }
    assert!(written(&database, &space) > 0, "all of it is in memory");
    for number in 0..rows {
        assert_eq!(space.get(number.to_be_bytes()).unwrap().unwrap(), value(number));
    }
}

#[test]
fn an_idle_moment_gives_back_what_is_much_and_only_that() {
    let directory = tempfile::tempdir().unwrap();
    let (database, space, memtables) = open(directory.path());
    space.insert("few", "bytes").unwrap();
    memtables.wrote(8).unwrap();
    assert!(!memtables.settle().unwrap());
    assert_eq!(written(&database, &space), 0);
    space.insert("many", vec![7; SETTLE_BYTES]).unwrap();
    memtables.wrote(SETTLE_BYTES).unwrap();
    assert!(memtables.settle().unwrap());
    assert!(written(&database, &space) > 0);
    assert!(memtables.settle().unwrap(), "it is on disk, and is let go of");
    assert!(!memtables.settle().unwrap());
}

/// What tables were before has a file each on disk, and their memtables, for as long as fjall remembers it.
fn remembered(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory.join("keyspaces/1")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.strip_prefix('v').is_some_and(|number| number.parse::<u64>().is_ok())).count()
}

#[test]
fn what_is_written_out_is_let_go_of() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3_u32 {
        let (database, space, memtables) = open(directory.path());
        if round > 0 {
            // What the last round left in the log is read back, and nothing else is done.
            assert!(written(&database, &space) > 0);
            while memtables.settle().unwrap() {}
            assert_eq!(remembered(directory.path()), 1, "round {round}: after a start");
        }
        for _ in 0..2 {
            space.insert(round.to_be_bytes(), vec![7; SETTLE_BYTES]).unwrap();
            memtables.wrote(SETTLE_BYTES).unwrap();
            assert!(memtables.settle().unwrap());
            written(&database, &space);
            assert!(remembered(directory.path()) > 1, "there was nothing to let go of");
            while memtables.settle().unwrap() {}
            assert_eq!(remembered(directory.path()), 1, "round {round}");
        }
        space.insert("last", vec![round as u8; SETTLE_BYTES]).unwrap();
        database.persist(fjall::PersistMode::SyncAll).unwrap();
    }
}

#[test]
fn what_a_start_reads_back_is_written_out() {
    let directory = tempfile::tempdir().unwrap();
    {
        let (database, space, _) = open(directory.path());
        space.insert("many", vec![7; SETTLE_BYTES]).unwrap();
        database.persist(fjall::PersistMode::SyncAll).unwrap();
    }
    let (database, space, _) = open(directory.path());
    assert!(written(&database, &space) > 0, "all of it is in memory");
    assert_eq!(space.get("many").unwrap().unwrap().len(), SETTLE_BYTES);
}
