//! Filters: which runs of three bytes the paths of a block have, so that a search for a text passes over blocks that
//! cannot hold it, without decompressing them.
//!
//! A filter is a set of bits. Each run of three bytes of each whole path sets one; a text can be in a block only if the bits
//! of all its runs are set. That is so for every text of three bytes or more, also across the slash between directory and
//! name: what a filter denies is not there, what it allows may be.
//!
//! It is made with as many bits as there can be and folded in half as long as few enough are set, so that a small block has
//! a small filter.

use super::path::Key;

/// Most bytes of a filter.
pub(super) const FILTER_BYTES_MAX: usize = 8 << 10;
/// Fewest.
const FILTER_BYTES_MIN: usize = 8;

/// The bit of a run in the largest filter; in smaller ones the low bits of it.
fn slot(run: u32) -> usize {
    (run.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

/// The next byte of a run.
fn shift(run: u32, byte: u8) -> u32 {
    (run << 8 | u32::from(byte)) & 0xff_ffff
}

/// A filter under construction.
pub(super) struct FilterBuilder {
    bits: Vec<u64>,
    last_dir: Vec<u8>,
    is_empty: bool,
}

impl Default for FilterBuilder {
    fn default() -> Self {
        FilterBuilder { bits: vec![0; FILTER_BYTES_MAX / 8], last_dir: Vec::new(), is_empty: true }
    }
}

impl FilterBuilder {
    fn set(&mut self, run: u32) {
        let slot = slot(run);
        if let Some(word) = self.bits.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    pub(super) fn push(&mut self, key: Key<'_>) {
        if self.is_empty || self.last_dir != key.dir {
            let mut run = 0;
            for (at, byte) in key.dir.iter().chain(b"/").enumerate() {
                run = shift(run, *byte);
                if at >= 2 {
                    self.set(run);
                }
            }
            self.last_dir.clear();
            self.last_dir.extend_from_slice(key.dir);
            self.is_empty = false;
        }
        // The runs that begin in the directory and end in the name come with each name.
        let before = key.dir.last().copied();
        let mut run = shift(u32::from(before.unwrap_or_default()), b'/');
        for (at, byte) in key.name.iter().enumerate() {
            run = shift(run, *byte);
            if at >= 1 || before.is_some() {
                self.set(run);
            }
        }
    }

    /// Writes the filter over `out` and starts anew.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        let ones = |bits: &[u64]| bits.iter().map(|word| word.count_ones() as usize).sum::<usize>();
        let mut bits = std::mem::replace(&mut self.bits, vec![0; FILTER_BYTES_MAX / 8]);
        // After a fold no more than one bit in eight is set.
        while bits.len() * 8 > FILTER_BYTES_MIN && ones(&bits) * 16 <= bits.len() * 64 {
            let upper = bits.split_off(bits.len() / 2);
            bits.iter_mut().zip(upper).for_each(|(low, high)| *low |= high);
        }
        out.clear();
        bits.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        self.is_empty = true;
    }
}

/// Whether the bytes can be a filter.
pub(super) fn is_sound(bytes: usize) -> bool {
    bytes.is_power_of_two() && (FILTER_BYTES_MIN..=FILTER_BYTES_MAX).contains(&bytes)
}

/// The runs of texts that a path must have all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<usize>);

impl Runs {
    pub(super) fn of(texts: &[&[u8]]) -> Self {
        let mut slots = Vec::new();
        for text in texts {
            let mut run = 0;
            for (at, byte) in text.iter().enumerate() {
                run = shift(run, *byte);
                if at >= 2 {
                    slots.push(slot(run));
                }
            }
        }
        slots.sort_unstable();
        slots.dedup();
        Runs(slots)
    }

    /// Too short texts have none: they may be anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a block with this filter may hold a path with the texts.
    pub(super) fn may_be_in(&self, filter: &[u8]) -> bool {
        let mask = (filter.len() * 8).saturating_sub(1);
        self.0.iter().all(|slot| {
            let slot = slot & mask;
            filter.get(slot / 8).is_none_or(|byte| byte & (1 << (slot % 8)) != 0)
        })
    }
}

#[cfg(test)]
mod tests;
