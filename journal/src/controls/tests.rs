//! Which gaps a closed gap closes, and who has seen everything.

use super::*;

fn told(controls: &mut Controls, lsn: u64, marker: Marker) {
    let capture = Capture {
        lsn: Lsn::captured(lsn),
        time: Timestamp(0),
        provenance: Provenance::Rescan,
        root: RootNo(0),
        path: Vec::new(),
        events: vec![Event::Mark(marker)],
    };
    controls.capture(&capture, RecordAt::default());
}

/// Opens gaps (id, root, cause) in this order, closes the last, and says which are left.
fn left(gaps: &[(u64, u16, GapCause)]) -> Vec<u64> {
    let mut controls = Controls::default();
    for (lsn, (gap, root, cause)) in (1..).zip(gaps) {
        let (gap, cause, root) = (*gap, *cause, RootNo(*root));
        told(&mut controls, lsn, Marker::GapOpened { gap, root, path: Vec::new(), cause });
    }
    let gap = gaps.last().unwrap().0;
    told(&mut controls, 99, Marker::GapClosed { gap });
    controls.gaps.keys().copied().collect()
}

#[test]
fn what_a_dead_agent_left_open_is_closed_by_the_next() {
    use GapCause::{AgentDown, QueueOverflow, SpoolFull, Stopped, WatchLimit, WatchLost};
    for start in [AgentDown, Stopped, SpoolFull] {
        assert_eq!(left(&[(1, 0, QueueOverflow), (2, 0, WatchLimit), (3, 0, AgentDown), (4, 0, start)]), []);
    }
    // The clock of the master may have been put back.
    assert_eq!(left(&[(7, 0, QueueOverflow), (4, 0, AgentDown)]), []);
    // Not of another root, nor what an agent that lives still lacks.
    assert_eq!(left(&[(1, 1, QueueOverflow), (2, 0, AgentDown)]), [1]);
    assert_eq!(left(&[(1, 0, WatchLimit), (2, 0, QueueOverflow)]), [1]);
    assert_eq!(left(&[(1, 0, QueueOverflow), (2, 0, WatchLost)]), []);
    assert_eq!(left(&[(1, 0, AgentDown), (2, 0, WatchLimit), (3, 0, QueueOverflow)]), [2]);
}

#[test]
fn a_younger_gap_stays_open() {
    let mut controls = Controls::default();
    for gap in [5, 6] {
        let cause = GapCause::QueueOverflow;
        told(&mut controls, gap, Marker::GapOpened { gap, root: RootNo(0), path: Vec::new(), cause });
    }
    told(&mut controls, 7, Marker::GapClosed { gap: 5 });
    assert_eq!(controls.gaps.keys().copied().collect::<Vec<_>>(), [6]);
}

#[test]
fn who_goes_on_with_nothing_may_have_made_something_by_the_next_time() {
    let mut controls = Controls::default();
    let meet = |controls: &mut Controls, known: Option<u8>, goes_on, meeting: u8| {
        let met = controls.meet(known.map(|known| [known; 16]), goes_on, [meeting; 16]);
        met.inspect(|met| controls.control(met, RecordAt::default())).is_some()
    };
    assert!(meet(&mut controls, None, false, 1));
    // It heard of the first meeting, not of the second, and has made something since.
    assert!(meet(&mut controls, Some(1), false, 2));
    assert!(meet(&mut controls, Some(1), true, 3));
    // Who was never there, or has missed something, does not get in by having asked with nothing.
    assert!(meet(&mut controls, Some(9), false, 4));
    assert!(!meet(&mut controls, Some(9), true, 5));
    assert!(!meet(&mut controls, Some(1), true, 5) && !meet(&mut controls, None, true, 5));
    let cause = GapCause::AgentDown;
    assert!(meet(&mut controls, Some(4), false, 5));
    told(&mut controls, 1, Marker::GapOpened { gap: 1, root: RootNo(0), path: Vec::new(), cause });
    assert!(!meet(&mut controls, Some(4), true, 6) && meet(&mut controls, Some(5), true, 6));
}

#[test]
fn who_was_at_the_last_meeting_has_seen_everything() {
    let meet = |controls: &mut Controls, meeting: u8, before: u8| {
        let met = Control::Met { meeting: [meeting; 16], before: [before; 16] };
        controls.control(&met, RecordAt::default());
    };
    let mut controls = Controls::default();
    assert!(controls.has_seen_all(None) && controls.has_seen_all(Some([9; 16])), "nobody was met yet");
    meet(&mut controls, 1, 0);
    assert!(!controls.has_seen_all(None) && !controls.has_seen_all(Some([9; 16])));
    // Two masters with one state: whoever is first goes on, the other is found out once something was journaled.
    assert!(controls.has_seen_all(Some([1; 16])));
    meet(&mut controls, 2, 1);
    assert!(controls.has_seen_all(Some([2; 16])));
    assert!(controls.has_seen_all(Some([1; 16])), "it may not have heard of the second meeting");
    let cause = GapCause::AgentDown;
    told(&mut controls, 1, Marker::GapOpened { gap: 1, root: RootNo(0), path: Vec::new(), cause });
    assert!(controls.has_seen_all(Some([2; 16])));
    assert!(!controls.has_seen_all(Some([1; 16])), "what was journaled since it has not seen");
}
