//! The replica side of one scenario: journal, tree, and the thread that applies.
//!
//! Captures come in through [`Replica::ingest`]: redo is made durable, then they are acknowledged, then queued for
//! apply. If apply is behind, the queue forgets and apply reads the journal instead; nothing waits for apply, but for
//! the bytes of a first synchronization, which exist nowhere else.
//!
//! A *detached* replica journals and acknowledges and applies nothing captured. What the replica does to its own tree
//! ([`Replica::apply_local`]) is only allowed then, so local LSNs always follow the last applied captured one.
//!
//! Failures do not end the thread. Before undo is published a batch can simply be tried again. After that the very
//! batch, which is still in memory, is brought to its end before anything else. A full disk passes by itself; drift and
//! captures that do not fit the tree stop apply until somebody acts, and are journaled and shown; so does a tree that
//! cannot be synced. Nobody waits for a halted apply for ever: calls that need it fail and say why it halts.
//!
//! History grows old by a clock of its own ([`age`]), which stands while the master is not heard.
//!
//! What was handed to apply locally and not applied when such a call gave up is applied if apply goes on, and given up
//! if the process ends before ([`journal::journal`]). Until one of the two has happened nothing else local is taken, so
//! no plan is made for a tree that is about to change.

mod age;
mod ahead;
mod blocks;
mod door;
mod end;
mod errand;
mod leased;
mod local;
mod namespace;
mod patrol;
mod proof;
mod queue;
mod scrub;
mod thinner;
mod worker;

pub use blocks::block_hashes;
pub use leased::LeasedView;
pub use local::LocalGroup;
pub use namespace::Namespace;
pub use patrol::Patrolled;
pub use scrub::{Difference, SCRUB_CURSOR_MAX, ScrubError, ScrubHost, ScrubOptions, ScrubReport, Side};
pub use thinner::ThinningState;

use crate::apply::{self, Applier};
use crate::ingest::JournalDoor;
use age::Age;
use journal::journal::{Durable, Journal, Opened, Placed};
use journal::retention::RetentionPolicy;
use journal::thin::Tiers;
use journal::{
    BlockHash, Capture, ErrorKind, Event, JournalError, Lsn, NodeId, Part, Payload, Provenance, Timestamp,
    TreeIo,
};
use parking_lot::{Condvar, Mutex};
use queue::Queue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long calls wait for an apply that fails and may go on by itself.
const HALT_PATIENCE: Duration = Duration::from_secs(5);
/// Since a call began at least two attempts of apply must have failed: what was in the way may be gone by now.
const ASKED_PATIENCE: Duration = Duration::from_millis(1500);
/// Nodes remembered of which something could not be kept.
const DEGRADED_MAX: usize = 10_000;

/// Limits of a replica.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaOptions {
    /// Bytes of captures held in memory for apply.
    pub queue_bytes_max: u64,
    /// Longest time between two moves of the durable cursor while something changes.
    pub cursor_every: Duration,
    /// Apply pauses below this much free space in a root.
    pub free_bytes_min: u64,
    /// What is promised; `None`: everything for ever.
    pub retention: Option<RetentionPolicy>,
    /// Which points within it are given up as they grow older; `None`: none.
    pub thinning: Option<Tiers>,
    /// How often retention looks.
    pub retain_every: Duration,
    /// Pause between two patrols of the tree.
    pub patrol_every: Duration,
}

impl Default for ReplicaOptions {
    fn default() -> Self {
        ReplicaOptions {
            queue_bytes_max: 48 << 20,
            cursor_every: Duration::from_secs(2),
            free_bytes_min: 64 << 20,
            retention: None,
            thinning: None,
            retain_every: Duration::from_secs(60),
            patrol_every: Duration::from_secs(600),
        }
    }
}

/// Why apply does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Too little room; goes on by itself.
    Full(String),
    /// The system refuses; tried again.
    Failing(String),
    /// Somebody must act.
    Stopped(String),
}

/// How a replica stands.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// Last captured LSN that is durable.
    pub journaled: Lsn,
    /// Last LSN the tree shows.
    pub applied: Lsn,
    /// Why the tree does not follow the capture.
    pub detached: Option<String>,
    /// Why apply does not go on.
    pub halt: Option<Halt>,
    /// Nodes of which something could not be kept for lack of privilege or support.
    pub degraded: u64,
}

pub(crate) struct Shared {
    queue: Queue,
    locals: std::collections::VecDeque<Placed>,
    detached: bool,
    /// A batch is being applied.
    busy: bool,
    stopping: bool,
    /// Place in the redo stream from which reading goes on after `applied`.
    applied_redo: journal::log::RecordAt,
    halt: Option<Halt>,
    /// When apply failed first since it last succeeded.
    halted_since: Option<Instant>,
    /// The tree could not be synced. Never taken back: only a start writes again what may be lost.
    unsynced: bool,
    /// Nobody is to wait for apply any more.
    released: bool,
    /// Somebody waits for the durable cursor to get here; no longer true once it has.
    awaited: Lsn,
    degraded: BTreeMap<NodeId, String>,
    thinning: ThinningState,
    age: Age,
}

