//! Copying sessions to tape.
//!
//! The session is locked against those who remove as long as it is read. It is on tape when the drive has said so; a job
//! that is begun again looks whether it is there first, so that an end that was not recorded costs no second copy.

use super::super::Host;
use crate::engine::{CopyReport, CopyRequest, EngineResult, Level, Progress};
use crate::tapes;
use snapshot::repository::Node;
use std::time::Instant;

/// Progress of a job, as reading a session reports it.
struct Watch<'p>(&'p dyn Progress);

impl snapshot::session::Monitor for Watch<'_> {
    fn progress(&self, objects: u64, _: u64) {
        if objects.is_multiple_of(64) {
            self.0.report("copy", objects, None, "objects");
        }
    }

    fn cancelled(&self) -> bool {
        self.0.interrupted().is_some()
    }

    fn object(&self, _: &[u8], _: &Node) {}
}

impl Host {
    pub(super) fn copy_to_tape(
        &self,
        request: &CopyRequest,
        progress: &dyn Progress,
    ) -> EngineResult<CopyReport> {
        let began = Instant::now();
        let found = self.context.vault.find(&request.session)?;
        let _lock = found.lock()?;
        let scratch = self.layout.scratch()?;
        let source = (&*found.repository, &found.id, &found.record);
        let copied = tapes::copy(source, (&request.to, request.pool.as_deref()), &scratch, &Watch(progress))
            .map_err(|error| error.or_interrupted(progress.interrupted()))?;
        let (short, media) = (found.id.short(), copied.media().join(", "));
        let text = match (copied.was_there, copied.missed) {
            (true, 0) => format!("session {short} is on {media} already"),
            (true, missed) => format!("session {short} is on {media} already, without {missed} objects"),
            (false, 0) => format!("session {short} was copied to {media}: {} bytes", copied.bytes),
            (false, missed) => format!("session {short} was copied to {media}, without {missed} objects"),
        };
        let level = if copied.missed > 0 { Level::Warning } else { Level::Info };
        self.context.activity.write(level, &found.scenario(), None, &text);
        Ok(CopyReport {
            session: found.id.to_string(),
            repository: found.name.clone(),
            to: request.to.clone(),
            copied,
            elapsed: began.elapsed(),
        })
    }
}
