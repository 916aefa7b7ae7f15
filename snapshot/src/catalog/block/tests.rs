//! Tests of blocks: what was put in comes out, and nothing else is believed.

use super::super::path::{path_order, split};
use super::super::tests::{Rng, file, seed};
use super::*;

fn names(paths: &[&str]) -> Vec<u8> {
    let mut builder = NamesBuilder::default();
    paths.iter().for_each(|path| builder.push(split(path.as_bytes())));
    let mut out = Vec::new();
    builder.finish(&mut out);
    assert_eq!((builder.rows(), builder.bytes()), (0, 0));
    out
}

#[test]
fn paths_come_out_as_they_went_in() {
    let mut paths = ["/", "/a", "/b", "/a/x", "/a/y", "/a/x/1", "/b/\u{1}"];
    paths.sort_by(|a, b| path_order(a.as_bytes(), b.as_bytes()));
    let names = Names::decode(names(&paths)).unwrap();
    assert!(names.is_sound());
    assert_eq!(names.rows() as usize, paths.len());
    assert_eq!(names.groups().len(), 4);
    let mut out = Vec::new();
    for (row, path) in paths.iter().enumerate() {
        names.key(row as u32).write_to(&mut out);
        assert_eq!(out, path.as_bytes());
        assert_eq!(names.lower_bound(split(path.as_bytes())) as usize, row);
    }
    for (path, row) in [("/0", 1), ("/c", 3), ("/a/xx", 4), ("/0/a", 3), ("/a/a", 3), ("/zz/z", 7)] {
        assert_eq!(names.lower_bound(split(path.as_bytes())), row, "{path}");
    }
    assert_eq!(names.dirs_text(), b"/\0/a/\0/a/x/\0/b/\0");
    assert_eq!(Names::decode(self::names(&[])).unwrap().rows(), 0);
}

/// The layout, byte by byte, as the format page has it.
#[test]
fn the_bytes_are_those_of_the_format() {
    let bytes = names(&["/a", "/bc", "/a/d"]);
    let expected: &[&[u8]] =
        &[&[3, 0, 0, 0, 2, 0, 0, 0], &[2, 0, 5], &[1, 2, 2], b"/\0", b"/a/\0", b"a\0bc\0", b"d\0"];
    assert_eq!(bytes, expected.concat());
    let mut builder = EventsBuilder::default();
    let row = |seconds, size| {
        let modified = Modified { seconds, nanoseconds: 7 };
        Some(Row { kind: EntryKind::File, size, modified, content: 0x0102_0304_0506_0708 })
    };
    builder.push(&[Event { session: 1, row: row(-1, 300) }, Event { session: 200, row: None }]);
    builder.push(&[Event { session: 3, row: row(2, 0) }]);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let expected: &[&[u8]] = &[
        &[2, 0, 0, 0, 3, 0, 0, 0],
        &[2, 1],
        &[1, 0xc8, 1, 3],
        &[1, 0, 1],
        &[0xac, 2, 0],
        &[1, 6],
        &[7, 7],
        &[8, 7, 6, 5, 4, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1],
    ];
    assert_eq!(bytes, expected.concat());
}

fn random_row(rng: &mut Rng) -> Option<Row> {
    let extremes = [0, 1, -1, i64::MIN, i64::MAX, 1_700_000_000];
    (rng.below(4) > 0).then(|| Row {
        kind: EntryKind::from_byte(1 + rng.below(8) as u8).unwrap(),
        size: rng.pick(&[0, 1, 127, 128, u64::MAX]),
        modified: Modified {
            seconds: rng.pick(&extremes),
            nanoseconds: rng.pick(&[0, 999_999_999, u32::MAX]),
        },
        content: rng.next(),
    })
}

#[test]
fn events_come_out_as_they_went_in() {
    let mut rng = Rng::new(seed());
    for _ in 0..200 {
        let mut builder = EventsBuilder::default();
        let paths: Vec<Vec<Event>> = (0..rng.below(20))
            .map(|_| {
                (0..rng.below(5))
                    .map(|_| Event { session: rng.next() as u32, row: random_row(&mut rng) })
                    .collect()
            })
            .collect();
        paths.iter().for_each(|events| builder.push(events));
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let events = Events::decode(&bytes, paths.len() as u32).unwrap();
        for (row, expected) in paths.iter().enumerate() {
            assert_eq!(events.of(row as u32), expected);
        }
        assert_eq!(events.of(paths.len() as u32), []);
        assert!(Events::decode(&bytes, paths.len() as u32 + 1).is_none());
    }
}

