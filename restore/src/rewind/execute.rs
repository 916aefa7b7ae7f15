//! Carrying out a plan on a replica.
//!
//! The replica is detached first, so the present stands still but for what is done here. Nothing is remembered about
//! how far a rewind has come: after an interruption it is planned again from where the tree stands. The bookmark set
//! before the first change leads back, whatever happens after it. A rewind that fails before its first change leaves
//! the replica as it found it.

use super::names::Note;
use super::plan::RewindPlan;
use crate::error::RestoreError;
use crate::monitor::{Monitor, Phase};
use crate::scope::PathFilter;
use journal::view::View;
use journal::{ErrorKind, Event, JournalError, Lsn, NodeId, RootNo, Timestamp, TreeIo};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::mpsc::{Receiver, SyncSender};

/// One local change: its root, a path for people, its events.
pub type LocalGroup = (RootNo, Vec<u8>, Vec<Event>);

/// Takes changes that a replica makes to its own tree.
pub trait EventSink {
    /// Takes changes, journals and applies them, one local LSN each, while the next are taken. Returns the last LSN,
    /// applied. If they put back undo as it is ([`journal::Payload::Undone`]), it is undo that `reading` needs, which the
    /// caller holds.
    ///
    /// # Errors
    /// As the journal and apply.
    fn apply_local(
        &self,
        reading: Option<Lsn>,
        groups: &mut dyn Iterator<Item = LocalGroup>,
    ) -> Result<Lsn, JournalError>;
}

/// A replica as a rewind sees it.
pub trait ReplicaControl: EventSink {
    /// Its tree.
    type Tree: TreeIo;
    /// A view that retention leaves alone as long as it is held.
    type Leased: Deref<Target = View<Self::Tree>>;

    /// The last LSN the tree shows.
    fn applied(&self) -> Lsn;

    /// Whether the tree has stopped following the capture.
    fn is_detached(&self) -> bool;

    /// Stops following the capture; no captured change is applied after it has returned. Success if it was detached.
    ///
    /// # Errors
    /// As the journal.
    fn detach(&self, why: &str) -> Result<(), JournalError>;

    /// Follows the capture again. The tree is at the last applied captured LSN.
    ///
    /// # Errors
    /// As the journal.
    fn attach(&self) -> Result<(), JournalError>;

    /// The tree at a point.
    ///
    /// # Errors
    /// `OutsideWindow`.
    fn view(&self, lsn: Lsn) -> Result<Self::Leased, JournalError>;

    /// Sets an automatic bookmark.
    ///
    /// # Errors
    /// `Exists` if the name is taken, and as the journal.
    fn set_bookmark(&self, name: &str, lsn: Lsn) -> Result<(), JournalError>;
}

/// A rewind wanted.
#[derive(Clone, Debug, Default)]
pub struct RewindOptions {
    /// Only these paths and what is below them; empty: everything.
    pub paths: Vec<PathFilter>,
    /// Wall clock, for the name of the bookmark.
    pub now: Timestamp,
    /// The bookmark that an interrupted attempt at the same rewind has set: it is kept and no other is set.
    pub before: Option<String>,
}

/// How a rewind went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewindReport {
    /// The point gone to.
    pub to: Lsn,
    /// The LSN at which the tree stands now.
    pub applied: Lsn,
    /// The bookmark that leads back.
    pub before: String,
    /// Files that differ from before, those included that came or went with their directories.
    pub files_changed: u64,
    /// Bytes of files written.
    pub bytes_written: u64,
    /// Local changes made.
    pub captures: u64,
    /// What one would not expect.
    pub notes: Vec<Note>,
}

/// How a return to the capture went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReturnReport {
    /// The captured LSN whose tree this is again.
    pub captured: Lsn,
    /// Files that differ from before.
    pub files_changed: u64,
    /// Bytes of files written.
    pub bytes_written: u64,
}

/// Weight (about what they take in memory) and number of changes read at a time. Batches that are in memory: one is read, some wait, one is taken from by the
/// replica, which holds what it has not applied yet.
const BATCH_WEIGHT: u64 = 4 << 20;
const BATCH_CAPTURES: usize = 512;
const BATCHES_WAITING: usize = 2;

/// The name of the bookmark set before a rewind: date and time (UTC), without a colon.
#[must_use]
pub fn before_name(now: Timestamp) -> String {
    name_before(BEFORE_REWIND, now)
}

/// How the bookmark before a rewind begins.
pub(super) const BEFORE_REWIND: &str = "before-rewind";

