//! Making the objects of an extraction: files, links, pipes, devices, metadata.

use super::{ExtractReport, Skipped, at};
use crate::content::Pieces;
use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use journal::view::View;
use journal::view::join;
use journal::{Kind, Meta, Name, NodeId, TreeFile, TreeIo};
use parking_lot::{Condvar, Mutex};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

/// Files waiting to be written.
pub(super) const QUEUE_MAX: usize = 64;
/// Objects listed as skipped; more are counted.
const SKIPPED_MAX: usize = 1000;
const PERMISSION: i32 = 1;
const NOT_SUPPORTED: i32 = 95;

/// Files of a directory that are not written yet.
#[derive(Default)]
pub(super) struct Pending {
    count: Mutex<usize>,
    changed: Condvar,
}

impl Pending {
    pub fn begin(self: &Arc<Self>) -> Begun {
        *self.count.lock() += 1;
        Begun(Arc::clone(self))
    }

    /// Waits until all are written, or were given up.
    pub fn wait(&self) {
        let mut count = self.count.lock();
        while *count > 0 {
            self.changed.wait(&mut count);
        }
    }

    pub fn is_done(&self) -> bool {
        *self.count.lock() == 0
    }
}

/// One file under way; its end counts however it ends.
pub(super) struct Begun(Arc<Pending>);

impl Drop for Begun {
    fn drop(&mut self) {
        *self.0.count.lock() -= 1;
        self.0.changed.notify_all();
    }
}

/// An object to be made that is no directory.
pub(super) struct Job<D: TreeIo> {
    /// The directory it goes to.
    pub dir: D::Dir,
    /// Its name.
    pub name: Name,
    /// The node of the point.
    pub node: NodeId,
    /// What it is like.
    pub meta: Meta,
    /// Path within the target, for messages.
    pub path: Vec<u8>,
    /// Held until it is made.
    pub _begun: Begun,
}

/// What all threads of an extraction share.
pub(super) struct Shared<'e, D: TreeIo> {
    pub target: &'e D,
    pub monitor: &'e dyn Monitor,
    report: Mutex<ExtractReport>,
    failure: Mutex<Option<RestoreError>>,
    over: AtomicBool,
    /// Temporary names: a random number for all, and a counter.
    random: u64,
    counter: AtomicU64,
}

impl<'e, D: TreeIo> Shared<'e, D> {
    pub fn new(target: &'e D, monitor: &'e dyn Monitor) -> Self {
        let random = RandomState::new().hash_one(0_u8);
        let (report, failure) = (Mutex::default(), Mutex::new(None));
        Shared {
            target,
            monitor,
            report,
            failure,
            over: AtomicBool::new(false),
            random,
            counter: AtomicU64::new(0),
        }
    }

    pub fn into_report(self) -> ExtractReport {
        let mut report = self.report.into_inner();
        report.skipped.sort_by(|a, b| a.path.cmp(&b.path));
        report
    }

    pub fn count(&self, add: impl FnOnce(&mut ExtractReport)) {
        let objects = {
            let mut report = self.report.lock();
            add(&mut report);
            report.files + report.directories + report.others + report.links
        };
        if objects % 64 == 0 {
            self.monitor.progress(Phase::Extract, objects, None);
        }
    }

    pub fn skip(&self, path: &[u8], what: &'static str, error: &io::Error) {
        let mut report = self.report.lock();
        report.skipped_count += 1;
        if report.skipped.len() < SKIPPED_MAX {
            let errno = error.raw_os_error().unwrap_or(0);
            report.skipped.push(Skipped { path: path.to_vec(), what, errno });
        }
    }

    /// Remembers the first failure; all threads stop.
    pub fn fail(&self, error: RestoreError) {
        self.failure.lock().get_or_insert(error);
        self.over.store(true, Ordering::Release);
    }

    /// The failure, if there was one.
    pub fn failed(&self) -> Option<RestoreError> {
        self.failure.lock().take()
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire) || self.monitor.cancelled()
    }

    /// A name that nothing has: 64 random bits drawn for this extraction, and a count.
    fn temporary(&self) -> Result<Name, RestoreError> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        Name::new(format!(".rewind-{:016x}-{number:x}", self.random).as_bytes()).ok_or(RestoreError::NoFreeId)
    }
}

/// Makes objects until the walker ends. After a failure the rest is taken and dropped, so that the walker never waits
/// for a queue that nobody empties.
pub(super) fn work<T: TreeIo, D: TreeIo>(
    view: &View<T>,
    shared: &Shared<'_, D>,
    jobs: &Mutex<Receiver<Job<D>>>,
) {
    loop {
        let job = jobs.lock().recv();
        let Ok(job) = job else { return };
        if shared.is_over() {
            // The walker may have ended before: nobody else knows that this one is missing.
            shared.fail(RestoreError::Cancelled);
            continue;
        }
        if let Err(error) = make(view, shared, &job) {
            shared.fail(error);
        }
    }
}

