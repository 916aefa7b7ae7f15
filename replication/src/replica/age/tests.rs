//! Does the clock by which history grows old run exactly as far as the replica knows itself up to date?

use super::Age;
use journal::{Lsn, Timestamp};

/// Applied captures and times of the replica's clock are small numbers here.
fn lsn(captured: u64) -> Lsn {
    Lsn::captured(captured)
}

/// Up to when history has grown old by an age.
fn upto(age: &mut Age, applied: u64, now: i64) -> i64 {
    age.upto(lsn(applied), Timestamp(now)).0
}

fn heard(age: &mut Age, captured: u64, at: i64, applied: u64) {
    age.heard(lsn(captured), Timestamp(at), lsn(applied));
}

#[test]
fn a_start_goes_on_from_what_the_tree_shows() {
    let mut age = Age::new(Some(Timestamp(70)));
    assert_eq!(upto(&mut age, 5, 1_000_000), 70, "not from now");
    heard(&mut age, 5, 1_000_001, 5);
    assert_eq!(upto(&mut age, 5, 1_000_002), 1_000_001);
    let mut age = Age::new(None);
    assert_eq!(upto(&mut age, 5, 1_000_000), 0, "of one that shows nothing, nothing is old");
    let mut age = Age::new(Some(Timestamp(70)));
    assert_eq!(upto(&mut age, 5, 60), 60, "the master's clock is ahead of the replica's");
}

#[test]
fn it_stands_while_nothing_is_heard() {
    let mut age = Age::new(Some(Timestamp(10)));
    heard(&mut age, 3, 20, 3);
    for now in [20, 21, 1_000, 1_000_000] {
        assert_eq!(upto(&mut age, 3, now), 20);
    }
    heard(&mut age, 3, 1_000_001, 3);
    assert_eq!(upto(&mut age, 3, 1_000_005), 1_000_001, "the master is back, and nothing is missing");
}

#[test]
fn it_runs_when_apply_has_come_to_what_was_heard() {
    let mut age = Age::new(Some(Timestamp(10)));
    heard(&mut age, 9, 20, 5);
    assert_eq!(upto(&mut age, 5, 100), 10);
    assert_eq!(upto(&mut age, 8, 100), 10);
    assert_eq!(upto(&mut age, 9, 100), 20, "when it was heard, not when it was applied");
    assert_eq!(upto(&mut age, 12, 200), 20, "what came beside was not heard of");
}

/// Each word finds apply a little behind.
#[test]
fn it_follows_an_apply_that_always_lags() {
    let mut age = Age::new(Some(Timestamp(0)));
    let mut before = 0;
    for tick in 1..100_u64 {
        heard(&mut age, tick + 3, tick as i64, tick);
        let reached = upto(&mut age, tick, tick as i64);
        assert!(before <= reached && reached <= tick as i64 - 3.min(tick as i64), "{reached} at {tick}");
        before = reached;
    }
    assert!(before > 90, "{before}");
}

/// Local changes of a detached replica come between; the captured half of its place counts.
#[test]
fn it_stands_while_the_replica_is_detached_and_behind() {
    let mut age = Age::new(Some(Timestamp(10)));
    let local = Lsn { captured: 5, local: 7 };
    age.heard(lsn(6), Timestamp(30), local);
    assert_eq!(age.upto(local, Timestamp(40)).0, 10);
    age.heard(lsn(5), Timestamp(30), local);
    assert_eq!(age.upto(local, Timestamp(40)).0, 30);
}

#[test]
fn a_clock_that_was_ahead_leaves_nothing_behind() {
    for is_applied in [true, false] {
        let mut age = Age::new(Some(Timestamp(10)));
        heard(&mut age, 6, 1_000_000, if is_applied { 6 } else { 5 });
        // Set right, and then the line is cut.
        assert_eq!(upto(&mut age, 5, 50), if is_applied { 50 } else { 10 });
        assert_eq!(upto(&mut age, 6, 2_000), 50, "applied at once: {is_applied}");
        heard(&mut age, 6, 2_001, 6);
        assert_eq!(upto(&mut age, 6, 2_002), 2_001);
    }
}

/// Without the clock being set back it never goes back, whatever a master says, and in whatever order.
#[test]
fn it_never_goes_back_by_itself() {
    let seed = 11;
    println!("seed {seed}");
    let mut state: u64 = seed;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let (mut age, mut before, mut applied, mut moved) = (Age::new(Some(Timestamp(0))), 0, 0, 0);
    for now in 1..20_000_i64 {
        applied += random(2);
        match random(4) {
            0 => heard(&mut age, applied + random(5), now - random(20) as i64, applied),
            1 => heard(&mut age, applied.saturating_sub(random(9)), now, applied),
            _ => {}
        }
        let reached = upto(&mut age, applied, now);
        assert!(before <= reached && reached <= now, "{before}, then {reached} at {now}");
        moved += u64::from(reached > before);
        before = reached;
    }
    assert!(moved > 1_000, "{moved}");
}

/// It would never come true, and must not be waited for when the master has come to its senses.
#[test]
fn a_word_that_cannot_come_true_is_not_waited_for() {
    let mut age = Age::new(Some(Timestamp(10)));
    heard(&mut age, u64::MAX, 20, 5);
    assert_eq!(upto(&mut age, 5, 30), 10);
    heard(&mut age, 6, 40, 5);
    assert_eq!(upto(&mut age, 6, 50), 40);
    heard(&mut age, u64::MAX, 60, 6);
    heard(&mut age, 6, 70, 6);
    assert_eq!(upto(&mut age, 6, 80), 70);
}
