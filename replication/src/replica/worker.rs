//! The two threads of a replica: one applies, one moves the durable cursor.

use super::errand::Errands;
use super::queue::{Next, read_batch};
use super::thinner::{self, Thinner};
use super::{Halt, ReplicaOptions, Shared, age};
use crate::apply::{self, Applier, ApplyError, CursorMover, Moved};
use crate::chain::chain;
use journal::journal::{Journal, Placed};
use journal::log::RecordAt;
use journal::{ErrorKind, JournalError, Lsn, RootNo, Timestamp, TreeIo};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

type State = Arc<(Mutex<Shared>, Condvar)>;

/// Blocks of points made in one turn: a backlog of ten million points is gone in minutes, and a turn takes little.
const BLOCKS_A_TURN: usize = 16;
/// Pause before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// With nothing to be applied for so long, it is looked after everything else.
const IDLE: Duration = Duration::from_millis(500);
/// The same when memory was just written out: what the allocator holds of it is given back soon.
const SETTLE_LOOK: Duration = Duration::from_millis(200);

pub(super) fn start<T: TreeIo>(
    journal: &Arc<Journal>,
    tree: &Arc<T>,
    options: ReplicaOptions,
    applier: Applier<T>,
    (shared, errand): (&State, &Errands<T>),
) -> Vec<JoinHandle<()>> {
    // Held while the tree is reconciled: the cursor must not move to a tree in between.
    let moving = Arc::new(Mutex::new(()));
    let mover = applier.cursor_mover();
    let worker = Worker {
        journal: Arc::clone(journal),
        tree: Arc::clone(tree),
        options,
        applier,
        shared: Arc::clone(shared),
        errand: Arc::clone(errand),
        moving: Arc::clone(&moving),
        retained: Instant::now(),
        pruned: Lsn::ZERO,
        settled: false,
        thinner: options.thinning.map(|tiers| Thinner::new(tiers, options.retain_every)),
    };
    let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| {
            tracing::error!(%error, "cannot start a thread");
        })
    };
    let (journal, shared) = (Arc::clone(journal), Arc::clone(shared));
    let threads = [
        spawn("apply", Box::new(move || worker.run())),
        spawn(
            "cursor",
            Box::new(move || move_cursor(&journal, &mover, &shared, &moving, options.cursor_every)),
        ),
    ];
    threads.into_iter().flatten().collect()
}

fn move_cursor<T: TreeIo>(
    journal: &Arc<Journal>,
    mover: &CursorMover<T>,
    shared: &State,
    moving: &Mutex<()>,
    every: Duration,
) {
    // Somebody waits, and there is something to do for him.
    let is_awaited = |state: &Shared| {
        let cursor = journal.cursor();
        state.halt.is_none() && cursor < state.awaited && journal.applied() >= state.awaited
    };
    loop {
        let stopping = {
            let mut state = shared.0.lock();
            if !state.stopping && !is_awaited(&state) {
                shared.1.wait_for(&mut state, every);
            }
            state.stopping && !state.busy
        };
        let mut failed = false;
        let guard = moving.lock();
        let (applied, redo, settled) = {
            let state = shared.0.lock();
            // A batch under way is not in `applied`; what it has touched already does no harm.
            (journal.applied(), state.applied_redo, state.halt.is_none())
        };
        if settled && applied > journal.cursor() {
            match mover.move_to(applied, redo).and_then(|()| journal.save_controls().map_err(Moved::Not)) {
                Ok(()) => {}
                Err(Moved::Not(error)) => {
                    failed = true;
                    tracing::error!(error = %chain(&error), "cannot move the durable cursor");
                }
                Err(Moved::Unsynced(error)) => unsynced(shared, journal.cursor(), &error),
            }
        }
        drop(guard);
        if stopping {
            return;
        }
        summarize_points(journal);
        // Woken by every batch: still, sync no more often than asked for, unless somebody waits for it.
        let until = Instant::now() + every.min(Duration::from_millis(200));
        let mut state = shared.0.lock();
        while !state.stopping && (failed || !is_awaited(&state)) {
            if shared.1.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
    }
}

/// Here apply does not wait for it.
fn summarize_points(journal: &Journal) {
    for _ in 0..BLOCKS_A_TURN {
        match journal.summarize_points() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "points are not summarized; they are searched one by one");
                return;
            }
        }
    }
}

