//! A tree as it was at any archived moment, from a repository alone: the nearest session, and the redo behind it.
//!
//! Four steps. [`choose`] looks at session records and manifests and says what the moment is made of. The redo is fetched
//! and checked as a whole ([`replay`]). A replica in an empty directory of ours inside the target is fed with the sessions
//! ([`base`]) and then with the redo ([`feed`]); the tables and the code that applies captures are those of a daemon, so
//! nothing about names, links or attributes is done in a second way. At last the trees are renamed to their places
//! ([`place`]), when they are whole and durable; until then nothing stands under any name that was asked for.
//!
//! A session is a beginning if it was made from a captured point of this journal and lacks nothing. It may still lack what
//! the redo needs: something that had been removed when it was made and came back later under its old identity. Apply
//! then refuses, and an older session is tried.

mod base;
mod choose;
mod feed;
mod place;
mod replay;
mod stage;
#[cfg(test)]
mod tests;

pub(super) use choose::tags;
pub use choose::{Candidate, Choice, Chosen, Entity, choose};

use crate::vault::repository_error;
use choose::Base;
use feed::Feeder;
use journal::{JournalError, RootNo};
use place::Placing;
use replay::Redo;
use snapshot::archive::{Archive, Gap, Upto};
use snapshot::repository::{Id, Repository, RepositoryError, RepositoryErrorKind};
use stage::Stage;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use wire::{Failure, codes};

/// Which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// By the master's clock, in nanoseconds since 1970.
    Time(i64),
    /// Behind this captured LSN.
    Lsn(u64),
}

/// Hears how far it is, and says whether to go on.
pub trait Watch: Sync {
    /// Files and bytes of sessions that were handed over.
    fn progress(&self, files: u64, bytes: u64);
    /// Whether to stop; what was begun is removed.
    fn cancelled(&self) -> bool;
}

