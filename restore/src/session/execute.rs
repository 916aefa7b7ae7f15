//! Doing what a plan says: the walk decides, directories and small objects are made at once, files go into batches.
//!
//! A directory is made private and with a mode that says that it is not finished. It gets its metadata when the walk has
//! left it and all files of it are in a batch that was written: later nothing changes in it, so its times stay.

use super::Monitor;
use super::batch::{Batch, Shared};
use super::decide::Action;
use super::error::{SessionRestoreError, at};
use super::fill::{FileJob, Place};
use super::finish::{Filled, Finisher, Left, LinkJob, Special, put};
use super::links::{LinkKey, Links};
use super::marker::Mark;
use super::meta::{self, Meta};
use super::plan::{Plan, content_bytes, in_the_way};
use super::receipt::{Listed, Receipt, chain};
use super::target::{Dir, Target, list, make_dir, open_up, pin, remove, stat_fd, unlink};
use super::walk::{Entered, Result, Step, Visitor};
use rustix::fs::{FileType, Mode};
use snapshot::repository::{Node, NodeKind};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Restores what the plan says. Returns when it is durable.
///
/// # Errors
/// `Conflicts` if the plan has any, before anything is written; `Busy`; `Target` for what concerns all objects (no room,
/// a failed sync), `Repository` likewise; `Cancelled`; and as [`super::plan`]. After an error the same restore, planned
/// again, goes on.
pub fn execute(plan: &Plan<'_>, monitor: &dyn Monitor) -> Result<Receipt> {
    let (receipt, part) = execute_part(plan, monitor)?;
    part.end()?;
    Ok(receipt)
}

/// A restore that is done and durable, and still marked as one that did not end: it is part of several.
#[derive(Debug)]
pub struct Part {
    target: Target,
    mark: Mark,
    _lock: journal::FileLock,
}

impl Part {
    /// All parts are done. As long as one of them is marked, [`super::began`] says of all that the restore has not ended.
    ///
    /// # Errors
    /// `Target`.
    pub fn end(self) -> Result<()> {
        self.mark.remove(&self.target)
    }
}

/// As [`execute`], for one of several restores into one target: as long as its end is not said, the same restore is found
/// done, not refused because of what it made itself.
///
/// # Errors
/// As there.
pub fn execute_part(plan: &Plan<'_>, monitor: &dyn Monitor) -> Result<(Receipt, Part)> {
    let totals = &plan.totals;
    if totals.conflicts > 0 {
        let (first, count) = (totals.first_conflicts.clone(), totals.conflicts);
        return Err(SessionRestoreError::Conflicts { first, count });
    }
    let name = plan.target.as_os_str().as_encoded_bytes();
    std::fs::create_dir_all(&plan.target).map_err(at("create", name))?;
    let target = plan.open_target()?.ok_or(io::ErrorKind::NotFound.into()).map_err(at("open", name))?;
    let (lock, marked) = plan.mark.take(&target, &plan.target)?;
    let receipt = write_into(plan, &target, marked || plan.began(), monitor)?;
    Ok((receipt, Part { target, mark: plan.mark.clone(), _lock: lock }))
}

/// Writes all objects, and returns when they are durable. `again`: some may be there.
pub(super) fn write_into(
    plan: &Plan<'_>,
    target: &Target,
    again: bool,
    monitor: &dyn Monitor,
) -> Result<Receipt> {
    let shared = Shared::new(plan, target, monitor);
    std::thread::scope(|scope| {
        let mut run = Run {
            shared: &shared,
            batch: Batch::new(&shared),
            finisher: Finisher::start(scope, &shared),
            left: Vec::new(),
            links: Links::new(),
            again,
            temporaries: 0,
        };
        let walked = plan.walk(Some(target), again).run(&mut run).and_then(|()| run.write_all());
        if walked.is_err() {
            run.batch.abandon();
        }
        match (walked, run.finisher.wait()) {
            // Whoever is told first why it ends.
            (Ok(()) | Err(SessionRestoreError::Cancelled), Err(error)) => Err(error),
            (walked, _) => walked,
        }
    })?;
    target.sync().map_err(at("sync", b""))?;
    let mut receipt = shared.receipt.into_inner();
    receipt.lack(plan.options.missed, b"/");
    Ok(receipt)
}

struct Run<'p> {
    shared: &'p Shared<'p>,
    batch: Batch<'p>,
    finisher: Finisher<'p>,
    /// Directories that wait for their metadata, the deeper ones first.
    left: Vec<(Arc<Dir>, Meta)>,
    /// Where the first names of files are.
    links: Links<(Arc<Dir>, Vec<u8>)>,
    again: bool,
    temporaries: u64,
}

