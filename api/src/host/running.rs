//! Run, stop, suspend, flush: what needs the master.

use super::error;
use super::scene::{ATTACH_WAIT, Scene};
use crate::definition::Definition;
use crate::engine::{
    EngineError, EngineResult, Finding, FlushRequest, Flushed, Interrupt, Level, Progress, RunOptions,
    RunReport, Skipped, Stage, State, Status,
};
use crate::records::Wanted;
use journal::controls::Synchronized;
use journal::{Class, Lsn};
use replication::stream::{LinkError, MasterHandle, Ticket};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;
use wire::stream::{AgentState, Command, Outcome, SyncMode as WireMode};

/// How often a long call looks at progress and at whether it is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a barrier behind a synchronization may take before it is looked whether it is still wanted.
const BARRIER_WAIT: Duration = Duration::from_secs(10);
/// Paths of skipped objects in a report.
const SKIPPED_MAX: usize = 200;

struct Starting<'s>(&'s Scene);

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.set_starting(false);
    }
}

/// The path of something below a root, on the master.
pub(super) fn master_path(definition: &Definition, root: journal::RootNo, path: &[u8]) -> PathBuf {
    let base = definition.roots.get(usize::from(root.0)).map(|root| root.master.clone()).unwrap_or_default();
    if path.is_empty() { base } else { base.join(OsStr::from_bytes(path)) }
}

impl Scene {
    /// See [`crate::engine::Engine::run`].
    pub(super) fn run(
        self: &Arc<Self>,
        options: &RunOptions,
        progress: &dyn Progress,
    ) -> EngineResult<RunReport> {
        let _turning = self.turning.lock();
        let began = Instant::now();
        if self.wanted() != Wanted::Stopped
            && matches!(self.state(), State::Replicating | State::Suspended | State::Detached)
        {
            return Ok(RunReport {
                ran_already: true,
                lsn: self.replica()?.journal().applied(),
                ..RunReport::default()
            });
        }
        if !self.is_local(&self.definition()) {
            // It may be about to call, for a scenario that was made just now.
            self.master(true)?;
        }
        let findings = self.verify()?;
        if let Some(worst) = findings.iter().find(|finding| finding.level == Level::Error) {
            let message = format!("scenario \"{}\" cannot run: {}", self.name(), worst.text);
            return Err(EngineError::new(&codes::PREFLIGHT_FAILED, message));
        }
        self.set_starting(true);
        let _starting = Starting(self);
        let left_out = self.prepare_replica(options, progress)?;
        let crossed = self.crossed.now();
        let replica = self.replica()?;
        if replica.status().detached.is_some() {
            let message = format!("scenario \"{}\" is detached: resume it first", self.name());
            return Err(EngineError::new(&codes::NOT_REPLICATING, message));
        }
        self.connect()?;
        let master = self.master(true)?;
        let command = Command::Run {
            mode: match options.sync {
                crate::engine::SyncMode::File => WireMode::File,
                crate::engine::SyncMode::Block => WireMode::Block,
            },
            ignore_same: options.ignore_same,
            skip: options.skip_sync,
            definition: super::link::to_wire(self.id(), &self.definition()),
            anew: self.doubts_index(&replica)?,
        };
        self.note(Level::Info, "synchronization starts");
        // From here on a crash leads to a restart that goes on.
        self.context.registry.want(self.name(), Wanted::Running)?;
        if let Err(error) = self.wait_run(master, &command, progress) {
            self.give_up_run(progress)?;
            return Err(error);
        }
        let lsn = self.settle(&replica, progress)?;
        self.synchronized_now();
        let report = self.run_report(lsn, began.elapsed(), crossed, left_out);
        self.note(
            Level::Info,
            &format!("All modifications during synchronization are replicated (LSN {lsn})"),
        );
        if let Some(text) = self.small_spool() {
            self.note(Level::Warning, &text);
        }
        Ok(report)
    }

    /// A run has failed: the scenario is stopped again, on the master too.
    fn give_up_run(&self, progress: &dyn Progress) -> EngineResult<()> {
        // A daemon that stops goes on with it after its next start; everything else ends it.
        if progress.interrupted() != Some(Interrupt::Shutdown) {
            self.context.registry.want(self.name(), Wanted::Stopped)?;
            if let Ok(ticket) = self.master(false).and_then(|master| {
                master.send(Command::Stop).map_err(|error| self.unanswered("stop capture", &error))
            }) {
                // It may have ended by itself; if it cannot be told now, the next connection tells it.
                drop(ticket.wait(Duration::from_secs(30)));
            }
        }
        Ok(())
    }

