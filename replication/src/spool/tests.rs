//! The spool against a model: minting, spilling, freeing, closing, and disks that refuse.

use super::*;
use crate::ingest::tests::JOURNAL;
use bytes::Bytes;
use journal::{DiskFile, GapCause, Marker, NodeId, OsDisk, Payload};
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use wire::stream::decode_part;

const SOON: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

pub(crate) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

pub(crate) fn seed(fallback: u64) -> u64 {
    let seed = std::env::var("REWIND_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(fallback);
    println!("seed {seed} (REWIND_SEED replays it)");
    seed
}

/// A disk that can refuse writes and report little room.
#[derive(Default)]
struct Moody {
    refuses: AtomicBool,
    free: AtomicU64,
}

impl journal::Disk for Moody {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        if self.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(28));
        }
        OsDisk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(directory)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.sync_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        OsDisk.lock(path)
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }
}

struct Bench {
    directory: tempfile::TempDir,
    disk: Arc<Moody>,
    memory: u64,
    on_disk: u64,
    stalled_max: Duration,
}

impl Bench {
    fn new(memory: u64, on_disk: u64) -> Self {
        let disk = Arc::new(Moody::default());
        disk.free.store(1 << 40, Ordering::Relaxed);
        Bench { directory: tempfile::tempdir().unwrap(), disk, memory, on_disk, stalled_max: NOW }
    }

    fn try_open(&self) -> Result<(Arc<Spool>, SpoolOpened), SpoolError> {
        let options = SpoolOptions {
            memory_bytes_max: self.memory,
            disk_bytes_max: self.on_disk,
            disk_free_bytes_min: 1 << 20,
            segment_bytes_max: self.memory / 4,
            stalled_max: self.stalled_max,
            ..SpoolOptions::new(self.directory.path().join("spool"))
        };
        let (spool, opened) = Spool::open(Arc::clone(&self.disk) as Arc<dyn Disk>, options)?;
        Ok((Arc::new(spool), opened))
    }

    fn open(&self) -> (Arc<Spool>, SpoolOpened) {
        self.try_open().unwrap()
    }

    fn begun(&self) -> Arc<Spool> {
        let spool = self.open().0;
        spool.begin(JOURNAL, Lsn::ZERO, Timestamp(0)).unwrap();
        spool
    }

    fn files(&self) -> usize {
        let names = OsDisk.list(&self.directory.path().join("spool")).unwrap();
        names.iter().filter(|name| name.ends_with(".spool")).count()
    }
}

fn draft(bytes: usize) -> Draft {
    let data = Payload::Inline(vec![b'x'; bytes].into());
    Draft {
        time: Timestamp(1),
        provenance: Provenance::Derived,
        root: RootNo(0),
        path: b"a/b".to_vec(),
        part: 0,
        last: true,
        events: vec![Event::Write { node: NodeId(5000), offset: 0, data, before: None }],
    }
}

fn gap() -> Draft {
    let event = Marker::GapOpened { gap: 1, root: RootNo(0), path: Vec::new(), cause: GapCause::SpoolFull };
    Draft { events: vec![Event::Mark(event)], ..draft(0) }
}

fn read_all(reader: &mut SpoolReader) -> Vec<SpooledPart> {
    let mut all = Vec::new();
    loop {
        let batch = reader.next_batch(10_000, NOW).unwrap();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch);
    }
}

fn lsns(parts: &[SpooledPart]) -> Vec<(u64, u32)> {
    parts.iter().map(|part| (part.lsn.captured, part.number)).collect()
}

#[test]
fn lsns_are_contiguous_and_parts_are_what_was_emitted() {
    let spool = Bench::new(1 << 20, 0).begun();
    assert_eq!(spool.emit(draft(10)).unwrap(), Lsn::captured(1));
    assert_eq!(spool.emit(Draft { last: false, ..draft(20) }).unwrap(), Lsn::captured(2));
    assert_eq!(spool.emit(Draft { part: 1, time: Timestamp(9), ..draft(30) }).unwrap(), Lsn::captured(2));
    assert_eq!(spool.emit(Draft { time: Timestamp(-5), ..draft(40) }).unwrap(), Lsn::captured(3));
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap());
    assert_eq!(lsns(&parts), [(1, 0), (2, 0), (2, 1), (3, 0)]);
    let part = decode_part(parts[2].bytes.clone()).unwrap();
    assert_eq!((part.number, part.last, part.capture.events), (1, true, draft(30).events));
    // Time belongs to the capture and never runs backwards.
    let times: Vec<i64> =
        parts.iter().map(|part| decode_part(part.bytes.clone()).unwrap().capture.time.0).collect();
    assert_eq!(times, [1, 1, 1, 1]);
}

