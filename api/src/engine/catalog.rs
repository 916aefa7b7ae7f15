//! Finding files and their versions, as the engine is asked for it.

use super::{Each, EngineResult, Progress, Skipped};
use crate::points::{PointSpec, TimeSpec};
use journal::{Lsn, Provenance, Timestamp};
use snapshot::catalog::{EntryKind, Modified, Pattern, Row};
use std::time::Duration;

/// What is looked for. What is empty does not matter.
#[derive(Clone, Debug)]
pub struct CatalogQuery {
    /// What the path has to be.
    pub pattern: Pattern,
    /// Of this scenario.
    pub scenario: Option<String>,
    /// Of this master.
    pub master: Option<String>,
    /// In this session: its id, or the beginning of it.
    pub session: Option<String>,
    /// Modified then or later.
    pub since: Option<TimeSpec>,
    /// Modified before then.
    pub until: Option<TimeSpec>,
    /// At least as many bytes.
    pub size_min: Option<u64>,
    /// At most as many bytes.
    pub size_max: Option<u64>,
    /// Only what the newest point does not hold.
    pub deleted: bool,
    /// Entries of the answer.
    pub limit: Option<u64>,
    /// Where to go on, from the end of an earlier answer.
    pub after: Option<Vec<u8>>,
}

/// A directory, and as of when.
#[derive(Clone, Debug)]
pub struct CatalogTree {
    /// Absolute path on the master; `None`: the roots.
    pub path: Option<Vec<u8>>,
    /// Of this scenario.
    pub scenario: Option<String>,
    /// As of this session: its id, or the beginning of it.
    pub session: Option<String>,
    /// As of this point.
    pub at: Option<PointSpec>,
    /// Entries of the answer.
    pub limit: Option<u64>,
}

/// Where an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In the catalog.
    Catalog,
    /// In a session that is not catalogued.
    Repository,
    /// In the journal's window.
    Journal,
}

/// A path of an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Absolute path on the master.
    pub path: Vec<u8>,
    /// Its newest version; `None` for a directory above a root.
    pub row: Option<Row>,
    /// Empty for a session that another program wrote.
    pub scenario: String,
    /// Host name.
    pub master: String,
    /// How many sessions hold it.
    pub sessions: u64,
    /// The oldest of them.
    pub first_session: Option<String>,
    /// The newest of them.
    pub last_session: Option<String>,
    /// Of the newest session, or where the journal saw it last.
    pub last_lsn: Option<Lsn>,
    /// Where it was found.
    pub source: Source,
}

/// A session that is not in the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCatalogued {
    /// 64 hexadecimal digits.
    pub session: String,
    /// Name of the repository.
    pub repository: String,
    /// Empty if none is known.
    pub scenario: String,
    /// Whose state it is.
    pub time: Timestamp,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<T> {
    /// What was found.
    Found(T),
    /// A session that is served from its repository.
    NotCatalogued(NotCatalogued),
}

/// How an answer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogEnd {
    /// Where the next page begins.
    pub next: Option<Vec<u8>>,
    /// What the answer leaves out, in words.
    pub notes: Vec<String>,
}

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionChange {
    /// It appeared.
    Created,
    /// Its bytes changed.
    Modified,
    /// It came or went under another name.
    Renamed,
    /// Owner, mode, times or extended attributes changed.
    Attributes,
    /// It went.
    Removed,
    /// It was there when the window began.
    Existing,
    /// A session holds it.
    Stored,
}

impl VersionChange {
    /// The word in JSON and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            VersionChange::Created => "created",
            VersionChange::Modified => "modified",
            VersionChange::Renamed => "renamed",
            VersionChange::Attributes => "attributes",
            VersionChange::Removed => "removed",
            VersionChange::Existing => "existing",
            VersionChange::Stored => "stored",
        }
    }
}

/// What a path was from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVersion {
    /// Absolute path on the master.
    pub path: Vec<u8>,
    /// From where on.
    pub lsn: Option<Lsn>,
    /// When, if that is known.
    pub time: Option<Timestamp>,
    /// What became of it.
    pub change: VersionChange,
    /// What it is; of a removal, what it was.
    pub kind: EntryKind,
    /// Of the file; 0 where it went.
    pub bytes: u64,
    /// Its modification time.
    pub modified: Modified,
    /// The newest session that holds this version.
    pub session: Option<String>,
    /// How the change was seen; `None` for what sessions say.
    pub provenance: Option<Provenance>,
    /// Empty for a session that another program wrote.
    pub scenario: String,
    /// Host name.
    pub master: String,
}

/// What making the catalog anew came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogRebuilt {
    /// Sessions loaded.
    pub sessions: u64,
    /// Entries looked at.
    pub entries: u64,
    /// Sessions that the repositories have no more.
    pub forgotten: u64,
    /// Entries whose paths are longer than the catalog takes.
    pub left_out: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Sessions that cannot be read.
    pub failed: Vec<Skipped>,
}

/// Finds files: what an engine with a catalog can do.
pub trait Finder: Send + Sync {
    /// What matches (`BAD_PATTERN`, `NO_SUCH_SCENARIO`, `NO_SUCH_SESSION`, `BAD_PARAMETERS` for a page token).
    fn query(
        &self,
        query: &CatalogQuery,
        progress: &dyn Progress,
        each: Each<'_, Part<CatalogEntry>>,
    ) -> EngineResult<CatalogEnd>;
    /// The entries of a directory (`NO_SUCH_PATH`, `NO_SUCH_SCENARIO`, `NO_SUCH_SESSION`, and those of a point).
    fn tree(&self, tree: &CatalogTree, each: Each<'_, Part<CatalogEntry>>) -> EngineResult<CatalogEnd>;
    /// All versions of a path, the newest first (`NO_SUCH_PATH`, `NO_SUCH_SCENARIO`).
    fn versions(
        &self,
        path: &[u8],
        scenario: Option<&str>,
        each: Each<'_, Part<FileVersion>>,
    ) -> EngineResult<CatalogEnd>;
    /// Makes the catalog anew from one repository, or from all (`NO_SUCH_REPOSITORY`, and those of opening it).
    fn rebuild(&self, repository: Option<&str>, progress: &dyn Progress) -> EngineResult<CatalogRebuilt>;
}
