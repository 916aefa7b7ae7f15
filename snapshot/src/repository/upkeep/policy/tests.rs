//! Rules by example; the comparison with restic is beside the other tests with it.

use super::*;

fn sessions(times: &[&str]) -> Vec<Candidate> {
    let session = |(number, time): (usize, &&str)| Candidate {
        id: Id::of(&number.to_le_bytes()),
        time: Timestamp::parse(time).unwrap(),
        host: "master".into(),
        paths: vec!["/srv".into()],
    };
    times.iter().enumerate().map(session).collect()
}

/// A day after the newest.
fn now() -> Timestamp {
    Timestamp::parse("2026-01-02T00:30:00Z").unwrap()
}

fn kept(policy: Policy, times: &[&str]) -> Vec<(String, Vec<&'static str>)> {
    let groups = apply(&policy, now(), sessions(times)).unwrap();
    groups[0].keep.iter().map(|kept| (kept.session.time.to_string(), kept.reasons.clone())).collect()
}

const TIMES: [&str; 7] = [
    "2026-01-01T00:30:00Z",
    "2025-12-31T23:59:59.9Z",
    "2025-12-31T23:00:00Z",
    "2025-12-28T12:00:00Z",
    "2025-12-01T00:00:00Z",
    "2025-11-30T00:00:00Z",
    "2024-02-29T00:00:00Z",
];

#[test]
fn each_rule() {
    let of = |policy, wanted: &[usize]| {
        let times: Vec<String> = kept(policy, &TIMES).into_iter().map(|(time, _)| time).collect();
        let wanted: Vec<&str> = wanted.iter().map(|at| TIMES[*at]).collect();
        assert_eq!(times, wanted, "{policy:?}");
    };
    of(Policy { last: 2, ..Policy::default() }, &[0, 1]);
    of(Policy { hourly: 2, ..Policy::default() }, &[0, 1]);
    of(Policy { daily: 3, ..Policy::default() }, &[0, 1, 3]);
    // The new year lies in the week of 2025-12-29.
    of(Policy { weekly: 3, ..Policy::default() }, &[0, 3, 4]);
    of(Policy { monthly: 3, ..Policy::default() }, &[0, 1, 5]);
    of(Policy { yearly: 9, ..Policy::default() }, &[0, 1, 6]);
    of(Policy { within: Some(Duration::from_secs(86_400 * 4)), ..Policy::default() }, &[0, 1, 2, 3]);
}

#[test]
fn rules_add_up() {
    let kept = kept(Policy { last: 1, daily: 2, yearly: 1, ..Policy::default() }, &TIMES);
    assert_eq!(kept.len(), 2);
    assert_eq!(kept[0].1, ["last", "daily", "yearly"]);
    assert_eq!(kept[1].1, ["daily"]);
}

#[test]
fn groups_are_apart() {
    let mut all = sessions(&TIMES);
    all[6].host = "other".into();
    all[5].paths = vec!["/a".into(), "/b".into()];
    let groups = apply(&Policy { last: 1, ..Policy::default() }, now(), all).unwrap();
    assert_eq!(groups.len(), 3);
    assert!(groups.iter().all(|group| group.keep.len() == 1));
    assert_eq!(groups.iter().map(|group| group.forget.len()).sum::<usize>(), 4);
}

#[test]
fn nothing_is_no_policy() {
    let zero = Policy { within: Some(Duration::ZERO), ..Policy::default() };
    for policy in [Policy::default(), zero] {
        assert!(matches!(apply(&policy, now(), sessions(&TIMES)), Err(RepositoryError::EmptyPolicy)));
    }
}

/// One session made while the clock was far ahead must not make all others look old, nor take anybody's place.
#[test]
fn a_clock_that_jumped_costs_nothing() {
    const FUTURE: &str = "2038-01-19T03:14:07Z";
    let day = Some(Duration::from_secs(86_400 * 4));
    for policy in [
        Policy { within: day, ..Policy::default() },
        Policy { last: 4, ..Policy::default() },
        Policy { daily: 3, ..Policy::default() },
        Policy { monthly: 3, yearly: 2, within: day, ..Policy::default() },
    ] {
        let without = kept(policy, &TIMES);
        let times: Vec<&str> = TIMES.into_iter().chain([FUTURE]).collect();
        let mut with = kept(policy, &times);
        assert_eq!(with.remove(0), (FUTURE.to_owned(), vec![LATER_THAN_NOW]));
        assert_eq!(with, without, "{policy:?}");
    }
    // Clocks that differ a little are no jump, but `within` never counts from later than now.
    let within = Policy { within: Some(Duration::from_secs(1800)), ..Policy::default() };
    let of = |times: &[&str]| kept(within, times).into_iter().map(|(time, _)| time).collect::<Vec<_>>();
    let (ahead, behind) = ("2026-01-02T01:20:00Z", "2026-01-02T00:10:00Z");
    assert_eq!(of(&[ahead, behind]), [ahead, behind]);
    // Nothing but sessions from later: all stay.
    assert_eq!(of(&[FUTURE]), [FUTURE]);
}
