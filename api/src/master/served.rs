//! One scenario on a master that is alone: spool, index, agent and stream, and what people may know of them.

use super::dial;
use crate::config::MasterOptions;
use crate::daemon::EngineContext;
use crate::definition::{Definition, Root};
use crate::engine::{EngineError, EngineResult, Finding, Flushed, Level, Scenario, Stage, State, Status};
use crate::host::local::{MasterSettings, MasterSide};
use crate::host::random_cookie;
use crate::store::Layout;
use journal::{Class, Lsn, Timestamp};
use parking_lot::{Condvar, Mutex};
use replication::stream::master::{Dial, MasterOptions as StreamOptions, MasterStream};
use replication::stream::{AgentStatus, MasterCommands, ReplicaHandle, Replier, StreamError};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use wire::codes;
use wire::stream::{AgentState, Assignment, Command, Outcome, Welcome};

/// Pause before a stream that ended for good is tried again, in case a person has set things right.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long the end waits for the replica to take what is spooled; the rest is kept.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long capture may take to end before what it waits for is cut.
const SHUT_MAX: Duration = Duration::from_secs(5);
/// How often a flush looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Name of the directories of a scenario below those of spools, indexes and cookies.
pub(super) fn directory_name(assignment: &Assignment) -> String {
    format!("{}.{}", assignment.name, assignment.scenario)
}

/// Whether a name may be one that [`directory_name`] made.
pub(super) fn is_directory_name(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, id)| id.parse::<u64>().is_ok())
}

/// A scenario that this master serves.
pub(super) struct Served {
    assignment: Assignment,
    settings: MasterSettings,
    layout: Layout,
    context: EngineContext,
    known: Mutex<Known>,
    moved: Condvar,
}

/// What is known of it now.
struct Known {
    side: Option<Arc<MasterSide>>,
    /// The last one; definitions come with it.
    welcome: Option<Welcome>,
    connected: bool,
    applied: Lsn,
    /// When everything captured was last seen applied.
    level_at: Instant,
    /// Why there is no connection: its code, and the words.
    failure: Option<(&'static codes::Code, String)>,
}

impl Served {
    pub fn new(
        assignment: Assignment,
        options: &MasterOptions,
        layout: Layout,
        context: EngineContext,
    ) -> Arc<Self> {
        let settings = MasterSettings {
            scenario: assignment.scenario,
            name: directory_name(&assignment),
            host: options.name.clone(),
            spool: options.spool.clone(),
            spool_bytes_max: assignment.spool_bytes_max,
            spool_free_bytes_min: options.spool_free_bytes_min,
            hooks: options.hooks.clone(),
        };
        let known = Known {
            side: None,
            welcome: None,
            connected: false,
            applied: Lsn::ZERO,
            level_at: Instant::now(),
            failure: None,
        };
        let (known, moved) = (Mutex::new(known), Condvar::new());
        Arc::new(Served { assignment, settings, layout, context, known, moved })
    }

    pub fn name(&self) -> &str {
        &self.assignment.name
    }

    /// Serves until `stop` turns true, and ends in good order.
    pub async fn run(self: Arc<Self>, dial: Dial, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.open().await {
                Ok(side) => self.stream(&side, dial.clone(), &mut stop).await,
                Err(error) => {
                    let failure = error.to_failure();
                    tracing::error!(scenario = self.name(), error = %failure, "the scenario cannot be served");
                    self.failed(&error);
                }
            }
            pause(&mut stop).await;
        }
    }

    async fn open(self: &Arc<Self>) -> EngineResult<Arc<MasterSide>> {
        let served = Arc::clone(self);
        let opened = spawn_blocking(move || MasterSide::open(&served.layout, &served.settings)).await;
        let opened = opened.unwrap_or_else(|error| {
            Err(EngineError::new(&codes::INTERNAL, "open the master side").caused_by(error))
        });
        let side = Arc::new(opened?);
        self.known.lock().side = Some(Arc::clone(&side));
        Ok(side)
    }