/// The kernel says once that it could not write pages back, and then takes them for clean: whoever asks again is told
/// that all is well, and reads old bytes once memory is short. So no undo may be computed from this tree any more, and
/// the cursor stays. The next start writes everything behind the cursor again, from the journal.
fn unsynced(shared: &State, cursor: Lsn, error: &JournalError) {
    let text = format!(
        "{}; what was written after LSN {cursor} may be lost. See to the disk, then restart the daemon: it writes \
         that again",
        chain(error)
    );
    tracing::error!(error = text, "the replica tree cannot be synced: apply stops");
    let mut state = shared.0.lock();
    state.unsynced = true;
    state.halted_since.get_or_insert_with(Instant::now);
    state.halt = Some(Halt::Stopped(text));
    shared.1.notify_all();
}

/// Moves the durable cursor to where the tree is. By the applying thread, between two batches, which holds `moving`.
fn settle<T: TreeIo>(journal: &Journal, shared: &State, mover: &CursorMover<T>) -> Result<(), JournalError> {
    let (redo, unsynced_before) = {
        let state = shared.0.lock();
        (state.applied_redo, state.unsynced)
    };
    if unsynced_before {
        // Whoever asks again is told that all is well.
        let source = std::io::Error::other("it could not be synced before");
        return Err(JournalError::Tree { operation: "sync", object: "all roots".to_owned(), source });
    }
    match mover.move_to(journal.applied(), redo) {
        Ok(()) => Ok(()),
        Err(Moved::Not(error)) => Err(error),
        Err(Moved::Unsynced(error)) => {
            unsynced(shared, journal.cursor(), &error);
            Err(error)
        }
    }
}

struct Worker<T: TreeIo> {
    journal: Arc<Journal>,
    tree: Arc<T>,
    options: ReplicaOptions,
    applier: Applier<T>,
    shared: State,
    errand: Errands<T>,
    moving: Arc<Mutex<()>>,
    /// When retention last looked.
    retained: Instant,
    /// Up to where history has been removed.
    pruned: Lsn,
    /// Tables in memory were just written out.
    settled: bool,
    thinner: Option<Thinner>,
}

enum Work {
    Batch(Vec<Placed>, RecordAt),
    Read(RecordAt, Lsn, Lsn),
    Errand,
    Wait,
    Stop,
}

impl<T: TreeIo> Worker<T> {
    fn run(mut self) {
        loop {
            // A batch that was given up because the replica stops may be in the tree in part.
            if self.retained.elapsed() >= 2 * self.options.retain_every && !self.shared.0.lock().stopping {
                // Never idle: retention has its turn between two batches.
                self.retain();
            }
            match self.work() {
                Work::Stop => return,
                Work::Wait => {
                    self.retain();
                    self.thin();
                    self.settle();
                }
                Work::Batch(batch, redo) => self.apply_until_done(&batch, redo),
                Work::Errand => self.run_errand(),
                Work::Read(from, after, upto) => match read_batch(&self.journal, from, after, upto) {
                    Ok(batch) => {
                        let last = batch.last().map(|last| (last.capture.lsn, last.at));
                        if let Some((lsn, at)) = last {
                            self.shared.0.lock().queue.took(lsn, at);
                            self.apply_until_done(&batch, at);
                        }
                    }
                    Err(error) => {
                        self.failed(&error);
                        // Nothing else waits here, and a disk that fails is not helped by being asked all the time.
                        let mut state = self.shared.0.lock();
                        if !state.stopping {
                            self.shared.1.wait_for(&mut state, AGAIN);
                        }
                    }
                },
            }
        }
    }

