//! The catalog of this daemon: opened, fed, filled from the repositories, asked.
//!
//! It is a projection under `DIR/projections/catalog`. What is damaged, foreign or newer is made anew and filled from the
//! repositories; nothing else ever repairs it. A session is in it completely or not at all, so what is missing is known:
//! the sessions of the server journal, and those seen in repositories, that it does not hold ([`Keeper::missing`]).
//! Whoever asks is told of them and served from the repository.
//!
//! Sessions come in by two ways. A backup of a whole root is fed while it runs ([`feed`]) and finished when the session is
//! durable; one of what changed is loaded right after, as the difference of two trees. Everything else (sessions that a
//! crash cut off, that restic wrote, that were made before DIR was lost) is found by listing the repositories ([`fill`]):
//! after the start, after something failed, and when a person says so; one session at a time, on one thread.
//!
//! A failure of the catalog never fails a backup.

mod error;
pub mod feed;
mod fill;
mod media;

pub use error::catalog_error;
pub use feed::Feed;
pub use fill::{Failed, FillReport};

use crate::activity::Activity;
use crate::engine::{EngineError, EngineResult, Level, Session, SessionsQuery};
use crate::vault::Vault;
use journal::{Lsn, OsDisk, Timestamp};
use parking_lot::{Condvar, Mutex, RwLock};
use snapshot::catalog::{Catalog, CatalogError, CatalogErrorKind, Reader, SessionId};
use snapshot::repository::Id;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use wire::codes;

/// How long making the catalog anew waits for queries that still read the old one.
const RENEW_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts to fill what could not be filled.
const AGAIN: Duration = Duration::from_secs(600);

/// A session that is in a repository and not in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncatalogued {
    /// Its id.
    pub id: Id,
    /// Name of the repository.
    pub repository: String,
    /// Name of the scenario; empty if none is known.
    pub scenario: String,
    /// Host name of the master.
    pub master: String,
    /// The time whose state it is.
    pub time: Timestamp,
    /// The LSN whose state it is, if it has one.
    pub lsn: Option<Lsn>,
}

/// The catalog and what keeps it complete.
pub struct Keeper {
    directory: PathBuf,
    vault: Arc<Vault>,
    activity: Activity,
    /// `None` while it cannot be opened: then everything is served from the repositories.
    open: RwLock<Option<Catalog>>,
    seen: Mutex<Seen>,
    /// One session is loaded from a repository at a time.
    filling: Mutex<()>,
    work: Mutex<Work>,
    poked: Condvar,
    stopping: AtomicBool,
    /// The last thing that was said of the catalog.
    said: Mutex<String>,
    /// Tape repositories whose volumes could not all be read: it is not tried again unasked.
    told_of: Mutex<HashSet<u64>>,
}

/// What the last listings of the repositories said.
#[derive(Default)]
struct Seen {
    /// Sessions of the server journal that are in no repository any more.
    gone: HashSet<Id>,
    /// Sessions that this server did not make and that are not loaded yet.
    found: BTreeMap<Id, Uncatalogued>,
    /// Sessions of which it was said that they cannot be loaded.
    told: HashSet<Id>,
}

#[derive(Default)]
struct Work {
    wanted: bool,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Opens the catalog in a directory, or makes it.
    #[must_use]
    pub fn new(directory: PathBuf, vault: Arc<Vault>, activity: Activity) -> Arc<Self> {
        let keeper = Keeper {
            directory,
            vault,
            activity,
            open: RwLock::new(None),
            seen: Mutex::default(),
            filling: Mutex::new(()),
            work: Mutex::default(),
            poked: Condvar::new(),
            stopping: AtomicBool::new(false),
            said: Mutex::default(),
            told_of: Mutex::default(),
        };
        Arc::new(keeper)
    }

    /// Opens the catalog, and begins to fill it in the background.
    pub fn start(self: &Arc<Self>) {
        drop(self.catalog());
        let keeper = Arc::clone(self);
        let spawned = std::thread::Builder::new().name("catalog".into()).spawn(move || keeper.run());
        match spawned {
            Ok(thread) => self.work.lock().thread = Some(thread),
            Err(error) => {
                tracing::error!(%error, "the catalog is not filled in the background");
            }
        }
        self.poke();
    }

