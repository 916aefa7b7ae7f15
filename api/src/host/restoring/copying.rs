//! Copying sessions to tape.
//!
//! The session is locked against those who remove as long as it is read. It is on tape when the drive has said so; a job
//! that is begun again looks whether it is there first, so that an end that was not recorded costs no second copy.

use super::super::Host;
use super::super::backing::tape::take_drive;
use crate::engine::{CopyReport, CopyRequest, EngineError, EngineResult, Level, Progress};
use crate::records::SessionOnTape;
use crate::tapes::{self, Copied};
use crate::vault::{Found, TapeRepository, Which, place, repository_error};
use snapshot::repository::{LockOptions, Node, Purpose, lock};
use snapshot::tape::archive::{LabelFields, SessionLabel};
use std::path::Path;
use std::time::{Duration, Instant};
use wire::codes;

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
    /// Into a repository on tape: the copy is then listed there as any session.
    fn copy_into(
        &self,
        found: &Found,
        (tape, pool): (&TapeRepository, Option<&str>),
        scratch: &Path,
        progress: &dyn Progress,
    ) -> EngineResult<Copied> {
        let vault = &self.context.vault;
        let what = format!("a copy of session {}", found.id.short());
        let hold = take_drive(vault, tape, &what, progress)?;
        if let Some(there) = tapes::find(&tape.url, &found.id)? {
            vault.read_media(tape, Which::All, &Watch(progress))?;
            return Ok(there);
        }
        let (number, stage) = vault.get(&tape.name)?;
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let locked = lock::acquire(&stage, Purpose::Backup, options)
            .map_err(|error| repository_error("lock the listing", error))?;
        let label = SessionLabel::new(LabelFields::of_record(&found.id, &found.record))
            .map_err(|error| EngineError::new(&codes::BACKUP_FAILED, "label the session").caused_by(error))?;
        let mut run = tapes::Run::open(&tape.url)?;
        if let Some(pool) = pool {
            pool.clone_into(&mut run.pool);
        }
        let source = (&*found.repository, &found.record.tree);
        let made = run.copy(source, &label, (&stage, &locked), scratch, &Watch(progress))?;
        let labels: Vec<_> = run.labels.iter().collect();
        let place = place(number, label.id(), (&made.written.parts, made.written.bytes), &labels);
        vault.adopt(SessionOnTape { pool: run.pool.clone(), ..place }, &stage, &label.id())?;
        drop((run, hold));
        self.catalog.poke();
        Ok(Copied {
            session: label.id().to_string(),
            parts: made.written.parts,
            bytes: made.written.bytes,
            files: made.totals.files,
            directories: made.totals.directories,
            missed: made.totals.missed + made.totals.damaged,
            listed: made.listed,
            stalls: made.stalls,
            was_there: false,
        })
    }

    pub(super) fn copy_to_tape(
        &self,
        request: &CopyRequest,
        progress: &dyn Progress,
    ) -> EngineResult<CopyReport> {
        let began = Instant::now();
        let found = self.context.vault.find(&request.session)?;
        // One that lies on tape itself is read from there first.
        let from_tape = self.recalled(&found, &[], progress)?;
        let found = from_tape.as_ref().map_or(&found, |from_tape| &from_tape.found);
        let _lock = found.lock()?;
        let scratch = self.layout.scratch()?;
        let copied = match self.context.vault.tape_repository(&request.to) {
            Some(tape) => self.copy_into(found, (&tape, request.pool.as_deref()), &scratch, progress),
            None => {
                if self.context.vault.number(&request.to).is_some() {
                    let text = format!("repository \"{}\" is not on tape", request.to);
                    return Err(EngineError::new(&codes::NOT_AVAILABLE, text)
                        .because("Sessions are copied to tape only.")
                        .advise("A backup of the same point, `backup SCENARIO --at lsn:N --to REPOSITORY`, makes the same session."));
                }
                let source = (&*found.repository, &found.id, &found.record);
                tapes::copy(source, (&request.to, request.pool.as_deref()), &scratch, &Watch(progress))
            }
        };
        let copied = copied.map_err(|error| error.or_interrupted(progress.interrupted()))?;
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
