//! The master side of one scenario: spool, index and capture agent, driven by the stream.
//!
//! The agent runs from a `Run` command (or from the first connection, if the replica says the scenario is meant to
//! run) until `Stop`. Before it starts, the index must be what the stream says: it is used as it is if it was closed
//! cleanly at exactly the last capture minted; else it is rebuilt from the replica's namespace, which the replica gives
//! only as of its last journaled capture. The agent then compares the disk with the index, within a gap or as a
//! synchronization, so whatever happened while nobody watched is found.
//!
//! Captures of a first synchronization are cut into captures of one part each: there is no point between them, and
//! their bytes pass through the replica's memory only.

mod pages;
mod sink;

use crate::capture::{
    Agent, CaptureConfig, CaptureError, CaptureRoot, Index, IndexState, Start, State as AgentPhase,
};
use crate::spool::Spool;
use crate::stream::{AgentStatus, LinkError, MasterCommands, ReplicaHandle, Replier, StreamError};
use journal::{Class, GapCause, Lsn, Timestamp};
use pages::Pages;
use parking_lot::Mutex;
use sink::Sink;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::stream::{AgentState, Command, Definition, Failed, Finding, Outcome, Synchronization, Welcome};

/// Where a master keeps its things; none of it below a protected root.
#[derive(Clone, Debug)]
pub struct MasterPaths {
    /// The index; a projection.
    pub index: PathBuf,
    /// Barrier cookies.
    pub cookies: PathBuf,
    /// File that remembers which directories the roots are; no projection.
    pub origins: PathBuf,
}

/// Longest wait for a page of the namespace: the replica may have to apply a backlog first.
const NAMESPACE_WAIT: Duration = Duration::from_secs(600);
/// Pause before a start that failed for what may pass is tried again.
const START_AGAIN: Duration = Duration::from_secs(1);
/// How often a synchronization is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The master side of one scenario.
pub struct Master {
    spool: Arc<Spool>,
    paths: MasterPaths,
    inner: Mutex<Inner>,
    /// Held while the agent is started or stopped.
    turning: Mutex<()>,
}

struct Inner {
    phase: Phase,
    agent: Option<Arc<Agent>>,
    /// The index while no agent has it.
    idle: Option<(Index, IndexState)>,
    welcome: Option<Welcome>,
    replica: Option<Arc<dyn ReplicaHandle>>,
    shut: bool,
    /// Counts commands that end capture: a start that was under way before one of them is given up.
    stops: u64,
}

enum Phase {
    Stopped,
    Starting,
    Running,
    Problem(String),
}

/// Why an agent could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterError {
    /// No replica has been met yet.
    #[error("the replica is not connected")]
    NotConnected,
    /// The replica did not give its namespace.
    #[error("ask the replica for its namespace")]
    Namespace(#[source] LinkError),
    /// The namespace given is not the one as of the last capture.
    #[error("the replica's namespace stands at {found}, the stream at {expected}")]
    NamespaceMoved { expected: Lsn, found: Lsn },
    /// Capture was stopped while it was being started.
    #[error("capture was stopped")]
    Stopped,
    /// Capture failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
}

impl MasterError {
    /// Whether another attempt may succeed with nobody having done anything here.
    fn may_pass(&self) -> bool {
        !matches!(self, MasterError::Stopped | MasterError::Capture(_))
    }
}

impl Master {
    /// A master that does nothing yet.
    ///
    /// # Errors
    /// If the index cannot be opened.
    pub fn open(spool: Arc<Spool>, paths: MasterPaths) -> Result<Arc<Self>, MasterError> {
        let (index, state) = Index::open(&paths.index)?;
        let inner = Inner {
            phase: Phase::Stopped,
            agent: None,
            idle: Some((index, state)),
            welcome: None,
            replica: None,
            shut: false,
            stops: 0,
        };
        Ok(Arc::new(Master { spool, paths, inner: Mutex::new(inner), turning: Mutex::new(()) }))
    }

    /// Ends capture in good order and closes the index; what the spool holds stays in it.
    ///
    /// # Errors
    /// What had ended the agent before; the index will be rebuilt then.
    pub fn shut(&self) -> Result<(), MasterError> {
        self.inner.lock().shut = true;
        self.stop_agent()?;
        let idle = self.inner.lock().idle.take();
        if let Some((index, IndexState::Clean { lsn, time })) = idle {
            index.close(lsn, time)?;
        }
        Ok(())
    }

    fn stop_agent(&self) -> Result<(), MasterError> {
        self.inner.lock().stops += 1;
        let _turning = self.turning.lock();
        let agent = self.inner.lock().agent.take();
        let Some(mut agent) = agent else {
            // A problem with a start is over too: nothing is to be started any more.
            self.inner.lock().phase = Phase::Stopped;
            return Ok(());
        };
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
        let mut inner = self.inner.lock();
        inner.phase = Phase::Stopped;
        inner.idle = Some(reopened);
        drop(inner);
        stopped?;
        Ok(())
    }

