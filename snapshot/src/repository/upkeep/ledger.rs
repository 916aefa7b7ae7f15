//! All index files as they stood at one moment, and what of them is needed.
//!
//! A place of a blob is an entry of fixed width in a sorted list for each kind, with a byte of flags beside it; packs are
//! numbers. Marked packs are here too: what they hold can be put back. The order in which a ledger is made matters: first
//! the packs in the store are listed, then the caller may look at locks, then the index files are read. So a pack that is
//! in the store and in no file was stored by somebody who still holds a lock, or who will never name it any more.

use super::index_json::{IndexFile, Pack};
use crate::repository::error::{RepositoryError, RepositoryErrorKind};
use crate::repository::id::{BlobKind, Id, ObjectKind};
use crate::repository::index::{Entry, Location};
use crate::repository::{Repository, Timestamp};
use std::collections::HashMap;

const NEEDED: u8 = 1;
const CHOSEN: u8 = 2;

/// An index file that was read.
#[derive(Clone, Debug)]
pub(super) struct FileInfo {
    pub id: Id,
    /// Blobs of its packs, not of its marks.
    pub blobs: usize,
    /// Numbers of its packs.
    pub packs: Vec<u32>,
    /// Numbers of the packs it marks.
    pub marks: Vec<u32>,
}

/// A pack.
#[derive(Clone, Debug)]
pub(super) struct PackInfo {
    pub id: Id,
    /// Bytes in the store; `None` if it is not there.
    pub size: Option<u64>,
    /// Whether a file names it as one that counts.
    pub indexed: bool,
    /// When it was stored, by the store's clock, if that says.
    pub modified: Option<i64>,
    /// When it was marked.
    pub marked: Option<Timestamp>,
    /// Places in it.
    pub blobs: u32,
    /// Sealed bytes that a session needs from here.
    pub used_bytes: u64,
    /// All sealed bytes that an index file names.
    pub blob_bytes: u64,
    /// Bytes that a pack with exactly these blobs has.
    pub expected_bytes: u64,
}

impl PackInfo {
    fn stored(&mut self, stored: Option<&(u64, Option<i64>)>) {
        self.size = stored.map(|(size, _)| *size);
        self.modified = stored.and_then(|(_, modified)| *modified);
    }
}

/// Packs in a store, listed before anything else is looked at: bytes, and when each was stored.
pub(super) type Listed = HashMap<Id, (u64, Option<i64>)>;

/// What needing a blob found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It was not needed before.
    First,
    /// It was.
    Again,
    /// No file names it.
    Missing,
}

#[derive(Debug, Default)]
struct Places {
    entries: Vec<Entry>,
    flags: Vec<u8>,
}

/// The ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub files: Vec<FileInfo>,
    pub packs: Vec<PackInfo>,
    numbers: HashMap<Id, u32>,
    data: Places,
    trees: Places,
}

/// The packs there are.
pub(super) fn list_packs(repository: &Repository) -> Result<Listed, RepositoryError> {
    let mut listed = HashMap::new();
    repository.store().list(ObjectKind::Pack.directory(), &mut |entry| {
        listed.extend(ObjectKind::Pack.id_in(&entry.name).map(|id| (id, (entry.size, entry.modified))));
        true
    })?;
    Ok(listed)
}

impl Ledger {
    /// Reads all index files. One that cannot be read is told to `damaged`, which decides whether to go on without it.
    ///
    /// # Errors
    /// `Store`, and what `damaged` says.
    pub fn read(
        repository: &Repository,
        listed: &Listed,
        damaged: &mut dyn FnMut(RepositoryError) -> Result<(), RepositoryError>,
    ) -> Result<Self, RepositoryError> {
        const ATTEMPTS: usize = 5;
        let mut attempt = 1;
        loop {
            match Self::try_read(repository, damaged) {
                // A backup beside us writes files, it removes none; a foreign program may have.
                Err(error) if error.kind() == RepositoryErrorKind::NotFound && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(mut ledger) => {
                    ledger.finish(listed);
                    // A pack may have been stored and named after the packs were listed: it is not missing.
                    if ledger.packs.iter().any(|pack| pack.size.is_none()) {
                        let later = list_packs(repository)?;
                        for pack in ledger.packs.iter_mut().filter(|pack| pack.size.is_none()) {
                            pack.stored(later.get(&pack.id));
                        }
                    }
                    return Ok(ledger);
                }
            }
        }
    }

