//! Writing the protected tree, as the agent's loop does it.
//!
//! A request waits like a barrier until everything noticed before it is in the stream, and then until the replica has
//! that on disk. Rounds pause for this last, short while, so that the index is what the replica has when the request
//! is carried out. What turns out to have moved is captured first: the request waits like this again, and goes on.

use super::run::{COOKIE_PREFIX, Runner};
use crate::capture::CaptureError;
use crate::capture::write::{Batch, Session, Turn, WriteRequest};
use crossbeam_channel::Sender;
use journal::Written;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a request is taken up again without having come further; then the plan is left to be made anew.
const TRIES_MAX: u32 = 8;
/// Longest wait for the replica to have on disk what is to be overwritten.
const SAFE_WAIT: Duration = Duration::from_secs(120);
/// How often that is looked at.
pub(super) const SAFE_LOOK: Duration = Duration::from_millis(2);
/// A session nobody goes on with is ended after this time.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Requests that wait for their turn.
const QUEUE_MAX: usize = 4;

pub(super) type WriteReply = Sender<Result<Written, CaptureError>>;

/// The request under way.
struct Current {
    batch: Batch,
    reply: WriteReply,
    cookie: String,
    /// Set when the cookie came out.
    epoch: Option<u64>,
    /// Since when everything before is told.
    told: Option<Instant>,
    tries: u32,
    /// Nothing is left to be written, but the session to be ended.
    done: bool,
    /// What is left was given up.
    moved: bool,
}

/// What is being written.
#[derive(Default)]
pub(super) struct Writing {
    session: Session,
    current: Option<Current>,
    queue: VecDeque<(WriteRequest, WriteReply)>,
    used: Option<Instant>,
}

impl Writing {
    /// Whether captures are to be made without delay.
    pub(super) fn hurries(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.epoch.is_some())
    }

    /// Whether rounds pause.
    pub(super) fn holds(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.told.is_some())
    }

    /// Whether there is something to do now.
    pub(super) fn is_busy(&self) -> bool {
        self.session.has_trash() || self.current.as_ref().is_some_and(|current| current.done)
    }

    /// What is to be set when this cookie has come out, if it is one of these.
    pub(super) fn awaits(&mut self, cookie: &[u8]) -> Option<&mut Option<u64>> {
        let current = self.current.as_mut();
        let current =
            current.filter(|current| current.epoch.is_none() && current.cookie.as_bytes() == cookie);
        current.map(|current| &mut current.epoch)
    }
}

impl Runner {
    pub(super) fn begin_write(
        &mut self,
        request: WriteRequest,
        reply: WriteReply,
    ) -> Result<(), CaptureError> {
        if self.writing.queue.len() >= QUEUE_MAX {
            let _ = reply.send(Err(CaptureError::Busy));
            return Ok(());
        }
        self.writing.queue.push_back((request, reply));
        self.next_write()
    }

    fn next_write(&mut self) -> Result<(), CaptureError> {
        if self.writing.current.is_some() {
            return Ok(());
        }
        let Some((request, reply)) = self.writing.queue.pop_front() else { return Ok(()) };
        if self.writing.session.id != request.session {
            self.end_session()?;
            self.writing.session = Session::new(request.session);
        }
        if self.writing.session.next != request.number {
            // What came before is gone: it was ended for idleness, or by a restart.
            self.end_session()?;
            let _ = reply.send(Ok(Written { moved: true, ..Written::default() }));
            return self.next_write();
        }
        self.writing.session.next += 1;
        let batch = Batch::new(request);
        let cookie = String::new();
        let (epoch, told, tries, done, moved) = (None, None, 0, false, false);
        self.writing.current = Some(Current { batch, reply, cookie, epoch, told, tries, done, moved });
        self.await_captures()
    }

    /// Has the request under way wait until everything noticed until now is told.
    pub(super) fn await_captures(&mut self) -> Result<(), CaptureError> {
        let Some(current) = &mut self.writing.current else { return Ok(()) };
        self.barrier_count += 1;
        let name = format!("{COOKIE_PREFIX}{}-{}", std::process::id(), self.barrier_count);
        current.cookie.clone_from(&name);
        (current.epoch, current.told) = (None, None);
        self.write_cookie(&name)
    }

    /// Goes on with what is being written, if its time has come.
    pub(super) fn write(&mut self) -> Result<(), CaptureError> {
        if self.writing.session.has_trash() && !self.writing.holds() {
            self.writing.session.sweep(&mut self.core)?;
        }
        let Some(current) = &mut self.writing.current else {
            let idle = self.writing.used.is_some_and(|used| used.elapsed() > IDLE_MAX);
            if idle && self.writing.session.is_open() {
                self.end_session()?;
            }
            return Ok(());
        };
        if current.done {
            if self.writing.session.has_trash() {
                return Ok(());
            }
            let moved = current.moved;
            let ended = self.writing.session.end(&mut self.core);
            return self.answer(ended.map(|()| moved));
        }
        let Some(epoch) = current.epoch else { return Ok(()) };
        if self.core.overflowed || (current.told.is_none() && self.core.hints.owes(epoch)) {
            return Ok(());
        }
        if current.told.is_none() {
            self.core.out.flush()?;
            current.told = Some(Instant::now());
        }
        if !self.core.out.is_safe() {
            if current.told.is_some_and(|told| told.elapsed() > SAFE_WAIT) {
                return self.answer(Err(CaptureError::TimedOut(SAFE_WAIT)));
            }
            return Ok(());
        }
        let before = current.batch.progress();
        let turn = self.writing.session.turn(&mut self.core, &mut current.batch)?;
        current.tries = if current.batch.progress() > before { 0 } else { current.tries + 1 };
        current.moved = matches!(turn, Turn::Again) && current.tries >= TRIES_MAX;
        if current.moved || current.batch.last && matches!(turn, Turn::Done) {
            current.done = true;
            (current.told, current.epoch) = (None, None);
            return Ok(());
        }
        match turn {
            Turn::Done => self.answer(Ok(false)),
            Turn::Again => self.await_captures(),
            Turn::Failed(error) => {
                self.end_session()?;
                self.answer(Err(error))
            }
        }
    }

    /// Answers the request under way and takes up the next one.
    fn answer(&mut self, result: Result<bool, CaptureError>) -> Result<(), CaptureError> {
        self.writing.used = Some(Instant::now());
        let Some(Current { batch, reply, .. }) = self.writing.current.take() else { return Ok(()) };
        // Whoever asked may have given up.
        let _ = reply.send(result.map(|moved| batch.into_written(moved)));
        self.next_write()
    }

    /// Ends a session nobody goes on with. What cannot be done is said; capture goes on.
    pub(super) fn end_session(&mut self) -> Result<(), CaptureError> {
        if self.writing.session.is_open()
            && let Err(error) = self.writing.session.end(&mut self.core)
        {
            tracing::warn!(%error, "what was written is not known to be on disk");
        }
        Ok(())
    }
}