impl Shared {
    /// Whether whoever waits for apply since then should give up, and with what.
    fn halted(&self, asked: Instant) -> Option<JournalError> {
        let waited = self.halted_since.is_some_and(|since| since.elapsed() >= HALT_PATIENCE)
            && asked.elapsed() >= ASKED_PATIENCE;
        let (kind, why) = match self.halt.clone()? {
            Halt::Stopped(why) => (ErrorKind::Drift, why),
            Halt::Full(why) if waited => (ErrorKind::Full, why),
            Halt::Failing(why) if waited => (ErrorKind::Io, why),
            Halt::Full(_) | Halt::Failing(_) => return None,
        };
        let kind = if self.unsynced { ErrorKind::Io } else { kind };
        Some(JournalError::Halted { kind, why })
    }
}

/// The replica side of one scenario.
pub struct Replica<T: TreeIo> {
    journal: Arc<Journal>,
    tree: Arc<T>,
    options: ReplicaOptions,
    shared: Arc<(Mutex<Shared>, Condvar)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What sessions meet.
    door: JournalDoor,
    /// One local change after the other.
    minting: Mutex<()>,
    errand: errand::Errands<T>,
    /// What only this process holds, and the end of it: see [`end`].
    first: end::First,
}

impl<T: TreeIo> Replica<T> {
    /// Reconciles the tree with an opened journal and starts to apply.
    ///
    /// # Errors
    /// As recovery: `Drift` if the tree was changed by others while nobody looked, `Tree` if it cannot be used.
    pub fn start(opened: Opened, tree: Arc<T>, options: ReplicaOptions) -> Result<Arc<Self>, JournalError> {
        let Opened { journal, cursor, published, .. } = opened;
        let window = apply::window(&journal, cursor, published)?;
        let inodes = apply::reconcile(&journal, &tree, &window)?;
        if !window.is_empty() {
            tree.sync().map_err(|source| JournalError::Tree {
                operation: "sync",
                object: "all roots".to_owned(),
                source,
            })?;
        }
        // Reading from the cursor's place on finds every capture that is not applied.
        let redo = journal.cursor_redo();
        if !window.is_empty() {
            journal.advance_cursor(published, redo, &inodes)?;
        }
        journal.note_applied(published);
        journal.publish(Vec::new(), published, redo)?;
        // Before anything uses the tree: names in what retention has removed lead nowhere. Not before the window, which may
        // touch names in there, and is durable now.
        apply::prune_at_start(&journal, &tree)?;
        let detached = journal.with_controls(|controls| controls.detached.is_some());
        let shared = Shared {
            queue: Queue::new(options.queue_bytes_max, redo, published, journal.journaled()),
            locals: std::collections::VecDeque::new(),
            detached,
            busy: false,
            stopping: false,
            applied_redo: redo,
            halt: None,
            halted_since: None,
            unsynced: false,
            released: false,
            awaited: Lsn::ZERO,
            degraded: BTreeMap::new(),
            thinning: ThinningState::default(),
            age: Age::new(journal.time_of(Lsn::captured(published.captured))),
        };
        let first = end::First::new(journal.with_controls(|controls| controls.first_point != 0));
        let shared = Arc::new((Mutex::new(shared), Condvar::new()));
        let applier = Applier::new(Arc::clone(&journal), Arc::clone(&tree), redo);
        let errand = errand::Errands::default();
        let threads = worker::start(&journal, &tree, options, applier, (&shared, &errand));
        let replica = Arc::new(Replica {
            door: JournalDoor::new(Arc::clone(&journal)),
            journal,
            tree,
            options,
            shared,
            threads: Mutex::new(threads),
            minting: Mutex::new(()),
            errand,
            first,
        });
        patrol::start(&replica, options.patrol_every);
        Ok(replica)
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The tree.
    #[must_use]
    pub fn tree(&self) -> &Arc<T> {
        &self.tree
    }

    fn submit(&self, parts: Vec<Part>, done: impl FnOnce(Result<Lsn, JournalError>) + Send + 'static) {
        let mut journaled = Vec::with_capacity(parts.len());
        let mut external = false;
        for part in &parts {
            let mut part = part.clone();
            if part.capture.provenance == Provenance::Synchronization {
                external |= strip(&mut part.capture);
            }
            journaled.push(part);
        }
        if external && let Err(error) = self.wait_for_room() {
            return done(Err(error));
        }
        let (shared, journal) = (Arc::clone(&self.shared), Arc::clone(&self.journal));
        self.journal.submit(journaled, move |durable| {
            let told = durable.map(|durable| {
                let with_bytes =
                    durable.into_iter().zip(parts).map(|(durable, part)| Durable { part, ..durable });
                let mut state = shared.0.lock();
                for one in with_bytes {
                    state.queue.push(one);
                }
                shared.1.notify_all();
                journal.journaled()
            });
            // Whoever is told may close the journal at once and open it again: nothing here may still hold it.
            drop((journal, shared));
            done(told);
        });
    }

    fn wait_for_room(&self) -> Result<(), JournalError> {
        let mut state = self.shared.0.lock();
        while !state.queue.has_room() {
            if state.stopping || state.released {
                return Err(stopping());
            }
            self.shared.1.wait_for(&mut state, Duration::from_millis(200));
        }
        Ok(())
    }

    /// Nobody waits for apply any more: what a first synchronization brings and finds no room is refused. To be called
    /// before whoever brings it is waited for.
    pub fn release(&self) {
        self.shared.0.lock().released = true;
        self.shared.1.notify_all();
    }

    /// Whether nobody is to wait for apply any more.
    pub(crate) fn is_stopping(&self) -> bool {
        let state = self.shared.0.lock();
        state.stopping || state.released
    }

    /// From now on nothing captured is applied. Returns when what is under way is done, local changes included.
    ///
    /// # Errors
    /// As the journal; `Halted` if apply halts in the middle of something. Then the replica goes on as before.
    pub fn detach(&self, why: &str) -> Result<(), JournalError> {
        let asked = Instant::now();
        {
            let mut state = self.shared.0.lock();
            let before = std::mem::replace(&mut state.detached, true);
            while state.busy || !state.locals.is_empty() {
                let halted = if state.stopping { Some(stopping()) } else { state.halted(asked) };
                if let Some(error) = halted {
                    state.detached = before;
                    return Err(error);
                }
                self.shared.1.wait_for(&mut state, Duration::from_millis(100));
            }
        }
        if self.journal.with_controls(|controls| controls.detached.is_some()) {
            return Ok(());
        }
        self.journal.control(journal::record::Control::Detached { why: why.to_owned() })
    }

    /// Apply goes on with what was captured. The tree must be back at the last applied captured LSN.
    ///
    /// # Errors
    /// As the journal; `Halted` if local changes wait for apply.
    pub fn attach(&self) -> Result<(), JournalError> {
        let Some(_minting) = self.minting.try_lock() else {
            let why = "a rewind is under way".to_owned();
            return Err(JournalError::Halted { kind: ErrorKind::Io, why });
        };
        self.nothing_local_waits()?;
        self.journal.control(journal::record::Control::Attached)?;
        let mut state = self.shared.0.lock();
        state.detached = false;
        self.shared.1.notify_all();
        Ok(())
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        let state = self.shared.0.lock();
        ReplicaStatus {
            journaled: self.journal.journaled(),
            applied: self.journal.applied(),
            detached: self.journal.with_controls(|controls| controls.detached.clone()),
            halt: state.halt.clone(),
            degraded: state.degraded.len() as u64,
        }
    }

    /// Whether who has waited for apply since then should give up: it has stopped, or has failed for a while.
    #[must_use]
    pub fn halted(&self, asked: Instant) -> Option<JournalError> {
        self.shared.0.lock().halted(asked)
    }

    /// How thinning goes.
    #[must_use]
    pub fn thinning(&self) -> ThinningState {
        self.shared.0.lock().thinning.clone()
    }

    /// The master's clock at the oldest captured change that waits for apply.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Timestamp> {
        self.shared.0.lock().queue.oldest_waiting()
    }