    fn try_read(
        repository: &Repository,
        damaged: &mut dyn FnMut(RepositoryError) -> Result<(), RepositoryError>,
    ) -> Result<Self, RepositoryError> {
        let mut ledger = Self::default();
        for id in repository.list_ids(ObjectKind::Index)? {
            let file = match IndexFile::load(repository, &id) {
                Ok(file) => file,
                Err(error) if error.kind() == RepositoryErrorKind::Damaged => {
                    damaged(error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let mut info = FileInfo { id, blobs: 0, packs: Vec::new(), marks: Vec::new() };
            for pack in &file.packs {
                let number = ledger.add(pack)?;
                info.blobs += pack.blobs.len();
                info.packs.push(number);
                ledger.pack_mut(number, |pack| pack.indexed = true);
            }
            for pack in &file.packs_to_delete {
                let number = ledger.add(pack)?;
                info.marks.push(number);
                // A mark without a time, or with several, counts from the latest that is known.
                let time = pack.time.unwrap_or_else(Timestamp::now);
                ledger.pack_mut(number, |pack| pack.marked = pack.marked.max(Some(time)));
            }
            ledger.files.push(info);
        }
        Ok(ledger)
    }

    fn pack_mut(&mut self, number: u32, change: impl FnOnce(&mut PackInfo)) {
        if let Some(pack) = self.packs.get_mut(number as usize) {
            change(pack);
        }
    }

    fn number(&mut self, id: Id) -> Result<u32, RepositoryError> {
        if let Some(number) = self.numbers.get(&id) {
            return Ok(*number);
        }
        let number = u32::try_from(self.packs.len()).map_err(|_| RepositoryError::TooLarge {
            what: "the number of packs",
            size: self.packs.len() as u64,
            limit: u32::MAX.into(),
        })?;
        self.numbers.insert(id, number);
        self.packs.push(PackInfo {
            id,
            size: None,
            indexed: false,
            modified: None,
            marked: None,
            blobs: 0,
            used_bytes: 0,
            blob_bytes: 0,
            expected_bytes: 0,
        });
        Ok(number)
    }

    fn add(&mut self, pack: &Pack) -> Result<u32, RepositoryError> {
        let number = self.number(pack.id)?;
        for blob in &pack.blobs {
            let entry = Entry {
                id: blob.id.0,
                pack: number,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed_length,
            };
            match blob.kind {
                BlobKind::Data => self.data.entries.push(entry),
                BlobKind::Tree => self.trees.entries.push(entry),
            }
        }
        Ok(number)
    }

    fn finish(&mut self, listed: &Listed) {
        let Self { packs, data, trees, .. } = self;
        for places in [data, trees] {
            places.entries.sort_unstable();
            // A file that was written twice names the same place twice.
            places.entries.dedup();
            places.entries.shrink_to_fit();
            places.flags = vec![0; places.entries.len()];
            for entry in &places.entries {
                if let Some(pack) = packs.get_mut(entry.pack as usize) {
                    pack.blobs += 1;
                    pack.blob_bytes += u64::from(entry.length);
                    pack.expected_bytes += u64::from(entry.length) + entry_bytes(entry);
                }
            }
        }
        for pack in packs {
            pack.expected_bytes += HEADER_FRAME;
            pack.stored(listed.get(&pack.id));
        }
        for (id, stored) in listed {
            if !self.numbers.contains_key(id)
                && let Ok(number) = self.number(*id)
            {
                self.pack_mut(number, |pack| pack.stored(Some(stored)));
            }
        }
    }

    fn places(&self, kind: BlobKind) -> &Places {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    /// The number of a pack.
    pub fn pack_number(&self, id: &Id) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// Whether so many blobs are all that is known of a pack.
    pub fn is_whole(&self, number: u32, blobs: usize) -> bool {
        self.packs.get(number as usize).is_none_or(|pack| blobs >= pack.blobs as usize)
    }

    /// Says that a blob is needed.
    pub fn need(&mut self, kind: BlobKind, id: &Id) -> Need {
        let places = match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        };
        let first = places.entries.partition_point(|entry| entry.id < id.0);
        match (places.entries.get(first), places.flags.get_mut(first)) {
            (Some(entry), Some(flags)) if entry.id == id.0 => {
                let before = *flags & NEEDED;
                *flags |= NEEDED;
                if before == 0 { Need::First } else { Need::Again }
            }
            _ => Need::Missing,
        }
    }

    /// Whether a file names a blob.
    pub fn names(&self, kind: BlobKind, id: &Id) -> bool {
        self.places(kind).entries.binary_search_by(|entry| entry.id.cmp(&id.0)).is_ok()
    }

    fn location(&self, kind: BlobKind, entry: &Entry) -> Option<Location> {
        Some(Location {
            pack: self.packs.get(entry.pack as usize)?.id,
            kind,
            id: Id(entry.id),
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: entry.uncompressed_length,
        })
    }

    /// Bytes of a blob when read.
    pub fn plain_bytes(&self, kind: BlobKind, entry: &Entry) -> u64 {
        self.location(kind, entry).map_or(0, |place| place.plain_bytes())
    }

    /// All places of a blob, the best first.
    pub fn lookup(&self, kind: BlobKind, id: &Id) -> Vec<(Location, &PackInfo)> {
        let entries = &self.places(kind).entries;
        let first = entries.partition_point(|entry| entry.id < id.0);
        let mut found: Vec<_> = entries
            .iter()
            .skip(first)
            .take_while(|entry| entry.id == id.0)
            .filter_map(|entry| Some((self.location(kind, entry)?, self.packs.get(entry.pack as usize)?)))
            .collect();
        found.sort_by_key(|(_, pack)| rank(pack));
        found
    }

    /// Chooses one place for each blob that is needed, and sums up what is used of each pack. Where there are several,
    /// a pack that is needed anyhow is taken, so that copies go away and not the packs around them.
    pub fn choose(&mut self) {
        let Self { packs, data, trees, .. } = self;
        for several in [false, true] {
            for places in [&mut *data, &mut *trees] {
                let mut at = 0;
                while let Some(entry) = places.entries.get(at) {
                    let same = places.entries.get(at..).unwrap_or_default();
                    let count = same.iter().take_while(|other| other.id == entry.id).count();
                    let needed = places.flags.get(at).is_some_and(|flags| flags & NEEDED != 0);
                    if needed && (count > 1) == several {
                        let best = (at..at + count).min_by_key(|at| {
                            let pack =
                                places.entries.get(*at).and_then(|entry| packs.get(entry.pack as usize));
                            pack.map(|pack| (rank(pack), u64::MAX - pack.used_bytes, pack.id))
                        });
                        let chosen = best.and_then(|at| {
                            *places.flags.get_mut(at)? |= CHOSEN;
                            places.entries.get(at)
                        });
                        if let Some(entry) = chosen
                            && let Some(pack) = packs.get_mut(entry.pack as usize)
                        {
                            pack.used_bytes += u64::from(entry.length);
                        }
                    }
                    at += count;
                }
            }
        }
    }

    /// Every place, and whether it is the one that is chosen for a blob that is needed.
    pub fn for_each(&self, each: &mut dyn FnMut(BlobKind, &Entry, bool)) {
        for kind in BlobKind::ALL {
            let places = self.places(kind);
            for (entry, flags) in places.entries.iter().zip(&places.flags) {
                each(kind, entry, flags & CHOSEN != 0);
            }
        }
    }

    /// The chosen places in some packs, in the order of packs and offsets.
    pub fn chosen_in(&self, wanted: &dyn Fn(u32) -> bool) -> Vec<Location> {
        let mut found = Vec::new();
        self.for_each(&mut |kind, entry, chosen| {
            if chosen && wanted(entry.pack) {
                found.extend(self.location(kind, entry).map(|place| (entry.pack, place)));
            }
        });
        found.sort_unstable_by_key(|(pack, place)| (*pack, place.offset));
        found.into_iter().map(|(_, place)| place).collect()
    }
}

/// Length and seal of a header.
const HEADER_FRAME: u64 = 4 + crate::repository::crypto::OVERHEAD as u64;

/// Bytes of a blob in its pack's header.
fn entry_bytes(entry: &Entry) -> u64 {
    if entry.uncompressed_length == 0 { 37 } else { 41 }
}

/// Packs from which a blob is taken, the best first: whole and counting, whole and marked, of another size, not there.
fn rank(pack: &PackInfo) -> u8 {
    match (pack.size, pack.indexed) {
        (Some(size), _) if size != pack.expected_bytes => 2,
        (Some(_), true) => 0,
        (Some(_), false) => 1,
        (None, _) => 3,
    }
}
