//! How capture starts, and starts again when it ended by itself.
//!
//! A thread stays with each agent it has started. When the agent ends without having been stopped, its index is ahead
//! of the stream or unknown, so the next agent gets one that is rebuilt, and compares everything within a gap: the gap
//! of a full spool, or of an agent that was down. Meanwhile the state says what is wrong. Between two attempts there is
//! a pause, which grows as long as agents end before everything was compared, so that a lasting fault costs little.
//!
//! The same happens to an agent in good health whose first synchronization is under way when the master meets another
//! incarnation of the replica: bytes that were acknowledged may be gone with the one before. The namespace says which,
//! and whether what was in the spool has completed the synchronization all the same.
//!
//! So does it when the journal has gone on without this master ([`crate::stream`]): the index is then right about a
//! history that nobody has, and is rebuilt however it was closed.
//!
//! A stop in between wins: every stop is counted, and whoever started something for an earlier count gives up.

use super::pages::Pages;
use super::sink::Sink;
use super::{LOOK_EVERY, Master, MasterError, NAMESPACE_WAIT, Phase, chain, failed, roots, spawn};
use crate::capture::{
    Agent, CaptureConfig, CaptureError, Index, IndexState, SinkError, Start, State as AgentPhase,
};
use crate::stream::{LinkError, Replier};
use journal::{GapCause, NodeId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use wire::stream::{Definition, Failed, Outcome, Synchronization};

/// Pause before a start that failed for what may pass is tried again ...
const START_AGAIN: Duration = Duration::from_secs(1);
/// ... and the longest pause after capture itself has failed again and again.
const START_AGAIN_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether the agent lives.
const KEEP_EVERY: Duration = Duration::from_millis(100);

/// How a start came about.
pub(super) struct Starting {
    /// Synchronize, do not only go on.
    pub again: bool,
    /// Start without comparing anything.
    pub skip: bool,
    /// The index is made anew, however it was closed: the replica is not what it says.
    pub anew: bool,
    pub ignore_same: bool,
    /// Files that differ are sent whole.
    pub whole_files: bool,
    pub cause: GapCause,
    /// How many stops there had been when it was asked for.
    pub stops: u64,
}

impl Master {
    /// Starts capture, and again when it ends by itself. `reply` hears of the first attempt.
    pub(super) fn run(
        self: &Arc<Self>,
        definition: Definition,
        mut options: Starting,
        mut reply: Option<Replier>,
    ) {
        let master = Arc::clone(self);
        spawn("run", move || {
            let mut pause = START_AGAIN;
            loop {
                match master.start_agent(&definition, &options) {
                    Ok((agent, ours)) => {
                        match master.wait_synchronized(&agent, options.stops) {
                            Some(outcome) => {
                                options.again &= outcome != Outcome::Done;
                                if let Some(reply) = reply.take() {
                                    reply.reply(outcome);
                                }
                            }
                            None if ours => {}
                            // Whoever stays with it starts another.
                            None => {
                                std::thread::sleep(LOOK_EVERY);
                                continue;
                            }
                        }
                        // Else somebody stays with it already.
                        let Some(settled) = ours.then(|| master.stay(&agent)).flatten() else { return };
                        pause = if settled { START_AGAIN } else { (2 * pause).min(START_AGAIN_MAX) };
                        let Some(cause) = master.bury(&agent, options.stops) else { return };
                        options.cause = cause.unwrap_or(options.cause);
                        // Nobody asked for this one: it compares, and sends as little as it can.
                        (options.skip, options.whole_files) = (false, false);
                        if cause.is_none() {
                            continue;
                        }
                    }
                    // Whoever asked hears why, and asks again.
                    Err(error) if reply.is_some() || matches!(error, MasterError::Stopped) => {
                        if let Some(reply) = reply.take() {
                            reply.reply(failed("RW0463", &error));
                        }
                        return;
                    }
                    Err(MasterError::Capture(_)) => pause = (2 * pause).min(START_AGAIN_MAX),
                    Err(_) => pause = START_AGAIN,
                }
                if !master.pause(options.stops, pause) {
                    return;
                }
            }
        });
    }

    /// Starts the agent; returns when it watches. Whether it was started here.
    fn start_agent(
        &self,
        definition: &Definition,
        options: &Starting,
    ) -> Result<(Weak<Agent>, bool), MasterError> {
        let _turning = self.turning.lock();
        {
            let mut inner = self.inner.lock();
            if let Some(agent) = &inner.agent {
                return Ok((Arc::downgrade(agent), false));
            }
            if inner.shut || inner.stops != options.stops {
                return Err(MasterError::Stopped);
            }
            inner.phase = Phase::Starting;
        }
        let started = self.start_it(definition, options);
        let mut inner = self.inner.lock();
        match started {
            Ok(agent) => {
                let agent = Arc::new(agent);
                let weak = Arc::downgrade(&agent);
                inner.phase = Phase::Running;
                inner.down = None;
                inner.agent = Some(agent);
                Ok((weak, true))
            }
            Err(error) => {
                // Why capture went down is what a person must know; that it is not back yet comes second.
                inner.phase = Phase::Problem(match inner.down {
                    Some(down) => format!("{down}; capture is off: {}", chain(&error)),
                    None => chain(&error),
                });
                drop(inner);
                if self.inner.lock().idle.is_none()
                    && let Ok(reopened) = Index::open(&self.paths.index)
                {
                    self.inner.lock().idle = Some(reopened);
                }
                Err(error)
            }
        }
    }

    fn start_it(&self, definition: &Definition, options: &Starting) -> Result<Agent, MasterError> {
        let (welcome, replica) = {
            let mut inner = self.inner.lock();
            let (Some(welcome), Some(replica)) = (inner.welcome.clone(), inner.replica.clone()) else {
                return Err(MasterError::NotConnected);
            };
            (inner.incarnation, inner.doubted) = (Some(welcome.incarnation), false);
            (welcome, replica)
        };
        let (mut index, state) = match self.inner.lock().idle.take() {
            Some(idle) => idle,
            None => Index::open(&self.paths.index)?,
        };
        let mut first = matches!(welcome.synchronization, Synchronization::Never | Synchronization::Begun);
        let history = self.spool.history();
        let captured = self.spool.status().captured.unwrap_or(welcome.journaled);
        let diverged = self.inner.lock().diverged || options.anew;
        let mut time = welcome.journaled_time;
        if let IndexState::Clean { time: then, .. } = state {
            time = time.max(then);
        }
        match state {
            IndexState::Clean { lsn, .. } if lsn == captured && !first && !diverged => {}
            _ => {
                self.wait_delivered(options.stops)?;
                let pages = Pages::new(replica, captured);
                // The welcome may be older than the last agent.
                let next_node = NodeId(welcome.next_node.0.max(self.next_node.load(Ordering::SeqCst)));
                let (rebuilt, synchronized) = pages.rebuild(index, next_node)?;
                index = rebuilt;
                if synchronized && first {
                    // What was still in the spool has completed it.
                    first = false;
                    self.is_synchronized();
                }
            }
        }
        self.inner.lock().diverged = false;
        let again = options.again || welcome.synchronization == Synchronization::Again;
        let start = match (first, again) {
            (true, _) => Start::First,
            (false, true) => Start::Again,
            (false, false) if options.skip => Start::Skip { cause: options.cause },
            (false, false) => Start::Rescan { cause: options.cause },
        };
        let config = CaptureConfig {
            ignore_same: options.ignore_same,
            // What a first synchronization lost with a restart of the replica is known to be there again when all of it
            // has come again: nothing else is journaled of it.
            comparing: (!first).then(|| self.comparing(captured, options)),
            time_floor: time,
            origins: Some(self.paths.origins.clone()),
            ..CaptureConfig::new(roots(definition), self.paths.cookies.clone())
        };
        let sink = Sink { spool: Arc::clone(&self.spool), history, next_node: Arc::clone(&self.next_node) };
        Ok(Agent::spawn(config, index, Box::new(sink), start)?)
    }

    /// The replica gives its namespace as of what it has journaled, so what is still spooled must get there first.
    fn wait_delivered(&self, stops: u64) -> Result<(), MasterError> {
        let give_up = Instant::now() + NAMESPACE_WAIT;
        while !self.spool.wait_empty(10 * LOOK_EVERY) {
            {
                let inner = self.inner.lock();
                if inner.shut || inner.stops != stops {
                    return Err(MasterError::Stopped);
                }
                if inner.replica.is_none() {
                    return Err(MasterError::NotConnected);
                }
            }
            if self.spool.status().suspended {
                return Err(MasterError::Suspended);
            }
            if Instant::now() > give_up {
                return Err(MasterError::Namespace(LinkError::TimedOut));
            }
        }
        Ok(())
    }

    /// Waits before another attempt to start. Whether there should be one: else the next connection makes it.
    fn pause(&self, stops: u64, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            {
                let inner = self.inner.lock();
                if inner.replica.is_none() || inner.agent.is_some() || inner.shut || inner.stops != stops {
                    return false;
                }
            }
            if Instant::now() >= until {
                return true;
            }
            std::thread::sleep(KEEP_EVERY);
        }
    }

    fn is_synchronized(&self) {
        let mut inner = self.inner.lock();
        inner.synchronized = true;
        if let Some(welcome) = &mut inner.welcome {
            welcome.synchronization = Synchronization::Completed;
        }
    }

    /// Waits until a synchronization under way has completed. `None` if it has to be begun again.
    fn wait_synchronized(&self, agent: &Weak<Agent>, stops: u64) -> Option<Outcome> {
        loop {
            // Held no longer than a look: stopping needs the agent alone.
            let status = agent.upgrade().map(|agent| agent.status());
            {
                let inner = self.inner.lock();
                let wanted = inner.stops == stops && !inner.shut;
                if wanted && (inner.doubted || status.is_none()) {
                    return None;
                }
            }
            let Some(status) = status else {
                return Some(Outcome::Failed(Failed {
                    code: "RW0464".to_owned(),
                    text: "capture was stopped".to_owned(),
                }));
            };
            match status.state {
                AgentPhase::Synchronizing => {}
                AgentPhase::Stopped => {
                    let text = status.failure.unwrap_or_else(|| "the capture agent has stopped".to_owned());
                    return Some(Outcome::Failed(Failed { code: "RW0472".to_owned(), text }));
                }
                AgentPhase::Exact | AgentPhase::Rescanning(_) | AgentPhase::Suspect(_) => {
                    // The stream says so before anything else that an agent may say from now on.
                    self.is_synchronized();
                    return Some(Outcome::Done);
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Stays with an agent until it ends. Whether it had compared everything; `None` if it was stopped.
    fn stay(&self, agent: &Weak<Agent>) -> Option<bool> {
        let mut settled = false;
        loop {
            match agent.upgrade()?.status().state {
                AgentPhase::Stopped => return Some(settled),
                _ if self.inner.lock().has_to_begin_again() => return Some(true),
                state => settled |= state == AgentPhase::Exact,
            }
            std::thread::sleep(KEEP_EVERY);
        }
    }

    /// Sees to an agent that has ended, or has to. What the gap is to be called, if it ended by itself; `None` if it
    /// was being stopped.
    fn bury(&self, agent: &Weak<Agent>, stops: u64) -> Option<Option<GapCause>> {
        let _turning = self.turning.lock();
        let (ended, doubted) = {
            let mut inner = self.inner.lock();
            let ours = inner.agent.as_ref().is_some_and(|now| Arc::as_ptr(now) == agent.as_ptr());
            if inner.stops != stops || !ours {
                return None;
            }
            let doubted = inner.doubted;
            if doubted {
                inner.phase = Phase::Starting;
            }
            (inner.agent.take()?, doubted)
        };
        let taken_down = self.take_down(ended);
        if doubted {
            tracing::warn!("the replica was restarted during the first synchronization, which begins again");
            return Some(None);
        }
        let error = taken_down.err().unwrap_or(CaptureError::Stopped);
        let cause = match &error {
            CaptureError::Sink(SinkError::Full(_)) => GapCause::SpoolFull,
            _ => GapCause::AgentDown,
        };
        let mut inner = self.inner.lock();
        inner.phase = Phase::Problem(match inner.diverged {
            true => {
                "the journal went on without this master; capture begins anew, and compares everything".into()
            }
            false => format!("capture has ended and will be started again: {}", chain(&error)),
        });
        inner.down = Some(cause);
        Some(Some(cause))
    }

    /// Stops capture; returns when it has come to rest.
    pub(super) fn stop_agent(&self) -> Result<(), MasterError> {
        self.inner.lock().stops += 1;
        let _turning = self.turning.lock();
        let agent = self.inner.lock().agent.take();
        let stopped = match agent {
            Some(agent) => self.take_down(agent),
            None => Ok(()),
        };
        // A problem with a start is over too: nothing is to be started any more.
        self.inner.lock().phase = Phase::Stopped;
        match stopped {
            // It has said its gap, and is at rest all the same.
            Err(CaptureError::Sink(SinkError::Full(_))) => Ok(()),
            stopped => Ok(stopped?),
        }
    }

    /// Ends an agent, or hears how it has ended, and opens the index again.
    fn take_down(&self, mut agent: Arc<Agent>) -> Result<(), CaptureError> {
        // Barriers under way hold the agent for a moment.
        let agent = loop {
            match Arc::try_unwrap(agent) {
                Ok(agent) => break agent,
                Err(shared) => agent = shared,
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let stopped = agent.stop();
        let reopened = Index::open(&self.paths.index)?;
        self.inner.lock().idle = Some(reopened);
        stopped.map(drop)
    }
}
