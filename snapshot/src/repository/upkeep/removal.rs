//! The end of a prune: what appeared meanwhile gets its packs back, then packs whose time is over are removed.
//!
//! This runs after the old index files were removed, in this order: the locks are listed; the index and the session records
//! are read again; marked packs that a new record needs are put back, until no new record is seen; packs are removed;
//! marks are written anew without them. A backup that found a blob in an old index file either still holds its lock when
//! the locks are listed (then its word is noted with the marks, and no pack is removed while it is held), or has ended, so
//! that its record is seen. Neither depends on a clock.

use super::index_json::{Emitter, IndexFile, Pack};
use super::ledger::{Ledger, Need};
use super::plan::{Fate, PruneOptions, PrunePlan, Sum};
use super::used::load;
use super::{Watch, go_on};
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::{BlobKind, Id, ObjectKind};
use crate::repository::lock::{self, Lock};
use crate::repository::tree::read_tree;
use crate::repository::{Repository, Timestamp};
use std::collections::HashSet;

/// Stands for a holder whose lock has no word: nothing is known to have ended while there is one.
const NOBODY_KNOWS: &str = "?";

/// Clocks of the store and of this host that differ by more, in seconds, decide nothing.
pub(super) const CLOCKS_APART_MAX: u64 = 3600;

/// What was removed or put back.
#[derive(Debug, Default)]
pub(super) struct Removed {
    pub packs: Sum,
    pub put_back: Sum,
    /// Packs whose time is over and that wait for backups or readers to end.
    pub held: Sum,
    pub clocks_differ: bool,
    pub index_files: u64,
}

pub(super) struct Removal<'r> {
    pub repository: &'r Repository,
    pub lock: &'r Lock,
    pub ledger: &'r mut Ledger,
    pub plan: &'r PrunePlan,
    pub options: &'r PruneOptions,
    /// Sessions whose needs are in the ledger already.
    pub sessions: HashSet<Id>,
    /// Packs that come back.
    pub rescued: HashSet<Id>,
}