    /// Starts the agent; returns when it watches.
    fn start_agent(&self, definition: &Definition, options: &Starting) -> Result<Arc<Agent>, MasterError> {
        let _turning = self.turning.lock();
        {
            let mut inner = self.inner.lock();
            if let Some(agent) = &inner.agent {
                return Ok(Arc::clone(agent));
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
                inner.phase = Phase::Running;
                inner.agent = Some(Arc::clone(&agent));
                Ok(agent)
            }
            Err(error) => {
                inner.phase = Phase::Problem(chain(&error));
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
            let inner = self.inner.lock();
            (inner.welcome.clone(), inner.replica.clone())
        };
        let (Some(welcome), Some(replica)) = (welcome, replica) else {
            return Err(MasterError::NotConnected);
        };
        let (mut index, state) = match self.inner.lock().idle.take() {
            Some(idle) => idle,
            None => Index::open(&self.paths.index)?,
        };
        let first = welcome.synchronization != Synchronization::Completed;
        let captured = self.spool.status().captured.unwrap_or(welcome.journaled);
        let mut time = welcome.journaled_time;
        match state {
            IndexState::Clean { lsn, time: then } if lsn == captured && !first => time = time.max(then),
            _ => {
                self.wait_delivered(options.stops)?;
                let pages = Pages::new(replica, captured);
                let next_node = welcome.next_node;
                pages.rebuild(&mut index, next_node)?;
            }
        }
        let start = match (first, options.again) {
            (true, _) => Start::First,
            (false, true) => Start::Again,
            (false, false) => Start::Rescan { cause: options.cause },
        };
        let config = CaptureConfig {
            ignore_same: options.ignore_same,
            time_floor: time,
            origins: Some(self.paths.origins.clone()),
            ..CaptureConfig::new(roots(definition), self.paths.cookies.clone())
        };
        Ok(Agent::spawn(config, index, Box::new(Sink(Arc::clone(&self.spool))), start)?)
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
            if Instant::now() > give_up {
                return Err(MasterError::Namespace(LinkError::TimedOut));
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, definition: Definition, options: Starting, reply: Option<Replier>) {
        let master = Arc::clone(self);
        spawn("run", move || {
            let outcome = loop {
                match master.start_agent(&definition, &options) {
                    Ok(agent) => break master.wait_synchronized(agent),
                    // Nobody asked, so nobody would ask again.
                    Err(error) if reply.is_none() && error.may_pass() && master.pause(options.stops) => {}
                    Err(error) => break failed("RW0463", &error),
                }
            };
            if let Some(reply) = reply {
                reply.reply(outcome);
            }
        });
    }

    /// Waits before another attempt to start. Whether there should be one: else the next connection makes it.
    fn pause(&self, stops: u64) -> bool {
        std::thread::sleep(START_AGAIN);
        let inner = self.inner.lock();
        inner.replica.is_some() && inner.agent.is_none() && !inner.shut && inner.stops == stops
    }

    /// Waits until a synchronization under way has completed.
    fn wait_synchronized(&self, agent: Arc<Agent>) -> Outcome {
        let weak = Arc::downgrade(&agent);
        drop(agent);
        loop {
            // Held no longer than a look: stopping needs the agent alone.
            let Some(status) = weak.upgrade().map(|agent| agent.status()) else {
                return Outcome::Failed(Failed {
                    code: "RW0464".to_owned(),
                    text: "capture was stopped".to_owned(),
                });
            };
            match status.state {
                AgentPhase::Synchronizing => {}
                AgentPhase::Stopped => {
                    let text = status.failure.unwrap_or_else(|| "the capture agent has stopped".to_owned());
                    self.inner.lock().phase = Phase::Problem(text.clone());
                    return Outcome::Failed(Failed { code: "RW0472".to_owned(), text });
                }
                AgentPhase::Exact | AgentPhase::Rescanning(_) | AgentPhase::Suspect(_) => {
                    return Outcome::Done;
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn barrier(self: &Arc<Self>, cookie: u64, class: Class, reply: Replier) {
        let agent = self.inner.lock().agent.clone();
        let Some(agent) = agent else {
            let text = "capture is not running".to_owned();
            return reply.reply(Outcome::Failed(Failed { code: "RW0465".to_owned(), text }));
        };
        let answer = agent.begin_barrier(cookie, class);
        drop(agent);
        spawn("barrier", move || {
            let lsn = answer.and_then(|answer| answer.recv().unwrap_or(Err(CaptureError::Stopped)));
            reply.reply(match lsn {
                Ok(lsn) => Outcome::Barrier { lsn, class, time: now() },
                Err(error) => failed("RW0465", &error),
            });
        });
    }
}

/// How a start came about.
struct Starting {
    again: bool,
    ignore_same: bool,
    cause: GapCause,
    /// How many stops there had been when it was asked for.
    stops: u64,
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(body) {
        tracing::error!(%error, name, "cannot start a thread");
    }
}

fn now() -> Timestamp {
    use journal::journal::Clock;
    journal::journal::SystemClock.now()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

fn failed(code: &str, error: &dyn std::error::Error) -> Outcome {
    Outcome::Failed(Failed { code: code.to_owned(), text: chain(error) })
}

fn roots(definition: &Definition) -> Vec<CaptureRoot> {
    let root = |root: &wire::stream::RootDefinition| CaptureRoot {
        number: root.root,
        path: PathBuf::from(OsStr::from_bytes(&root.path)),
        exclude: definition.excludes.clone(),
    };
    definition.roots.iter().map(root).collect()
}

/// What stands in the way of a run on the master, or may.
#[must_use]
pub fn preflight(definition: &Definition, spool: &Spool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for root in roots(definition) {
        let error = match std::fs::symlink_metadata(&root.path) {
            Ok(meta) if meta.is_dir() => std::fs::read_dir(&root.path).err().map(|error| error.to_string()),
            Ok(_) => Some("it is no directory".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            let text = format!("root {}: {error}", root.path.display());
            findings.push(Finding { error: true, code: "RW0467".to_owned(), text });
        }
    }
    if !rustix::process::geteuid().is_root() {
        let text = "not root: files of others may be unreadable, and are then listed as skipped".to_owned();
        findings.push(Finding { error: false, code: "RW0459".to_owned(), text });
    }
    if spool.status().state == wire::stream::SpoolState::NearFull {
        let text = "the spool is nearly full".to_owned();
        findings.push(Finding { error: false, code: "RW0460".to_owned(), text });
    }
    findings
}

impl MasterCommands for Arc<Master> {
    fn index_clean_at(&self) -> Option<Lsn> {
        match &self.inner.lock().idle {
            Some((_, IndexState::Clean { lsn, .. })) => Some(*lsn),
            _ => None,
        }
    }

    fn connected(&self, welcome: &Welcome, replica: Arc<dyn ReplicaHandle>) {
        let start = {
            let mut inner = self.inner.lock();
            inner.welcome = Some(welcome.clone());
            inner.replica = Some(replica);
            welcome.running && inner.agent.is_none() && !inner.shut && !matches!(inner.phase, Phase::Starting)
        };
        // It was stopped while this side could not hear it.
        if !welcome.running && self.inner.lock().agent.is_some() {
            let master = Arc::clone(self);
            spawn("stop", move || {
                if let Err(error) = master.stop_agent() {
                    tracing::warn!(error = %chain(&error), "capture did not end in good order");
                }
            });
        }
        if start {
            let stops = self.inner.lock().stops;
            let options = Starting { again: false, ignore_same: true, cause: GapCause::AgentDown, stops };
            self.run(welcome.definition.clone(), options, None);
        }
    }

    fn disconnected(&self, why: &StreamError) {
        tracing::info!(error = %chain(why), "the stream was cut");
        self.inner.lock().replica = None;
    }

    fn command(&self, command: Command, reply: Replier) {
        match command {
            Command::Barrier { cookie, class } => self.barrier(cookie, class, reply),
            Command::Run { ignore_same, skip, definition, .. } => {
                let stops = self.inner.lock().stops;
                let options = Starting { again: !skip, ignore_same, cause: GapCause::Stopped, stops };
                self.run(definition, options, Some(reply));
            }
            Command::Stop => {
                let master = Arc::clone(self);
                spawn("stop", move || {
                    reply.reply(match master.stop_agent() {
                        Ok(()) => Outcome::Done,
                        Err(error) => failed("RW0464", &error),
                    });
                });
            }
            Command::Verify => {
                let definition = self.inner.lock().welcome.as_ref().map(|welcome| welcome.definition.clone());
                let findings = definition.map(|definition| preflight(&definition, &self.spool));
                reply.reply(Outcome::Verified(findings.unwrap_or_default()));
            }
            // The stream itself carries these out.
            Command::Suspend | Command::Resume => reply.reply(Outcome::Done),
        }
    }

    fn applied(&self, _lsn: Lsn) {}

    fn status(&self) -> AgentStatus {
        let inner = self.inner.lock();
        let agent = inner.agent.as_ref().map(|agent| agent.status());
        let (state, cause) = match (&inner.phase, &agent) {
            (Phase::Problem(cause), _) => (AgentState::Problem, cause.clone()),
            (Phase::Starting, _) => (AgentState::Starting, String::new()),
            (_, None) => (AgentState::Stopped, String::new()),
            (_, Some(status)) => match status.state {
                AgentPhase::Synchronizing => (AgentState::Synchronizing, String::new()),
                AgentPhase::Exact => (AgentState::Capturing, String::new()),
                AgentPhase::Suspect(cause @ GapCause::WatchLost) => {
                    let text = format!(
                        "{cause}: mount it, or stop and run the scenario to protect what is there now"
                    );
                    (AgentState::Problem, text)
                }
                AgentPhase::Rescanning(_) | AgentPhase::Suspect(_) => (AgentState::Rescanning, String::new()),
                AgentPhase::Stopped => (AgentState::Problem, status.failure.clone().unwrap_or_default()),
            },
        };
        let status = agent.unwrap_or_default();
        AgentStatus {
            agent: state,
            gaps_open: status.gaps as u64,
            time: now(),
            cause,
            files: (status.files, 0),
            bytes: (status.bytes, 0),
        }
    }
}
