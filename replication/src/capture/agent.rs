//! The agent: a thread that owns index, watch and sink, and turns hints into captures until it is stopped.
//!
//! Its state is one of: everything below the roots is as the stream says (exact), something may have been missed and is
//! being compared (rescanning), or cannot be compared yet (suspect). Gaps open and close by markers in the stream. A
//! gap is closed, a synchronization complete, and a barrier answered by the same test: no hint of its epoch or an
//! earlier one is left.

mod gaps;
mod hold;
mod run;
mod scrub;
mod skip;
mod status;
mod write;

pub use hold::Hold;
pub use status::{State, Status};

use super::core::Core;
use super::draft::Out;
use super::index::Index;
use super::watch::Watch;
use super::write::WriteRequest;
use super::{CaptureConfig, CaptureError, CaptureSink};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hold::Standing;
use journal::{Class, GapCause, Lsn, RootNo, Timestamp, Written};
use parking_lot::Mutex;
use run::Runner;
use rustix::event::EventfdFlags;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// How an agent begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Synchronize an empty replica.
    First,
    /// Synchronize a replica that holds something: everything is compared, and recorded with undo.
    Again,
    /// Go on with an index that is what the stream says: a gap is opened, everything compared, the gap closed.
    Rescan {
        /// Why something may have been missed.
        cause: GapCause,
    },
    /// Go on without comparing anything: somebody vouches that nothing differs. A gap is opened and stays open.
    Skip {
        /// Why something may have been missed.
        cause: GapCause,
    },
}

enum Command {
    Barrier { cookie: u64, standing: Standing, reply: Sender<Result<Lsn, CaptureError>> },
    Write { request: WriteRequest, reply: Sender<Result<Written, CaptureError>> },
    Rescan { root: Option<RootNo>, cause: GapCause },
    Synchronize { first: bool },
    Scrub(scrub::ScrubCommand),
    Stop,
}

/// Commands that wait for the agent: each is a caller that waits as well.
const COMMANDS_MAX: usize = 1024;

/// A running capture agent. Dropping it stops the thread and leaves the index dirty; [`Agent::stop`] closes it.
pub struct Agent {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    status: Arc<Mutex<Status>>,
    thread: Option<JoinHandle<Result<(Lsn, Timestamp), CaptureError>>>,
}

impl Agent {
    /// Starts an agent on its own thread and returns when it watches its roots.
    ///
    /// # Errors
    /// `File` if a root or the cookie directory cannot be opened, `Watch` if the kernel gives no notifications,
    /// `Exclude` for a malformed glob, `Index` if the index cannot be used.
    pub fn spawn(
        config: CaptureConfig,
        index: Index,
        sink: Box<dyn CaptureSink>,
        start: Start,
    ) -> Result<Self, CaptureError> {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wake =
            Arc::new(wake.map_err(|errno| CaptureError::Watch {
                operation: "create an eventfd",
                source: errno.into(),
            })?);
        let (commands, receiver) = bounded(COMMANDS_MAX);
        let (ready, opened) = bounded(1);
        let status = Arc::new(Mutex::new(Status::default()));
        let (thread_wake, thread_status) = (Arc::clone(&wake), Arc::clone(&status));
        let body = move || match open(config, index, sink) {
            Ok((core, cookies)) => {
                // The caller may have gone away; then nobody sends commands either.
                let _ = ready.send(Ok(()));
                let mut runner =
                    Runner::new(core, cookies, receiver, thread_wake, Arc::clone(&thread_status));
                let result = runner.run(start);
                runner.finish(result)
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                Err(CaptureError::Stopped)
            }
        };
        let thread = std::thread::Builder::new().name("capture".to_owned()).spawn(body);
        let thread =
            thread.map_err(|source| CaptureError::Watch { operation: "start the capture thread", source })?;
        opened.recv().unwrap_or(Err(CaptureError::Stopped))?;
        Ok(Agent { commands, wake, status, thread: Some(thread) })
    }

    fn send(&self, command: Command) -> Result<(), CaptureError> {
        self.commands.send(command).map_err(|_| CaptureError::Stopped)?;
        // Full means that it is awake.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        Ok(())
    }

