//! Is what a journal must not be said to be just that, with its code, and is nothing made worse?
//!
//! A segment that is gone from the middle, segments of two journals mixed up, tables of another journal, a journal of a newer
//! version, a clock that jumped back or is years ahead, a budget that holds no segment.

use crate::log_kit::crc;
use journal::journal::Journal;
use journal::log::{Stream, verify};
use journal::retention::RetentionPolicy;
use journal::tables::MemoryTables;
use journal::{Capture, Disk, ErrorKind, JournalError, Lsn, Tables, Timestamp};
use replication::replica::{Replica, ReplicaOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tests::daemon::World;
use tests::lab::{Lab, SameTables, SetClock, StillClock, copy_of, small_segments};
use tests::model::{Generator, Options};
use tests::sim_disk::SimDisk;

fn generator(seed: u64) -> Generator {
    Generator::new(seed, Options { revive: false, write_bytes_max: 40_000, ..Options::default() })
}

/// A journal of some segments, closed.
fn closed(seed: u64) -> (SimDisk, Arc<MemoryTables>) {
    let mut generator = generator(seed);
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    while lab.journal.redo().segments().len() < 4 || lab.journal.undo().segments().len() < 4 {
        let placed = lab.journal_them(&[generator.next()]).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
    }
    lab.move_cursor().expect("cursor");
    let (disk, _, tables) = lab.stop();
    (disk, tables)
}

fn open(disk: &SimDisk, tables: &Arc<MemoryTables>) -> Result<journal::journal::Opened, JournalError> {
    let (shared, factory) = (Arc::new(disk.clone()), SameTables(Arc::clone(tables)));
    Journal::open(shared, Path::new("/j"), small_segments(), &factory, Arc::new(StillClock))
}

fn segment(stream: Stream, number: u64) -> PathBuf {
    Path::new("/j").join(stream.file_name(number))
}

#[test]
fn a_segment_is_missing_in_the_middle() {
    for stream in Stream::ALL {
        let (disk, tables) = closed(1);
        let path = segment(stream, 2);
        disk.lose(&path);
        let paths = disk.paths();
        match open(&disk, &tables).map(drop) {
            Err(JournalError::Damaged { path: named, .. }) => assert_eq!(named, path),
            other => panic!("{stream:?}: {other:?}"),
        }
        let report = verify(&disk, Path::new("/j"), &mut |_| {}).unwrap();
        assert!(report.damages.iter().any(|damage| damage.path == path), "{report:?}");
        assert_eq!(disk.paths(), paths, "something was removed");
    }
}

#[test]
fn segments_of_two_journals_are_mixed_up() {
    let (disk, tables) = closed(1);
    let (other, _) = closed(2);
    for stream in Stream::ALL {
        let path = segment(stream, 2);
        let mut foreign = other.contents(&path).unwrap();
        let own = disk.contents(&path).unwrap();
        // Of the same length, so that nothing but its header tells it from ours.
        foreign.resize(own.len(), 0);
        disk.open(&path).unwrap().write_at(&foreign, 0).unwrap();
        let report = verify(&disk, Path::new("/j"), &mut |_| {}).unwrap();
        let found = report.damages.iter().find(|damage| damage.path == path);
        assert_eq!(
            found.map(|damage| damage.what),
            Some("the segment belongs to another journal"),
            "{report:?}"
        );
        // Whoever reads it is told, too: a rebuild makes nothing of foreign records.
        match open(&disk, &Arc::default()).map(drop) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Damaged, "{error}"),
            Ok(()) => panic!("{stream:?}: foreign records were taken"),
        }
        disk.open(&path).unwrap().write_at(&own, 0).unwrap();
    }
    open(&disk, &tables).expect("with its own segments it opens");
}

#[test]
fn tables_of_another_journal_are_not_used() {
    let (disk, own) = closed(1);
    let (_, foreign) = closed(2);
    let opened = open(&disk, &copy_of(&foreign)).expect("it opens");
    assert!(opened.rebuilt);
    let opened_again = {
        drop(opened);
        open(&disk, &own).expect("it opens")
    };
    assert!(!opened_again.rebuilt);
}

