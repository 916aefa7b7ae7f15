//! One scenario with all that lives for it: replica side, connection to the master, local master.

use super::link::Link;
use super::local::{LocalMaster, MasterSettings};
use super::states::{Facts, decide};
use crate::daemon::EngineContext;
use crate::definition::Definition;
use crate::engine::{EngineError, EngineResult, Level, Proof, State, Status};
use crate::records::Wanted;
use crate::registry::Entry;
use crate::store::{Layout, open_replica};
use journal::Lsn;
use journal::controls::Synchronized;
use journal::journal::{Clock, SystemClock};
use parking_lot::{Condvar, Mutex};
use replication::os_tree::OsTree;
use replication::replica::Replica;
use replication::stream::MasterHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use wire::codes;
use wire::stream::{AgentState, MasterStatus, Reason, Refused};

/// How long a call waits for the master to be there.
pub(super) const ATTACH_WAIT: Duration = Duration::from_secs(15);

/// One scenario.
pub(crate) struct Scene {
    entry: Entry,
    pub(super) layout: Layout,
    pub(super) context: EngineContext,
    /// Opened when it is first needed; an error is tried again at the next call.
    replica: Mutex<Option<Arc<Replica<OsTree>>>>,
    local: Mutex<Option<LocalMaster>>,
    peer: Mutex<Peer>,
    changed: Condvar,
    /// True while nobody may open the replica side: it is being closed, or gone.
    closed: watch::Sender<bool>,
    /// A `run` is under way.
    starting: AtomicBool,
    pub(super) crossed: super::told::Crossed,
    pub(super) mounts: super::snapshots::Mounts,
    pub(super) archiving: super::archiving::Archiving,
    /// Calls that change what the scenario does, one after the other.
    pub(super) turning: Mutex<()>,
    /// One comparison of tables after the other: they share a place for scratch tables.
    pub(super) verifying: Mutex<()>,
    /// One scrub at a time, and what the last one left.
    pub(super) scrubbing: Mutex<super::scrubbing::Left>,
    /// What the master understands beyond the version of the protocol, as its last hello says.
    pub(super) features: std::sync::atomic::AtomicU64,
}

#[derive(Default)]
struct Peer {
    master: Option<Arc<dyn MasterHandle>>,
    status: Option<MasterStatus>,
    refused: Option<Refused>,
    broken: Option<String>,
}

impl Peer {
    fn is_sound(&self) -> bool {
        self.refused.is_none() && self.broken.is_none()
    }

    fn is_awaited(&self) -> bool {
        self.master.is_none() && self.is_sound()
    }
}

impl Scene {
    pub(super) fn new(entry: Entry, layout: Layout, context: EngineContext) -> Arc<Self> {
        Arc::new(Scene {
            entry,
            layout,
            context,
            replica: Mutex::default(),
            local: Mutex::default(),
            peer: Mutex::default(),
            changed: Condvar::new(),
            closed: watch::channel(false).0,
            starting: AtomicBool::new(false),
            crossed: Default::default(),
            mounts: Default::default(),
            archiving: Default::default(),
            turning: Mutex::new(()),
            verifying: Mutex::new(()),
            scrubbing: Mutex::default(),
            features: Default::default(),
        })
    }

    pub(crate) fn id(&self) -> u64 {
        self.entry.id
    }

    pub(super) fn name(&self) -> &str {
        &self.entry.definition.name
    }

    pub(super) fn definition(&self) -> Definition {
        let current = self.context.registry.get(self.name());
        current.map_or_else(|_| self.entry.definition.clone(), |entry| entry.definition)
    }

    pub(super) fn wanted(&self) -> Wanted {
        self.context.registry.get(self.name()).map_or(Wanted::Stopped, |entry| entry.wanted)
    }

    pub(super) fn note(&self, level: Level, text: &str) {
        self.context.activity.write(level, self.name(), None, text);
    }

    pub(super) fn is_starting(&self) -> bool {
        self.starting.load(Ordering::SeqCst)
    }

    pub(super) fn set_starting(&self, starting: bool) {
        self.starting.store(starting, Ordering::SeqCst);
    }

    pub(super) fn set_master(&self, master: Option<Arc<dyn MasterHandle>>) {
        let mut peer = self.peer.lock();
        if master.is_some() {
            peer.refused = None;
            peer.broken = None;
        } else {
            peer.status = None;
        }
        peer.master = master;
        self.changed.notify_all();
    }

    pub(super) fn set_master_status(&self, status: MasterStatus) {
        self.peer.lock().status = Some(status);
        self.changed.notify_all();
    }

    pub(super) fn set_refused(&self, refused: &Refused) {
        let mut peer = self.peer.lock();
        peer.refused = Some(refused.clone());
        peer.broken = Some(refused.text.clone());
    }

    /// Whether the last connection ended for good.
    pub(super) fn is_refused(&self) -> bool {
        self.peer.lock().refused.is_some()
    }

