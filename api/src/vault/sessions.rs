//! Finding sessions: among those this daemon made, then in the repositories themselves.

use super::tape::not_read;
use super::{Known, Vault, lsn_of, no_such_repository, repository_error};
use crate::engine::{EngineError, EngineResult, Session, SessionName, SessionsQuery};
use crate::records::{SessionMade, SessionOnTape};
use journal::{Class, Lsn, Timestamp};
use snapshot::repository::session::path_of_text;
use snapshot::repository::{
    Id, Lock, LockOptions, Purpose, Repository as Opened, RepositoryError, RepositoryErrorKind,
    SessionRecord, lock,
};
use std::cmp::Reverse;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use wire::codes;

/// A session and where it lies.
pub struct Found {
    /// Its repository, open.
    pub repository: Arc<Opened>,
    /// The repository's name here.
    pub name: String,
    /// Its id.
    pub id: Id,
    /// What its record says.
    pub record: SessionRecord,
    /// What is known of it here, if this daemon made it.
    pub made: Option<SessionMade>,
    /// Where it lies on tape; then the repository is its listing, without contents.
    pub tape: Option<SessionOnTape>,
}

impl Found {
    /// Path of the root on the master.
    #[must_use]
    pub fn entity(&self) -> Vec<u8> {
        match &self.made {
            Some(made) => made.entity.clone(),
            None => self.record.paths.first().map(|path| path_of_text(path)).unwrap_or_default(),
        }
    }

    /// Name of the scenario it was made of; empty if it was not made here.
    #[must_use]
    pub fn scenario(&self) -> String {
        self.made.as_ref().map(|made| made.scenario_name.clone()).unwrap_or_default()
    }

    /// Keeps others from removing what it needs as long as the lock is held.
    ///
    /// # Errors
    /// `REPOSITORY_LOCKED`, and what the store says.
    pub fn lock(&self) -> EngineResult<Lock> {
        // Whoever locks writes first and looks then, and listings show what was written before: one of two sees the
        // other, without a pause.
        let options = LockOptions { settle: Duration::ZERO, ..LockOptions::default() };
        lock::acquire(&self.repository, Purpose::Read, options)
            .map_err(|error| repository_error("lock the repository", error))
    }
}

impl Vault {
    /// The one session whose id begins so.
    ///
    /// # Errors
    /// `NO_SUCH_SESSION`, `SESSION_AMBIGUOUS`, `NO_SUCH_REPOSITORY`, and what the repository says.
    pub fn find(&self, wanted: &SessionName) -> EngineResult<Found> {
        let prefix = wanted.id.to_ascii_lowercase();
        let digits = prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        if prefix.is_empty() || prefix.len() > 64 || !digits {
            let message = format!("\"{}\" is no session's id or the beginning of one", wanted.id);
            return Err(EngineError::new(&codes::NO_SUCH_SESSION, message));
        }
        let here = self.made_here(&prefix, wanted.repository.as_deref());
        if let [(name, made)] = here.as_slice() {
            return self.load(name, Id(made.session), Some(made.clone()));
        }
        if let Some((_, made)) = here.first() {
            if here.iter().any(|(_, other)| other.session != made.session) {
                return Err(ambiguous(&wanted.id));
            }
            return self.find_copy(&here);
        }
        self.find_foreign(&prefix, wanted)
    }

    /// Copies of one session in several repositories: the first that can be read.
    fn find_copy(&self, here: &[(String, SessionMade)]) -> EngineResult<Found> {
        let mut first = None;
        for (name, made) in here {
            match self.load(name, Id(made.session), Some(made.clone())) {
                Ok(found) => return Ok(found),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| no_such_session("")))
    }

    fn find_foreign(&self, prefix: &str, wanted: &SessionName) -> EngineResult<Found> {
        let mut found = None;
        let mut asked = false;
        for repository in self.list() {
            if wanted.repository.as_ref().is_some_and(|name| *name != repository.name) {
                continue;
            }
            asked = true;
            let (_, opened) = self.get(&repository.name)?;
            match opened.resolve_session(prefix) {
                Ok(id) if found.is_none() => found = Some((repository.name, id)),
                Ok(id) if found.as_ref().is_some_and(|(_, other)| *other == id) => {}
                Ok(_) | Err(RepositoryError::SessionAmbiguous { .. }) => return Err(ambiguous(&wanted.id)),
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => {}
                Err(error) => return Err(repository_error("look for the session", error)),
            }
        }
        match (found, &wanted.repository) {
            (Some((name, id)), _) => self.load(&name, id, None),
            (None, Some(name)) if !asked => Err(no_such_repository(name)),
            (None, _) => Err(no_such_session(&wanted.id)),
        }
    }

    /// Sessions made here whose id begins so, with the names of their repositories.
    fn made_here(&self, prefix: &str, repository: Option<&str>) -> Vec<(String, SessionMade)> {
        let known = self.known.read();
        let mut found: Vec<(String, SessionMade)> = Vec::new();
        for made in &known.sessions {
            let Some(added) = known.repositories.get(&made.repository) else { continue };
            let fits =
                repository.is_none_or(|name| added.name == name) && Id(made.session).starts_with(prefix);
            // Two backups of the same point can be one session.
            let known =
                found.iter().any(|(name, other)| *name == added.name && other.session == made.session);
            if fits && !known {
                found.push((added.name.clone(), made.clone()));
            }
        }
        found
    }

