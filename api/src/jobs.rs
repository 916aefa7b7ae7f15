//! Jobs: long operations that outlive the call that started them, and the daemon too.
//!
//! A job is journaled before its id is given out, and again when it ends. One that had not ended when the daemon did
//! starts again from its request, so requests must be good for a second attempt: what a point meant when the job was
//! taken in stands beside what the client wrote ([`asked`]). One that has not begun can be held and released ([`hold`]).
//! What is remembered of jobs is a projection in sled ([`store`]); what is under way lives here.
//!
//! Bounds: [`Limits`]. A job beyond them is refused, not queued without end. Of the jobs of one scenario that change
//! something only one may be unfinished; a second is refused and told which one is in its way.

mod asked;
mod hold;
mod live;
mod pace;
mod row;
mod store;
mod worker;

pub use row::{JobFilter, JobRow};
pub use store::JobStore;

use crate::activity::Activity;
use crate::engine::{EngineError, Interrupt, Level, Progress};
use crate::points::wall_clock;
use crate::records::{JobCancelRequested, JobFinished, JobStarted, JobSubmitted, Record};
use crate::server_journal::{Durability, ServerJournal};
use asked::asked;
use live::Live;
use parking_lot::{Condvar, Mutex};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use wire::{codes, v1};

/// Identity of a job, printed as a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// How many jobs there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Under way at once: threads.
    pub active: usize,
    /// Waiting for a thread, or held.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { active: 8, waiting: 256 }
    }
}

/// A job wanted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// What to do.
    pub kind: v1::JobKind,
    /// With this scenario.
    pub scenario: String,
    /// Whether it changes the scenario, so that no other such job may be unfinished.
    pub exclusive: bool,
    /// The request, encoded; [`asked`] says what of it the client asked.
    pub request: Vec<u8>,
    /// A second submission with the same key is the same job; empty: none.
    pub idempotency_key: String,
}

/// What a job came to.
#[derive(Debug)]
pub struct Ended {
    /// Succeeded, incomplete, or failed with findings.
    pub outcome: v1::Outcome,
    /// The report.
    pub result: v1::Result,
    /// Findings that are an error.
    pub error: Option<EngineError>,
}

/// Does the work of jobs. `again`: an earlier attempt was interrupted by the end of the daemon.
pub trait Runner: Send + Sync + 'static {
    /// Blocks until the job has ended.
    ///
    /// # Errors
    /// Those of the operation; [`EngineError::interrupted`] when `progress` said so.
    fn run(
        &self,
        kind: v1::JobKind,
        request: &[u8],
        again: bool,
        progress: &dyn Progress,
    ) -> Result<Ended, EngineError>;
}

/// All jobs of a daemon.
pub struct Jobs {
    journal: Arc<dyn ServerJournal>,
    store: JobStore,
    activity: Activity,
    limits: Limits,
    queue: Mutex<Queue>,
    // Records reach the projection in the order they have in the journal: were a later one there first and the daemon
    // killed then, the earlier one would count as read and be missing for ever. May be taken under `queue`.
    recording: Mutex<()>,
    // Signalled when a job is queued or the daemon stops.
    work: Condvar,
    // Signalled when a worker has ended.
    idle: Condvar,
    pace: pace::Pace,
}

#[derive(Default)]
struct Queue {
    live: BTreeMap<JobId, Arc<Live>>,
    // Ascending. Neither shares a job with the other.
    ready: VecDeque<JobId>,
    held: BTreeSet<JobId>,
    last_id: u64,
    workers: usize,
    stopping: bool,
}