fn name_before(what: &str, now: Timestamp) -> String {
    let time = jiff::Timestamp::from_nanosecond(now.0.into()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{what}-{}", time.strftime("%Y-%m-%dT%H-%M-%SZ"))
}

/// Makes the replica tree equal to a point. The replica is detached afterwards, and stays so if a rewind that has
/// begun fails or is cancelled; calling again, with [`RewindOptions::before`], goes on.
///
/// # Errors
/// `NotApplied` for a point the tree has not reached; those of the plan; `Cancelled`; as the journal and apply.
pub fn rewind_replica<R: ReplicaControl>(
    replica: &R,
    to: Lsn,
    options: &RewindOptions,
    monitor: &dyn Monitor,
) -> Result<RewindReport, RestoreError> {
    let was_detached = replica.is_detached();
    if to > replica.applied() {
        return Err(RestoreError::NotApplied { to, applied: replica.applied() });
    }
    replica.detach(&format!("rewind to {to}")).map_err(RestoreError::journal("detach the replica"))?;
    let mut begun = false;
    let outcome = rewind_detached(replica, to, options, monitor, &mut begun);
    if outcome.is_err() && !begun && !was_detached {
        // The tree is where it was: nothing keeps it from following on. The first error is the one that counts.
        if let Err(error) = replica.attach() {
            tracing::error!(%error, "cannot attach the replica after a rewind that changed nothing");
        }
    }
    outcome
}

fn rewind_detached<R: ReplicaControl>(
    replica: &R,
    to: Lsn,
    options: &RewindOptions,
    monitor: &dyn Monitor,
    begun: &mut bool,
) -> Result<RewindReport, RestoreError> {
    let failed = RestoreError::journal("open a view");
    let head = replica.applied();
    let (now, then) = (replica.view(head).map_err(&failed)?, replica.view(to).map_err(&failed)?);
    let plan = RewindPlan::new(&now, &then, &options.paths, monitor)?;
    if monitor.cancelled() {
        return Err(RestoreError::Cancelled);
    }
    let before = match &options.before {
        Some(name) => name.clone(),
        None => set_before(replica, head, BEFORE_REWIND, options.now)?,
    };
    *begun = true;
    let done = carry_out(&plan, replica, monitor)?;
    Ok(RewindReport {
        to,
        applied: done.applied.unwrap_or(head),
        before,
        files_changed: plan.files_changed(&done.nodes)?,
        bytes_written: done.bytes,
        captures: done.captures,
        notes: plan.notes().to_vec(),
    })
}

/// Sets the bookmark, under another name if two rewinds begin within a second.
pub(crate) fn set_before<R: ReplicaControl>(
    replica: &R,
    head: Lsn,
    what: &str,
    now: Timestamp,
) -> Result<String, RestoreError> {
    const ATTEMPTS: u32 = 1000;
    let base = name_before(what, now);
    let mut name = base.clone();
    let mut attempt = 1;
    loop {
        match replica.set_bookmark(&name, head) {
            Ok(()) => return Ok(name),
            Err(JournalError::Exists { .. }) if attempt < ATTEMPTS => {
                attempt += 1;
                name = format!("{base}-{attempt}");
            }
            Err(source) => {
                return Err(RestoreError::Journal { operation: "set the bookmark that leads back", source });
            }
        }
    }
}

/// Brings a detached replica back to the last applied captured LSN and lets it follow the capture again. Does nothing
/// to a replica that is not detached.
///
/// # Errors
/// As [`rewind_replica`]. The replica stays detached then; calling again goes on.
pub fn return_to_capture<R: ReplicaControl>(
    replica: &R,
    monitor: &dyn Monitor,
) -> Result<ReturnReport, RestoreError> {
    let head = replica.applied();
    let mut report = ReturnReport { captured: Lsn::captured(head.captured), ..ReturnReport::default() };
    if !replica.is_detached() {
        return Ok(report);
    }
    if head.is_local() {
        let failed = RestoreError::journal("open a view");
        let (now, then) =
            (replica.view(head).map_err(&failed)?, replica.view(report.captured).map_err(&failed)?);
        let plan = RewindPlan::to_capture(&now, &then, monitor)?;
        let done = carry_out(&plan, replica, monitor)?;
        report.bytes_written = done.bytes;
        report.files_changed = plan.files_changed(&done.nodes)?;
    }
    replica.attach().map_err(RestoreError::journal("attach the replica"))?;
    Ok(report)
}

/// What was done of a plan.
#[derive(Default)]
struct Done {
    applied: Option<Lsn>,
    bytes: u64,
    captures: u64,
    /// Nodes whose bytes or metadata changed.
    nodes: BTreeSet<NodeId>,
}

/// Changes that go to the replica together.
#[derive(Default)]
struct Batch {
    groups: Vec<LocalGroup>,
    bytes: u64,
    weight: u64,
    nodes: Vec<NodeId>,
    /// How far the plan is carried out with it.
    finished: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.weight >= BATCH_WEIGHT || self.groups.len() >= BATCH_CAPTURES
    }
}

