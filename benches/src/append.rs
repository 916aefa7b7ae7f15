//! Journal append with group commit against a bare writer.
//!
//! The journal runs first, over a disk that counts; the bare writer then writes as many bytes as the journal stored,
//! in one file, with as many fdatasyncs, evenly spread. What the ratio leaves is checksums, the hash chain, framing
//! and the hand-over between threads. On tmpfs a sync costs nothing, so there it is all of that against a copy.

use crate::report;
use anyhow::Context;
use bytes::Bytes;
use journal::disk::{Disk, DiskFile, OsDisk};
use journal::log::{GroupCommit, GroupOptions, LogOptions, LogSet, RecordDraft, Stream};
use journal::{Lsn, Timestamp};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Bytes of payload a run journals.
const RUN_BYTES: usize = 256 << 20;
/// Bytes the bare writer writes at a time, as the journal's own buffer.
const WRITE_BYTES: usize = 1 << 20;
/// Bytes of the head of a record, about those of a write to a file.
const HEAD_BYTES: usize = 64;
/// Where memory is mounted as a file system.
const TMPFS: &str = "/dev/shm";

/// What the journal asked of the disk.
#[derive(Default)]
pub struct Counts {
    pub bytes: AtomicU64,
    pub syncs: AtomicU64,
}

/// The disk, counting.
pub struct CountingDisk(OsDisk, Arc<Counts>);

struct CountingFile(Arc<dyn DiskFile>, Arc<Counts>);

impl DiskFile for CountingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.0.write_at(bytes, offset)
    }

    fn write_vectored_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.1.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.write_vectored_at(pieces, offset)
    }

    fn begin_write_back(&self, offset: u64, bytes: u64) {
        self.0.begin_write_back(offset, bytes);
    }

    fn forget(&self, offset: u64, bytes: u64) {
        self.0.forget(offset, bytes);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::Relaxed);
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

impl CountingDisk {
    /// Counts into `counts`.
    pub fn new(counts: Arc<Counts>) -> Self {
        CountingDisk(OsDisk, counts)
    }

    fn counting(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(CountingFile(file, Arc::clone(&self.1)))
    }
}

impl Disk for CountingDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.counting(self.0.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.counting(self.0.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.0.list(directory)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.free_bytes(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.0.lock(path)
    }
}

/// Bytes that do not repeat within a payload.
fn payload(bytes: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..bytes.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes).collect::<Vec<u8>>().into()
}

/// One run of the journal: time from the first submission until all is durable.
fn journal(directory: &Path, payload: &Bytes) -> anyhow::Result<(Duration, u64, u64)> {
    let counts = Arc::<Counts>::default();
    let disk = Arc::new(CountingDisk::new(Arc::clone(&counts)));
    let set = LogSet::open(disk, directory, LogOptions::default()).context("open a journal")?;
    let group = GroupCommit::start(Arc::clone(set.log(Stream::Redo)), GroupOptions::default())
        .context("start its writer")?;
    let count = RUN_BYTES / payload.len();
    let (bytes, syncs) = (counts.bytes.load(Ordering::Relaxed), counts.syncs.load(Ordering::Relaxed));
    let start = Instant::now();
    let (sender, receiver) = std::sync::mpsc::channel();
    for number in 1..=count as u64 {
        let draft = RecordDraft {
            kind: 1,
            version: 1,
            lsn: Some(Lsn::captured(number)),
            time: Timestamp::default(),
            head: vec![0; HEAD_BYTES],
            payloads: vec![payload.clone()],
        };
        let sender = sender.clone();
        // Order is kept, so the last one to be durable is the last one submitted.
        group.submit_with(vec![draft], move |appended| {
            if number == count as u64 || appended.is_err() {
                drop(sender.send(appended.map(drop)));
            }
        });
    }
    receiver.recv().context("wait for the journal")?.context("append")?;
    let took = start.elapsed();
    drop(group);
    let bytes = counts.bytes.load(Ordering::Relaxed) - bytes;
    let syncs = counts.syncs.load(Ordering::Relaxed) - syncs;
    Ok((took, bytes, syncs))
}

