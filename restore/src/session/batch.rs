//! A batch of files: from blobs to bytes in temporary files.
//!
//! Every pack is read once, and its blobs are written to temporary files of all places that want them, which get their
//! metadata with their last bytes. What follows is done by [`super::finish`], while the next batch is filled.
//! A file that fails at any step is left out of those that follow, and its temporary file is removed.
//!
//! What concerns all files (no room, an unreachable store, a failed sync) ends the restore: other files would fare no
//! better, and a list of all of them would hide the reason.

use super::error::{SessionRestoreError, at, is_fatal, is_store_down, repository};
use super::fill::{FileJob, Place};
use super::finish::{Filled, LinkJob, finish};
use super::meta::Refused;
use super::plan::Plan;
use super::receipt::{Listed, Receipt, chain};
use super::target::Target;
use super::walk::Result;
use super::{Monitor, Progress};
use parking_lot::{Condvar, Mutex, MutexGuard};
use snapshot::repository::read::{self, PackRead};
use snapshot::repository::{BlobKind, Id, Location, RepositoryError};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Bytes after which the disk is told to write, and how often that is looked at.
const WRITE_BACK_BYTES: u64 = 32 << 20;
const WRITE_BACK_EVERY: Duration = Duration::from_millis(100);
/// Most items that a thread takes at once.
const TOGETHER_MAX: usize = 64;

/// What all threads of a restore share.
pub(super) struct Shared<'p> {
    pub plan: &'p Plan<'p>,
    pub target: &'p Target,
    pub monitor: &'p dyn Monitor,
    pub receipt: Mutex<Receipt>,
    fatal: Mutex<Option<SessionRestoreError>>,
    stop: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl<'p> Shared<'p> {
    pub fn new(plan: &'p Plan<'p>, target: &'p Target, monitor: &'p dyn Monitor) -> Self {
        let verified = plan.options.verify.then_some(true);
        let receipt = Mutex::new(Receipt { verified, ..Receipt::default() });
        let (stop, files, bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        Self { plan, target, monitor, receipt, fatal: Mutex::new(None), stop, files, bytes }
    }

    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Acquire) || self.monitor.cancelled()
    }

    /// The first failure that ends the restore.
    pub fn end(&self, error: SessionRestoreError) {
        self.fatal.lock().get_or_insert(error);
        self.stop.store(true, Ordering::Release);
    }

    /// Fails if the restore is to end.
    pub fn check(&self) -> Result<()> {
        match self.fatal.lock().take() {
            Some(error) => Err(error),
            None if self.is_over() => Err(SessionRestoreError::Cancelled),
            None => Ok(()),
        }
    }

    pub fn done(&self, files: u64, bytes: u64) {
        let totals = &self.plan.totals;
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let (files_total, bytes_total) = (totals.objects(), totals.bytes);
        self.monitor.progress(Progress { files, files_total, bytes, bytes_total });
    }

    /// Lists what could not be kept.
    pub fn warn(&self, path: impl Fn() -> Vec<u8>, refused: Vec<Refused>) {
        for (what, error) in refused {
            let (reason, errno) = (error.to_string(), error.raw_os_error());
            self.receipt.lock().warn(Listed { path: path(), what, reason, errno });
        }
    }

    /// Lists an object that the target refused; an error if it would refuse all others, too.
    pub fn refused(&self, path: Vec<u8>, what: &'static str, error: io::Error) -> Result<()> {
        if is_fatal(&error) {
            return Err(at("write", &path)(error));
        }
        let (reason, errno) = (error.to_string(), error.raw_os_error());
        self.receipt.lock().fail(Listed { path, what, reason, errno });
        Ok(())
    }

    /// As [`Shared::refused`], for a file on any thread.
    pub fn file_refused(&self, job: &FileJob, what: &'static str, error: io::Error) {
        if job.set_failed()
            && let Err(error) = self.refused(job.path(), what, error)
        {
            self.end(error);
        }
    }
}

/// Where a blob goes.
#[derive(Clone, Copy, Debug)]
struct Reference {
    blob: Id,
    file: u32,
    offset: u64,
}

