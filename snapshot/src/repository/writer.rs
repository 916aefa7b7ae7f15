//! Saving blobs from many threads into packs that a few threads upload.
//!
//! A caller's thread hashes, compresses and seals its blob without any lock; only appending the sealed bytes to the open
//! pack is done under one, and that is a copy. Data and trees have packs of their own, so that reading directories does
//! not read files. A full pack goes from hand to hand to an upload: a slow store slows the callers, and memory is at most
//! (2 open + 1 an upload + 1 spare + 1 a caller) packs.
//!
//! **A blob is saved once.** Whoever saves a blob first claims it, under one mutex under which the index is looked at
//! too; a claim ends when the pack is durable and its blobs are in the index, in that order, so between them there is no
//! moment in which a blob is in neither.
//!
//! **Durability.** [`BlobWriter::flush`] returns when every blob whose saving ended before is in a durable pack and a
//! durable index file names it; only then a session record may be written. Index files never name a pack that is not
//! durable. After any failure nothing more is accepted: what callers were told is saved may be lost then, so that
//! whoever goes on must begin again with a new writer.

mod commit;
mod files;
pub mod stages;
mod uploads;

pub use commit::{Commit, MISSING_MAX, Missing};
pub use files::SavedFile;
pub use stages::{Stage, Stages};

use super::Repository;
use super::compress::CompressError;
use super::error::RepositoryError;
use super::id::{BlobKind, Id};
use super::pack::PackBuilder;
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use uploads::Uploads;

/// How blobs are packed and uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// A pack of data is full from this size on, in bytes; one of trees from half of it. restic accepts 4 to 128 MiB; more
    /// than [`PACK_TARGET_MAX`] is taken as that.
    pub pack_bytes: usize,
    /// Packs that are uploaded at the same time; at least 1, at most [`UPLOADS_MAX`].
    pub uploads: usize,
}

/// Memory for the header of a pack; of more than 12,000 blobs it grows.
const HEADER_ROOM: usize = 512 << 10;
/// Largest size from which a pack is full, in bytes.
pub const PACK_TARGET_MAX: usize = 128 << 20;
/// Most uploads at the same time to a store that is no network's. Each more is a pack of memory, not speed.
const LOCAL_UPLOADS_MAX: usize = 2;
/// Most uploads at the same time.
pub const UPLOADS_MAX: usize = 256;

impl Default for WriterOptions {
    fn default() -> Self {
        // Memory is what this costs. Three uploads of 8 MiB keep a link busy as long as a pack takes longer than three
        // round trips.
        Self { pack_bytes: 8 << 20, uploads: 3 }
    }
}

/// What saving a blob did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The blob.
    pub id: Id,
    /// Whether it was not there before.
    pub is_new: bool,
    /// Bytes that it takes in a pack; 0 if it was there.
    pub stored_bytes: u64,
}

/// What has been written since the writer was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Packs that are durable.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Index files that are durable.
    pub index_files: u64,
}

/// What callers and uploads share.
#[derive(Debug)]
struct Shared {
    repository: Arc<Repository>,
    stages: Arc<Stages>,
    /// Blobs that are claimed and not in the index yet.
    claimed: Mutex<HashSet<(BlobKind, Id)>>,
    /// The first failure; after it nothing is accepted.
    failure: Mutex<Option<Arc<RepositoryError>>>,
}

impl Shared {
    fn check(&self) -> Result<(), RepositoryError> {
        match &*self.failure.lock() {
            None => Ok(()),
            Some(source) => Err(RepositoryError::Poisoned { source: Arc::clone(source) }),
        }
    }

    /// Remembers the first failure and gives the error that callers see.
    fn poison(&self, error: RepositoryError) -> RepositoryError {
        let mut failure = self.failure.lock();
        let source = failure.get_or_insert_with(|| Arc::new(error));
        RepositoryError::Poisoned { source: Arc::clone(source) }
    }
}

/// Saves blobs. Threads share it.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    options: WriterOptions,
    open: [Mutex<Option<PackBuilder>>; 2],
    /// Read while a blob is on its way into a pack; written by a flush, which must not miss one.
    gate: RwLock<()>,
    uploads: Uploads,
    /// Losses of the index after which everything we count on was known to be there.
    losses_seen: AtomicU64,
}

