//! What is worth a warning, and what is not.

use super::{HeldLevel, between, judge};
use crate::meta::Timestamp;
use std::time::Duration;

#[test]
fn limits() {
    let check = |held: u64, expected| {
        assert_eq!(judge(Duration::from_secs(100_000), Duration::from_secs(held)), expected, "{held}");
    };
    check(100_000, (100, HeldLevel::Whole));
    check(85_000, (85, HeldLevel::Whole));
    check(84_999, (84, HeldLevel::Warning));
    check(75_000, (75, HeldLevel::Warning));
    check(74_999, (74, HeldLevel::Error));
    check(0, (0, HeldLevel::Error));
    check(1_000_000, (100, HeldLevel::Whole));
}

#[test]
fn nothing_promised_is_kept() {
    assert_eq!(judge(Duration::ZERO, Duration::ZERO), (100, HeldLevel::Whole));
}

#[test]
fn a_clock_that_jumped_back_is_no_time() {
    assert_eq!(between(Timestamp(5), Timestamp(3)), Duration::ZERO);
    assert_eq!(between(Timestamp(i64::MIN), Timestamp(i64::MAX)), Duration::from_nanos(i64::MAX as u64));
}
