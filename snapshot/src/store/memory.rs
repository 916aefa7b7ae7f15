//! A store in memory, for tests: keeps the whole contract but durability, and loses everything when it is dropped.

use super::cause::{bad_range, check_range, failed, too_large};
use super::name::{check_directory, check_name};
use super::{BlobStore, Entry, StoreError, StoreErrorKind};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::time::{SystemTime, UNIX_EPOCH};

/// Names taken from the map at a time by a listing, so that whoever is called may call the store again.
const PAGE: usize = 1000;

/// Objects in memory.
#[derive(Default)]
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Object>>,
}

#[derive(Clone)]
struct Object {
    bytes: Bytes,
    modified: i64,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Objects it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.lock().len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.lock().is_empty()
    }

    /// Every object with its bytes, in the order of names: for a test that compares, or damages a copy.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        self.objects.lock().iter().map(|(name, object)| (name.clone(), object.bytes.clone())).collect()
    }

    fn find(&self, operation: &'static str, name: &str) -> Result<Bytes, StoreError> {
        check_name(operation, name)?;
        let found = self.objects.lock().get(name).map(|object| object.bytes.clone());
        found.ok_or_else(|| {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            failed(operation, name, StoreErrorKind::NotFound, source)
        })
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryStore({} objects)", self.len())
    }
}

impl BlobStore for MemoryStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), StoreError> {
        check_name("put", name)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let object = Object { bytes, modified: i64::try_from(now).unwrap_or(i64::MAX) };
        self.objects.lock().insert(name.to_owned(), object);
        Ok(())
    }

    fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        let bytes = self.find("get", name)?;
        let size = bytes.len() as u64;
        if size > limit { Err(too_large("get", name, size, limit)) } else { Ok(bytes) }
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        check_range(name, &range)?;
        let bytes = self.find("get_range", name)?;
        let size = bytes.len() as u64;
        if range.end > size {
            return Err(bad_range("get_range", name, &range, Some(size)));
        }
        // Both are at most the length of a buffer.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    fn size(&self, name: &str) -> Result<u64, StoreError> {
        Ok(self.find("size", name)?.len() as u64)
    }

    fn list(&self, directory: &str, each: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        check_directory("list", directory)?;
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let mut after = Bound::Included(prefix.clone());
        loop {
            let page: Vec<Entry> = self
                .objects
                .lock()
                .range((after, Bound::Unbounded))
                .take_while(|(name, _)| name.starts_with(&prefix))
                .take(PAGE)
                .map(|(name, object)| Entry {
                    name: name.clone(),
                    size: object.bytes.len() as u64,
                    modified: Some(object.modified),
                })
                .collect();
            let Some(last) = page.last() else { return Ok(()) };
            after = Bound::Excluded(last.name.clone());
            for entry in page {
                if !each(entry) {
                    return Ok(());
                }
            }
        }
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_name("delete", name)?;
        self.objects.lock().remove(name);
        Ok(())
    }
}
