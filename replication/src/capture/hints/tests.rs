//! Merging, and what an epoch owes.

use super::*;
use journal::Name;
use std::time::Duration;

fn edge(name: &str) -> Edge {
    Edge::new(NodeId(5000), Name::new(name.as_bytes()).unwrap())
}

#[test]
fn merged_hints_keep_their_oldest_epoch() {
    let mut hints = Hints::default();
    let content = Why { content: true, ..Why::default() };
    let name = Why { name: true, ..Why::default() };
    hints.name(edge("a"), content, hints.epoch());
    let ended = hints.end_epoch();
    hints.name(edge("a"), name, hints.epoch());
    hints.name(edge("b"), name, hints.epoch());
    assert!(hints.owes(ended));
    let Due { names, .. } = hints.take_due(false, 1);
    assert_eq!(names.len(), 1);
    assert!(names[0].1.why.content && names[0].1.why.name);
    assert!(!hints.owes(ended) && hints.owes(ended + 1));
}

#[test]
fn resting_hints_wait_unless_there_is_a_hurry() {
    let mut hints = Hints::default();
    let later = Some(Instant::now() + Duration::from_secs(3600));
    hints.put_back(edge("a"), Hint { not_before: later, ..Hint::default() });
    assert!(hints.take_due(false, 10).names.is_empty());
    assert_eq!(hints.next_due(false), later);
    assert_eq!(hints.take_due(true, 10).names.len(), 1);
    assert!(hints.is_empty());
}

#[test]
fn only_what_concerns_the_picture_is_looked_at_again() {
    let mut hints = Hints::default();
    let all = [
        ("seen", Why { name: true, ..Why::default() }),
        ("written", Why { content: true, ..Why::default() }),
        ("other", Why { name: true, ..Why::default() }),
        ("arrived", Why { name: true, arrived: true, ..Why::default() }),
    ];
    for (name, why) in all {
        hints.name(edge(name), why, 0);
    }
    let related = hints.take_related(|at| *at == edge("seen") || *at == edge("written"));
    let names: Vec<_> = related.into_iter().map(|(at, _)| at).collect();
    assert_eq!(names, [edge("arrived"), edge("seen")]);
    assert_eq!(hints.told(), 2);
}

#[test]
fn a_listing_under_way_ends_before_the_next_of_its_directory_begins() {
    let mut hints = Hints::default();
    let hint = |epoch| ListHint { epoch, recursive: false, compare: true, tries: 0 };
    let (first, half) = (NodeId(5000), Span::ALL.half().unwrap());
    hints.list(first, hint(3));
    assert_eq!(hints.take_list(), Some((first, hint(3), Span::ALL)));
    hints.list_on(first, hint(3), half);
    hints.list(first, hint(5));
    assert_eq!((hints.oldest_epoch(), hints.len()), (Some(3), 2));
    assert_eq!(hints.take_list(), Some((first, hint(3), half)));
    assert_eq!(hints.take_list(), Some((first, hint(5), Span::ALL)));
    assert!(!hints.has_lists() && hints.take_list().is_none());
    // However many are waiting, what is under way has its turn.
    hints.list_on(first, hint(3), half);
    for n in 0..LISTS_MAX as u64 * 2 {
        hints.list(NodeId(6000 + n), hint(6));
    }
    let turns = (0..200).filter(|_| hints.take_list().is_some_and(|(node, ..)| node == first)).count();
    assert_eq!(turns, 1);
}

#[test]
fn pauses_are_kept_whoever_waits() {
    let mut hints = Hints::default();
    let until = Instant::now() + Duration::from_millis(50);
    let name = Why { name: true, ..Why::default() };
    hints.put_back(edge("a"), Hint { why: name, paused: Some(until), tries: 3, ..Hint::default() });
    // Told of again meanwhile.
    hints.name(edge("a"), name, 1);
    let list = ListHint { epoch: 2, recursive: false, compare: true, tries: 1 };
    hints.list_later(NodeId(6000), list, until);
    assert!(hints.take_due(true, 10).names.is_empty() && hints.take_list().is_none());
    assert!(hints.has_lists() && !hints.can_list());
    assert_eq!((hints.next_due(true), hints.oldest_epoch(), hints.len()), (Some(until), Some(0), 2));
    std::thread::sleep(Duration::from_millis(60));
    let names = hints.take_due(true, 10).names;
    assert_eq!(names.iter().map(|(_, hint)| hint.tries).collect::<Vec<_>>(), [3]);
    assert_eq!(hints.take_list(), Some((NodeId(6000), list, Span::ALL)));
    assert!(hints.is_empty());
}
