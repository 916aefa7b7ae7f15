//! The catalog: which session holds which version of which path, made to be searched.
//!
//! It owns a directory of immutable sorted tables and one manifest, laid out as `CATALOG_FORMAT.md` says. It is a
//! projection: everything in it is known to the repositories, and deleting the directory loses nothing but the time to
//! load it again. So it never repairs. What is damaged is refused with an error whose kind says so, and the caller
//! deletes and rebuilds.
//!
//! It keeps *changes*: a session is stored as what differs from another session of its entity ([`Catalog::begin_from`]
//! is told, [`Catalog::begin`] finds out), so a path that fifty sessions hold unchanged is one row. Which sessions hold
//! which version follows from the forest of sessions that this makes.
//!
//! What is always true:
//! * A session is in the catalog completely or not at all. A load becomes visible by one replacement of the manifest,
//!   after everything the manifest names is durable. A session that [`Catalog::session`] does not know is not
//!   catalogued, and whoever needs it goes to the repository.
//! * Readers never wait. A query takes the present state, which nothing changes, and files it reads stay as long as it
//!   runs.
//! * Memory does not grow with the catalog, but for some hundred bytes a block of some thousand paths: loads sort in
//!   temporary files, merges and searches hold one block a segment.
//! * An answer comes in pages, in the order of [`path_order`].
//!
//! Modules in reading order: `types`, `path` (the order), `block`, `filter`, `segment`, `manifest`, `lineage` (who holds what),
//! `cursor`, `state` (how it changes), `sort` and `load`, `tidy` (merging), `pattern`, `search` and `query`.

mod block;
mod codec;
mod cursor;
mod error;
mod filter;
mod lineage;
mod load;
mod manifest;
mod path;
mod pattern;
mod query;
mod search;
mod segment;
mod sort;
mod state;
mod tidy;
mod types;

pub use error::{CatalogError, CatalogErrorKind};
pub use load::{DeltaLoader, Loader, Order};
pub use path::{PATH_BYTES_MAX, path_order};
pub use pattern::{Matching, PATTERN_BYTES_MAX, Pattern};
pub use query::{At, Child, Filter, Found, PAGE_MAX, Page, PageToken, Query, Version};
pub use types::{Entity, EntryKind, Modified, Row, Session, SessionId, SessionInfo, TEXT_BYTES_MAX};

use error::failed;
use journal::Disk;
use manifest::{MANIFEST_NAME, MANIFEST_NEW_NAME, Manifest};
use parking_lot::{Mutex, RwLock};
use segment::{SEGMENT_SUFFIX, Segment, Unpacker, file_name};
use sort::RUN_SUFFIX;
use state::{Segments, Shared, Sizes, Snapshot, Writers};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Locked as long as the catalog is open.
const LOCK_NAME: &str = "lock";

/// What the catalog holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entities with sessions.
    pub entities: u64,
    /// Sessions.
    pub sessions: u64,
    /// Forgotten sessions whose changes others are still based on.
    pub forgotten: u64,
    /// Files of the table.
    pub segments: u64,
    /// Rows of all files: a path counts once in each file that has it.
    pub rows: u64,
    /// Versions and removals.
    pub events: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// The catalog as it was at one moment, whatever is loaded or forgotten later: for answers of several pages.
#[derive(Clone)]
pub struct Reader {
    snapshot: Arc<Snapshot>,
}

impl Reader {
    /// As [`Catalog::query`].
    ///
    /// # Errors
    /// As there.
    pub fn query(&self, query: &Query) -> Result<Page<Found>, CatalogError> {
        query::query(&self.snapshot, query)
    }

    /// Whether a session is in it.
    #[must_use]
    pub fn holds(&self, id: SessionId) -> bool {
        self.snapshot.manifest.session_by_id(id).is_some_and(|session| !session.forgotten)
    }
}

/// An open catalog. Clones are the same one. All calls block, and any number of threads may call at once.
#[derive(Clone)]
pub struct Catalog {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("directory", &self.shared.directory).finish_non_exhaustive()
    }
}