impl Jobs {
    /// The jobs of the journal; those that had not ended wait for [`start`](Jobs::start).
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(
        journal: Arc<dyn ServerJournal>,
        store: JobStore,
        activity: Activity,
        limits: Limits,
    ) -> Result<Arc<Self>, EngineError> {
        let mut queue = Queue { last_id: store.last_id()?, ..Queue::default() };
        for mut row in store.unfinished()? {
            let id = JobId(row.submitted.id);
            // Its end was not journaled any more.
            row.held &= !row.cancelling;
            if row.held {
                queue.held.insert(id);
            } else {
                queue.ready.push_back(id);
            }
            queue.live.insert(id, Arc::new(Live::new(row)));
        }
        Ok(Arc::new(Jobs {
            journal,
            store,
            activity,
            limits,
            queue: Mutex::new(queue),
            recording: Mutex::new(()),
            work: Condvar::new(),
            idle: Condvar::new(),
            pace: pace::Pace::new(Instant::now()),
        }))
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn start(self: &Arc<Self>, runner: &Arc<dyn Runner>) -> Result<(), EngineError> {
        for number in 0..self.limits.active {
            worker::spawn(Arc::clone(self), Arc::clone(runner), number)?;
        }
        Ok(())
    }

    /// Takes a job in. Returns when it is journaled.
    ///
    /// # Errors
    /// `BUSY`, `TOO_MANY`, `BAD_PARAMETERS` for a key used for something else, and those of the journal.
    pub fn submit(&self, submission: Submission) -> Result<v1::Job, EngineError> {
        let mut queue = self.queue.lock();
        if queue.stopping {
            return Err(EngineError::new(&codes::UNREACHABLE, "the daemon stops"));
        }
        if let Some(known) = self.known(&queue, &submission)? {
            return Ok(known);
        }
        if submission.exclusive
            && let Some(holder) =
                queue.live.values().find(|live| live.holds(&submission.scenario, submission.kind))
        {
            let (id, kind) = (holder.id().0, holder.kind().word());
            let message = format!("job {id} ({kind}) is attached to scenario \"{}\"", submission.scenario);
            return Err(EngineError::new(&codes::BUSY, message).advise(format!(
                "Wait for it (`restorectl job wait {id}`) or cancel it (`restorectl job cancel {id}`), then try again."
            )));
        }
        let waiting = queue.ready.len() + queue.held.len();
        if waiting >= self.limits.waiting {
            return Err(EngineError::new(&codes::TOO_MANY, format!("{waiting} jobs are waiting")));
        }
        let id = JobId(queue.last_id + 1);
        let submitted = JobSubmitted {
            id: id.0,
            time: wall_clock(),
            kind: submission.kind.into(),
            scenario: submission.scenario,
            exclusive: submission.exclusive,
            request: submission.request,
            idempotency_key: submission.idempotency_key,
        };
        self.record(Record::JobSubmitted(submitted.clone()))?;
        let live = Arc::new(Live::new(JobRow::new(submitted)));
        queue.last_id = id.0;
        queue.ready.push_back(id);
        queue.live.insert(id, Arc::clone(&live));
        drop(queue);
        self.work.notify_one();
        Ok(live.message())
    }

    /// The job that was submitted with the same key. To be asked before anything is done or looked up for a job: what
    /// `now` means has changed since the first submission.
    ///
    /// # Errors
    /// `BAD_PARAMETERS` for a key used for something else, and those of the store.
    pub fn earlier(&self, submission: &Submission) -> Result<Option<v1::Job>, EngineError> {
        self.known(&self.queue.lock(), submission)
    }

    /// The job that was submitted with the same key.
    fn known(&self, queue: &Queue, submission: &Submission) -> Result<Option<v1::Job>, EngineError> {
        let key = &submission.idempotency_key;
        if key.is_empty() {
            return Ok(None);
        }
        let Some(row) = self.store.find_key(key)? else { return Ok(None) };
        let same = row.submitted.kind == i32::from(submission.kind)
            && asked(submission.kind, &row.submitted.request) == asked(submission.kind, &submission.request);
        if !same {
            let message =
                format!("the idempotency key {key:?} belongs to job {}, another request", row.submitted.id);
            return Err(EngineError::new(&codes::BAD_PARAMETERS, message));
        }
        let live = queue.live.get(&JobId(row.submitted.id));
        Ok(Some(live.map_or_else(|| row.message(), |live| live.message())))
    }

    /// A job as it stands.
    ///
    /// # Errors
    /// `NO_SUCH_JOB`.
    pub fn show(&self, id: JobId) -> Result<v1::Job, EngineError> {
        if let Some(live) = self.live(id) {
            return Ok(live.message());
        }
        self.store.get(id)?.map(|row| row.message()).ok_or_else(|| no_such_job(&id.0.to_string()))
    }

    /// A job and, unless it has ended, a signal that fires when it has changed.
    ///
    /// # Errors
    /// `NO_SUCH_JOB`.
    pub fn watch(&self, id: JobId) -> Result<(v1::Job, Option<watch::Receiver<u64>>), EngineError> {
        if let Some(live) = self.live(id) {
            // Subscribed before it is read, so that a change in between is not missed.
            let signal = live.subscribe();
            return Ok((live.message(), Some(signal)));
        }
        Ok((self.show(id)?, None))
    }

    /// Jobs, newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub fn list(&self, filter: &JobFilter) -> Result<Vec<v1::Job>, EngineError> {
        let live = self.queue.lock().live.clone();
        let state = |job: &v1::Job| filter.state.is_none_or(|state| job.state() == state);
        let mut jobs = Vec::new();
        // The store cannot know who is active, so the state is looked at here.
        self.store.each_newest_first(&mut |row| {
            if filter.scenario.as_ref().is_none_or(|name| *name == row.submitted.scenario) {
                let job =
                    live.get(&JobId(row.submitted.id)).map_or_else(|| row.message(), |live| live.message());
                if state(&job) {
                    jobs.push(job);
                }
            }
            filter.limit == 0 || jobs.len() < filter.limit
        })?;
        Ok(jobs)
    }

