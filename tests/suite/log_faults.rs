//! Failing disks: does a failed fsync shut the log, and a full disk only until there is room?

use crate::log_kit::{DIRECTORY, check_record, draft, open, read_all, seeds, small};
use journal::log::{GroupCommit, GroupOptions, LogOptions, LogSet, RecordAt, RecordDraft, Stream};
use journal::{ErrorKind, JournalError, OsDisk};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use tests::rng::Rng;
use tests::sim_disk::{Cut, Fault, SimDisk};

#[test]
fn a_failed_fsync_poisons_until_reopened() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    log.append(&draft(Stream::Redo, 1)).unwrap();
    log.commit().unwrap();
    log.append(&draft(Stream::Redo, 2)).unwrap();
    // The write of the batch, then its sync.
    disk.fail_at(disk.operations() + 2, Fault::Io);
    assert_eq!(log.commit().unwrap_err().kind(), ErrorKind::Io);
    assert!(matches!(log.append(&draft(Stream::Redo, 3)), Err(JournalError::Poisoned { .. })));
    for _ in 0..2 {
        assert!(matches!(log.commit(), Err(JournalError::Poisoned { .. })));
        assert!(matches!(log.seal(), Err(JournalError::Poisoned { .. })));
        assert!(matches!(log.rollback(), Err(JournalError::Poisoned { .. })));
    }
    assert_eq!(read_all(log), [1], "what was committed is still read");
    drop(set);
    let after = disk.crash(Cut::Nothing, &mut Rng::new(0));
    assert_eq!(read_all(open(&after, small()).unwrap().log(Stream::Redo)), [1]);
    let reopened = open(&disk, small()).unwrap();
    let log = reopened.log(Stream::Redo);
    log.append(&draft(Stream::Redo, 9)).unwrap();
    log.commit().unwrap();
}

/// The kernel shows what an fsync failed on and holds it for clean: whoever opens the journal again in the same kernel
/// finds the batch whole. What it then counts as durable had better be.
#[test]
fn what_an_fsync_failed_on_is_written_again_when_it_is_opened() {
    for fault in [Fault::Io, Fault::Full] {
        let disk = SimDisk::new();
        let set = open(&disk, small()).unwrap();
        set.log(Stream::Redo).append(&draft(Stream::Redo, 1)).unwrap();
        set.log(Stream::Redo).commit().unwrap();
        set.log(Stream::Redo).append(&draft(Stream::Redo, 2)).unwrap();
        disk.fail_at(disk.operations() + 2, fault);
        set.log(Stream::Redo).commit().unwrap_err();
        drop(set);
        let set = open(&disk, small()).unwrap();
        let found = read_all(set.log(Stream::Redo));
        assert_eq!(found, [1, 2], "{fault:?}: the kernel has it");
        let after = disk.crash(Cut::Nothing, &mut Rng::new(0));
        assert_eq!(read_all(open(&after, small()).unwrap().log(Stream::Redo)), found, "{fault:?}");
        set.log(Stream::Redo).append(&draft(Stream::Redo, 3)).unwrap();
        set.log(Stream::Redo).commit().unwrap();
        let after = disk.crash(Cut::Nothing, &mut Rng::new(0));
        assert_eq!(read_all(open(&after, small()).unwrap().log(Stream::Redo)), [1, 2, 3], "{fault:?}");
    }
}

