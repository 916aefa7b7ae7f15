//! Rewind and return.

use super::control::Control;
use super::error;
use super::past::{Watch, failed};
use super::scene::Scene;
use crate::engine::{
    Change, Counts, Each, EngineError, EngineResult, Level, Onto, Progress, ResolvedPoint, ResumeReport,
    RewindPlan, RewindReport, RewindRequest, Skipped, State,
};
use crate::points::PointSpec;
use crate::records::Wanted;
use journal::journal::{Clock, SystemClock};
use journal::{Lsn, RootNo};
use parking_lot::MutexGuard;
use replication::os_tree::OsTree;
use restore::{ExtractOptions, PathFilter, RewindOptions, return_to_capture, rewind_replica};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;
use wire::stream::Command;

/// How often it is looked whether a comparison is over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Scene {
    pub(super) fn filters(&self, paths: &[PathBuf]) -> EngineResult<Vec<PathFilter>> {
        let definition = self.definition();
        let roots = || definition.roots.iter().enumerate();
        paths
            .iter()
            .map(|path| {
                let found = roots().find_map(|(number, root)| {
                    let below = path.strip_prefix(&root.master).ok()?;
                    PathFilter::new(RootNo(number as u16), below.as_os_str().as_bytes())
                });
                found.ok_or_else(|| {
                    let message =
                        format!("{} is not below a root of scenario \"{}\"", path.display(), self.name());
                    EngineError::new(&codes::NO_SUCH_PATH, message)
                })
            })
            .collect()
    }

    /// The point that is gone to. Recovering the master from the replica as it is means the tree as it stands, also if
    /// that was rewound.
    fn resolve_for(&self, request: &RewindRequest) -> EngineResult<ResolvedPoint> {
        if request.onto == Onto::Master && request.to == PointSpec::Now {
            let applied = self.replica()?.journal().applied();
            return self.resolve(&PointSpec::Lsn(applied));
        }
        self.resolve(&request.to)
    }

    /// See [`crate::engine::Engine::plan_rewind`].
    pub(super) fn plan_rewind(
        &self,
        request: &RewindRequest,
        progress: &dyn Progress,
        each: Each<'_, Change>,
    ) -> EngineResult<RewindPlan> {
        if let (PointSpec::LastGood(range), Onto::Replica | Onto::Master) = (&request.to, &request.onto) {
            return self.plan_last_good(request, *range, progress, each);
        }
        let to = self.resolve_for(request)?;
        let filters = self.filters(&request.paths)?;
        let replica = self.replica()?;
        let watch = Watch(progress);
        let from = replica.journal().applied();
        let mut counts = Counts::default();
        let mut warnings = Vec::new();
        match &request.onto {
            Onto::Master => return self.plan_onto_master(to, &filters, progress, each),
            Onto::Directory(directory) => {
                self.check_directory(directory, request.again)?;
                warnings.push(format!(
                    "the whole tree as of LSN {} is written to {}",
                    to.lsn,
                    directory.display()
                ));
            }
            Onto::Replica => {
                let (now, then) = (replica.view(from)?, replica.view(to.lsn)?);
                let plan = restore::RewindPlan::new(&now, &then, &filters, &watch)
                    .map_err(|cause| failed(progress, cause))?;
                plan.list(&watch, &mut |entry| {
                    let change = self.change(entry);
                    counts.add(&change);
                    each(change)
                })
                .map_err(|cause| failed(progress, cause))?;
                warnings.extend(
                    plan.notes().iter().map(|note| format!("{:?}: {}", note.kind, lossy(&note.path))),
                );
                if replica.status().detached.is_none() {
                    warnings
                        .push("the replica stops following the master until `scenario resume`".to_owned());
                }
            }
        }
        Ok(RewindPlan { to, from, counts, warnings, point: PointSpec::Lsn(to.lsn) })
    }

    fn check_directory(&self, directory: &Path, again: bool) -> EngineResult<()> {
        if again {
            return Ok(());
        }
        match std::fs::read_dir(directory).map(|mut entries| entries.next().is_some()) {
            Ok(true) => {
                let message = format!("{} is not empty", directory.display());
                Err(EngineError::new(&codes::TARGET_NOT_EMPTY, message))
            }
            Ok(false) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(EngineError::io("read", directory, error)),
        }
    }

    /// See [`crate::engine::Engine::rewind`].
    pub(super) fn rewind(
        &self,
        request: &RewindRequest,
        progress: &dyn Progress,
    ) -> EngineResult<RewindReport> {
        let began = Instant::now();
        let to = self.resolve_for(request)?;
        let filters = self.filters(&request.paths)?;
        let report = match &request.onto {
            Onto::Replica | Onto::Master if let PointSpec::LastGood(range) = request.to => {
                self.rewind_last_good(request, range, progress, began)?
            }
            Onto::Master => self.rewind_onto_master(to, (filters, request.again), progress, began)?,
            Onto::Directory(directory) => {
                self.extract(to, directory, filters, request.again, progress, began)?
            }
            Onto::Replica => self.rewind_onto_replica(to, (filters, request.again), progress, began)?,
        };
        match report.skipped_count {
            0 => {
                let text = format!("Rewind process is completed successfully (to LSN {}).", to.lsn);
                self.note(Level::Info, &text);
            }
            skipped => {
                let text = format!("Rewind process is completed (to LSN {}), {skipped} skipped.", to.lsn);
                self.note(Level::Warning, &text);
            }
        }
        Ok(report)
    }

    /// The turn of somebody who changes the replica's tree. A job that is begun again after a restart meets the comparison
    /// that the restart brought, and waits for its end: it had been accepted, and nobody is there to ask again.
    pub(super) fn turn(&self, again: bool, progress: &dyn Progress) -> EngineResult<MutexGuard<'_, ()>> {
        loop {
            let turning = self.turning.lock();
            if !again || self.state() != State::Synchronizing {
                return Ok(turning);
            }
            drop(turning);
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn rewind_onto_replica(
        &self,
        to: ResolvedPoint,
        (paths, again): (Vec<PathFilter>, bool),
        progress: &dyn Progress,
        began: Instant,
    ) -> EngineResult<RewindReport> {
        let _turning = self.turn(again, progress)?;
        let replica = self.replica()?;
        if self.state() == State::Synchronizing {
            let message = format!("scenario \"{}\" is being synchronized", self.name());
            return Err(EngineError::new(&codes::SYNCHRONIZING, message));
        }
        let options = RewindOptions { paths, now: SystemClock.now(), before: None };
        let control = Control(Arc::clone(&replica));
        let report = rewind_replica(&control, to.lsn, &options, &Watch(progress))
            .map_err(|cause| failed(progress, cause))?;
        Ok(onto_replica(to, report, began))
    }

    fn extract(
        &self,
        to: ResolvedPoint,
        directory: &Path,
        paths: Vec<PathFilter>,
        again: bool,
        progress: &dyn Progress,
        began: Instant,
    ) -> EngineResult<RewindReport> {
        self.check_directory(directory, again)?;
        self.check_outside(directory)?;
        std::fs::create_dir_all(directory).map_err(|error| EngineError::io("create", directory, error))?;
        let target =
            OsTree::open_target(directory).map_err(|error| EngineError::io("open", directory, error))?;
        let replica = self.replica()?;
        let view = replica.view(to.lsn)?;
        let definition = self.definition();
        let masters: Vec<(RootNo, &Path)> = definition
            .roots
            .iter()
            .enumerate()
            .map(|(number, root)| (RootNo(number as u16), root.master.as_path()))
            .collect();
        let options = ExtractOptions {
            roots: restore::layout(&masters),
            paths,
            directory: directory.to_owned(),
            token: format!("{}-{}-{}", self.id(), to.lsn.captured, to.lsn.local),
            again,
            writers: 2,
        };
        let report = restore::extract(&view, &target, &options, &Watch(progress))
            .map_err(|cause| failed(progress, cause))?;
        let skipped = report.skipped.iter().map(|skipped| Skipped {
            path: directory.join(OsStr::from_bytes(&skipped.path)),
            what: skipped.what,
            error: std::io::Error::from_raw_os_error(skipped.errno).to_string(),
        });
        Ok(RewindReport {
            to,
            before: None,
            onto_master: false,
            files_changed: report.files,
            bytes_written: report.bytes_written,
            elapsed: began.elapsed(),
            skipped: skipped.collect(),
            skipped_count: report.skipped_count,
        })
    }

    /// A target inside a tree we own, or around one, would be captured, or destroyed, by ourselves.
    fn check_outside(&self, directory: &Path) -> EngineResult<()> {
        let definition = self.definition();
        let target =
            std::path::absolute(directory).map_err(|error| EngineError::io("find", directory, error))?;
        let local = self.is_local(&definition);
        let ours = definition
            .roots
            .iter()
            .flat_map(|root| local.then(|| root.master.clone()).into_iter().chain(root.replica.clone()));
        for tree in ours.chain(std::iter::once(self.layout.data().to_owned())) {
            if target.starts_with(&tree) || tree.starts_with(&target) {
                let message = format!("{} and {} overlap", target.display(), tree.display());
                return Err(EngineError::new(&codes::ROOTS_OVERLAP, message));
            }
        }
        Ok(())
    }

    /// See [`crate::engine::Engine::resume`].
    pub(super) fn resume(self: &Arc<Self>, progress: &dyn Progress) -> EngineResult<ResumeReport> {
        let _turning = self.turning.lock();
        self.resume_turning(progress)
    }

    /// The same for who holds the lock already.
    pub(super) fn resume_turning(&self, progress: &dyn Progress) -> EngineResult<ResumeReport> {
        let began = Instant::now();
        let wanted = self.wanted();
        let replica = self.replica()?;
        let before = replica.journal().applied();
        let mut report = ResumeReport::default();
        if replica.status().detached.is_some() {
            // What an earlier attempt left to apply is done, or this fails: a plan needs a tree that stands still.
            replica.detach("resume")?;
            let control = Control(Arc::clone(&replica));
            let returned = return_to_capture(&control, &Watch(progress)).map_err(error::restore)?;
            report.files_returned = returned.files_changed;
            self.note(
                Level::Info,
                &format!("the replica is back at LSN {} and follows the master", returned.captured),
            );
        } else if wanted == Wanted::Stopped {
            return Err(EngineError::not_replicating(self.name(), State::Stopped));
        }
        if wanted == Wanted::Suspended {
            self.tell(Command::Resume, "resume delivery")?;
            self.context.registry.want(self.name(), Wanted::Running)?;
            self.note(Level::Info, "scenario was resumed");
        }
        let target = replica.journal().journaled();
        while !replica.journal().wait_applied(target, Duration::from_millis(100)) {
            let done = replica.journal().applied().captured;
            progress.report("apply", done, Some(target.captured), "captures");
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            if let Some(halted) = replica.halted(began) {
                return Err(halted.into());
            }
        }
        report.captures_applied = target.captured.saturating_sub(before.captured);
        report.lsn = Lsn::captured(replica.journal().applied().captured);
        report.elapsed = began.elapsed();
        Ok(report)
    }
}

/// What a person is told of a rewind of the replica.
pub(super) fn onto_replica(to: ResolvedPoint, report: restore::RewindReport, began: Instant) -> RewindReport {
    RewindReport {
        to,
        before: Some(report.before),
        onto_master: false,
        files_changed: report.files_changed,
        bytes_written: report.bytes_written,
        elapsed: began.elapsed(),
        skipped: Vec::new(),
        skipped_count: 0,
    }
}

pub(super) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
