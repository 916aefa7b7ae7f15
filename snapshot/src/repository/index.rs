//! Where every blob lies: all index files as one table in memory.
//!
//! A blob takes 48 bytes, whatever it is: entries are of fixed width, in sorted runs, and name their pack by a number.
//! New blobs go into a small map; when it is full it becomes a run, and runs of similar size are merged, so that a blob
//! is moved a logarithmic number of times. No blob has an allocation of its own.
//!
//! Readers share a lock that is held for a look-up only. The same blob may lie in several packs: all places are kept,
//! since another copy may be whole where one is damaged.
//!
//! A pack is *unsaved* from when it is durable until an index file that names it is durable. The index never names a
//! pack that is not durable: whoever saves index files saves what is here.

mod file;
mod runs;

pub use file::{INDEX_BLOBS_MAX, INDEX_FILE_AFTER, INDEX_FILE_BYTES_MAX, IndexLoader, to_json};

use super::error::RepositoryError;
use super::id::{BlobKind, Id};
use super::pack::PackEntry;
use parking_lot::RwLock;
pub(in crate::repository) use runs::Entry;
use runs::Runs;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: Id,
    /// Data or tree.
    pub kind: BlobKind,
    /// The blob.
    pub id: Id,
    /// Bytes from the beginning of the pack.
    pub offset: u32,
    /// Sealed bytes.
    pub length: u32,
    /// Plain bytes of a compressed blob; 0 if it is not compressed.
    pub uncompressed_length: u32,
}

impl Location {
    /// Bytes of the blob when read.
    #[must_use]
    pub fn plain_bytes(&self) -> u64 {
        match self.uncompressed_length {
            0 => u64::from(self.length).saturating_sub(super::crypto::OVERHEAD as u64),
            length => length.into(),
        }
    }
}

/// A pack and its blobs.
#[derive(Clone, Debug)]
pub struct IndexedPack {
    /// The pack.
    pub id: Id,
    /// Its blobs.
    pub blobs: Vec<PackEntry>,
}

#[derive(Debug, Default)]
struct State {
    packs: Vec<Id>,
    pack_numbers: HashMap<Id, u32>,
    data: Runs,
    trees: Runs,
    unsaved: Vec<Arc<IndexedPack>>,
    /// When the oldest of them was added.
    unsaved_since: Option<Instant>,
    /// How often blobs that were here left, since others removed their packs.
    losses: u64,
}

impl State {
    fn runs(&self, kind: BlobKind) -> &Runs {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn number(&mut self, pack: &Id) -> Result<u32, RepositoryError> {
        if let Some(number) = self.pack_numbers.get(pack) {
            return Ok(*number);
        }
        let number = u32::try_from(self.packs.len()).map_err(|_| RepositoryError::TooLarge {
            what: "the number of packs",
            size: self.packs.len() as u64,
            limit: u32::MAX.into(),
        })?;
        self.packs.push(*pack);
        self.pack_numbers.insert(*pack, number);
        Ok(number)
    }

    fn add(&mut self, pack: &Id, blobs: &[PackEntry]) -> Result<(), RepositoryError> {
        let number = self.number(pack)?;
        for blob in blobs {
            let entry = Entry {
                id: blob.id.0,
                pack: number,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed_length,
            };
            match blob.kind {
                BlobKind::Data => self.data.insert(entry),
                BlobKind::Tree => self.trees.insert(entry),
            }
        }
        Ok(())
    }

    fn location(&self, kind: BlobKind, entry: &Entry) -> Option<Location> {
        Some(Location {
            pack: *self.packs.get(entry.pack as usize)?,
            kind,
            id: Id(entry.id),
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: entry.uncompressed_length,
        })
    }
}

/// The table. Any number of threads may look up and add at once.
#[derive(Debug, Default)]
pub struct Index {
    state: RwLock<State>,
}

impl Index {
    /// A place of the blob.
    #[must_use]
    pub fn lookup(&self, kind: BlobKind, id: &Id) -> Option<Location> {
        let state = self.state.read();
        let mut found = None;
        state.runs(kind).find(&id.0, &mut |entry| {
            found = state.location(kind, entry);
            found.is_none()
        });
        found
    }

    /// All places of the blob; damaged ones can be passed over by another.
    #[must_use]
    pub fn lookup_all(&self, kind: BlobKind, id: &Id) -> Vec<Location> {
        let state = self.state.read();
        let mut found: Vec<Location> = Vec::new();
        state.runs(kind).find(&id.0, &mut |entry| {
            // An index file that was written twice names the same place twice.
            if let Some(place) = state.location(kind, entry).filter(|place| !found.contains(place)) {
                found.push(place);
            }
            true
        });
        found
    }

    /// Whether the blob is in a durable pack.
    #[must_use]
    pub fn contains(&self, kind: BlobKind, id: &Id) -> bool {
        self.state.read().runs(kind).contains(&id.0)
    }

    /// Number of places of blobs of a kind.
    #[must_use]
    pub fn len(&self, kind: BlobKind) -> usize {
        self.state.read().runs(kind).len()
    }

    /// Whether it knows no blob.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        BlobKind::ALL.iter().all(|kind| self.len(*kind) == 0)
    }