#[test]
fn nothing_is_minted_before_the_replica_was_met() {
    let bench = Bench::new(1 << 20, 0);
    let (spool, opened) = bench.open();
    assert_eq!(opened, SpoolOpened { journal: None, acknowledged: Lsn::ZERO, captured: None });
    assert!(matches!(spool.emit(draft(1)), Err(SinkError::NotBegun)));
    spool.begin(JOURNAL, Lsn::captured(41), Timestamp(77)).unwrap();
    assert_eq!(spool.emit(draft(1)).unwrap(), Lsn::captured(42));
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::captured(41), 0).unwrap());
    assert_eq!(decode_part(parts[0].bytes.clone()).unwrap().capture.time, Timestamp(77));
}

#[test]
fn who_made_nothing_goes_on_after_whatever_a_journal_holds() {
    let bench = Bench::new(1 << 20, 0);
    let spool = bench.begun();
    assert!(spool.is_unused());
    // The replica adopted a tree meanwhile.
    spool.begin(JOURNAL, Lsn::captured(7), Timestamp(5)).unwrap();
    assert_eq!(spool.emit(draft(1)).unwrap(), Lsn::captured(8));
    assert!(!spool.is_unused());
    // Whoever has made something does not.
    let spool = Bench::new(1 << 20, 0).begun();
    assert_eq!(spool.emit(draft(1)).unwrap(), Lsn::captured(1));
    spool.begin(JOURNAL, Lsn::ZERO, Timestamp(9)).unwrap();
    assert_eq!(spool.emit(draft(1)).unwrap(), Lsn::captured(2));
}

#[test]
fn large_drafts_travel_in_parts_that_fit_a_message() {
    let spool = Bench::new(64 << 20, 0).begun();
    let event = draft(1 << 20).events.remove(0);
    spool.emit(Draft { events: vec![event; 9], ..draft(0) }).unwrap();
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap());
    assert_eq!(lsns(&parts), (0..9).map(|number| (1, number)).collect::<Vec<_>>());
    assert_eq!(parts.iter().map(|part| part.last).collect::<Vec<_>>()[8..], [true]);
    assert!(parts[..8].iter().all(|part| !part.last && part.bytes.len() <= wire::stream::PART_BYTES_MAX));
    let many = Draft { events: vec![Event::Mark(Marker::GapClosed { gap: 1 }); 40_000], ..draft(0) };
    spool.emit(many).unwrap();
    let events: usize = read_all(&mut SpoolReader::resume(&spool, Lsn::captured(1), 0).unwrap())
        .into_iter()
        .map(|part| decode_part(part.bytes).unwrap().capture.events.len())
        .sum();
    assert_eq!(events, 40_000);
    let bad = Event::Resize { node: NodeId(1), size: 0 };
    assert!(matches!(spool.emit(Draft { events: vec![bad], ..draft(0) }), Err(SinkError::Unsendable(_))));
    assert_eq!(spool.emit(draft(1)).unwrap(), Lsn::captured(3));
}

#[test]
fn an_abandoned_capture_is_passed_over() {
    let spool = Bench::new(1 << 20, 0).begun();
    spool.emit(draft(1)).unwrap();
    spool.emit(Draft { last: false, ..draft(2) }).unwrap();
    let mut early = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    assert_eq!(lsns(&read_all(&mut early)), [(1, 0), (2, 0)]);
    // Part 0 begins the capture again, under the same LSN.
    spool.emit(Draft { last: false, ..draft(3) }).unwrap();
    spool.emit(Draft { part: 1, ..draft(4) }).unwrap();
    assert!(matches!(
        spool.emit(Draft { part: 2, ..draft(5) }),
        Err(SinkError::OutOfOrder { expected: 0, found: 2 })
    ));
    assert_eq!(lsns(&read_all(&mut early)), [(2, 0), (2, 1)]);
    let mut late = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    let parts = read_all(&mut late);
    assert_eq!(lsns(&parts), [(1, 0), (2, 0), (2, 1)]);
    assert_eq!(decode_part(parts[1].bytes.clone()).unwrap().capture.events, draft(3).events);
}

