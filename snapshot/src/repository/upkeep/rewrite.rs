//! Writing index files anew without the packs that go, and with marks of those.
//!
//! Only files that name something that changes are written anew, and small ones along with them, which every backup
//! leaves one of. They are read again one at a time. Everything new is durable before the first old file is removed.

use super::index_json::{Emitter, IndexFile, Pack};
use super::ledger::{FileInfo, Ledger};
use super::plan::{Fate, PrunePlan};
use super::repack::Repacked;
use super::{Watch, go_on};
use crate::repository::error::RepositoryError;
use crate::repository::id::{Id, ObjectKind};
use crate::repository::index::INDEX_BLOBS_MAX;
use crate::repository::{Lock, Repository, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Files below this are small.
const SMALL_BLOBS: usize = INDEX_BLOBS_MAX / 10;
/// So many small ones may stay.
const SMALL_FILES_MAX: usize = 8;

/// What was written.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// New files.
    pub written: u64,
    /// Old files that were removed.
    pub removed: u64,
}

/// The files that are written anew.
fn to_rewrite<'l>(ledger: &'l Ledger, plan: &PrunePlan, changes: bool) -> Vec<&'l FileInfo> {
    // What a killed prune wrote and did not come to remove names packs twice.
    let mut names: HashMap<u32, u32> = HashMap::new();
    for pack in ledger.files.iter().flat_map(|file| &file.packs) {
        *names.entry(*pack).or_default() += 1;
    }
    let is_touched = |file: &&FileInfo| {
        let changes = |pack: &u32| plan.fate(*pack) != Fate::Keep || names.get(pack).is_some_and(|n| *n > 1);
        let packs = file.packs.iter().any(changes);
        let marks = file.marks.iter().any(|pack| !matches!(plan.fate(*pack), Fate::Wait | Fate::Remove));
        packs || marks
    };
    let is_small = |file: &&FileInfo| file.marks.is_empty() && file.blobs < SMALL_BLOBS;
    let mut files: Vec<&FileInfo> = ledger.files.iter().filter(is_touched).collect();
    let small: Vec<&FileInfo> =
        ledger.files.iter().filter(|file| is_small(file) && !is_touched(file)).collect();
    if small.len() > SMALL_FILES_MAX || (changes || !files.is_empty()) && small.len() > 1 {
        files.extend(small);
    }
    files
}

/// Writes the index as the plan wants it. `new` packs are named too.
///
/// # Errors
/// `Damaged`, `Json`, `Store`, `LockLost`, `Cancelled`.
pub(super) fn rewrite(
    repository: &Repository,
    lock: &Lock,
    ledger: &Ledger,
    plan: &PrunePlan,
    new: &Repacked,
    watch: &dyn Watch,
) -> Result<Rewritten, RepositoryError> {
    let files = to_rewrite(ledger, plan, !new.packs.is_empty());
    let now = Timestamp::now();
    let mut packs = Emitter::packs(repository);
    let mut marks = Emitter::marks(repository, None);
    let mut old_marks: BTreeMap<Option<Vec<String>>, Emitter<'_>> = BTreeMap::new();
    new.packs.iter().try_for_each(|pack| packs.add(Pack::from(pack)))?;
    let mut done: HashSet<u32> = HashSet::new();
    for file in &files {
        go_on(watch)?;
        let IndexFile { packs: named, packs_to_delete, beside } = IndexFile::load(repository, &file.id)?;
        for pack in named {
            let Some(number) = ledger.pack_number(&pack.id) else { continue };
            // Of a pack that several files name each one may name other blobs.
            if ledger.is_whole(number, pack.blobs.len()) && !done.insert(number) {
                continue;
            }
            match plan.fate(number) {
                Fate::Keep | Fate::PutBack | Fate::Wait | Fate::Remove => packs.add(pack)?,
                Fate::Repack | Fate::Mark => marks.add(Pack { time: Some(now), ..pack })?,
                Fate::Drop => {}
            }
        }
        for pack in packs_to_delete {
            let Some(number) = ledger.pack_number(&pack.id) else { continue };
            match plan.fate(number) {
                Fate::PutBack => packs.add(Pack { time: None, ..pack })?,
                Fate::Wait | Fate::Remove => {
                    let of_those = old_marks.entry(beside.clone());
                    of_those.or_insert_with(|| Emitter::marks(repository, beside.clone())).add(pack)?;
                }
                // It counts again, or is marked anew, or is gone.
                Fate::Keep | Fate::Repack | Fate::Mark | Fate::Drop => {}
            }
        }
    }
    for (pack, (id, fate)) in ledger.packs.iter().zip(&plan.fates) {
        if *fate == Fate::Mark && !pack.indexed {
            marks.add(Pack { id: *id, blobs: Vec::new(), time: Some(now) })?;
        }
    }
    let mut written: HashSet<Id> = HashSet::new();
    for emitter in [packs, marks].into_iter().chain(old_marks.into_values()) {
        written.extend(emitter.finish()?);
    }
    let mut outcome = Rewritten { written: written.len() as u64, removed: 0 };
    // Everything is durable that takes the place of what goes now.
    for file in files.iter().filter(|file| !written.contains(&file.id)) {
        lock.check()?;
        repository.store().delete(&ObjectKind::Index.name(&file.id))?;
        outcome.removed += 1;
    }
    Ok(outcome)
}
