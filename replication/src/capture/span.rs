//! Stretches of a directory: how a listing that finds too much for one round is divided.
//!
//! Names have an order of their own, that of their hashes, which neither the file system nor what happens meanwhile
//! has any influence on: every name lies in exactly one stretch, so whatever stood in the directory all the time is
//! come across, and nothing need be remembered but the stretch. A stretch that holds too much is halved; the one
//! behind it may be wider again. Hashes are keyed by the process: nobody can make many names share one.

use journal::Name;
use std::hash::{BuildHasher, RandomState};

/// Names whose hashes agree in all but the last `bits` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    first: u64,
    bits: u32,
}

impl Span {
    /// Every name.
    pub(super) const ALL: Span = Span { first: 0, bits: u64::BITS };

    fn last(self) -> u64 {
        self.first | u64::MAX.checked_shr(u64::BITS - self.bits).unwrap_or(0)
    }

    /// Whether a name lies in it.
    pub(super) fn contains(self, hashes: &RandomState, name: &Name) -> bool {
        self == Span::ALL || self.holds(hashes.hash_one(name.as_bytes()))
    }

    fn holds(self, hash: u64) -> bool {
        (self.first..=self.last()).contains(&hash)
    }

    /// Its first half; `None` if it cannot be divided.
    pub(super) fn half(self) -> Option<Self> {
        Some(Span { bits: self.bits.checked_sub(1)?, ..self })
    }

    /// What comes behind it, twice as wide if there is `room`; `None` after the last one.
    pub(super) fn next(self, room: bool) -> Option<Self> {
        let first = self.last().checked_add(1)?;
        // A stretch begins at a multiple of its width.
        Some(Span { first, bits: (self.bits + u32::from(room)).min(first.trailing_zeros()) })
    }
}

#[cfg(test)]
mod tests;