#[test]
fn delivery_resumes_within_a_capture_only_where_parts_were_released() {
    let spool = Bench::new(1 << 20, 0).begun();
    for part in 0..4 {
        spool.emit(Draft { part, last: false, ..draft(100) }).unwrap();
    }
    // Nothing released: from part 0, whatever the replica has.
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::ZERO, 3).unwrap());
    assert_eq!(lsns(&parts), [(1, 0), (1, 1), (1, 2), (1, 3)]);
    spool.release(parts[1].place + 1);
    let resume = |parts| SpoolReader::resume(&spool, Lsn::ZERO, parts);
    assert_eq!(lsns(&read_all(&mut resume(2).unwrap())), [(1, 2), (1, 3)]);
    assert_eq!(lsns(&read_all(&mut resume(3).unwrap())), [(1, 3)]);
    let mut at_end = resume(4).unwrap();
    assert!(read_all(&mut at_end).is_empty());
    assert!(matches!(resume(1), Err(ResumeError::LostParts { acknowledged: 1, found: 1, .. })));
    assert!(matches!(resume(5), Err(ResumeError::UnknownParts { found: 5, .. })));
    spool.emit(Draft { part: 4, ..draft(100) }).unwrap();
    assert_eq!(lsns(&read_all(&mut at_end)), [(1, 4)]);
}

#[test]
fn memory_overflows_to_disk_and_disk_is_freed() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    for _ in 0..300 {
        spool.emit(draft(1000)).unwrap();
    }
    let status = spool.status();
    assert!(status.memory_bytes <= 40_000 && status.disk_bytes > 200_000, "{status:?}");
    assert_eq!(status.state, SpoolState::Disk);
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    let parts = read_all(&mut reader);
    assert_eq!(lsns(&parts), (1..=300).map(|lsn| (lsn, 0)).collect::<Vec<_>>());
    assert!(
        parts
            .iter()
            .all(|part| decode_part(part.bytes.clone()).unwrap().capture.events == draft(1000).events)
    );
    let before = bench.files();
    spool.acknowledge(Lsn::captured(150));
    assert!(bench.files() < before);
    assert_eq!(
        lsns(&read_all(&mut SpoolReader::resume(&spool, Lsn::captured(150), 0).unwrap()))[0],
        (151, 0)
    );
    spool.acknowledge(Lsn::captured(300));
    assert_eq!((bench.files(), spool.status().memory_bytes, spool.status().disk_bytes), (0, 0, 0));
    assert!(spool.wait_empty(NOW));
    assert!(matches!(reader.next_batch(1, NOW), Ok(batch) if batch.is_empty()));
}

#[test]
fn a_full_spool_refuses_until_a_quarter_is_free_but_takes_markers() {
    for on_disk in [0, 100_000] {
        let bench = Bench::new(40_000, on_disk);
        let spool = bench.begun();
        let mut last = Lsn::ZERO;
        let refused = loop {
            match spool.emit(draft(1000)) {
                Ok(lsn) => last = lsn,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SinkError::Full), "{refused}");
        assert_eq!(spool.status().state, SpoolState::Full);
        assert!(!spool.wait_for_room(NOW));
        // The gap still gets into the stream, as the next capture.
        assert_eq!(spool.emit(gap()).unwrap().captured, last.captured + 1);
        let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
        let parts = read_all(&mut reader);
        assert_eq!(parts.len() as u64, last.captured + 1);
        // A little room is not enough, or one gap would follow the other.
        spool.acknowledge(Lsn::captured(3));
        assert!(matches!(spool.emit(draft(1000)), Err(SinkError::Full)));
        spool.acknowledge(Lsn::captured(last.captured / 2));
        assert!(spool.wait_for_room(NOW));
        assert_eq!(spool.emit(draft(1000)).unwrap().captured, last.captured + 2);
        assert_ne!(spool.status().state, SpoolState::Full);
    }
}

#[test]
fn markers_do_not_grow_a_full_spool_without_bound() {
    let spool = Bench::new(20_000, 0).begun();
    while spool.emit(draft(1000)).is_ok() {}
    let refused = (0..1_000_000).find(|_| spool.emit(gap()).is_err());
    assert!(refused.is_some());
    assert!(spool.status().memory_bytes <= 20_000 + MARKER_RESERVE_BYTES);
}