/// Uses a part that may say anything: no panic, and nothing out of its bounds.
fn use_names(bytes: Vec<u8>) {
    let Some(names) = Names::decode(bytes) else { return };
    let sound = names.is_sound();
    let mut rows = 0;
    for group in names.groups() {
        let _ = (names.dir(group), names.dir_slash(group));
        rows += group.rows;
    }
    assert_eq!(rows, names.rows());
    for row in 0..names.rows() + 2 {
        let key = names.key(row);
        assert!(!sound || row >= names.rows() || !key.name.contains(&0));
        let _ = (names.lower_bound(key), names.name_end(row), names.dir_end(row as usize));
    }
    for at in [0, 1, names.names_text().len(), usize::MAX] {
        let _ = (names.row_of_name_byte(at), names.group_of_dir_byte(at));
    }
}

#[test]
fn parts_that_say_anything_are_refused_or_harmless() {
    let mut rng = Rng::new(seed());
    let good = names(&["/a", "/b", "/a/x", "/a/y", "/a/x/1"]);
    let mut builder = EventsBuilder::default();
    for session in 0..5 {
        builder.push(&[Event { session, row: Some(file(300)) }, Event { session: 200, row: None }]);
    }
    let mut events = Vec::new();
    builder.finish(&mut events);
    for at in 0..good.len() {
        use_names(good[..at].to_vec());
        for value in 0..=255 {
            let mut changed = good.clone();
            changed[at] = value;
            use_names(changed);
        }
    }
    for at in 0..events.len() {
        assert!(Events::decode(&events[..at], 5).is_none());
        for value in 0..=255 {
            let mut changed = events.clone();
            changed[at] = value;
            if let Some(decoded) = Events::decode(&changed, 5) {
                (0..7).for_each(|row| drop(decoded.of(row).to_vec()));
            }
        }
    }
    for _ in 0..20_000 {
        let bytes: Vec<u8> =
            (0..rng.below(60)).map(|_| rng.pick(&[0, 1, 2, 3, 0x7f, 0x80, 0xff, b'/'])).collect();
        use_names(bytes.clone());
        let _ = Events::decode(&bytes, rng.below(6) as u32);
    }
}

#[test]
fn counts_beyond_the_limits_are_refused_before_anything_is_allocated() {
    let counts = |first: u32, second: u32| {
        let mut bytes = Vec::new();
        put_u32(&mut bytes, first);
        put_u32(&mut bytes, second);
        bytes.resize(EVENT_PART_BYTES_MAX, 0);
        bytes
    };
    assert!(Names::decode(counts(BLOCK_ROWS as u32 + 1, 1)).is_none());
    assert!(Names::decode(counts(1, 2)).is_none());
    assert!(Names::decode(counts(u32::MAX, u32::MAX)).is_none());
    let most = (BLOCK_EVENTS + EVENTS_OF_PATH_MAX) as u32;
    assert!(Events::decode(&counts(1, most), 1).is_none());
    assert!(Events::decode(&counts(1, u32::MAX), 1).is_none());
    assert!(Events::decode(&counts(2, 0), 1).is_none());
}

#[test]
fn the_largest_blocks_keep_the_limits() {
    let mut builder = EventsBuilder::default();
    let worst = Row {
        kind: EntryKind::Other,
        size: u64::MAX,
        modified: Modified { seconds: i64::MAX, nanoseconds: u32::MAX },
        content: u64::MAX,
    };
    // The differences of seconds are as large as they get where the signs change.
    let event = |session: u32| {
        let seconds = if session.is_multiple_of(2) { i64::MIN } else { 0 };
        Event {
            session: u32::MAX - session,
            row: Some(Row { modified: Modified { seconds, ..worst.modified }, ..worst }),
        }
    };
    let path: Vec<Event> = (0..EVENTS_OF_PATH_MAX as u32).map(event).collect();
    builder.push(&path[1..]);
    builder.push(&path);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    assert!(bytes.len() <= EVENT_PART_BYTES_MAX, "{}", bytes.len());
    assert_eq!(Events::decode(&bytes, 2).unwrap().of(1).len(), EVENTS_OF_PATH_MAX);
    let mut builder = NamesBuilder::default();
    let long = vec![b'd'; 30];
    for number in 0..BLOCK_ROWS as u32 - 1 {
        builder.push(Key {
            dir: &[long.as_slice(), &number.to_be_bytes()].concat(),
            name: b"0123456789abcdef0123456789",
        });
    }
    assert!(builder.bytes() < BLOCK_PATH_BYTES + 4096, "{}", builder.bytes());
    builder.push(Key { dir: &vec![b'x'; 65_000], name: b"y" });
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    assert!(bytes.len() <= PATH_PART_BYTES_MAX, "{}", bytes.len());
    assert!(Names::decode(bytes).unwrap().is_sound());
}