    /// Whether this came of a connection that was cut and is, or will be, made again.
    pub(super) fn was_cut(&self, error: &EngineError) -> bool {
        let peer = self.peer.lock();
        peer.is_awaited() || (peer.is_sound() && error.code() == &codes::CANNOT_ATTACH)
    }

    /// A synchronization has completed; the master's next status says so too.
    pub(super) fn synchronized_now(&self) {
        if let Some(status) = &mut self.peer.lock().status
            && matches!(status.agent, AgentState::Starting | AgentState::Synchronizing | AgentState::Stopped)
        {
            status.agent = AgentState::Capturing;
        }
    }

    pub(super) fn master_status(&self) -> Option<MasterStatus> {
        self.peer.lock().status.clone()
    }

    /// The replica side, opened if it is not yet.
    pub(crate) fn replica(&self) -> EngineResult<Arc<Replica<OsTree>>> {
        let mut replica = self.replica.lock();
        if let Some(replica) = &*replica {
            return Ok(Arc::clone(replica));
        }
        self.not_closing()?;
        let free_bytes_min =
            self.context.options.replica.as_ref().map_or(0, |options| options.free_bytes_min);
        match open_replica(&self.layout, &self.definition(), free_bytes_min) {
            Ok(opened) => {
                self.peer.lock().broken = None;
                *replica = Some(Arc::clone(&opened));
                self.start_archiving(opened.journal());
                Ok(opened)
            }
            Err(error) => {
                self.peer.lock().broken = Some(error.to_failure().message.to_string());
                Err(error)
            }
        }
    }

    /// Refuses while the scenario is being closed.
    pub(super) fn not_closing(&self) -> EngineResult<()> {
        if *self.closed.borrow() {
            let message = format!("scenario \"{}\" is being closed", self.name());
            return Err(EngineError::new(&codes::BUSY, message));
        }
        Ok(())
    }

    /// The replica side, if it is open.
    pub(super) fn opened(&self) -> Option<Arc<Replica<OsTree>>> {
        self.replica.lock().clone()
    }

    /// The replica side for a stream.
    pub(crate) fn link(self: &Arc<Self>) -> EngineResult<Link> {
        Ok(Link::new(Arc::clone(self), self.replica()?))
    }

    /// Opens everything, so that the scenario does what it is meant to do.
    pub(super) fn start(self: &Arc<Self>) -> EngineResult<()> {
        self.replica()?;
        self.connect()
    }

    /// Whether the master is in this process.
    pub(super) fn is_local(&self, definition: &Definition) -> bool {
        super::calls::is_local(&self.context.options, definition)
    }

    /// Starts the master, if it lives in this process; else it calls by itself.
    pub(super) fn connect(self: &Arc<Self>) -> EngineResult<()> {
        let definition = self.definition();
        let Some(options) = self.context.options.master.clone().filter(|_| self.is_local(&definition)) else {
            return Ok(());
        };
        let mut local = self.local.lock();
        if local.is_some() {
            return Ok(());
        }
        let settings = MasterSettings {
            scenario: self.id(),
            name: definition.name.clone(),
            host: definition.master.clone().unwrap_or(options.name),
            spool: options.spool,
            spool_bytes_max: definition.spool_bytes_max,
            spool_free_bytes_min: options.spool_free_bytes_min,
            hooks: options.hooks,
        };
        *local = Some(LocalMaster::start(&self.layout, &settings, self.link()?)?);
        Ok(())
    }

    /// The master's handle, waited for.
    pub(super) fn master(&self, wait: bool) -> EngineResult<Arc<dyn MasterHandle>> {
        let give_up = Instant::now() + if wait { ATTACH_WAIT } else { Duration::ZERO };
        let mut peer = self.peer.lock();
        loop {
            if let Some(master) = &peer.master {
                return Ok(Arc::clone(master));
            }
            if self.changed.wait_until(&mut peer, give_up).timed_out() {
                let message = format!("the master of scenario \"{}\" is not connected", self.name());
                let error = EngineError::new(&codes::CANNOT_ATTACH, message);
                return Err(match &peer.broken {
                    Some(cause) => error.because(cause.clone()),
                    None => error,
                });
            }
        }
    }

    /// How it stands now.
    pub(super) fn status(&self, wanted: Wanted) -> Status {
        self.standing(wanted).0
    }

