//! Filling the catalog from repositories: they are listed, what the catalog lacks is loaded, what they lack is forgotten.
//!
//! Sessions are loaded one at a time, the oldest first, each as what differs from the session before it of its entity
//! where that is in the catalog. A session that cannot be read is reported and left out; the others go on.

use super::error::listing_error;
use super::{Keeper, Uncatalogued, chain};
use crate::engine::{EngineError, EngineResult, Interrupt, Level, SessionsQuery};
use journal::{Lsn, Timestamp};
use snapshot::catalog::{Catalog, CatalogError, Entity, Session, SessionId, SessionInfo, TEXT_BYTES_MAX};
use snapshot::listing::{self, ListingError, Loaded, Top};
use snapshot::repository::{Id, Repository, RepositoryErrorKind, SessionRecord};
use std::collections::HashSet;
use std::sync::Arc;

/// Sessions of a repository that are looked at.
const SESSIONS_MAX: usize = 1_000_000;

/// A session that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Its id.
    pub session: Id,
    /// Why, for people.
    pub reason: String,
}

/// What filling came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FillReport {
    /// Sessions loaded.
    pub sessions: u64,
    /// Sessions forgotten, because the repository has them no more.
    pub forgotten: u64,
    /// Entries looked at.
    pub entries: u64,
    /// Entries whose paths are longer than the catalog takes.
    pub left_out: u64,
    /// Sessions that could not be loaded.
    pub failed: Vec<Failed>,
}

