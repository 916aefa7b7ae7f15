//! Backups of a scenario: a session of each root, as of one point.

mod summary;
pub(super) mod tape;

use super::past::bookmarks;
use super::scene::Scene;
use super::snapshots::class_word;
use crate::catalog::{Feed, Keeper, feed};
use crate::engine::{
    BackupReport, BackupRequest, EngineResult, Interrupt, Level, Progress, ResolvedPoint, Session, Skipped,
};
use crate::points::{PointSpec, wall_clock};
use crate::records::SessionMade;
use crate::vault::{Lineage, backup_error, lsn_of, repository_error};
use journal::{Class, Lsn, RootNo};
use replication::os_tree::OsTree;
use replication::replica::{LeasedView, Replica};
use snapshot::catalog::{self, SessionId, SessionInfo};
use snapshot::repository::session::path_text;
use snapshot::repository::{
    Id, Lock, LockOptions, Node, Purpose, Repository, RepositoryErrorKind, Timestamp, lock,
};
use snapshot::session::{Entity, Monitor, Previous, RecordOptions, Session as Stored, Totals, back_up};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Listed as missed; more are counted.
const MISSED_MAX: usize = 100;
/// Bookmarks of one point named in tags.
const BOOKMARKS_MAX: usize = 16;

/// The session before, and the tree as it was then.
type Last = (LeasedView<OsTree>, SessionMade);

/// Progress of a job, as a backup reports it; what was looked at goes to the catalog.
struct Watch<'p>(&'p dyn Progress, &'p Feed);

impl Monitor for Watch<'_> {
    fn progress(&self, objects: u64, _: u64) {
        if objects.is_multiple_of(64) {
            self.0.report("backup", objects, None, "objects");
        }
    }

    fn cancelled(&self) -> bool {
        self.0.interrupted().is_some()
    }

    fn begins_whole(&self) {
        self.1.begins_whole();
    }

    fn object(&self, path: &[u8], node: &Node) {
        self.1.object(path, node);
    }

    fn changed(&self, path: &[u8], before: Option<&Node>, after: Option<&Node>) {
        self.1.changed(path, before, after);
    }

    fn untold(&self) {
        self.1.untold();
    }
}

/// What all sessions of a backup share.
struct Backup<'b> {
    scene: &'b Scene,
    request: &'b BackupRequest,
    catalog: &'b Arc<Keeper>,
    progress: &'b dyn Progress,
    replica: Arc<Replica<OsTree>>,
    point: ResolvedPoint,
    view: LeasedView<OsTree>,
    /// Its number here.
    number: u64,
    repository: Arc<Repository>,
    lock: Lock,
    host: String,
    excludes: Vec<String>,
    /// Names of bookmarks that sit at the point.
    bookmarks: Vec<String>,
    /// The drive, if the repository is on tape.
    tape: Option<tape::Onto>,
}

/// A session in the repository, made now or by an attempt that was interrupted before it could remember it.
struct Made {
    id: Id,
    tree: Id,
    incremental: bool,
    totals: Totals,
    bytes_read: u64,
    bytes_stored: u64,
    missed: u64,
}

impl From<&Stored> for Made {
    fn from(stored: &Stored) -> Self {
        Made {
            id: stored.id,
            tree: stored.tree,
            incremental: stored.incremental,
            totals: stored.totals,
            bytes_read: stored.counts.bytes_read,
            bytes_stored: stored.counts.bytes_stored,
            missed: stored.counts.missed_count,
        }
    }
}

