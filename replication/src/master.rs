//! The master side of one scenario: spool, index and capture agent, driven by the stream.
//!
//! The agent runs from a `Run` command (or from the first connection, if the replica says the scenario is meant to
//! run) until `Stop`. Before it starts, the index must be what the stream says: it is used as it is if it was closed
//! cleanly at exactly the last capture minted; else it is rebuilt from the replica's namespace, which the replica gives
//! only as of its last journaled capture. The agent then compares the disk with the index, within a gap or as a
//! synchronization, so whatever happened while nobody watched is found. An agent that ends by itself is started again.
//!
//! Captures of a first synchronization are cut into captures of one part each: there is no point between them, and
//! their bytes pass through the replica's memory only.

mod blocks;
mod consistent;
mod pages;
mod scrubbing;
mod sink;
mod start;
mod writing;

use crate::capture::{Agent, CaptureError, CaptureRoot, Index, IndexState, State as AgentPhase};
use crate::chain::chain;
use crate::hooks::HooksAllowed;
use crate::spool::Spool;
use crate::stream::{AgentStatus, LinkError, MasterCommands, ReplicaHandle, Replier, StreamError};
use journal::{Class, GapCause, Lsn, Timestamp};
use parking_lot::Mutex;
use start::Starting;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;
use wire::stream::{
    AgentState, Command, Definition, Failed, Finding, Outcome, Reason, SyncMode, Synchronization, Welcome,
};

/// Where a master keeps its things, none of it below a protected root; and what it may run.
#[derive(Clone, Debug)]
pub struct MasterPaths {
    /// The index; a projection.
    pub index: PathBuf,
    /// Barrier cookies.
    pub cookies: PathBuf,
    /// File that remembers which directories the roots are; no projection.
    pub origins: PathBuf,
    /// File that says how to thaw an application that is held; its directory is there. No projection.
    pub hold: PathBuf,
    /// Hooks it may run.
    pub hooks: HooksAllowed,
}

/// Longest wait for a page of the namespace: the replica may have to apply a backlog first.
const NAMESPACE_WAIT: Duration = Duration::from_secs(600);
/// How often a synchronization is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The master side of one scenario.
pub struct Master {
    me: Weak<Master>,
    spool: Arc<Spool>,
    paths: MasterPaths,
    inner: Mutex<Inner>,
    /// Held while the agent is started or stopped.
    turning: Mutex<()>,
    /// Held while an application is held still.
    holding: Mutex<()>,
    /// One question of a scrub after the other.
    scrubbing: Mutex<()>,
    /// This daemon stops: no application is held any longer.
    stopping: AtomicBool,
    /// Greater than every id handed over since this was opened.
    next_node: Arc<AtomicU64>,
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
    /// Why capture is down although nobody stopped it.
    down: Option<GapCause>,
    /// An agent has said that a synchronization is complete; the replica may not have heard it yet.
    synchronized: bool,
    /// The replica, as it counts its own starts, that the last agent was started for.
    incarnation: Option<u64>,
    /// It is another one by now, and the first synchronization has not completed: bytes it acknowledged may be lost.
    doubted: bool,
    /// The journal has gone on without this master: the index is not what the stream says.
    diverged: bool,
}

impl Inner {
    /// Whether the agent has to make room for another one although nothing is wrong with it.
    fn has_to_begin_again(&self) -> bool {
        self.doubted || self.diverged
    }
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
    /// What is spooled must reach the replica first, and may not.
    #[error("delivery is suspended, and capture cannot start before what is spooled is delivered; resume it")]
    Suspended,
    /// Capture was stopped while it was being started.
    #[error("capture was stopped")]
    Stopped,
    /// Capture failed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
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
            down: None,
            synchronized: false,
            incarnation: None,
            doubted: false,
            diverged: false,
        };
        Ok(Arc::new_cyclic(|me| Master {
            me: Weak::clone(me),
            spool,
            paths,
            inner: Mutex::new(inner),
            turning: Mutex::new(()),
            holding: Mutex::new(()),
            scrubbing: Mutex::new(()),
            stopping: AtomicBool::new(false),
            next_node: Arc::default(),
        }))
    }

    /// Lets an application that is held go on, ends capture in good order and closes the index; what the spool holds
    /// stays in it.
    ///
    /// # Errors
    /// What had ended the agent before; the index will be rebuilt then.
    pub fn shut(&self) -> Result<(), MasterError> {
        self.inner.lock().shut = true;
        self.wait_thawed();
        self.stop_agent()?;
        let idle = self.inner.lock().idle.take();
        if let Some((index, IndexState::Clean { lsn, time })) = idle {
            index.close(lsn, time)?;
        }
        Ok(())
    }

    fn barrier(self: &Arc<Self>, cookie: u64, class: Class, reply: Replier) {
        let agent = self.inner.lock().agent.clone();
        let Some(agent) = agent else {
            let text = "capture is not running".to_owned();
            return reply.reply(Outcome::Failed(Failed { code: "RW0465".to_owned(), text }));
        };
        // Nobody vouches for an application that is not held by this master itself.
        let class = if class == Class::Application { Class::Fuzzy } else { class };
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

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(body) {
        tracing::error!(%error, name, "cannot start a thread");
    }
}

fn now() -> Timestamp {
    use journal::journal::Clock;
    journal::journal::SystemClock.now()
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
            let mut known = welcome.clone();
            let first = matches!(known.synchronization, Synchronization::Never | Synchronization::Begun);
            if first && inner.incarnation.is_some_and(|then| then != welcome.incarnation) {
                // Whether it has completed is for the replica to say, once it has what is spooled.
                (inner.doubted, inner.synchronized) = (true, false);
            }
            if first && inner.synchronized {
                known.synchronization = Synchronization::Completed;
            }
            inner.welcome = Some(known);
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
            let (stops, down) = {
                let inner = self.inner.lock();
                (inner.stops, inner.down)
            };
            let cause = down.unwrap_or(GapCause::AgentDown);
            let (skip, whole_files, anew) = (false, false, false);
            let options = Starting { again: false, skip, anew, ignore_same: true, whole_files, cause, stops };
            self.run(welcome.definition.clone(), options, None);
        }
    }

    fn disconnected(&self, why: &StreamError) {
        tracing::info!(error = %chain(why), "the stream was cut");
        let mut inner = self.inner.lock();
        inner.replica = None;
        inner.diverged |= matches!(why, StreamError::Refused(refused) if refused.reason == Reason::Diverged);
    }

    fn command(&self, command: Command, reply: Replier) {
        match command {
            Command::Barrier { cookie, class } => self.barrier(cookie, class, reply),
            Command::Consistent(asked) => self.consistent(asked, reply),
            Command::Run { mode, ignore_same, skip, anew, definition } => {
                let stops = self.inner.lock().stops;
                let (cause, whole_files) = (GapCause::Stopped, mode == SyncMode::File);
                let again = !skip;
                let options = Starting { again, skip, anew, ignore_same, whole_files, cause, stops };
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
            Command::Write { session, number, part, last } => {
                self.write((session, number), part, last, reply);
            }
            Command::Scrub(ask) => self.scrub(ask, reply),
            // The stream itself carries these out.
            Command::Suspend | Command::Resume => reply.reply(Outcome::Done),
        }
    }

    fn features(&self) -> u64 {
        wire::stream::FEATURE_SCRUB
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
