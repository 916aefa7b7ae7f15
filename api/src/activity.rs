//! The activity log: what happened to scenarios and jobs, for people.
//!
//! Lines are records of the server journal; a reader replays it and then follows. A follower that falls behind the
//! bounded channel replays again from the last line it saw, so that no line is lost and none comes twice.

use crate::engine::{EngineError, Level};
use crate::points::wall_clock;
use crate::records::{LOG_TEXT_BYTES_MAX, LogWritten, Record};
use crate::server_journal::{Durability, Position, ServerJournal};
use journal::Timestamp;
use parking_lot::Mutex;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::broadcast;
use wire::v1;

/// Lines a follower may be behind before it must replay.
const FOLLOW_LINES_MAX: usize = 1024;

/// A line and its place.
#[derive(Clone, Debug)]
pub struct Line {
    /// Place in the server journal.
    pub position: Position,
    /// What it says.
    pub record: LogWritten,
}

/// Which lines.
#[derive(Clone, Debug, Default)]
pub struct LineFilter {
    /// Of this scenario.
    pub scenario: Option<String>,
    /// Of this job.
    pub job: Option<u64>,
    /// Not older.
    pub since: Option<Timestamp>,
}

impl LineFilter {
    /// Whether the line is wanted.
    #[must_use]
    pub fn matches(&self, line: &LogWritten) -> bool {
        self.scenario.as_ref().is_none_or(|scenario| *scenario == line.scenario)
            && self.job.is_none_or(|job| job == line.job)
            && self.since.is_none_or(|since| line.time >= since)
    }
}

/// Writes and reads the log.
#[derive(Clone)]
pub struct Activity {
    journal: Arc<dyn ServerJournal>,
    lines: broadcast::Sender<Line>,
    // Keeps the order of the channel equal to that of the journal: a follower drops what is not newer than the last.
    order: Arc<Mutex<()>>,
}

impl Activity {
    /// The log in this journal.
    #[must_use]
    pub fn new(journal: Arc<dyn ServerJournal>) -> Self {
        Activity { journal, lines: broadcast::Sender::new(FOLLOW_LINES_MAX), order: Arc::default() }
    }

    /// Writes a line about a scenario (may be empty), and a job if there is one. Also goes to the daemon's own log.
    /// A log that cannot be written does not stop what it tells about.
    pub fn write(&self, level: Level, scenario: &str, job: Option<u64>, text: &str) {
        match level {
            Level::Info => tracing::info!(scenario, job, "{text}"),
            Level::Warning => tracing::warn!(scenario, job, "{text}"),
            Level::Error => tracing::error!(scenario, job, "{text}"),
        }
        let record = LogWritten {
            time: wall_clock(),
            level: v1::Level::from(level).into(),
            scenario: scenario.to_owned(),
            job: job.unwrap_or(0),
            text: cut(text, LOG_TEXT_BYTES_MAX).to_owned(),
        };
        let wrapped = Record::LogWritten(record.clone());
        let _in_order = self.order.lock();
        let appended = wrapped.encode().and_then(|bytes| {
            self.journal.append(wrapped.kind(), &bytes, Durability::Eventual).map_err(EngineError::from)
        });
        match appended {
            // Nobody listening is no error.
            Ok(position) => drop(self.lines.send(Line { position, record })),
            Err(error) => tracing::error!(%error, "write a line of the activity log"),
        }
    }

    /// Lines written from now on. Subscribe before [`replay`](Activity::replay), then skip what both bring.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Line> {
        self.lines.subscribe()
    }

    /// Lines behind a position, oldest first; returns the last position seen.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn replay(
        &self,
        after: Position,
        filter: &LineFilter,
        each: &mut dyn FnMut(LogWritten) -> ControlFlow<()>,
    ) -> Result<Position, EngineError> {
        let mut last = after;
        let mut failed = None;
        self.journal.replay(after, &mut |position, kind, bytes| {
            last = position;
            match Record::decode(kind, bytes) {
                Ok(Record::LogWritten(line)) if filter.matches(&line) => each(line),
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(last), Err)
    }
}

/// At most so many bytes, at the boundary of a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