    /// Asks a job to cancel; one that waits or is held ends at once, one that has ended stays as it is.
    ///
    /// # Errors
    /// `NO_SUCH_JOB` and those of the journal.
    pub fn cancel(&self, id: JobId) -> Result<v1::Job, EngineError> {
        let Some(live) = self.live(id) else { return self.show(id) };
        if live.begin_cancel() {
            // Remembered, or a restart would bring the job back to life.
            self.record(Record::JobCancelRequested(JobCancelRequested { id: id.0, time: wall_clock() }))?;
            self.activity.write(Level::Info, &live.scenario(), Some(id.0), "cancellation was requested");
        }
        let mut queue = self.queue.lock();
        let waiting = queue.ready.iter().position(|ready| *ready == id).filter(|_| !live.started_before());
        if let Some(at) = waiting {
            queue.ready.remove(at);
        }
        if queue.held.remove(&id) || waiting.is_some() {
            drop(queue);
            self.finish(&live, Err(EngineError::interrupted(Interrupt::Cancelled)))?;
        }
        Ok(live.message())
    }

    /// Interrupts what is under way and waits until it has ended, at most `limit`. What did not end starts again with
    /// the next daemon. Returns whether all ended in time.
    pub fn shutdown(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut queue = self.queue.lock();
        queue.stopping = true;
        for live in queue.live.values() {
            live.stop();
        }
        self.work.notify_all();
        while queue.workers > 0 {
            if self.idle.wait_until(&mut queue, deadline).timed_out() {
                return false;
            }
        }
        drop(queue);
        self.store.flush();
        true
    }

    fn live(&self, id: JobId) -> Option<Arc<Live>> {
        self.queue.lock().live.get(&id).cloned()
    }

    /// Journal first, projection second.
    fn record(&self, record: Record) -> Result<(), EngineError> {
        let _in_order = self.recording.lock();
        let position = self.journal.append(record.kind(), &record.encode()?, Durability::Synced)?;
        self.store.apply(position, &record);
        Ok(())
    }

    fn begin(&self, live: &Live) -> Result<(), EngineError> {
        let started = JobStarted { id: live.id().0, time: wall_clock() };
        self.record(Record::JobStarted(started))?;
        live.begin(started.time);
        self.activity.write(
            Level::Info,
            &live.scenario(),
            Some(started.id),
            &format!("job {} ({}) started", started.id, live.kind().word()),
        );
        Ok(())
    }

    fn finish(&self, live: &Live, ended: Result<Ended, EngineError>) -> Result<(), EngineError> {
        let id = live.id().0;
        let (outcome, result, error) = match ended {
            Ok(ended) => (ended.outcome, Some(ended.result), ended.error),
            Err(error) if error.code() == &codes::CANCELLED => (v1::Outcome::Cancelled, None, Some(error)),
            Err(error) => (v1::Outcome::Failed, None, Some(error)),
        };
        let level = match outcome {
            v1::Outcome::Succeeded => Level::Info,
            v1::Outcome::Incomplete | v1::Outcome::Cancelled => Level::Warning,
            v1::Outcome::Failed | v1::Outcome::Unspecified => Level::Error,
        };
        let failure = error.as_ref().map(EngineError::to_failure);
        let mut text = format!("job {id} ({}) {}", live.kind().word(), outcome.word());
        if let Some(failure) = &failure {
            text.push_str(&format!(": {failure}"));
        }
        let finished = JobFinished {
            id,
            time: wall_clock(),
            outcome: outcome.into(),
            result: result.map(|result| result.encode_to_vec()).unwrap_or_default(),
            error: failure.map(|failure| error_message(&failure).encode_to_vec()).unwrap_or_default(),
        };
        let recorded = self.record(Record::JobFinished(finished.clone()));
        self.activity.write(level, &live.scenario(), Some(id), &text);
        // Whoever waits must not wait for ever because the journal is in trouble.
        self.queue.lock().live.remove(&JobId(id));
        live.end(finished);
        recorded
    }
}

/// `NO_SUCH_JOB`.
pub(crate) fn no_such_job(id: &str) -> EngineError {
    EngineError::new(&codes::NO_SUCH_JOB, format!("there is no job {id}"))
}

fn error_message(failure: &wire::Failure) -> v1::Error {
    v1::Error {
        code: failure.code.to_string(),
        message: failure.message.to_string(),
        reason: failure.reason.to_string(),
        action: failure.action.to_string(),
        module: failure.module.to_string(),
        exit: failure.exit.number().into(),
    }
}

#[cfg(test)]
mod tests;