    /// Keeps the stream up until `stop` turns true or the spool fails; closes the side.
    async fn stream(self: &Arc<Self>, side: &Arc<MasterSide>, dial: Dial, stop: &mut watch::Receiver<bool>) {
        let (end, ended) = watch::channel(false);
        let host = self.settings.host.clone();
        let options = StreamOptions::new(self.assignment.scenario, self.assignment.name.clone(), host);
        let agent = Arc::new(Tap { served: Arc::clone(self), agent: Arc::clone(&side.master) });
        let stream = MasterStream::new(options, Arc::clone(&side.spool), agent);
        let mut running = tokio::spawn(async move {
            let mut again = ended.clone();
            loop {
                match stream.run(dial.clone(), ended.clone()).await {
                    Ok(()) => return,
                    // Its files have to be opened anew.
                    Err(StreamError::Spool(_) | StreamError::Resume(_)) => return,
                    // Capture goes on meanwhile.
                    Err(_) => pause(&mut again).await,
                }
            }
        });
        tokio::select! {
            _ = &mut running => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
        close(side, &end, running).await;
        self.known.lock().side = None;
    }

    fn failed(&self, error: &EngineError) {
        let text = error.to_failure().message.to_string();
        self.known.lock().failure = Some((error.code(), text));
        self.moved.notify_all();
    }

    /// The scenario, as far as the replica has told.
    pub fn scenario(&self) -> Scenario {
        let state = self.status().state;
        let known = self.known.lock();
        let mut definition = Definition::new(self.name(), Vec::new());
        definition.master = Some(self.settings.host.clone());
        definition.spool_bytes_max = self.assignment.spool_bytes_max;
        if let Some(welcome) = &known.welcome {
            let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
            let roots = welcome.definition.roots.iter();
            definition.roots = roots.map(|root| Root { master: path(&root.path), replica: None }).collect();
            definition.excludes.clone_from(&welcome.definition.excludes);
        }
        Scenario { id: self.assignment.scenario, definition, created: Timestamp(0), state }
    }

    /// How it stands, seen from here.
    pub fn status(&self) -> Status {
        let mut known = self.known.lock();
        let spool = known.side.as_ref().map(|side| side.spool.status());
        let agent = known.side.as_ref().map(|side| side.master.status());
        let journaled = spool.map_or(Lsn::ZERO, |spool| spool.acknowledged);
        let captured = spool.and_then(|spool| spool.captured).unwrap_or(journaled);
        let is_level = Lsn::captured(known.applied.captured) >= captured;
        if is_level {
            known.level_at = Instant::now();
        }
        let suspended = spool.is_some_and(|spool| spool.suspended);
        let (state, cause) = state(&known, agent.as_ref(), suspended);
        Status {
            name: self.name().to_owned(),
            id: self.assignment.scenario,
            state,
            cause,
            captured,
            journaled,
            applied: known.applied,
            lag: if is_level { Duration::ZERO } else { known.level_at.elapsed() },
            spool_bytes: spool.map_or(0, |spool| spool.memory_bytes + spool.disk_bytes),
            gaps_open: agent.as_ref().map_or(0, |agent| agent.gaps_open),
            last_proof: None,
            last_scrub: None,
            scrub_every: None,
            skipped: 0,
            window: None,
        }
    }

    /// What stands in the way on this side.
    pub fn verify(&self) -> Vec<Finding> {
        let known = self.known.lock();
        let mut findings = Vec::new();
        let finding = |level, check, text| Finding { level, side: "master", check, text, path: None };
        if let Some((code, why)) = known.failure.as_ref().filter(|_| !known.connected) {
            findings.push(finding(Level::Error, "connection", format!("{}: {why}", code.id)));
        }
        if let (Some(welcome), Some(side)) = (&known.welcome, &known.side) {
            let found = replication::master::preflight(&welcome.definition, &side.spool);
            let level = |error| if error { Level::Error } else { Level::Warning };
            findings.extend(found.into_iter().map(|one| finding(level(one.error), "master", one.text)));
        }
        findings
    }

    /// A barrier, from here to the stage.
    pub fn flush(&self, stage: Stage, timeout: Duration) -> EngineResult<Flushed> {
        let give_up = Instant::now() + timeout;
        let late = || EngineError::new(&codes::TIMED_OUT, format!("flush of scenario \"{}\"", self.name()));
        let state = self.status().state;
        let side = self.known.lock().side.clone();
        let (Some(side), State::Replicating | State::Problem | State::NotAuthorized) = (side, state) else {
            return Err(EngineError::not_replicating(self.name(), state));
        };
        let (answer, outcome) = std::sync::mpsc::sync_channel(1);
        let reply = Replier::new(move |outcome| drop(answer.try_send(outcome)));
        let cookie = random_cookie();
        side.master.command(Command::Barrier { cookie, class: Class::Fuzzy }, reply);
        let left = give_up.saturating_duration_since(Instant::now());
        let flushed = match outcome.recv_timeout(left) {
            Ok(Outcome::Barrier { lsn, class, time }) => Flushed { lsn, time, class, held: None },
            Ok(Outcome::Failed(failed)) => {
                let code = codes::find(&failed.code).unwrap_or(&codes::NOT_REPLICATING);
                return Err(EngineError::new(code, format!("flush of \"{}\": {}", self.name(), failed.text)));
            }
            Ok(_) => return Err(EngineError::new(&codes::INTERNAL, "a barrier has no such outcome")),
            Err(_) => return Err(late()),
        };
        let is_there = || match stage {
            Stage::Captured => true,
            Stage::Journaled => side.spool.status().acknowledged >= flushed.lsn,
            Stage::Applied => self.known.lock().applied >= flushed.lsn,
        };
        while !is_there() {
            if Instant::now() >= give_up {
                let error =
                    late().because(format!("LSN {} is captured on this side and on its way.", flushed.lsn));
                return Err(error);
            }
            let mut known = self.known.lock();
            self.moved.wait_for(&mut known, LOOK_EVERY);
        }
        Ok(flushed)
    }
}

fn state(known: &Known, agent: Option<&AgentStatus>, suspended: bool) -> (State, Option<String>) {
    if let Some((code, why)) = known.failure.as_ref().filter(|_| !known.connected) {
        let locked_out = [codes::BAD_CERTIFICATE.id, codes::NOT_PERMITTED.id].contains(&code.id);
        let state = if locked_out { State::NotAuthorized } else { State::Problem };
        return (state, Some(format!("the replica is not connected: {}: {why}", code.id)));
    }
    match agent.map(|agent| (agent.agent, &agent.cause)) {
        Some((AgentState::Problem, cause)) => (State::Problem, Some(cause.clone())),
        Some((AgentState::Starting | AgentState::Synchronizing, _)) => (State::Synchronizing, None),
        Some((AgentState::Stopped, _)) | None if known.connected => (State::Stopped, None),
        None | Some((AgentState::Stopped, _)) => {
            (State::Problem, Some("the replica is not connected".to_owned()))
        }
        Some(_) if suspended => (State::Suspended, None),
        Some(_) => (State::Replicating, None),
    }
}

/// Waits before another attempt, no longer than until `stop` turns true.
async fn pause(stop: &mut watch::Receiver<bool>) {
    drop(tokio::time::timeout(AGAIN_AFTER, stop.wait_for(|stop| *stop)).await);
}

/// Ends capture, lets the replica take what it can, ends the stream, keeps the rest.
async fn close(side: &Arc<MasterSide>, end: &watch::Sender<bool>, mut running: JoinHandle<()>) {
    let shut = Arc::clone(side);
    let mut shut = spawn_blocking(move || {
        if let Err(error) = shut.master.shut() {
            let error = wire::failure::chain(&error);
            tracing::warn!(error, "capture did not end in good order; the index will be rebuilt");
        }
        // What does not get there is spooled.
        let _ = shut.spool.wait_empty(DRAIN_MAX);
    });
    // A start that waits for the replica ends when the stream does.
    let in_time = tokio::time::timeout(SHUT_MAX, &mut shut).await.is_ok();
    end.send_replace(true);
    if tokio::time::timeout(SHUT_MAX, &mut running).await.is_err() {
        running.abort();
    }
    if !in_time {
        // Capture may wait for room that only the stream could have made.
        side.spool.shut();
        drop(shut.await);
    }
    let spool = Arc::clone(&side.spool);
    let closed = spawn_blocking(move || spool.close()).await;
    if let Ok(Err(error)) = closed {
        let error = wire::failure::chain(&error);
        tracing::warn!(error, "the spool could not be kept; a rescan will find what was in it");
    }
}

/// Between stream and agent: notes what people may ask.
struct Tap {
    served: Arc<Served>,
    agent: Arc<replication::master::Master>,
}

impl MasterCommands for Tap {
    fn index_clean_at(&self) -> Option<Lsn> {
        self.agent.index_clean_at()
    }

    fn connected(&self, welcome: &Welcome, replica: Arc<dyn ReplicaHandle>) {
        {
            let mut known = self.served.known.lock();
            known.welcome = Some(welcome.clone());
            known.connected = true;
            known.failure = None;
        }
        self.served.context.activity.write(Level::Info, self.served.name(), None, "the replica is connected");
        self.agent.connected(welcome, replica);
    }

    fn disconnected(&self, why: &StreamError) {
        let error = dial::explain(why);
        let was_connected = std::mem::replace(&mut self.served.known.lock().connected, false);
        self.served.failed(&error);
        if was_connected {
            let text = format!("connection to the replica ended: {}", error.to_failure().message);
            self.served.context.activity.write(Level::Warning, self.served.name(), None, &text);
        }
        self.agent.disconnected(why);
    }

    fn features(&self) -> u64 {
        self.agent.features()
    }

    fn command(&self, command: Command, reply: Replier) {
        self.agent.command(command, reply);
    }

    fn applied(&self, lsn: Lsn) {
        self.served.known.lock().applied = lsn;
        self.served.moved.notify_all();
        self.agent.applied(lsn);
    }

    fn status(&self) -> AgentStatus {
        self.agent.status()
    }
}
