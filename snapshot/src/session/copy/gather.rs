//! Bringing everything that a tree needs into another repository.
//!
//! Trees are read some at a time, sorted by their packs, the deepest first, so that few wait. Blobs of files that are not
//! there are gathered, and read pack by pack by several threads when they are many: a store far away is asked for megabytes,
//! and not by one reader that waits for each answer.
//!
//! What turns out to be damaged is noted with the path that needs it, and no other pack is begun. A store that does not
//! answer is a failure, and says nothing about the session.

use super::{Counts, WANTED_MAX};
use crate::repository::read::PackRead;
use crate::repository::upkeep::Watch;
use crate::repository::{
    BlobKind, BlobWriter, Id, Location, ObjectKind, Repository, RepositoryError, RepositoryErrorKind,
    read_tree,
};
use crate::session::{MISSED_MAX, Missed, SessionError};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Trees that are read at a time; few in tests.
const TREES_AT_ONCE: usize = if cfg!(test) { 1 } else { 256 };
/// Threads that read blobs.
const READERS: usize = 4;
/// Bytes of a path that are kept for a message.
const PATH_SHOWN_MAX: usize = 4096;

/// Where what is looked for lies, by pack; what is in no index.
type Places = (Vec<PackRead>, Vec<Id>);

/// Brings blobs from one repository to a writer of another.
pub(super) struct Gatherer<'g> {
    from: &'g Repository,
    to: &'g BlobWriter,
    watch: &'g dyn Watch,
    trees: AtomicU64,
    blobs: AtomicU64,
    bytes: AtomicU64,
    bytes_stored: AtomicU64,
    damaged: Mutex<Vec<Missed>>,
}

/// What is still to be looked at of a tree.
#[derive(Default)]
struct Left {
    trees: Vec<(Vec<u8>, Id)>,
    /// Each tree is looked at once, however often it is named.
    seen: HashSet<Id>,
    /// Blobs that are not there, with the number of the file that needs them.
    wanted: HashMap<Id, usize>,
    files: Vec<Vec<u8>>,
}

impl Left {
    fn want(&mut self, path: &[u8], blobs: &[Id], to: &BlobWriter) -> Result<(), RepositoryError> {
        let mut is_new = true;
        for id in blobs {
            if self.wanted.contains_key(id) || to.holds(BlobKind::Data, id)? {
                continue;
            }
            if is_new {
                self.files.push(path.to_vec());
                is_new = false;
            }
            self.wanted.insert(*id, self.files.len() - 1);
        }
        Ok(())
    }
}

