//! The blocking part of a rescue: from an address and a password to files.

use super::{archived, tape};
use parking_lot::Mutex;
use restore::session::SessionRestoreErrorKind as Kind;
use restore::session::{self, Listed, Monitor, Options, Part, Planned, Receipt, SessionRestoreError};
use secrecy::SecretString;
use snapshot::repository::{
    Id, Lock, LockOptions, Purpose, Repository, RepositoryError, RepositoryErrorKind, SessionRecord, lock,
};
use snapshot::store::{self, Environment, StoreErrorKind, StoreOptions, StoreUrl};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use wire::codes::{self, Code};
use wire::failure::chain;
use wire::{Failure, v1};

/// Sessions with their records.
pub(super) type Records = Vec<(Id, SessionRecord)>;

/// Objects listed by name.
const LISTED_MAX: usize = 1000;

/// Which sessions.
pub(super) enum Wanted {
    /// The one whose id begins so.
    Session(String),
    /// Of each root of each host the newest.
    Latest,
    /// This moment where it is archived; else of each root of each host the newest session that is not younger.
    At(jiff::Timestamp),
    /// The moment behind this LSN, which has to be archived.
    Lsn(u64),
}

/// What is to be done.
pub(super) struct Rescue {
    pub url: String,
    pub password: SecretString,
    pub which: Wanted,
    pub paths: Vec<Vec<u8>>,
    /// Absolute.
    pub onto: Vec<u8>,
    pub options: Options,
    pub lock: bool,
    pub dry_run: bool,
    /// Whether anybody wants to see the changes of a plan.
    pub list: bool,
    pub runtime: tokio::runtime::Handle,
}

/// What came of it.
#[derive(Default)]
pub(super) struct Rescued {
    /// Ids of the sessions.
    pub sessions: Vec<String>,
    pub report: v1::RestoreReport,
    pub plan: v1::RestorePlan,
    pub changes: Vec<v1::Change>,
    /// What came, or would come, out of archives: an object each.
    pub archived: Vec<serde_json::Value>,
    pub warnings: Vec<String>,
}

/// How far it is, and whether it is still wanted.
#[derive(Default)]
pub(super) struct Watch {
    progress: Mutex<session::Progress>,
    cancelled: AtomicBool,
}

impl Watch {
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    pub fn done(&self, files: u64, bytes: u64) {
        let mut progress = self.progress.lock();
        (progress.files, progress.bytes) = (files, bytes);
    }

    pub fn counted(&self) -> (u64, u64) {
        let progress = self.progress.lock();
        (progress.files, progress.bytes)
    }

    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    pub fn progress(&self) -> v1::Progress {
        let session::Progress { files, files_total, bytes, bytes_total } = *self.progress.lock();
        let known = |total: u64| (total > 0).then_some(total);
        let (done, total, unit) = match bytes_total {
            0 => (files, known(files_total), "objects"),
            total => (bytes, known(total), "bytes"),
        };
        v1::Progress { phase: "restore".to_owned(), done, total, unit: unit.to_owned() }
    }
}

impl Monitor for Watch {
    fn progress(&self, progress: session::Progress) {
        *self.progress.lock() = progress;
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }
}

fn store_code(kind: StoreErrorKind) -> &'static Code {
    match kind {
        StoreErrorKind::NotPermitted => &codes::STORE_NOT_PERMITTED,
        StoreErrorKind::Full => &codes::STORE_FULL,
        StoreErrorKind::NoBucket => &codes::NO_BUCKET,
        StoreErrorKind::Unencrypted => &codes::UNENCRYPTED,
        _ => &codes::STORE_UNAVAILABLE,
    }
}

fn repository_code(kind: RepositoryErrorKind) -> &'static Code {
    match kind {
        RepositoryErrorKind::WrongPassword => &codes::WRONG_PASSWORD,
        RepositoryErrorKind::UnsupportedVersion => &codes::REPOSITORY_VERSION,
        RepositoryErrorKind::Locked => &codes::REPOSITORY_LOCKED,
        RepositoryErrorKind::NoRepository | RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound => {
            &codes::REPOSITORY_DAMAGED
        }
        RepositoryErrorKind::Store(kind) => store_code(kind),
        _ => &codes::RESTORE_FAILED,
    }
}

pub(super) fn repository_failure(operation: &str, error: &RepositoryError) -> Failure {
    Failure::new(repository_code(error.kind()), format!("{operation}: {}", chain(error)))
}