impl Scene {
    /// See [`crate::engine::Engine::backup`]. A session needs no state of the scenario: any point of the window can be
    /// read, also while it is stopped, suspended or detached.
    pub(super) fn backup(
        &self,
        request: &BackupRequest,
        catalog: &Arc<Keeper>,
        progress: &dyn Progress,
    ) -> EngineResult<BackupReport> {
        let began = Instant::now();
        let backup = self.begin_backup(request, catalog, progress)?;
        let pinned = match request.snapshot {
            Some(id) => Some((id, false)),
            None => self.snapshot_of_backup(&backup.point, request.again)?,
        };
        let mut report = BackupReport {
            lsn: backup.point.lsn,
            time: backup.point.time,
            snapshot: pinned.map(|(id, _)| id),
            elapsed: Duration::ZERO,
            sessions: Vec::new(),
            missed: Vec::new(),
            notes: Vec::new(),
        };
        let definition = self.definition();
        let outcome = definition.roots.iter().enumerate().try_for_each(|(root, path)| {
            // Whatever was typed, a session's paths have one form.
            let path: PathBuf = path.master.components().collect();
            backup.root(RootNo(root as u16), path.as_os_str().as_bytes(), &mut report)
        });
        if let Err(error) = outcome {
            // The next attempt of an interrupted one needs it; after any other failure nobody does.
            if let Some((id, true)) = pinned
                && progress.interrupted() != Some(Interrupt::Shutdown)
            {
                self.release_snapshot(id.pin)?;
            }
            return Err(error);
        }
        self.thin_snapshots()?;
        report.elapsed = began.elapsed();
        progress.note(Level::Info, &summary::summary(&report));
        Ok(report)
    }

    /// Everything that the sessions of a backup share.
    fn begin_backup<'b>(
        &'b self,
        request: &'b BackupRequest,
        catalog: &'b Arc<Keeper>,
        progress: &'b dyn Progress,
    ) -> EngineResult<Backup<'b>> {
        let replica = self.replica()?;
        let point = self.resolve(request.at.as_ref().unwrap_or(&PointSpec::Now))?;
        let vault = &self.context.vault;
        let tape = tape::Onto::begin(vault, &request.repository, self.name(), request.again, progress)?;
        let (number, repository) = vault.get(&request.repository)?;
        // Whoever locks writes first and looks then, and listings show what was written before: one of two sees the
        // other, without a pause.
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        let lock = lock::acquire(&repository, Purpose::Backup, options)
            .map_err(|error| repository_error("lock the repository", error))?;
        // The lease on the past is taken last: a store that does not answer must not hold up retention.
        let view = replica.view(point.lsn)?;
        let definition = self.definition();
        let host = definition
            .master
            .clone()
            .unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
        let excludes = definition.excludes.clone();
        let controls = replica.journal().controls();
        let here = bookmarks(&controls).filter(|bookmark| bookmark.lsn == point.lsn);
        let bookmarks = here.map(|bookmark| bookmark.name).take(BOOKMARKS_MAX).collect();
        Ok(Backup {
            scene: self,
            request,
            catalog,
            progress,
            replica,
            point,
            view,
            number,
            repository,
            lock,
            host,
            excludes,
            bookmarks,
            tape,
        })
    }
}