/// A page on which an fsync failed is clean, and may leave the cache between any two reads of an opening: a journal that
/// opens has what it shows, and after a power cut, too.
#[test]
fn what_leaves_the_cache_while_it_is_opened_is_not_believed() {
    let whole = |set: &LogSet| {
        let log = set.log(Stream::Redo);
        let records: Vec<_> = log.read(log.first()).map(Result::unwrap).collect();
        let payloads = records.iter().flat_map(|record| &record.payloads);
        payloads.for_each(|payload| drop(log.read_payload(*payload).unwrap()));
        records.len()
    };
    let long = |number| {
        let payload = Rng::new(number).bytes(9000);
        RecordDraft { payloads: vec![payload.into()], ..draft(Stream::Redo, number) }
    };
    let (mut refused, mut read) = (0, 0);
    for page in 0..4 {
        for number in 1..u64::MAX {
            let disk = SimDisk::new();
            let set = open(&disk, LogOptions::default()).unwrap();
            let log = set.log(Stream::Redo);
            log.append(&long(1)).unwrap();
            log.commit().unwrap();
            let from = (log.end().offset as usize + page * 4096) / 4096 * 4096;
            log.append(&long(2)).unwrap();
            disk.fail_at(disk.operations() + 2, Fault::Io);
            log.commit().unwrap_err();
            drop(set);
            let before = disk.reads();
            disk.evict_at(before + number, from..from + 4096);
            let Ok(set) = open(&disk, LogOptions::default()) else {
                refused += 1;
                continue;
            };
            let over = disk.reads() < before + number;
            read += whole(&set);
            set.log(Stream::Redo).append(&draft(Stream::Redo, 3)).unwrap();
            set.log(Stream::Redo).commit().unwrap();
            let found = whole(&set);
            let after = disk.crash(Cut::Nothing, &mut Rng::new(0));
            assert_eq!(whole(&open(&after, LogOptions::default()).unwrap()), found, "{page} {number}");
            if over {
                break;
            }
        }
    }
    println!("{refused} openings were refused, {read} records were read");
    assert!(refused > 0 && read > 20, "{refused} {read}");
}

/// Whatever single operation fails: the journal is opened again in the same kernel, which shows more than the disk holds,
/// and what is acknowledged then survives a power cut.
#[test]
fn what_is_acknowledged_after_a_failure_is_durable() {
    let life = |disk: &SimDisk| {
        let Ok(set) = open(disk, small()) else { return };
        for n in 1..24 {
            let log = set.log(Stream::Redo);
            if log.append(&draft(Stream::Redo, n)).and_then(|_| log.commit()).is_err() {
                return;
            }
        }
    };
    let whole = SimDisk::new();
    life(&whole);
    for operation in 1..=whole.operations() {
        for fault in [Fault::Io, Fault::Full] {
            let disk = SimDisk::new();
            disk.fail_at(operation, fault);
            life(&disk);
            let context = format!("{fault:?} at operation {operation}");
            let set = open(&disk, small()).unwrap_or_else(|error| panic!("{context}: {error}"));
            set.log(Stream::Redo).append(&draft(Stream::Redo, 100)).unwrap();
            set.log(Stream::Redo).commit().unwrap();
            let acknowledged = read_all(set.log(Stream::Redo));
            let left = disk.crash(Cut::Nothing, &mut Rng::new(0));
            let again = open(&left, small()).unwrap_or_else(|error| panic!("{context}: {error}"));
            assert_eq!(read_all(again.log(Stream::Redo)), acknowledged, "{context}");
        }
    }
}

#[test]
fn an_fsync_without_room_poisons_too() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    log.append(&draft(Stream::Redo, 1)).unwrap();
    disk.fail_at(disk.operations() + 2, Fault::Full);
    assert_eq!(log.commit().unwrap_err().kind(), ErrorKind::Poisoned);
    assert!(log.is_poisoned());
}

#[test]
fn a_full_disk_takes_the_same_batch_once_there_is_room() {
    for buffer_bytes in [300, 1 << 20] {
        let disk = SimDisk::new();
        let set = open(&disk, LogOptions { buffer_bytes, ..small() }).unwrap();
        let log = set.log(Stream::Redo);
        log.append(&draft(Stream::Redo, 1)).unwrap();
        log.commit().unwrap();
        disk.set_room(Some(disk.used() + 70));
        log.append(&draft(Stream::Redo, 2)).unwrap();
        for _ in 0..3 {
            let error = log.commit().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Full);
            assert!(error.is_retryable());
        }
        disk.set_room(None);
        log.append(&draft(Stream::Redo, 3)).unwrap();
        log.commit().unwrap();
        assert_eq!(read_all(log), [1, 2, 3]);
        let after = disk.crash(Cut::Nothing, &mut Rng::new(0));
        assert_eq!(read_all(open(&after, small()).unwrap().log(Stream::Redo)), [1, 2, 3]);
    }
}

