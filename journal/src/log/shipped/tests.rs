//! What was shipped is read back as it was appended, and nothing else is.

use super::*;
use crate::disk::OsDisk;
use crate::log::{LogOptions, LogSet, RecordDraft};
use crate::lsn::Lsn;
use crate::meta::Timestamp;

struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rewind-shipped-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&path));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn draft(number: u64) -> RecordDraft {
    RecordDraft {
        kind: 1,
        version: 1,
        lsn: Some(Lsn::captured(number)),
        time: Timestamp(number as i64),
        head: vec![number as u8; 20],
        payloads: vec![vec![number as u8; 33].into()],
    }
}

/// A journal of two whole segments and a live one, two batches each.
fn journal(place: &Place) -> LogSet {
    let set = LogSet::open(Arc::new(OsDisk), &place.0.join("journal"), LogOptions::default()).unwrap();
    let redo = set.log(Stream::Redo);
    for number in 1..=6 {
        redo.append(&draft(number)).unwrap();
        redo.commit().unwrap();
        if number == 2 || number == 4 {
            redo.seal().unwrap();
        }
    }
    set
}

type Read = Vec<(Option<Lsn>, Vec<u8>)>;

fn read(path: &Path, journal: [u8; 16], number: u64) -> Result<(Read, Option<[u8; 16]>), JournalError> {
    let mut shipped = ShippedSegment::open(&OsDisk, path, journal, number, None)?;
    let mut all = Vec::new();
    while let Some(record) = shipped.next_record()? {
        for payload in &record.payloads {
            all.push((record.lsn, shipped.payload(*payload)?.to_vec()));
        }
    }
    Ok((all, shipped.chain()))
}

#[test]
fn what_was_shipped_is_read_back() {
    let place = Place::new("back");
    let set = journal(&place);
    let (redo, file) = (set.log(Stream::Redo), place.0.join("shipped"));
    let mut chain = None;
    for info in redo.segments() {
        let bytes = redo.read_raw(info.number, 0, info.bytes as usize).unwrap();
        std::fs::write(&file, &bytes).unwrap();
        let wrong = chain.map(|_| [7; 16]);
        assert!(
            wrong.is_none()
                || ShippedSegment::open(&OsDisk, &file, set.journal_id(), info.number, wrong).is_err()
        );
        ShippedSegment::open(&OsDisk, &file, set.journal_id(), info.number, chain).unwrap();
        let (records, end) = read(&file, set.journal_id(), info.number).unwrap();
        let first = info.number * 2 - 1;
        let expected: Vec<_> =
            (first..first + 2).map(|number| (Some(Lsn::captured(number)), vec![number as u8; 33])).collect();
        assert_eq!(records, expected);
        assert_eq!(end.is_some(), info.sealed);
        chain = end;
        assert!(read(&file, set.journal_id(), info.number + 1).is_err(), "another number");
        assert!(read(&file, [9; 16], info.number).is_err(), "another journal");
    }
    let end = redo.end();
    assert!(redo.read_raw(end.segment, end.offset, 1).is_err(), "behind the end");
}

/// Every flip of a byte is noticed, and every cut but one behind a commit.
#[test]
fn nothing_else_is() {
    let place = Place::new("else");
    let set = journal(&place);
    let (redo, file) = (set.log(Stream::Redo), place.0.join("shipped"));
    let info = redo.segments().into_iter().next().unwrap();
    let whole = redo.read_raw(1, 0, info.bytes as usize).unwrap();
    std::fs::write(&file, &whole).unwrap();
    let good = read(&file, set.journal_id(), 1).unwrap();
    let mut missed = Vec::new();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&file, &bytes).unwrap();
        // Zeros behind a frame are under no checksum, and say nothing.
        if read(&file, set.journal_id(), 1).is_ok_and(|found| found != good) {
            missed.push(at);
        }
    }
    assert!(missed.is_empty(), "{missed:?}");
    let mut ends = Vec::new();
    for length in 0..=whole.len() {
        std::fs::write(&file, &whole[..length]).unwrap();
        if let Ok((records, chain)) = read(&file, set.journal_id(), 1) {
            assert_eq!(records, good.0[..records.len()]);
            assert_eq!(chain.is_some(), length == whole.len());
            ends.push(records.len());
        }
    }
    assert_eq!(ends, [0, 1, 2, 2], "a header alone, two commits, the footer");
}