impl Run<'_> {
    fn temporary(&mut self) -> Vec<u8> {
        self.temporaries += 1;
        format!("{}{:x}", self.shared.plan.mark.temporary_prefix(), self.temporaries).into_bytes()
    }

    /// Writes the batch and hands it over, with the directories that nothing more comes into.
    fn write(&mut self) -> Result<()> {
        let filled = self.batch.take()?;
        let directories = std::mem::take(&mut self.left);
        let left = self.finisher.give(Filled { directories, ..filled })?;
        self.take_back(left)
    }

    /// What a batch could not finish goes with the next one.
    fn take_back(&mut self, left: Left) -> Result<()> {
        self.left.splice(..0, left.directories);
        for link in left.links {
            match &link.other {
                None => self.batch.add(link.job)?,
                Some(special) => self.special(&link.job, special)?,
            }
        }
        Ok(())
    }

    /// Writes and finishes all there is.
    fn write_all(&mut self) -> Result<()> {
        loop {
            let left = self.finisher.wait()?;
            self.take_back(left)?;
            if self.batch.is_empty() && self.left.is_empty() {
                return Ok(());
            }
            self.write()?;
        }
    }

    fn write_if_full(&mut self) -> Result<()> {
        let full = self.batch.is_full() || self.left.len() >= self.shared.plan.options.batch.files;
        if full { self.write() } else { Ok(()) }
    }

    /// What is done about an object that is made; `None` if it is not.
    fn place(&mut self, step: &Step<'_, Arc<Dir>>) -> Option<Place> {
        let mut receipt = self.shared.receipt.lock();
        let place = match step.action {
            Action::Make | Action::Merge { .. } => Place::Free,
            Action::Replace => Place::Replace,
            Action::ReplaceDirectory => Place::ReplaceDirectory,
            Action::Rename => {
                receipt.renamed += 1;
                Place::Free
            }
            Action::Whole => {
                receipt.resumed += 1;
                Place::Whole
            }
            Action::Skip => {
                receipt.skipped += 1;
                return None;
            }
            Action::InTheWay => {
                receipt.fail(in_the_way(step.path));
                return None;
            }
            // Not there when the plan was made.
            Action::Conflict => {
                let reason = "something stands there that was not there when the plan was made".to_owned();
                receipt.fail(Listed { path: step.path.to_vec(), what: "name", reason, errno: Some(17) });
                return None;
            }
        };
        Some(place)
    }

    /// Removes what a dead run left in a directory.
    fn sweep(&self, dir: &Arc<Dir>) -> io::Result<()> {
        if !self.again {
            return Ok(());
        }
        let (fd, prefix) = (self.shared.target.fd(dir)?, self.shared.plan.mark.temporary_prefix());
        let mut dead = Vec::new();
        list(fd.as_fd(), &mut |name| {
            if name.starts_with(prefix.as_bytes()) {
                dead.push(name.to_vec());
            }
            true
        })?;
        dead.iter().try_for_each(|name| unlink(fd.as_fd(), name))
    }

    /// Makes or takes over a directory.
    fn directory(&mut self, step: &Step<'_, Arc<Dir>>, place: Place) -> io::Result<Arc<Dir>> {
        let (target, parent) = (self.shared.target, step.dir.ok_or(io::ErrorKind::NotFound)?);
        let merge = matches!(step.action, Action::Merge { .. });
        // Its metadata is set at the end, whatever is set now.
        if step.action == (Action::Merge { metadata: true }) {
            open_up(target.fd(parent)?.as_fd(), &step.name)?;
        }
        if !merge {
            let fd = target.fd(parent)?;
            if place == Place::Replace {
                unlink(fd.as_fd(), &step.name)?;
            }
            make_dir(fd.as_fd(), &step.name)?;
        }
        let name = step.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let renamed = (name != step.name).then(|| step.name.clone());
        if !merge {
            return Ok(target.made(parent, name, renamed));
        }
        let dir = target.child(parent, name, renamed);
        self.sweep(&dir)?;
        Ok(dir)
    }

    /// Makes a link, pipe, socket or device.
    fn special(&mut self, job: &FileJob, special: &Special) -> Result<()> {
        let (shared, target) = (self.shared, self.shared.target);
        let made = || -> io::Result<()> {
            let dir = target.fd(&job.dir)?;
            make_special(dir.as_fd(), &job.temporary, job.meta.kind, special)?;
            let pinned = pin(dir.as_fd(), &job.temporary)?;
            if stat_fd(pinned.as_fd())?.kind != job.meta.kind {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "another file has taken the temporary name",
                ));
            }
            let mut refused = Vec::new();
            meta::set(pinned.as_fd(), &job.meta, shared.plan.options.owner, &mut refused);
            shared.warn(|| job.path(), refused);
            let put = put(target, (&job.dir, &job.temporary, &job.name), job.place);
            if put.is_err() {
                let _ = unlink(dir.as_fd(), &job.temporary);
            }
            put
        };
        let made = if job.place == Place::Whole { Ok(()) } else { made() };
        match made {
            Ok(()) => shared.receipt.lock().others += 1,
            Err(error) => {
                job.set_failed();
                shared.refused(job.path(), kind_name(job.meta.kind), error)?;
            }
        }
        shared.done(1, 0);
        Ok(())
    }

    /// An object that is no directory, or a further name of one.
    fn make(
        &mut self,
        dir: &Arc<Dir>,
        name: Vec<u8>,
        (node, meta): (Node, Meta),
        place: Place,
    ) -> Result<()> {
        let key = LinkKey::of(&node);
        let first = key.and_then(|key| self.links.further(&key));
        let special = (node.kind != NodeKind::File)
            .then_some(Special { link_target: node.link_target, device: node.device });
        let (temporary, at) = (self.temporary(), (dir.clone(), name));
        let job = FileJob::new(at.clone(), temporary, (meta, node.size, node.content), place);
        if let Some(from) = first {
            self.batch.add_link(LinkJob { from, job, other: special });
            return Ok(());
        }
        let made = match &special {
            Some(special) => {
                self.special(&job, special)?;
                !job.has_failed()
            }
            None => {
                self.batch.add(job)?;
                true
            }
        };
        if let Some(key) = key.filter(|_| made)
            && !self.links.remember(key, node.links, at.clone())
        {
            let many = io::Error::other("too many files with several names; it is a file of its own");
            self.shared.warn(|| at.0.path(&at.1), vec![("hard link", many)]);
        }
        Ok(())
    }
}