    fn load(&self, name: &str, id: Id, made: Option<SessionMade>) -> EngineResult<Found> {
        let (number, repository) = self.get(name)?;
        let tape = self.on_tape(number, &id);
        // Others may have written to it since it was opened.
        repository.reload_index().map_err(|error| repository_error("read the index", error))?;
        let record = repository.load_session(&id).map_err(|error| match error.kind() {
            RepositoryErrorKind::NotFound if tape.is_some() => not_read(name, &id, tape.as_ref()),
            RepositoryErrorKind::NotFound => no_such_session(&id.to_string())
                .because(format!("It was forgotten: repository \"{name}\" does not hold it any more.")),
            _ => repository_error("read the session", error),
        })?;
        Ok(Found { repository, name: name.to_owned(), id, record, made, tape })
    }

    /// A session, also one that another program made.
    ///
    /// # Errors
    /// As [`Vault::find`].
    pub fn show(&self, wanted: &SessionName) -> EngineResult<Session> {
        let found = self.find(wanted)?;
        if let Some(made) = &found.made {
            return Ok(self.session(&self.known.read(), made));
        }
        let tag = |key: &str| tag(&found.record, key);
        let time = found.record.time;
        let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
        Ok(Session {
            id: found.id.to_string(),
            tree: found.record.tree.to_string(),
            scenario: tag("scenario:").to_owned(),
            entity: PathBuf::from(OsString::from_vec(found.entity())),
            master: found.record.hostname.clone(),
            repository: found.name.clone(),
            time: Timestamp(i64::try_from(nanoseconds).unwrap_or_default()),
            lsn: tag("lsn:").parse().unwrap_or(Lsn::ZERO),
            class: match tag("class:") {
                "application" => Class::Application,
                "crash" => Class::Crash,
                _ => Class::Fuzzy,
            },
            files: 0,
            directories: 0,
            bytes: 0,
            bytes_read: 0,
            bytes_stored: 0,
            missed: 0,
            incremental: false,
            verified: self.verified_at(&found.name, &found.id),
            tape: found.tape,
        })
    }

    fn verified_at(&self, repository: &str, session: &Id) -> Option<Timestamp> {
        let known = self.known.read();
        let number = known.named(repository)?.id;
        known.verified.get(&(number, session.0)).copied()
    }

    /// The newest session of a root that missed nothing, of a scenario or of any.
    #[must_use]
    pub fn newest_complete(&self, entity: &[u8], scenario: Option<&str>) -> Option<SessionName> {
        let known = self.known.read();
        let complete = known.sessions.iter().filter(|made| {
            made.missed == 0
                && made.entity == entity
                && scenario.is_none_or(|name| name == made.scenario_name)
        });
        let made = complete.min_by_key(|made| nearest(&known, made))?;
        let repository = known.repositories.get(&made.repository).map(|added| added.name.clone());
        Some(SessionName { id: Id(made.session).to_string(), repository })
    }

    /// Sessions of a scenario, or of any, that may hold a path of the master: the newest point first.
    #[must_use]
    pub fn holding(&self, path: &[u8], scenario: Option<&str>) -> Vec<SessionName> {
        let query = SessionsQuery { scenario: scenario.map(str::to_owned), ..SessionsQuery::default() };
        let known = self.known.read();
        let mut list: Vec<&SessionMade> = known
            .sessions
            .iter()
            .filter(|made| query.scenario.as_ref().is_none_or(|name| *name == made.scenario_name))
            .filter(|made| is_at_or_below(path, &made.entity) || is_at_or_below(&made.entity, path))
            .collect();
        list.sort_by_key(|made| nearest(&known, made));
        let name =
            |made: &SessionMade| known.repositories.get(&made.repository).map(|added| added.name.clone());
        list.into_iter()
            .map(|made| SessionName { id: Id(made.session).to_string(), repository: name(made) })
            .collect()
    }
}

/// The order in which sessions are asked for what they hold: the newest point first. Of one point what lacks nothing before what
/// does, what no volume has to be fetched for before what lies on tape, and what was made first before its copies.
fn nearest(known: &Known, made: &SessionMade) -> impl Ord + use<> {
    let is_on_tape = known.on_tape.contains_key(&(made.repository, made.session));
    (Reverse((made.point_time, lsn_of(made))), made.missed > 0, is_on_tape, made.time)
}

/// Whether a path is another one or lies below it.
#[must_use]
pub fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let rest = path.strip_prefix(above.strip_suffix(b"/").unwrap_or(above));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// `NO_SUCH_SESSION`.
#[must_use]
pub fn no_such_session(id: &str) -> EngineError {
    EngineError::new(&codes::NO_SUCH_SESSION, format!("there is no session {id}"))
}

/// What a record's tags say of a key; empty if nothing.
pub(super) fn tag<'r>(record: &'r SessionRecord, key: &str) -> &'r str {
    record.tags.iter().find_map(|tag| tag.strip_prefix(key)).unwrap_or_default()
}

fn ambiguous(id: &str) -> EngineError {
    EngineError::new(&codes::SESSION_AMBIGUOUS, format!("more than one session's id begins with {id}"))
}
