//! Holes: maps of GNU's sparse format 1.0, and how zeros become holes.
//!
//! A map stands before the data of a member: the number of extents, then offset and length of each, a line each, zeros
//! up to the block. GNU tar reads each extent from the beginning of a block, so extents begin and end at multiples of
//! [`GRAIN`], but for the end of the file. A file that ends in a hole has an empty extent there.
//!
//! Refused when reading: extents out of order or behind the end, more than [`EXTENTS_MAX`], lines that are no numbers.

use super::{BLOCK_BYTES, SPARSE_BYTES_MAX, pax};
use std::ops::Range;

/// What extents are multiples of, in bytes.
pub(super) const GRAIN: u64 = 4096;
/// Shorter runs of zeros are data, in bytes.
pub(super) const HOLE_BYTES_MIN: u64 = 64 << 10;
/// Most extents of a file; holes behind them are data.
pub(super) const EXTENTS_MAX: usize = 1 << 16;

/// The extents that are stored, of the extents that hold data: aligned, joined over short holes. `None` if that is all of
/// the file: it is stored as it is then.
pub(super) fn stored(data: &[Range<u64>], size: u64) -> Option<Vec<Range<u64>>> {
    if size > SPARSE_BYTES_MAX {
        return None;
    }
    let mut extents: Vec<Range<u64>> = Vec::new();
    for one in data.iter().filter(|one| one.start < one.end && one.start < size) {
        let start = one.start - one.start % GRAIN;
        let end = one.end.min(size).next_multiple_of(GRAIN).min(size);
        let is_full = extents.len() >= EXTENTS_MAX;
        match extents.last_mut() {
            Some(last) if start < last.end.saturating_add(HOLE_BYTES_MIN) => last.end = last.end.max(end),
            None if start < HOLE_BYTES_MIN => extents.push(0..end),
            Some(last) if is_full => last.end = size,
            _ => extents.push(start..end),
        }
    }
    match extents.last_mut() {
        Some(last) if size - last.end < HOLE_BYTES_MIN => last.end = size,
        None if size < HOLE_BYTES_MIN => return None,
        _ => {}
    }
    let is_whole = extents.len() == 1 && extents.first().is_some_and(|only| *only == (0..size));
    (!is_whole).then_some(extents)
}

/// Why a file cannot be stored: nobody is to read all the zeros of one that has holes and is larger than an archive holds.
pub(super) fn refusal(data: &[Range<u64>], size: u64) -> Option<&'static str> {
    let data = || data.iter().map(|one| one.end.saturating_sub(one.start)).sum::<u64>();
    (size > SPARSE_BYTES_MAX && data() < size).then_some("it has holes and is larger than an archive holds")
}

/// The map's blocks.
pub(super) fn encode(extents: &[Range<u64>], size: u64) -> Vec<u8> {
    let ends_in_hole = extents.last().is_none_or(|last| last.end < size);
    let mut map = format!("{}\n", extents.len() + usize::from(ends_in_hole));
    for extent in extents {
        map.push_str(&format!("{}\n{}\n", extent.start, extent.end - extent.start));
    }
    if ends_in_hole {
        map.push_str(&format!("{size}\n0\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}

/// Reads a map line by line.
pub(super) struct MapReader {
    size: u64,
    left: Option<u64>,
    start: Option<u64>,
    /// What of a line is there.
    line: Vec<u8>,
    pub extents: Vec<Range<u64>>,
}

impl MapReader {
    pub fn new(size: u64) -> Self {
        Self { size, left: None, start: None, line: Vec::new(), extents: Vec::new() }
    }

    /// Takes a block. `Some(true)` when the map is complete, `None` if it is none.
    pub fn block(&mut self, block: &[u8]) -> Option<bool> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return None;
                }
                continue;
            }
            let number = pax::number(&self.line)?;
            self.line.clear();
            match (self.left, self.start) {
                (None, _) => self.left = Some(number).filter(|count| *count <= EXTENTS_MAX as u64 + 1),
                (Some(_), None) => self.start = Some(number),
                (Some(left), Some(start)) => {
                    let end = start.checked_add(number).filter(|end| *end <= self.size)?;
                    if self.extents.last().is_some_and(|last| last.end > start) {
                        return None;
                    }
                    if start < end {
                        self.extents.push(start..end);
                    }
                    (self.left, self.start) = (Some(left - 1), None);
                }
            }
            if self.left? == 0 {
                return Some(true);
            }
        }
        Some(false)
    }
}

/// Where bytes at `offset` of a file are not zero: runs of zeros of [`HOLE_BYTES_MIN`] and more are left out. Appends to
/// `data`, joined with what is there.
pub fn data_of(bytes: &[u8], offset: u64, data: &mut Vec<Range<u64>>) {
    let mut at = offset;
    for grain in bytes.chunks(GRAIN as usize) {
        let end = at + grain.len() as u64;
        if grain.iter().any(|byte| *byte != 0) {
            match data.last_mut() {
                Some(last) if last.end.saturating_add(HOLE_BYTES_MIN) > at => last.end = end,
                _ => data.push(at..end),
            }
        }
        at = end;
    }
}