impl Visitor<Arc<Dir>> for Run<'_> {
    fn enter(&mut self, step: Step<'_, Arc<Dir>>) -> Result<Entered<Arc<Dir>>> {
        if step.path.is_empty() {
            let top = self.shared.target.top().clone();
            self.sweep(&top).map_err(at("list", b""))?;
            return Ok(Entered::Here(Some(top), false));
        }
        let Some(place) = self.place(&step) else { return Ok(Entered::Out) };
        match self.directory(&step, place) {
            Ok(dir) => {
                self.shared.receipt.lock().directories += 1;
                let metadata = !matches!(step.action, Action::Merge { metadata: false });
                Ok(Entered::Here(Some(dir), metadata))
            }
            Err(error) => {
                self.shared.refused(step.path.to_vec(), "directory", error)?;
                Ok(Entered::Out)
            }
        }
    }

    fn leave(&mut self, dir: Arc<Dir>, meta: Meta, _: &[u8]) -> Result<()> {
        self.left.push((dir, meta));
        self.write_if_full()
    }

    fn object(&mut self, step: Step<'_, Arc<Dir>>, node: Node, meta: Meta) -> Result<()> {
        let Some(dir) = step.dir else { return Ok(()) };
        let Some(place) = self.place(&step) else {
            self.shared.done(1, 0);
            return Ok(());
        };
        if node.kind == NodeKind::File
            && let Err(error) = content_bytes(self.shared.plan.repository, &node)
        {
            self.shared.done(1, 0);
            let (what, reason) = ("content", chain(&error));
            return self.failed(Listed { path: step.path.to_vec(), what, reason, errno: None });
        }
        self.make(dir, step.name, (node, meta), place)?;
        self.write_if_full()
    }

    fn extra(&mut self, dir: &Arc<Dir>, name: &[u8], _: &[u8]) -> Result<()> {
        let removed = self.shared.target.fd(dir).and_then(|dir| remove(dir.as_fd(), name));
        match removed {
            Ok(()) => self.shared.receipt.lock().removed += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.shared.refused(dir.path(name), "remove", error)?,
        }
        Ok(())
    }

    fn failed(&mut self, listed: Listed) -> Result<()> {
        self.shared.receipt.lock().fail(listed);
        Ok(())
    }

    fn cancelled(&self) -> bool {
        self.shared.is_over()
    }
}

fn make_special(dir: BorrowedFd<'_>, name: &[u8], kind: NodeKind, special: &Special) -> io::Result<()> {
    let mode = Mode::RUSR | Mode::WUSR;
    let kind = match kind {
        NodeKind::Symlink => return Ok(rustix::fs::symlinkat(special.link_target.as_slice(), dir, name)?),
        NodeKind::Fifo => FileType::Fifo,
        NodeKind::Socket => FileType::Socket,
        NodeKind::CharacterDevice => FileType::CharacterDevice,
        NodeKind::BlockDevice => FileType::BlockDevice,
        NodeKind::File | NodeKind::Directory | NodeKind::Other => {
            return Err(io::ErrorKind::Unsupported.into());
        }
    };
    Ok(rustix::fs::mknodat(dir, name, kind, mode, special.device)?)
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symbolic link",
        NodeKind::Fifo => "pipe",
        NodeKind::Socket => "socket",
        NodeKind::BlockDevice | NodeKind::CharacterDevice => "device",
        NodeKind::Other => "object of an unknown kind",
    }
}
