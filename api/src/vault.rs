//! Repositories and the sessions this daemon made: a projection of the server journal, held in memory.
//!
//! A repository's password is not in the journal: it lies in `DIR/secrets`, a file each, readable by nobody else. It is
//! durable before the record that names the repository, so a repository that is known can be opened. Memory grows with
//! the number of sessions, some hundred bytes each.
//!
//! An open repository is kept for the life of the daemon: deriving the key from the password costs tenths of a second,
//! which a backup of a few files must not pay each time.

mod error;
mod open;

pub use error::{backup_error, repository_error};

use crate::definition::check_name;
use crate::engine::{EngineError, EngineResult, NewRepository, Repository, Session, SessionsQuery};
use crate::points::wall_clock;
use crate::records::{Record, RepositoryAdded, SessionMade};
use crate::server_journal::{Durability, Position, ServerJournal};
use journal::{Class, Lsn};
use parking_lot::{Mutex, RwLock};
use snapshot::repository::{Id, Repository as Opened};
use snapshot::store::{ConditionalPut, StoreUrl};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use wire::codes;

/// All repositories of a daemon.
pub struct Vault {
    journal: Arc<dyn ServerJournal>,
    secrets: PathBuf,
    runtime: Handle,
    known: RwLock<Known>,
    /// Held while one is opened or added: a second caller waits for the first instead of deriving the key too.
    open: Mutex<BTreeMap<u64, Arc<Opened>>>,
}

#[derive(Default)]
struct Known {
    repositories: BTreeMap<u64, RepositoryAdded>,
    /// In the order in which they were made.
    sessions: Vec<SessionMade>,
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
        let mut failed = None;
        journal.replay(Position(0), &mut |_, kind, bytes| match Record::decode(kind, bytes) {
            Ok(record) => {
                known.apply(record);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        match failed {
            Some(error) => Err(error),
            None => {
                let (known, open) = (RwLock::new(known), Mutex::default());
                Ok(Vault { journal, secrets, runtime, known, open })
            }
        }
    }

    /// See [`crate::engine::Engine::add_repository`]. Adding what is there already, with a right password, succeeds.
    ///
    /// # Errors
    /// As there.
    pub fn add(&self, new: &NewRepository) -> EngineResult<Repository> {
        check_name(&new.name, "repository")?;
        let url = parse(&new.url)?;
        let mut open = self.open.lock();
        let found = {
            let known = self.known.read();
            let other = known
                .repositories
                .values()
                .find(|added| (added.name == new.name) != parse(&added.url).is_ok_and(|there| there == url));
            if let Some(other) = other {
                let message = format!("repository \"{}\" is {}", other.name, other.url);
                return Err(EngineError::new(&codes::REPOSITORY_EXISTS, message));
            }
            known.named(&new.name).cloned()
        };
        if let Some(found) = found {
            // Opened, never made anew: what is known was there, and if it is gone somebody has to know.
            let opened = open::open(&url, &new.password, &self.runtime)?;
            if opened.config().id.to_string() != found.repository {
                let message = format!("another repository lies at {url} than was added");
                return Err(EngineError::new(&codes::REPOSITORY_EXISTS, message));
            }
            open::write_secret(&self.secrets, found.id, &new.password)?;
            open.insert(found.id, opened);
            return Ok(repository(&found));
        }
        let made = open::open_or_create(&url, &new.password, &self.runtime)?;
        let id = self.known.read().last_id + 1;
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
        self.append(Record::RepositoryAdded(added.clone()))?;
        open.insert(id, made.repository);
        Ok(repository(&added))
    }

    /// All of them, by name.
    #[must_use]
    pub fn list(&self) -> Vec<Repository> {
        let mut list: Vec<_> = self.known.read().repositories.values().map(repository).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// An open repository and its number.
    ///
    /// # Errors
    /// `NO_SUCH_REPOSITORY`, and what opening it fails with.
    pub fn get(&self, name: &str) -> EngineResult<(u64, Arc<Opened>)> {
        let added = self.known.read().named(name).cloned().ok_or_else(|| no_such_repository(name))?;
        let mut open = self.open.lock();
        if let Some(repository) = open.get(&added.id) {
            return Ok((added.id, Arc::clone(repository)));
        }
        let password = open::read_secret(&self.secrets, added.id)?;
        let repository = open::open(&parse(&added.url)?, &password, &self.runtime)?;
        if repository.config().id.to_string() != added.repository {
            let message = format!("another repository lies at {} than was added", added.url);
            return Err(EngineError::new(&codes::REPOSITORY_EXISTS, message));
        }
        open.insert(added.id, Arc::clone(&repository));
        Ok((added.id, repository))
    }

    /// Remembers a session that is durable in its repository.
    ///
    /// # Errors
    /// Those of the journal.
    pub fn made(&self, made: SessionMade) -> EngineResult<Session> {
        let session = self.session(&self.known.read(), &made);
        self.append(Record::SessionMade(made))?;
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
        }
    }

    /// Journal first: what a client was told must survive a crash.
    fn append(&self, record: Record) -> EngineResult<()> {
        let mut known = self.known.write();
        self.journal.append(record.kind(), &record.encode()?, Durability::Synced)?;
        known.apply(record);
        Ok(())
    }
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

fn repository(added: &RepositoryAdded) -> Repository {
    Repository {
        name: added.name.clone(),
        url: added.url.clone(),
        id: added.repository.clone(),
        added: added.time,
        created: added.created,
        conditional_put: match added.conditional_put {
            1 => "honoured",
            2 => "ignored",
            3 => "refused",
            _ => "",
        },
    }
}
