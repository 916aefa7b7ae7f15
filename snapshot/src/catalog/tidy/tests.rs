//! Tests of the plan: what is merged when, and that what is rewritten says the same.

use super::super::lineage::{Lineage, tests::session};
use super::super::tests::{Rng, file, seed};
use super::*;

fn size(number: u64, sessions: &[(u32, u64)]) -> Size {
    let sessions: BTreeMap<u32, u64> = sessions.iter().copied().collect();
    Size { number, events: sessions.values().sum(), sessions }
}

fn sizes(events: &[u64]) -> Vec<Size> {
    events.iter().enumerate().map(|(at, events)| size(at as u64, &[(at as u32, *events)])).collect()
}

fn chain(forgotten: &[bool]) -> Vec<SessionEntry> {
    let numbers = 0..forgotten.len() as u32;
    numbers.map(|n| session(n, n.checked_sub(1), i64::from(n), forgotten[n as usize])).collect()
}

fn range(events: &[u64]) -> Option<Range<usize>> {
    plan(&sizes(events), &chain(&vec![false; events.len()]), &HashMap::new()).map(|plan| plan.range)
}

#[test]
fn the_newest_segments_are_merged_when_the_oldest_of_them_is_not_larger_than_the_rest() {
    assert_eq!(range(&[]), None);
    assert_eq!(range(&[1]), None);
    assert_eq!(range(&[1, 1, 1]), None);
    assert_eq!(range(&[1, 1, 1, 1]), Some(0..4));
    assert_eq!(range(&[1000, 1, 1, 1, 1]), Some(1..5));
    assert_eq!(range(&[1000, 100, 10, 1]), None);
    assert_eq!(range(&[3, 1, 1, 1]), Some(0..4));
    assert_eq!(range(&[4, 1, 1, 1]), None);
}

#[test]
fn segments_stay_few_and_events_are_written_seldom() {
    let mut segments: Vec<u64> = Vec::new();
    let (mut written, mut most) = (0, 0);
    let loads = 4000;
    for _ in 0..loads {
        segments.push(10);
        written += 10;
        while let Some(range) = range(&segments) {
            let merged: u64 = segments.drain(range.clone()).sum();
            segments.insert(range.start, merged);
            written += merged;
        }
        most = most.max(segments.len());
    }
    assert!(most <= 16, "{most} segments");
    assert!(written <= 10 * loads * 12, "each event was written {} times", written / (10 * loads));
}

#[test]
fn what_serves_only_forgotten_sessions_is_merged_away() {
    let none = HashMap::new();
    // The last of the chain alone: dropped.
    let plan_of = |forgotten: &[bool], pins: &HashMap<u32, usize>| {
        plan(&sizes(&vec![10; forgotten.len()]), &chain(forgotten), pins)
    };
    let dropped = plan_of(&[false, true], &none).unwrap();
    assert_eq!((dropped.drop, dropped.fold, dropped.range), (HashSet::from([1]), vec![], 0..2));
    // The first: its events become those of the second, which is then based on nothing.
    let folded = plan_of(&[true, false], &none).unwrap();
    assert_eq!((folded.drop.len(), folded.fold), (0, vec![(0, 1)]));
    assert_eq!(folded.roots, HashSet::from([0, 1]));
    // Not while a load is based on it.
    assert_eq!(plan_of(&[false, true], &HashMap::from([(1, 1)])), None);
    assert_eq!(plan_of(&[true, false], &HashMap::from([(0, 1)])), None);
    // Not what two are based on.
    let mut sessions = chain(&[true, false]);
    sessions.push(session(2, Some(0), 2, false));
    assert_eq!(plan(&sizes(&[10, 10, 10]), &sessions, &none), None);
}

#[test]
fn what_is_partly_outside_is_not_folded() {
    let mut segments = vec![size(9, &[(0, 1000)])];
    segments.extend([1, 2, 3, 4].map(|number| size(number, &[(0, 1), (number as u32, 10)])));
    let sessions = chain(&[true, false, false, false, false]);
    let plan = plan(&segments, &sessions, &HashMap::new()).unwrap();
    assert_eq!((plan.range, plan.fold), (1..5, vec![]));
    // Removals of those that are still based on it have to be kept.
    assert_eq!(plan.roots, HashSet::new());
}

#[test]
fn a_merge_changes_nothing_that_a_session_says() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut folds = 0;
    for round in 0..5000 {
        let count = 1 + rng.below(8);
        let mut sessions: Vec<SessionEntry> = Vec::new();
        for number in 0..count as u32 {
            let parent = (number > 0 && rng.below(6) > 0).then(|| rng.below(number as usize) as u32);
            sessions.push(session(number, parent, i64::from(number), rng.below(2) == 0));
        }
        let event = |session: u32, rng: &mut Rng| Event {
            session,
            row: (rng.below(3) > 0).then(|| file(u64::from(session))),
        };
        let all: Vec<Event> = (0..count as u32).map(|number| event(number, &mut rng)).collect();
        let all: Vec<Event> = all.into_iter().filter(|_| rng.below(3) > 0).collect();
        // Segments hold sessions in the order in which they were loaded.
        let from = rng.below(count) as u32;
        let (old, new): (Vec<Event>, Vec<Event>) = all.iter().partition(|event| event.session < from);
        let sizes: Vec<Size> = [&old, &new]
            .iter()
            .enumerate()
            .map(|(at, events)| size(at as u64, &events.iter().map(|e| (e.session, 1)).collect::<Vec<_>>()))
            .collect();
        let pins: HashMap<u32, usize> =
            if rng.below(3) == 0 { HashMap::from([(0, 1)]) } else { HashMap::new() };
        let Some(plan) = plan(&sizes, &sessions, &pins) else { continue };
        folds += plan.fold.len();
        let mut inside: Vec<Event> = if plan.range.contains(&0) { all.clone() } else { new.clone() };
        plan.rewrite(&mut inside);
        assert!(inside.is_sorted_by(|a, b| a.session < b.session), "seed {seed} round {round}");
        let outside = if plan.range.contains(&0) { Vec::new() } else { old };
        let after: Vec<Event> = inside.iter().chain(&outside).copied().collect();
        let lineage = Lineage::new(&sessions);
        for one in sessions.iter().filter(|session| !session.forgotten || pins.contains_key(&session.number))
        {
            let position = lineage.position(one.number).unwrap();
            let (before, after) = (lineage.row_at(&all, position), lineage.row_at(&after, position));
            assert_eq!(after, before, "seed {seed} round {round}: {one:?} {plan:?}");
        }
    }
    assert!(folds > 100, "{folds}");
}