impl Backup<'_> {
    /// Makes the session of a root and remembers it.
    fn root(&self, root: RootNo, path: &[u8], report: &mut BackupReport) -> EngineResult<()> {
        let journal = self.replica.journal().id();
        let device = journal.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let entity = Entity { root, path: path.to_vec(), device };
        let lineage = Lineage { repository: self.number, journal, entity: path.to_vec() };
        let record = self.record(path, &journal);
        if let Some(session) = self.made_before(&lineage, &record)? {
            self.progress
                .note(Level::Info, &format!("session {} was made before the interruption", session.id));
            report.sessions.push(session);
            return Ok(());
        }
        if let Some(onto) = &self.tape {
            return self.archive_root(onto, &entity, &record, report);
        }
        let (last, note) = self.last(&lineage)?;
        if let Some(note) = note {
            self.whole(path, note, report);
        }
        let previous = last.as_ref().map(|(view, made)| Previous {
            view: &**view,
            session: Id(made.session),
            tree: Id(made.tree),
        });
        let feed = Feed::new(Arc::clone(self.catalog), self.info(path));
        let stored = back_up(
            &*self.view,
            previous.as_ref(),
            &entity,
            (&self.repository, &self.lock),
            &record,
            &Watch(self.progress, &feed),
        )
        .map_err(|error| backup_error(self.progress.interrupted(), error))?;
        let spent = format!("session {}: seconds of threads: {}", stored.id.short(), stored.stages);
        self.progress.note(Level::Info, &spent);
        if let Some(damage) = &stored.unusable {
            self.whole(path, &format!("the session before cannot be used ({damage})"), report);
        }
        let missed = stored.counts.missed.iter().map(|missed| Skipped {
            path: OsString::from_vec(missed.path.clone()).into(),
            what: "content",
            error: missed.reason.clone(),
        });
        let room = MISSED_MAX.saturating_sub(report.missed.len());
        report.missed.extend(missed.take(room));
        let session = self.remember(path, journal, &Made::from(&stored))?;
        let previous = last.as_ref().filter(|_| stored.incremental);
        feed.finish(&feed::Stored {
            repository: &self.repository,
            id: stored.id,
            tree: stored.tree,
            previous: previous.map(|(_, made)| (Id(made.session), Id(made.tree))),
        });
        let how = if stored.incremental { "incremental" } else { "whole" };
        let text = format!(
            "session {} of {} in repository \"{}\" ({how}): {} files, {} bytes read, {} stored, {} missed",
            stored.id.short(),
            String::from_utf8_lossy(path),
            self.request.repository,
            session.files,
            session.bytes_read,
            session.bytes_stored,
            session.missed
        );
        self.scene.note(if session.missed > 0 { Level::Warning } else { Level::Info }, &text);
        report.sessions.push(session);
        Ok(())
    }

    /// Says why a root is looked at as a whole.
    fn whole(&self, path: &[u8], why: &str, report: &mut BackupReport) {
        let text = format!("{}: {why}: the whole root is looked at", String::from_utf8_lossy(path));
        self.progress.note(Level::Info, &text);
        report.notes.push(text);
    }

    /// The session to go on from and the tree as it was then; or why there is none.
    fn last(&self, lineage: &Lineage) -> EngineResult<(Option<Last>, Option<&'static str>)> {
        let Some(made) = self.scene.context.vault.before(lineage, self.point.lsn) else {
            return Ok((None, Some("there is no session before")));
        };
        if made.missed > 0 {
            return Ok((None, Some("the session before missed something")));
        }
        match self.repository.load_session(&Id(made.session)) {
            Ok(record) if record.tree == Id(made.tree) => {}
            Ok(_) => return Ok((None, Some("the session before was rewritten"))),
            Err(error) if error.kind() == RepositoryErrorKind::NotFound => {
                return Ok((None, Some("the session before was forgotten")));
            }
            Err(error) => return Err(repository_error("read the session before", error)),
        }
        match self.replica.view(lsn_of(&made)) {
            Ok(view) => Ok((Some((view, made)), None)),
            Err(journal::JournalError::OutsideWindow { .. } | journal::JournalError::Thinned { .. }) => {
                Ok((None, Some("the journal no longer reaches back to the session before")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The session as the catalog knows it, but for the id.
    fn info(&self, path: &[u8]) -> SessionInfo {
        SessionInfo {
            id: SessionId([0; 32]),
            repository: self.request.repository.clone(),
            entity: catalog::Entity {
                scenario: self.scene.name().to_owned(),
                master: self.host.clone(),
                name: path_text(path),
                root: path.to_vec(),
            },
            taken: self.point.time,
            lsn: Some(self.point.lsn),
        }
    }

    /// What an attempt before this one recorded in the repository. It may have ended before it could remember that.
    fn made_before(&self, lineage: &Lineage, wanted: &RecordOptions) -> EngineResult<Option<Session>> {
        if !self.request.again {
            return Ok(None);
        }
        let vault = &self.scene.context.vault;
        let known = vault.before(lineage, self.point.lsn).filter(|made| lsn_of(made) == self.point.lsn);
        if let Some(made) = known
            && self
                .repository
                .load_session(&Id(made.session))
                .is_ok_and(|record| record.tree == Id(made.tree))
        {
            return Ok(Some(vault.told(&made)));
        }
        // What the media hold was looked at and is known; a listing alone is no session.
        if self.tape.is_some() {
            return Ok(None);
        }
        // Bookmarks come and go.
        let fixed = |tag: &&String| !tag.starts_with("bookmark:");
        let same = |a: &[String], b: &[String]| a.iter().filter(fixed).eq(b.iter().filter(fixed));
        let failed = |error| repository_error("look for a session of the attempt before", error);
        for id in self.repository.list_sessions().map_err(failed)? {
            // Somebody may remove one meanwhile, and a damaged one is not ours to judge here.
            let Ok(record) = self.repository.load_session(&id) else { continue };
            if !same(&record.tags, &wanted.tags) || vault.knows(&id) {
                continue;
            }
            let Some(totals) = Totals::of_record(&record) else { continue };
            // That attempt may have ended between its record and its second look, beside a prune.
            if !self.repository.has_all_of(&record.tree).map_err(failed)? {
                let text = format!(
                    "session {} was recorded before the interruption and lacks something",
                    id.short()
                );
                self.progress.note(Level::Warning, &format!("{text}: it is made anew"));
                continue;
            }
            let number = |key| record.summary.as_ref()?.get(key)?.as_u64();
            let made = Made {
                id,
                tree: record.tree,
                incremental: record.parent.is_some(),
                totals,
                bytes_read: number("bytes_read").unwrap_or_default(),
                bytes_stored: number("data_added_packed").unwrap_or_default(),
                missed: number("missed").unwrap_or_default(),
            };
            let session = self.remember(&lineage.entity, lineage.journal, &made)?;
            // The catalog was fed by the attempt that has ended.
            self.catalog.poke();
            return Ok(Some(session));
        }
        Ok(None)
    }

    fn record(&self, path: &[u8], journal: &[u8; 16]) -> RecordOptions {
        let class = class_word(self.point.class);
        let tags = [
            format!("scenario:{}", self.scene.name()),
            format!("entity:{}", path_text(path)),
            format!("lsn:{}", self.point.lsn),
            format!("class:{class}"),
            format!("journal:{:032x}", u128::from_be_bytes(*journal)),
        ];
        let bookmarks = self.bookmarks.iter().map(|name| format!("bookmark:{name}"));
        let tags = tags.into_iter().chain(bookmarks).collect();
        RecordOptions {
            time: snapshot::session::node::time(self.point.time),
            host: self.host.clone(),
            tags,
            excludes: self.excludes.clone(),
            begun: Timestamp::now(),
        }
    }

    fn remember(&self, path: &[u8], journal: [u8; 16], made: &Made) -> EngineResult<Session> {
        let Lsn { captured, local } = self.point.lsn;
        self.scene.context.vault.made(SessionMade {
            time: wall_clock(),
            repository: self.number,
            scenario: self.scene.id(),
            scenario_name: self.scene.name().to_owned(),
            journal,
            session: made.id.0,
            tree: made.tree.0,
            entity: path.to_vec(),
            master: self.host.clone(),
            lsn_captured: captured,
            lsn_local: local,
            point_time: self.point.time,
            class: match self.point.class {
                Class::Fuzzy => 0,
                Class::Crash => 1,
                Class::Application => 2,
            },
            files: made.totals.files,
            directories: made.totals.directories,
            bytes: made.totals.bytes,
            bytes_read: made.bytes_read,
            bytes_stored: made.bytes_stored,
            missed: made.missed,
            incremental: made.incremental,
        })
    }
}
