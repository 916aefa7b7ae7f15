//! Every hash lies in one stretch, whichever way a directory is divided.

use super::*;

#[test]
fn stretches_cover_everything_once() {
    // Bits of the seed decide what is too much and where there is room.
    for seed in 0..200u64 {
        let mut state = seed;
        let mut flip = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 40 & 3
        };
        let mut at = Some(Span::ALL);
        let mut due = 0u128;
        let mut count = 0;
        while let Some(mut span) = at {
            while span.bits > 50 && flip() != 0 {
                span = span.half().unwrap();
            }
            assert_eq!(u128::from(span.first), due, "seed {seed}");
            assert!(span.holds(span.first) && span.holds(span.last()));
            due = u128::from(span.last()) + 1;
            count += 1;
            at = span.next(flip() == 0);
        }
        assert_eq!(due, 1 << 64, "seed {seed}");
        assert!(count > 1 || seed > 0);
    }
}

#[test]
fn one_hash_cannot_be_divided() {
    let mut span = Span::ALL;
    while let Some(half) = span.half() {
        span = half;
    }
    assert!(span.holds(0) && !span.holds(1));
    assert_eq!(span.next(true), Some(Span { first: 1, bits: 0 }));
    assert_eq!(Span::ALL.next(true), None);
}