    fn work(&self) -> Work {
        let mut state = self.shared.0.lock();
        if state.busy {
            state.busy = false;
            self.shared.1.notify_all();
        }
        if state.stopping {
            return Work::Stop;
        }
        if state.unsynced {
            self.shared.1.wait_for(&mut state, IDLE);
            return Work::Wait;
        }
        if !state.detached && state.halt.is_none() && self.errand.lock().waits() {
            state.busy = true;
            return Work::Errand;
        }
        if let Some(local) = state.locals.pop_front() {
            let mut batch = vec![local];
            while batch.len() < apply::BATCH_CAPTURES_MAX
                && let Some(local) = state.locals.pop_front()
            {
                batch.push(local);
            }
            state.busy = true;
            return Work::Batch(batch, state.queue.redo());
        }
        if !state.detached && !matches!(state.halt, Some(Halt::Stopped(_))) {
            match state.queue.next() {
                Next::Batch(batch, redo) => {
                    state.busy = true;
                    return Work::Batch(batch, redo);
                }
                Next::Read(from, after, upto) => {
                    state.busy = true;
                    return Work::Read(from, after, upto);
                }
                Next::Nothing => {}
            }
        }
        self.shared.1.wait_for(&mut state, if self.settled { SETTLE_LOOK } else { IDLE });
        Work::Wait
    }

    fn run_errand(&mut self) {
        // Whoever asked may have taken it back.
        let Some(run) = self.errand.lock().next() else { return };
        let moving = Arc::clone(&self.moving);
        let _guard = moving.lock();
        let (journal, shared, mover) = (&self.journal, &self.shared, self.applier.cursor_mover());
        run(&mut self.applier, &|| settle(journal, shared, &mover));
    }

    /// After much was applied: gives its memory back, first that of the tables, then, at the next idle moment, what the
    /// allocator still holds of it.
    fn settle(&mut self) {
        self.applier.settle();
        if std::mem::take(&mut self.settled) {
            sys::give_back_heap();
        }
        match self.journal.tables().settle() {
            Ok(settled) => self.settled = settled,
            Err(error) => tracing::warn!(error = %chain(&error), "the tables keep their memory"),
        }
    }

    /// Up to when history has grown old.
    fn age(&self) -> Timestamp {
        let now = age::clock(&self.journal);
        self.shared.0.lock().age.upto(self.journal.applied(), now)
    }

    /// Gives up points that are too close together for their age, if it is time to look and nothing else is to be done.
    fn thin(&mut self) {
        let age = self.age();
        let Some(thinner) = self.thinner.as_mut().filter(|thinner| thinner.is_due()) else { return };
        {
            let state = self.shared.0.lock();
            let lags = !state.detached && self.journal.journaled() > self.journal.applied();
            if lags || state.halt.is_some() || state.stopping || state.unsynced {
                return;
            }
        }
        let free = self.journal.set().disk().free_bytes(self.journal.directory()).unwrap_or(u64::MAX);
        if free < self.options.free_bytes_min.saturating_add(thinner::ROOM) {
            return;
        }
        let state = thinner.step(&self.journal, age);
        self.shared.0.lock().thinning = state;
    }

    /// Moves the durable cursor to where the tree is. Nothing is applied meanwhile.
    fn move_cursor(&self) -> Result<(), JournalError> {
        let _guard = self.moving.lock();
        settle(&self.journal, &self.shared, &self.applier.cursor_mover())
    }

    /// Gives back what is no longer promised, if it is time to look.
    fn retain(&mut self) {
        let Some(policy) =
            self.options.retention.filter(|_| self.retained.elapsed() >= self.options.retain_every)
        else {
            return;
        };
        self.retained = Instant::now();
        let retained = self.journal.retain(policy, self.age()).and_then(|retained| {
            if self.pruned == retained.horizon {
                return Ok((retained, 0));
            }
            let removed = apply::prune(&self.journal, &self.tree, retained.horizon, || self.move_cursor())?;
            self.pruned = retained.horizon;
            Ok((retained, removed))
        });
        match retained {
            Ok((retained, removed)) => {
                if retained.over_budget {
                    let bytes = retained.bytes;
                    tracing::warn!(
                        bytes,
                        "the journal is over its budget, and pins keep it from giving space back"
                    );
                }
                if retained.freed > 0 || removed > 0 {
                    let horizon = retained.horizon;
                    tracing::info!(%horizon, freed = retained.freed, removed, "retention gave space back");
                }
            }
            Err(error) => tracing::error!(error = %chain(&error), "retention failed; it is tried again"),
        }
    }