#[test]
fn a_batch_without_room_can_be_dropped_and_stays_away() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    log.append(&draft(Stream::Redo, 1)).unwrap();
    log.commit().unwrap();
    disk.set_room(Some(disk.used() + 70));
    log.append(&draft(Stream::Redo, 2)).unwrap();
    log.commit().unwrap_err();
    log.rollback().unwrap();
    disk.set_room(None);
    for seed in seeds(50) {
        let after = disk.crash(Cut::Part, &mut Rng::new(seed));
        assert_eq!(read_all(open(&after, small()).unwrap().log(Stream::Redo)), [1], "seed {seed}");
    }
    log.append(&draft(Stream::Redo, 3)).unwrap();
    log.commit().unwrap();
    assert_eq!(read_all(log), [1, 3]);
}

/// The whole batch got to the file before the write failed: once it is dropped, no power cut may bring it back.
#[test]
fn what_was_dropped_does_not_come_back() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    log.append(&draft(Stream::Redo, 1)).unwrap();
    disk.fail_at(disk.operations() + 1, Fault::FullLate);
    assert_eq!(log.commit().unwrap_err().kind(), ErrorKind::Full);
    log.rollback().unwrap();
    for seed in seeds(50) {
        let after = disk.crash(Cut::Part, &mut Rng::new(seed));
        assert!(read_all(open(&after, small()).unwrap().log(Stream::Redo)).is_empty(), "seed {seed}");
    }
}

/// Whatever single operation fails, and however: what was acknowledged is read back after reopening.
#[test]
fn any_operation_may_fail_once() {
    let life = |disk: &SimDisk| {
        let mut acknowledged = Vec::new();
        let Ok(set) = open(disk, small()) else { return acknowledged };
        let log = set.log(Stream::Redo);
        for n in 1..24 {
            let done = log.append(&draft(Stream::Redo, n)).and_then(|_| log.commit());
            match done {
                Ok(_) => acknowledged.push(n),
                Err(error) if error.kind() == ErrorKind::Full => {
                    if log.rollback().is_err() {
                        break;
                    }
                }
                Err(_) => break,
            }
            if n == 12 {
                // Also where this fails: then the segments may be gone after the cut, or not.
                let end = log.end().segment;
                acknowledged = log
                    .read(RecordAt { segment: end, offset: 128 })
                    .map(|one| check_record(log, &one.unwrap()))
                    .collect();
                drop(log.drop_before(end));
            }
        }
        acknowledged
    };
    let whole = SimDisk::new();
    assert!(!life(&whole).is_empty());
    for operation in 1..=whole.operations() {
        for fault in [Fault::Io, Fault::Full, Fault::FullLate] {
            let disk = SimDisk::new();
            disk.fail_at(operation, fault);
            let acknowledged = life(&disk);
            for (cut, seed) in [(Cut::Nothing, 0), (Cut::Everything, 0), (Cut::Part, 1), (Cut::Part, 2)] {
                let context = format!("{fault:?} at operation {operation}, then {cut:?}, seed {seed}");
                let left = disk.crash(cut, &mut Rng::new(seed));
                let set = open(&left, small()).unwrap_or_else(|error| panic!("{context}: {error}"));
                let found = read_all(set.log(Stream::Redo));
                let kept: Vec<u64> = found.iter().copied().filter(|n| acknowledged.contains(n)).collect();
                assert_eq!(kept, acknowledged, "{context}: found {found:?}");
            }
        }
    }
}