#[test]
fn a_full_spool_waits_while_something_is_taken_and_no_longer() {
    let mut bench = Bench::new(40_000, 0);
    bench.stalled_max = Duration::from_millis(300);
    let spool = bench.begun();
    let mut parts = 0;
    while spool.status().state != SpoolState::NearFull {
        parts += 1;
        spool.emit(draft(1000)).unwrap();
    }
    // A slow link: one capture every 20 ms, far less than is captured.
    let (slow, stop) = (Arc::clone(&spool), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    let link = std::thread::spawn(move || {
        for lsn in 1..u64::MAX {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
            slow.acknowledge(Lsn::captured(lsn));
        }
    });
    for _ in 0..parts * 2 {
        spool.emit(draft(1000)).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    link.join().unwrap();
    // A link that is down.
    let refused = (0..parts * 2).find_map(|_| spool.emit(draft(1000)).err());
    assert!(matches!(refused, Some(SinkError::Full)), "{refused:?}");
    // Delivery that is suspended is not waited for, and a spool that is shut lets everybody go.
    spool.suspend(true);
    let began = Instant::now();
    assert!(matches!(spool.emit(draft(1000)), Err(SinkError::Full)));
    assert!(began.elapsed() < Duration::from_millis(200));
    spool.suspend(false);
    let shut = Arc::clone(&spool);
    let waiting = std::thread::spawn(move || shut.emit(draft(1000)));
    std::thread::sleep(Duration::from_millis(50));
    spool.shut();
    assert!(matches!(waiting.join().unwrap(), Err(SinkError::Closed)));
}

#[test]
fn a_capture_larger_than_the_spool_passes_as_its_parts_are_taken() {
    let mut bench = Bench::new(40_000, 0);
    bench.stalled_max = SOON;
    let spool = bench.begun();
    let (taker, done) = (Arc::clone(&spool), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&done);
    let replica = std::thread::spawn(move || {
        let mut reader = SpoolReader::resume(&taker, Lsn::ZERO, 0).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            for part in reader.next_batch(10_000, Duration::from_millis(5)).unwrap() {
                taker.taken(part.place + 1);
                taker.release(part.place + 1);
            }
        }
    });
    for part in 0..50 {
        spool.emit(Draft { part, last: part == 49, ..draft(5000) }).unwrap();
    }
    done.store(true, Ordering::Relaxed);
    replica.join().unwrap();
}

#[test]
fn a_capture_refused_half_way_never_happened() {
    let spool = Bench::new(40_000, 0).begun();
    spool.emit(draft(1000)).unwrap();
    let mut part = 0;
    while spool.emit(Draft { part, last: false, ..draft(5000) }).is_ok() {
        part += 1;
    }
    assert!(part > 3);
    assert!(matches!(spool.emit(Draft { part: part + 1, ..draft(1) }), Err(SinkError::OutOfOrder { .. })));
    assert_eq!(spool.emit(gap()).unwrap(), Lsn::captured(2));
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap());
    assert_eq!(lsns(&parts), [(1, 0), (2, 0)]);
}

#[test]
fn little_room_on_the_file_system_or_a_failing_disk_is_full_too() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    bench.disk.free.store(1 << 20, Ordering::Relaxed);
    let fill = || (0..1000).find_map(|_| spool.emit(draft(1000)).err()).unwrap();
    assert!(matches!(fill(), SinkError::Full));
    assert_eq!((bench.files(), spool.status().disk_bytes), (0, 0));
    // Room comes back without any acknowledgement.
    bench.disk.free.store(1 << 30, Ordering::Relaxed);
    assert!(spool.wait_for_room(SOON));
    spool.emit(draft(1000)).unwrap();
    bench.disk.refuses.store(true, Ordering::Relaxed);
    assert!(matches!(fill(), SinkError::Full));
    let count = spool.status().captured.unwrap().captured as usize;
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap());
    assert_eq!(parts.len(), count, "what could not be spilled is still in memory");
}

