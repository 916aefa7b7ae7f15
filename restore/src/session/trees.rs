//! Loading trees, with those that a walk will need next read along: one request a pack instead of one a directory.
//!
//! What was read stays until its room is used up, since many directories are the same tree. Only the next few are read
//! along, and only those that are not here: so a tree is read a second time once in [`KEPT_BYTES_MAX`] bytes at most.

use snapshot::repository::read;
use snapshot::repository::{BlobKind, Id, Repository, RepositoryError};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of trees that are kept; one that is larger is loaded alone.
const KEPT_BYTES_MAX: u64 = 16 << 20;
/// Bytes of trees read along.
const AHEAD_BYTES_MAX: u64 = 4 << 20;
/// Trees read along.
const AHEAD_MAX: usize = 64;

/// Loads trees.
pub(super) struct Trees<'r> {
    repository: &'r Repository,
    kept: HashMap<Id, Arc<[u8]>>,
    bytes: u64,
}

impl<'r> Trees<'r> {
    pub fn new(repository: &'r Repository) -> Self {
        Self { repository, kept: HashMap::new(), bytes: 0 }
    }

    /// The JSON of a tree; `next` are those that are likely to follow.
    pub fn load(&mut self, id: &Id, next: impl Iterator<Item = Id>) -> Result<Arc<[u8]>, RepositoryError> {
        if !self.kept.contains_key(id) {
            self.read_along(id, next)?;
        }
        match self.kept.get(id) {
            Some(json) => Ok(json.clone()),
            None => Ok(self.repository.load_blob(BlobKind::Tree, id)?.into()),
        }
    }

    fn read_along(&mut self, id: &Id, next: impl Iterator<Item = Id>) -> Result<(), RepositoryError> {
        let index = self.repository.index()?;
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        for tree in std::iter::once(*id).chain(next.take(AHEAD_MAX)) {
            // One that is missing is noticed when its turn comes.
            let Some(place) = index.lookup(BlobKind::Tree, &tree) else { continue };
            if self.kept.contains_key(&tree) {
                continue;
            }
            bytes += place.plain_bytes();
            if bytes > AHEAD_BYTES_MAX {
                break;
            }
            wanted.push((BlobKind::Tree, tree));
        }
        if self.bytes + bytes > KEPT_BYTES_MAX {
            self.kept.clear();
            self.bytes = 0;
        }
        for pack in read::plan(self.repository, wanted)? {
            self.repository.read_pack(&pack, &mut |place, json| {
                // What fails here fails again when it is asked for, and is told then.
                if let Ok(json) = json {
                    self.bytes += json.len() as u64;
                    self.kept.insert(place.id, json.into());
                }
                true
            });
        }
        Ok(())
    }
}
