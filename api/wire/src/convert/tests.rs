//! Times and durations at their edges; words both ways.

use super::*;

#[test]
fn times() {
    for nanos in [0, 1, -1, i64::MAX, i64::MIN, 1_700_000_000_123_456_789] {
        let wire = time_to_wire(Timestamp(nanos));
        assert!((0..1_000_000_000).contains(&wire.nanos));
        // The least value does not survive the multiplication; no clock shows it.
        if nanos != i64::MIN {
            assert_eq!(time_from_wire(&wire), Some(Timestamp(nanos)));
        }
    }
    for (seconds, nanos) in [(i64::MAX, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(time_from_wire(&prost_types::Timestamp { seconds, nanos }), None);
    }
}

#[test]
fn durations() {
    let duration = Duration::new(7, 5);
    assert_eq!(duration_from_wire(&duration_to_wire(duration)), Some(duration));
    assert_eq!(duration_from_wire(&prost_types::Duration { seconds: -1, nanos: 0 }), None);
    assert_eq!(duration_from_wire(&prost_types::Duration { seconds: 0, nanos: 1_000_000_000 }), None);
}

#[test]
fn words_go_both_ways() {
    for state in [v1::State::Stopped, v1::State::NotAuthorized] {
        assert_eq!(v1::State::from_word(state.word()), Some(state));
    }
    assert_eq!(v1::State::from_word(""), None);
}
