//! Transfers are booked one behind the other.

use super::*;

#[test]
fn transfers_are_booked_one_behind_the_other() {
    let bandwidth = Bandwidth::new(Some(1000));
    let now = Instant::now();
    let seconds = |bytes, now| {
        let turn: Instant = bandwidth.book(bytes, now).unwrap();
        turn.duration_since(now).as_secs_f64()
    };
    assert_eq!(seconds(500, now), 0.0);
    assert_eq!(seconds(2000, now), 0.5);
    assert_eq!(seconds(1, now), 2.5);
    // An idle time is not saved up.
    let later = now + Duration::from_secs(100);
    assert_eq!(seconds(1000, later), 0.0);
    assert_eq!(seconds(1000, later), 1.0);
}

#[test]
fn no_limit_books_nothing() {
    assert!(Bandwidth::new(None).book(u64::MAX, Instant::now()).is_none());
}
