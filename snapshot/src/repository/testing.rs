//! What the tests of this module share: stores in memory and in a directory, a generator, and the program restic.
//!
//! The stores keep the contract of [`BlobStore`] as far as these tests need it; the real ones have a suite of their own.

use super::{KeyCost, Repository, RepositoryOptions};
use crate::store::{BlobStore, Entry, StoreError, StoreErrorKind};
use bytes::Bytes;
use parking_lot::Mutex;
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

/// Objects in memory, with faults.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pub objects: Mutex<BTreeMap<String, Bytes>>,
    /// Puts below `data/` that succeed before all fail; negative: none fails.
    pub puts_left: AtomicI64,
    pub reads: AtomicU64,
    /// When the first is read it is gone, and the second is there with these bytes.
    pub instead: Mutex<Option<(String, String, Bytes)>>,
    /// Where those meet who are about to write a lock.
    pub before_lock: Mutex<Option<Arc<Barrier>>>,
    /// What should fail panics instead.
    pub panics: AtomicBool,
    /// What it says of [`BlobStore::connections`].
    pub connections: AtomicUsize,
    /// Names in the order of their puts.
    pub puts: Mutex<Vec<String>>,
}

impl MemoryStore {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { puts_left: AtomicI64::new(-1), ..Self::default() })
    }

    pub fn names(&self, directory: &str) -> Vec<String> {
        self.objects.lock().keys().filter(|name| name.starts_with(directory)).cloned().collect()
    }

    /// Changes the bytes of an object.
    pub fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut objects = self.objects.lock();
        let mut bytes = objects[name].to_vec();
        edit(&mut bytes);
        objects.insert(name.into(), bytes.into());
    }
}

pub fn store_error(operation: &'static str, name: &str, kind: StoreErrorKind) -> StoreError {
    StoreError { operation, name: name.into(), kind, source: "as the test wants it".into() }
}

impl BlobStore for MemoryStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        if name.starts_with("data/") {
            let left = self.puts_left.load(Ordering::SeqCst);
            if left == 0 {
                assert!(!self.panics.load(Ordering::SeqCst), "as the test wants it");
                return Err(store_error("put", name, StoreErrorKind::Full));
            }
            self.puts_left.store(left - 1, Ordering::SeqCst);
        }
        let barrier = self.before_lock.lock().clone().filter(|_| name.starts_with("locks/"));
        if let Some(barrier) = barrier {
            barrier.wait();
        }
        self.puts.lock().push(name.into());
        self.objects.lock().insert(name.into(), bytes);
        Ok(())
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let instead = self.instead.lock().take_if(|(old, ..)| old == name);
        if let Some((old, new, bytes)) = instead {
            let mut objects = self.objects.lock();
            objects.remove(&old);
            objects.insert(new, bytes);
        }
        let objects = self.objects.lock();
        let bytes = objects.get(name).ok_or_else(|| store_error("get", name, StoreErrorKind::NotFound))?;
        if bytes.len() as u64 > limit {
            return Err(store_error("get", name, StoreErrorKind::Other));
        }
        Ok(bytes.clone())
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let objects = self.objects.lock();
        let bytes = objects.get(name).ok_or_else(|| store_error("get", name, StoreErrorKind::NotFound))?;
        if range.end > bytes.len() as u64 || range.start > range.end {
            return Err(store_error("get", name, StoreErrorKind::Other));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        let objects = self.objects.lock();
        let bytes = objects.get(name).ok_or_else(|| store_error("size", name, StoreErrorKind::NotFound))?;
        Ok(bytes.len() as u64)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        for name in self.names(&format!("{directory}/")) {
            let size = self.objects.lock().get(&name).map_or(0, |bytes| bytes.len() as u64);
            if !each(Entry { name, size, modified: None }) {
                break;
            }
        }
        Ok(())
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.objects.lock().remove(name);
        Ok(())
    }
}

/// Objects in a directory, so that restic can look at them.
#[derive(Debug)]
pub struct PlainDirectory(pub PathBuf);

impl PlainDirectory {
    fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        std::fs::read(self.0.join(name)).map(Bytes::from).map_err(|source| {
            let missing = source.kind() == std::io::ErrorKind::NotFound;
            let kind = if missing { StoreErrorKind::NotFound } else { StoreErrorKind::Other };
            StoreError { operation: "get", name: name.into(), kind, source: source.into() }
        })
    }
}

impl BlobStore for PlainDirectory {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, bytes).unwrap();
        std::fs::rename(temporary, path).unwrap();
        Ok(())
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.read(name).inspect(|bytes| assert!(bytes.len() as u64 <= limit))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let bytes = self.read(name)?;
        if range.end > bytes.len() as u64 {
            return Err(store_error("get", name, StoreErrorKind::Other));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        self.read(name).map(|bytes| bytes.len() as u64)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        let mut left = vec![directory.to_owned()];
        while let Some(directory) = left.pop() {
            let Ok(entries) = std::fs::read_dir(self.0.join(&directory)) else { continue };
            for entry in entries {
                let entry = entry.unwrap();
                let name = format!("{directory}/{}", entry.file_name().to_str().unwrap());
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    left.push(name);
                } else if !each(Entry { name, size: metadata.len(), modified: None }) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let _ = std::fs::remove_file(self.0.join(name));
        Ok(())
    }
}

pub fn password(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

/// Cheap keys, since tests open many repositories.
pub fn quick() -> RepositoryOptions {
    RepositoryOptions { key_cost: KeyCost { log_n: 4, r: 8, p: 1 }, ..RepositoryOptions::default() }
}

/// A new repository in memory.
pub fn fresh() -> (Arc<MemoryStore>, Arc<Repository>) {
    let store = MemoryStore::new();
    let repository = Repository::init(Arc::clone(&store) as _, &password("secret"), quick()).unwrap();
    (store, Arc::new(repository))
}

pub fn reopen(store: &Arc<MemoryStore>) -> Arc<Repository> {
    let store = Arc::clone(store);
    Arc::new(Repository::open_with(store, &password("secret"), quick()).unwrap())
}

/// A small generator (xorshift64*), seeded; the seed is printed by whoever makes one from the clock.
pub struct Random(pub u64);

impl Random {
    pub fn from_clock(test: &str) -> Self {
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
        let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(seed);
        println!("{test}: seed {seed} (set SEED to repeat)");
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// Bytes that do.
    pub fn text(&mut self, length: usize) -> Vec<u8> {
        let mut text = Vec::new();
        while text.len() < length {
            text.extend_from_slice(format!("line {} of this\n", self.below(1000)).as_bytes());
        }
        text.truncate(length);
        text
    }
}

/// The program restic with a repository of its own cache.
pub struct Restic {
    repository: PathBuf,
    password: &'static str,
    cache: tempfile::TempDir,
}

impl Restic {
    /// `None`, with a printed reason, where restic is not installed.
    pub fn new(repository: &Path, password: &'static str) -> Option<Self> {
        if let Err(error) = Command::new("restic").arg("version").output() {
            println!("not run: the program restic cannot be started ({error})");
            return None;
        }
        Some(Self { repository: repository.into(), password, cache: tempfile::tempdir().unwrap() })
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new("restic")
            .args(arguments)
            .env("RESTIC_REPOSITORY", &self.repository)
            .env("RESTIC_PASSWORD", self.password)
            .env("RESTIC_CACHE_DIR", self.cache.path())
            .output()
            .unwrap()
    }

    /// Output of a run that must succeed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "restic {arguments:?}: {stdout}{stderr}");
        stdout
    }
}
