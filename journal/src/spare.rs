//! Buffers that are used again.
//!
//! A large buffer that is allocated anew each time is mapped, cleared page by page and unmapped again: of bytes that are
//! read, compared and written once that is as much work as the reading. So whoever reads many of them takes them from
//! here, and a buffer comes back when the last one who refers to it lets it go, on whatever thread.
//!
//! A buffer holds what it held before: who takes one writes what it then reads, or fills it. No more is kept than a limit
//! says; what comes back beyond it is freed.

use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;

/// Shorter buffers come from the allocator, which keeps such ones itself.
const BYTES_MIN: usize = 64 << 10;

#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Buffers kept for later; shared by its clones.
#[derive(Clone)]
pub struct Spares {
    kept: Arc<Mutex<Kept>>,
    bytes_max: usize,
}

impl Spares {
    /// Keeps up to `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Spares { kept: Arc::default(), bytes_max }
    }

    /// A buffer of just this length. What it holds is left over from before.
    #[must_use]
    pub fn take(&self, length: usize) -> Spare {
        let found = {
            let mut kept = self.kept.lock();
            // Not one much longer: it counts by its length for whoever holds it.
            let fits = kept.buffers.iter().rposition(|b| b.len() >= length && b.len() / 2 <= length);
            let found = fits.filter(|_| length >= BYTES_MIN).map(|index| kept.buffers.swap_remove(index));
            kept.bytes -= found.as_ref().map_or(0, Vec::len);
            found
        };
        Spare { buffer: found.unwrap_or_else(|| vec![0; length]), length, home: self.clone() }
    }

    /// Frees all that is kept now.
    pub fn clear(&self) {
        let freed = std::mem::take(&mut *self.kept.lock());
        drop(freed);
    }
}

/// A buffer that goes back to where it was taken.
pub struct Spare {
    /// As long as it was made: cutting it would have what is behind cleared again.
    buffer: Vec<u8>,
    length: usize,
    home: Spares,
}

impl AsRef<[u8]> for Spare {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }
}

impl AsMut<[u8]> for Spare {
    fn as_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.length).unwrap_or_default()
    }
}

impl Spare {
    /// Cuts it to its first bytes.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl From<Spare> for Bytes {
    fn from(spare: Spare) -> Self {
        Bytes::from_owner(spare)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() < BYTES_MIN {
            return;
        }
        let mut kept = self.home.kept.lock();
        if kept.bytes + buffer.len() <= self.home.bytes_max {
            kept.bytes += buffer.len();
            kept.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_reference_is_gone() {
        let spares = Spares::new(1 << 20);
        let mut spare = spares.take(BYTES_MIN * 2);
        spare.as_mut().fill(7);
        let place = spare.as_ref().as_ptr();
        spare.truncate(BYTES_MIN);
        let bytes = Bytes::from(spare);
        let part = bytes.slice(10..20);
        drop(bytes);
        let other = spares.take(BYTES_MIN);
        assert_ne!(other.as_ref().as_ptr(), place, "somebody still reads it");
        assert_eq!(&part[..], [7; 10]);
        drop(part);
        let again = spares.take(BYTES_MIN + 1);
        assert_eq!((again.as_ref().as_ptr(), again.as_ref().len()), (place, BYTES_MIN + 1));
    }

    #[test]
    fn no_more_is_kept_than_the_limit_says() {
        let spares = Spares::new(BYTES_MIN * 3);
        let kept = || {
            let kept = spares.kept.lock();
            (kept.buffers.len(), kept.bytes)
        };
        let taken: Vec<Spare> = (0..5).map(|_| spares.take(BYTES_MIN)).collect();
        drop(taken);
        assert_eq!(kept(), (3, BYTES_MIN * 3));
        // Longer than any that is kept.
        drop(spares.take(BYTES_MIN * 4));
        drop(spares.take(10));
        assert_eq!(kept(), (3, BYTES_MIN * 3));
        drop(spares.take(BYTES_MIN));
        assert_eq!(kept(), (3, BYTES_MIN * 3));
        let long = spares.take(BYTES_MIN);
        assert_eq!((kept(), long.buffer.len()), ((2, BYTES_MIN * 2), BYTES_MIN));
        spares.clear();
        drop(spares.take(BYTES_MIN * 3));
        assert_eq!(spares.take(BYTES_MIN).buffer.len(), BYTES_MIN, "one much longer is left");
        spares.clear();
        assert_eq!(kept(), (0, 0));
    }
}