#[test]
fn a_synchronization_waits_instead_of_spilling() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    let own = Arc::clone(&spool);
    let thread = std::thread::spawn(move || {
        let one = || own.emit(Draft { provenance: Provenance::Synchronization, ..draft(1000) }).unwrap();
        (0..200).fold(Lsn::ZERO, |_, _| one())
    });
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    let mut seen = 0;
    while seen < 200 {
        for part in reader.next_batch(5000, SOON).unwrap() {
            seen = part.lsn.captured;
        }
        assert!(spool.status().memory_bytes <= 20_000 && spool.status().disk_bytes == 0);
        spool.acknowledge(Lsn::captured(seen));
    }
    assert_eq!(thread.join().unwrap(), Lsn::captured(200));
    assert_eq!(bench.files(), 0);
}

#[test]
fn a_connection_begins_while_a_synchronization_waits_for_it() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    let own = Arc::clone(&spool);
    let thread = std::thread::spawn(move || {
        for _ in 0..100 {
            own.emit(Draft { provenance: Provenance::Synchronization, ..draft(1000) }).unwrap();
        }
    });
    let give_up = Instant::now() + SOON;
    while spool.status().memory_bytes < 18_000 {
        assert!(Instant::now() < give_up, "it does not wait");
        std::thread::sleep(Duration::from_millis(1));
    }
    // As after a cut: the replica is met again, with nothing of it journaled.
    let (met, at) = (Arc::clone(&spool), spool.journal().unwrap());
    let begin = std::thread::spawn(move || met.begin(at, Lsn::ZERO, Timestamp(0)).unwrap());
    while !begin.is_finished() {
        assert!(Instant::now() < give_up, "the connection waits for what waits for it");
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    while !thread.is_finished() {
        for part in reader.next_batch(5000, Duration::from_millis(10)).unwrap() {
            spool.acknowledge(part.lsn);
        }
        assert!(Instant::now() < give_up);
    }
    thread.join().unwrap();
}

#[test]
fn a_synchronized_file_larger_than_memory_does_not_wait_for_itself() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    let own = Arc::clone(&spool);
    let thread = std::thread::spawn(move || {
        for part in 0..100 {
            let draft =
                Draft { provenance: Provenance::Synchronization, part, last: part == 99, ..draft(1000) };
            own.emit(draft).unwrap();
        }
    });
    // A replica that takes parts but promises none before the capture is whole.
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    let give_up = Instant::now() + SOON;
    while !thread.is_finished() {
        for part in reader.next_batch(5000, Duration::from_millis(10)).unwrap() {
            spool.taken(part.place + 1);
        }
        assert!(Instant::now() < give_up, "waits for itself");
    }
    thread.join().unwrap();
}

#[test]
fn suspension_stops_delivery_and_nothing_else() {
    let spool = Bench::new(1 << 20, 0).begun();
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    spool.emit(draft(1)).unwrap();
    assert_eq!(reader.next_batch(1, NOW).unwrap().len(), 1);
    spool.suspend(true);
    spool.emit(draft(1)).unwrap();
    assert!(reader.next_batch(1, NOW).unwrap().is_empty());
    assert!(SpoolReader::resume(&spool, Lsn::captured(1), 0).unwrap().next_batch(1, NOW).unwrap().is_empty());
    spool.suspend(false);
    assert_eq!(reader.next_batch(1, NOW).unwrap().len(), 1);
}

#[test]
fn a_clean_stop_keeps_everything_and_is_believed_once() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    for _ in 0..100 {
        spool.emit(draft(1000)).unwrap();
    }
    spool.emit(Draft { last: false, ..draft(7) }).unwrap();
    spool.acknowledge(Lsn::captured(10));
    spool.close().unwrap();
    assert!(matches!(spool.emit(draft(1)), Err(SinkError::Closed)));
    drop(spool);

    let (spool, opened) = bench.open();
    let expected = SpoolOpened {
        journal: Some(JOURNAL),
        acknowledged: Lsn::captured(10),
        captured: Some(Lsn::captured(100)),
    };
    assert_eq!(opened, expected);
    assert_eq!(spool.emit(draft(1000)).unwrap(), Lsn::captured(101));
    let parts = read_all(&mut SpoolReader::resume(&spool, Lsn::captured(10), 0).unwrap());
    assert_eq!(lsns(&parts), (11..=101).map(|lsn| (lsn, 0)).collect::<Vec<_>>());
    spool.acknowledge(Lsn::captured(20));
    spool.persist().unwrap();
    drop(spool);

    // Not closed: what is left is worth nothing, but for what was acknowledged.
    let (_, opened) = bench.open();
    let expected = SpoolOpened { journal: Some(JOURNAL), acknowledged: Lsn::captured(20), captured: None };
    assert_eq!(opened, expected);
    assert_eq!(bench.files(), 0);
}