    /// Has the master start, and waits until it has synchronized. A connection that is cut meanwhile ends nothing: the
    /// master goes on, and is asked again when it is back.
    fn wait_run(
        &self,
        mut master: Arc<dyn MasterHandle>,
        command: &Command,
        progress: &dyn Progress,
    ) -> EngineResult<()> {
        let mut asked: Option<Ticket> = None;
        loop {
            let answer = match &asked {
                Some(ticket) => ticket.wait(LOOK_EVERY).map(drop),
                None => match master.send(command.clone()) {
                    Ok(ticket) => {
                        asked = Some(ticket);
                        Err(LinkError::TimedOut)
                    }
                    Err(error) => Err(error),
                },
            };
            match answer {
                Ok(()) => return Ok(()),
                Err(LinkError::TimedOut) => {}
                Err(LinkError::Disconnected) => {
                    asked = None;
                    std::thread::sleep(LOOK_EVERY);
                    if let Ok(again) = self.master(false) {
                        master = again;
                    } else if self.is_refused() {
                        return Err(self.unanswered("start capture", &LinkError::Disconnected));
                    }
                }
                Err(error) => return Err(self.unanswered("start capture", &error)),
            }
            if let Some(status) = self.master_status() {
                let total = (status.files.1 != 0).then_some(status.files.1);
                progress.report("synchronize", status.files.0, total, "files");
            }
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
        }
    }

