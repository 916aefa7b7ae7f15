//! Writing the session record, once nothing that it needs can be missing.
//!
//! The order is: packs; index files; a look at the index files that others changed meanwhile; the lock; the record; a
//! second look. Our own prune may run beside a backup. It can take blobs out of the index that the backup found there
//! and therefore did not store. The index counts how often blobs left it; only if that happened since the writer was made,
//! all trees of the session are read and each blob that they name is looked up. What is missing is told instead of
//! writing the record; the caller saves it again and asks once more.
//!
//! So a backup that takes nodes over from an older session must make its writer first and then read that session's
//! record: while the record is there no prune removes what it needs, and what leaves later is noticed.
//!
//! Why two looks: we write the record and then look at the index; a prune writes the index and then looks at the records
//! once more, before it removes a pack (`FORMAT.md` asks that of it). So of the two at least one sees the other. If it
//! is we, the record is taken back.

use super::BlobWriter;
use crate::repository::Repository;
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::{BlobKind, Id};
use crate::repository::index::Index;
use crate::repository::lock::Lock;
use crate::repository::session::SessionRecord;
use crate::repository::tree::read_tree;
use crate::repository::walk::{PATH_BYTES_MAX, push_part};
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Missing blobs that are told at a time.
pub const MISSING_MAX: usize = 10_000;

/// Sessions remembered as proved; beyond that the memory starts anew, at the cost of some looks.
const PROOFS_MAX: usize = 10_000;

/// A blob that the session needs and no index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// A path from the root that needs it, without a leading slash; of a tree the directory, empty for the root.
    pub path: Vec<u8>,
    /// Data or tree. Of a missing tree nothing below is known, so all of the directory is to be saved again.
    pub kind: BlobKind,
    /// The blob.
    pub id: Id,
}

/// What came of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The record is durable, and all that it needs.
    Recorded(Id),
    /// Nothing was recorded: these were removed while we worked, at most [`MISSING_MAX`] of them. To be saved again,
    /// and the session to be committed anew.
    Missing(Vec<Missing>),
}

impl BlobWriter {
    /// Makes a session: everything durable that was saved, then its record. The one way to write a session, but for
    /// programs that bring their own proof ([`Repository::save_session`](crate::repository::Repository::save_session)).
    ///
    /// # Errors
    /// `Poisoned`; `LockLost`; `Damaged`, `Json`, `Node`, `TooLarge` of a tree that has to be looked at; `Store`.
    pub fn commit(&self, lock: &Lock, session: &SessionRecord) -> Result<Commit, RepositoryError> {
        self.flush()?;
        let repository = self.repository();
        let missing = self.missing(&session.tree)?;
        if !missing.is_empty() {
            return Ok(Commit::Missing(missing));
        }
        // The last thing before the record: whoever took our lock as stale may have begun to remove.
        lock.check()?;
        let id = repository.save_session(session)?;
        let missing = self.missing(&session.tree)?;
        if !missing.is_empty() {
            repository.remove_session(&id)?;
            return Ok(Commit::Missing(missing));
        }
        let mut proofs = repository.proofs.lock();
        if proofs.len() >= PROOFS_MAX {
            proofs.clear();
        }
        proofs.insert(id, self.losses_seen.load(Ordering::SeqCst));
        Ok(Commit::Recorded(id))
    }

    /// Says that the session to come takes nodes over from an older one. Unless that one was proved whole by this process,
    /// and nothing has left the index since, everything that the new session needs is looked up before it is recorded:
    /// what was lost before this writer was made is no loss that it could notice.
    pub fn builds_upon(&self, session: &Id) {
        let proved = self.repository().proofs.lock().get(session).copied();
        self.losses_seen.store(proved.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn missing(&self, root: &Id) -> Result<Vec<Missing>, RepositoryError> {
        self.repository().reload_index()?;
        let index = self.repository().index()?;
        let losses = index.losses();
        if losses == self.losses_seen.load(Ordering::SeqCst) {
            let is_there = index.contains(BlobKind::Tree, root);
            let missing = Missing { path: Vec::new(), kind: BlobKind::Tree, id: *root };
            return Ok(if is_there { Vec::new() } else { vec![missing] });
        }
        let missing = lacking(self.repository(), index, root)?;
        if missing.is_empty() {
            self.losses_seen.store(losses, Ordering::SeqCst);
        }
        Ok(missing)
    }
}

impl Repository {
    /// Whether the index, read anew, has a place for everything that a tree needs: what a writer proves before it lets a
    /// record be. For a record of which nobody knows whether its writer came to that.
    ///
    /// # Errors
    /// `Node`, `TooLarge`; `Store`.
    pub fn has_all_of(&self, tree: &Id) -> Result<bool, RepositoryError> {
        self.reload_index()?;
        match lacking(self, self.index()?, tree) {
            Ok(missing) => Ok(missing.is_empty()),
            Err(error)
                if matches!(error.kind(), RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// What a tree needs and the index does not name; at most [`MISSING_MAX`].
fn lacking(repository: &Repository, index: &Index, root: &Id) -> Result<Vec<Missing>, RepositoryError> {
    let mut missing = Vec::new();
    // Equal directories are one tree and are looked at once.
    let mut seen = HashSet::from([*root]);
    let mut left = vec![(Vec::new(), *root)];
    while let Some((path, tree)) = left.pop() {
        let json = match repository.load_blob(BlobKind::Tree, &tree) {
            Ok(json) => json,
            Err(RepositoryError::BlobNotFound { .. }) => {
                missing.push(Missing { path, kind: BlobKind::Tree, id: tree });
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut refused = None;
        read_tree(&tree, &json, &mut |node| {
            let lost = node.content.iter().find(|id| !index.contains(BlobKind::Data, id));
            let subtree = node.subtree.filter(|id| seen.insert(*id));
            if lost.is_some() || subtree.is_some() {
                let mut path = path.clone();
                push_part(&mut path, &node.name);
                refused = (path.len() > PATH_BYTES_MAX).then_some(path.len());
                left.extend(subtree.map(|id| (path.clone(), id)));
                missing.extend(lost.map(|id| Missing { path, kind: BlobKind::Data, id: *id }));
            }
            refused.is_none() && missing.len() < MISSING_MAX
        })?;
        if let Some(size) = refused {
            let limit = PATH_BYTES_MAX as u64;
            return Err(RepositoryError::TooLarge { what: "a path", size: size as u64, limit });
        }
        if missing.len() >= MISSING_MAX {
            break;
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests;
