//! The loop of the agent's thread.

use super::hold::Standing;
use super::status::{State, Status};
use super::write::{SAFE_LOOK, Writing};
use super::{Command, Start};
use crate::capture::core::Core;
use crate::capture::hints::ListHint;
use crate::capture::mounts::{Mounts, below};
use crate::capture::watch::Why;
use crate::capture::{CaptureError, SinkError};
use crate::chain::chain;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use journal::{Edge, GapCause, Lsn, Name, NodeId, RootNo, Timestamp};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names of cookies begin like this.
pub(super) const COOKIE_PREFIX: &str = "barrier-";
/// How often lost roots and directories without a watch are tried again.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// Longest debounce; it grows with the time a round takes.
const DEBOUNCE_MAX: Duration = Duration::from_millis(500);
/// Idle for so long, descriptors of directories are closed.
const IDLE: Duration = Duration::from_secs(1);
/// How soon it is looked again whether the index's memory can be let go of, when nothing else is due.
const SETTLE_LOOK: Duration = Duration::from_millis(200);

pub(super) struct Barrier {
    pub(super) name: String,
    pub(super) cookie: u64,
    pub(super) standing: Standing,
    pub(super) reply: Sender<Result<Lsn, CaptureError>>,
    /// Set when the cookie came out.
    pub(super) epoch: Option<u64>,
}

pub(super) struct Gap {
    pub(super) root: RootNo,
    pub(super) cause: GapCause,
    /// Nothing of this epoch may be left; `None`: it cannot be compared yet.
    pub(super) epoch: Option<u64>,
}

pub(super) struct Synchronization {
    pub(super) epoch: u64,
    pub(super) first: bool,
}

pub(super) struct Runner {
    pub(super) core: Core,
    pub(super) cookies: OwnedFd,
    pub(super) commands: Receiver<Command>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) mounts: Mounts,
    pub(super) barriers: Vec<Barrier>,
    pub(super) barrier_count: u64,
    pub(super) gaps: BTreeMap<u64, Gap>,
    pub(super) synchronization: Option<Synchronization>,
    pub(super) writing: Writing,
    /// The index has given memory back.
    settled: bool,
    pub(super) last_round: Duration,
    pub(super) retry_at: Instant,
    /// When everything was last compared for what could not be attributed.
    pub(super) swept: Instant,
}

enum Next {
    Go,
    Stop,
    /// Nobody holds the agent any more.
    Abandoned,
}

impl Runner {
    pub(super) fn new(
        core: Core,
        cookies: OwnedFd,
        commands: Receiver<Command>,
        wake: Arc<OwnedFd>,
        status: Arc<Mutex<Status>>,
    ) -> Self {
        Runner {
            core,
            cookies,
            commands,
            wake,
            status,
            mounts: Mounts::new(),
            barriers: Vec::new(),
            barrier_count: 0,
            gaps: BTreeMap::new(),
            synchronization: None,
            writing: Writing::default(),
            settled: false,
            last_round: Duration::ZERO,
            retry_at: Instant::now() + RETRY,
            swept: Instant::now(),
        }
    }

    pub(super) fn first_root(&self) -> RootNo {
        self.core.roots.first().map_or(RootNo(0), |root| root.number)
    }

    pub(super) fn all_roots(&self) -> Vec<RootNo> {
        self.core.roots.iter().map(|root| root.number).collect()
    }

    /// Runs until stopped. `Ok(true)`: in good order.
    pub(super) fn run(&mut self, start: Start) -> Result<bool, CaptureError> {
        match start {
            Start::First => self.synchronize(true)?,
            Start::Again => {
                for root in self.all_roots() {
                    self.open_gap(root, GapCause::Stopped)?;
                }
                self.synchronize(false)?;
            }
            Start::Skip { cause } => self.skip_comparing(cause)?,
            Start::Rescan { cause } => {
                self.core.remember_roots()?;
                for root in self.all_roots() {
                    let lost = self.core.root(root).is_none_or(|root| root.lost);
                    if lost {
                        tracing::warn!(root = root.0, "the root is not the directory that was protected");
                    }
                    self.open_gap(root, if lost { GapCause::WatchLost } else { cause })?;
                }
            }
        }
        self.core.unskip_stale()?;
        loop {
            self.core.drain()?;
            self.take_cookies()?;
            match self.take_commands()? {
                Next::Go => {}
                Next::Abandoned => return Ok(false),
                Next::Stop => {
                    self.wind_up()?;
                    return Ok(true);
                }
            }
            if self.core.overflowed {
                self.overflow()?;
            }
            self.check_roots()?;
            self.retry()?;
            let barrier = self.barriers.iter().any(|barrier| barrier.epoch.is_some());
            self.core.hurry = barrier || self.writing.hurries();
            let due = self.due();
            if due.is_some_and(|due| due.is_zero()) {
                self.round()?;
            }
            // Whoever writes without end what is stale must not keep anybody waiting with a root that is in doubt.
            self.check_roots()?;
            self.conclude()?;
            self.write()?;
            self.forget()?;
            self.publish(None);
            if !self.is_busy() {
                self.wait()?;
            }
        }
    }