fn session_failure(error: &RepositoryError) -> Failure {
    match error.kind() {
        RepositoryErrorKind::NotFound | RepositoryErrorKind::Refused => {
            Failure::new(&codes::NO_SUCH_SESSION, error.to_string())
        }
        RepositoryErrorKind::Ambiguous => Failure::new(&codes::SESSION_AMBIGUOUS, error.to_string()),
        _ => repository_failure("look for the session", error),
    }
}

fn restore_failure(error: &SessionRestoreError) -> Failure {
    let code = match error.kind() {
        Kind::Cancelled => &codes::CANCELLED,
        Kind::NotFound => &codes::NO_SUCH_PATH,
        Kind::Busy => &codes::TARGET_REFUSED,
        Kind::State => &codes::WOULD_OVERWRITE,
        Kind::Lacking => &codes::SESSION_LACKS,
        Kind::Refused => &codes::USAGE,
        Kind::Full => &codes::DISK_FULL,
        Kind::Io => &codes::IO,
        Kind::Repository(kind) => repository_code(kind),
        _ => &codes::RESTORE_FAILED,
    };
    Failure::new(code, chain(error))
}

/// The records of all sessions that can be read, and the first failure of one that cannot.
fn records(repository: &Repository, rescued: &mut Rescued) -> Result<(Records, Option<Failure>), Failure> {
    let (mut damaged, mut found) = (None, Vec::new());
    for id in repository.list_sessions().map_err(|error| repository_failure("list sessions", &error))? {
        match repository.load_session(&id) {
            Ok(record) => found.push((id, record)),
            // All the others can still be had.
            Err(error) if matches!(error.kind(), RepositoryErrorKind::Damaged) => {
                rescued.damaged_record(&id, &error);
                damaged = Some(repository_failure("read the record of a session", &error));
            }
            // Somebody forgot it since they were listed.
            Err(error) if error.kind() == RepositoryErrorKind::NotFound => {}
            Err(error) => return Err(session_failure(&error)),
        }
    }
    Ok((found, damaged))
}

/// Of each root the newest session that is not younger than that.
fn newest(records: Records, at: jiff::Timestamp) -> Records {
    let mut newest: HashMap<(String, Vec<String>), (Id, SessionRecord)> = HashMap::new();
    for (id, record) in records {
        let time = (record.time.seconds, record.time.nanoseconds);
        let limit = (at.as_second(), u32::try_from(at.subsec_nanosecond()).unwrap_or(0));
        let key = (record.hostname.clone(), record.paths.clone());
        let newer = |(_, other): &(Id, SessionRecord)| (other.time.seconds, other.time.nanoseconds) < time;
        if time <= limit && newest.get(&key).is_none_or(newer) {
            newest.insert(key, (id, record));
        }
    }
    let mut found: Vec<_> = newest.into_values().collect();
    found.sort_by(|(_, a), (_, b)| (&a.hostname, &a.paths).cmp(&(&b.hostname, &b.paths)));
    found
}

fn listed(list: Vec<Listed>) -> Vec<v1::RestoreListed> {
    let message = |listed: Listed| v1::RestoreListed {
        path: listed.path.into(),
        what: listed.what.to_owned(),
        reason: listed.reason,
        errno: listed.errno.unwrap_or(0),
    };
    list.into_iter().map(message).collect()
}

impl Rescued {
    /// What a record that cannot be read was of is not known: what is restored may not be the newest.
    fn damaged_record(&mut self, id: &Id, error: &RepositoryError) {
        let short: String = id.to_string().chars().take(16).collect();
        let reason = format!(
            "the record of session {short} is damaged and was passed over; what is restored of its root may be older: {}",
            chain(error)
        );
        self.passed_over(reason, "session record");
    }

    /// A session that cannot be had: what is restored may not be all that was asked for.
    pub(super) fn passed_over(&mut self, reason: String, what: &str) {
        self.warnings.push(reason.clone());
        self.report.warned += 1;
        if self.report.warnings.len() < LISTED_MAX {
            let (path, what) = (b"/".to_vec().into(), what.to_owned());
            self.report.warnings.push(v1::RestoreListed { path, what, reason, errno: 0 });
        }
    }
}

