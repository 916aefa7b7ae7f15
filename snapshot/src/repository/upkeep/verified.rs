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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    dates: HashMap<Id, i64>,
}

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
        Some(Self { dates })
    }

    /// Writes the file, whole or not at all. Of checks that run at once the last one's dates are kept: what another found
    /// is read again sooner than need be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut records: Vec<(&Id, &i64)> = self.dates.iter().collect();
        records.sort_unstable();
        let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES + 12);
        bytes.extend_from_slice(MAGIC);
        for (id, seconds) in records {
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&seconds.to_le_bytes());
        }
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        // One at a time: the unfinished file has the same name for all, so that a crash leaves one at most.
        let _alone = SAVING.lock();
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&bytes)?;
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
        self.dates.insert(pack, now.seconds);
    }

    /// A pack was found damaged: what was said of it before does not hold.
    pub fn found_damaged(&mut self, pack: &Id) {
        self.dates.remove(pack);
    }

    /// Forgets packs that are no more.
    pub fn retain(&mut self, is_there: impl Fn(&Id) -> bool) {
        self.dates.retain(|id, _| is_there(id));
    }
}

#[cfg(test)]
mod tests;
