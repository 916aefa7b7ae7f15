//! When what fjall holds in memory is written out.
//!
//! Left to itself, fjall asks its worker to write a memtable out with a message at every commit that finds it too large.
//! A worker that is busy for a second lets a thousand messages pile up, which is all the queue takes; and then it waits,
//! itself, for room in that queue to say that something is to be flushed, for ever. Nothing is written out any more,
//! memory grows, and whoever else sends waits with it (seen on a loaded machine in a first synchronization of 80,000
//! files). So memtables have no limit of their own here, and whoever commits writes all of them out when together they
//! have grown by [`BYTES_MAX`]: a handful of messages each time, and fjall lets commits wait when four of a keyspace are not
//! flushed yet, so the queue stays short.

use fjall::{Keyspace, KeyspaceCreateOptions};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes committed to all keyspaces of a database until they are written out. As many may be on their way to disk a few
/// times over: the daemon has 300 MB.
const BYTES_MAX: usize = 12 << 20;
/// Of fewer bytes nothing is gained, and what they would be written to would be small.
const SETTLE_BYTES: usize = 1 << 20;
/// What a row costs in memory beside key and value, in bytes.
pub const ROW_BYTES: usize = 64;

/// The memtables of one database.
pub struct Memtables {
    spaces: Vec<Keyspace>,
    /// Bytes committed since they were written out.
    bytes: AtomicUsize,
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
    pub fn new(spaces: Vec<Keyspace>) -> fjall::Result<Self> {
        let memtables = Memtables { spaces, bytes: AtomicUsize::new(0) };
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

    /// Gives the memory back, in the background; false if it is not much. For idle moments.
    ///
    /// # Errors
    /// fjall's.
    pub fn settle(&self) -> fjall::Result<bool> {
        let much = self.bytes.load(Ordering::Relaxed) >= SETTLE_BYTES;
        if much {
            self.rotate()?;
        }
        Ok(much)
    }

    fn rotate(&self) -> fjall::Result<()> {
        self.bytes.store(0, Ordering::Relaxed);
        self.spaces.iter().try_for_each(|space| space.rotate_memtable().map(drop))
    }
}

#[cfg(test)]
mod tests;