#[test]
fn a_directory_is_open_once() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    assert!(matches!(open(&disk, small()), Err(JournalError::InUse { .. })));
    let log = Arc::clone(set.log(Stream::Undo));
    drop(set);
    assert!(matches!(open(&disk, small()), Err(JournalError::InUse { .. })), "a log is still in use");
    drop(log);
    open(&disk, small()).unwrap();

    let real = tempfile::tempdir().unwrap();
    let set = LogSet::open(Arc::new(OsDisk), real.path(), LogOptions::default()).unwrap();
    let second = LogSet::open(Arc::new(OsDisk), real.path(), LogOptions::default());
    assert!(matches!(second, Err(JournalError::InUse { .. })));
    drop(set);
    LogSet::open(Arc::new(OsDisk), real.path(), LogOptions::default()).unwrap();
}

fn group(set: &LogSet) -> GroupCommit {
    GroupCommit::start(Arc::clone(set.log(Stream::Redo)), GroupOptions::default()).unwrap()
}

#[test]
fn group_commit_keeps_the_order_and_shares_fsyncs() {
    let disk = SimDisk::new();
    let set = open(&disk, LogOptions { segment_bytes_max: 100_000, ..small() }).unwrap();
    let before = disk.syncs();
    let group = group(&set);
    let order = Arc::new(Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (group, order) = (&group, &order);
            scope.spawn(move || {
                for i in 0..100 {
                    let n = thread * 1000 + i + 1;
                    let order = Arc::clone(order);
                    let done = move |result: Result<_, JournalError>| {
                        result.unwrap();
                        order.lock().push(n);
                    };
                    group.submit_with(vec![draft(Stream::Redo, n), draft(Stream::Redo, n + 10_000)], done);
                }
            });
        }
    });
    let ticket = group.submit(vec![draft(Stream::Redo, 99_999)]);
    let appended = ticket.wait().unwrap();
    assert_eq!(set.log(Stream::Redo).read(appended[0].at).count(), 1);
    let told = order.lock().clone();
    let pairs: Vec<u64> = told.iter().flat_map(|n| [*n, n + 10_000]).chain([99_999]).collect();
    assert_eq!(read_all(set.log(Stream::Redo)), pairs, "the log is in the order of the callbacks");
    for thread in 0..4 {
        let own: Vec<u64> = told.iter().copied().filter(|n| n / 1000 == thread).collect();
        assert!(own.is_sorted() && own.len() == 100, "submissions of a thread are out of order");
    }
    println!("{} fsyncs for 401 submissions", disk.syncs() - before);
}

/// Submissions made ahead of a failure for lack of room fail too, so that none is in the log in front of its
/// predecessor; and once the failures are seen, the log goes on by itself.
#[test]
fn group_commit_leaves_no_hole_when_the_disk_is_full() {
    let disk = SimDisk::new();
    let set = open(&disk, LogOptions { segment_bytes_max: 1 << 20, ..small() }).unwrap();
    let group = group(&set);
    group.submit(vec![draft(Stream::Redo, 1)]).wait().unwrap();
    disk.set_room(Some(disk.used() + 40));
    let tickets: Vec<_> = (2..20).map(|n| group.submit(vec![draft(Stream::Redo, n)])).collect();
    let mut tickets = tickets.into_iter();
    assert_eq!(tickets.next().unwrap().wait().unwrap_err().kind(), ErrorKind::Full);
    disk.set_room(None);
    // There is room, but seventeen failures are unseen.
    let early = group.submit(vec![draft(Stream::Redo, 20)]);
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap_err().kind(), ErrorKind::Full);
    }
    assert_eq!(early.wait().unwrap_err().kind(), ErrorKind::Full);
    group.submit(vec![draft(Stream::Redo, 2)]).wait().unwrap();
    assert_eq!(read_all(set.log(Stream::Redo)), [1, 2]);
}