/// Reads what the plan writes, until nobody wants it.
fn read<T: TreeIo>(
    plan: &RewindPlan<'_, T>,
    batches: &SyncSender<Result<Batch, RestoreError>>,
) -> Option<Infallible> {
    let mut captures = plan.captures();
    let mut batch = Batch::default();
    loop {
        match captures.next() {
            Some(Ok(capture)) => {
                batch.bytes += capture.bytes;
                batch.weight += capture.weight;
                batch.nodes.extend(capture.node);
                batch.finished = capture.done;
                batch.groups.push((capture.root, capture.path, capture.events));
                if batch.is_full() {
                    batches.send(Ok(std::mem::take(&mut batch))).ok()?;
                }
            }
            Some(Err(error)) => {
                // What is whole comes first.
                batches.send(Ok(batch)).ok()?;
                batches.send(Err(error)).ok()?;
                return None;
            }
            None => {
                batch.finished = plan.length();
                batches.send(Ok(batch)).ok()?;
                return None;
            }
        }
    }
}

/// Carries a plan out. The next batch is read while one is journaled and applied: views stay right while the tree changes
/// under them.
fn carry_out<T: TreeIo + Sync>(
    plan: &RewindPlan<'_, T>,
    sink: &dyn EventSink,
    monitor: &dyn Monitor,
) -> Result<Done, RestoreError> {
    let done = Done::default();
    let total = plan.length();
    std::thread::scope(|scope| {
        // It ends when the receiver is gone, and is waited for: for as long as the reading under way takes.
        let (send, batches) = std::sync::mpsc::sync_channel(BATCHES_WAITING);
        let reader = std::thread::Builder::new().name("rewind-read".to_owned());
        reader
            .spawn_scoped(scope, move || read(plan, &send))
            .map_err(|source| RestoreError::Thread { source })?;
        let mut handed =
            Handed { batches: &batches, groups: Vec::new().into_iter(), done, ended: Ok(()), monitor, total };
        if let Some(first) = handed.next() {
            let mut groups = std::iter::once(first).chain(&mut handed);
            let applied = sink.apply_local(Some(plan.reading()), &mut groups).map_err(apply_error)?;
            handed.done.applied = Some(applied);
        }
        handed.ended.map(|()| handed.done)
    })
}

/// What was read, as the replica takes it; ends early if reading failed or nobody wants it any more.
struct Handed<'b> {
    batches: &'b Receiver<Result<Batch, RestoreError>>,
    groups: std::vec::IntoIter<LocalGroup>,
    done: Done,
    ended: Result<(), RestoreError>,
    monitor: &'b dyn Monitor,
    total: u64,
}

impl Iterator for Handed<'_> {
    type Item = LocalGroup;

    fn next(&mut self) -> Option<LocalGroup> {
        while self.ended.is_ok() {
            if let Some(group) = self.groups.next() {
                return Some(group);
            }
            let Batch { groups, bytes, nodes, finished, .. } = match self.batches.recv().ok()? {
                Ok(batch) => batch,
                Err(error) => {
                    self.ended = Err(error);
                    return None;
                }
            };
            // Only between batches: what was handed over is applied or not, never half.
            if self.monitor.cancelled() && !groups.is_empty() {
                self.ended = Err(RestoreError::Cancelled);
                return None;
            }
            self.done.captures += groups.len() as u64;
            self.done.bytes += bytes;
            self.done.nodes.extend(nodes);
            self.groups = groups.into_iter();
            self.monitor.progress(Phase::Rewind, finished, Some(self.total));
        }
        None
    }
}

fn apply_error(source: JournalError) -> RestoreError {
    let operation = match source.kind() {
        ErrorKind::Drift => "change the replica tree, which is not as the journal says",
        _ => "change the replica tree",
    };
    RestoreError::Journal { operation, source }
}
