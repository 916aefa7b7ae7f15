//! Reading everything to find damage.
//!
//! Packed payloads are expanded: that they can be read is what somebody wants to know who verifies.
//!
//! Works beside a writer: it looks only at what is sealed or known durable, which never changes. Behind a damaged
//! frame it goes on at the next whole header, so that one report names every damaged place, and so that a torn tail
//! is told from rot by the same rules as in `recover`.

use super::frame::FrameType;
use super::manifest::{self, FileEntry, Manifest, SegmentEntry};
use super::pack::Packer;
use super::recover::{Expected, Walk, open_named, read_header, recover};
use super::scan::{Frame, Scanner, Step};
use super::segment::FIRST_FRAME;
use super::set::{Ends, refuse_orphans};
use super::thinned::{open_segment, segment_path};
use super::types::{RecordAt, Stream};
use crate::disk::{Disk, DiskFile};
use crate::error::JournalError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

/// More damaged places than this are not listed.
const DAMAGES_MAX: usize = 1000;

/// A place that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Offset in it, in bytes.
    pub offset: u64,
    /// What is wrong there.
    pub what: &'static str,
}

/// How far verification has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes of finished files.
    pub bytes_done: u64,
    /// Bytes of all files.
    pub bytes_total: u64,
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Committed records found whole.
    pub records: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// Payloads that thinning gave up, and that were not read.
    pub thinned_payloads: u64,
    /// Bytes behind the last commit of the live segments: unfinished work, no damage. Not looked at where the
    /// journal is open.
    pub tail_bytes: u64,
    /// Damaged places, at most a thousand.
    pub damages: Vec<Damage>,
}

impl VerifyReport {
    /// Whether everything is as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damages.is_empty()
    }

    fn damage(&mut self, path: &Path, offset: u64, what: &'static str) {
        let damage = Damage { path: path.to_owned(), offset, what };
        if self.damages.len() < DAMAGES_MAX && !self.damages.contains(&damage) {
            self.damages.push(damage);
        }
    }

    fn add(&mut self, part: VerifyReport) {
        self.segments += part.segments;
        self.records += part.records;
        self.payload_bytes += part.payload_bytes;
        self.thinned_payloads += part.thinned_payloads;
        self.tail_bytes += part.tail_bytes;
        part.damages.iter().for_each(|damage| self.damage(&damage.path, damage.offset, damage.what));
    }

    /// Takes damage into the report; passes on what is no damage.
    fn absorb(&mut self, error: JournalError) -> Result<(), JournalError> {
        match error {
            JournalError::Damaged { path, offset, what } => {
                self.damage(&path, offset, what);
                Ok(())
            }
            other => Err(other),
        }
    }
}

/// Reads all of the journal in `directory`, open or not, and compares it with its checksums.
///
/// # Errors
/// Only if reading was impossible (`NotFound` if there is no journal); damage is in the report.
pub fn verify(
    disk: &dyn Disk,
    directory: &Path,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, JournalError> {
    match manifest::load(disk, directory) {
        Ok(Some(manifest)) => verify_manifest(disk, directory, &manifest, None, progress),
        Ok(None) => {
            let mut report = VerifyReport::default();
            match refuse_orphans(disk, directory) {
                // A crash may have come before the first manifest: then there was nothing yet.
                Ok(()) => {
                    Err(JournalError::NotFound { what: "journal", name: directory.display().to_string() })
                }
                Err(error) => report.absorb(error).map(|()| report),
            }
        }
        Err(error) => {
            let mut report = VerifyReport::default();
            report.absorb(error)?;
            Ok(report)
        }
    }
}

/// Verifies what a manifest names. `ends` are the committed ends of a journal that is open: what is behind them is the
/// writer's, who may be writing, or cutting, at this moment.
pub(super) fn verify_manifest(
    disk: &dyn Disk,
    directory: &Path,
    manifest: &Manifest,
    ends: Option<Ends>,
    progress: &mut dyn FnMut(VerifyProgress),
) -> Result<VerifyReport, JournalError> {
    let all = Stream::ALL.into_iter().flat_map(|stream| manifest.segments(stream));
    let lengths = all.map(|entry| entry.bytes).chain(manifest.files.iter().map(|file| file.bytes));
    // A manifest may say anything of lengths: they are compared with the files below.
    let bytes_total = lengths.fold(0, u64::saturating_add);
    let mut done = VerifyProgress { bytes_done: 0, bytes_total };
    let mut tasks = Vec::new();
    for (index, stream) in Stream::ALL.into_iter().enumerate() {
        let end = ends.and_then(|ends| ends.get(index).copied());
        let mut previous = None;
        for entry in manifest.segments(stream) {
            let path = segment_path(directory, stream, entry);
            let (identity, number) = (manifest.identity, entry.number);
            let expected = Expected { path, identity, stream, number, previous };
            tasks.push(Task { disk, expected, entry, end });
            previous = entry.sealed.then_some(entry.chain);
        }
    }
    let mut report = all_of(&tasks, &mut |bytes| {
        done.bytes_done = done.bytes_done.saturating_add(bytes);
        progress(done);
    })?;
    for file in &manifest.files {
        if let Err(error) = owned(disk, directory, file, &mut report) {
            report.absorb(error)?;
        }
        done.bytes_done = done.bytes_done.saturating_add(file.bytes);
        progress(done);
    }
    Ok(report)
}

/// Segments read at a time, each on a thread; two for each processor, so that none waits for the disk.
const THREADS_MAX: usize = 8;

/// A segment to read. What comes before it is known from the manifest, so the order does not matter.
struct Task<'m> {
    disk: &'m dyn Disk,
    expected: Expected,
    entry: &'m SegmentEntry,
    end: Option<RecordAt>,
}

