//! Without faults: is the log what a list of records is?

use crate::log_kit::{DIRECTORY, check_record, draft, open, read_all, seeds, small};
use journal::Lsn;
use journal::log::{Appended, LogSet, Stream, verify};
use std::path::Path;
use tests::rng::Rng;
use tests::sim_disk::SimDisk;

#[derive(Default)]
struct Model {
    committed: Vec<(u64, Appended)>,
    pending: Vec<(u64, Appended)>,
}

fn compare(set: &LogSet, models: &[Model; 2]) {
    for (stream, model) in Stream::ALL.into_iter().zip(models) {
        let log = set.log(stream);
        let numbers: Vec<u64> = model.committed.iter().map(|(n, _)| *n).collect();
        assert_eq!(read_all(log), numbers);
        for (n, appended) in model.pending.iter().chain(&model.committed) {
            for (at, expected) in appended.payloads.iter().zip(draft(stream, *n).payloads) {
                assert_eq!(log.read_payload(*at).unwrap(), expected, "payload of {n}");
            }
        }
        let segments = log.segments();
        assert_eq!(segments.iter().map(|one| one.records).sum::<u64>(), numbers.len() as u64);
        assert!(
            segments.iter().rev().skip(1).all(|one| one.sealed)
                && segments.last().is_some_and(|one| !one.sealed)
        );
        let times = |n: &&u64| journal::Timestamp(**n as i64 * 1000);
        assert_eq!(
            segments.iter().filter_map(|one| one.time_first).min(),
            numbers.iter().min().as_ref().map(times)
        );
        assert_eq!(
            segments.iter().filter_map(|one| one.time_last).max(),
            numbers.iter().max().as_ref().map(times)
        );
    }
}

/// Reading from a found place misses no record at or behind the LSN.
fn find(set: &LogSet, models: &[Model; 2], rng: &mut Rng, next: u64) {
    for (stream, model) in Stream::ALL.into_iter().zip(models) {
        let log = set.log(stream);
        let wanted = rng.below(next + 2);
        let from = log.find(Lsn::captured(wanted)).unwrap();
        let found: Vec<u64> = log.read(from).map(|record| check_record(log, &record.unwrap())).collect();
        let due = model.committed.iter().map(|(n, _)| *n).filter(|n| *n >= wanted && n % 5 != 0);
        assert!(due.clone().all(|n| found.contains(&n)), "{wanted} from {from}: {found:?}");
        assert!(due.count() > 0 || found.is_empty());
    }
}

#[test]
fn random_lives_equal_a_list() {
    for seed in seeds(25) {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new();
        let mut set = open(&disk, small()).unwrap();
        let mut models = [Model::default(), Model::default()];
        let mut next = 1;
        for _ in 0..150 {
            let stream = if rng.chance(1, 2) { Stream::Redo } else { Stream::Undo };
            let model = &mut models[usize::from(stream == Stream::Undo)];
            let log = set.log(stream);
            match rng.below(30) {
                0..=15 => {
                    model.pending.push((next, log.append(&draft(stream, next)).unwrap()));
                    next += 1;
                }
                16..=20 => {
                    log.commit().unwrap();
                    model.committed.append(&mut model.pending);
                }
                21 => {
                    log.seal().unwrap();
                    model.committed.append(&mut model.pending);
                }
                22 => {
                    log.rollback().unwrap();
                    model.pending.clear();
                }
                23 => log.note_durable().unwrap(),
                24 => {
                    let oldest = log.first().segment;
                    let segment = oldest + rng.below(log.end().segment - oldest + 3);
                    let bytes: u64 = log
                        .segments()
                        .iter()
                        .filter(|one| one.sealed && one.number < segment)
                        .map(|one| one.bytes)
                        .sum();
                    assert_eq!(log.drop_before(segment).unwrap(), bytes);
                    let first = log.first().segment;
                    model.committed.retain(|(_, appended)| appended.at.segment >= first);
                }
                25 => {
                    let note = rng.bytes(10);
                    set.set_note(note.clone()).unwrap();
                    assert_eq!(set.note(), note);
                }
                26..=27 => {
                    let (id, note) = (set.journal_id(), set.note());
                    drop(set);
                    set = open(&disk, small()).unwrap();
                    assert_eq!((set.journal_id(), set.note()), (id, note));
                    models.iter_mut().for_each(|model| model.pending.clear());
                }
                28 => find(&set, &models, &mut rng, next),
                _ => compare(&set, &models),
            }
        }
        compare(&set, &models);
        let mut seen = 0;
        let online = set.verify(&mut |progress| seen = progress.bytes_done).unwrap();
        assert!(online.is_sound() && seen > 0, "{online:?}");
        drop(set);
        let offline = verify(&disk, Path::new(DIRECTORY), &mut |_| {}).unwrap();
        assert!(offline.is_sound(), "{offline:?}");
        let committed: usize = models.iter().map(|model| model.committed.len()).sum();
        assert_eq!(offline.records, committed as u64);
    }
}

/// A reader that has come to the end goes on when more is committed, across a seal.
#[test]
fn a_reader_follows_the_writer() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    let mut reader = log.read(log.first());
    for n in 1..40 {
        log.append(&draft(Stream::Redo, n)).unwrap();
        assert!(reader.next().is_none(), "not committed yet");
        log.commit().unwrap();
        assert_eq!(check_record(log, &reader.next().unwrap().unwrap()), n);
        if n % 7 == 0 {
            log.seal().unwrap();
        }
    }
    assert!(reader.next().is_none());
    assert!(log.segments().len() > 5);
}

/// Readers and a verification beside a writer, a sealer and retention see only whole records in order.
#[test]
fn readers_need_no_quiet() {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    let mut last = 0;
                    for record in log.read(log.first()) {
                        match record {
                            Ok(record) => {
                                let n = u64::from_le_bytes(record.head[..8].try_into().unwrap());
                                assert!(last == 0 || n == last + 1, "{n} follows {last}");
                                last = n;
                            }
                            // Retention was faster.
                            Err(error) => assert_eq!(error.kind(), journal::ErrorKind::NotFound, "{error}"),
                        }
                    }
                    assert!(set.verify(&mut |_| {}).unwrap().is_sound());
                }
            });
        }
        for n in 1..400 {
            log.append(&draft(Stream::Redo, n)).unwrap();
            if n % 3 == 0 {
                log.commit().unwrap();
            }
            if n % 50 == 0 {
                log.drop_before(log.end().segment.saturating_sub(2)).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Release);
    });
}
