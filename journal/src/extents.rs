//! A map from ranges of a file to values, for overlapping writes: later insertions cover earlier ones.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint ranges, each with a value. Ranges are half open and never empty.
#[derive(Clone, Debug)]
pub struct ExtentMap<V> {
    by_start: BTreeMap<u64, (u64, V)>,
}

impl<V> Default for ExtentMap<V> {
    fn default() -> Self {
        ExtentMap { by_start: BTreeMap::new() }
    }
}

impl<V: Clone> ExtentMap<V> {
    /// Gives `range` this value, whatever lay there before.
    pub fn insert(&mut self, range: Range<u64>, value: V) {
        if range.start >= range.end {
            return;
        }
        self.cut(range.start);
        self.cut(range.end);
        let covered: Vec<u64> = self.by_start.range(range.clone()).map(|(start, _)| *start).collect();
        for start in covered {
            self.by_start.remove(&start);
        }
        self.by_start.insert(range.start, (range.end, value));
    }

    /// Splits the extent that contains `at` strictly inside, so that none crosses it.
    fn cut(&mut self, at: u64) {
        let crossing =
            self.by_start.range(..at).next_back().map(|(start, (end, value))| (*start, *end, value.clone()));
        if let Some((start, end, value)) = crossing
            && end > at
        {
            self.by_start.insert(start, (at, value.clone()));
            self.by_start.insert(at, (end, value));
        }
    }

    /// Cuts `range` into ascending pieces that have one value each, or none.
    #[must_use]
    pub fn pieces(&self, range: Range<u64>) -> Vec<(Range<u64>, Option<V>)> {
        let mut pieces = Vec::new();
        let mut at = range.start;
        let first = self.by_start.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        for (start, (end, value)) in self.by_start.range(first..range.end.max(first)) {
            if *end <= at {
                continue;
            }
            if *start > at {
                pieces.push((at..*start, None));
                at = *start;
            }
            let piece_end = (*end).min(range.end);
            pieces.push((at..piece_end, Some(value.clone())));
            at = piece_end;
        }
        if at < range.end {
            pieces.push((at..range.end, None));
        }
        pieces
    }

    /// The pieces of `range` that have no value.
    #[must_use]
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.pieces(range).into_iter().filter(|(_, value)| value.is_none()).map(|(piece, _)| piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_insertions_cover_earlier_ones() {
        // A model of single bytes; all ranges within 0..24 in a fixed pseudo-random order.
        let mut map = ExtentMap::default();
        let mut model = [None; 24];
        let mut state = 7_u64;
        for value in 0..4000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let start = (state >> 33) % 24;
            let end = (start + (state >> 50) % 7).min(24);
            map.insert(start..end, value);
            for byte in start..end {
                model[byte as usize] = Some(value);
            }
            let from = (state >> 20) % 24;
            let mut at = from;
            for (piece, found) in map.pieces(from..24) {
                assert_eq!(piece.start, at);
                assert!(piece.end > piece.start);
                for byte in piece.clone() {
                    assert_eq!(model[byte as usize], found);
                }
                at = piece.end;
            }
            assert_eq!(at, 24.max(from));
        }
    }
}
