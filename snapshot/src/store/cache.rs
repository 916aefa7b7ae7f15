//! Copies of small objects of a repository (index, snapshots, packs of trees) in a local directory.
//!
//! Only to be faster: it may be deleted at any time, also while it is in use, and nothing fails with it. So nothing is
//! synced, and what comes out of it after a power cut may be damaged. **Whoever reads checks**: names are SHA-256 of
//! what they name, and parts of packs are authenticated; what is not right is forgotten ([`Cache::forget`]) and
//! fetched from the store. What it holds is encrypted as it is in the repository.
//!
//! One directory a repository, below one for all. Bounded in bytes: when a put passes the bound, what was not used for
//! longest goes until a tenth is free. Several processes may share it; each counts what it adds itself and counts anew
//! when its count passes the bound, so together they may pass it by what they add in between.

use super::cause::failed;
use super::name::is_part;
use super::{BlobStore, DirectoryStore, Entry, StoreError, StoreErrorKind};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// A use is written down when the last that was is older than this.
const USED_AGAIN_AFTER: Duration = Duration::from_secs(3600);
/// Tells backup programs that this need not be kept (the convention of bford.info/cachedir).
const TAG: (&str, &str) = (
    "CACHEDIR.TAG",
    "Signature: 8a477f597d28d172789f06886806bc55\n# Copies of parts of repositories. May be deleted at any time.\n",
);

/// Copies of objects of one repository.
pub struct Cache {
    path: PathBuf,
    /// Replaced when somebody has deleted the directory.
    store: RwLock<Arc<DirectoryStore>>,
    bytes_max: u64,
    used: Mutex<u64>,
    warned: AtomicBool,
}

impl Cache {
    /// Opens the copies of the repository `id` (the id in its configuration) below `directory`, made if it is missing,
    /// to hold `bytes_max` bytes at most.
    ///
    /// # Errors
    /// `Other` if the id is no name; as [`DirectoryStore::create`].
    pub fn open(directory: &Path, id: &str, bytes_max: u64) -> Result<Self, StoreError> {
        if !is_part(id.as_bytes()) {
            let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
            return Err(failed("open", id, StoreErrorKind::Other, source));
        }
        let path = directory.join(id);
        let store = DirectoryStore::create(&path)?;
        let tag = directory.join(TAG.0);
        if !tag.exists() {
            // Nothing depends on it.
            let _ = std::fs::write(tag, TAG.1);
        }
        let cache = Self {
            path,
            store: RwLock::new(Arc::new(store)),
            bytes_max,
            used: Mutex::new(0),
            warned: AtomicBool::new(false),
        };
        cache.shrink(&mut cache.used.lock());
        Ok(cache)
    }

    /// Bytes it holds, as far as this process knows.
    #[must_use]
    pub fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// The copy of an object of at most `limit` bytes. **Unchecked**: see above.
    #[must_use]
    pub fn get(&self, name: &str, limit: u64) -> Option<Bytes> {
        let bytes = self.store.read().get(name, limit).ok()?;
        self.note_use(name);
        Some(bytes)
    }

    /// A part of the copy of an object, if it has that part. **Unchecked**: see above.
    #[must_use]
    pub fn get_range(&self, name: &str, range: Range<u64>) -> Option<Bytes> {
        let bytes = self.store.read().get_range(name, range).ok()?;
        self.note_use(name);
        Some(bytes)
    }

    /// Keeps a copy, unless it would take more than a quarter of the room.
    pub fn put(&self, name: &str, bytes: &Bytes) {
        let size = bytes.len() as u64;
        if size > self.bytes_max / 4 {
            return;
        }
        let before = self.store.read().clone();
        let mut put = before.put_unsynced(name, bytes);
        if put.is_err() && !self.path.exists() && self.make_again(&before) {
            put = self.store.read().put_unsynced(name, bytes);
        }
        match put {
            Ok(()) => {
                let used = &mut *self.used.lock();
                *used += size;
                if *used > self.bytes_max {
                    self.shrink(used);
                }
            }
            // Once: a full disk fails every put.
            Err(error) if !self.warned.swap(true, Ordering::Relaxed) => {
                tracing::warn!(path = %self.path.display(), %error, cause = %error.source, "the cache keeps nothing");
            }
            Err(_) => {}
        }
    }

    /// Drops the copy of an object: it is damaged, or the object is gone.
    pub fn forget(&self, name: &str) {
        let used = &mut *self.used.lock();
        let size = self.store.read().size(name).unwrap_or(0);
        if self.remove(name) {
            *used = used.saturating_sub(size);
        }
    }

    /// Drops the copies below a directory (`index`, `snapshots`) whose names `is_kept` does not want: those of objects
    /// that the repository no longer has.
    pub fn retain(&self, directory: &str, is_kept: &dyn Fn(&str) -> bool) {
        let mut gone = Vec::new();
        let store = self.store.read().clone();
        let listed = store.list(directory, &mut |entry: Entry| {
            if !is_kept(&entry.name) {
                gone.push(entry.name);
            }
            true
        });
        if listed.is_ok() {
            gone.iter().for_each(|name| self.forget(name));
        }
    }

    /// Makes the directory again, unless another thread has.
    fn make_again(&self, before: &Arc<DirectoryStore>) -> bool {
        let mut store = self.store.write();
        if !Arc::ptr_eq(&store, before) {
            return true;
        }
        let Ok(made) = DirectoryStore::create(&self.path) else { return false };
        *store = Arc::new(made);
        // Given back first: others hold the count while they ask for the store.
        drop(store);
        *self.used.lock() = 0;
        true
    }

    /// Removes a file; not durably, unlike the store's own removal.
    fn remove(&self, name: &str) -> bool {
        super::name::is_name(name) && std::fs::remove_file(self.path.join(name)).is_ok()
    }

    /// Counts anew and, beyond the bound, removes what was not used for longest.
    fn shrink(&self, used: &mut u64) {
        let mut entries = Vec::new();
        let store = self.store.read().clone();
        let listed = store.list("", &mut |entry| {
            entries.push(entry);
            true
        });
        *used = entries.iter().map(|entry| entry.size).sum();
        if listed.is_err() || *used <= self.bytes_max {
            return;
        }
        entries.sort_by_key(|entry| entry.modified);
        let wanted = self.bytes_max / 10 * 9;
        for entry in entries {
            if *used <= wanted {
                break;
            }
            if self.remove(&entry.name) {
                *used = used.saturating_sub(entry.size);
            }
        }
    }

    /// Remembers in the file's time that it was used.
    fn note_use(&self, name: &str) {
        let now = SystemTime::now();
        let Ok(file) = std::fs::File::open(self.path.join(name)) else { return };
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let is_recent = modified
            .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age < USED_AGAIN_AFTER));
        if !is_recent {
            // At worst it goes earlier than it should.
            let _ = file.set_modified(now);
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({}, {} of {} bytes)", self.path.display(), self.used(), self.bytes_max)
    }
}

#[cfg(test)]
mod tests;
