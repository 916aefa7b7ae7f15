//! Which segments are due.

use super::*;

#[test]
fn a_segment_is_due_once_all_of_it_is_behind_a_bound() {
    let tiers = Tiers { every: Duration::from_secs(10), minutes: Duration::from_secs(100) };
    let at = |seconds: i64| SegmentInfo {
        time_last: Some(Timestamp(seconds * 1_000_000_000)),
        ..SegmentInfo::default()
    };
    let now = Timestamp(1000 * 1_000_000_000);
    assert_eq!(due(&at(991), tiers, now), None);
    assert_eq!(due(&at(990), tiers, now), Some(false));
    assert_eq!(due(&at(901), tiers, now), Some(false));
    assert_eq!(due(&at(900), tiers, now), Some(true));
    assert_eq!(due(&at(2000), tiers, now), None, "a clock that jumped back");
    assert_eq!(due(&SegmentInfo::default(), tiers, now), None, "nothing in it");
}
