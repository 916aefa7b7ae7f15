//! A repository in restic format version 2.
//!
//! Its objects lie in a [`BlobStore`]; [`FORMAT.md`](../FORMAT.md) says what is in them. Everything here is blocking.
//!
//! - [`crypto`] seals and opens; [`keys`] keeps the key under passwords; [`config`] says what the repository is.
//! - [`pack`] and [`index`] hold blobs and say where they lie; [`compress`] makes them smaller; [`chunk`] cuts files.
//! - [`writer`] saves blobs from many threads; [`read`] loads them, one or a pack at a time.
//! - [`upkeep`] forgets sessions, removes what nothing needs, and checks what is there.
//! - [`tree`] is a directory, [`walk`] goes through all of them, [`session`] is a backup, [`lock`] says who is there.
//!
//! The commit order is packs, index files, session record, each durable before the next is begun. So a record that is
//! found has everything it needs, and whatever is cut off leaves objects that nothing refers to.
//!
//! Nothing that was read is believed: seals are checked before decryption, ids after it, lengths against stated limits.
//! Refused are repositories of unknown versions, and initializing where something is.

pub mod base64;
pub mod chunk;
pub mod compress;
pub mod config;
pub mod crypto;
pub mod error;
pub mod id;
pub mod index;
pub mod keys;
pub mod lock;
mod names;
pub mod pack;
pub mod read;
pub mod session;
pub mod time;
pub mod tree;
pub mod upkeep;
pub mod walk;
pub mod writer;

pub use chunk::Chunker;
pub use error::{RepositoryError, RepositoryErrorKind};
pub use id::{BlobKind, Id, ObjectKind};
pub use index::{Index, Location};
pub use keys::{KeyCost, KeyInfo};
pub use lock::{Identity, Lock, LockOptions, Purpose};
pub use session::SessionRecord;
pub use time::Timestamp;
pub use tree::{Node, NodeKind, TreeBuilder, Xattr, read_tree};
pub use walk::Step;
pub use writer::{BlobWriter, Commit, Missing, Saved, SavedFile, WriterOptions, Written};

use crate::store::BlobStore;
use compress::CodecPool;
use config::{CONFIG_BYTES_MAX, Config};
use crypto::{OVERHEAD, SealKey};
use id::CONFIG_NAME;
use index::{INDEX_FILE_BYTES_MAX, Index as Table};
use parking_lot::Mutex;
use secrecy::SecretString;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How a repository is made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepositoryOptions {
    /// Cost of trying a password, for keys that are written.
    pub key_cost: KeyCost,
    /// Level of zstd for blobs that are written.
    pub level: i32,
}

impl Default for RepositoryOptions {
    fn default() -> Self {
        Self { key_cost: KeyCost::default(), level: compress::LEVEL_DEFAULT }
    }
}

/// An open repository. Threads share it.
#[derive(Debug)]
pub struct Repository {
    store: Arc<dyn BlobStore>,
    key: SealKey,
    key_id: Id,
    config: Config,
    options: RepositoryOptions,
    codecs: CodecPool,
    /// Sessions that were proved whole by this process, and how often blobs had left the index then.
    proofs: Mutex<HashMap<Id, u64>>,
    index: OnceLock<Table>,
    /// The index files that are in `index`. Held while some are read or written, so that a reload cannot miss what is
    /// being saved.
    index_files: Mutex<HashSet<Id>>,
    /// `None`: sessions have the names of their records.
    names: Option<names::Names>,
}

impl Repository {
    /// Makes a repository with one key. The key is durable before the config, whose presence makes it a repository.
    ///
    /// # Errors
    /// `AlreadyExists`; `Store`, `Random`, `KeyParameter`.
    pub fn init(
        store: Arc<dyn BlobStore>,
        password: &SecretString,
        options: RepositoryOptions,
    ) -> Result<Self, RepositoryError> {
        if exists(&*store)? {
            return Err(RepositoryError::AlreadyExists { object: CONFIG_NAME.into() });
        }
        // Data without a config is a repository that lost it, and no place for another.
        if let Some(object) = first_object(&*store)? {
            return Err(RepositoryError::AlreadyExists { object });
        }
        let key = SealKey::random()?;
        let config = Config::random()?;
        let key_id = keys::create(&*store, &key, password, options.key_cost, &Identity::of_process())?;
        store.put(CONFIG_NAME, key.seal(&config.to_json()?)?.into())?;
        // Of two that init at the same time the last config counts; the other's key does not open it.
        match read_config(&*store, &key) {
            Ok(found) if found.id == config.id => {}
            Err(error @ RepositoryError::Store { .. }) => return Err(error),
            Ok(_) | Err(_) => return Err(RepositoryError::AlreadyExists { object: CONFIG_NAME.into() }),
        }
        Ok(Self::assemble(store, key, key_id, config, options))
    }