    /// Limits it was started with.
    #[must_use]
    pub fn options(&self) -> ReplicaOptions {
        self.options
    }

    /// Applies what is queued for up to `drain`, syncs, moves the cursor and ends the threads.
    pub fn stop(&self, drain: Duration) {
        let give_up = Instant::now() + drain;
        let mut state = self.shared.0.lock();
        while !state.detached && state.halt.is_none() && !state.queue.is_empty() && Instant::now() < give_up {
            self.shared.1.wait_for(&mut state, Duration::from_millis(50));
        }
        state.stopping = true;
        self.shared.1.notify_all();
        drop(state);
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the replica panicked");
            }
        }
    }
}

/// The replica ends before what was asked for is done.
fn stopping() -> JournalError {
    JournalError::NotFound { what: "running replica", name: String::new() }
}

/// Replaces bytes by their hash: those of a first synchronization are not journaled. Whether there were any.
fn strip(capture: &mut Capture) -> bool {
    let mut any = false;
    for event in &mut capture.events {
        if let Event::Write { data, .. } = event
            && let Payload::Inline(bytes) = data
        {
            any = true;
            let mut hash = BlockHash::default();
            if let Some(start) = blake3::hash(bytes).as_bytes().get(..hash.len()) {
                hash.copy_from_slice(start);
            }
            *data = Payload::External { hash, bytes: bytes.len() as u32 };
        }
    }
    any
}