    /// Ends the work in the background; what it was at is begun again with the next start.
    pub fn stop(&self, limit: Duration) {
        self.stopping.store(true, Ordering::SeqCst);
        self.poked.notify_all();
        let thread = self.work.lock().thread.take();
        let until = Instant::now() + limit;
        if let Some(thread) = thread {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        // Its lock goes with it, so that the next daemon of this process can open it.
        *self.open.write() = None;
    }

    /// Something is missing: look into the repositories soon.
    pub fn poke(&self) {
        self.work.lock().wanted = true;
        self.poked.notify_all();
    }

    fn run(&self) {
        let mut again = None;
        loop {
            {
                let mut work = self.work.lock();
                while !work.wanted && !self.is_stopping() {
                    match again {
                        None => self.poked.wait(&mut work),
                        Some(at) => {
                            if self.poked.wait_until(&mut work, at).timed_out() {
                                work.wanted = true;
                            }
                        }
                    }
                }
                work.wanted = false;
            }
            if self.is_stopping() {
                return;
            }
            let read = self.read_lost();
            again = (!self.fill_all()).then(|| Instant::now() + AGAIN);
            if !read {
                // A job wanted the drive; it is not long until it is free.
                again = Some(Instant::now() + media::AGAIN);
            }
        }
    }

    /// Fills from every repository. Whether nothing was left to be done.
    fn fill_all(&self) -> bool {
        let mut all = true;
        for repository in self.vault.list() {
            if self.is_stopping() {
                return true;
            }
            match self.fill(&repository.name, &mut |_| !self.is_stopping()) {
                Ok(report) => {
                    all &= report.failed.is_empty();
                    if report.sessions > 0 {
                        let text = format!(
                            "{} of repository \"{}\" came into the catalog",
                            fill::sessions_text(report.sessions),
                            repository.name
                        );
                        self.activity.write(Level::Info, "", None, &text);
                    }
                }
                Err(_) if self.is_stopping() => return true,
                Err(error) => {
                    all = false;
                    let failure = error.to_failure();
                    let text =
                        format!("the catalog cannot be filled from \"{}\": {failure}", repository.name);
                    self.activity.write(Level::Warning, "", None, &text);
                }
            }
        }
        all
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// The catalog, opened if it is not; `None` if it cannot be: then nothing is catalogued.
    #[must_use]
    pub fn catalog(&self) -> Option<Catalog> {
        if let Some(catalog) = &*self.open.read() {
            return Some(catalog.clone());
        }
        let mut open = self.open.write();
        if open.is_none() && !self.is_stopping() {
            *open = self.open_or_renew();
        }
        open.clone()
    }

    fn open_or_renew(&self) -> Option<Catalog> {
        let opened = match Catalog::open(Arc::new(OsDisk), &self.directory) {
            Err(error) if error.kind() == CatalogErrorKind::Damaged => {
                self.say(&format!("the catalog is made anew: {}", chain(&error)));
                Catalog::recreate(Arc::new(OsDisk), &self.directory)
            }
            opened => opened,
        };
        match opened {
            Ok(catalog) => Some(catalog),
            Err(error) => {
                self.say(&format!("the catalog cannot be opened: {}", chain(&error)));
                None
            }
        }
    }

    /// Makes the catalog anew, empty. Queries under way end with the old one first.
    fn renew(&self, why: &str) -> Option<Catalog> {
        let mut open = self.open.write();
        *open = None;
        self.say(&format!("the catalog is made anew: {why}"));
        let until = Instant::now() + RENEW_WAIT;
        loop {
            match Catalog::recreate(Arc::new(OsDisk), &self.directory) {
                Ok(catalog) => {
                    *open = Some(catalog);
                    break;
                }
                Err(error) if error.kind() == CatalogErrorKind::Conflict && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => {
                    self.say(&format!("the catalog cannot be made anew: {}", chain(&error)));
                    break;
                }
            }
        }
        self.seen.lock().found.clear();
        open.clone()
    }

    /// Makes a catalog anew that turned out to be damaged, and has it filled.
    pub fn damaged(&self, error: &CatalogError) -> Option<Catalog> {
        let anew = self.renew(&chain(error));
        self.poke();
        anew
    }

    /// Asks the catalog. One that turns out to be damaged is made anew, and asked again when it is empty: then all
    /// sessions are [`missing`](Keeper::missing).
    ///
    /// # Errors
    /// Those of the question.
    pub fn ask<T: Default>(&self, ask: impl Fn(&Catalog) -> Result<T, CatalogError>) -> EngineResult<T> {
        let Some(catalog) = self.catalog() else { return Ok(T::default()) };
        match ask(&catalog) {
            Err(error) if error.is_damage() => {
                drop(catalog);
                match self.damaged(&error) {
                    Some(anew) => ask(&anew).map_err(catalog_error),
                    None => Ok(T::default()),
                }
            }
            answer => answer.map_err(catalog_error),
        }
    }

    /// Sessions that are known and not in the catalog, the oldest first.
    #[must_use]
    pub fn missing(&self) -> Vec<Uncatalogued> {
        self.missing_in(self.catalog().map(|catalog| catalog.reader()).as_ref())
    }

    /// The same for the catalog as it was at a moment.
    #[must_use]
    pub fn missing_in(&self, reader: Option<&Reader>) -> Vec<Uncatalogued> {
        let (gone, found) = {
            let seen = self.seen.lock();
            (seen.gone.clone(), seen.found.clone())
        };
        let made = self.vault.sessions(&SessionsQuery::default());
        let made = made.iter().filter_map(of_vault).filter(|session| !gone.contains(&session.id));
        let mut all: BTreeMap<Id, Uncatalogued> = made.map(|session| (session.id, session)).collect();
        all.extend(found);
        let is_in = |id: &Id| reader.is_some_and(|reader| reader.holds(SessionId(id.0)));
        let mut missing: Vec<_> = all.into_values().filter(|session| !is_in(&session.id)).collect();
        missing.sort_by_key(|session| (session.time, session.id.0));
        missing
    }

    /// Says it once: every question meets a catalog that cannot be opened.
    fn say(&self, text: &str) {
        let mut said = self.said.lock();
        if *said == text {
            return;
        }
        text.clone_into(&mut said);
        tracing::warn!("{text}");
        self.activity.write(Level::Warning, "", None, text);
    }

    /// `NO_SUCH_SESSION`, `SESSION_AMBIGUOUS`: the one known session whose id begins so.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn resolve(&self, prefix: &str) -> EngineResult<Id> {
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        let none = || {
            let message = format!("no session's id begins with \"{prefix}\"");
            EngineError::new(&codes::NO_SUCH_SESSION, message)
        };
        if !digits {
            return Err(none());
        }
        let wanted = prefix.to_ascii_lowercase();
        let catalog = self.catalog();
        let known = catalog.iter().flat_map(|catalog| catalog.sessions()).map(|session| Id(session.id.0));
        let missing = self.missing();
        let mut found: Vec<Id> = known.chain(missing.iter().map(|one| one.id)).collect();
        found.retain(|id| id.starts_with(&wanted));
        found.sort_unstable();
        found.dedup();
        match found.as_slice() {
            [] => Err(none()),
            [only] => Ok(*only),
            _ => {
                let message = format!("the ids of {} sessions begin with \"{prefix}\"", found.len());
                Err(EngineError::new(&codes::SESSION_AMBIGUOUS, message))
            }
        }
    }
}

fn of_vault(session: &Session) -> Option<Uncatalogued> {
    Some(Uncatalogued {
        id: Id::parse(&session.id)?,
        repository: session.repository.clone(),
        scenario: session.scenario.clone(),
        master: session.master.clone(),
        time: session.time,
        lsn: Some(session.lsn),
    })
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    wire::failure::chain(error)
}