#[test]
fn a_spool_that_lost_a_file_after_a_clean_stop_is_discarded() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    for _ in 0..100 {
        spool.emit(draft(1000)).unwrap();
    }
    spool.close().unwrap();
    let directory = bench.directory.path().join("spool");
    let names = OsDisk.list(&directory).unwrap();
    let victim = names.iter().find(|name| name.ends_with(".spool")).unwrap();
    std::fs::remove_file(directory.join(victim)).unwrap();
    assert_eq!(bench.open().1.captured, None);
}

#[test]
fn damage_is_named_with_file_and_offset() {
    let bench = Bench::new(40_000, 10 << 20);
    let spool = bench.begun();
    for _ in 0..100 {
        spool.emit(draft(1000)).unwrap();
    }
    spool.close().unwrap();
    drop(spool);
    let directory = bench.directory.path().join("spool");
    let mut names = OsDisk.list(&directory).unwrap();
    names.retain(|name| name.ends_with(".spool"));
    names.sort();
    let victim = directory.join(&names[1]);
    let mut bytes = std::fs::read(&victim).unwrap();
    bytes[700] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let (spool, opened) = bench.open();
    assert_eq!(opened.captured, Some(Lsn::captured(100)));
    let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
    let error = loop {
        match reader.next_batch(1000, NOW) {
            Ok(batch) => assert!(!batch.is_empty()),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, SpoolError::Damaged { path, offset: 32, .. } if *path == victim), "{error}");
    drop((spool, reader));
    let state = directory.join("state");
    let mut bytes = std::fs::read(&state).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&state, &bytes).unwrap();
    assert!(matches!(bench.try_open(), Err(SpoolError::Damaged { .. })));
    bytes[8] = 2;
    std::fs::write(&state, &bytes).unwrap();
    assert!(matches!(bench.try_open(), Err(SpoolError::NewerVersion { version: 2, .. })));
}

