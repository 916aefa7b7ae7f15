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
    hints.put_back(edge("a"), Hint { why: Why::default(), epoch: 0, not_before: later, tries: 0 });
    assert!(hints.take_due(false, 10).names.is_empty());
    assert_eq!(hints.next_due(), later);
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
