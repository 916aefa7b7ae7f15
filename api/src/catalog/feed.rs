//! Feeding the catalog while a backup runs.
//!
//! A [`Feed`] takes the objects of a session as they are looked at, in any order and from several threads, and sorts them
//! beside the backup. Nothing of it is in the catalog before the session is durable and [`Feed::finish`] was called;
//! a feed that is dropped leaves nothing. If it fails, it says so once and takes no more: the session is then loaded from
//! the repository like any other that is missing.

use super::{Keeper, chain};
use crate::engine::Level;
use parking_lot::Mutex;
use snapshot::catalog::{CatalogError, Loader, Order, PATH_BYTES_MAX, SessionId, SessionInfo};
use snapshot::listing::{self, ListingError};
use snapshot::repository::{Id, Node, Repository};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makeshift ids: no hash has so many zeros.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A session on its way into the catalog.
pub struct Feed {
    keeper: Arc<Keeper>,
    info: SessionInfo,
    loader: Mutex<Option<Loader>>,
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
        Feed { keeper, info, loader: Mutex::new(None) }
    }

    /// Everything is looked at from now on.
    pub fn begins_whole(&self) {
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
        listing::load_changes(&catalog, stored.repository, (base, &old), &new, info, &mut |_| true).map(drop)
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