/// Files under way.
pub(super) struct Batch<'p> {
    shared: &'p Shared<'p>,
    files: Vec<Arc<FileJob>>,
    references: Vec<Reference>,
    bytes: u64,
    links: Vec<LinkJob>,
}

impl<'p> Batch<'p> {
    pub fn new(shared: &'p Shared<'p>) -> Self {
        Self { shared, files: Vec::new(), references: Vec::new(), bytes: 0, links: Vec::new() }
    }

    /// Whether it is time to write it.
    pub fn is_full(&self) -> bool {
        let limits = &self.shared.plan.options.batch;
        self.references.len() >= limits.blobs
            || self.files.len() + self.links.len() >= limits.files
            || self.bytes >= limits.bytes
    }

    /// Adds a file. One that has more blobs than a batch is written as far as they go.
    pub fn add(&mut self, job: FileJob) -> Result<()> {
        let job = Arc::new(job);
        self.files.push(job.clone());
        self.bytes = self.bytes.saturating_add(job.size);
        if job.place == Place::Whole {
            return Ok(());
        }
        let index = self.shared.plan.repository.index().map_err(repository("look for blobs"))?;
        let (mut offset, limit) = (0, self.shared.plan.options.batch.blobs.max(1));
        let last = job.content.len().saturating_sub(1);
        for (number, blob) in job.content.iter().enumerate() {
            let Some(place) = index.lookup(BlobKind::Data, blob) else { continue };
            let file = u32::try_from(self.files.len() - 1).unwrap_or(u32::MAX);
            self.references.push(Reference { blob: *blob, file, offset });
            offset += place.plain_bytes();
            if self.references.len() >= limit && number < last {
                self.write_part()?;
                if job.has_failed() {
                    break;
                }
            }
        }
        Ok(())
    }

    pub fn add_link(&mut self, link: LinkJob) {
        self.links.push(link);
    }

    /// Whether there is nothing to be written.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.links.is_empty()
    }

    /// Writes the bytes of all files; the next batch begins empty.
    pub fn take(&mut self) -> Result<Filled> {
        self.fill()?;
        self.references.clear();
        self.bytes = 0;
        let (files, links) = (std::mem::take(&mut self.files), std::mem::take(&mut self.links));
        Ok(Filled { files, links, directories: Vec::new() })
    }

    /// Writes the bytes, and finishes all files but the last one, which has more to come.
    fn write_part(&mut self) -> Result<()> {
        self.fill()?;
        let open = self.files.pop();
        let finished = finish(self.shared, &self.files);
        if finished.is_ok() {
            self.files.clear();
        }
        // What has not got its name yet is removed by whoever gives up.
        self.files.extend(open);
        finished?;
        self.references.clear();
        self.bytes = 0;
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let (shared, options) = (self.shared, self.shared.plan.options);
        // What has no bytes to come is made here, all else by whoever has the first bytes of it.
        let empty = |job: &&Arc<FileJob>| job.place != Place::Whole && job.content.is_empty();
        let empty: Vec<_> = self.files.iter().filter(empty).collect();
        parallel(shared, &empty, |job| {
            if let Err(error) = job.make(shared.target, options.sparse) {
                shared.file_refused(job, "create", error);
            }
        })?;
        self.references.sort_unstable_by_key(|reference| reference.blob);
        let mut wanted: Vec<Id> = self.references.iter().map(|reference| reference.blob).collect();
        wanted.dedup();
        let wanted = wanted.into_iter().map(|blob| (BlobKind::Data, blob));
        let reads = read::plan(shared.plan.repository, wanted).map_err(repository("look for blobs"))?;
        writing_back(shared, || parallel(shared, &reads, |read| self.fetch(read)))
    }

    fn fetch(&self, read: &PackRead) {
        let shared = self.shared;
        shared.plan.repository.read_pack(read, &mut |place, bytes| {
            let from = self.references.partition_point(|reference| reference.blob < place.id);
            let all = self.references.get(from..).unwrap_or_default();
            let here = all.iter().take_while(|reference| reference.blob == place.id);
            let jobs = here.filter_map(|reference| {
                let job = self.files.get(reference.file as usize)?;
                Some((job, reference.offset)).filter(|(job, _)| !job.has_failed())
            });
            match bytes {
                Ok(bytes) => {
                    for (job, offset) in jobs {
                        write(shared, job, bytes, offset);
                        shared.done(0, bytes.len() as u64);
                    }
                }
                Err(error) => lost(shared, place, error, jobs.map(|(job, _)| job)),
            }
            !shared.is_over()
        });
    }

    /// Removes the temporary files of what has not got its name.
    pub fn abandon(&mut self) {
        let files = std::mem::take(&mut self.files);
        Filled { files, ..Filled::default() }.abandon(self.shared);
    }
}

