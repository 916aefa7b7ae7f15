//! Who comes first decides, and a gap takes the claim away.

use super::*;

#[test]
fn the_barrier_stands_first() {
    let hold = Hold::default();
    assert_eq!(Standing::Held(hold.clone()).class(true), Class::Application);
    assert!(hold.end() && !hold.is_doubtful());
}

#[test]
fn the_hold_ends_first() {
    let hold = Hold::default();
    assert!(!hold.end());
    assert_eq!(Standing::Held(hold.clone()).class(true), Class::Fuzzy);
    assert!(!hold.end() && !hold.is_doubtful());
}

#[test]
fn a_gap_is_open() {
    let hold = Hold::default();
    assert_eq!(Standing::Held(hold.clone()).class(false), Class::Fuzzy);
    assert!(hold.is_doubtful() && !hold.end());
}
