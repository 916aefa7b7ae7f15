//! Feeding the catalog while a backup runs.
//!
//! A [`Feed`] takes the objects of a session as they are looked at, in any order and from several threads, and sorts them
//! beside the backup. Nothing of it is in the catalog before the session is durable and [`Feed::finish`] was called;
//! a feed that is dropped leaves nothing. Of a session that is made from the one before it takes what differs, as long as
//! that is told path by path and is not too much; else both are compared at the end. If it fails, it says so once and takes no more: the session is then loaded from
//! the repository like any other that is missing.

use super::{Keeper, chain};
use crate::engine::Level;
use parking_lot::Mutex;
use snapshot::catalog::{CatalogError, Loader, Order, PATH_BYTES_MAX, Row, SessionId, SessionInfo};
use snapshot::listing::{self, ListingError, Told};
use snapshot::repository::{Id, Node, Repository};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makeshift ids: no hash has so many zeros.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Bytes of paths that are remembered of a session that is made from the one before, and paths.
const TOLD_BYTES_MAX: usize = 8 << 20;
const TOLD_MAX: usize = 50_000;

/// What was told of a session that is made from the one before.
#[derive(Default)]
struct Differences {
    told: Vec<Told>,
    bytes: usize,
    /// There are others.
    others: bool,
}

impl Differences {
    fn add(&mut self, path: &[u8], row: Option<Row>) {
        self.bytes += path.len();
        if self.others || self.told.len() >= TOLD_MAX || self.bytes > TOLD_BYTES_MAX {
            return self.give_up();
        }
        self.told.push((path.to_vec(), row));
    }

    /// They are to be found by comparing the trees.
    fn give_up(&mut self) {
        *self = Differences { others: true, ..Differences::default() };
    }
}

/// A session on its way into the catalog.
pub struct Feed {
    keeper: Arc<Keeper>,
    info: SessionInfo,
    loader: Mutex<Option<Loader>>,
    differences: Mutex<Differences>,
}

/// A session that is durable: what the feed has to know of it.
pub struct Stored<'s> {
    /// Its repository.
    pub repository: &'s Arc<Repository>,
    /// Its id.
    pub id: Id,
    /// Its root tree.
    pub tree: Id,
    /// Id and root tree of the session that it was made from, if it was.
    pub previous: Option<(Id, Id)>,
}

impl Feed {
    /// For a session of which everything but the id is known.
    #[must_use]
    pub fn new(keeper: Arc<Keeper>, info: SessionInfo) -> Self {
        Feed { keeper, info, loader: Mutex::new(None), differences: Mutex::default() }
    }

    /// Everything is looked at from now on.
    pub fn begins_whole(&self) {
        self.untold();
        let mut loader = self.loader.lock();
        *loader = None;
        let Some(catalog) = self.keeper.catalog() else { return };
        let mut makeshift = [0; 32];
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        makeshift.iter_mut().zip(number).for_each(|(to, from)| *to = from);
        let info = SessionInfo { id: SessionId(makeshift), ..self.info.clone() };
        match catalog.begin(info, Order::Any) {
            Ok(begun) => *loader = Some(begun),
            Err(error) => self.failed(&error),
        }
    }

    /// An object of the session.
    pub fn object(&self, path: &[u8], node: &Node) {
        // What the catalog cannot hold is left out here as in a load from the repository.
        if path.len() > PATH_BYTES_MAX {
            return;
        }
        let row = listing::row(node);
        let mut loader = self.loader.lock();
        if let Some(Err(error)) = loader.as_mut().map(|loader| loader.put(path, row)) {
            *loader = None;
            drop(loader);
            self.failed(&error);
        }
    }

    /// What the session has at a path in the place of what the one before has there.
    pub fn changed(&self, path: &[u8], before: Option<&Node>, after: Option<&Node>) {
        let (before, after) = (before.map(listing::row), after.map(listing::row));
        if before != after && path.len() <= PATH_BYTES_MAX {
            self.differences.lock().add(path, after);
        }
    }

    /// What differs from the session before is not all told.
    pub fn untold(&self) {
        self.differences.lock().give_up();
    }

    /// The session is durable: makes it part of the catalog. What cannot be done now is done in the background.
    pub fn finish(self, stored: &Stored<'_>) {
        let id = SessionId(stored.id.0);
        let info = SessionInfo { id, ..self.info.clone() };
        let done = match (self.loader.lock().take(), stored.previous) {
            // The whole root was looked at.
            (Some(mut loader), None) => {
                loader.identify(id).and_then(|()| loader.finish()).map_err(ListingError::from)
            }
            (_, Some(previous)) => self.load_changes(stored, previous, &info),
            (None, None) => Err(ListingError::GivenUp),
        };
        match done {
            Ok(()) => {}
            // Said already, or being loaded by somebody else.
            Err(
                ListingError::GivenUp | ListingError::Catalog { source: CatalogError::AlreadyLoaded { .. } },
            ) => self.keeper.poke(),
            Err(error) => {
                self.failed(&error);
                self.keeper.poke();
            }
        }
    }

    fn load_changes(
        &self,
        stored: &Stored<'_>,
        (previous, tree): (Id, Id),
        info: &SessionInfo,
    ) -> Result<(), ListingError> {
        let base = SessionId(previous.0);
        let known = self.keeper.catalog().filter(|catalog| catalog.session(base).is_some());
        let Some(catalog) = known else { return Err(ListingError::GivenUp) };
        let at = |tree| listing::at(stored.repository, tree, &info.entity.root);
        let (Some(old), Some(new)) = (at(&tree)?, at(&stored.tree)?) else {
            return Err(ListingError::GivenUp);
        };
        let Differences { told, others, .. } = std::mem::take(&mut *self.differences.lock());
        let between = (base, &old);
        if others {
            listing::load_changes(&catalog, stored.repository, between, &new, info, &mut |_| true).map(drop)
        } else {
            listing::load_told(&catalog, between, &new, info, told).map(drop)
        }
    }

    fn failed(&self, error: &dyn std::error::Error) {
        let text = format!(
            "the session could not be catalogued while it was made: {}; it is loaded from the repository",
            chain(error)
        );
        tracing::warn!(scenario = %self.info.entity.scenario, "{text}");
        self.keeper.activity.write(Level::Warning, &self.info.entity.scenario, None, &text);
    }
}