/// Times of captures go back by a day, and come again. Order is that of LSNs: each point reads as it was, and retention
/// gives up nothing because of the clock.
#[test]
fn a_clock_jumps_back() {
    const DAY: i64 = 86_400_000_000_000;
    let mut generator = generator(3);
    let mut lab = Lab::new();
    lab.synchronized(&mut generator);
    let start = 100 * DAY;
    for number in 0..300_i64 {
        let jump = if number >= 150 { DAY } else { 0 };
        let capture = Capture { time: Timestamp(start + number * 1_000_000_000 - jump), ..generator.next() };
        let placed = lab.journal_them(&[capture]).expect("journal");
        lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
    }
    lab.move_cursor().expect("cursor");
    let policy = RetentionPolicy { keep: Duration::from_secs(2 * 86_400), bytes_max: u64::MAX };
    let now = Timestamp(start - DAY + 300_000_000_000);
    let before = lab.journal.window();
    lab.journal.retain(policy, now).expect("retention");
    assert_eq!(lab.journal.window(), before);
    let held = lab.journal.held(policy, now).expect("there are points");
    assert_eq!(held.percent, 100, "{held:?}");
    for lsn in [before.0, Lsn::captured(150), Lsn::captured(151), before.1] {
        let expected = generator.model.canonical_at(lsn, journal::RootNo(0));
        tests::canonical::assert_equal(&expected, &lab.canonical(lsn), &format!("at {lsn}"));
    }
    let scratch = || Ok::<_, JournalError>(Arc::new(MemoryTables::default()) as Arc<dyn Tables>);
    let tables = lab.journal.check_tables(&scratch, &mut |_| true).expect("read").expect("ended");
    assert!(tables.is_sound(), "{tables:?}");
}

/// The clock is ten years ahead, as that of a machine that boots without one, the master's too: no history grows old by more
/// than a day. A policy of an hour shows that retention looks.
#[test]
fn a_clock_that_is_years_ahead() {
    const TEN_YEARS: i64 = 10 * 365 * 86_400 * 1_000_000_000;
    for (hours, is_kept) in [(72, true), (1, false)] {
        let mut generator = generator(4);
        let mut lab = Lab::new();
        lab.synchronized(&mut generator);
        while lab.journal.undo().segments().len() < 4 {
            let placed = lab.journal_them(&[generator.next()]).expect("journal");
            lab.apply(&placed).unwrap_or_else(|error| panic!("{error:?}"));
        }
        lab.move_cursor().expect("cursor");
        let (before, time) = (lab.journal.window(), lab.journal.journaled_time());
        let (disk, tree, tables) = lab.stop();
        let clock = Arc::new(SetClock((time.0 + TEN_YEARS).into()));
        let opened =
            Journal::open(Arc::new(disk), Path::new("/j"), small_segments(), &SameTables(tables), clock);
        let policy = RetentionPolicy { keep: Duration::from_secs(hours * 3600), bytes_max: u64::MAX };
        let options = ReplicaOptions {
            retention: Some(policy),
            retain_every: Duration::from_millis(1),
            ..ReplicaOptions::default()
        };
        let replica = Replica::start(opened.expect("it opens"), tree, options).expect("it starts");
        replica.heard(replica.journal().applied(), Timestamp(time.0 + TEN_YEARS));
        let since = Instant::now();
        let wait = if is_kept { Duration::from_millis(500) } else { Duration::from_secs(60) };
        while replica.journal().window().0 == before.0 && since.elapsed() < wait {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(replica.journal().window().0 == before.0, is_kept, "{hours} hours");
    }
}

#[test]
fn a_budget_that_holds_no_segment() {
    let world = World::new();
    world.protect();
    world.ok("scenario stop docs");
    let refused = world.refused("scenario set docs journal-max=1MiB", 2, "RW1014");
    assert!(refused.stdout.contains("at least 256MiB"), "{refused:?}");
}

#[test]
fn codes_of_a_newer_journal_and_of_a_missing_segment() {
    let mut world = World::new();
    world.protect();
    std::fs::write(world.master().join("a"), b"1").unwrap();
    world.flush();
    world.stop();
    let manifest = world.path("data/journal/docs/manifest");
    let sound = std::fs::read(&manifest).unwrap();
    let mut newer = sound.clone();
    newer[8] = 3;
    let sum = crc(&[&newer[..20], &newer[24..]].concat());
    newer[20..24].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(&manifest, &newer).unwrap();
    world.start();
    world.refused("journal verify docs", 1, "RW1035");
    world.stop();
    assert_eq!(std::fs::read(&manifest).unwrap(), newer);
    std::fs::write(&manifest, &sound).unwrap();
    let (path, aside) = (world.path("data/journal/docs/00000001.seg"), world.path("aside"));
    std::fs::rename(&path, &aside).unwrap();
    world.start();
    let refused = world.refused("journal verify docs", 8, "RW1017");
    assert!(format!("{}{}", refused.stdout, refused.stderr).contains("00000001.seg"), "{refused:?}");
    world.refused("journal stats docs", 8, "RW1017");
    world.stop();
    std::fs::rename(&aside, &path).unwrap();
    world.start();
    world.ok("journal verify docs");
}