    fn round(&mut self) -> Result<(), CaptureError> {
        let began = Instant::now();
        self.core.round()?;
        self.last_round = began.elapsed();
        Ok(())
    }

    /// How long until a round is due; `None`: nothing waits.
    fn due(&self) -> Option<Duration> {
        if self.writing.holds() {
            return None;
        }
        let next = self.core.hints.next_due(self.core.hurry)?;
        if self.core.hurry || self.core.hints.can_list() {
            return Some(next.saturating_duration_since(Instant::now()));
        }
        let debounce = self.core.config.debounce.max(self.last_round.min(DEBOUNCE_MAX));
        Some((next + debounce).saturating_duration_since(Instant::now()))
    }

    fn is_busy(&self) -> bool {
        self.core.overflowed
            || self.core.limbo.is_busy()
            || self.writing.is_busy()
            || !self.core.cookies.is_empty()
            || !self.core.doubted.is_empty()
            || self.due().is_some_and(|due| due.is_zero())
    }

    fn wait(&mut self) -> Result<(), CaptureError> {
        let mut timeout = self.retry_at.saturating_duration_since(Instant::now());
        if let Some(due) = self.due() {
            timeout = timeout.min(due);
        }
        if self.writing.holds() {
            timeout = timeout.min(SAFE_LOOK);
        }
        let settling = (self.settled || self.core.index.holds()) && self.due().is_none();
        if settling {
            timeout = timeout.min(SETTLE_LOOK);
        }
        let timespec =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        let watch = self.core.watch.as_fd();
        let mut fds =
            vec![PollFd::from_borrowed_fd(watch, PollFlags::IN), PollFd::new(&*self.wake, PollFlags::IN)];
        if let Some(mounts) = self.mounts.as_fd() {
            fds.push(PollFd::from_borrowed_fd(mounts, PollFlags::PRI));
        }
        match poll(&mut fds, Some(&timespec)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(CaptureError::Watch {
                    operation: "wait for notifications",
                    source: errno.into(),
                });
            }
        }
        let mounted = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        let idle = (timeout >= IDLE || settling) && fds.iter().all(|fd| fd.revents().is_empty());
        drop(fds);
        let mut counter = [0u8; 8];
        let _ = rustix::io::read(&*self.wake, &mut counter);
        if mounted {
            self.mounts_changed()?;
        }
        if idle {
            self.core.directories.clear();
            self.settle();
        }
        Ok(())
    }

    /// After much was captured or compared: gives its memory back, first that of the index, then, the next time, what the
    /// allocator still holds of it.
    pub(super) fn settle(&mut self) {
        if std::mem::take(&mut self.settled) {
            sys::give_back_heap();
        }
        self.settled = self.core.index.settle();
    }

    fn take_commands(&mut self) -> Result<Next, CaptureError> {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Barrier { cookie, standing, reply }) => {
                    self.begin_barrier(cookie, standing, reply)?;
                }
                Ok(Command::Rescan { root, cause }) => {
                    for root in root.map_or_else(|| self.all_roots(), |root| vec![root]) {
                        self.open_gap(root, cause)?;
                    }
                }
                Ok(Command::Write { request, reply }) => self.begin_write(request, reply)?,
                Ok(Command::Synchronize { first }) => self.synchronize(first)?,
                Ok(Command::Scrub(command)) => self.scrub(command)?,
                Ok(Command::Stop) => return Ok(Next::Stop),
                Err(TryRecvError::Empty) => return Ok(Next::Go),
                Err(TryRecvError::Disconnected) => return Ok(Next::Abandoned),
            }
        }
    }

    fn begin_barrier(
        &mut self,
        cookie: u64,
        standing: Standing,
        reply: Sender<Result<Lsn, CaptureError>>,
    ) -> Result<(), CaptureError> {
        self.barrier_count += 1;
        let name = format!("{COOKIE_PREFIX}{}-{}", std::process::id(), self.barrier_count);
        self.write_cookie(&name)?;
        self.barriers.push(Barrier { name, cookie, standing, reply, epoch: None });
        Ok(())
    }

    /// Creates a cookie; the event of it is all that counts.
    pub(super) fn write_cookie(&self, name: &str) -> Result<(), CaptureError> {
        let failed = |errno: rustix::io::Errno| CaptureError::File {
            operation: "create a cookie in",
            path: self.core.config.cookie_directory.clone(),
            source: errno.into(),
        };
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&self.cookies, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        rustix::fs::unlinkat(&self.cookies, name, AtFlags::empty()).map_err(failed)
    }

    fn take_cookies(&mut self) -> Result<(), CaptureError> {
        while let Some(name) = self.core.cookies.pop_front() {
            let barrier = self.barriers.iter_mut().find(|barrier| barrier.name.as_bytes() == name);
            let waiting = barrier.map(|barrier| &mut barrier.epoch);
            let Some(epoch) = waiting.or_else(|| self.writing.awaits(&name)) else { continue };
            // Nobody tells of what happens in these: they are looked at before the barrier stands.
            let hint = ListHint { epoch: self.core.hints.epoch(), recursive: false, compare: true, tries: 0 };
            for directory in &self.core.unwatched {
                self.core.hints.list(*directory, hint);
            }
            self.core.look_at_obstacles();
            *epoch = Some(self.core.hints.end_epoch());
        }
        Ok(())
    }

    /// Forgets removed nodes, but not while a rescan may find them elsewhere. Without undo there is no reviving: the
    /// first synchronization forgets at once.
    fn forget(&mut self) -> Result<(), CaptureError> {
        let first = self.synchronization.as_ref().is_some_and(|synchronization| synchronization.first);
        if !self.core.limbo.is_empty() && (first || !self.core.hints.has_lists()) {
            self.core.forget_removed(first)?;
        }
        Ok(())
    }

    fn mounts_changed(&mut self) -> Result<(), CaptureError> {
        let points = self.mounts.changed();
        self.core.doubted.extend(self.all_roots());
        let roots: Vec<_> = self.core.roots.iter().map(|root| (root.number, root.path.clone())).collect();
        for (root, path) in roots {
            for point in points.iter().filter_map(|point| below(&path, point)) {
                self.mount_changed(root, point)?;
            }
        }
        Ok(())
    }

    /// Something was mounted or unmounted at a path below a root.
    fn mount_changed(&mut self, root: RootNo, path: &[u8]) -> Result<(), CaptureError> {
        let epoch = self.core.hints.epoch();
        let mut at = NodeId::root(root);
        for component in path.split(|byte| *byte == b'/') {
            let Some(name) = Name::new(component) else { return Ok(()) };
            let edge = Edge::new(at, name);
            let child = self.core.index.child(&edge)?;
            self.core.hints.name(edge, Why { name: true, ..Why::default() }, epoch);
            match child {
                Some(child) => at = child,
                None => return Ok(()),
            }
        }
        self.core.hints.list(at, ListHint { epoch, recursive: true, compare: true, tries: 0 });
        Ok(())
    }

    fn publish(&self, failure: Option<String>) {
        let core = &self.core;
        let state = match (&self.synchronization, self.gaps.values().next()) {
            (Some(_), _) => State::Synchronizing,
            (None, Some(gap)) if gap.epoch.is_none() || gap.cause == GapCause::WatchLimit => {
                State::Suspect(gap.cause)
            }
            (None, Some(gap)) => State::Rescanning(gap.cause),
            (None, None) => State::Exact,
        };
        *self.status.lock() = Status {
            state,
            gaps: self.gaps.len(),
            watches: core.watch.len(),
            unwatched: core.unwatched.len(),
            hints: core.hints.len(),
            skipped: core.skip_count,
            files: core.counters.files,
            directories: core.counters.directories,
            bytes: core.counters.bytes,
            last_lsn: core.out.last_lsn,
            failure,
        };
    }

    /// Tells what was noticed until now, so that the index is closed on what the stream says.
    fn wind_up(&mut self) -> Result<(), CaptureError> {
        self.end_session()?;
        self.core.drain()?;
        let epoch = self.core.hints.end_epoch();
        self.core.hurry = true;
        // A few rounds: what still moves then is found by the rescan of the next start.
        for _ in 0..8 {
            if self.core.overflowed || self.core.hints.has_lists() || !self.core.hints.owes(epoch) {
                break;
            }
            self.round()?;
        }
        self.core.out.flush()?;
        self.core.forget_removed(true)?;
        self.core.out.flush()
    }

    /// Closes the index if all went well, and says how it ended.
    pub(super) fn finish(
        mut self,
        result: Result<bool, CaptureError>,
    ) -> Result<(Lsn, Timestamp), CaptureError> {
        let failure = result.as_ref().err().map(|error| chain(error));
        if let Err(CaptureError::Sink(SinkError::Full(_))) = &result {
            self.say_full();
        }
        if let Some(failure) = &failure {
            tracing::error!(%failure, "capture has ended");
        }
        self.publish(failure);
        self.status.lock().state = State::Stopped;
        if !result? {
            return Err(CaptureError::Stopped);
        }
        let (lsn, time) = (self.core.out.last_lsn, self.core.out.last_time);
        self.core.index.close(lsn, time)?;
        Ok((lsn, time))
    }
}