    /// Tries until the batch is applied, or until a person must act, or the replica stops. A batch that was given up
    /// is read again from the journal at the next start.
    fn apply_until_done(&mut self, batch: &[Placed], redo: RecordAt) {
        let mut begun = false;
        loop {
            {
                // Undo must not be computed from it, see `unsynced`.
                let mut state = self.shared.0.lock();
                while state.unsynced && !state.stopping {
                    self.shared.1.wait_for(&mut state, AGAIN);
                }
                if state.stopping && state.unsynced {
                    return;
                }
            }
            let tried = if let Some(error) = self.no_room(batch) {
                Err(error)
            } else if begun {
                // The cursor must not move to a tree in between.
                let moving = Arc::clone(&self.moving);
                let _guard = moving.lock();
                self.applier.finish(batch, redo)
            } else {
                self.applier.apply(batch, redo).map_err(|error| match error {
                    ApplyError::Before(error) => error,
                    ApplyError::Touching(error) => {
                        begun = true;
                        error
                    }
                })
            };
            let error = match tried {
                Ok(()) => {
                    self.done(redo);
                    return;
                }
                Err(error) => error,
            };
            self.journal.note_standing();
            self.failed(&error);
            if !begun && matches!(error.kind(), ErrorKind::Full | ErrorKind::Io) {
                // Nobody else gives space back meanwhile, and it may be what is missing. Where a person must act, history
                // stays: it may be what is needed.
                self.retain();
            }
            let mut state = self.shared.0.lock();
            while matches!(state.halt, Some(Halt::Stopped(_))) && !state.stopping {
                self.shared.1.wait_for(&mut state, AGAIN);
            }
            if state.stopping {
                return;
            }
            self.shared.1.wait_for(&mut state, AGAIN);
        }
    }

    fn no_room(&self, batch: &[Placed]) -> Option<JournalError> {
        let roots: std::collections::BTreeSet<RootNo> =
            batch.iter().map(|placed| placed.capture.root).collect();
        let full = || std::io::Error::from_raw_os_error(28);
        // Tables that have met a full disk take nothing more until they are opened anew, so it must not come to that.
        let place = self.journal.directory();
        let free = self.journal.set().disk().free_bytes(place).unwrap_or(u64::MAX);
        if free < self.options.free_bytes_min {
            return Some(JournalError::File {
                operation: "keep the minimum of free space for",
                path: place.to_path_buf(),
                source: full(),
            });
        }
        roots.into_iter().find_map(|root| {
            let free = self.tree.free_bytes(root).ok()?;
            (free < self.options.free_bytes_min).then(|| JournalError::Tree {
                operation: "keep the minimum of free space",
                object: format!("root {}", root.0),
                source: full(),
            })
        })
    }

    fn done(&mut self, redo: RecordAt) {
        let degraded = self.applier.take_degraded();
        let mut state = self.shared.0.lock();
        if !state.unsynced {
            state.halt = None;
        }
        state.halted_since = None;
        state.applied_redo = redo;
        for one in degraded {
            if state.degraded.len() < super::DEGRADED_MAX {
                state.degraded.insert(one.node, format!("{} (error {})", one.what, one.errno));
            }
        }
        self.shared.1.notify_all();
    }

    fn failed(&self, error: &JournalError) {
        let mut text = chain(error);
        if error.kind() == ErrorKind::Poisoned {
            text.push_str("; see to the disk, then restart the daemon: it goes on from what is durable");
        }
        if error.kind() == ErrorKind::Full
            && let Some(point) = self.journal.kept_until_applied()
        {
            text.push_str(&format!(
                "; a rewind needs history from point {point} on, which stays until it is done"
            ));
        }
        let halt = match error.kind() {
            ErrorKind::Full => Halt::Full(text),
            ErrorKind::Io => Halt::Failing(text),
            _ => Halt::Stopped(text),
        };
        let mut state = self.shared.0.lock();
        let new = state.halt.as_ref() != Some(&halt);
        if !state.unsynced {
            state.halt = Some(halt.clone());
        }
        state.halted_since.get_or_insert_with(Instant::now);
        self.shared.1.notify_all();
        drop(state);
        if !new {
            return;
        }
        tracing::error!(error = %chain(error), "apply does not go on");
        if let JournalError::Drift { object, what } = error {
            let time = self.journal.clock().now();
            let drift =
                journal::record::Control::Drift { object: object.clone(), what: (*what).to_owned(), time };
            if let Err(error) = self.journal.control(drift) {
                tracing::error!(%error, "cannot journal drift");
            }
        }
    }
}
