//! Repositories and the sessions this daemon made: a projection of the server journal, held in memory.
//!
//! A repository's password is not in the journal: it lies in `DIR/secrets`, a file each, readable by nobody else. It is
//! durable before the record that names the repository, so a repository that is known can be opened. Memory grows with
//! the number of sessions, some hundred bytes each.
//!
//! An open repository is kept for the life of the daemon: deriving the key from the password costs tenths of a second,
//! which a backup of a few files must not pay each time. Each has a slot with a lock of its own, and no lock of all of them
//! is held while a store is asked or a key derived: a slow repository makes nobody wait but those who want it.

mod copies;
mod encoding;
mod error;
mod open;
mod sessions;
mod tape;

pub use copies::Copying;
pub use error::{backup_error, repository_error, restore_error, upkeep_error};
pub use sessions::{Found, is_at_or_below, no_such_session};
pub(crate) use tape::place;
pub use tape::{MediaReport, TapeRepository, Which};

use crate::definition::check_name;
use crate::engine::{EngineError, EngineResult, NewRepository, Repository, Session, SessionsQuery};
use crate::points::wall_clock;
use crate::records::{
    Record, RepositoryAdded, RepositoryChecked, SessionMade, SessionOnTape, SessionsForgotten,
    SessionsVerified, TapeEncoding, replay,
};
use crate::server_journal::{Durability, ServerJournal};
use crate::store::Layout;
use crate::tapes::Drives;
use journal::{Class, Lsn, Timestamp};
use parking_lot::{Mutex, RwLock};
use snapshot::repository::{Id, Repository as Opened};
use snapshot::store::{ConditionalPut, StoreUrl};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use wire::codes;

/// All repositories of a daemon.
pub struct Vault {
    journal: Arc<dyn ServerJournal>,
    secrets: PathBuf,
    layout: Layout,
    runtime: Handle,
    drives: Arc<Drives>,
    known: RwLock<Known>,
    open: Mutex<BTreeMap<u64, Slot>>,
    /// Repositories that are being added.
    adding: Mutex<Vec<(String, StoreUrl)>>,
    /// Tape repositories whose media nobody has looked at yet.
    unread: Mutex<HashSet<u64>>,
    /// Sessions that are being copied: the repository, and the session they were first copied from.
    copying: Mutex<HashSet<(u64, Id)>>,
}

/// A repository that is open, or none yet. Locked while it is opened: a second caller waits for the first instead of
/// deriving the key too.
type Slot = Arc<Mutex<Option<Arc<Opened>>>>;

/// A name and a place that nobody else adds meanwhile.
struct Reserved<'v> {
    vault: &'v Vault,
    name: String,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.vault.adding.lock().retain(|(name, _)| *name != self.name);
    }
}

#[derive(Default)]
struct Known {
    repositories: BTreeMap<u64, RepositoryAdded>,
    /// In the order in which they were made.
    sessions: Vec<SessionMade>,
    /// The last check of each repository.
    checks: BTreeMap<u64, RepositoryChecked>,
    /// When the last verification began that a session passed, by repository.
    verified: BTreeMap<(u64, [u8; 32]), Timestamp>,
    /// Where sessions lie on tape, by repository.
    on_tape: BTreeMap<(u64, [u8; 32]), SessionOnTape>,
    /// What is done to sessions on their way to tape.
    encodings: BTreeMap<u64, TapeEncoding>,
    last_id: u64,
}

impl Known {
    fn apply(&mut self, record: Record) {
        match record {
            Record::RepositoryAdded(added) => {
                self.last_id = self.last_id.max(added.id);
                self.repositories.insert(added.id, added);
            }
            Record::SessionMade(made) => self.sessions.push(made),
            Record::SessionsForgotten(gone) => {
                let ids: HashSet<[u8; 32]> = gone.sessions.into_iter().collect();
                self.verified
                    .retain(|(repository, id), _| *repository != gone.repository || !ids.contains(id));
                self.on_tape
                    .retain(|(repository, id), _| *repository != gone.repository || !ids.contains(id));
                self.sessions
                    .retain(|made| made.repository != gone.repository || !ids.contains(&made.session));
            }
            Record::SessionsVerified(SessionsVerified { time, repository, sessions }) => {
                self.verified.extend(sessions.into_iter().map(|id| ((repository, id), time)));
            }
            Record::SessionOnTape(on) => drop(self.on_tape.insert((on.repository, on.session), on)),
            Record::TapeEncoding(one) => drop(self.encodings.insert(one.repository, one)),
            Record::RepositoryChecked(checked) => drop(self.checks.insert(checked.repository, checked)),
            _ => {}
        }
    }

