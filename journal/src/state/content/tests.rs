//! Whether a delta pays is what a plain count says.

use super::*;
use crate::random::Random;

#[test]
fn mostly_the_same_is_what_a_count_says() {
    for seed in 0..2000 {
        let mut random = Random(seed);
        let length = 1 + random.below(4096);
        let old: Vec<u8> = (0..length).map(|_| random.below(4) as u8).collect();
        let mut new = old.clone();
        // About half of it, in one stretch or spread.
        let changes = length / 2 + random.below(5);
        let from = random.below(length);
        for change in 0..changes.min(length) {
            let at = if seed % 2 == 0 { (from + change) % length } else { random.below(length) };
            new[at] = old[at].wrapping_add(9);
        }
        let differing = old.iter().zip(&new).filter(|(old, new)| old != new).count();
        assert_eq!(mostly_same(&old, &new), differing * 2 < length, "seed {seed}: {differing} of {length}");
    }
}