impl Catalog {
    /// Opens the catalog in a directory, which is made if need be, and removes what a crash left behind.
    ///
    /// # Errors
    /// `Damaged`: to be deleted and rebuilt. `Conflict`: open already. `Disk`.
    pub fn open(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, CatalogError> {
        Self::open_sized(disk, directory, Sizes::default())
    }

    /// Begins again: opens an empty catalog in place of whatever is in the directory, which may be damaged. A crash
    /// leaves either the old one or an empty one.
    ///
    /// # Errors
    /// `Conflict`: open already. `Disk`.
    pub fn recreate(disk: Arc<dyn Disk>, directory: &Path) -> Result<Self, CatalogError> {
        disk.create_dir_all(directory).map_err(failed("create", directory))?;
        let lock = lock(&*disk, directory)?;
        let path = directory.join(MANIFEST_NAME);
        match disk.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed("remove", path)(error));
            }
            _ => {}
        }
        // Before the files that it names go: a manifest that came back would name what is not there.
        disk.sync_dir(directory).map_err(failed("sync", directory))?;
        Self::open_locked(disk, directory, Sizes::default(), lock)
    }

    fn open_sized(disk: Arc<dyn Disk>, directory: &Path, sizes: Sizes) -> Result<Self, CatalogError> {
        disk.create_dir_all(directory).map_err(failed("create", directory))?;
        let lock = lock(&*disk, directory)?;
        Self::open_locked(disk, directory, sizes, lock)
    }

    fn open_locked(
        disk: Arc<dyn Disk>,
        directory: &Path,
        sizes: Sizes,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Self, CatalogError> {
        let mut manifest = manifest::load(&*disk, directory)?.unwrap_or_default();
        let mut segments = Segments::new();
        for entry in &manifest.segments {
            let segment = Segment::open(&disk, directory, *entry)?;
            segments.insert(entry.number, Arc::new(segment));
        }
        remove_leftovers(&*disk, directory, &mut manifest)?;
        let writers = Writers {
            next_session: manifest.next_session,
            next_segment: manifest.next_segment,
            ..Writers::default()
        };
        let shared = Shared {
            sizes,
            directory: directory.to_owned(),
            current: RwLock::new(Arc::new(Snapshot::new(manifest, &segments, sizes))),
            writers: Mutex::new(writers),
            tidying: Mutex::new(()),
            disk,
            _lock: lock,
        };
        Ok(Catalog { shared: Arc::new(shared) })
    }

    /// The catalog as it is now, to be asked more than once.
    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader { snapshot: self.shared.snapshot() }
    }

    /// Begins to load a session from its whole listing.
    ///
    /// # Errors
    /// `Conflict` if it is loaded or being loaded; `Input`, `Limit`; `Disk`, `Damaged`.
    pub fn begin(&self, info: SessionInfo, order: Order) -> Result<Loader, CatalogError> {
        Loader::begin(&self.shared, info, order)
    }

    /// Begins to load a session as its changes against `previous`.
    ///
    /// # Errors
    /// `NotFound` if `previous` is not in the catalog, `Input` if it is of another entity; else as
    /// [`Catalog::begin`].
    pub fn begin_from(&self, previous: SessionId, info: SessionInfo) -> Result<DeltaLoader, CatalogError> {
        DeltaLoader::begin(&self.shared, previous, info)
    }

    /// All sessions, by entity, the oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        let snapshot = self.shared.snapshot();
        let by_time = |state: &state::EntityState| {
            (0..).map_while(|rank| state.session_by_time(rank).cloned()).collect::<Vec<_>>()
        };
        snapshot.entities.iter().flat_map(by_time).collect()
    }

    /// A session; `None` if it is not, or not completely, in the catalog.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Arc<Session>> {
        let snapshot = self.shared.snapshot();
        let entry = snapshot.manifest.session_by_id(id)?;
        let state = snapshot.entity(entry.entity)?;
        state
            .shown
            .iter()
            .zip(&state.sessions)
            .find(|(_, own)| *own == entry)
            .map(|(show, _)| Arc::clone(show))
    }

    /// Takes a session out. What only it held is no longer found at once; its space is given back by later merges.
    ///
    /// # Errors
    /// `NotFound`; `Disk`.
    pub fn forget(&self, id: SessionId) -> Result<(), CatalogError> {
        self.shared.commit(None, |manifest, writers, segments| {
            let known = manifest.sessions.iter_mut().find(|session| session.id == id && !session.forgotten);
            known.ok_or(CatalogError::NoSuchSession { id })?.forgotten = true;
            state::sweep(manifest, &writers.pins, segments);
            Ok(())
        })
    }

    /// Merges what is due. Loads do this when they finish; after forgetting much it gives space back at once.
    ///
    /// # Errors
    /// `Disk`, `Damaged`.
    pub fn tidy(&self) -> Result<(), CatalogError> {
        tidy::tidy(&self.shared)
    }

    /// A page of what matches a pattern, one row a path and entity.
    ///
    /// # Errors
    /// `Input` for a pattern that is none; `NotFound` for a filter by a session that is not there; `Disk`, `Damaged`.
    pub fn query(&self, query: &Query) -> Result<Page<Found>, CatalogError> {
        query::query(&self.shared.snapshot(), query)
    }

    /// What is known of one path, for each entity that has it.
    ///
    /// # Errors
    /// As [`Catalog::query`].
    pub fn lookup(&self, path: &[u8], filter: &Filter) -> Result<Vec<Found>, CatalogError> {
        path::check(path)?;
        let pattern = Pattern::Exact(path.to_vec());
        let query = Query { pattern, filter: filter.clone(), limit: PAGE_MAX, after: None };
        Ok(self.query(&query)?.rows)
    }

    /// Each version of a path with the sessions that hold it, by entity, the oldest first.
    ///
    /// # Errors
    /// As [`Catalog::query`].
    pub fn versions(&self, path: &[u8], filter: &Filter) -> Result<Vec<Version>, CatalogError> {
        query::versions(&self.shared.snapshot(), path, filter)
    }

    /// A page of the entries of a directory. Directories above the roots of entities are listed too, as far as they lead
    /// to one.
    ///
    /// # Errors
    /// As [`Catalog::query`].
    pub fn children(
        &self,
        directory: &[u8],
        at: At,
        filter: &Filter,
        limit: usize,
        after: Option<PageToken>,
    ) -> Result<Page<Child>, CatalogError> {
        query::children(&self.shared.snapshot(), directory, at, filter, limit, after)
    }

    /// Reads everything and holds it against its checksums, its order and its counts.
    ///
    /// # Errors
    /// `Damaged` with the first file that is; `Disk`.
    pub fn verify(&self) -> Result<(), CatalogError> {
        let mut unpacker = Unpacker::new()?;
        let snapshot = self.shared.snapshot();
        snapshot.segments().values().try_for_each(|segment| segment.verify(&mut unpacker))
    }

    /// How much there is.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let snapshot = self.shared.snapshot();
        let mut stats = Stats { entities: snapshot.entities.len() as u64, ..Stats::default() };
        for state in &snapshot.entities {
            let live = state.live().count() as u64;
            stats.sessions += live;
            stats.forgotten += state.sessions.len() as u64 - live;
            for segment in &state.segments {
                stats.segments += 1;
                stats.rows += segment.rows;
                stats.events += segment.events;
                stats.bytes += segment.entry.bytes;
            }
        }
        stats
    }
}