    fn named(&self, name: &str) -> Option<&RepositoryAdded> {
        self.repositories.values().find(|added| added.name == name)
    }
}

/// What a session is made from: the same root of the same journal, in the same repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The repository's number here.
    pub repository: u64,
    /// The journal's id.
    pub journal: [u8; 16],
    /// Path of the root on the master.
    pub entity: Vec<u8>,
}

/// The place of a session's point in its journal.
#[must_use]
pub fn lsn_of(made: &SessionMade) -> Lsn {
    Lsn { captured: made.lsn_captured, local: made.lsn_local }
}

impl Vault {
    /// Reads repositories and sessions from the server journal.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn open(
        journal: Arc<dyn ServerJournal>,
        secrets: PathBuf,
        runtime: Handle,
    ) -> Result<Self, EngineError> {
        let mut known = Known::default();
        replay(journal.as_ref(), &mut |record| known.apply(record))?;
        // Listings of what is on tape lie beside the secrets that open them.
        let data = secrets.parent().map_or_else(|| secrets.clone(), Path::to_owned);
        Ok(Vault {
            journal,
            secrets,
            layout: Layout::new(data),
            runtime,
            drives: Arc::default(),
            known: RwLock::new(known),
            open: Mutex::default(),
            adding: Mutex::default(),
            unread: Mutex::default(),
            copying: Mutex::default(),
        })
    }

    /// See [`crate::engine::Engine::add_repository`]. Adding what is there already, with a right password, succeeds.
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, new: &NewRepository) -> EngineResult<Repository> {
        check_name(&new.name, "repository")?;
        let url = parse(&new.url)?;
        let (found, _reserved) = self.reserve(&new.name, &url)?;
        if let StoreUrl::Tape(_) = url {
            return self.add_tape(new, &url, found);
        }
        encoding::refuse_elsewhere(new)?;
        if let Some(found) = found {
            // Opened, never made anew: what is known was there, and if it is gone somebody has to know.
            let opened = open::open(&url, &new.password, &self.runtime)?;
            check_same(&found, &opened)?;
            open::write_secret(&self.secrets, found.id, &new.password)?;
            *self.slot(found.id).lock() = Some(opened);
            return Ok(self.known.read().told(&found));
        }
        let made = open::open_or_create(&url, &new.password, &self.runtime)?;
        // Held until it is journaled, so that no two get one number.
        let mut known = self.known.write();
        let id = known.last_id + 1;
        open::write_secret(&self.secrets, id, &new.password)?;
        let added = RepositoryAdded {
            id,
            time: wall_clock(),
            name: new.name.clone(),
            url: url.to_string(),
            repository: made.repository.config().id.to_string(),
            created: made.created,
            conditional_put: match made.conditional_put {
                None => 0,
                Some(ConditionalPut::Honoured) => 1,
                Some(ConditionalPut::Ignored) => 2,
                Some(_) => 3,
            },
        };
        self.append(&mut known, Record::RepositoryAdded(added.clone()))?;
        drop(known);
        *self.slot(id).lock() = Some(made.repository);
        Ok(self.known.read().told(&added))
    }

    /// Keeps others from adding the same name or place; what is known of it.
    fn reserve(&self, name: &str, url: &StoreUrl) -> EngineResult<(Option<RepositoryAdded>, Reserved<'_>)> {
        let mut adding = self.adding.lock();
        if adding.iter().any(|(other, place)| other == name || place == url) {
            let message = format!("repository \"{name}\" is being added by somebody else");
            return Err(EngineError::new(&codes::REPOSITORY_EXISTS, message).advise("Try again."));
        }
        let known = self.known.read();
        let other = known
            .repositories
            .values()
            .find(|added| (added.name == name) != parse(&added.url).is_ok_and(|there| there == *url));
        if let Some(other) = other {
            let message = format!("repository \"{}\" is {}", other.name, other.url);
            return Err(EngineError::new(&codes::REPOSITORY_EXISTS, message));
        }
        adding.push((name.to_owned(), url.clone()));
        Ok((known.named(name).cloned(), Reserved { vault: self, name: name.to_owned() }))
    }

    fn slot(&self, id: u64) -> Slot {
        Arc::clone(self.open.lock().entry(id).or_default())
    }

    /// Directories that repositories lie in, with their names.
    #[must_use]
    pub fn directories(&self) -> Vec<(String, PathBuf)> {
        let known = self.known.read();
        let directory = |added: &RepositoryAdded| match parse(&added.url) {
            Ok(StoreUrl::Directory(path) | StoreUrl::Tape(path)) => Some((added.name.clone(), path)),
            _ => None,
        };
        known.repositories.values().filter_map(directory).collect()
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Repository> {
        let known = self.known.read();
        let mut list: Vec<_> = known.repositories.values().map(|added| known.told(added)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// An open repository and its number.
    ///
    /// # Errors
    /// `NO_SUCH_REPOSITORY`, and what opening it fails with.
    pub fn get(&self, name: &str) -> EngineResult<(u64, Arc<Opened>)> {
        let added = self.known.read().named(name).cloned().ok_or_else(|| no_such_repository(name))?;
        let slot = self.slot(added.id);
        let mut open = slot.lock();
        if let Some(repository) = &*open {
            return Ok((added.id, Arc::clone(repository)));
        }
        if let StoreUrl::Tape(_) = parse(&added.url)? {
            let repository = self.open_stage(added.id)?;
            *open = Some(Arc::clone(&repository));
            return Ok((added.id, repository));
        }
        let password = open::read_secret(&self.secrets, added.id)?;
        let repository = open::open(&parse(&added.url)?, &password, &self.runtime)?;
        check_same(&added, &repository)?;
        *open = Some(Arc::clone(&repository));
        Ok((added.id, repository))
    }

    /// The number of a repository.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u64> {
        self.known.read().named(name).map(|added| added.id)
    }

    /// A repository by its number.
    ///
    /// # Errors
    /// `NO_SUCH_REPOSITORY`.
    pub fn describe(&self, number: u64) -> EngineResult<Repository> {
        let known = self.known.read();
        let added = known.repositories.get(&number);
        added.map(|added| known.told(added)).ok_or_else(|| no_such_repository(&number.to_string()))
    }

    /// Ids of the sessions that are remembered of a repository.
    #[must_use]
    pub fn sessions_in(&self, number: u64) -> Vec<Id> {
        let known = self.known.read();
        let of_it = known.sessions.iter().filter(|made| made.repository == number);
        of_it.map(|made| Id(made.session)).collect()
    }

    /// Points of the sessions that are remembered of a repository and were made from the journal of this id.
    #[must_use]
    pub fn points_of(&self, number: u64, journal: &[u8; 16]) -> Vec<Lsn> {
        let known = self.known.read();
        let of_it =
            known.sessions.iter().filter(|made| made.repository == number && made.journal == *journal);
        of_it.map(lsn_of).collect()
    }

    /// Remembers that sessions are gone.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn forgotten(&self, number: u64, gone: Vec<Id>) -> EngineResult<()> {
        for some in gone.chunks(FORGOTTEN_MAX) {
            let sessions = some.iter().map(|id| id.0).collect();
            let forgotten = SessionsForgotten { time: wall_clock(), repository: number, sessions };
            self.append(&mut self.known.write(), Record::SessionsForgotten(forgotten))?;
        }
        Ok(())
    }

    /// Remembers that a check ended.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn checked(&self, checked: RepositoryChecked) -> EngineResult<()> {
        self.append(&mut self.known.write(), Record::RepositoryChecked(checked))
    }

    /// Remembers that sessions passed a verification that began then.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn verified(&self, number: u64, time: Timestamp, passed: &[Id]) -> EngineResult<()> {
        for some in passed.chunks(FORGOTTEN_MAX) {
            let sessions = some.iter().map(|id| id.0).collect();
            let verified = SessionsVerified { time, repository: number, sessions };
            self.append(&mut self.known.write(), Record::SessionsVerified(verified))?;
        }
        Ok(())
    }

    /// The last check of a repository.
    #[must_use]
    pub fn last_check(&self, number: u64) -> Option<RepositoryChecked> {
        self.known.read().checks.get(&number).cloned()
    }

    /// Remembers a session that is durable in its repository.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn made(&self, made: SessionMade) -> EngineResult<Session> {
        let session = self.session(&self.known.read(), &made);
        self.append(&mut self.known.write(), Record::SessionMade(made))?;
        Ok(session)
    }

    /// Whether this daemon made a session, from the journal of this id.
    #[must_use]
    pub fn is_of_journal(&self, session: &[u8; 32], journal: &[u8; 16]) -> bool {
        let known = self.known.read();
        known.sessions.iter().rev().any(|made| made.session == *session && made.journal == *journal)
    }

    /// The newest session of a lineage whose point is not behind `at`.
    #[must_use]
    pub fn before(&self, lineage: &Lineage, at: Lsn) -> Option<SessionMade> {
        let known = self.known.read();
        let same = known.sessions.iter().filter(|made| {
            made.repository == lineage.repository
                && made.journal == lineage.journal
                && made.entity == lineage.entity
                && lsn_of(made) <= at
        });
        same.max_by_key(|made| (lsn_of(made), made.time)).cloned()
    }

    /// See [`crate::engine::Engine::list_sessions`].
    #[must_use]
    pub fn sessions(&self, query: &SessionsQuery) -> Vec<Session> {
        let since = query.since.map(|since| since.resolve(wall_clock()));
        let is = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let known = self.known.read();
        let mut list = Vec::new();
        for made in known.sessions.iter().rev() {
            let session = self.session(&known, made);
            if is(&query.scenario, &session.scenario)
                && is(&query.repository, &session.repository)
                && is(&query.master, &session.master)
                && since.is_none_or(|since| session.time >= since)
            {
                list.push(session);
            }
        }
        list
    }

    /// Whether a session is remembered.
    #[must_use]
    pub fn knows(&self, session: &Id) -> bool {
        self.known.read().sessions.iter().any(|made| made.session == session.0)
    }

    /// A remembered session as clients are told of it.
    #[must_use]
    pub fn told(&self, made: &SessionMade) -> Session {
        self.session(&self.known.read(), made)
    }

    fn session(&self, known: &Known, made: &SessionMade) -> Session {
        let repository = known.repositories.get(&made.repository);
        Session {
            id: Id(made.session).to_string(),
            tree: Id(made.tree).to_string(),
            scenario: made.scenario_name.clone(),
            entity: OsString::from_vec(made.entity.clone()).into(),
            master: made.master.clone(),
            repository: repository.map(|added| added.name.clone()).unwrap_or_default(),
            time: made.point_time,
            lsn: lsn_of(made),
            class: match made.class {
                2 => Class::Application,
                1 => Class::Crash,
                _ => Class::Fuzzy,
            },
            files: made.files,
            directories: made.directories,
            bytes: made.bytes,
            bytes_read: made.bytes_read,
            bytes_stored: made.bytes_stored,
            missed: made.missed,
            incremental: made.incremental,
            verified: known.verified.get(&(made.repository, made.session)).copied(),
            tape: known.on_tape.get(&(made.repository, made.session)).cloned(),
        }
    }

    /// Journal first: what a client was told must survive a crash.
    fn append(&self, known: &mut Known, record: Record) -> EngineResult<()> {
        self.journal.append(record.kind(), &record.encode()?, Durability::Synced)?;
        known.apply(record);
        Ok(())
    }
}

/// Sessions in one record at most.
const FORGOTTEN_MAX: usize = 1000;

/// The repository that lies at a place must be the one that was added.
fn check_same(added: &RepositoryAdded, opened: &Opened) -> EngineResult<()> {
    if opened.config().id.to_string() == added.repository {
        return Ok(());
    }
    let message = format!("another repository lies at {} than was added", added.url);
    Err(EngineError::new(&codes::REPOSITORY_EXISTS, message))
}

/// `NO_SUCH_REPOSITORY`.
#[must_use]
pub fn no_such_repository(name: &str) -> EngineError {
    EngineError::new(&codes::NO_SUCH_REPOSITORY, format!("no repository is named \"{name}\""))
}

fn parse(url: &str) -> EngineResult<StoreUrl> {
    match url.parse() {
        // Two of them are two stores: nothing would be found again.
        Ok(StoreUrl::Memory) => Err(EngineError::new(&codes::BAD_URL, "memory:// keeps nothing")),
        Ok(url) => Ok(url),
        Err(error) => Err(EngineError::new(&codes::BAD_URL, error.to_string())),
    }
}

#[cfg(test)]
mod tests;