impl BlobWriter {
    /// A writer; its threads end when it is dropped. What was not flushed is then in no index, so it does not count.
    ///
    /// # Errors
    /// What [`Repository::reload_index`] fails with; `Thread`.
    pub fn new(repository: Arc<Repository>, options: WriterOptions) -> Result<Self, RepositoryError> {
        repository.reload_index()?;
        let losses_seen = AtomicU64::new(repository.index()?.losses());
        let shared = Arc::new(Shared {
            repository,
            stages: Arc::default(),
            claimed: Mutex::default(),
            failure: Mutex::default(),
        });
        // A store that makes nobody wait is kept busy by two: one writes while the other's pack is hashed.
        let most = if shared.repository.store().connections() == 0 { LOCAL_UPLOADS_MAX } else { UPLOADS_MAX };
        let uploads = Uploads::start(&shared, options.uploads.clamp(1, most))?;
        let open = [Mutex::new(None), Mutex::new(None)];
        Ok(Self { shared, options, open, gate: RwLock::new(()), uploads, losses_seen })
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Arc<Repository> {
        &self.shared.repository
    }

    /// Where the time of this writer and of those who use it goes.
    #[must_use]
    pub fn stages(&self) -> &Arc<Stages> {
        &self.shared.stages
    }

    /// What has been written so far.
    #[must_use]
    pub fn written(&self) -> Written {
        self.uploads.written()
    }

    /// Whether a blob is there or on its way.
    ///
    /// # Errors
    /// Those of [`Repository::index`].
    pub fn holds(&self, kind: BlobKind, id: &Id) -> Result<bool, RepositoryError> {
        // Claims end when the index has the blob, so it is looked for there second.
        let is_claimed = self.shared.claimed.lock().contains(&(kind, *id));
        Ok(is_claimed || self.repository().index()?.contains(kind, id))
    }

    /// Saves a blob unless it is there or on its way. Blocks while the uploads are behind.
    ///
    /// # Errors
    /// `EmptyBlob`, `TooLarge` (nothing happened then); `CompressionMismatch`, `Zstd`, `Random`, `Poisoned`: from then on
    /// the writer refuses everything.
    pub fn save_blob(&self, kind: BlobKind, plain: &[u8]) -> Result<Saved, RepositoryError> {
        self.shared.check()?;
        let size = plain.len() as u64;
        if plain.is_empty() {
            return Err(RepositoryError::EmptyBlob);
        }
        if size > kind.bytes_max() {
            return Err(RepositoryError::TooLarge { what: "a blob", size, limit: kind.bytes_max() });
        }
        let id = self.stages().time(Stage::Hash, || Id::of(plain));
        let _on_its_way = self.gate.read();
        {
            let mut claimed = self.shared.claimed.lock();
            if claimed.contains(&(kind, id)) || self.repository().index()?.contains(kind, &id) {
                return Ok(Saved { id, is_new: false, stored_bytes: 0 });
            }
            claimed.insert((kind, id));
        }
        // From here on others count on this blob: failing has to stop them too.
        let claim = Claim { shared: &self.shared, kept: false };
        let stored_bytes = self.store_blob(kind, id, plain).map_err(|error| self.shared.poison(error))?;
        claim.keep();
        Ok(Saved { id, is_new: true, stored_bytes })
    }

    fn store_blob(&self, kind: BlobKind, id: Id, plain: &[u8]) -> Result<u64, RepositoryError> {
        let repository = &self.shared.repository;
        let (key, stages) = (repository.seal_key(), self.stages());
        repository.codecs().with(|codec| {
            let mut sealed = codec.take_room();
            let (mut stored, mut uncompressed) = (plain, 0);
            if repository.config().compresses() {
                match stages.time(Stage::Compress, || codec.compress(plain)) {
                    // restic packs trees anew that are not compressed, so those are compressed always.
                    Ok(packed) if packed.len() < plain.len() || kind == BlobKind::Tree => {
                        (stored, uncompressed) = (packed, u32::try_from(plain.len()).unwrap_or_default());
                    }
                    Ok(_) => {}
                    Err(CompressError::Mismatch) => {
                        return Err(RepositoryError::CompressionMismatch { kind, id });
                    }
                    Err(CompressError::Zstd(source)) => {
                        return Err(RepositoryError::Zstd { operation: "compress", source });
                    }
                }
            }
            stages.time(Stage::Seal, || key.seal_into(stored, &mut sealed))?;
            stages.time(Stage::Pack, || self.append(kind, id, &sealed, uncompressed))?;
            let stored = sealed.len() as u64;
            codec.keep_room(sealed);
            Ok(stored)
        })?
    }

    fn append(
        &self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        uncompressed: u32,
    ) -> Result<(), RepositoryError> {
        let [data, trees] = &self.open;
        let slot = if kind == BlobKind::Data { data } else { trees };
        let target = match kind {
            BlobKind::Data => self.options.pack_bytes,
            // Trees come slowly, and their pack is open beside the one that data goes to.
            BlobKind::Tree => self.options.pack_bytes / 2,
        };
        let target = target.min(PACK_TARGET_MAX);
        let mut full = Vec::new();
        {
            let mut open = slot.lock();
            // Closed before it outgrows its memory: growing would hold it twice.
            let is_over = |pack: &mut PackBuilder| pack.blob_bytes() + sealed.len() > target;
            full.extend(open.take_if(|pack| is_over(pack) || !pack.fits(sealed.len())));
            let room = target.max(sealed.len()) + HEADER_ROOM;
            let pack = open.get_or_insert_with(|| PackBuilder::within(self.uploads.buffer(), room));
            pack.add(kind, id, sealed, uncompressed)?;
            full.extend(open.take_if(|pack| pack.blob_bytes() >= target));
        }
        full.into_iter().try_for_each(|pack| self.uploads.submit(pack))
    }

    /// Makes everything durable that was saved before: packs, then index files.
    ///
    /// # Errors
    /// `Poisoned` with the first failure: then nothing that this writer saved counts.
    pub fn flush(&self) -> Result<Written, RepositoryError> {
        {
            let _nothing_on_its_way = self.gate.write();
            for slot in &self.open {
                if let Some(pack) = slot.lock().take() {
                    self.uploads.submit(pack).map_err(|error| self.shared.poison(error))?;
                }
            }
        }
        self.uploads.wait();
        self.shared.check()?;
        // The index is large itself, and no pack is filled meanwhile.
        drop(self.uploads.buffer());
        let files = self.shared.repository.save_index(None).map_err(|error| self.shared.poison(error))?;
        self.uploads.count_index_files(files);
        Ok(self.uploads.written())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // The repository stays open for the next session, which begins with little to store.
        self.repository().codecs().give_back();
    }
}

/// A blob that somebody is about to store. If that is broken off, be it by a panic, the writer is of no use any more:
/// others were told that the blob is on its way.
struct Claim<'a> {
    shared: &'a Shared,
    kept: bool,
}

impl Claim<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.poison(RepositoryError::ThreadEnded { purpose: "saving a blob" });
        }
    }
}

#[cfg(test)]
mod tests;