/// The same where only one write fails and the next would succeed, and each submission is a batch of its own.
#[test]
fn group_commit_fails_what_was_submitted_behind_a_failure() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let options = GroupOptions { batch_bytes_max: 1, ..GroupOptions::default() };
    let group = GroupCommit::start(Arc::clone(set.log(Stream::Redo)), options).unwrap();
    let (resume, wait) = std::sync::mpsc::channel::<()>();
    group.submit_with(vec![draft(Stream::Redo, 1)], move |result| {
        result.unwrap();
        wait.recv().unwrap();
    });
    // The writer is held in the callback, or will be: all of these queue up behind it.
    let tickets: Vec<_> = (2..6).map(|n| group.submit(vec![draft(Stream::Redo, n)])).collect();
    while set.log(Stream::Redo).end().offset == 128 {
        std::thread::yield_now();
    }
    disk.fail_at(disk.operations() + 1, Fault::Full);
    resume.send(()).unwrap();
    for ticket in tickets {
        assert_eq!(ticket.wait().unwrap_err().kind(), ErrorKind::Full);
    }
    group.submit(vec![draft(Stream::Redo, 7)]).wait().unwrap();
    assert_eq!(read_all(set.log(Stream::Redo)), [1, 7]);
}

/// The last owner of the writer may be a callback that runs on it.
#[test]
fn group_commit_may_be_dropped_by_its_own_callback() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let group = Arc::new(group(&set));
    let (told, wait) = std::sync::mpsc::channel();
    let (resume, hold) = std::sync::mpsc::channel::<()>();
    let own = Arc::clone(&group);
    group.submit_with(vec![draft(Stream::Redo, 1)], move |result| {
        hold.recv().unwrap();
        drop(own);
        told.send(result.is_ok()).unwrap();
    });
    drop(group);
    resume.send(()).unwrap();
    assert!(wait.recv().unwrap());
}

#[test]
fn group_commit_is_shut_by_a_failed_fsync() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let group = group(&set);
    group.submit(vec![draft(Stream::Redo, 1)]).wait().unwrap();
    for ahead in 1..6 {
        disk.fail_at(disk.operations() + ahead, Fault::Io);
    }
    let tickets: Vec<_> = (2..6).map(|n| group.submit(vec![draft(Stream::Redo, n)])).collect();
    let errors: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait().unwrap_err()).collect();
    assert!(errors.iter().skip(1).all(|error| error.kind() == ErrorKind::Poisoned), "{errors:?}");
    let late = group.submit(vec![draft(Stream::Redo, 7)]).wait();
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Poisoned);
    drop(group);
    let after = disk.crash(Cut::Nothing, &mut Rng::new(0));
    assert_eq!(read_all(open(&after, small()).unwrap().log(Stream::Redo)), [1]);
}

#[test]
fn too_long_a_record_is_refused_alone() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let group = group(&set);
    let long = RecordDraft { head: vec![0; (16 << 20) + 1], ..RecordDraft::default() };
    let refused = group.submit(vec![draft(Stream::Redo, 1), long]);
    let taken = group.submit(vec![draft(Stream::Redo, 2)]);
    assert!(matches!(refused.wait(), Err(JournalError::TooLong { .. })));
    taken.wait().unwrap();
    assert_eq!(read_all(set.log(Stream::Redo)), [2]);
}

/// An idle writer leaves word of how far the log is durable: then even damage in the last batch is no torn tail.
#[test]
fn an_idle_writer_vouches_for_the_last_batch() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let group = group(&set);
    group.submit(vec![draft(Stream::Redo, 1)]).wait().unwrap();
    drop(group);
    let after = disk.crash(Cut::Everything, &mut Rng::new(0));
    let path = Path::new(DIRECTORY).join("00000001.seg");
    after.damage(&path, |bytes| bytes[140] ^= 1);
    match open(&after, small()) {
        Err(JournalError::Damaged { path: named, offset, .. }) => assert_eq!((named, offset), (path, 128)),
        other => panic!("{:?}", other.err()),
    }
}
