//! Copying what is used of packs into new ones.
//!
//! Blobs are copied as they are sealed, after each was opened and compared with its name: no damage is carried on, and
//! nothing is compressed twice. A pack with a damaged blob is left as it is, for `check` to name. Memory is two packs in
//! the making and one read.

use super::ledger::Ledger;
use super::plan::{Fate, PrunePlan};
use super::used::is_passing;
use super::{Watch, go_on};
use crate::repository::Repository;
use crate::repository::error::RepositoryError;
use crate::repository::id::{BlobKind, ObjectKind};
use crate::repository::index::{IndexedPack, Location};
use crate::repository::pack::PackBuilder;
use crate::repository::read::PackRead;

/// Size from which a new pack is full, in bytes.
const PACK_BYTES: usize = 16 << 20;

/// What was copied.
#[derive(Debug, Default)]
pub(super) struct Repacked {
    /// New packs; durable, and in no index file yet.
    pub packs: Vec<IndexedPack>,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that could not be read as a whole.
    pub damaged: Vec<RepositoryError>,
}

struct Copier<'r> {
    repository: &'r Repository,
    open: [Option<PackBuilder>; 2],
    done: Repacked,
}

impl Copier<'_> {
    fn add(&mut self, place: &Location, sealed: &[u8]) -> Result<(), RepositoryError> {
        let [data, trees] = &mut self.open;
        let slot = if place.kind == BlobKind::Data { data } else { trees };
        let mut full = Vec::new();
        full.extend(slot.take_if(|pack| !pack.fits(sealed.len())));
        let pack = slot.get_or_insert_with(|| PackBuilder::new(0));
        pack.add(place.kind, place.id, sealed, place.uncompressed_length)?;
        full.extend(slot.take_if(|pack| pack.blob_bytes() >= PACK_BYTES));
        full.into_iter().try_for_each(|pack| self.store(pack))
    }

    fn store(&mut self, pack: PackBuilder) -> Result<(), RepositoryError> {
        let pack = pack.finish(self.repository.seal_key())?;
        self.done.bytes += pack.bytes.len() as u64;
        self.repository.store().put(&ObjectKind::Pack.name(&pack.id), pack.bytes)?;
        self.done.packs.push(IndexedPack { id: pack.id, blobs: pack.entries });
        Ok(())
    }
}

/// Copies; packs that turn out to be damaged are kept instead, in the plan too.
///
/// # Errors
/// `Store`, `Random`, `TooLarge`, `Cancelled`.
pub(super) fn repack(
    repository: &Repository,
    ledger: &Ledger,
    plan: &mut PrunePlan,
    watch: &dyn Watch,
) -> Result<Repacked, RepositoryError> {
    let moved = ledger.chosen_in(&|pack| plan.fate(pack) == Fate::Repack);
    let mut copier = Copier { repository, open: [None, None], done: Repacked::default() };
    let total = plan.repack_used_bytes;
    let mut copied = 0;
    for blobs in moved.chunk_by(|a, b| a.pack == b.pack) {
        let Some(first) = blobs.first() else { continue };
        go_on(watch)?;
        let read = PackRead { pack: first.pack, blobs: blobs.to_vec() };
        let mut outcome = Ok(());
        repository.read_sealed(&read, &mut |place, sealed| {
            outcome = sealed.and_then(|sealed| copier.add(place, sealed));
            copied += u64::from(place.length);
            outcome.is_ok()
        });
        watch.progress("repack", copied, Some(total), "bytes");
        match outcome {
            Ok(()) => {}
            Err(error) if is_passing(&error) => return Err(error),
            Err(error) => {
                copier.done.damaged.push(error);
                let number = ledger.pack_number(&first.pack);
                if let Some((_, fate)) = number.and_then(|number| plan.fates.get_mut(number as usize)) {
                    *fate = Fate::Keep;
                }
            }
        }
    }
    let open = std::mem::take(&mut copier.open);
    open.into_iter().flatten().try_for_each(|pack| copier.store(pack))?;
    Ok(copier.done)
}
