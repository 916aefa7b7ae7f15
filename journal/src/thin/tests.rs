//! Which points stay, and small intervals by hand; histories are in the suite.

use super::*;
use crate::event::PayloadAt;
use crate::id::{Name, RootNo};
use crate::record::UndoSource;

const SECOND: i64 = 1_000_000_000;

fn tiers() -> Tiers {
    Tiers { every: Duration::from_secs(3600), minutes: Duration::from_secs(86_400) }
}

#[test]
fn tiers_by_age() {
    let now = Timestamp(200_000 * SECOND);
    let at = |age: i64| Timestamp(now.0 - age * SECOND);
    let check = |age, next_age, expected: bool| {
        assert_eq!(tiers().keeps(at(age), Some(at(next_age)), now), expected, "{age} before {next_age}");
    };
    check(10, 9, true);
    check(3599, 3598, true);
    // 200,000 s are 3333 minutes and 20 s.
    check(3630, 3625, false);
    check(3621, 3619, true);
    check(86_399, 86_398, false);
    check(90_020, 90_019, false);
    assert!(tiers().keeps(at(500_000), None, now), "the newest stays");
}

#[test]
fn a_clock_that_jumps_back_keeps_more() {
    let now = Timestamp(200_000 * SECOND);
    let (late, early) = (Timestamp(190_000 * SECOND), Timestamp(150_000 * SECOND));
    assert!(tiers().keeps(late, Some(early), now));
    assert!(tiers().keeps(Timestamp(now.0 + SECOND), Some(early), now), "a point of the future is young");
}

fn data(offset: u64, bytes: u32, segment: u64) -> DataUndo {
    let at = PayloadAt { segment, offset: 1000, bytes, ..PayloadAt::default() };
    DataUndo { node: NodeId(9), offset, bytes, source: UndoSource::Undo { at, skip: 0 } }
}

fn part(captured: u64, data: Vec<DataUndo>) -> UndoPart {
    UndoPart { lsn: Lsn::captured(captured), last: true, data, ..UndoPart::default() }
}

/// Offset, bytes, segment and skip of what is left.
fn left(part: &UndoPart) -> Vec<(u64, u32, u64, u32)> {
    let all = part.data.iter().map(|data| match &data.source {
        UndoSource::Undo { at, skip } => (data.offset, data.bytes, at.segment, *skip),
        _ => (data.offset, data.bytes, 0, 0),
    });
    all.collect()
}

#[test]
fn earlier_bytes_win_and_later_ones_are_cut() {
    let (mut merge, none) = (Merge::default(), HashSet::new());
    assert_eq!(left(&merge.take(part(1, vec![data(100, 50, 1)]), &none)), [(100, 50, 1, 0)]);
    assert_eq!(left(&merge.take(part(2, vec![data(90, 100, 2)]), &none)), [(90, 10, 2, 0), (150, 40, 2, 60)]);
    assert_eq!(left(&merge.take(part(3, vec![data(95, 60, 3)]), &none)), []);
    merge.begin();
    assert_eq!(merge.keys(), 0);
    assert_eq!(left(&merge.take(part(4, vec![data(95, 60, 4)]), &none)), [(95, 60, 4, 0)]);
    let gone = HashSet::from([NodeId(9)]);
    assert_eq!(left(&merge.take(part(5, vec![data(0, 60, 4)]), &gone)), []);
}

#[test]
fn what_is_gone() {
    let kept =
        |node: u64| Edge::new(NodeId::kept(RootNo(0)), Name::new(node.to_string().as_bytes()).unwrap());
    let named = Edge::new(NodeId::root(RootNo(0)), Name::new(b"a").unwrap());
    let row = |since: Option<u64>| NodeRow {
        kept_since: since.map(|captured| (captured, 0)),
        ..crate::state::root_row()
    };
    let next = Lsn::captured(8);
    assert!(is_gone(&row(Some(8)), &[kept(5)], false, next));
    assert!(!is_gone(&row(Some(9)), &[kept(5)], false, next), "the next point shows it");
    assert!(!is_gone(&row(None), std::slice::from_ref(&named), false, next), "it is there");
    assert!(!is_gone(&row(Some(8)), &[kept(5)], true, next), "something lies in it");
    assert!(!is_gone(&row(Some(8)), &[kept(5), named], false, next), "it has another name");
}
