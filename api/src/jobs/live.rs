//! A job that has not ended.
//!
//! Progress comes far more often than anybody looks: it is stored at once, and watchers are woken at most ten times a
//! second.

use super::{JobId, JobRow};
use crate::engine::Interrupt;
use crate::records::JobFinished;
use journal::Timestamp;
use parking_lot::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use wire::v1;

const WAKE_INTERVAL: Duration = Duration::from_millis(100);

/// How far a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for a thread.
    Waiting,
    /// Has one.
    Active,
}

pub(super) struct Live {
    id: JobId,
    kind: v1::JobKind,
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

struct Inner {
    row: JobRow,
    phase: Phase,
    progress: v1::Progress,
    woken: Option<Instant>,
    stopping: bool,
}

impl Live {
    pub(super) fn new(row: JobRow) -> Self {
        let id = JobId(row.submitted.id);
        let kind = v1::JobKind::try_from(row.submitted.kind).unwrap_or_default();
        let inner = Inner {
            row,
            phase: Phase::Waiting,
            progress: v1::Progress::default(),
            woken: None,
            stopping: false,
        };
        Live { id, kind, inner: Mutex::new(inner), changed: watch::Sender::new(0) }
    }

    pub(super) fn id(&self) -> JobId {
        self.id
    }

    pub(super) fn kind(&self) -> v1::JobKind {
        self.kind
    }

    pub(super) fn scenario(&self) -> String {
        self.inner.lock().row.submitted.scenario.clone()
    }

    pub(super) fn request(&self) -> Vec<u8> {
        self.inner.lock().row.submitted.request.clone()
    }

    /// Whether it keeps another exclusive job of the scenario out. Backups read a view and change nothing: they keep
    /// each other out, and who takes the tables away that they read.
    pub(super) fn holds(&self, scenario: &str, other: v1::JobKind) -> bool {
        let inner = self.inner.lock();
        let reads = |kind| kind == v1::JobKind::Backup;
        let rebuilds = |kind| kind == v1::JobKind::JournalRebuild;
        let alike = reads(self.kind) == reads(other) || rebuilds(self.kind) || rebuilds(other);
        alike && inner.row.submitted.exclusive && inner.row.submitted.scenario == scenario
    }

    /// Whether an attempt was made, by this daemon or one before.
    pub(super) fn started_before(&self) -> bool {
        self.inner.lock().row.started.is_some()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(super) fn message(&self) -> v1::Job {
        let inner = self.inner.lock();
        let mut job = inner.row.message();
        if inner.row.finished.is_none() {
            let state = match inner.phase {
                Phase::Active => v1::JobState::Active,
                Phase::Waiting if inner.row.held => v1::JobState::Hold,
                Phase::Waiting => v1::JobState::Ready,
            };
            job.set_state(state);
            job.progress = Some(inner.progress.clone());
        }
        job
    }

    pub(super) fn begin(&self, time: Timestamp) {
        let mut inner = self.inner.lock();
        inner.phase = Phase::Active;
        inner.row.started.get_or_insert(time);
        drop(inner);
        self.wake();
    }

    pub(super) fn end(&self, finished: JobFinished) {
        self.inner.lock().row.finished = Some(finished);
        self.wake();
    }

    pub(super) fn report(&self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        let mut inner = self.inner.lock();
        let new_phase = inner.progress.phase != phase;
        if new_phase {
            phase.clone_into(&mut inner.progress.phase);
        }
        if inner.progress.unit != unit {
            unit.clone_into(&mut inner.progress.unit);
        }
        inner.progress.done = done;
        inner.progress.total = total;
        let due = inner.woken.is_none_or(|woken| woken.elapsed() >= WAKE_INTERVAL);
        if due || new_phase {
            inner.woken = Some(Instant::now());
            drop(inner);
            self.wake();
        }
    }

    pub(super) fn set_held(&self, held: bool) {
        self.inner.lock().row.held = held;
        self.wake();
    }

    /// Notes the wish to cancel; false if it was noted before.
    pub(super) fn begin_cancel(&self) -> bool {
        let mut inner = self.inner.lock();
        let first = !inner.row.cancelling;
        inner.row.cancelling = true;
        drop(inner);
        self.wake();
        first
    }

    pub(super) fn stop(&self) {
        self.inner.lock().stopping = true;
    }

    pub(super) fn interrupted(&self) -> Option<Interrupt> {
        let inner = self.inner.lock();
        match (inner.row.cancelling, inner.stopping) {
            (true, _) => Some(Interrupt::Cancelled),
            (false, true) => Some(Interrupt::Shutdown),
            (false, false) => None,
        }
    }

    fn wake(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }
}