/// `1 session`, `2 sessions`.
pub(super) fn sessions_text(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

/// Told how many entries were looked at; says whether to go on.
pub type GoOn<'g> = &'g mut dyn FnMut(u64) -> bool;

impl FillReport {
    /// Adds another one.
    pub fn add(&mut self, other: FillReport) {
        self.sessions += other.sessions;
        self.forgotten += other.forgotten;
        self.entries += other.entries;
        self.left_out += other.left_out;
        self.failed.extend(other.failed);
    }
}

/// A session of a repository that the catalog does not hold.
struct Todo {
    id: Id,
    record: SessionRecord,
}

impl Keeper {
    /// Brings the catalog up to what a repository holds.
    ///
    /// # Errors
    /// `NO_SUCH_REPOSITORY` and those of opening and listing it; `CANCELLED`.
    pub fn fill(&self, repository: &str, go_on: GoOn<'_>) -> EngineResult<FillReport> {
        let _one = self.filling.lock();
        let (_, opened) = self.vault.get(repository)?;
        let failed = |error| crate::vault::repository_error("list the sessions", error);
        // Asked before the listing: what is loaded while we list is not taken for gone.
        let catalog = self.catalog().ok_or_else(no_catalog)?;
        let before: Vec<Arc<Session>> =
            catalog.sessions().into_iter().filter(|session| session.repository == repository).collect();
        let query = SessionsQuery { repository: Some(repository.to_owned()), ..SessionsQuery::default() };
        let made: Vec<Id> = self.vault.sessions(&query).iter().filter_map(|one| Id::parse(&one.id)).collect();
        let listed: HashSet<Id> = opened.list_sessions().map_err(failed)?.into_iter().collect();
        // On tape a session is not gone because the listing lacks it: it can be read again.
        let mut there = listed.clone();
        if self.vault.tape_repository(repository).is_some() {
            there.extend(&made);
        }
        let mut report = FillReport::default();
        for session in before.iter().filter(|session| !there.contains(&Id(session.id.0))) {
            self.forget(&catalog, session.id)?;
            report.forgotten += 1;
        }
        {
            let mut seen = self.seen.lock();
            for id in &made {
                if there.contains(id) {
                    seen.gone.remove(id)
                } else {
                    seen.gone.insert(*id)
                };
            }
            seen.found.retain(|id, found| found.repository != repository || listed.contains(id));
        }
        let todo = self.todo(repository, &catalog, &opened, &listed, &mut report)?;
        if !todo.is_empty() {
            // After the listing: the index then has all that the listed sessions need.
            opened.reload_index().map_err(failed)?;
        }
        for one in &todo {
            if !go_on(report.entries) {
                return Err(EngineError::interrupted(Interrupt::Cancelled));
            }
            self.load(repository, &opened, one, &mut report, go_on)?;
        }
        Ok(report)
    }

    fn forget(&self, catalog: &Catalog, id: SessionId) -> EngineResult<()> {
        match catalog.forget(id) {
            Ok(()) | Err(CatalogError::NoSuchSession { .. }) => Ok(()),
            Err(error) => Err(super::catalog_error(error)),
        }
    }

    /// What the catalog lacks, the oldest first. From now on it is known to be missing.
    fn todo(
        &self,
        repository: &str,
        catalog: &Catalog,
        opened: &Repository,
        listed: &HashSet<Id>,
        report: &mut FillReport,
    ) -> EngineResult<Vec<Todo>> {
        let mut todo = Vec::new();
        for id in listed.iter().filter(|id| catalog.session(SessionId(id.0)).is_none()).take(SESSIONS_MAX) {
            match opened.load_session(id) {
                Ok(record) => todo.push(Todo { id: *id, record }),
                // Removed since the listing.
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => {}
                Err(error) if error.kind() == RepositoryErrorKind::Damaged => {
                    report.failed.push(Failed { session: *id, reason: chain(&error) });
                }
                Err(error) => return Err(crate::vault::repository_error("read a session record", error)),
            }
        }
        todo.sort_by_key(|one| (time_of(&one.record), one.id.0));
        let mut seen = self.seen.lock();
        for one in &todo {
            let info = info(repository, one.id, &one.record, b"/");
            let found = Uncatalogued {
                id: one.id,
                repository: repository.to_owned(),
                scenario: info.entity.scenario,
                master: info.entity.master,
                time: info.taken,
                lsn: info.lsn,
            };
            seen.found.insert(one.id, found);
        }
        Ok(todo)
    }

    /// Loads a session; one that cannot be read is reported.
    fn load(
        &self,
        repository: &str,
        opened: &Repository,
        todo: &Todo,
        report: &mut FillReport,
        go_on: GoOn<'_>,
    ) -> EngineResult<()> {
        let catalog = self.catalog().ok_or_else(no_catalog)?;
        let before = report.entries;
        let loaded = listing::top(opened, &todo.record).and_then(|top| {
            let info = info(repository, todo.id, &todo.record, &top.root);
            load(&catalog, opened, &info, &top, &mut |entries| go_on(before + entries))
        });
        match loaded {
            Ok(loaded) => {
                report.sessions += 1;
                report.entries += loaded.entries;
                report.left_out += loaded.left_out;
                self.seen.lock().found.remove(&todo.id);
                Ok(())
            }
            // The backup that made it did it meanwhile, or is about to.
            Err(ListingError::Catalog { source: CatalogError::AlreadyLoaded { .. } }) => Ok(()),
            Err(ListingError::GivenUp) => Err(EngineError::interrupted(Interrupt::Cancelled)),
            Err(error) if error.is_catalog_damage() => {
                drop(catalog);
                self.renew(&chain(&error));
                // All is missing again: the next round loads it.
                self.poke();
                Err(listing_error(error))
            }
            Err(ListingError::Catalog { source }) => Err(super::catalog_error(source)),
            Err(error) => {
                let reason = chain(&error);
                // It is tried again and again, and said once.
                if self.seen.lock().told.insert(todo.id) {
                    let text = format!("session {} cannot be catalogued: {reason}", todo.id.short());
                    self.activity.write(Level::Warning, "", None, &text);
                }
                report.failed.push(Failed { session: todo.id, reason });
                Ok(())
            }
        }
    }

    /// Makes the catalog anew from one repository, or from all of them.
    ///
    /// # Errors
    /// As [`Keeper::fill`].
    pub fn rebuild(&self, repository: Option<&str>, go_on: GoOn<'_>) -> EngineResult<FillReport> {
        let names = match repository {
            Some(name) => {
                self.vault.get(name)?;
                let catalog = self.catalog().ok_or_else(no_catalog)?;
                let _one = self.filling.lock();
                for session in catalog.sessions().iter().filter(|session| session.repository == name) {
                    self.forget(&catalog, session.id)?;
                }
                catalog.tidy().map_err(super::catalog_error)?;
                vec![name.to_owned()]
            }
            None => {
                let _one = self.filling.lock();
                self.renew("somebody asked for it").ok_or_else(no_catalog)?;
                self.vault.list().into_iter().map(|repository| repository.name).collect()
            }
        };
        let mut report = FillReport::default();
        for name in names {
            let before = report.entries;
            report.add(self.fill(&name, &mut |entries| go_on(before + entries))?);
        }
        Ok(report)
    }
}

fn no_catalog() -> EngineError {
    EngineError::new(&wire::codes::IO, "the catalog cannot be opened; the daemon's log says why")
}

/// Loads a session as what differs from the one nearest before it, or else as a whole.
fn load(
    catalog: &Catalog,
    repository: &Repository,
    info: &SessionInfo,
    top: &Top,
    go_on: GoOn<'_>,
) -> Result<Loaded, ListingError> {
    let same = |session: &&Arc<Session>| {
        *session.entity == info.entity && session.repository == info.repository && session.taken <= info.taken
    };
    let sessions = catalog.sessions();
    if let Some(base) = sessions.iter().filter(same).max_by_key(|session| session.taken) {
        let old = repository
            .load_session(&Id(base.id.0))
            .map_err(ListingError::from)
            .and_then(|record| listing::at(repository, &record.tree, &info.entity.root));
        if let Ok(Some(old)) = old {
            match listing::load_changes(catalog, repository, (base.id, &old), top, info, go_on) {
                // Trees of the other session are damaged, or it was forgotten meanwhile.
                Err(ListingError::Repository { .. })
                | Err(ListingError::Catalog { source: CatalogError::NoSuchSession { .. } }) => {}
                loaded => return loaded,
            }
        }
    }
    listing::load_whole(catalog, repository, top, info, go_on)
}

fn time_of(record: &SessionRecord) -> Timestamp {
    let time = record.time;
    Timestamp(time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanoseconds.into()))
}

/// What a record says of its session: ours in tags; others have host and paths.
fn info(repository: &str, id: Id, record: &SessionRecord, root: &[u8]) -> SessionInfo {
    let tag = |name: &str| record.tags.iter().find_map(|tag| tag.strip_prefix(name));
    let cut = |text: &str| {
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.get(..end).unwrap_or_default().to_owned()
    };
    let name = tag("entity:").map_or_else(|| record.paths.join(", "), str::to_owned);
    SessionInfo {
        id: SessionId(id.0),
        repository: repository.to_owned(),
        entity: Entity {
            scenario: cut(tag("scenario:").unwrap_or_default()),
            master: cut(&record.hostname),
            name: cut(&name),
            root: root.to_vec(),
        },
        taken: time_of(record),
        lsn: tag("lsn:").and_then(|lsn| lsn.parse::<Lsn>().ok()),
    }
}