    /// Bytes of memory that blobs take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let state = self.state.read();
        state.data.memory_bytes() + state.trees.memory_bytes() + state.packs.capacity() * 32 * 3
    }

    /// How often blobs left this table. Whoever counts on blobs that it found here has to look again when this has grown
    /// ([`BlobWriter::commit`](crate::repository::BlobWriter::commit)).
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.state.read().losses
    }

    /// All packs that an index file (or an unsaved pack) names.
    #[must_use]
    pub fn packs(&self) -> Vec<Id> {
        self.state.read().packs.clone()
    }

    /// Calls `each` for every place of every blob, in no order, until it returns false. Nothing can be added meanwhile,
    /// and `each` must not ask this index for anything: it would wait for itself.
    pub fn for_each(&self, each: &mut dyn FnMut(Location) -> bool) {
        let state = self.state.read();
        for kind in BlobKind::ALL {
            let more =
                state.runs(kind).for_each(&mut |entry| state.location(kind, entry).is_none_or(&mut *each));
            if !more {
                return;
            }
        }
    }

    /// Adds a durable pack, unsaved until [`Index::saved`] is told of it.
    ///
    /// # Errors
    /// `TooLarge` beyond 2^32 packs.
    pub fn add(&self, pack: IndexedPack) -> Result<(), RepositoryError> {
        let mut state = self.state.write();
        state.add(&pack.id, &pack.blobs)?;
        state.unsaved.push(Arc::new(pack));
        state.unsaved_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Whether an index file is due: one would be full, or a crash would lose sight of the work of `after`.
    #[must_use]
    pub fn is_due(&self, after: Duration) -> bool {
        let old = self.state.read().unsaved_since.is_some_and(|since| since.elapsed() >= after);
        old || self.unsaved_blobs() >= INDEX_BLOBS_MAX
    }

    /// Blobs in unsaved packs.
    #[must_use]
    pub fn unsaved_blobs(&self) -> usize {
        self.state.read().unsaved.iter().map(|pack| pack.blobs.len()).sum()
    }

    /// The unsaved packs of one index file; none when nothing is unsaved.
    #[must_use]
    pub fn next_unsaved(&self) -> Vec<Arc<IndexedPack>> {
        let mut blobs = 0;
        let state = self.state.read();
        let fits = |pack: &&Arc<IndexedPack>| {
            blobs += pack.blobs.len();
            blobs <= INDEX_BLOBS_MAX
        };
        let mut packs: Vec<_> = state.unsaved.iter().take_while(fits).cloned().collect();
        if packs.is_empty() {
            packs.extend(state.unsaved.first().cloned());
        }
        packs
    }

    /// An index file with these packs is durable.
    pub fn saved(&self, packs: &[Arc<IndexedPack>]) {
        let done = |pack: &Arc<IndexedPack>| packs.iter().any(|other| Arc::ptr_eq(pack, other));
        let mut state = self.state.write();
        state.unsaved.retain(|pack| !done(pack));
        state.unsaved_since = if state.unsaved.is_empty() { None } else { Some(Instant::now()) };
    }

    /// Adds what index files that appeared since hold.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn merge(&self, loaded: Self) -> Result<(), RepositoryError> {
        let loaded = loaded.state.into_inner();
        let mut state = self.state.write();
        let numbers: Vec<u32> =
            loaded.packs.iter().map(|pack| state.number(pack)).collect::<Result<_, _>>()?;
        for kind in BlobKind::ALL {
            let mut entries = Vec::with_capacity(loaded.runs(kind).len());
            loaded.runs(kind).for_each(&mut |entry| {
                entries.extend(numbers.get(entry.pack as usize).map(|pack| Entry { pack: *pack, ..*entry }));
                true
            });
            match kind {
                BlobKind::Data => state.data.extend(entries),
                BlobKind::Tree => state.trees.extend(entries),
            }
        }
        Ok(())
    }

    /// Takes the place of everything but unsaved packs, after index files were removed and all were read again. If a
    /// blob that was here is not among them, that is a loss.
    ///
    /// # Errors
    /// `TooLarge`.
    pub fn replace(&self, loaded: Self) -> Result<(), RepositoryError> {
        let mut fresh = loaded.state.into_inner();
        let mut state = self.state.write();
        for pack in &state.unsaved {
            fresh.add(&pack.id, &pack.blobs)?;
        }
        let gone: Vec<bool> = state.packs.iter().map(|pack| !fresh.pack_numbers.contains_key(pack)).collect();
        let is_kept = |kind: BlobKind, entry: &Entry| {
            let gone = gone.get(entry.pack as usize).copied().unwrap_or(true);
            !gone || fresh.runs(kind).contains(&entry.id)
        };
        let all_kept = !gone.contains(&true)
            || BlobKind::ALL
                .iter()
                .all(|kind| state.runs(*kind).for_each(&mut |entry| is_kept(*kind, entry)));
        fresh.losses = state.losses + u64::from(!all_kept);
        fresh.unsaved = std::mem::take(&mut state.unsaved);
        fresh.unsaved_since = state.unsaved_since;
        *state = fresh;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
