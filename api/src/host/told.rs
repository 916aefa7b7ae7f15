//! What of the captured stream people are told of: gaps, and what could not be kept.
//!
//! Stands between a stream and the journal. A line is written when its marker is durable, so the log never speaks of
//! what a restart may take back.

use super::scene::Scene;
use crate::engine::Level;
use journal::{Event, Marker, Part};
use replication::ingest::{Done, Ingest, IngestState};
use replication::os_tree::OsTree;
use replication::replica::Replica;
use std::sync::Arc;

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
        | Marker::SynchronizationStarted { .. }
        | Marker::SynchronizationCompleted { .. } => return None,
    };
    Some((level, marker.to_string()))
}

impl Ingest for Told {
    fn state(&self) -> IngestState {
        self.replica.state()
    }

    fn ingest(&self, parts: Vec<Part>, done: Done) {
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
