//! Rot: is every changed byte and every missing end noticed, and no byte misread?

use crate::log_kit::{DIRECTORY, draft, open, read_all, small};
use journal::log::{FileEntry, Identity, LogOptions, RecordAt, RecordDraft, Retire, Stream, verify};
use journal::{Disk, ErrorKind, JournalError};
use std::path::{Path, PathBuf};
use tests::rng::Rng;
use tests::sim_disk::{Cut, SimDisk};

/// Six records that are short in both streams: the tests take time by the byte.
fn numbers() -> [u64; 6] {
    let short = |n: &u64| Stream::ALL.iter().all(|stream| (30..150).contains(&draft(*stream, *n).bytes()));
    let found: Vec<u64> = (1..).filter(short).take(6).collect();
    found.try_into().unwrap()
}

/// A small journal with sealed segments, an empty batch mark, a checkpoint, and a last batch in each stream. Gives
/// the disk and the ends of both streams.
fn journal(closed: bool) -> (SimDisk, [RecordAt; 2]) {
    let disk = SimDisk::new();
    let set = open(&disk, small()).unwrap();
    let path = set.file_path("first.checkpoint");
    let file = disk.create(&path).unwrap();
    file.write_at(b"a checkpoint", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIRECTORY)).unwrap();
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(b"a checkpoint").as_bytes()[..16]);
    let entry = FileEntry { name: "first.checkpoint".to_owned(), bytes: 12, hash };
    let note = Some(b"note".to_vec());
    set.retire(Retire { files: Some(vec![entry]), note, ..Retire::default() }).unwrap();
    for (i, n) in numbers().into_iter().enumerate() {
        for stream in Stream::ALL {
            let log = set.log(stream);
            log.append(&draft(stream, n)).unwrap();
            if i != 4 {
                log.commit().unwrap();
            }
            if i == 1 {
                log.seal().unwrap();
            }
            if i == 2 {
                log.note_durable().unwrap();
            }
        }
    }
    let ends = Stream::ALL.map(|stream| set.log(stream).end());
    if closed {
        set.close().unwrap();
        drop(set);
    }
    (disk.crash(Cut::Everything, &mut Rng::new(0)), ends)
}

fn hinted(ends: [RecordAt; 2]) -> LogOptions {
    LogOptions { durable_hint: Some(ends[0]), undo_durable_hint: Some(ends[1]), ..small() }
}

/// Whether opening with these options, or verifying, says that something is damaged.
fn is_noticed(disk: &SimDisk, options: LogOptions) -> bool {
    let offline = verify(disk, Path::new(DIRECTORY), &mut |_| {});
    if offline.is_ok_and(|report| !report.is_sound()) {
        return true;
    }
    match open(disk, options) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
            true
        }
        Ok(set) => !set.verify(&mut |_| {}).unwrap().is_sound(),
    }
}

fn copy(disk: &SimDisk) -> SimDisk {
    disk.crash(Cut::Everything, &mut Rng::new(0))
}

fn all_bytes(disk: &SimDisk) -> Vec<(PathBuf, usize)> {
    let length = |path: &PathBuf| disk.contents(path).unwrap().len();
    disk.paths()
        .into_iter()
        .flat_map(|path| (0..length(&path)).map(move |offset| (path.clone(), offset)))
        .collect()
}

#[test]
fn every_flipped_bit_of_a_closed_journal_is_noticed() {
    let (disk, _) = journal(true);
    assert!(!is_noticed(&disk, small()), "the journal is damaged to begin with");
    let places = all_bytes(&disk);
    println!("{} bytes in {} files", places.len(), disk.paths().len());
    for (path, offset) in places {
        let damaged = copy(&disk);
        damaged.damage(&path, |bytes| bytes[offset] ^= 1 << (offset % 8));
        assert!(is_noticed(&damaged, small()), "{} at {offset}", path.display());
    }
}

#[test]
fn every_truncation_of_a_closed_journal_is_noticed() {
    let (disk, _) = journal(true);
    for (path, length) in all_bytes(&disk) {
        let damaged = copy(&disk);
        damaged.damage(&path, |bytes| bytes.truncate(length));
        assert!(is_noticed(&damaged, small()), "{} cut to {length}", path.display());
    }
}

#[test]
fn every_missing_file_is_noticed() {
    let (disk, _) = journal(true);
    for path in disk.paths() {
        let damaged = copy(&disk);
        damaged.lose(&path);
        assert!(is_noticed(&damaged, small()), "{} is gone", path.display());
    }
}

#[test]
fn what_somebody_remembers_as_acknowledged_is_never_cut() {
    let (disk, ends) = journal(false);
    assert!(!is_noticed(&disk, hinted(ends)));
    for (path, offset) in all_bytes(&disk) {
        let damaged = copy(&disk);
        damaged.damage(&path, |bytes| bytes[offset] ^= 0x10);
        assert!(is_noticed(&damaged, hinted(ends)), "{} at {offset}", path.display());
        let shortened = copy(&disk);
        shortened.damage(&path, |bytes| bytes.truncate(offset));
        assert!(is_noticed(&shortened, hinted(ends)), "{} cut to {offset}", path.display());
    }
}

/// Without a close and without a hint only the very last batch may be taken for a torn tail, and then all of it.
#[test]
fn unnoticed_damage_costs_at_most_the_last_batch() {
    let (disk, _) = journal(false);
    for (path, offset) in all_bytes(&disk) {
        let damaged = copy(&disk);
        damaged.damage(&path, |bytes| bytes[offset] ^= 1);
        if is_noticed(&damaged, small()) {
            continue;
        }
        let set = open(&damaged, small()).unwrap();
        let found = Stream::ALL.map(|stream| read_all(set.log(stream)));
        let all = numbers();
        for found_in_one in &found {
            assert!(
                *found_in_one == all || *found_in_one == all[..4],
                "{}: {offset}: {found:?}",
                path.display()
            );
        }
    }
}

