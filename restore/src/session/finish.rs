//! Finishing a batch of files: from written bytes to names.
//!
//! In this order, each step for all files before the next: what has no metadata yet gets it; one `syncfs`; the renames;
//! reading again; hard links; metadata of the directories that nothing more comes into.
//!
//! **It goes along with the next batch**: while the disk writes one, another is read and decoded. A thread of its own
//! finishes batches in the order in which they were filled, one at a time, and the next one is handed over when it is done.
//! So what a batch builds on is there: a hard link finds the first name of its file, a directory gets its times after the
//! last name in it. A sync may be told of what failed in the next batch; whoever is told, every later one fails too
//! ([`Target::sync`]), so no name is given after it.
//!
//! Where names are chosen by what stands there (`rename`), nothing goes along: a name that was given and is not there yet would
//! be given again.

use super::IfExists;
use super::batch::{Shared, parallel};
use super::error::{SessionRestoreError, at, repository};
use super::fill::{FileJob, Place, differs};
use super::meta::{self, Meta};
use super::receipt::Listed;
use super::target::{Dir, Target, remove, rename, stat_at, unlink};
use super::walk::Result;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, Scope};

/// What defines an object that is no file.
#[derive(Clone, Debug)]
pub(super) struct Special {
    pub link_target: Vec<u8>,
    pub device: u64,
}

/// A further name of a file.
pub(super) struct LinkJob {
    /// The first name.
    pub from: (Arc<Dir>, Vec<u8>),
    /// Made as an object of its own where links are not possible.
    pub job: FileJob,
    /// What it is if it is no regular file.
    pub other: Option<Special>,
}

/// Files whose bytes are written, with what follows them.
#[derive(Default)]
pub(super) struct Filled {
    pub files: Vec<Arc<FileJob>>,
    pub links: Vec<LinkJob>,
    /// Directories into which nothing comes after these, the deeper ones first.
    pub directories: Vec<(Arc<Dir>, Meta)>,
}

impl Filled {
    /// Removes the temporary files of what has not got its name.
    pub fn abandon(&self, shared: &Shared<'_>) {
        for job in self.files.iter().filter(|job| job.is_made()) {
            discard(shared, job);
        }
    }

    /// Does all there is to do. Links that are not possible come back, and with them the directories: something more comes
    /// into these.
    fn finish(mut self, shared: &Shared<'_>) -> Result<Left> {
        let mut left = Left::default();
        let links = std::mem::take(&mut self.links);
        let finished = finish(shared, &self.files).and_then(|()| {
            links.into_iter().try_for_each(|link| {
                left.links.extend(make_link(shared, link)?);
                Ok(())
            })
        });
        if finished.is_err() {
            self.abandon(shared);
        }
        finished?;
        left.directories = self.directories;
        if left.links.is_empty() {
            set_directories(shared, std::mem::take(&mut left.directories))?;
        }
        Ok(left)
    }
}

/// What could not be finished.
#[derive(Default)]
pub(super) struct Left {
    /// To be made as objects of their own.
    pub links: Vec<LinkJob>,
    /// Directories that wait for these.
    pub directories: Vec<(Arc<Dir>, Meta)>,
}

/// The thread that finishes batches.
pub(super) struct Finisher<'s> {
    shared: &'s Shared<'s>,
    thread: Option<(SyncSender<Filled>, Receiver<Result<Left>>)>,
    /// It has a batch that was not asked for yet.
    busy: bool,
}

impl<'s> Finisher<'s> {
    /// Where no thread can be had, or may be, batches are finished by who hands them over.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, shared: &'s Shared<'s>) -> Self
    where
        's: 'scope,
    {
        let mut finisher = Finisher { shared, thread: None, busy: false };
        if shared.plan.options.if_exists == IfExists::Rename {
            return finisher;
        }
        let (give, take) = sync_channel::<Filled>(1);
        let (answer, answers) = sync_channel(1);
        let work = move || {
            for filled in take {
                if answer.send(filled.finish(shared)).is_err() {
                    return;
                }
            }
        };
        if Builder::new().name("finish".to_owned()).spawn_scoped(scope, work).is_ok() {
            finisher.thread = Some((give, answers));
        }
        finisher
    }

    /// Hands over a batch when the one before is finished; what that one left.
    pub fn give(&mut self, mut filled: Filled) -> Result<Left> {
        let mut before = match self.wait() {
            Ok(before) => before,
            Err(error) => {
                filled.abandon(self.shared);
                return Err(error);
            }
        };
        if !before.links.is_empty() {
            // What these become may lie in any of the directories.
            before.directories.append(&mut filled.directories);
        }
        let refused = match &self.thread {
            Some((give, _)) => give.send(filled).err().map(|refused| refused.0),
            None => Some(filled),
        };
        match refused {
            // Nothing was under way then, so nothing was left before.
            Some(filled) => filled.finish(self.shared),
            None => {
                self.busy = true;
                Ok(before)
            }
        }
    }

    /// Waits for what was handed over; what it left.
    pub fn wait(&mut self) -> Result<Left> {
        if !std::mem::take(&mut self.busy) {
            return Ok(Left::default());
        }
        let answer = self.thread.as_ref().and_then(|(_, answers)| answers.recv().ok());
        // A thread that ended in a panic passes it on when it is joined.
        answer.unwrap_or(Err(SessionRestoreError::Cancelled))
    }
}