impl Removal<'_> {
    pub fn run(mut self, watch: &dyn Watch) -> Result<Removed, RepositoryError> {
        let mut removed = Removed { clocks_differ: self.clocks_differ()?, ..Removed::default() };
        let words = self.words()?;
        self.repository.reload_index()?;
        while self.look_at_new_sessions()? {
            removed.index_files += self.put_back()?;
            self.repository.reload_index()?;
        }
        for id in &self.rescued {
            let size =
                self.ledger.pack_number(id).and_then(|number| self.ledger.packs.get(number as usize)?.size);
            removed.put_back.packs += 1;
            removed.put_back.bytes += size.unwrap_or(0);
        }
        let named: HashSet<Id> = self.repository.index()?.packs().into_iter().collect();
        // The marks as they are now, file by file: those of earlier prunes and our own.
        for id in self.repository.list_ids(ObjectKind::Index)? {
            let file = match IndexFile::load(self.repository, &id) {
                // A foreign program cannot be at work; a backup removes none.
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
                outcome => outcome?,
            };
            if !file.packs_to_delete.is_empty() {
                self.marks(&id, file, &words, &named, &mut removed, watch)?;
            }
        }
        Ok(removed)
    }

    /// Words of all locks but ours.
    fn words(&self) -> Result<HashSet<String>, RepositoryError> {
        let own = self.lock.object();
        let others = lock::list(self.repository)?;
        let others = others.into_iter().filter(|(id, _)| ObjectKind::Lock.name(id) != own);
        Ok(others
            .filter(|(_, record)| record.word.is_none() || record.word != self.lock.word())
            .map(|(_, record)| record.word.unwrap_or_else(|| NOBODY_KNOWS.into()))
            .collect())
    }

    /// Whether the store's clock, which just dated our lock, is far from ours. Then ages mean nothing.
    fn clocks_differ(&self) -> Result<bool, RepositoryError> {
        let own = self.lock.object();
        let mut modified = None;
        self.repository.store().list(ObjectKind::Lock.directory(), &mut |entry| {
            if entry.name == own {
                modified = entry.modified;
            }
            modified.is_none()
        })?;
        // A lock is refreshed every few minutes, so its date is not far from now.
        Ok(modified.is_some_and(|then| Timestamp::now().seconds.abs_diff(then) > CLOCKS_APART_MAX))
    }

    /// Looks at records that appeared; whether one of them needs a marked pack.
    fn look_at_new_sessions(&mut self) -> Result<bool, RepositoryError> {
        let mut rescued = false;
        for session in self.repository.list_sessions()? {
            if !self.sessions.insert(session) {
                continue;
            }
            match self.repository.load_session(&session) {
                Ok(record) => rescued |= self.need_session(&record.tree)?,
                // The backup took it back: it has seen us.
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rescued)
    }

    fn need_session(&mut self, root: &Id) -> Result<bool, RepositoryError> {
        let mut rescued = false;
        let mut seen = HashSet::from([*root]);
        let mut left = vec![*root];
        rescued |= self.need(BlobKind::Tree, root)?;
        while let Some(tree) = left.pop() {
            let plain = match self.repository.load_blob(BlobKind::Tree, &tree) {
                Ok(plain) => plain,
                Err(error) if error.kind() == RepositoryErrorKind::NotFound => {
                    match load(self.repository, self.ledger, BlobKind::Tree, &tree) {
                        Ok(plain) => plain,
                        // The backup finds that out too, and takes its record back or stores it.
                        Err(error) if error.kind() == RepositoryErrorKind::NotFound => continue,
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => return Err(error),
            };
            let mut outcome = Ok(());
            read_tree(&tree, &plain, &mut |node| {
                let trees = node.subtree.iter().map(|id| (BlobKind::Tree, id));
                let blobs = node.content.iter().map(|id| (BlobKind::Data, id));
                for (kind, id) in trees.chain(blobs) {
                    match self.need(kind, id) {
                        Ok(one) => rescued |= one,
                        Err(error) => outcome = Err(error),
                    }
                }
                left.extend(node.subtree.filter(|id| seen.insert(*id)));
                outcome.is_ok()
            })?;
            outcome?;
        }
        Ok(rescued)
    }

    /// Whether a pack has to be put back for this blob.
    fn need(&mut self, kind: BlobKind, id: &Id) -> Result<bool, RepositoryError> {
        if self.repository.index()?.contains(kind, id) || self.ledger.need(kind, id) == Need::Missing {
            return Ok(false);
        }
        let places = self.ledger.lookup(kind, id);
        if places.iter().any(|(place, _)| self.rescued.contains(&place.pack)) {
            return Ok(false);
        }
        let there = places.iter().find(|(_, pack)| pack.size.is_some());
        Ok(there.is_some_and(|(place, _)| self.rescued.insert(place.pack)))
    }

    /// Names the rescued packs again, from their marks.
    fn put_back(&self) -> Result<u64, RepositoryError> {
        let mut packs = Emitter::packs(self.repository);
        for id in self.repository.list_ids(ObjectKind::Index)? {
            let file = IndexFile::load(self.repository, &id)?;
            for pack in file.packs_to_delete.into_iter().filter(|pack| self.rescued.contains(&pack.id)) {
                packs.add(Pack { time: None, ..pack })?;
            }
        }
        Ok(packs.finish()?.len() as u64)
    }

    /// Removes what may go of the marks of one file, and writes the file anew if that changes it.
    fn marks(
        &self,
        id: &Id,
        mut file: IndexFile,
        words: &HashSet<String>,
        named: &HashSet<Id>,
        removed: &mut Removed,
        watch: &dyn Watch,
    ) -> Result<(), RepositoryError> {
        let before = file.clone();
        let beside = file.beside.get_or_insert_with(|| {
            let mut words: Vec<String> = words.iter().cloned().collect();
            words.sort_unstable();
            words
        });
        let is_free = !words.contains(NOBODY_KNOWS) && !beside.iter().any(|word| words.contains(word));
        let mut kept = Vec::new();
        for pack in std::mem::take(&mut file.packs_to_delete) {
            if named.contains(&pack.id) {
                continue;
            }
            let number = self.ledger.pack_number(&pack.id);
            let info = number.and_then(|number| self.ledger.packs.get(number as usize));
            let size = info.and_then(|info| info.size);
            let fate = number.map(|number| self.plan.fate(number));
            let is_due = fate == Some(Fate::Remove)
                || self.options.grace.is_zero() && matches!(fate, Some(Fate::Mark | Fate::Repack));
            if fate == Some(Fate::Drop) {
                continue;
            }
            if !is_due || removed.clocks_differ && !self.options.grace.is_zero() {
                kept.push(pack);
                continue;
            }
            if !is_free {
                removed.held.packs += 1;
                removed.held.bytes += size.unwrap_or(0);
                kept.push(pack);
                continue;
            }
            go_on(watch)?;
            // Whoever took our lock as stale may have begun to work.
            self.lock.check()?;
            self.repository.store().delete(&ObjectKind::Pack.name(&pack.id))?;
            removed.packs.packs += 1;
            removed.packs.bytes += size.unwrap_or(0);
            let total = self.plan.remove.packs;
            watch.progress("remove", removed.packs.packs, Some(total.max(removed.packs.packs)), "packs");
        }
        file.packs_to_delete = kept;
        if file.packs_to_delete.is_empty() {
            file.beside = None;
        }
        if file != before {
            if !file.packs_to_delete.is_empty() || !file.packs.is_empty() {
                file.save(self.repository)?;
                removed.index_files += 1;
            }
            self.lock.check()?;
            self.repository.store().delete(&ObjectKind::Index.name(id))?;
        }
        Ok(())
    }
}