/// Makes one object under a temporary name, and renames it when it is whole. Whether there is one now.
pub(super) fn make<T: TreeIo, D: TreeIo>(
    view: &View<T>,
    shared: &Shared<'_, D>,
    job: &Job<D>,
) -> Result<bool, RestoreError> {
    let temporary = shared.temporary()?;
    let target = shared.target;
    if job.meta.kind.is_file() {
        let file = target.create_file(&job.dir, &temporary).map_err(at("create", &job.path))?;
        let bytes = fill(view, shared, job, &file)?;
        shared.count(|report| {
            report.files += 1;
            report.bytes_written += bytes;
        });
    } else {
        match target.create(&job.dir, &temporary, &job.meta.kind) {
            Ok(_) => shared.count(|report| report.others += 1),
            Err(error) if is_lack(&error) => {
                shared.skip(&job.path, kind_name(&job.meta.kind), &error);
                return Ok(false);
            }
            Err(error) => return Err(at("create", &job.path)(error)),
        }
    }
    let (dir, kind) = (&job.dir, &job.meta.kind);
    let attributes = target.set_attributes(dir, &temporary, &job.meta.attributes, kind);
    allow(shared, &job.path, "owner, mode or times", attributes)?;
    if !job.meta.xattrs.is_empty() {
        let xattrs = target.set_xattrs(dir, &temporary, kind, &job.meta.xattrs);
        allow(shared, &job.path, "extended attributes", xattrs)?;
    }
    target.rename((dir, &temporary), (dir, &job.name)).map_err(at("rename", &job.path))?;
    Ok(true)
}

fn fill<T: TreeIo, D: TreeIo>(
    view: &View<T>,
    shared: &Shared<'_, D>,
    job: &Job<D>,
    file: &D::File,
) -> Result<u64, RestoreError> {
    let unreadable = RestoreError::journal("read a file of the point");
    if job.meta.size == 0 {
        return Ok(0);
    }
    // Grown first: what is not written is a hole.
    file.set_len(job.meta.size).map_err(at("resize", &job.path))?;
    let mut written = 0;
    for piece in Pieces::whole(view, job.node).map_err(&unreadable)? {
        let piece = piece.map_err(&unreadable)?;
        if let Some(data) = piece.data {
            file.write_at(&data, piece.offset).map_err(at("write", &job.path))?;
            written += data.len() as u64;
        }
        if shared.is_over() {
            return Err(RestoreError::Cancelled);
        }
    }
    Ok(written)
}

/// Sets the metadata of a directory that is complete.
pub(super) fn finish_directory<D: TreeIo>(
    shared: &Shared<'_, D>,
    dir: &D::Dir,
    meta: &Meta,
    path: &[u8],
) -> Result<(), RestoreError> {
    let attributes = shared.target.set_dir_attributes(dir, &meta.attributes);
    allow(shared, path, "owner, mode or times", attributes)?;
    if meta.xattrs.is_empty() {
        return Ok(());
    }
    allow(shared, path, "extended attributes", shared.target.set_dir_xattrs(dir, &meta.xattrs))
}

/// One more name for what stands at `first`, a path within the target; false where the file system has no such links.
pub(super) fn link<D: TreeIo>(
    shared: &Shared<'_, D>,
    top: &D::Dir,
    first: &[u8],
    to: (&D::Dir, &Name),
    path: &[u8],
) -> Result<bool, RestoreError> {
    let target = shared.target;
    let mut dir = top.clone();
    let mut parts = first.split(|byte| *byte == b'/').filter_map(Name::new).peekable();
    while let Some(name) = parts.next() {
        if parts.peek().is_some() {
            dir = target.open_dir(&dir, &name).map_err(at("open", first))?;
            continue;
        }
        match target.link((&dir, &name), to) {
            Ok(()) => shared.count(|report| report.links += 1),
            Err(error) if is_lack(&error) || error.kind() == io::ErrorKind::TooManyLinks => {
                shared.skip(path, "hard link", &error);
                return Ok(false);
            }
            Err(error) => return Err(at("link", path)(error)),
        }
    }
    Ok(true)
}

/// Lists what could not be kept for lack of privilege or support; anything else is an error.
fn allow<D: TreeIo>(
    shared: &Shared<'_, D>,
    path: &[u8],
    what: &'static str,
    result: io::Result<()>,
) -> Result<(), RestoreError> {
    match result {
        Err(error) if is_lack(&error) => {
            shared.skip(path, what, &error);
            Ok(())
        }
        result => result.map_err(at("set metadata of", path)),
    }
}

fn is_lack(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(PERMISSION | NOT_SUPPORTED))
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Directory => "directory",
        Kind::Symlink(_) => "symbolic link",
        Kind::Fifo => "pipe",
        Kind::Socket => "socket",
        Kind::CharDevice(_) | Kind::BlockDevice(_) => "device",
    }
}

/// A path within the target.
pub(super) fn path_in(dir: &[u8], name: &Name) -> Vec<u8> {
    join(dir, name.as_bytes())
}
