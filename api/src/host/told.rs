//! What of the captured stream people are told of: gaps, and what could not be kept.
//!
//! Stands between a stream and the journal, and counts what comes through. A line is written when its marker is durable, so the log never speaks of
//! what a restart may take back.

use super::scene::Scene;
use crate::engine::Level;
use journal::{Event, Marker, Part, Payload};
use replication::ingest::{Done, Ingest, IngestError, IngestState};
use replication::os_tree::OsTree;
use replication::replica::Replica;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wire::stream::MeetingId;

/// What has come through streams since the scene was made.
#[derive(Debug, Default)]
pub(super) struct Crossed {
    bytes: AtomicU64,
    removed: AtomicU64,
}

impl Crossed {
    fn count(&self, part: &Part) {
        let (mut bytes, mut removed) = (0, 0);
        for event in &part.capture.events {
            match event {
                Event::Write { data: Payload::Inline(data), .. } => bytes += data.len() as u64,
                Event::Remove { .. } => removed += 1,
                _ => {}
            }
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.removed.fetch_add(removed, Ordering::Relaxed);
    }

    /// Bytes of files, and names that were removed.
    pub(super) fn now(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.removed.load(Ordering::Relaxed))
    }
}

/// A replica whose markers are told of.
pub(super) struct Told {
    scene: Arc<Scene>,
    replica: Arc<Replica<OsTree>>,
}

impl Told {
    pub(super) fn new(scene: Arc<Scene>, replica: Arc<Replica<OsTree>>) -> Self {
        Told { scene, replica }
    }
}

/// The line of a marker, if it is worth one.
fn line(marker: &Marker) -> Option<(Level, String)> {
    let level = match marker {
        Marker::GapOpened { .. } | Marker::Skipped { .. } => Level::Warning,
        Marker::GapClosed { .. } | Marker::Unskipped { .. } => Level::Info,
        Marker::Barrier { .. }
        | Marker::Digest { .. }
        | Marker::SynchronizationStarted { .. }
        | Marker::SynchronizationCompleted { .. } => return None,
    };
    Some((level, marker.to_string()))
}

impl Ingest for Told {
    fn state(&self) -> IngestState {
        self.replica.state()
    }

    fn meet(&self, known: Option<MeetingId>, goes_on: bool) -> Result<Option<MeetingId>, IngestError> {
        self.replica.meet(known, goes_on)
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
        parts.iter().for_each(|part| self.scene.crossed.count(part));
        let mut lines = Vec::new();
        for capture in parts.iter().filter(|part| part.last).map(|part| &part.capture) {
            let markers = capture.events.iter().filter_map(|event| match event {
                Event::Mark(marker) => line(marker),
                _ => None,
            });
            lines.extend(markers.map(|(level, text)| (level, format!("{text} (LSN {})", capture.lsn))));
        }
        if lines.is_empty() {
            return Ingest::ingest(&*self.replica, parts, done);
        }
        let scene = Arc::clone(&self.scene);
        let told = move |journaled| {
            if Result::is_ok(&journaled) {
                for (level, text) in lines {
                    scene.note(level, &text);
                }
            }
            done(journaled);
        };
        Ingest::ingest(&*self.replica, parts, Box::new(told));
    }
}