impl Rescue {
    pub fn run(mut self, watch: &Watch) -> Result<Rescued, Failure> {
        let began = Instant::now();
        let mut rescued = Rescued::default();
        if tape::is_tape(&self.url) {
            let taken = tape::take(&self, watch, &mut rescued)?;
            self.restore(&taken.repository, taken.sessions, watch, &mut rescued)?;
            if let Err(error) = taken.directory.close() {
                rescued.warnings.push(format!("what was read from tape is not removed: {error}"));
            }
        } else {
            let repository = self.open()?;
            let _lock = self.lock(&repository, &mut rescued)?;
            let sessions = self.sessions(&repository, watch, &mut rescued)?;
            self.restore(&repository, sessions, watch, &mut rescued)?;
        }
        rescued.report.target = self.onto.clone().into();
        rescued.report.elapsed = Some(wire::convert::duration_to_wire(began.elapsed()));
        Ok(rescued)
    }

    fn open(&self) -> Result<Arc<Repository>, Failure> {
        let url: StoreUrl = self
            .url
            .parse()
            .map_err(|error| Failure::new(&codes::BAD_URL, format!("{}: {error}", self.url)))?;
        let (options, environment) = (StoreOptions::default(), Environment::of_process());
        let opened = store::open(&url, &options, &environment, &self.runtime).map_err(|error| {
            Failure::new(store_code(error.kind), format!("open {url}: {}", chain(&error)))
        })?;
        let repository = Repository::open(opened.into_shared(), &self.password)
            .map_err(|error| repository_failure("open the repository", &error))?;
        Ok(Arc::new(repository))
    }

    /// Restores sessions as they are.
    fn restore(
        &mut self,
        repository: &Repository,
        sessions: Records,
        watch: &Watch,
        rescued: &mut Rescued,
    ) -> Result<(), Failure> {
        let mut held = rescued.archived.len();
        // One part that is marked speaks for all: marks are taken away one by one.
        let trees = sessions.iter().map(|(_, record)| (&record.tree, self.paths.as_slice()));
        let target = PathBuf::from(OsString::from_vec(self.onto.clone()));
        self.options.began = session::began(&target, trees).map_err(|error| restore_failure(&error))?;
        let several = sessions.len() > 1 || held > 0;
        let (mut parts, mut trees) = (Vec::new(), HashSet::new());
        for (id, record) in sessions {
            // The same tree under another name of the host is there already.
            if !trees.insert(record.tree) {
                continue;
            }
            match self.one(repository, (&id, &record), watch, rescued, &mut parts) {
                // Of several roots only some hold the paths.
                Err(SessionRestoreError::NoSuchPath { .. }) if several => continue,
                Err(error) => return Err(restore_failure(&error)),
                Ok(()) => held += 1,
            }
        }
        // Only now: a rescue that was cut off finds the roots done that it had done.
        parts.into_iter().try_for_each(session::Part::end).map_err(|error| restore_failure(&error))?;
        if held == 0 {
            return Err(Failure::new(&codes::NO_SUCH_PATH, "none of the sessions holds the paths"));
        }
        if let [only] = rescued.sessions.as_slice() {
            rescued.report.session.clone_from(only);
            rescued.plan.session.clone_from(only);
        }
        Ok(())
    }

    /// The sessions that are to be restored as they are. What is archived is done here.
    fn sessions(
        &self,
        repository: &Repository,
        watch: &Watch,
        rescued: &mut Rescued,
    ) -> Result<Records, Failure> {
        let at = match &self.which {
            Wanted::Session(prefix) => {
                let id = repository.resolve_session(prefix).map_err(|error| session_failure(&error))?;
                let record = repository.load_session(&id).map_err(|error| session_failure(&error))?;
                return Ok(vec![(id, record)]);
            }
            Wanted::Latest => jiff::Timestamp::MAX,
            Wanted::At(at) => *at,
            Wanted::Lsn(_) => jiff::Timestamp::MIN,
        };
        let (records, damaged) = records(repository, rescued)?;
        let done = archived::rescue(self, repository, &records, watch, rescued)?;
        let found = newest(records, at);
        let none = || {
            let text = match &self.which {
                Wanted::Lsn(lsn) => format!("no archive and no session begins in front of LSN {lsn}"),
                _ => "no session is as old as that".to_owned(),
            };
            damaged.unwrap_or_else(|| Failure::new(&codes::NO_SUCH_SESSION, text))
        };
        if found.is_empty() && done.is_empty() {
            return Err(none());
        }
        let is_done =
            |record: &SessionRecord| done.contains(&(record.hostname.clone(), record.paths.clone()));
        Ok(found.into_iter().filter(|(_, record)| !is_done(record)).collect())
    }