impl Task<'_> {
    fn run(&self) -> Result<VerifyReport, JournalError> {
        let mut report = VerifyReport::default();
        let (disk, expected) = (self.disk, &self.expected);
        let directory = expected.path.parent().unwrap_or(Path::new("."));
        if let Err(error) = segment(disk, expected, self.entry, self.end, &mut report)
            && !(is_gone(disk, &expected.path) && is_dropped(disk, directory, expected.stream, self.entry)?)
        {
            report.absorb(error)?;
        }
        Ok(report)
    }
}

/// Runs all of them; tells the bytes of each that is done. The report is the same as if one ran after the other; so is the
/// error, but that more may have been read.
fn all_of(tasks: &[Task<'_>], done: &mut dyn FnMut(u64)) -> Result<VerifyReport, JournalError> {
    let (next, (send, results)) = (AtomicUsize::new(0), channel());
    let work = |send: Sender<(usize, Result<VerifyReport, JournalError>)>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(index) else { return };
            let result = task.run();
            if result.is_err() {
                // The others end what they have begun.
                next.store(tasks.len(), Ordering::Relaxed);
            }
            // The receiver waits for as long as anybody sends.
            drop(send.send((index, result)));
        }
    };
    let (mut report, mut failed) = (VerifyReport::default(), None);
    // What came before its turn: a few segments for each thread.
    let (mut early, mut turn) = (BTreeMap::new(), 0);
    std::thread::scope(|scope| {
        let threads =
            std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(2).min(THREADS_MAX);
        let mut started = 0;
        for _ in 0..threads.min(tasks.len()) {
            let (send, work) = (send.clone(), &work);
            let thread = std::thread::Builder::new().name("verify".to_owned());
            started += usize::from(thread.spawn_scoped(scope, move || work(send)).is_ok());
        }
        if started == 0 {
            work(send);
        } else {
            drop(send);
        }
        for (index, result) in results {
            done(tasks.get(index).map_or(0, |task| task.entry.bytes));
            // Of what waits for its turn no more is held than can be listed: that there is damage is what counts.
            let mut result = result;
            let waiting: usize = early.values().flatten().map(|part: &VerifyReport| part.damages.len()).sum();
            if let Ok(part) = &mut result
                && waiting > DAMAGES_MAX
            {
                part.damages.truncate(1);
            }
            early.insert(index, result);
            while let Some(result) = early.remove(&turn) {
                turn += 1;
                match result {
                    Ok(part) => report.add(part),
                    Err(error) => failed = failed.take().or(Some(error)),
                }
            }
        }
    });
    failed.map_or(Ok(report), Err)
}