/// A record whose payload is a copy of frames of this very journal: no scan may take it for frames.
#[test]
fn frames_inside_payloads_are_no_frames() {
    let (disk, _) = journal(true);
    let path = Path::new(DIRECTORY).join("00000001.seg");
    let frames = disk.contents(&path).unwrap();
    let long = LogOptions { segment_bytes_max: 1 << 20, ..small() };
    let set = open(&disk, long).unwrap();
    let log = set.log(Stream::Redo);
    let mut own = draft(Stream::Redo, 11);
    own.payloads = (0..8).map(|shift| bytes::Bytes::from([&vec![0; shift][..], &frames].concat())).collect();
    log.append(&own).unwrap();
    log.commit().unwrap();
    let newest = disk.paths().into_iter().rfind(|path| path.extension().is_some_and(|s| s == "seg")).unwrap();
    let offset = disk.contents(&newest).unwrap().len();
    let torn = copy(&disk);
    torn.damage(&newest, |bytes| bytes.truncate(offset - 20));
    let set = open(&torn, long).unwrap();
    assert_eq!(read_all(set.log(Stream::Redo)), numbers());
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let (disk, _) = journal(true);
    let (other, _) = journal(true);
    for name in ["00000001.seg", "00000002.undo"] {
        let path = Path::new(DIRECTORY).join(name);
        let damaged = copy(&disk);
        let foreign = other.contents(&path).unwrap();
        damaged.damage(&path, |bytes| *bytes = foreign);
        assert!(is_noticed(&damaged, small()), "{name}");
    }
    let damaged = copy(&disk);
    let first = disk.contents(&Path::new(DIRECTORY).join("00000001.seg")).unwrap();
    damaged.damage(&Path::new(DIRECTORY).join("00000001.undo"), |bytes| *bytes = first);
    assert!(is_noticed(&damaged, small()), "a redo segment in the place of an undo segment");
}

/// Two histories of one journal (one of them put back from a copy) must not be spliced: all checksums of each part
/// match, only the chain does not.
#[test]
fn a_splice_of_two_histories_is_refused() {
    let history = |second: u64| {
        let disk = SimDisk::new();
        let identity = Some(Identity([7; 16]));
        let set = open(&disk, LogOptions { identity, ..small() }).unwrap();
        let log = set.log(Stream::Redo);
        let record = |n: u64| RecordDraft { head: n.to_le_bytes().to_vec(), ..RecordDraft::default() };
        let places = [1, second, 3].map(|n| log.append(&record(n)).unwrap().at.offset as usize);
        log.commit().unwrap();
        drop(set);
        (disk, places)
    };
    let path = Path::new(DIRECTORY).join("00000001.seg");
    let (disk, places) = history(2);
    let other = history(20).0.contents(&path).unwrap();
    assert!(!is_noticed(&disk, small()));
    disk.damage(&path, |bytes| bytes[places[1]..places[2]].copy_from_slice(&other[places[1]..places[2]]));
    assert!(is_noticed(&disk, small()));
}

/// Several damaged places are all reported, with file and offset.
#[test]
fn verify_names_each_damaged_place() {
    let (disk, ends) = journal(true);
    let set = open(&disk, small()).unwrap();
    let log = set.log(Stream::Redo);
    let records: Vec<_> = log.read(log.first()).map(Result::unwrap).collect();
    let payload = records.iter().flat_map(|record| &record.payloads).find(|at| at.bytes > 0).unwrap();
    let last = records.last().unwrap();
    assert_eq!(last.at.segment, ends[0].segment);
    let path = |segment: u64| Path::new(DIRECTORY).join(Stream::Redo.file_name(segment));
    disk.damage(&path(payload.segment), |bytes| bytes[payload.offset as usize] ^= 1);
    disk.damage(&path(last.at.segment), |bytes| bytes[last.at.offset as usize + 9] ^= 1);
    let report = set.verify(&mut |_| {}).unwrap();
    let found: Vec<_> = report.damages.iter().map(|damage| (damage.path.clone(), damage.offset)).collect();
    assert_eq!(found, [(path(payload.segment), payload.offset), (path(last.at.segment), last.at.offset)]);
    match log.read_payload(*payload) {
        Err(JournalError::Damaged { path: named, offset, .. }) => {
            assert_eq!((named, offset), (path(payload.segment), payload.offset));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn segments_without_a_manifest_are_no_new_journal() {
    let (disk, _) = journal(true);
    disk.lose(&Path::new(DIRECTORY).join("manifest"));
    assert_eq!(open(&disk, small()).err().unwrap().kind(), ErrorKind::Damaged);
}

#[test]
fn what_does_not_count_is_removed_and_what_should_count_is_not() {
    let (disk, _) = journal(true);
    let directory = Path::new(DIRECTORY);
    for name in ["stray.checkpoint", "manifest.new", "x.checkpoint.new"] {
        disk.create(&directory.join(name)).unwrap();
    }
    disk.create(&directory.join("keep.txt")).unwrap();
    drop(open(&disk, small()).unwrap());
    let names: Vec<_> = disk.list(directory).unwrap();
    assert!(
        names.iter().any(|name| name == "keep.txt") && names.iter().any(|name| name == "first.checkpoint")
    );
    assert!(!names.iter().any(|name| name.contains("stray") || name.contains("new")), "{names:?}");
    // A manifest that was put back from a backup must not cost the segments written since.
    disk.create(&directory.join("00000099.seg")).unwrap().write_at(&[1; 500], 0).unwrap();
    assert_eq!(open(&disk, small()).err().unwrap().kind(), ErrorKind::Damaged);
}
