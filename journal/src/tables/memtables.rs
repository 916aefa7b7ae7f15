//! When what fjall holds in memory is written out.
//!
//! Left to itself, fjall asks its worker to write a memtable out with a message at every commit that finds it too large.
//! A worker that is busy for a second lets a thousand messages pile up, which is all the queue takes; and then it waits,
//! itself, for room in that queue to say that something is to be flushed, for ever. Nothing is written out any more,
//! memory grows, and whoever else sends waits with it (seen on a loaded machine in a first synchronization of 80,000
//! files). So memtables have no limit of their own here, and whoever commits writes all of them out when together they
//! have grown by [`BYTES_MAX`]: a handful of messages each time, and fjall lets commits wait when four of a keyspace are not
//! flushed yet, so the queue stays short.
//!
//! What was written out stays in memory all the same, as part of what a keyspace was before, and fjall looks whether
//! anybody may still read that only when the next memtable is sealed. Who has written much and then rests, or has just read
//! back its log at a start, would keep all of it. So when it is on disk a row of a keyspace of our own is written and
//! sealed, after which there is nothing in memory but what readers hold.

use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Bytes committed to all keyspaces of a database until they are written out. As many may be on their way to disk a few
/// times over: the daemon has 300 MB.
const BYTES_MAX: usize = 12 << 20;
/// Of fewer bytes nothing is gained, and what they would be written to would be small.
const SETTLE_BYTES: usize = 1 << 20;
/// What a row costs in memory beside key and value, in bytes.
pub const ROW_BYTES: usize = 64;

/// Name of the keyspace with the row that is written to let go of others'.
const RELEASE: &str = "release";

/// The memtables of one database.
pub struct Memtables {
    spaces: Vec<Keyspace>,
    /// Its one row says nothing.
    release: Keyspace,
    /// Bytes committed since they were written out.
    bytes: AtomicUsize,
    /// Something was sealed since memory was last given back.
    holds: AtomicBool,
}

impl Memtables {
    /// How each keyspace is made.
    #[must_use]
    pub fn options() -> KeyspaceCreateOptions {
        KeyspaceCreateOptions::default().max_memtable_size(u64::MAX)
    }

    /// Those of all keyspaces of a database, each made with [`Memtables::options`]. What a start read back from the log of
    /// the database is written out at once: it may be as large as that.
    ///
    /// # Errors
    /// fjall's.
    pub fn new(database: &Database, spaces: Vec<Keyspace>) -> fjall::Result<Self> {
        let release = database.keyspace(RELEASE, Self::options)?;
        let memtables =
            Memtables { spaces, release, bytes: AtomicUsize::new(0), holds: AtomicBool::new(false) };
        memtables.rotate()?;
        Ok(memtables)
    }

    /// To be called after each commit, with what its rows take: keys, values and [`ROW_BYTES`] each.
    ///
    /// # Errors
    /// fjall's.
    pub fn wrote(&self, bytes: usize) -> fjall::Result<()> {
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes >= BYTES_MAX {
            self.rotate()
        } else {
            Ok(())
        }
    }

    /// Gives memory back: has what is much written out, in the background, and lets go of what is; whether there was
    /// anything to be done. To be called at idle moments until there is not.
    ///
    /// # Errors
    /// fjall's.
    pub fn settle(&self) -> fjall::Result<bool> {
        let much = self.bytes.load(Ordering::Relaxed) >= SETTLE_BYTES;
        if much {
            self.rotate()?;
            return Ok(true);
        }
        // Taken first, so that what is sealed meanwhile counts; and with a database that takes nothing any more there is no
        // second attempt.
        if !self.holds.swap(false, Ordering::Relaxed) {
            return Ok(false);
        }
        if self.spaces.iter().any(|space| space.sealed_memtable_count() > 0) {
            self.holds.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        self.release.insert("row", [])?;
        self.release.rotate_memtable()?;
        Ok(true)
    }

    /// Whether something may be on its way to disk, or is there and not let go of: another [`Memtables::settle`] is due
    /// soon.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    fn rotate(&self) -> fjall::Result<()> {
        self.bytes.store(0, Ordering::Relaxed);
        self.spaces.iter().try_for_each(|space| {
            if space.rotate_memtable()? {
                self.holds.store(true, Ordering::Relaxed);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