    fn lock(&self, repository: &Arc<Repository>, rescued: &mut Rescued) -> Result<Option<Lock>, Failure> {
        if !self.lock {
            return Ok(None);
        }
        match lock::acquire(repository, Purpose::Read, LockOptions::default()) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if error.kind() == RepositoryErrorKind::Locked => {
                Err(repository_failure("lock the repository", &error).advise(
                    "Wait until it has ended; if it is gone for good, `--no-lock` reads all the same.",
                ))
            }
            // It may be a copy that cannot be written: then nobody prunes it either.
            Err(error) => {
                rescued.warnings.push(format!("the repository is read without a lock: {}", chain(&error)));
                Ok(None)
            }
        }
    }

    fn one(
        &self,
        repository: &Repository,
        (id, record): (&Id, &SessionRecord),
        watch: &Watch,
        rescued: &mut Rescued,
        parts: &mut Vec<Part>,
    ) -> Result<(), SessionRestoreError> {
        let target = PathBuf::from(OsString::from_vec(self.onto.clone()));
        let missed = record.missed();
        let wanted = (self.paths.as_slice(), target.as_path(), Options { missed, ..self.options });
        let mut counts = rescued.plan.counts.take().unwrap_or_default();
        let (changes, show) = (&mut rescued.changes, self.dry_run && self.list);
        let plan = session::plan_listed(repository, record.tree, wanted, watch, &mut |planned| {
            let change = change(planned);
            count(&mut counts, &change);
            if show {
                changes.push(change);
            }
        });
        rescued.plan.counts = Some(counts);
        let plan = plan?;
        if self.dry_run && missed > 0 {
            let short: String = id.to_string().chars().take(8).collect();
            rescued.warnings.push(format!("{short}: {}", session::lacking(missed)));
        }
        if self.dry_run {
            let totals = &plan.totals;
            rescued.plan.skipped += totals.skipped;
            rescued.plan.resumed += totals.resumed;
            rescued.plan.conflicts += totals.conflicts;
            rescued.plan.failed += totals.failed;
            let conflicts = totals.first_conflicts.iter().map(|path| path.clone().into());
            rescued.plan.first_conflicts.extend(conflicts);
            rescued.plan.failures.extend(listed(totals.failures.clone()));
        } else {
            let (receipt, part) = session::execute_part(&plan, watch)?;
            add(&mut rescued.report, receipt);
            parts.push(part);
        }
        rescued.sessions.push(id.to_string());
        Ok(())
    }
}

fn change(planned: Planned) -> v1::Change {
    use journal::state::PointKind as Kind;
    let kind = match planned.kind {
        Kind::Created => v1::PointKind::Created,
        Kind::Removed => v1::PointKind::Removed,
        Kind::Attributes => v1::PointKind::Attributes,
        _ => v1::PointKind::Modified,
    };
    v1::Change { kind: kind.into(), path: planned.path.into(), bytes: planned.bytes, ..v1::Change::default() }
}

fn count(counts: &mut v1::Counts, change: &v1::Change) {
    match change.kind() {
        v1::PointKind::Created => counts.created += 1,
        v1::PointKind::Removed => counts.removed += 1,
        v1::PointKind::Attributes => counts.attributes += 1,
        _ => counts.modified += 1,
    }
    counts.bytes += change.bytes;
}

fn add(report: &mut v1::RestoreReport, receipt: Receipt) {
    report.files += receipt.files;
    report.directories += receipt.directories;
    report.others += receipt.others;
    report.links += receipt.links;
    report.bytes += receipt.bytes;
    report.bytes_written += receipt.bytes_written;
    report.resumed += receipt.resumed;
    report.skipped += receipt.skipped;
    report.renamed += receipt.renamed;
    report.removed += receipt.removed;
    report.failed += receipt.failed;
    report.warned += receipt.warned;
    report.verified = match (report.verified, receipt.verified) {
        (Some(a), Some(b)) => Some(a && b),
        (a, b) => a.or(b),
    };
    report.verified_files += receipt.verified_files;
    report.failures.extend(listed(receipt.failures));
    report.failures.truncate(LISTED_MAX);
    report.warnings.extend(listed(receipt.warnings));
    report.warnings.truncate(LISTED_MAX);
}