/// Why a moment was not rebuilt. Nothing stands under any name that was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The repository, or an object of the archive.
    #[error("read the repository")]
    Repository(#[from] RepositoryError),
    /// The archived redo, or the journal that was made of it.
    #[error("replay the archived journal")]
    Journal(#[from] JournalError),
    /// What is archived does not fit the session.
    #[error("the archived journal does not fit the session: {0}")]
    Misfit(String),
    /// A session is not one that redo can be replayed over.
    #[error("{path} in the session: {what}")]
    Session { path: String, what: &'static str },
    /// What was never archived.
    #[error("the archive lacks what happened between {} and {}", end(&.0.after), end(&.0.before))]
    Gap(Gap),
    /// No session to start from.
    #[error("no session of {path} is old enough to start from")]
    NoBase { path: String },
    /// No root holds the paths.
    #[error("the tree at that moment does not hold the paths")]
    NoSuchPath,
    /// Something stands where something is to come to.
    #[error("{} exists", path.display())]
    Occupied { path: PathBuf },
    /// Another rescue works there.
    #[error("another rescue works in {}", path.display())]
    Busy { path: PathBuf },
    /// The target.
    #[error("{operation} {}", path.display())]
    Target { operation: &'static str, path: PathBuf, source: io::Error },
    /// Somebody asked to stop.
    #[error("cancelled")]
    Cancelled,
}

fn end(upto: &Option<Upto>) -> String {
    match upto {
        None => "its beginning or end".to_owned(),
        Some(Upto { lsn, time }) => {
            let time = jiff::Timestamp::from_nanosecond(i128::from(*time)).unwrap_or_default();
            format!("LSN {lsn} ({time})")
        }
    }
}

impl RebuildError {
    /// What a client is told.
    #[must_use]
    pub fn to_failure(self) -> Failure {
        let code = match &self {
            Self::Repository(error) => match error.kind() {
                RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound => &codes::ARCHIVE_DAMAGED,
                _ => {
                    let Self::Repository(error) = self else { return Failure::new(&codes::INTERNAL, "") };
                    return repository_error("read the repository", error).to_failure();
                }
            },
            Self::Journal(error) => match error.kind() {
                journal::ErrorKind::Full => &codes::DISK_FULL,
                journal::ErrorKind::Io => &codes::IO,
                _ => &codes::ARCHIVE_DAMAGED,
            },
            Self::Misfit(_) | Self::Session { .. } => &codes::ARCHIVE_DAMAGED,
            Self::Gap(_) | Self::NoBase { .. } => &codes::ARCHIVE_GAP,
            Self::NoSuchPath => &codes::NO_SUCH_PATH,
            Self::Occupied { .. } => &codes::WOULD_OVERWRITE,
            Self::Busy { .. } => &codes::TARGET_REFUSED,
            Self::Target { source, .. } if source.kind() == io::ErrorKind::StorageFull => &codes::DISK_FULL,
            Self::Target { .. } => &codes::IO,
            Self::Cancelled => &codes::CANCELLED,
        };
        Failure::new(code, wire::failure::chain(&self))
    }

    /// Whether an older session may do.
    fn wants_older(&self) -> bool {
        matches!(self, Self::Misfit(_) | Self::Session { .. })
            || matches!(self, Self::Journal(JournalError::Halted { .. }))
    }
}

/// What was rebuilt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The last capture in it.
    pub upto: Upto,
    /// The sessions it was built from.
    pub sessions: Vec<Id>,
    /// Paths on the master that stand in the target now.
    pub paths: Vec<Vec<u8>>,
    /// Events replayed.
    pub events: u64,
    /// Objects of which something could not be kept, for want of privilege or support.
    pub degraded: u64,
}

/// Rebuilds what was chosen into `target`, or of it what lies at `paths`.
///
/// # Errors
/// As [`RebuildError`]; nothing stands under any name that was asked for then, unless the kernel refused a rename behind
/// others and its taking back.
pub fn rebuild(
    repository: &Repository,
    chosen: &Chosen,
    (paths, target): (&[Vec<u8>], &Path),
    watch: &dyn Watch,
) -> Result<Rebuilt, RebuildError> {
    let mut attempt = 0;
    loop {
        let stage = Stage::make(target)?;
        match once(repository, chosen, attempt, (paths, target), &stage, watch) {
            Err(error) if error.wants_older() && attempt + 1 < chosen.attempts() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "an older session is tried");
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

fn once(
    repository: &Repository,
    chosen: &Chosen,
    attempt: usize,
    (paths, target): (&[Vec<u8>], &Path),
    stage: &Stage,
    watch: &dyn Watch,
) -> Result<Rebuilt, RebuildError> {
    let bases = chosen.bases(attempt);
    let wanted = places(&bases, paths);
    if wanted.is_empty() {
        return Err(RebuildError::NoSuchPath);
    }
    place::check(target, &wanted.iter().map(|(_, _, to)| to.clone()).collect::<Vec<_>>())?;
    let (pieces, start) = chosen.pieces(&bases)?;
    let archive = Archive::new(repository, chosen.journal);
    let moment = (start, chosen.moment);
    let redo = Redo::fetch(&archive, chosen.journal, pieces, moment, &stage.path, watch)?;
    let mut found = BTreeMap::new();
    for base in &bases {
        let (root, node) = base::root_of(repository, base)?;
        if found.insert(root, (*base, node)).is_some() {
            let path = String::from_utf8_lossy(&base.path).into_owned();
            return Err(RebuildError::Session { path, what: "two sessions are of one root" });
        }
    }
    let roots = found.keys().last().map_or(0, |root| root.0 + 1);
    // Opened before the first write: whoever opens it later is not told of what could not be written back until then.
    let top = place::open(target)?;
    let mut feeder = Feeder::new(&stage.path, roots)?;
    let mut from: BTreeMap<RootNo, u64> = BTreeMap::new();
    for (root, (base, node)) in found {
        from.insert(root, base.lsn);
        base::feed(repository, base, (root, node), &mut feeder, watch)?;
    }
    let events = redo.replay(&from, &mut feeder, watch)?;
    let mut placings = Vec::new();
    for (at, inside, to) in wanted {
        let root = bases.get(at).map(|base| base::root_of(repository, base)).transpose()?;
        let tree = root.and_then(|(root, _)| feeder.tree(root).map(Path::to_owned)).unwrap_or_default();
        placings.push(Placing { tree, inside, to });
    }
    let degraded = feeder.finish()?;
    let mut there = Vec::new();
    for placing in placings {
        if placing.exists()? {
            there.push(placing);
        }
    }
    if there.is_empty() {
        return Err(RebuildError::NoSuchPath);
    }
    stage.check()?;
    place::place((target, &top), &there)?;
    Ok(Rebuilt {
        upto: redo.upto,
        sessions: bases.iter().map(|base| base.session).collect(),
        paths: there.into_iter().map(|placing| placing.to).collect(),
        events,
        degraded,
    })
}

/// For each thing that is wanted: which base it is of, the path in its tree, the path it comes to.
fn places(bases: &[&Base], paths: &[Vec<u8>]) -> Vec<(usize, Vec<u8>, Vec<u8>)> {
    let mut wanted = Vec::new();
    for (at, base) in bases.iter().enumerate() {
        let below = |path: &[u8], of: &[u8]| {
            path == of || path.strip_prefix(of).is_some_and(|rest| rest.first() == Some(&b'/'))
        };
        if paths.is_empty() || paths.iter().any(|path| below(&base.path, path)) {
            wanted.push((at, Vec::new(), base.path.clone()));
            continue;
        }
        let mine: Vec<&Vec<u8>> = paths.iter().filter(|path| below(path, &base.path)).collect();
        for path in &mine {
            // What lies below another one that is wanted comes with it.
            let covered = mine.iter().any(|other| *other != *path && below(path, other));
            let again = wanted.iter().any(|(_, _, to): &(_, _, Vec<u8>)| to == *path);
            if !covered && !again {
                let inside = path.get(base.path.len()..).unwrap_or_default().to_vec();
                wanted.push((at, inside, (*path).clone()));
            }
        }
    }
    wanted
}
