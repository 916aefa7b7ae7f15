//! Room for the next part: spilling, waiting for the replica, and giving up.
//!
//! Whoever waits here holds the right to emit and no lock of the queue. Every wait ends when the spool is shut. That a
//! full spool waits only while the replica takes something bounds how long capture may stand still without its gap
//! being said: a link that is down must not stop the agent for as long as it is down.

use super::{SinkError, Spool};
use journal::Provenance;
use std::time::{Duration, Instant};

impl Spool {
    /// Waits until the spool takes captures (again). Whether it does.
    #[must_use]
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let give_up = Instant::now() + timeout;
        loop {
            let free = self.disk.free_bytes(&self.options.directory).unwrap_or(0);
            let mut queue = self.queue.lock();
            if queue.closed {
                return false;
            }
            if !queue.is_full(&self.options, free) {
                return true;
            }
            // Room on the file system comes back without notice: look again from time to time.
            let look_again = Instant::now() + Duration::from_millis(200);
            self.moved.wait_until(&mut queue, give_up.min(look_again));
            if Instant::now() >= give_up {
                return !queue.is_full(&self.options, free);
            }
        }
    }

    /// Makes room for `bytes` in memory.
    pub(super) fn make_room(
        &self,
        bytes: u64,
        provenance: Provenance,
        markers: bool,
    ) -> Result<(), SinkError> {
        if provenance == Provenance::Synchronization {
            self.wait_for_delivery(bytes)?;
        }
        loop {
            let (fits, full_before, disk_bytes) = {
                let queue = self.queue.lock();
                if queue.closed {
                    return Err(SinkError::Closed);
                }
                (queue.fits(bytes, &self.options), queue.full, queue.disk_bytes)
            };
            let free = if fits && !full_before { u64::MAX } else { self.free_bytes() };
            if full_before && !markers && self.queue.lock().is_full(&self.options, free) {
                self.wait_until_taken()?;
                continue;
            }
            if fits {
                return Ok(());
            }
            let room = self.options.disk_bytes_max.saturating_sub(disk_bytes);
            let room = room.min(free.saturating_sub(self.options.disk_free_bytes_min));
            match self.spill(self.options.memory_bytes_max / 2, room) {
                Ok(true) => {}
                Ok(false) if markers && self.queue.lock().fits_reserve(bytes, &self.options) => return Ok(()),
                refused => {
                    if let Err(error) = refused {
                        tracing::warn!(error = %error, source = ?std::error::Error::source(&error), "cannot spill");
                    }
                    self.queue.lock().full = true;
                    self.wait_until_taken()?;
                }
            }
        }
    }

    /// Waits until the replica has taken something from the full spool.
    ///
    /// # Errors
    /// If it takes nothing for too long, or may not.
    fn wait_until_taken(&self) -> Result<(), SinkError> {
        let mut queue = self.queue.lock();
        let (before, give_up) = ((queue.released, queue.taken), Instant::now() + self.options.stalled_max);
        while (queue.released, queue.taken) == before {
            if queue.closed {
                return Err(SinkError::Closed);
            }
            if queue.suspended || self.moved.wait_until(&mut queue, give_up).timed_out() {
                return Err(SinkError::Full);
            }
        }
        Ok(())
    }

    fn free_bytes(&self) -> u64 {
        self.disk.free_bytes(&self.options.directory).unwrap_or(0)
    }

    /// Waits until the replica has taken so much that `bytes` more stay within half of memory: what is read from the tree
    /// faster than it is taken is in nobody's way there. If nothing waits but the capture that is being emitted, and the
    /// replica has taken all that it takes of it before its end, waiting would never end: then it spills like any other.
    fn wait_for_delivery(&self, bytes: u64) -> Result<(), SinkError> {
        let mut queue = self.queue.lock();
        loop {
            if queue.closed {
                return Err(SinkError::Closed);
            }
            let waiting = queue.memory_bytes + queue.disk_bytes;
            if waiting + bytes <= self.options.memory_bytes_max / 2
                || waiting == 0
                || queue.is_stuck_on_open()
            {
                return Ok(());
            }
            self.moved.wait(&mut queue);
        }
    }
}
