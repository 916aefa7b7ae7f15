//! Copying a session into a repository in a directory or an object store.
//!
//! Both sides are locked as a restore and a backup lock them. The copy is remembered when it is durable; a job that begins again, or a
//! person who asks twice, finds it by its record, so an end that was not recorded costs neither a second upload nor a second
//! session. Of one that lies on tape all is read into the scratch first, unless its copy is there.

use super::super::super::Host;
use super::super::super::upkeep::Reporter;
use crate::engine::{CopyRequest, EngineError, EngineResult, Level, Progress, Stored};
use crate::vault::{Found, backup_error, repository_error};
use snapshot::repository::{LockOptions, Purpose, Repository, lock};
use snapshot::session::copy::{Copied, Counts, Outcome, Source, copy, find};
use snapshot::session::{Missed, Totals};
use std::sync::Arc;
use std::time::Duration;
use wire::codes;

/// Damaged objects that are named in the job's log.
const NAMED_MAX: usize = 20;

fn source(found: &Found) -> Source<'_> {
    Source { repository: &found.repository, id: &found.id, record: &found.record }
}

impl Host {
    /// Into a repository that is not on tape.
    pub(super) fn copy_into_store(
        &self,
        found: &Found,
        request: &CopyRequest,
        progress: &dyn Progress,
    ) -> EngineResult<Stored> {
        let vault = &self.context.vault;
        let (number, there) = vault.get(&request.to)?;
        let _copying = vault.begin_copy(number, source(found).original())?;
        let failed = |error| backup_error(progress.interrupted(), error);
        if found.tape.is_some()
            && let Some(id) = find(&there, &source(found)).map_err(failed)?
            && there
                .has_all_of(&found.record.tree)
                .map_err(|error| repository_error("look for the copy", error))?
        {
            let copied = Copied { id, was_there: true, counts: Counts::default() };
            return self.remember_copy(found, (number, &there), &request.to, copied);
        }
        let from_tape = self.recalled(found, &[], progress)?;
        let found = from_tape.as_ref().map_or(found, |from_tape| &from_tape.found);
        let _read = found.lock()?;
        if from_tape.is_none() {
            // Somebody may have forgotten it before we had the lock.
            let gone = |error| repository_error("read the session", error);
            found.repository.load_session(&found.id).map_err(gone)?;
        }
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let locked = lock::acquire(&there, Purpose::Backup, options)
            .map_err(|error| repository_error("lock the repository", error))?;
        match copy(&source(found), (&there, &locked), &Reporter(progress)).map_err(failed)? {
            Outcome::Copied(copied) => self.remember_copy(found, (number, &there), &request.to, copied),
            Outcome::Damaged(missed) => Err(damaged(found, &missed, progress)),
        }
    }

    fn remember_copy(
        &self,
        found: &Found,
        (number, there): (u64, &Arc<Repository>),
        name: &str,
        copied: Copied,
    ) -> EngineResult<Stored> {
        let Copied { id, was_there, counts } = copied;
        let record =
            there.load_session(&id).map_err(|error| repository_error("read the copy's record", error))?;
        let spent = (counts.bytes, counts.bytes_stored);
        let session = self.context.vault.copied((number, &id), found.made.as_ref(), &record, spent)?;
        // As with a backup: a failure of the catalog is no failure of the copy.
        if self.catalog.fill(name, &mut |_| true).is_err() {
            self.catalog.poke();
        }
        let totals = Totals::of_record(&record);
        Ok(Stored {
            session: id.to_string(),
            was_there,
            files: totals.map_or(session.files, |totals| totals.files),
            directories: totals.map_or(session.directories, |totals| totals.directories),
            bytes: totals.map_or(session.bytes, |totals| totals.bytes),
            missed: record.missed(),
            bytes_read: counts.bytes,
            bytes_stored: counts.bytes_stored,
        })
    }
}

fn damaged(found: &Found, missed: &[Missed], progress: &dyn Progress) -> EngineError {
    for missed in missed.iter().take(NAMED_MAX) {
        let path = String::from_utf8_lossy(&missed.path);
        progress.note(Level::Error, &format!("{path} cannot be copied: {}", missed.reason));
    }
    let first = missed.first();
    let path = first.map(|first| String::from_utf8_lossy(&first.path).into_owned()).unwrap_or_default();
    let reason = first.map(|first| first.reason.as_str()).unwrap_or_default();
    let text = format!(
        "session {} of repository \"{}\" was not copied: {path}: {reason}",
        found.id.short(),
        found.name
    );
    EngineError::new(&codes::COPY_DAMAGED, text)
}
