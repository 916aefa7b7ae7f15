//! Tests of the forest: who holds what, counted by intervals, equals asking each session by itself.

use super::super::tests::{Rng, file, id, seed};
use super::*;
use journal::Timestamp;

pub(in crate::catalog) fn session(
    number: u32,
    parent: Option<u32>,
    taken: i64,
    forgotten: bool,
) -> SessionEntry {
    SessionEntry {
        number,
        entity: 0,
        parent,
        forgotten,
        id: id(u64::from(number)),
        repository: String::new(),
        taken: Timestamp(taken),
        lsn: None,
    }
}

/// What a session says of a path: the event of the nearest session on its way up.
fn plainly(sessions: &[SessionEntry], events: &[Event], number: u32) -> Option<Row> {
    let mut at = Some(number);
    while let Some(here) = at {
        if let Some(event) = events.iter().find(|event| event.session == here) {
            return event.row;
        }
        at = sessions.iter().find(|session| session.number == here).and_then(|session| session.parent);
    }
    None
}

#[test]
fn intervals_say_what_each_session_says() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    for round in 0..2000 {
        let count = rng.below(12);
        let mut sessions: Vec<SessionEntry> = Vec::new();
        for at in 0..count {
            let number = at as u32 * 3 + 1;
            let parent = (at > 0 && rng.below(5) > 0).then(|| sessions[rng.below(at)].number);
            let taken = if rng.below(3) == 0 { rng.below(20) as i64 } else { at as i64 };
            sessions.push(session(number, parent, taken, rng.below(4) == 0));
        }
        let events: Vec<Event> = sessions
            .iter()
            .filter(|_| rng.below(3) == 0)
            .map(|s| Event { session: s.number, row: (s.number % 2 == 0).then(|| file(u64::from(s.number))) })
            .collect();
        // One of a session that is no more.
        let mut events = events;
        events.push(Event { session: 1000, row: Some(file(1)) });
        let lineage = Lineage::new(&sessions);
        let mut by_time: Vec<&SessionEntry> = sessions.iter().filter(|s| !s.forgotten).collect();
        by_time.sort_by_key(|s| (s.taken, s.number));
        let ranked: Vec<u32> =
            (0..).map_while(|rank| lineage.by_time(rank)).map(|at| sessions[at].number).collect();
        assert_eq!(ranked, by_time.iter().map(|s| s.number).collect::<Vec<_>>());
        let newest = by_time.last().and_then(|s| lineage.position(s.number));
        assert_eq!(lineage.newest(), newest, "seed {seed} round {round}");
        let mut held = Vec::new();
        lineage.resolve(&events, &mut held);
        assert!(held.is_sorted_by(|a, b| a.to <= b.from) && held.iter().all(|held| held.from < held.to));
        for one in &sessions {
            let position = lineage.position(one.number).unwrap();
            let expected = plainly(&sessions, &events, one.number);
            assert_eq!(lineage.row_at(&events, position), expected, "seed {seed} round {round}: {one:?}");
            let inside = held.iter().find(|held| (held.from..held.to).contains(&position));
            if !one.forgotten {
                assert_eq!(inside.map(|held| held.row), expected, "seed {seed} round {round}: {one:?}");
            }
        }
        check_counts(&lineage, count as u32, &sessions);
    }
}

fn check_counts(lineage: &Lineage, positions: u32, sessions: &[SessionEntry]) {
    let at = |position: u32| sessions.iter().find(|s| lineage.position(s.number) == Some(position)).unwrap();
    let ranks: Vec<u32> =
        (0..).map_while(|rank| lineage.by_time(rank)).map(|at| sessions[at].number).collect();
    for from in 0..positions {
        for to in from..=positions {
            let live: Vec<&SessionEntry> = (from..to).map(at).filter(|session| !session.forgotten).collect();
            let rank = |session: &&SessionEntry| ranks.iter().position(|number| *number == session.number);
            let all: Vec<u32> = live.iter().filter_map(rank).map(|rank| rank as u32).collect();
            let expected = all.iter().min().zip(all.iter().max());
            let expected = expected.map(|(first, last)| Count {
                sessions: all.len() as u32,
                first: *first,
                last: *last,
            });
            assert_eq!(lineage.count(from, to), expected);
            assert_eq!(lineage.ranks_in(from, to).collect::<Vec<_>>(), all);
        }
    }
    assert_eq!(lineage.ranks_in(5, 2).count(), 0);
}

#[test]
fn a_chain_as_long_as_it_may_be_needs_no_stack() {
    let last = super::super::manifest::SESSIONS_OF_ENTITY_MAX as u32 - 1;
    let sessions: Vec<SessionEntry> =
        (0..=last).map(|number| session(number, number.checked_sub(1), i64::from(number), false)).collect();
    let small = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        let lineage = Lineage::new(&sessions);
        let events = [Event { session: 0, row: Some(file(1)) }, Event { session: last, row: None }];
        let mut held = Vec::new();
        lineage.resolve(&events, &mut held);
        let (only, count) = (held[0], lineage.count(held[0].from, held[0].to).unwrap());
        assert_eq!((held.len(), only.from, only.to), (1, 0, last));
        assert_eq!((count.sessions, count.first, count.last), (last, 0, last - 1));
    });
    small.unwrap().join().unwrap();
}
