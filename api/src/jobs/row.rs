//! What is known of a job, from the records about it.

use crate::records::{JobFinished, JobSubmitted};
use bincode::{Decode, Encode};
use journal::Timestamp;
use prost::Message;
use wire::convert::time_to_wire;
use wire::v1;

/// A job: its records put together.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct JobRow {
    /// How it was accepted.
    pub submitted: JobSubmitted,
    /// When it began the first time.
    pub started: Option<Timestamp>,
    /// Somebody asked it to cancel.
    pub cancelling: bool,
    /// Not to begin until it is released.
    pub held: bool,
    /// How it ended.
    pub finished: Option<JobFinished>,
}

impl JobRow {
    /// A job that was just accepted.
    #[must_use]
    pub fn new(submitted: JobSubmitted) -> Self {
        JobRow { submitted, started: None, cancelling: false, held: false, finished: None }
    }

    /// For clients. One that has not ended is shown as ready: whether it is active only its owner knows.
    #[must_use]
    pub fn message(&self) -> v1::Job {
        let finished = self.finished.as_ref();
        let state = if finished.is_some() { v1::JobState::Done } else { v1::JobState::Ready };
        let nonempty = |bytes: &'_ Vec<u8>| (!bytes.is_empty()).then(|| bytes.clone());
        v1::Job {
            id: self.submitted.id.to_string(),
            kind: self.submitted.kind,
            scenario: self.submitted.scenario.clone(),
            state: state.into(),
            outcome: finished.map_or(0, |finished| finished.outcome),
            created: Some(time_to_wire(self.submitted.time)),
            started: self.started.map(time_to_wire),
            finished: finished.map(|finished| time_to_wire(finished.time)),
            progress: None,
            // Written by this or an older version, so they decode; what does not is not worth a failure.
            result: finished.and_then(|finished| v1::Result::decode(&*nonempty(&finished.result)?).ok()),
            error: finished.and_then(|finished| v1::Error::decode(&*nonempty(&finished.error)?).ok()),
            cancelling: self.cancelling && finished.is_none(),
            idempotency_key: self.submitted.idempotency_key.clone(),
        }
    }
}

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// In this state.
    pub state: Option<v1::JobState>,
    /// Of this scenario.
    pub scenario: Option<String>,
    /// At most as many; 0: all.
    pub limit: usize,
}