/// Writes one blob of a file; with the last one its metadata.
fn write(shared: &Shared<'_>, job: &FileJob, bytes: &[u8], offset: u64) {
    let options = shared.plan.options;
    let file = match job.make(shared.target, options.sparse) {
        Ok(file) => file,
        Err(error) => return shared.file_refused(job, "create", error),
    };
    match job.write(&file, options.sparse, bytes, offset) {
        Ok(true) => shared.warn(|| job.path(), job.settle(&file, options.owner)),
        Ok(false) => {}
        Err(error) => shared.file_refused(job, "content", error),
    }
}

/// Does something while another thread has the disk write what was written so far, so that the sync at the end finds
/// little left to do.
fn writing_back<R>(shared: &Shared<'_>, work: impl FnOnce() -> R) -> R {
    let over = (Mutex::new(false), Condvar::new());
    let write_back = || {
        let mut before = shared.bytes.load(Ordering::Relaxed);
        let mut done = over.0.lock();
        while !*done {
            over.1.wait_for(&mut done, WRITE_BACK_EVERY);
            let now = shared.bytes.load(Ordering::Relaxed);
            if *done || now - before < WRITE_BACK_BYTES {
                continue;
            }
            before = now;
            // What failed here is not told again by the sync at the end.
            let synced = MutexGuard::unlocked(&mut done, || shared.target.sync());
            if let Err(error) = synced {
                return shared.end(at("sync", b"")(error));
            }
        }
    };
    std::thread::scope(|scope| {
        // Where no thread can be had, the sync at the end does it all.
        let _ = std::thread::Builder::new().name("write-back".to_owned()).spawn_scoped(scope, write_back);
        // Also where the work ends in a panic: the scope waits for the thread.
        let _over = Over(&over);
        work()
    })
}

/// Tells a thread that what it goes along with is over.
struct Over<'o>(&'o (Mutex<bool>, Condvar));

impl Drop for Over<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}

/// A blob cannot be had: its files fail, or the restore ends if no blob can.
fn lost<'j>(
    shared: &Shared<'_>,
    place: &Location,
    error: RepositoryError,
    jobs: impl Iterator<Item = &'j Arc<FileJob>>,
) {
    if is_store_down(&error) {
        return shared.end(repository("read the session's content")(error));
    }
    let pack = snapshot::repository::ObjectKind::Pack.name(&place.pack);
    let reason = format!("data blob {} in {pack} at offset {}: {}", place.id, place.offset, chain(&error));
    for job in jobs {
        if job.set_failed() {
            let (path, reason) = (job.path(), reason.clone());
            shared.receipt.lock().fail(Listed { path, what: "content", reason, errno: None });
        }
    }
}

/// Does something with all items, on the threads of the options, until the restore is over.
pub(super) fn parallel<T: Sync>(shared: &Shared<'_>, items: &[T], each: impl Fn(&T) + Sync) -> Result<()> {
    let next = AtomicUsize::new(0);
    let threads = shared.plan.options.threads.clamp(1, 64).min(items.len());
    // Neighbours lie in one directory, where threads would wait for each other.
    let together = (items.len() / (threads.max(1) * TOGETHER_MAX)).clamp(1, TOGETHER_MAX);
    let work = || {
        loop {
            let from = next.fetch_add(together, Ordering::Relaxed);
            let Some(some) = items.get(from..items.len().min(from.saturating_add(together))) else { return };
            if some.is_empty() {
                return;
            }
            for item in some {
                if shared.is_over() {
                    return;
                }
                each(item);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Where no thread can be had, this one does it all.
            if std::thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    shared.check()
}
