//! When each pack was last read and found whole.
//!
//! A file of fixed-width records, sorted by pack: 40 bytes each. It is a projection: who loses it loses no data, and reads
//! the packs in another order. It is kept by whoever checks, not in the repository: a claim that somebody else's disk makes
//! about itself proves nothing, and other programs would not keep it. A file that is not as it was written counts as none.

use crate::repository::id::Id;
use crate::repository::time::Timestamp;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

const MAGIC: &[u8; 8] = b"RWVERIF1";
const RECORD_BYTES: usize = 40;
/// Records that are read at most: 4 GiB of packs' dates would be 100 million packs.
const BYTES_MAX: u64 = 4 << 30;

static SAVING: Mutex<()> = Mutex::new(());

/// Dates of packs.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    dates: HashMap<Id, i64>,
    /// What was found since the file was read.
    found: HashMap<Id, Found>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    /// The file had a date.
    had_date: bool,
    /// When it was found whole; `None`: damaged, or no more there.
    date: Option<i64>,
}

impl PartialEq for Verified {
    fn eq(&self, other: &Self) -> bool {
        self.dates == other.dates
    }
}

impl Eq for Verified {}

impl Verified {
    /// Nothing was verified.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file; one that is not there or damaged says nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load(path: &Path) -> std::io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
            Ok(file) => drop(file.take(BYTES_MAX).read_to_end(&mut bytes)?),
        }
        Ok(Self::decode(&bytes).unwrap_or_default())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return None;
        }
        let records = body.strip_prefix(MAGIC)?;
        let mut dates = HashMap::with_capacity(records.len() / RECORD_BYTES);
        for record in records.chunks(RECORD_BYTES) {
            let (id, seconds) = record.split_first_chunk::<32>()?;
            dates.insert(Id(*id), i64::from_le_bytes(seconds.try_into().ok()?));
        }
        Some(Self { dates, found: HashMap::new() })
    }

    /// Writes the file, whole or not at all. What checks that ran at once have written since this one began stays: of a
    /// pack that two of them read the later date, and none if either found it damaged.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        // One at a time: each adds to what the others wrote. The unfinished file has the same name for all, so that a crash
        // leaves one at most.
        let _alone = SAVING.lock();
        let mut dates = Self::load(path)?.dates;
        for (pack, found) in &self.found {
            match found.date {
                None => drop(dates.remove(pack)),
                // Somebody took the date away meanwhile.
                Some(_) if found.had_date && !dates.contains_key(pack) => {}
                Some(date) => {
                    let known = dates.entry(*pack).or_insert(date);
                    *known = date.max(*known);
                }
            }
        }
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&encode(&dates))?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    }

    /// When a pack was found whole, in seconds since 1970.
    #[must_use]
    pub fn date(&self, pack: &Id) -> Option<i64> {
        self.dates.get(pack).copied()
    }

    /// A pack was found whole.
    pub fn found_whole(&mut self, pack: Id, now: Timestamp) {
        self.note(pack, Some(now.seconds));
    }

    /// A pack was found damaged: what was said of it before does not hold.
    pub fn found_damaged(&mut self, pack: &Id) {
        self.note(*pack, None);
    }

    /// Forgets packs that are no more.
    pub fn retain(&mut self, is_there: impl Fn(&Id) -> bool) {
        let gone: Vec<Id> = self.dates.keys().filter(|id| !is_there(id)).copied().collect();
        gone.into_iter().for_each(|pack| self.note(pack, None));
    }

    fn note(&mut self, pack: Id, date: Option<i64>) {
        let before = match date {
            Some(date) => self.dates.insert(pack, date),
            None => self.dates.remove(&pack),
        };
        let found = self.found.entry(pack).or_insert(Found { had_date: before.is_some(), date });
        found.date = date;
    }
}

fn encode(dates: &HashMap<Id, i64>) -> Vec<u8> {
    let mut records: Vec<(&Id, &i64)> = dates.iter().collect();
    records.sort_unstable();
    let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES + 12);
    bytes.extend_from_slice(MAGIC);
    for (id, seconds) in records {
        bytes.extend_from_slice(&id.0);
        bytes.extend_from_slice(&seconds.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