    /// How it stands, and whether a master is awaited then: asked for one after the other, a master that connects in
    /// between looks as if it had gone for good.
    fn standing(&self, wanted: Wanted) -> (Status, bool) {
        let opened = self.replica();
        let (master, refused, broken, status, awaited) = {
            let peer = self.peer.lock();
            let refused =
                peer.refused.as_ref().is_some_and(|refused| refused.reason == Reason::NotAuthorized);
            (peer.master.is_some(), refused, peer.broken.clone(), peer.status.clone(), peer.is_awaited())
        };
        let replica = opened.as_ref().ok().map(|replica| replica.status());
        let synchronized =
            opened.as_ref().map_or(Synchronized::Never, |replica| replica.journal().synchronized());
        let facts = Facts {
            wanted,
            detached: replica.as_ref().is_some_and(|status| status.detached.is_some()),
            halt: replica.as_ref().and_then(|status| status.halt.as_ref()),
            broken: broken.as_deref(),
            refused,
            attached: master,
            agent: status.as_ref().map(|status| status.agent),
            agent_cause: status.as_ref().map(|status| status.cause.as_str()),
            first_synchronization: synchronized != Synchronized::Completed,
            running: self.is_starting(),
        };
        let (state, mut cause) = decide(&facts);
        let (journaled, applied) =
            replica.as_ref().map_or((Lsn::ZERO, Lsn::ZERO), |status| (status.journaled, status.applied));
        let captured = status.as_ref().map_or(journaled, |status| status.captured.max(journaled));
        let controls = opened.as_ref().ok().map(|replica| replica.journal().controls());
        let drift = controls.as_ref().and_then(|controls| controls.drift.last());
        if let (Some((object, what, _)), None) = (drift, &cause) {
            cause = Some(format!("the replica tree was changed by somebody else: {object}: {what}"));
        }
        let proofs =
            opened.as_ref().map_or_else(|_| Default::default(), |replica| replica.journal().proofs());
        let (proven, scrubbed) = (proofs.compared, proofs.scrubbed);
        if let (Some(compared), None) = (&proven, &cause) {
            cause = super::proving::cause(compared);
        }
        if let (Some(scrubbed), None) = (&scrubbed, &cause) {
            cause = super::scrubbing::cause(scrubbed);
        }
        let lag = opened.as_ref().map_or(Duration::ZERO, |replica| lag(replica, captured, applied));
        let status = Status {
            name: self.name().to_owned(),
            id: self.id(),
            state,
            cause,
            captured,
            journaled,
            applied,
            lag,
            spool_bytes: status
                .as_ref()
                .map_or(0, |status| status.spool_memory_bytes + status.spool_disk_bytes),
            gaps_open: controls.as_ref().map_or(0, |controls| controls.gaps.len() as u64),
            last_proof: proven.as_ref().map(|compared| Proof {
                lsn: compared.lsn(),
                equal: compared.is_equal(),
                at: compared.time,
            }),
            last_scrub: scrubbed,
            scrub_every: self.context.schedules.get(self.id()).map(|schedule| schedule.every),
            skipped: controls.as_ref().map_or(0, |controls| controls.skipped.len() as u64),
            window: opened.as_ref().ok().and_then(|replica| self.held(replica.journal())),
        };
        (status, awaited)
    }

    /// The state alone.
    pub(super) fn state(&self) -> State {
        self.status(self.wanted()).state
    }

    /// The state, and whether nothing is wrong but that the master has not called yet.
    pub(super) fn state_awaiting(&self) -> (State, bool) {
        let (status, awaited) = self.standing(self.wanted());
        (status.state, awaited && status.state == State::Problem)
    }

    /// Ends everything in good order. The replica side stays closed until [`Scene::reopen`].
    pub(super) fn shutdown(&self, limit: Duration) {
        if let Some(local) = self.local.lock().take() {
            local.stop(limit / 2, || {
                if let Some(replica) = &*self.replica.lock() {
                    replica.release();
                }
            });
        }
        // Links to remote masters end; what is in flight is taken first.
        self.closed.send_replace(true);
        self.wait_gone(limit / 4);
        self.mounts.close();
        self.archiving.stop(limit / 8);
        let replica = self.replica.lock().take();
        if let Some(replica) = replica {
            replica.stop(limit / 2);
            // Readers and farewells hold it for a moment; as long as they do, nobody can open the journal again.
            let give_up = Instant::now() + limit / 4;
            while Arc::strong_count(&replica) > 1 && Instant::now() < give_up {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.set_master(None);
    }

    /// Waits until no master is attached.
    fn wait_gone(&self, timeout: Duration) {
        let give_up = Instant::now() + timeout;
        let mut peer = self.peer.lock();
        while peer.master.is_some() {
            if self.changed.wait_until(&mut peer, give_up).timed_out() {
                return;
            }
        }
    }

    /// Lets the replica side be opened again.
    pub(super) fn reopen(&self) {
        self.closed.send_replace(false);
    }

    /// Turns true when links have to end.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }
}

/// Age of the oldest change that is captured and not applied.
fn lag(replica: &Replica<OsTree>, captured: Lsn, applied: Lsn) -> Duration {
    if Lsn::captured(applied.captured) >= captured {
        return Duration::ZERO;
    }
    let now = SystemClock.now().0;
    let then = replica.oldest_waiting().map_or(now, |time| time.0);
    Duration::from_nanos(u64::try_from(now.saturating_sub(then)).unwrap_or(0))
}