/// Gives directories their metadata.
fn set_directories(shared: &Shared<'_>, directories: Vec<(Arc<Dir>, Meta)>) -> Result<()> {
    for (dir, meta) in directories {
        shared.check()?;
        match shared.target.fd(&dir) {
            Ok(fd) => {
                let mut refused = Vec::new();
                meta::set(fd.as_fd(), &meta, shared.plan.options.owner, &mut refused);
                shared.warn(|| dir.path(b""), refused);
            }
            Err(error) => shared.refused(dir.path(b""), "metadata", error)?,
        }
    }
    Ok(())
}

/// From written bytes to names.
pub(super) fn finish(shared: &Shared<'_>, files: &[Arc<FileJob>]) -> Result<()> {
    let target = shared.target;
    parallel(shared, files, |job| {
        if job.has_failed() {
            discard(shared, job);
        } else if job.place != Place::Whole && !job.is_settled() {
            match job.open(target) {
                Ok(file) => shared.warn(|| job.path(), job.settle(&file, shared.plan.options.owner)),
                Err(error) => shared.file_refused(job, "metadata", error),
            }
        }
    })?;
    target.sync().map_err(at("sync", b""))?;
    parallel(shared, files, |job| {
        if job.has_failed() {
            return discard(shared, job);
        }
        if job.place != Place::Whole
            && let Err(error) = put(target, (&job.dir, &job.temporary, &job.name), job.place)
        {
            shared.file_refused(job, "rename", error);
            return discard(shared, job);
        }
        let mut receipt = shared.receipt.lock();
        receipt.files += 1;
        receipt.bytes += job.size;
        receipt.bytes_written += job.written.load(Ordering::Relaxed);
        drop(receipt);
        shared.done(1, 0);
    })?;
    if shared.plan.options.verify {
        parallel(shared, files, |job| verify(shared, job))?;
    }
    Ok(())
}

fn verify(shared: &Shared<'_>, job: &FileJob) {
    if job.has_failed() {
        return;
    }
    let index = match shared.plan.repository.index() {
        Ok(index) => index,
        Err(error) => return shared.end(repository("look for blobs")(error)),
    };
    let reason =
        match differs(shared.target, (&job.dir, &job.name), &job.content, index, &|| shared.is_over()) {
            Ok(None) => {
                shared.receipt.lock().verified_files += 1;
                return;
            }
            Ok(Some(offset)) => format!("from offset {offset} on it is not what was written"),
            Err(error) => format!("it cannot be read again: {error}"),
        };
    let mut receipt = shared.receipt.lock();
    receipt.verified = Some(false);
    receipt.fail(Listed { path: job.path(), what: "verify", reason, errno: None });
}

fn discard(shared: &Shared<'_>, job: &FileJob) {
    if job.is_made()
        && let Ok(dir) = shared.target.fd(&job.dir)
    {
        // One that stays is removed by the next run, or has got its name already.
        let _ = unlink(dir.as_fd(), &job.temporary);
    }
}

/// Gives an object its name.
pub(super) fn put(
    target: &Target,
    (dir, temporary, name): (&Arc<Dir>, &[u8], &[u8]),
    place: Place,
) -> io::Result<()> {
    let dir = target.fd(dir)?;
    if place == Place::ReplaceDirectory {
        match remove(dir.as_fd(), name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    rename(dir.as_fd(), temporary, name, place == Place::Replace)
}

/// One more name. Comes back if the file system has no such links.
fn make_link(shared: &Shared<'_>, link: LinkJob) -> Result<Option<LinkJob>> {
    let (target, job) = (shared.target, &link.job);
    let made = || -> io::Result<()> {
        let (from, to) = (target.fd(&link.from.0)?, target.fd(&job.dir)?);
        let first = stat_at(from.as_fd(), &link.from.1)?.ok_or(io::ErrorKind::NotFound)?;
        if stat_at(to.as_fd(), &job.name)?.is_some_and(|found| found.identity == first.identity) {
            return Ok(());
        }
        rustix::fs::linkat(
            &from,
            link.from.1.as_slice(),
            &to,
            job.temporary.as_slice(),
            rustix::fs::AtFlags::empty(),
        )?;
        // What an earlier run left there is replaced as well.
        let place = if job.place == Place::Whole { Place::Replace } else { job.place };
        let put = put(target, (&job.dir, &job.temporary, &job.name), place);
        // Names of one inode are not renamed over each other.
        let _ = unlink(to.as_fd(), &job.temporary);
        put
    };
    const NOT_POSSIBLE: [i32; 4] = [1, 18, 31, 95];
    match made() {
        Ok(()) => {
            shared.receipt.lock().links += 1;
            shared.done(1, 0);
        }
        // EPERM, EXDEV, EMLINK, EOPNOTSUPP
        Err(error) if error.raw_os_error().is_some_and(|errno| NOT_POSSIBLE.contains(&errno)) => {
            shared.warn(|| job.path(), vec![("hard link", error)]);
            return Ok(Some(link));
        }
        Err(error) => shared.refused(job.path(), "hard link", error)?,
    }
    Ok(None)
}
