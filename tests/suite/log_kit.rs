//! What the tests of the log share: records that can be told from each other, and a reader that checks every byte.

use bytes::Bytes;
use journal::log::{Log, LogOptions, LogSet, RecordDraft, StoredRecord, Stream};
use journal::{Disk, JournalError, Lsn, Timestamp};
use std::path::Path;
use std::sync::Arc;
use tests::rng::Rng;
use tests::sim_disk::SimDisk;

/// Where the journals of these tests lie.
pub const DIRECTORY: &str = "/journal";

/// How many random cases to run: `REWIND_SEEDS`, or else `default`.
pub fn seeds(default: u64) -> std::ops::Range<u64> {
    0..std::env::var("REWIND_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Record number `n` of a stream: the same bytes whenever it is asked for, unlike those of any other.
pub fn draft(stream: Stream, n: u64) -> RecordDraft {
    let mut rng = Rng::new(n * 2 + u64::from(stream == Stream::Undo));
    let mut head = n.to_le_bytes().to_vec();
    let extra = rng.below(40) as usize;
    head.extend(rng.bytes(extra));
    let payloads = (0..rng.below(4))
        .map(|_| {
            let length = if rng.chance(1, 8) { 4096 + rng.below(2000) } else { rng.below(200) };
            Bytes::from(rng.bytes(length as usize))
        })
        .collect();
    RecordDraft {
        kind: rng.below(256) as u8,
        version: rng.below(256) as u8,
        lsn: (!n.is_multiple_of(5)).then_some(Lsn::captured(n)),
        time: Timestamp(n as i64 * 1000),
        head,
        payloads,
    }
}

/// The number of a record, after a check of all it holds.
pub fn check_record(log: &Log, record: &StoredRecord) -> u64 {
    let n = u64::from_le_bytes(record.head[..8].try_into().unwrap());
    let expected = draft(log.stream(), n);
    let payloads = record.payloads.iter().map(|at| log.read_payload(*at).unwrap()).collect();
    let found = RecordDraft {
        kind: record.kind,
        version: record.version,
        lsn: record.lsn,
        time: record.time,
        head: record.head.to_vec(),
        payloads,
    };
    assert_eq!(found, expected, "record {n}");
    n
}

/// Numbers of all committed records, each checked.
pub fn read_all(log: &Log) -> Vec<u64> {
    log.read(log.first()).map(|record| check_record(log, &record.unwrap())).collect()
}

/// Options under which small tests meet all of the code: short segments, a buffer of a few records.
pub fn small() -> LogOptions {
    LogOptions { segment_bytes_max: 2000, buffer_bytes: 300, ..LogOptions::default() }
}

/// Opens the journal on a simulated disk.
pub fn open(disk: &SimDisk, options: LogOptions) -> Result<LogSet, JournalError> {
    LogSet::open(Arc::new(disk.clone()), Path::new(DIRECTORY), options)
}

/// Puts the files of a directory into `/j` of a disk, durable.
pub fn copy_into(disk: &SimDisk, directory: &Path) {
    let into = Path::new("/j");
    disk.create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let file = disk.create(&into.join(entry.file_name())).unwrap();
        file.write_at(&std::fs::read(entry.path()).unwrap(), 0).unwrap();
        file.sync_data().unwrap();
    }
    disk.sync_dir(into).unwrap();
}

/// CRC-32C, as the format describes it.
pub fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
