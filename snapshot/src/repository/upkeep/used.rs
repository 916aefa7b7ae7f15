//! Which blobs the sessions need: all trees are read, each once, whatever number of sessions shares it.
//!
//! Trees are read level by level and pack by pack, so that a store far away is asked for megabytes and not for single
//! directories. What waits are ids of trees that were not met before: at most those of all trees.

use super::ledger::{Ledger, Need, PackInfo};
use super::{Watch, go_on};
use crate::repository::Repository;
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::{BlobKind, Id, ObjectKind};
use crate::repository::index::Location;
use crate::repository::read::PackRead;
use crate::repository::tree::read_tree;
use std::collections::HashMap;

/// A blob that a session needs and cannot have: no index file names it (no error), or all its places fail.
pub(super) type OnLost<'a> =
    dyn FnMut(BlobKind, &Id, Option<RepositoryError>) -> Result<(), RepositoryError> + 'a;

/// Says that everything below a tree is needed.
///
/// # Errors
/// `Store`, `Cancelled`, and what `lost` says.
pub(super) fn need_tree(
    repository: &Repository,
    ledger: &mut Ledger,
    root: &Id,
    watch: &dyn Watch,
    lost: &mut OnLost<'_>,
) -> Result<(), RepositoryError> {
    let mut level = Vec::new();
    need(ledger, BlobKind::Tree, root, &mut level, lost)?;
    while !level.is_empty() {
        let mut next = Vec::new();
        let mut failed = Vec::new();
        let reads = by_pack(ledger, &level, &mut failed);
        for read in reads {
            go_on(watch)?;
            let mut outcome = Ok(());
            repository.read_pack(&read, &mut |place, plain| {
                match plain {
                    Ok(plain) => outcome = need_nodes(ledger, &place.id, plain, &mut next, lost),
                    Err(error) if is_passing(&error) => outcome = Err(error),
                    Err(_) => failed.push(place.id),
                }
                outcome.is_ok()
            });
            outcome?;
        }
        // Alone, and from everywhere: also from packs that are marked, where the open index does not look.
        for id in failed {
            match load(repository, ledger, BlobKind::Tree, &id) {
                Ok(plain) => need_nodes(ledger, &id, &plain, &mut next, lost)?,
                Err(error) if is_passing(&error) => return Err(error),
                Err(error) => lost(BlobKind::Tree, &id, Some(error))?,
            }
        }
        level = next;
    }
    Ok(())
}

/// Whether it says nothing about the data.
pub(super) fn is_passing(error: &RepositoryError) -> bool {
    !matches!(error.kind(), RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound)
}

/// Plain bytes of a blob from any place that the ledger knows.
pub(super) fn load(
    repository: &Repository,
    ledger: &Ledger,
    kind: BlobKind,
    id: &Id,
) -> Result<Vec<u8>, RepositoryError> {
    let mut first = None;
    for (place, pack) in ledger.lookup(kind, id) {
        let loaded = if is_beyond(&place, pack) {
            Err(RepositoryError::BlobDamaged {
                kind,
                id: *id,
                pack: ObjectKind::Pack.name(&place.pack),
                offset: place.offset.into(),
                what: "the pack ends before it",
            })
        } else {
            repository.load_at(&place)
        };
        match loaded {
            Ok(plain) => return Ok(plain),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(RepositoryError::BlobNotFound { kind, id: *id }))
}

/// Whether a pack that is there ends before a place in it does. A store calls that a failure of the call.
fn is_beyond(place: &Location, pack: &PackInfo) -> bool {
    pack.size.is_some_and(|size| u64::from(place.offset) + u64::from(place.length) > size)
}

fn need(
    ledger: &mut Ledger,
    kind: BlobKind,
    id: &Id,
    next: &mut Vec<Id>,
    lost: &mut OnLost<'_>,
) -> Result<(), RepositoryError> {
    match ledger.need(kind, id) {
        Need::First if kind == BlobKind::Tree => next.push(*id),
        Need::First | Need::Again => {}
        Need::Missing => lost(kind, id, None)?,
    }
    Ok(())
}

fn need_nodes(
    ledger: &mut Ledger,
    tree: &Id,
    plain: &[u8],
    next: &mut Vec<Id>,
    lost: &mut OnLost<'_>,
) -> Result<(), RepositoryError> {
    let mut outcome = Ok(());
    let read = read_tree(tree, plain, &mut |node| {
        let blobs = node.content.iter().map(|id| (BlobKind::Data, id));
        let trees = node.subtree.iter().map(|id| (BlobKind::Tree, id));
        outcome = blobs.chain(trees).try_for_each(|(kind, id)| need(ledger, kind, id, next, lost));
        outcome.is_ok()
    });
    outcome?;
    match read {
        Err(error) if is_passing(&error) => Err(error),
        Err(error) => lost(BlobKind::Tree, tree, Some(error)),
        Ok(_) => Ok(()),
    }
}

/// The trees of a level, sorted by the packs they lie in. Those that are in none as a whole are handed back.
fn by_pack(ledger: &Ledger, level: &[Id], failed: &mut Vec<Id>) -> Vec<PackRead> {
    let mut reads: Vec<PackRead> = Vec::new();
    let mut numbers: HashMap<Id, usize> = HashMap::new();
    for id in level {
        let best = ledger.lookup(BlobKind::Tree, id).into_iter().next();
        let Some((place, _)) = best.filter(|(place, pack)| !is_beyond(place, pack)) else {
            failed.push(*id);
            continue;
        };
        let number = *numbers.entry(place.pack).or_insert(reads.len());
        match reads.get_mut(number) {
            Some(read) => read.blobs.push(place),
            None => reads.push(PackRead { pack: place.pack, blobs: vec![place] }),
        }
    }
    for read in &mut reads {
        read.blobs.sort_unstable_by_key(|blob| (blob.offset, blob.id));
    }
    reads
}