impl<'g> Gatherer<'g> {
    pub fn new(from: &'g Repository, to: &'g BlobWriter, watch: &'g dyn Watch) -> Self {
        let (trees, blobs) = (AtomicU64::new(0), AtomicU64::new(0));
        let (bytes, bytes_stored) = (AtomicU64::new(0), AtomicU64::new(0));
        Gatherer { from, to, watch, trees, blobs, bytes, bytes_stored, damaged: Mutex::default() }
    }

    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::SeqCst);
        Counts {
            trees: read(&self.trees),
            blobs: read(&self.blobs),
            bytes: read(&self.bytes),
            bytes_stored: read(&self.bytes_stored),
        }
    }

    /// The first objects that need what cannot be had.
    pub fn damaged(&self) -> Vec<Missed> {
        self.damaged.lock().clone()
    }

    /// Brings everything. Whoever returns from it looks at [`Gatherer::damaged`].
    ///
    /// # Errors
    /// `Cancelled`; those of both repositories, but for what is damaged where the session lies.
    pub fn gather(&self, root: &Id) -> Result<(), SessionError> {
        self.trees.store(0, Ordering::SeqCst);
        let mut left = Left::default();
        left.seen.insert(*root);
        left.trees.push((Vec::new(), *root));
        while !left.trees.is_empty() && !self.is_damaged() {
            self.go_on()?;
            let some = left.trees.split_off(left.trees.len().saturating_sub(TREES_AT_ONCE));
            self.look_at(some, &mut left)?;
        }
        if self.is_damaged() { Ok(()) } else { self.fetch(&mut left) }
    }

    fn is_damaged(&self) -> bool {
        !self.damaged.lock().is_empty()
    }

    fn go_on(&self) -> Result<(), SessionError> {
        if self.watch.cancelled() { Err(SessionError::Cancelled) } else { Ok(()) }
    }

    /// Reads trees, has them stored, and notes what they need.
    fn look_at(&self, some: Vec<(Vec<u8>, Id)>, left: &mut Left) -> Result<(), SessionError> {
        let paths: HashMap<Id, Vec<u8>> = some.into_iter().map(|(path, id)| (id, path)).collect();
        let path_of = |id: &Id| paths.get(id).map(Vec::as_slice).unwrap_or_default();
        let (reads, lost) = self.places(BlobKind::Tree, paths.keys())?;
        for id in lost {
            self.lose(path_of(&id), &RepositoryError::BlobNotFound { kind: BlobKind::Tree, id });
        }
        for read in reads {
            self.go_on()?;
            let mut outcome = Ok(());
            self.from.read_pack(&read, &mut |place, plain| {
                let path = path_of(&place.id);
                outcome = self.proved(place, path, plain).and_then(|plain| match plain {
                    Some(plain) => self.tree(&place.id, path, plain, left),
                    None => Ok(()),
                });
                outcome.is_ok()
            });
            outcome?;
        }
        Ok(())
    }

    fn tree(&self, id: &Id, path: &[u8], plain: &[u8], left: &mut Left) -> Result<(), SessionError> {
        let mut outcome = Ok(());
        let read = read_tree(id, plain, &mut |node| {
            let below = joined(path, &node.name);
            outcome = left.want(&below, &node.content, self.to).map_err(SessionError::from);
            // Within a directory too: there is no limit to what one holds.
            if outcome.is_ok() && left.wanted.len() >= WANTED_MAX {
                outcome = self.fetch(left);
            }
            if let Some(subtree) = node.subtree
                && left.seen.insert(subtree)
            {
                left.trees.push((below, subtree));
            }
            outcome.is_ok()
        });
        outcome?;
        match read {
            // What nobody can read is not called a copy.
            Err(error) if is_damage(&error) => self.lose(path, &error),
            Err(error) => return Err(error.into()),
            Ok(_) => drop(self.save(BlobKind::Tree, plain)?),
        }
        let trees = self.trees.fetch_add(1, Ordering::SeqCst) + 1;
        self.watch.progress("trees", trees, None, "objects");
        Ok(())
    }

    /// Reads the blobs that are wanted, on several threads, and has them stored.
    fn fetch(&self, left: &mut Left) -> Result<(), SessionError> {
        let (wanted, files) = (std::mem::take(&mut left.wanted), std::mem::take(&mut left.files));
        let path_of = |id: &Id| wanted.get(id).and_then(|number| files.get(*number));
        let path_of = |id: &Id| path_of(id).map(Vec::as_slice).unwrap_or_default();
        let (reads, lost) = self.places(BlobKind::Data, wanted.keys())?;
        for id in lost {
            self.lose(path_of(&id), &RepositoryError::BlobNotFound { kind: BlobKind::Data, id });
        }
        let (reads, failed) = (Mutex::new(VecDeque::from(reads)), AtomicBool::new(false));
        let work = || -> Result<(), SessionError> {
            while !failed.load(Ordering::SeqCst) && !self.is_damaged() {
                let Some(read) = reads.lock().pop_front() else { break };
                let mut outcome = Ok(());
                self.from.read_pack(&read, &mut |place, plain| {
                    outcome = self.go_on().and_then(|()| self.blob(place, path_of(&place.id), plain));
                    outcome.is_ok() && !failed.load(Ordering::SeqCst)
                });
                if outcome.is_err() {
                    failed.store(true, Ordering::SeqCst);
                }
                outcome?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(work)).collect();
            let ended =
                readers.into_iter().map(|reader| reader.join().unwrap_or(Err(SessionError::ThreadEnded)));
            ended.fold(Ok(()), Result::and)
        })
    }

    fn blob(
        &self,
        place: &Location,
        path: &[u8],
        plain: Result<&[u8], RepositoryError>,
    ) -> Result<(), SessionError> {
        let Some(plain) = self.proved(place, path, plain)? else { return Ok(()) };
        self.save(BlobKind::Data, plain)?;
        self.blobs.fetch_add(1, Ordering::SeqCst);
        let bytes = self.bytes.load(Ordering::SeqCst);
        self.watch.progress("copy", bytes, None, "bytes");
        Ok(())
    }

    fn save(&self, kind: BlobKind, plain: &[u8]) -> Result<(), SessionError> {
        let saved = self.to.save_blob(kind, plain)?;
        if saved.is_new {
            self.bytes.fetch_add(plain.len() as u64, Ordering::SeqCst);
            self.bytes_stored.fetch_add(saved.stored_bytes, Ordering::SeqCst);
        }
        Ok(())
    }

    /// What was read, unless it is damaged, which is noted.
    fn proved<'p>(
        &self,
        place: &Location,
        path: &[u8],
        plain: Result<&'p [u8], RepositoryError>,
    ) -> Result<Option<&'p [u8]>, SessionError> {
        match plain {
            Ok(plain) => Ok(Some(plain)),
            Err(error) if is_damage(&error) || self.is_beyond(place) => {
                self.lose(path, &error);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a pack that is there ends before a place in it does. A store calls that a failure of the call.
    fn is_beyond(&self, place: &Location) -> bool {
        let size = self.from.store().size(&ObjectKind::Pack.name(&place.pack));
        size.is_ok_and(|size| u64::from(place.offset) + u64::from(place.length) > size)
    }

    /// Where blobs lie, after a second look into the index for those that are not in it.
    fn places<'i>(
        &self,
        kind: BlobKind,
        wanted: impl Iterator<Item = &'i Id> + Clone,
    ) -> Result<Places, SessionError> {
        let index = self.from.index()?;
        if wanted.clone().any(|id| !index.contains(kind, id)) {
            self.from.reload_index()?;
        }
        let mut by_pack: HashMap<Id, Vec<Location>> = HashMap::new();
        let mut lost = Vec::new();
        for id in wanted {
            match index.lookup(kind, id) {
                Some(place) => by_pack.entry(place.pack).or_default().push(place),
                None => lost.push(*id),
            }
        }
        let reads = by_pack.into_iter().map(|(pack, mut blobs)| {
            blobs.sort_unstable_by_key(|blob| (blob.offset, blob.id));
            PackRead { pack, blobs }
        });
        Ok((reads.collect(), lost))
    }

    fn lose(&self, path: &[u8], error: &RepositoryError) {
        let mut damaged = self.damaged.lock();
        if damaged.len() < MISSED_MAX {
            let reason = crate::repository::chain(error);
            damaged.push(Missed { path: [b"/", path].concat(), reason });
        }
    }
}

/// Whether it says that what is stored is not what it was.
fn is_damage(error: &RepositoryError) -> bool {
    matches!(error.kind(), RepositoryErrorKind::Damaged | RepositoryErrorKind::NotFound)
}

/// The path of what is in a directory; of one that is too long to be shown the directory's.
fn joined(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        _ if path.len() + name.len() >= PATH_SHOWN_MAX => path.to_vec(),
        [] => name.to_vec(),
        _ => [path, b"/", name].concat(),
    }
}