/// One run of the bare writer.
fn bare(path: &Path, bytes: u64, syncs: u64) -> anyhow::Result<Duration> {
    let block = payload(WRITE_BYTES);
    let file = File::options().write(true).create_new(true).open(path)?;
    let start = Instant::now();
    let mut written = 0;
    for sync in 1..=syncs {
        let upto = bytes * sync / syncs;
        while written < upto {
            let size = (upto - written).min(WRITE_BYTES as u64);
            let piece = block.get(..size as usize).context("cut a block")?;
            file.write_all_at(piece, written)?;
            written += size;
        }
        file.sync_data()?;
    }
    Ok(start.elapsed())
}

fn compare(on: &str, directory: &Path, payload_bytes: usize, bound: &str) -> anyhow::Result<()> {
    let payload = payload(payload_bytes);
    let (mut reference, mut product, mut seen) = (Vec::new(), Vec::new(), (0, 0));
    // One more than counts: the first one warms up.
    for round in 0..=report::ROUNDS {
        let (journal_at, bare_at) = (directory.join("journal"), directory.join("bare"));
        let (took, bytes, syncs) = journal(&journal_at, &payload)?;
        std::fs::remove_dir_all(&journal_at)?;
        crate::run::sync(directory)?;
        let bare_took = bare(&bare_at, bytes, syncs)?;
        std::fs::remove_file(&bare_at)?;
        crate::run::sync(directory)?;
        if round > 0 {
            product.push(took);
            reference.push(bare_took);
        }
        seen = (bytes, syncs);
    }
    let (reference, product) = (report::seconds(&reference), report::seconds(&product));
    let (bytes, syncs) = seen;
    let took = report::median(&product);
    println!(
        "  {on}, payloads of {} KiB: {} MiB stored with {syncs} fdatasyncs, {:.0} MiB/s, {:.0} events/s",
        payload_bytes >> 10,
        bytes >> 20,
        bytes as f64 / f64::from(1 << 20) / took,
        (RUN_BYTES / payload_bytes) as f64 / took,
    );
    report::line("bare writer", &reference);
    report::line("journal", &product);
    report::ratio("speed of the journal / of the bare writer", report::median(&reference) / took, bound);
    Ok(())
}

/// The journal in memory against SHA-256 of its payloads alone.
fn against_hash(directory: &Path, payload_bytes: usize) -> anyhow::Result<()> {
    let payload = payload(payload_bytes);
    let (mut hash, mut product) = (Vec::new(), Vec::new());
    for round in 0..=report::ROUNDS {
        let at = directory.join("journal");
        let (took, ..) = journal(&at, &payload)?;
        std::fs::remove_dir_all(&at)?;
        let start = Instant::now();
        for _ in 0..RUN_BYTES / payload_bytes {
            std::hint::black_box(Sha256::digest(&payload));
        }
        if round > 0 {
            hash.push(start.elapsed());
            product.push(took);
        }
    }
    let (hash, product) = (report::seconds(&hash), report::seconds(&product));
    report::line("SHA-256 alone", &hash);
    report::line("journal", &product);
    let ratio = report::median(&hash) / report::median(&product);
    report::ratio("speed of the journal / of SHA-256", ratio, "at least 0.5");
    Ok(())
}

/// Runs it.
///
/// # Errors
/// If the disk refuses.
pub fn run() -> anyhow::Result<()> {
    let scratch = crate::tree::scratch()?;
    for (payload_bytes, bound) in [(4 << 10, "at least 0.8"), (64 << 10, "none"), (1 << 20, "at least 0.8")] {
        compare("disk", scratch.path(), payload_bytes, bound)?;
    }
    if Path::new(TMPFS).is_dir() {
        let memory = tempfile::tempdir_in(TMPFS).context("make a directory in memory")?;
        compare("tmpfs", memory.path(), 4 << 10, "none")?;
        against_hash(memory.path(), 4 << 10)?;
    } else {
        println!("  tmpfs: skipped, {TMPFS} is not there");
    }
    Ok(())
}