    /// Sees to it that everything noticed before this call is in the stream, marks that, and returns the LSN of the
    /// mark. `class` is what the caller vouches for.
    ///
    /// # Errors
    /// `TimedOut`, or `Stopped` if the agent ends before.
    pub fn barrier(&self, cookie: u64, class: Class, timeout: Duration) -> Result<Lsn, CaptureError> {
        let answer = self.begin_barrier(cookie, class)?;
        match answer.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(CaptureError::TimedOut(timeout)),
            Err(RecvTimeoutError::Disconnected) => Err(CaptureError::Stopped),
        }
    }

    /// As [`Agent::barrier`], without waiting: the answer comes through the channel, which closes if the agent ends.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn begin_barrier(
        &self,
        cookie: u64,
        class: Class,
    ) -> Result<Receiver<Result<Lsn, CaptureError>>, CaptureError> {
        self.begin(cookie, Standing::Class(class))
    }

    /// As [`Agent::begin_barrier`], for an application that is held still: of class application if it still is when
    /// the barrier stands and nothing may have been missed, which `hold` tells then; else fuzzy.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn begin_held_barrier(
        &self,
        cookie: u64,
        hold: &Hold,
    ) -> Result<Receiver<Result<Lsn, CaptureError>>, CaptureError> {
        self.begin(cookie, Standing::Held(hold.clone()))
    }

    fn begin(
        &self,
        cookie: u64,
        standing: Standing,
    ) -> Result<Receiver<Result<Lsn, CaptureError>>, CaptureError> {
        let (reply, answer) = bounded(1);
        self.send(Command::Barrier { cookie, standing, reply })?;
        Ok(answer)
    }

    /// Changes the protected tree: see [`journal::master`]. Whatever is overwritten or removed is in the stream, and at
    /// the replica, before. The answer comes through the channel, which closes if the agent ends.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn begin_write(
        &self,
        request: WriteRequest,
    ) -> Result<Receiver<Result<Written, CaptureError>>, CaptureError> {
        let (reply, answer) = bounded(1);
        self.send(Command::Write { request, reply })?;
        Ok(answer)
    }

    /// Has one root, or all, compared with the index, within a gap.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn rescan(&self, root: Option<RootNo>, cause: GapCause) -> Result<(), CaptureError> {
        self.send(Command::Rescan { root, cause })
    }

    /// Synchronizes anew: everything is compared. `first`: no rewind point exists, no undo is wanted.
    ///
    /// # Errors
    /// `Stopped` if the agent has ended.
    pub fn synchronize(&self, first: bool) -> Result<(), CaptureError> {
        self.send(Command::Synchronize { first })
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Stops it: what was noticed is told, then the index is closed in good order. Returns the LSN it is closed with.
    ///
    /// # Errors
    /// What made the agent end before; the index is dirty then.
    pub fn stop(mut self) -> Result<Lsn, CaptureError> {
        // If it has ended already, the thread says why.
        let _ = self.send(Command::Stop);
        let Some(thread) = self.thread.take() else { return Err(CaptureError::Stopped) };
        thread.join().unwrap_or(Err(CaptureError::Stopped)).map(|(lsn, _)| lsn)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Closing the channel ends the loop without closing the index.
            let (closed, _) = bounded(0);
            drop(std::mem::replace(&mut self.commands, closed));
            let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
            let _ = thread.join();
        }
    }
}

fn open(
    config: CaptureConfig,
    index: Index,
    sink: Box<dyn CaptureSink>,
) -> Result<(Core, OwnedFd), CaptureError> {
    let cookies = open_cookies(&config.cookie_directory)?;
    let watch = Watch::new(cookies.as_fd(), config.watches_max)
        .map_err(|errno| CaptureError::Watch { operation: "start inotify", source: errno.into() })?;
    let out = Out::new(sink, config.time_floor);
    Ok((Core::new(config, index, watch, out)?, cookies))
}

/// Creates the cookie directory and empties it of what a killed agent left.
fn open_cookies(path: &Path) -> Result<OwnedFd, CaptureError> {
    use std::os::unix::fs::DirBuilderExt;
    let failed =
        |source| CaptureError::File { operation: "open the cookie directory", path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(run::COOKIE_PREFIX.as_bytes()) {
            std::fs::remove_file(entry.path()).map_err(failed)?;
        }
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))
}
