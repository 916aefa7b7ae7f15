//! Backups to tape: a session a root, one after the other in one run of the drive.
//!
//! There is no incremental backup on tape: every session is whole, and the report says so. What is written and what is
//! known of it come from one archive ([`crate::tapes::Run`]). A backup that was cut off is begun again by looking at the
//! media first: what is whole there is taken as it is, and nothing of what is not counts.

use super::{Backup, MISSED_MAX, Made, Watch};
use crate::catalog::Feed;
use crate::engine::{BackupReport, EngineError, EngineResult, Level, Progress, Skipped};
use crate::records::SessionOnTape;
use crate::store::Layout;
use crate::tapes::{Hold, Run};
use crate::vault::{TapeRepository, Vault, Which, place};
use parking_lot::Mutex;
use snapshot::repository::Node;
use snapshot::repository::session::path_text;
use snapshot::session::{Entity, Monitor, RecordOptions};
use snapshot::tape::archive::{Encoding, LabelFields, SessionLabel};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use wire::codes;

/// The drive of a backup.
pub(super) struct Onto {
    run: Mutex<Run>,
    _hold: Hold,
}

/// Progress of work on a drive.
pub(in crate::host) struct OnDrive<'p>(pub &'p dyn Progress, pub &'static str);

impl Monitor for OnDrive<'_> {
    fn progress(&self, objects: u64, _: u64) {
        if objects.is_multiple_of(64) {
            self.0.report(self.1, objects, None, "objects");
        }
    }

    fn cancelled(&self) -> bool {
        self.0.interrupted().is_some()
    }

    fn object(&self, _: &[u8], _: &Node) {}
}

impl Onto {
    /// Takes the drive of a repository, if it is one on tape.
    ///
    /// # Errors
    /// `TAPE_BUSY`, `TAPE_DRIVE_FAILED`; of an attempt that is begun again those of reading the media.
    pub fn begin(
        vault: &Vault,
        repository: &str,
        scenario: &str,
        again: bool,
        progress: &dyn Progress,
    ) -> EngineResult<Option<Onto>> {
        let Some(tape) = vault.tape_repository(repository) else { return Ok(None) };
        let what = format!("a backup of scenario \"{scenario}\"");
        let hold = vault.drives().take(&tape.url, &what, &|| progress.interrupted())?;
        if again {
            look(vault, &tape, progress)?;
        }
        let run = Run::open(&tape.url, vault.encoding(tape.number)?)?;
        Ok(Some(Onto { run: Mutex::new(run), _hold: hold }))
    }
}

/// What the attempt before has left on the media.
fn look(vault: &Vault, tape: &TapeRepository, progress: &dyn Progress) -> EngineResult<()> {
    let report = vault
        .read_media(tape, Which::All, &OnDrive(progress, "read media"))
        .map_err(|error| error.or_interrupted(progress.interrupted()))?;
    for (session, why) in report.failed {
        progress.note(Level::Info, &format!("{session} on the media is passed over: {why}"));
    }
    Ok(())
}

impl Backup<'_> {
    /// The session of a root, straight to tape.
    pub(super) fn archive_root(
        &self,
        onto: &Onto,
        entity: &Entity,
        record: &RecordOptions,
        report: &mut BackupReport,
    ) -> EngineResult<()> {
        self.whole(&entity.path, "a session on tape is always complete by itself", report);
        let label = self.label(&onto.run.lock().encoding, entity, record)?;
        let feed = Feed::new(std::sync::Arc::clone(self.catalog), self.info(&entity.path));
        let scratch = Layout::new(self.scene.context.options.data.clone()).scratch()?;
        let mut run = onto.run.lock();
        let archived = run
            .archive(
                &*self.view,
                (&label, entity),
                (&self.repository, &self.lock),
                &scratch,
                &Watch(self.progress, &feed),
            )
            .map_err(|error| error.or_interrupted(self.progress.interrupted()))?;
        drop(feed);
        let bytes = archived.written.bytes;
        let labels: Vec<_> = run.labels.iter().collect();
        let place = place(self.number, label.id(), (&archived.written.parts, bytes), &labels);
        let place = SessionOnTape { pool: run.pool.clone(), ..place };
        drop(run);
        let missed = archived.listed.into_iter().map(|(path, reason)| Skipped {
            path: OsString::from_vec([b"/", path.as_slice()].concat()).into(),
            what: "content",
            error: reason,
        });
        let room = MISSED_MAX.saturating_sub(report.missed.len());
        report.missed.extend(missed.take(room));
        let made = Made {
            id: label.id(),
            tree: archived.taken.tree,
            incremental: false,
            totals: archived.taken.totals,
            bytes_read: archived.taken.totals.bytes,
            bytes_stored: bytes,
            missed: archived.totals.missed + archived.totals.damaged,
        };
        let media = place.media().join(", ");
        self.scene.context.vault.lies_on(place)?;
        let session = self.remember(&entity.path, self.replica.journal().id(), &made)?;
        self.catalogue();
        let text = format!(
            "session {} of {} in repository \"{}\" on {media}: {} files, {bytes} bytes written, {} missed, the drive waited {} times",
            made.id.short(),
            String::from_utf8_lossy(&entity.path),
            self.request.repository,
            session.files,
            session.missed,
            archived.stalls
        );
        self.scene.note(if session.missed > 0 { Level::Warning } else { Level::Info }, &text);
        report.sessions.push(session);
        Ok(())
    }

    fn label(
        &self,
        encoding: &Encoding,
        entity: &Entity,
        record: &RecordOptions,
    ) -> EngineResult<SessionLabel> {
        let tag = |key: &str| {
            let found = record.tags.iter().find_map(|tag| tag.strip_prefix(key));
            found.unwrap_or_default().to_owned()
        };
        let fields = LabelFields {
            scenario: tag("scenario:"),
            entity: tag("entity:"),
            master: record.host.clone(),
            lsn: tag("lsn:"),
            class: tag("class:"),
            time: record.time,
            journal: tag("journal:"),
            paths: vec![path_text(&entity.path)],
            tags: record.tags.clone(),
            excludes: record.excludes.clone(),
            ..LabelFields::now()
        };
        encoding
            .label(fields)
            .map_err(|error| EngineError::new(&codes::BACKUP_FAILED, "label the session").caused_by(error))
    }

    /// Brings the session into the catalog; if that fails it is done in the background, and never fails a backup.
    fn catalogue(&self) {
        let filled =
            self.catalog.fill(&self.request.repository, &mut |_| self.progress.interrupted().is_none());
        if filled.is_err() {
            self.catalog.poke();
        }
    }
}

/// Takes a drive for a job that reads.
///
/// # Errors
/// `TAPE_BUSY`, `CANCELLED`.
pub(in crate::host) fn take_drive(
    vault: &Vault,
    tape: &TapeRepository,
    what: &str,
    progress: &dyn Progress,
) -> EngineResult<Hold> {
    vault.drives().take(&tape.url, what, &|| progress.interrupted())
}