fn lock(disk: &dyn Disk, directory: &Path) -> Result<Box<dyn Send + Sync>, CatalogError> {
    match disk.lock(&directory.join(LOCK_NAME)) {
        Ok(lock) => Ok(lock),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(CatalogError::Locked { path: directory.to_owned() })
        }
        Err(source) => Err(failed("lock", directory)(source)),
    }
}

/// Removes segments that the manifest does not name, runs, and a manifest that did not come to take its name.
///
/// The manifest that is read here need not be durable under its name: whoever renamed it may have been killed before
/// the directory was synced, or that sync may have failed. The one before it may then come back, and must find its
/// segments. So before a segment is removed the manifest is written once more; and if there is none to be removed, so
/// that nothing has to be written, the directory is at least synced, to show nothing that a power cut would take.
fn remove_leftovers(disk: &dyn Disk, directory: &Path, manifest: &mut Manifest) -> Result<(), CatalogError> {
    let named: HashSet<String> = manifest.segments.iter().map(|entry| file_name(entry.number)).collect();
    let names = disk.list(directory).map_err(failed("list", directory))?;
    let (segments, scratch): (Vec<String>, Vec<String>) = names
        .into_iter()
        .filter(|name| !named.contains(name))
        .filter(|name| [SEGMENT_SUFFIX, RUN_SUFFIX, MANIFEST_NEW_NAME].iter().any(|end| name.ends_with(end)))
        .partition(|name| name.ends_with(SEGMENT_SUFFIX));
    let remove = |name: &String| {
        let path = directory.join(name);
        disk.remove(&path).map_err(failed("remove", path))
    };
    scratch.iter().try_for_each(remove)?;
    if segments.is_empty() {
        disk.sync_dir(directory).map_err(failed("sync", directory))?;
    } else {
        manifest.generation = manifest.generation.wrapping_add(1);
        manifest::replace(disk, directory, manifest, &mut false)?;
    }
    segments.iter().try_for_each(remove)
}

#[cfg(test)]
pub(crate) mod tests;