    /// An LSN behind all that the synchronization has told: part of it may still be spooled on the master. As before, a
    /// connection that is cut ends nothing.
    fn told(&self, progress: &dyn Progress) -> EngineResult<Lsn> {
        loop {
            let error = match self.barrier(BARRIER_WAIT) {
                Ok(flushed) => return Ok(flushed.lsn),
                Err(error) => error,
            };
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            let passes = self.was_cut(&error) || error.code() == &codes::TIMED_OUT;
            if !passes {
                return Err(error);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Waits until what the synchronization sent is in the tree.
    fn settle(
        &self,
        replica: &Arc<replication::replica::Replica<replication::os_tree::OsTree>>,
        progress: &dyn Progress,
    ) -> EngineResult<Lsn> {
        let journal = replica.journal();
        let target = self.told(progress)?;
        loop {
            if journal.synchronized() == Synchronized::Completed && journal.applied() >= target {
                return Ok(target);
            }
            let done = journal.applied().captured;
            progress.report("apply", done, Some(target.captured), "captures");
            if let Some(interrupt) = progress.interrupted() {
                return Err(EngineError::interrupted(interrupt));
            }
            if let Some(replication::replica::Halt::Stopped(cause)) = replica.status().halt {
                return Err(EngineError::new(&codes::DRIFT, format!("apply has stopped: {cause}")));
            }
            journal.wait_applied(target, LOOK_EVERY);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `before`: what had crossed when the run began. `left_out`: of a tree that was adopted.
    fn run_report(
        &self,
        lsn: Lsn,
        elapsed: Duration,
        before: (u64, u64),
        left_out: Vec<Skipped>,
    ) -> RunReport {
        let counts = self.replica().map(|replica| replica.journal().with_controls(|c| c.synchronized_counts));
        let (files, directories, bytes) = counts.unwrap_or_default();
        let (mut skipped, mut skipped_count) = self.skipped();
        skipped_count += left_out.len() as u64;
        skipped.extend(left_out);
        skipped.truncate(SKIPPED_MAX);
        let now = self.crossed.now();
        RunReport {
            ran_already: false,
            synchronized: true,
            files,
            directories,
            bytes,
            bytes_sent: now.0.saturating_sub(before.0),
            removed: now.1.saturating_sub(before.1),
            lsn,
            elapsed,
            skipped,
            skipped_count,
        }
    }

    fn skipped(&self) -> (Vec<Skipped>, u64) {
        let Ok(replica) = self.replica() else { return (Vec::new(), 0) };
        let controls = replica.journal().controls();
        let definition = self.definition();
        let list = controls.skipped.iter().take(SKIPPED_MAX).map(|((root, path), (kind, errno))| Skipped {
            path: master_path(&definition, *root, path),
            what: kind.word(),
            error: std::io::Error::from_raw_os_error(*errno).to_string(),
        });
        (list.collect(), controls.skipped.len() as u64)
    }

    pub(super) fn unanswered(&self, doing: &str, link: &LinkError) -> EngineError {
        error::link(&format!("{doing} of scenario \"{}\"", self.name()), &codes::INTERNAL, link)
    }

    /// See [`crate::engine::Engine::stop`].
    pub(super) fn stop(self: &Arc<Self>) -> EngineResult<Status> {
        let _turning = self.turning.lock();
        let running = self.master_status().is_some_and(|status| status.agent != AgentState::Stopped);
        if self.wanted() == Wanted::Stopped && !running {
            return Ok(self.status(Wanted::Stopped));
        }
        if let Ok(master) = self.master(false) {
            let stopped = master.send(Command::Stop).and_then(|ticket| ticket.wait(Duration::from_secs(60)));
            if let Err(error) = stopped {
                return Err(error::link("stop capture", &codes::CANNOT_STOP, &error));
            }
        }
        self.context.registry.want(self.name(), Wanted::Stopped)?;
        self.note(Level::Info, "scenario was stopped");
        Ok(self.status(Wanted::Stopped))
    }

    /// See [`crate::engine::Engine::suspend`].
    pub(super) fn suspend(self: &Arc<Self>) -> EngineResult<Status> {
        let _turning = self.turning.lock();
        if self.wanted() == Wanted::Suspended {
            return Ok(self.status(Wanted::Suspended));
        }
        let state = self.state();
        if state != State::Replicating && state != State::Detached {
            let message =
                format!("scenario \"{}\" cannot be suspended (state: {})", self.name(), state.word());
            return Err(EngineError::new(&codes::CANNOT_SUSPEND, message));
        }
        self.tell(Command::Suspend, "suspend delivery")?;
        self.context.registry.want(self.name(), Wanted::Suspended)?;
        self.note(Level::Info, "scenario was suspended");
        Ok(self.status(Wanted::Suspended))
    }

    pub(super) fn tell(&self, command: Command, doing: &str) -> EngineResult<Outcome> {
        let ticket = self.master(true)?.send(command).map_err(|error| self.unanswered(doing, &error))?;
        ticket.wait(Duration::from_secs(60)).map_err(|error| self.unanswered(doing, &error))
    }

    /// A barrier through the stream, as far as it is journaled.
    pub(super) fn barrier(&self, timeout: Duration) -> EngineResult<Flushed> {
        let give_up = Instant::now() + timeout;
        let cookie = random_cookie();
        let ticket = self
            .master(true)?
            .send(Command::Barrier { cookie, class: Class::Fuzzy })
            .map_err(|error| self.unanswered("flush", &error))?;
        let outcome = ticket
            .wait(give_up.saturating_duration_since(Instant::now()))
            .map_err(|error| self.unanswered("flush", &error))?;
        match outcome {
            Outcome::Barrier { lsn, class, time } => Ok(Flushed { lsn, time, class, held: None }),
            _ => Err(EngineError::new(&codes::INTERNAL, "the master answered something else to a barrier")),
        }
    }

    /// Waits while a synchronization, or a comparison after a restart, runs, and for a master that is about to call
    /// again: a barrier stands behind those. Every other state refuses.
    fn wait_replicating(&self, give_up: Instant) -> EngineResult<()> {
        let calls_until = give_up.min(Instant::now() + ATTACH_WAIT);
        loop {
            let (state, awaited) = self.state_awaiting();
            let until = match state {
                State::Replicating => return Ok(()),
                State::Synchronizing => give_up,
                _ if awaited => calls_until,
                _ => return Err(EngineError::not_replicating(self.name(), state)),
            };
            if Instant::now() >= until {
                return Err(EngineError::not_replicating(self.name(), state));
            }
            std::thread::sleep(LOOK_EVERY / 10);
        }
    }

    /// See [`crate::engine::Engine::flush`].
    pub(super) fn flush(&self, request: &FlushRequest) -> EngineResult<Flushed> {
        let FlushRequest { stage, consistent, timeout } = *request;
        let give_up = Instant::now() + timeout;
        self.wait_replicating(give_up)?;
        let left = give_up.saturating_duration_since(Instant::now());
        let flushed = if consistent { self.consistent_point(left) } else { self.barrier(left) }?;
        let replica = self.replica()?;
        let left = give_up.saturating_duration_since(Instant::now());
        let reached = match stage {
            Stage::Captured => true,
            Stage::Journaled => replica.journal().wait_journaled(flushed.lsn, left),
            Stage::Applied => self.wait_applied(&replica, flushed.lsn, give_up)?,
        };
        if reached {
            return Ok(flushed);
        }
        let message =
            format!("flush of scenario \"{}\" reached LSN {} only as captured", self.name(), flushed.lsn);
        let error = EngineError::new(&codes::TIMED_OUT, message);
        Err(match self.status(self.wanted()).cause {
            Some(cause) => error.because(cause),
            None => error,
        })
    }

    /// Whether an LSN is applied in time.
    ///
    /// # Errors
    /// `NOT_REPLICATING` as soon as apply has stopped for good.
    fn wait_applied(
        &self,
        replica: &replication::replica::Replica<replication::os_tree::OsTree>,
        lsn: Lsn,
        give_up: Instant,
    ) -> EngineResult<bool> {
        while !replica.journal().wait_applied(lsn, LOOK_EVERY) {
            if let Some(replication::replica::Halt::Stopped(cause)) = replica.status().halt {
                return Err(EngineError::not_replicating(self.name(), State::Problem).because(cause));
            }
            if Instant::now() >= give_up {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// See [`crate::engine::Engine::verify`].
    pub(super) fn verify(self: &Arc<Self>) -> EngineResult<Vec<Finding>> {
        let definition = self.definition();
        let mut findings = Vec::new();
        let error = |level, side, check, text: String, path: Option<PathBuf>| Finding {
            level,
            side,
            check,
            text,
            path,
        };
        if self.is_local(&definition) {
            for root in &definition.roots {
                if let Err(cause) = std::fs::read_dir(&root.master) {
                    let text = format!("root {} cannot be read: {cause}", root.master.display());
                    findings.push(error(Level::Error, "master", "root", text, Some(root.master.clone())));
                }
            }
        }
        if !self.is_local(&definition) {
            findings.extend(self.verify_remote());
        }
        if let Some(text) = self.small_spool() {
            findings.push(error(Level::Warning, "master", "spool", text, None));
        }
        let privileged = rustix::process::geteuid().is_root();
        if !privileged {
            let text =
                "the daemon is not root: owners and devices are journaled but cannot be set on the replica";
            findings.push(error(Level::Warning, "replica", "privilege", text.to_owned(), None));
        }
        for root in &definition.roots {
            let Some(replica) = &root.replica else { continue };
            let parent = replica.parent().unwrap_or(replica);
            let open = std::fs::metadata(parent).is_ok_and(|meta| {
                use std::os::unix::fs::MetadataExt;
                meta.mode() & 0o077 != 0
            });
            if open {
                let text = format!(
                    "the directory above replica root {} is open to others; make it mode 0700",
                    replica.display()
                );
                findings.push(error(Level::Warning, "replica", "privacy", text, Some(parent.to_owned())));
            }
        }
        if let Err(cause) = self.replica() {
            findings.push(error(
                Level::Error,
                "replica",
                "journal",
                cause.to_failure().message.to_string(),
                None,
            ));
        }
        Ok(findings)
    }

    /// Whether the replica tree is what was applied: a patrol, at full speed.
    pub(super) fn verify_tree(&self) -> EngineResult<Vec<Finding>> {
        let patrolled = self.replica()?.patrol(0)?;
        let definition = self.definition();
        let finding = |(root, path, what): (journal::RootNo, Vec<u8>, &'static str)| {
            let base = definition.roots.get(usize::from(root.0)).and_then(|root| root.replica.clone());
            let path = base.unwrap_or_default().join(OsStr::from_bytes(&path));
            let text = format!("the replica tree was changed by somebody else: {what}");
            Finding { level: Level::Warning, side: "replica", check: "drift", text, path: Some(path) }
        };
        Ok(patrolled.findings.into_iter().map(finding).collect())
    }

    /// What the master says of its side, if it is there.
    fn verify_remote(&self) -> Vec<Finding> {
        let finding = |level, check, text| Finding { level, side: "master", check, text, path: None };
        let asked = self.master(false).and_then(|_| self.tell(Command::Verify, "verify the master"));
        match asked {
            Ok(Outcome::Verified(findings)) => {
                let level = |error| if error { Level::Error } else { Level::Warning };
                findings.into_iter().map(|found| finding(level(found.error), "master", found.text)).collect()
            }
            Ok(_) => Vec::new(),
            Err(error) => vec![finding(Level::Error, "connection", error.to_failure().message.to_string())],
        }
    }
}

/// A number nobody else uses at this time.
pub(crate) fn random_cookie() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