fn is_gone(disk: &dyn Disk, path: &Path) -> bool {
    disk.open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Whether retention has dropped or replaced the file of the segment since the manifest was read.
fn is_dropped(
    disk: &dyn Disk,
    directory: &Path,
    stream: Stream,
    entry: &SegmentEntry,
) -> Result<bool, JournalError> {
    let now = manifest::load(disk, directory)?;
    let same = |now: &SegmentEntry| now.thin == entry.thin;
    Ok(now.is_some_and(|manifest| !manifest.segment(stream, entry.number).is_some_and(same)))
}

fn segment(
    disk: &dyn Disk,
    expected: &Expected,
    entry: &SegmentEntry,
    end: Option<RecordAt>,
    report: &mut VerifyReport,
) -> Result<(), JournalError> {
    let directory = expected.path.parent().unwrap_or(Path::new("."));
    let file = open_segment(disk, directory, expected.identity, expected.stream, entry)?;
    report.segments += 1;
    let length = file.len().map_err(|source| expected.unreadable(source))?;
    if entry.sealed {
        if length != entry.bytes {
            let what = "the file is not as long as the manifest says";
            report.damage(&expected.path, length.min(entry.bytes), what);
        }
        return frames(&file, expected, Some(entry), length.min(entry.bytes), report);
    }
    if let Some(end) = end {
        // The segment may have become live after the end was taken.
        let limit = if end.segment == entry.number { end.offset } else { entry.bytes };
        return frames(&file, expected, None, limit, report);
    }
    let known = RecordAt { segment: entry.number, offset: entry.bytes };
    match recover(&file, expected, known) {
        Ok(recovered) => {
            report.tail_bytes += recovered.tail_bytes;
            frames(&file, expected, None, recovered.end, report)
        }
        Err(error) => {
            report.absorb(error)?;
            frames(&file, expected, None, entry.bytes.min(length), report)
        }
    }
}

/// Checks all frames in front of `limit`, with their payloads; all of it must be whole.
fn frames(
    file: &Arc<dyn DiskFile>,
    expected: &Expected,
    sealed: Option<&SegmentEntry>,
    limit: u64,
    report: &mut VerifyReport,
) -> Result<(), JournalError> {
    let unreadable = |source| expected.unreadable(source);
    let header = read_header(&**file, expected)?;
    let start = RecordAt { segment: expected.number, offset: FIRST_FRAME };
    let mut scanner = Scanner::new(file.clone(), header.key(), start, limit).reading_all();
    let mut walk = Walk::new(&header, RecordAt::default());
    scanner.chain = Some(walk.chain);
    let (mut whole, packer) = (true, Packer::default());
    loop {
        let offset = scanner.offset;
        match scanner.step().map_err(unreadable)? {
            Step::End => break,
            Step::Bad(what) => {
                whole = false;
                report.damage(&expected.path, offset, what);
                walk.lose_batch();
                if scanner.search(offset + 1).map_err(unreadable)?.is_none() {
                    break;
                }
            }
            Step::Frame(frame) => {
                check_payloads(&mut scanner, &packer, &frame, expected, report)?;
                // Behind damage the bookkeeping of batches and footer has nothing to hold on to.
                let fits = walk.take(frame);
                if let (true, Err(what)) = (whole, fits) {
                    report.damage(&expected.path, offset, what);
                }
            }
        }
    }
    if let Some(entry) = sealed.filter(|_| whole) {
        let found = (walk.footer_at, walk.chain, walk.footer.summary);
        if found != (Some(entry.footer), entry.chain, entry.summary) {
            report.damage(&expected.path, entry.footer, "the segment is not the one the manifest names");
        }
    }
    Ok(())
}

fn check_payloads(
    scanner: &mut Scanner,
    packer: &Packer,
    frame: &Frame,
    expected: &Expected,
    report: &mut VerifyReport,
) -> Result<(), JournalError> {
    let unreadable = |source| expected.unreadable(source);
    let thinned = scanner.thinned(frame);
    if let Err((offset, what)) = scanner.check_payloads(frame).map_err(unreadable)? {
        report.damage(&expected.path, offset, what);
        return Ok(());
    }
    for payload in frame.payloads.iter().filter(|payload| payload.packed.is_some()) {
        if !scanner.holds(payload) {
            continue;
        }
        if let Err(what) = scanner.expand(packer, payload).map_err(unreadable)? {
            report.damage(&expected.path, payload.offset, what);
        }
    }
    if frame.header.frame == FrameType::Record {
        report.records += 1;
        report.thinned_payloads += thinned;
        report.payload_bytes += frame.payloads.iter().map(|payload| u64::from(payload.bytes)).sum::<u64>();
    }
    Ok(())
}

/// Checks a file of the owner against the hash in the manifest.
fn owned(
    disk: &dyn Disk,
    directory: &Path,
    entry: &FileEntry,
    report: &mut VerifyReport,
) -> Result<(), JournalError> {
    let path = directory.join(&entry.name);
    let file = open_named(disk, &path)?;
    let mut hasher = blake3::Hasher::new();
    let (mut buffer, mut offset) = (vec![0; 1 << 18], 0_u64);
    loop {
        let read = file.read_at(&mut buffer, offset);
        let read =
            read.map_err(|source| JournalError::File { operation: "read", path: path.clone(), source })?;
        if read == 0 {
            break;
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        offset += read as u64;
    }
    if offset != entry.bytes || super::frame::shorten(&hasher.finalize()) != entry.hash {
        report.damage(&path, 0, "the file does not match its hash");
    }
    Ok(())
}
