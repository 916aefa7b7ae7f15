//! Copying sessions: to tape here, into other repositories in [`stored`].
//!
//! The session is locked against those who remove as long as it is read. It is on tape when the drive has said so; a job
//! that is begun again looks whether it is there first, so that an end that was not recorded costs no second copy.

mod stored;

use super::super::Host;
use super::super::backing::tape::take_drive;
use crate::engine::{CopiedTo, CopyReport, CopyRequest, EngineError, EngineResult, Level, Progress};
use crate::records::SessionOnTape;
use crate::tapes::{self, Copied};
use crate::vault::{Found, TapeRepository, Which, place, repository_error};
use snapshot::repository::{LockOptions, Node, Purpose, lock};
use snapshot::tape::archive::LabelFields;
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
        let encoding = vault.encoding(tape.number)?;
        // Labels of encrypted sessions do not say what they are copies of: what the volumes hold has to be listed first.
        let listed = encoding.key.as_ref().map(|_| vault.read_media(tape, Which::All, &Watch(progress)));
        let listed = listed.transpose()?;
        let copies = vault.copies_of(tape, &found.id, &found.record)?;
        let there = tapes::find_all(&tape.url, &found.id, &copies)?;
        if !there.is_empty() {
            let report = match listed {
                Some(report) => report,
                None => vault.read_media(tape, Which::All, &Watch(progress))?,
            };
            let why_not = |copy: &Copied| report.failed.iter().find(|(id, _)| *id == copy.session);
            for (session, why) in there.iter().filter_map(why_not) {
                let text = format!("the copy {session} that is there cannot be read: {why}");
                progress.note(Level::Warning, &text);
            }
            if let Some(there) = there.into_iter().find(|copy| why_not(copy).is_none()) {
                return Ok(there);
            }
        }
        let (number, stage) = vault.get(&tape.name)?;
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let locked = lock::acquire(&stage, Purpose::Backup, options)
            .map_err(|error| repository_error("lock the listing", error))?;
        let label = encoding
            .label(LabelFields::of_record(&found.id, &found.record))
            .map_err(|error| EngineError::new(&codes::BACKUP_FAILED, "label the session").caused_by(error))?;
        let mut run = tapes::Run::open(&tape.url, encoding)?;
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
        Ok(Copied::new(&label.id(), made))
    }

    /// See [`crate::engine::Restores::copy_session`].
    pub(super) fn copy_to(&self, request: &CopyRequest, progress: &dyn Progress) -> EngineResult<CopyReport> {
        let began = Instant::now();
        let vault = &self.context.vault;
        let found = vault.find(&request.session)?;
        let on_tape = vault.tape_repository(&request.to);
        let copied = if on_tape.is_none() && vault.number(&request.to).is_some() {
            self.copy_into_store(&found, request, progress).map(CopiedTo::Repository)
        } else {
            self.copy_to_tape(&found, request, on_tape.as_ref(), progress).map(CopiedTo::Tape)
        };
        let copied = copied.map_err(|error| error.or_interrupted(progress.interrupted()))?;
        let level = if copied.missed() > 0 { Level::Warning } else { Level::Info };
        self.context.activity.write(level, &found.scenario(), None, &told(&found, request, &copied));
        Ok(CopyReport {
            session: found.id.to_string(),
            repository: found.name.clone(),
            to: request.to.clone(),
            copied,
            elapsed: began.elapsed(),
        })
    }

    fn copy_to_tape(
        &self,
        found: &Found,
        request: &CopyRequest,
        on_tape: Option<&TapeRepository>,
        progress: &dyn Progress,
    ) -> EngineResult<Copied> {
        // One that lies on tape itself is read from there first.
        let from_tape = self.recalled(found, &[], progress)?;
        let found = from_tape.as_ref().map_or(found, |from_tape| &from_tape.found);
        let _lock = found.lock()?;
        let scratch = self.layout.scratch()?;
        let pool = request.pool.as_deref();
        match on_tape {
            Some(tape) => self.copy_into(found, (tape, pool), &scratch, progress),
            None => {
                let source = (&*found.repository, &found.id, &found.record);
                tapes::copy(source, (&request.to, pool), &scratch, &Watch(progress))
            }
        }
    }
}

/// The line in the log.
fn told(found: &Found, request: &CopyRequest, copied: &CopiedTo) -> String {
    let (short, missed) = (found.id.short(), copied.missed());
    let without = if missed == 0 { String::new() } else { format!(", without {missed} objects") };
    match copied {
        CopiedTo::Tape(copied) if copied.was_there => {
            format!("session {short} is on {} already{without}", copied.media().join(", "))
        }
        CopiedTo::Tape(copied) => {
            let (media, bytes) = (copied.media().join(", "), copied.bytes);
            format!("session {short} was copied to {media}: {bytes} bytes{without}")
        }
        CopiedTo::Repository(stored) => {
            let (to, copy) = (&request.to, stored.session.get(..8).unwrap_or_default());
            if stored.was_there {
                format!("session {short} is in repository \"{to}\" already, as {copy}{without}")
            } else {
                let (read, bytes) = (stored.bytes_read, stored.bytes_stored);
                format!(
                    "session {short} was copied into repository \"{to}\" as {copy}: {read} bytes read, {bytes} stored{without}"
                )
            }
        }
    }
}