/// Files written byte by byte from FORMAT.md, as version 1 has them, are understood.
#[test]
fn files_of_format_version_1_are_read() {
    let bench = Bench::new(40_000, 10 << 20);
    let directory = bench.directory.path().join("spool");
    std::fs::create_dir(&directory).unwrap();
    let little =
        |numbers: &[u64]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();

    let spool = Bench::new(40_000, 0).begun();
    spool.emit(draft(5)).unwrap();
    let part = read_all(&mut SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap()).remove(0).bytes;
    // LSN 8 in one part at place 3; its encoding says 1, which the spool does not look at.
    let covered = [&little(&[3, 8])[..], &0_u32.to_le_bytes(), &1_u32.to_le_bytes(), &part].concat();
    let length = (part.len() as u32).to_le_bytes();
    let frame = [&length[..], &crc32c::crc32c(&covered).to_le_bytes(), &covered].concat();
    let header = [b"RWSPOOL\n\x01\0\0\0\0\0\0\0", &little(&[2, 3])[..]].concat();
    std::fs::write(directory.join("0000000000000002.spool"), [header, frame].concat()).unwrap();

    let counts = [&1_u32.to_le_bytes()[..], &0_u32.to_le_bytes()].concat();
    // Acknowledged, captured, time, next place, last segment, released.
    let numbers = little(&[7, 8, 5, 4, 2, 3]);
    let body = [&[3_u8][..], &JOURNAL.0, &numbers, &counts, &little(&[2, 3, 3, 8, 100])].concat();
    let length = (body.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c(&body).to_le_bytes();
    let state = [b"RWSPSTA\n\x01\0\0\0", &length[..], &crc, &body].concat();
    std::fs::write(directory.join("state"), state).unwrap();

    let (spool, opened) = bench.open();
    let (acknowledged, captured) = (Lsn::captured(7), Some(Lsn::captured(8)));
    assert_eq!(opened, SpoolOpened { journal: Some(JOURNAL), acknowledged, captured });
    let parts = read_all(&mut SpoolReader::resume(&spool, acknowledged, 0).unwrap());
    assert_eq!((lsns(&parts), &parts[0].bytes), (vec![(8, 0)], &part));
    assert_eq!(spool.status().disk_bytes, 100);
}

/// Parts a replica would have received, checked for order, joined to captures.
#[derive(Default)]
struct Replica {
    journaled: u64,
    parts: Vec<Bytes>,
    whole: Vec<Vec<Event>>,
}

impl Replica {
    fn receive(&mut self, part: &SpooledPart) {
        assert_eq!(part.lsn.captured, self.journaled + 1, "exactly the next capture");
        if part.number == 0 {
            self.parts.clear();
        }
        assert_eq!(part.number as usize, self.parts.len(), "exactly the next part");
        self.parts.push(part.bytes.clone());
        if part.last {
            self.journaled += 1;
            let parts = std::mem::take(&mut self.parts).into_iter();
            self.whole.push(parts.flat_map(|bytes| decode_part(bytes).unwrap().capture.events).collect());
        }
    }
}

/// Random emissions, deliveries, acknowledgements, cuts and restarts against a list of what must arrive.
#[test]
fn whatever_happens_the_replica_gets_each_capture_once_and_in_order() {
    let first = seed(0x5b00_1001);
    for round in 0..20 {
        let mut random = Random(first + round * 7919);
        let bench = Bench::new(30_000, [0, 60_000, 10 << 20][random.below(3) as usize]);
        let mut spool = bench.begun();
        let (mut replica, mut expected) = (Replica::default(), Vec::new());
        let mut reader = SpoolReader::resume(&spool, Lsn::ZERO, 0).unwrap();
        let mut sent: VecDeque<SpooledPart> = VecDeque::new();
        for _ in 0..400 {
            match random.below(20) {
                0..=9 => emit_one(&spool, &mut random, &mut expected),
                10..=14 => {
                    for part in reader.next_batch(random.below(8000) as usize, NOW).unwrap() {
                        assert!(part.lsn > spool.status().acknowledged, "acknowledged and sent again");
                        replica.receive(&part);
                        sent.push_back(part);
                    }
                }
                15..=16 => {
                    // An acknowledgement, late by some parts.
                    for _ in 0..random.below(sent.len() as u64 + 1) {
                        let part = sent.pop_front().unwrap();
                        spool.release(part.place + 1);
                        spool.acknowledge(Lsn::captured(part.lsn.captured - u64::from(!part.last)));
                    }
                }
                17 => spool.acknowledge(Lsn::captured(replica.journaled)),
                18 => {
                    let parts = replica.parts.len() as u32;
                    reader = SpoolReader::resume(&spool, Lsn::captured(replica.journaled), parts).unwrap();
                    sent.clear();
                }
                _ if random.below(4) == 0 => {
                    spool.close().unwrap();
                    let captured = expected.len() as u64;
                    drop((reader, spool));
                    let (again, opened) = bench.open();
                    assert_eq!(opened.captured, Some(Lsn::captured(captured)));
                    spool = again;
                    let parts = replica.parts.len() as u32;
                    reader = SpoolReader::resume(&spool, Lsn::captured(replica.journaled), parts).unwrap();
                    sent.clear();
                }
                _ => {}
            }
        }
        read_all(&mut reader).iter().for_each(|part| replica.receive(part));
        assert_eq!(replica.whole.len(), expected.len(), "round {round}");
        assert!(replica.whole == expected, "round {round}");
        spool.acknowledge(Lsn::captured(replica.journaled));
        // The last capture may be unfinished.
        spool.abandon();
        let status = spool.status();
        assert_eq!((status.memory_bytes, status.disk_bytes, bench.files()), (0, 0, 0), "round {round}");
    }
}

fn emit_one(spool: &Spool, random: &mut Random, expected: &mut Vec<Vec<Event>>) {
    let drafts = if random.below(4) == 0 { 1 + random.below(6) as u32 } else { 1 };
    let abandon = random.below(8) == 0;
    let mut events = Vec::new();
    for part in 0..drafts {
        let last = part + 1 == drafts && !abandon;
        let one = Draft { part, last, ..draft(random.below(3000) as usize) };
        events.extend(one.events.clone());
        match spool.emit(one) {
            Ok(lsn) => assert_eq!(lsn.captured, expected.len() as u64 + 1),
            Err(SinkError::Full) => return,
            Err(error) => panic!("{error}"),
        }
    }
    if !abandon {
        expected.push(events);
    }
}