    /// Opens a repository with the default options.
    ///
    /// # Errors
    /// `NoRepository`, `WrongPassword`, `UnsupportedVersion`, `Damaged`, `Json`, `Store`, `KeyParameter`.
    pub fn open(store: Arc<dyn BlobStore>, password: &SecretString) -> Result<Self, RepositoryError> {
        Self::open_with(store, password, RepositoryOptions::default())
    }

    /// Opens a repository. Index files are read when a blob is first looked for.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open_with(
        store: Arc<dyn BlobStore>,
        password: &SecretString,
        options: RepositoryOptions,
    ) -> Result<Self, RepositoryError> {
        if !exists(&*store)? {
            return Err(RepositoryError::NoRepository);
        }
        let (key_id, key, config) = keys::open(&*store, password, &mut |id, key| {
            let config = read_config(&*store, &key)?;
            Ok((id, key, config))
        })?;
        Ok(Self::assemble(store, key, key_id, config, options))
    }

    fn assemble(
        store: Arc<dyn BlobStore>,
        key: SealKey,
        key_id: Id,
        config: Config,
        options: RepositoryOptions,
    ) -> Self {
        let codecs = CodecPool::new(options.level);
        let proofs = Mutex::default();
        let (index, index_files) = (OnceLock::new(), Mutex::default());
        Self { store, key, key_id, config, options, codecs, proofs, index, index_files, names: None }
    }

    /// Where the objects lie.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn BlobStore> {
        &self.store
    }

    /// What the repository is.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The key file that the password opened.
    #[must_use]
    pub fn key_id(&self) -> Id {
        self.key_id
    }

    /// The key itself, for reading packs without their index ([`pack::read_header`]).
    #[must_use]
    pub fn seal_key(&self) -> &SealKey {
        &self.key
    }

    pub(crate) fn codecs(&self) -> &CodecPool {
        &self.codecs
    }

    /// Adds a key with a password of its own.
    ///
    /// # Errors
    /// `Store`, `Random`, `KeyParameter`.
    pub fn add_key(&self, password: &SecretString) -> Result<Id, RepositoryError> {
        keys::create(&*self.store, &self.key, password, self.options.key_cost, &Identity::of_process())
    }

    /// The keys there are.
    ///
    /// # Errors
    /// `Store`, `TooLarge`.
    pub fn list_keys(&self) -> Result<Vec<KeyInfo>, RepositoryError> {
        keys::list(&*self.store)
    }

    /// Removes a key other than the one in use, so that there is always one that somebody knows.
    ///
    /// # Errors
    /// `KeyInUse`, `KeyNotFound`, `Store`.
    pub fn remove_key(&self, key: &Id) -> Result<(), RepositoryError> {
        if *key == self.key_id {
            return Err(RepositoryError::KeyInUse { key: *key });
        }
        if !keys::list_ids(&*self.store)?.contains(key) {
            return Err(RepositoryError::KeyNotFound { key: *key });
        }
        Ok(self.store.delete(&ObjectKind::Key.name(key))?)
    }

    /// Ids of all objects of a kind, in order. Objects with other names are not the repository's.
    ///
    /// # Errors
    /// `Store`.
    pub fn list_ids(&self, kind: ObjectKind) -> Result<Vec<Id>, RepositoryError> {
        let mut ids = Vec::new();
        self.store.list(kind.directory(), &mut |entry| {
            ids.extend(kind.id_in(&entry.name));
            true
        })?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Writes JSON as an object of its own: index, session record or lock. Returns its name's id.
    ///
    /// # Errors
    /// `Store`, `Zstd`, `Random`.
    pub fn save_unpacked(&self, kind: ObjectKind, json: &[u8]) -> Result<Id, RepositoryError> {
        if self.config.compresses() {
            self.save_packed(kind, &compress::pack_unpacked(json)?)
        } else {
            self.save_packed(kind, json)
        }
    }

    /// As [`Repository::save_unpacked`], of JSON that nobody needs afterwards: it is let go of before it is sealed.
    fn save_unpacked_once(&self, kind: ObjectKind, json: Vec<u8>) -> Result<Id, RepositoryError> {
        let packed = if self.config.compresses() {
            let packed = compress::pack_unpacked(&json)?;
            drop(json);
            packed
        } else {
            json
        };
        self.save_packed(kind, &packed)
    }

    fn save_packed(&self, kind: ObjectKind, packed: &[u8]) -> Result<Id, RepositoryError> {
        let sealed = self.key.seal(packed)?;
        let id = Id::of(&sealed);
        self.store.put(&kind.name(&id), sealed.into())?;
        Ok(id)
    }

    /// Reads such an object, at most `limit` bytes of JSON. The name is the hash of the sealed bytes and is checked.
    ///
    /// # Errors
    /// `Damaged`, `Store`.
    pub fn load_unpacked(&self, kind: ObjectKind, id: &Id, limit: usize) -> Result<Vec<u8>, RepositoryError> {
        let name = kind.name(id);
        let damaged = |what| RepositoryError::damaged(&*name, 0, what);
        // Incompressible bytes grow a little.
        let sealed_max = limit + limit / 64 + OVERHEAD + 1024;
        let mut sealed = Vec::from(self.store.get(&name, sealed_max as u64)?);
        if Id::of(&sealed) != *id {
            return Err(damaged("its bytes do not have the hash it is named by"));
        }
        let plain = self
            .key
            .open_in_place(&mut sealed)
            .map_err(|_| damaged("it was not written with this repository's key"))?;
        compress::unpack_unpacked(plain, limit)
            .ok_or_else(|| damaged("its compression is damaged, unknown or too large"))
    }

    /// Where blobs lie; read from all index files when first asked for.
    ///
    /// # Errors
    /// `Damaged`, `Json`, `Store`.
    pub fn index(&self) -> Result<&Table, RepositoryError> {
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let mut files = self.index_files.lock();
        if let Some(index) = self.index.get() {
            return Ok(index);
        }
        let (loaded, ids) = self.read_index_files(&HashSet::new())?;
        *files = ids;
        Ok(self.index.get_or_init(|| loaded))
    }

    /// Sees what others did to the index files since: those that are new are read; if some are gone, all are read. Packs
    /// that are durable and not yet in an index file stay known. Costs a listing when nothing happened.
    ///
    /// # Errors
    /// As [`Repository::index`]; the index stays as it was then.
    pub fn reload_index(&self) -> Result<(), RepositoryError> {
        let index = self.index()?;
        let mut files = self.index_files.lock();
        let (loaded, ids) = self.read_index_files(&files)?;
        if files.is_subset(&ids) {
            index.merge(loaded)?;
        } else {
            index.replace(loaded)?;
        }
        *files = ids;
        Ok(())
    }

    /// What the files hold that are not known, or all files if a known one is gone; and the ids of all there are. A file
    /// that is replaced by another while we read is gone; then all are listed again.
    fn read_index_files(&self, known: &HashSet<Id>) -> Result<(Table, HashSet<Id>), RepositoryError> {
        const ATTEMPTS: usize = 5;
        let mut attempt = 1;
        loop {
            match self.try_read_index_files(known) {
                Err(error) if error.kind() == RepositoryErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// A file counts as long as it is there, also when another says that it supersedes it: restic writes the first of
    /// several new files with that remark before the others are durable, and removes the old ones last. Who believed the
    /// remark would lose sight of packs that a killed prune left in the old files only.
    fn try_read_index_files(&self, known: &HashSet<Id>) -> Result<(Table, HashSet<Id>), RepositoryError> {
        let ids: HashSet<Id> = self.list_ids(ObjectKind::Index)?.into_iter().collect();
        let all = !known.is_subset(&ids);
        let mut loader = index::IndexLoader::default();
        for id in ids.iter().filter(|id| all || !known.contains(*id)) {
            let json = self.load_unpacked(ObjectKind::Index, id, INDEX_FILE_BYTES_MAX)?;
            loader.add_file(&ObjectKind::Index.name(id), &json)?;
        }
        Ok((loader.finish(), ids))
    }

    /// Writes index files as long as one is due after `after` (none: until nothing is unsaved). How many.
    ///
    /// # Errors
    /// `Store`, `Zstd`, `Random`. What was not written stays unsaved.
    pub(crate) fn save_index(&self, after: Option<Duration>) -> Result<u64, RepositoryError> {
        let index = self.index()?;
        let mut files = self.index_files.lock();
        let mut written = 0;
        loop {
            let packs = index.next_unsaved();
            if packs.is_empty() || after.is_some_and(|after| !index.is_due(after)) {
                return Ok(written);
            }
            files.insert(self.save_unpacked_once(ObjectKind::Index, index::to_json(&packs))?);
            index.saved(&packs);
            written += 1;
        }
    }
}

fn exists(store: &dyn BlobStore) -> Result<bool, RepositoryError> {
    match store.size(CONFIG_NAME) {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn first_object(store: &dyn BlobStore) -> Result<Option<String>, RepositoryError> {
    let mut found = None;
    for kind in [ObjectKind::Pack, ObjectKind::Index, ObjectKind::Snapshot] {
        store.list(kind.directory(), &mut |entry| {
            found = kind.id_in(&entry.name).map(|_| entry.name);
            found.is_none()
        })?;
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

fn read_config(store: &dyn BlobStore, key: &SealKey) -> Result<Config, RepositoryError> {
    let mut sealed = Vec::from(store.get(CONFIG_NAME, CONFIG_BYTES_MAX)?);
    let json = key
        .open_in_place(&mut sealed)
        .map_err(|_| RepositoryError::damaged(CONFIG_NAME, 0, "it was not written with this key"))?;
    Config::from_json(json)
}

/// An error and its causes in one line, for logs.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
