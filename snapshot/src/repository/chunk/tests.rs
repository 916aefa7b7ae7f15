//! Chunk boundaries are fixed by golden values, and do not depend on how bytes are read.

use super::*;
use crate::repository::Id;

/// Bytes from a fixed generator (xorshift), the same on every machine for ever.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

/// Boundaries are fixed: another set would store everything again.
#[test]
fn golden() {
    let bytes = noise(24 << 20, 88_172_645_463_325_252);
    assert_eq!(Id::of(&bytes).short(), GOLDEN_INPUT);
    let lengths: Vec<usize> = chunks(&bytes).map(<[u8]>::len).collect();
    assert_eq!(lengths, GOLDEN_LENGTHS);
    let zeros: Vec<usize> = chunks(&vec![0; 20 << 20]).map(<[u8]>::len).collect();
    assert_eq!(zeros, [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 4 << 20]);
}

const GOLDEN_INPUT: &str = "57080b29";
const GOLDEN_LENGTHS: &[usize] = &[
    3_061_386, 1_301_893, 993_444, 1_549_512, 1_499_725, 1_081_874, 2_460_817, 3_089_340, 1_552_814,
    1_781_905, 2_084_674, 4_402_491, 305_949,
];

/// How long chunks of noise are, as FORMAT.md says.
#[test]
fn mean_length() {
    let bytes = noise(96 << 20, 77);
    let lengths: Vec<usize> = chunks(&bytes).map(<[u8]>::len).collect();
    let mean = bytes.len() / lengths.len();
    println!("{} chunks, mean {mean}", lengths.len());
    let (_, but_last) = lengths.split_last().unwrap();
    assert!(but_last.iter().all(|length| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(length)));
    assert!((1 << 20..2 << 20).contains(&mean), "{mean}");
}

/// A reader that gives odd pieces.
struct Pieces<'a>(&'a [u8], usize);
impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.1 = self.1 * 7 % 100_003 + 1;
        let length = self.1.min(out.len()).min(self.0.len());
        out[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }
}

#[test]
fn streams_are_cut_like_slices() {
    let bytes = noise(20 << 20, 3);
    let mut chunker = Chunker::new();
    for length in [0, 1, CHUNK_BYTES_MIN, CHUNK_BYTES_MIN + 1, 9 << 20, 20 << 20] {
        let bytes = &bytes[..length];
        let expected: Vec<&[u8]> = chunks(bytes).collect();
        assert_eq!(expected.concat(), bytes);
        chunker.restart();
        let mut reader = Pieces(bytes, 12_345);
        let mut found = Vec::new();
        while let Some(chunk) = chunker.next(&mut reader).unwrap() {
            found.push(chunk.to_vec());
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn an_insertion_changes_few_chunks() {
    let before = noise(16 << 20, 5);
    let mut after = before.clone();
    after.splice(7_000_000..7_000_000, *b"something new");
    let old: std::collections::HashSet<&[u8]> = chunks(&before).collect();
    let changed = chunks(&after).filter(|chunk| !old.contains(chunk)).count();
    assert!(changed <= 2, "{changed}");
}
