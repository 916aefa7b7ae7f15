//! Jobs that wait until somebody releases them.
//!
//! Only what has not begun can be held: half of a job's work must not stand about without an end in sight. A worker takes
//! a job out of the queue under its lock, so a job is either still in the queue, and then held before anybody can begin
//! it, or it has begun, and then refused. The record is journaled first: a held job is held after a restart too, and one
//! whose release was answered is not. Asking twice is answered as asking once.
//!
//! A held job counts as waiting for the bound of the queue, and keeps other exclusive jobs of its scenario out. Released
//! it takes its place by age, which is also the order after a restart.

use super::{JobId, Jobs, Live, no_such_job};
use crate::engine::{EngineError, Level};
use crate::points::wall_clock;
use crate::records::{JobHoldSet, Record};
use std::sync::Arc;
use wire::{codes, v1};

impl Jobs {
    /// Keeps a job that waits from beginning until it is released; one that is held stays so.
    ///
    /// # Errors
    /// `NO_SUCH_JOB`, `JOB_BEGAN`, `JOB_ENDED`, and those of the journal: then it goes on waiting.
    pub fn hold(&self, id: JobId) -> Result<v1::Job, EngineError> {
        let mut queue = self.queue.lock();
        let Some(live) = queue.live.get(&id).cloned() else { return Err(self.ended(id)?) };
        if queue.held.contains(&id) {
            return Ok(live.message());
        }
        let place = queue.ready.iter().position(|ready| *ready == id).filter(|_| !live.started_before());
        let Some(place) = place else {
            let message = format!("job {} ({}) has begun", id.0, live.kind().word());
            return Err(EngineError::new(&codes::JOB_BEGAN, message)
                .advise(format!("Wait for it, or cancel it with `restorectl job cancel {}`.", id.0)));
        };
        self.record(Record::JobHoldSet(JobHoldSet { id: id.0, time: wall_clock(), held: true }))?;
        queue.ready.remove(place);
        queue.held.insert(id);
        live.set_held(true);
        drop(queue);
        self.note_hold(&live, "is held");
        Ok(live.message())
    }

    /// Lets a held job wait for its turn again; one that is not held stays as it is.
    ///
    /// # Errors
    /// `NO_SUCH_JOB`, `JOB_ENDED`, and those of the journal: then it stays held.
    pub fn release(&self, id: JobId) -> Result<v1::Job, EngineError> {
        let mut queue = self.queue.lock();
        let Some(live) = queue.live.get(&id).cloned() else { return Err(self.ended(id)?) };
        if !queue.held.contains(&id) {
            return Ok(live.message());
        }
        self.record(Record::JobHoldSet(JobHoldSet { id: id.0, time: wall_clock(), held: false }))?;
        queue.held.remove(&id);
        let place = queue.ready.partition_point(|ready| *ready < id);
        queue.ready.insert(place, id);
        live.set_held(false);
        drop(queue);
        self.work.notify_one();
        self.note_hold(&live, "is released");
        Ok(live.message())
    }

    /// Why a job that is not live cannot be held or released.
    fn ended(&self, id: JobId) -> Result<EngineError, EngineError> {
        Ok(match self.store.get(id)? {
            None => no_such_job(&id.0.to_string()),
            Some(_) => EngineError::new(&codes::JOB_ENDED, format!("job {} has ended", id.0)),
        })
    }

    fn note_hold(&self, live: &Arc<Live>, what: &str) {
        let id = live.id().0;
        let text = format!("job {id} ({}) {what}", live.kind().word());
        self.activity.write(Level::Info, &live.scenario(), Some(id), &text);
    }
}
