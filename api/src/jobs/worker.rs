//! The threads that work on jobs.

use super::{Jobs, Live, Runner};
use crate::engine::{EngineError, Interrupt, Level, Progress};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wire::codes;

/// Starts a worker; it ends when the daemon stops.
pub(super) fn spawn(jobs: Arc<Jobs>, runner: Arc<dyn Runner>, number: usize) -> Result<(), EngineError> {
    jobs.queue.lock().workers += 1;
    let for_thread = Arc::clone(&jobs);
    let spawned = std::thread::Builder::new().name(format!("job-{number}")).spawn(move || {
        while let Some(live) = next(&for_thread) {
            work(&for_thread, runner.as_ref(), &live);
        }
        for_thread.queue.lock().workers -= 1;
        for_thread.idle.notify_all();
    });
    spawned.map(drop).map_err(|error| {
        jobs.queue.lock().workers -= 1;
        EngineError::new(&codes::INTERNAL, "start a thread for jobs").caused_by(error)
    })
}

/// The next job, or `None` when the daemon stops.
fn next(jobs: &Jobs) -> Option<Arc<Live>> {
    let mut queue = jobs.queue.lock();
    loop {
        if queue.stopping {
            return None;
        }
        if let Some(live) = queue.ready.pop_front().and_then(|id| queue.live.get(&id).cloned()) {
            return Some(live);
        }
        jobs.work.wait(&mut queue);
    }
}

fn work(jobs: &Jobs, runner: &dyn Runner, live: &Live) {
    let again = live.started_before();
    let progress = JobProgress { jobs, live };
    let ended = match jobs.begin(live) {
        // A panic ends the job, not the worker: the next job has not deserved it.
        Ok(()) => {
            catch_unwind(AssertUnwindSafe(|| runner.run(live.kind(), &live.request(), again, &progress)))
                .unwrap_or_else(|_| {
                    Err(EngineError::new(&codes::INTERNAL, "the job ended in a panic; see the daemon's log"))
                })
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &ended
        && error.code() == &codes::CANCELLED
        && live.interrupted() == Some(Interrupt::Shutdown)
    {
        // Not recorded as ended: the next daemon starts it again.
        return;
    }
    if let Err(error) = jobs.finish(live, ended) {
        tracing::error!(job = live.id().0, %error, "record the end of a job");
    }
    give_back_heap();
}

fn give_back_heap() -> Duration {
    let began = Instant::now();
    sys::give_back_heap();
    began.elapsed()
}

struct JobProgress<'a> {
    jobs: &'a Jobs,
    live: &'a Live,
}

impl Progress for JobProgress<'_> {
    fn report(&self, phase: &str, done: u64, total: Option<u64>, unit: &str) {
        self.live.report(phase, done, total, unit);
        self.jobs.pace.at(Instant::now(), give_back_heap);
    }

    fn note(&self, level: Level, text: &str) {
        self.jobs.activity.write(level, &self.live.scenario(), Some(self.live.id().0), text);
    }

    fn interrupted(&self) -> Option<Interrupt> {
        self.live.interrupted()
    }

    fn job(&self) -> Option<u64> {
        Some(self.live.id().0)
    }
}
